//! The state that is published, live and over restarts.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use alyx_core::{Statement, Value};
use alyx_service::health::Status;
use alyx_service::state::{ControlPlane as _, DesiredState};

use crate::support::{Project, health, health_where, state_where};

const POSTS: &str = "collections:\n  posts:\n    fields:\n      id: {type: uuid, primary: true, default: auto}\n\
                     \x20     title: {type: string}\n";
const WITH_BODY: &str = "collections:\n  posts:\n    fields:\n      id: {type: uuid, primary: true, default: auto}\n\
                         \x20     title: {type: string}\n      body: {type: text, nullable: true}\n";
const WITHOUT_TITLE: &str =
    "collections:\n  posts:\n    fields:\n      id: {type: uuid, primary: true, default: auto}\n";
const BROKEN: &str =
    "collections:\n  posts:\n    fields:\n      id: {type: uuuid, primary: true}\n      t: {type: no}\n";

fn has_field(state: &DesiredState, field: &str) -> bool {
    state
        .schema
        .collection("posts")
        .is_some_and(|posts| posts.field(field).is_some())
}

#[tokio::test]
async fn the_first_start_makes_the_tables_and_the_next_one_finds_them() {
    let project = Project::new(POSTS);
    let plane = project.try_start(false).await.expect("started");
    let state = Arc::clone(&plane.watch().borrow());
    assert!(has_field(&state, "title"));
    assert_eq!((state.revision, state.schema_revision), (1, 1));
    project.insert_post().await;
    assert_eq!(health(&plane, "schema").await.status, Status::Healthy);
    drop(plane);

    let plane = project.try_start(false).await.expect("started again");
    assert_eq!(plane.watch().borrow().schema_revision, 1);
    assert_eq!(project.count("SELECT count(*) FROM posts").await, Some(1));
    assert_eq!(
        project.count("SELECT count(*) FROM _alyx_schema_revisions").await,
        Some(1)
    );
}

#[tokio::test]
async fn a_schema_changed_between_two_starts_is_applied() {
    let project = Project::new(POSTS);
    drop(project.try_start(false).await.expect("started"));
    project.write("schema.yaml", WITH_BODY);
    let plane = project.try_start(false).await.expect("started again");
    let state = Arc::clone(&plane.watch().borrow());
    assert!(has_field(&state, "body"));
    assert_eq!(state.schema_revision, 2);
    assert_eq!(project.count("SELECT count(body) FROM posts").await, Some(0));
}

#[tokio::test]
async fn a_safe_change_is_applied_while_running() {
    let project = Project::new(POSTS);
    let plane = project.start().await;
    project.insert_post().await;
    let mut watch = plane.watch();
    project.write("schema.yaml", WITH_BODY);
    let state = state_where(&mut watch, |state| has_field(state, "body")).await;
    assert_eq!((state.revision, state.schema_revision), (2, 2));
    assert_eq!(
        project
            .count("SELECT count(*) FROM posts WHERE body IS NULL")
            .await,
        Some(1)
    );
    assert!(project.tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn an_unsafe_change_is_refused_with_a_remedy_and_the_old_schema_is_served() {
    let project = Project::new(POSTS);
    let plane = project.start().await;
    let mut watch = plane.watch();
    project.write("schema.yaml", WITHOUT_TITLE);
    let report = health_where(&plane, "schema", |report| report.status == Status::Degraded).await;
    let message = report.message.expect("a reason");
    for word in ["collections.posts.fields.title", "would lose", "instead:"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(has_field(&watch.borrow(), "title"));
    assert_eq!(watch.borrow().revision, 1);

    // The same on the next start; and it is over as soon as the file is in order.
    let again = project
        .try_start(false)
        .await
        .expect("started with the old schema");
    assert!(has_field(&again.watch().borrow(), "title"));
    assert_eq!(health(&again, "schema").await.status, Status::Degraded);
    project.write("schema.yaml", WITH_BODY);
    state_where(&mut watch, |state| has_field(state, "body")).await;
    assert_eq!(health(&plane, "schema").await.status, Status::Healthy);
}

#[tokio::test]
async fn a_broken_schema_while_running_is_refused_with_all_its_problems() {
    let project = Project::new(POSTS);
    let plane = project.start().await;
    project.write("schema.yaml", BROKEN);
    let report = health_where(&plane, "schema", |report| report.status == Status::Degraded).await;
    let message = report.message.expect("a reason");
    for word in ["schema.yaml:4:", "uuuid", "schema.yaml:5:"] {
        assert!(message.contains(word), "{message}");
    }
    fs::remove_file(project.path("schema.yaml")).expect("removed");
    health_where(&plane, "schema", |report| {
        report
            .message
            .as_ref()
            .is_some_and(|message| message.contains("no such file"))
    })
    .await;
    project.write("schema.yaml", POSTS);
    health_where(&plane, "schema", |report| report.status == Status::Healthy).await;
    assert_eq!(plane.watch().borrow().revision, 1);
}

#[tokio::test]
async fn without_an_applied_schema_a_broken_or_missing_one_fails_the_start() {
    let project = Project::new(BROKEN);
    let error = project.try_start(false).await.err().expect("refused");
    assert_eq!(error.code(), "SCHEMA_INVALID");
    assert!(
        error.message().contains("schema.yaml:4:") && error.message().contains("schema.yaml:5:"),
        "{error}"
    );

    fs::remove_file(project.path("schema.yaml")).expect("removed");
    let error = project.try_start(false).await.err().expect("refused");
    assert!(error.message().contains("no such file"), "{error}");

    project.write("schema.yml", POSTS);
    project.try_start(false).await.expect("the other ending is found");
}

#[tokio::test]
async fn a_change_that_the_database_does_not_take_leaves_the_old_schema_served() {
    let project = Project::new(POSTS);
    let plane = project.start().await;
    let table = Statement::new("CREATE TABLE tags (x)", Vec::<Value>::new());
    project.store.migrate(vec![table]).await.expect("made");
    let tags = "\n  tags:\n    fields:\n      id: {type: int, primary: true, default: auto}\n";
    project.write("schema.yaml", &format!("{}{tags}", WITH_BODY.trim_end()));
    let report = health_where(&plane, "schema", |report| report.status == Status::Degraded).await;
    assert!(
        report
            .message
            .expect("a reason")
            .contains("nothing of it was applied")
    );
    assert!(!has_field(&plane.watch().borrow(), "body"));
    assert_eq!(project.count("SELECT count(body) FROM posts").await, None);
    assert_eq!(
        project.count("SELECT count(*) FROM _alyx_schema_revisions").await,
        Some(1)
    );
}

#[tokio::test]
async fn a_comment_in_the_schema_changes_nothing() {
    let project = Project::new(POSTS);
    drop(project.try_start(false).await.expect("started"));
    project.write("schema.yaml", &format!("# a comment\n{POSTS}"));
    let plane = project.try_start(false).await.expect("started");
    assert_eq!(plane.watch().borrow().schema_revision, 1);
}

#[tokio::test]
async fn functions_follow_their_folder_and_old_code_stays_on_disk() {
    let project = Project::new(POSTS);
    project.write("functions/a.js", "old");
    let plane = project.start().await;
    let mut watch = plane.watch();
    let first = Arc::clone(&watch.borrow().functions["a"]);

    project.write("functions/a.js", "new");
    let state = state_where(&mut watch, |state| state.functions["a"].version != first.version).await;
    let second = &state.functions["a"];
    assert_eq!(
        fs::read_to_string(second.root.join(&second.entrypoint)).expect("there"),
        "new"
    );
    assert_eq!(
        fs::read_to_string(first.root.join(&first.entrypoint)).expect("still there"),
        "old"
    );

    project.write("functions/b.js", "");
    state_where(&mut watch, |state| state.functions.len() == 2).await;
    project.write("functions/b.yaml", "timeout: 7s");
    state_where(&mut watch, |state| {
        state.functions["b"].timeout == Duration::from_secs(7)
    })
    .await;

    fs::create_dir(project.path("functions/_shared")).expect("made");
    project.write("functions/_shared/x.js", "1");
    let before = watch.borrow().functions["a"].version.clone();
    let state = state_where(&mut watch, |state| {
        state.functions["a"].root.join("_shared/x.js").is_file()
    })
    .await;
    assert!(state.functions["a"].version != first.version && !before.is_empty());

    fs::remove_file(project.path("functions/a.js")).expect("removed");
    state_where(&mut watch, |state| !state.functions.contains_key("a")).await;
}

#[tokio::test]
async fn a_broken_manifest_is_in_the_health_report_and_drops_only_its_function() {
    let project = Project::new(POSTS);
    project.write("functions/a.js", "");
    project.write("functions/b.js", "");
    let plane = project.start().await;
    let mut watch = plane.watch();
    project.write("functions/b.yaml", "timeout: soon");
    state_where(&mut watch, |state| state.functions.keys().eq(["a"])).await;
    let report = health(&plane, "function_sources").await;
    assert_eq!(report.status, Status::Degraded);
    assert!(report.message.expect("a reason").contains("b.yaml:1:10"));
    project.write("functions/b.yaml", "timeout: 1s");
    state_where(&mut watch, |state| state.functions.len() == 2).await;
    assert_eq!(health(&plane, "function_sources").await.status, Status::Healthy);
}

#[tokio::test]
async fn a_rule_of_a_function_fits_the_schema_that_is_served_or_closes_it() {
    let project = Project::new(POSTS);
    project.write("functions/a.js", "");
    project.write(
        "functions/a.yaml",
        "rules:\n  invoke: \"exists('posts', {'body': input.b})\"\n",
    );
    project.write("functions/b.js", "");
    project.write("functions/b.yaml", "rules: {invok: 'true'}");
    project.write("functions/c.js", "");
    project.write("functions/c.yaml", "rules: 'true'");
    let plane = project.start().await;
    let mut watch = plane.watch();
    assert!(watch.borrow().functions.is_empty());
    let report = health(&plane, "function_sources").await;
    let message = report.message.expect("a reason");
    for part in [
        "a.yaml:2:29: rules.invoke of `a`: `posts` has no field `body`",
        "b.yaml:1:9: rules: there is no rule `invok`",
        "c.yaml:1:8: rules: this is a single value",
    ] {
        assert!(message.contains(part), "{message}");
    }
    // The schema comes to fit, and no longer does.
    project.write("schema.yaml", WITH_BODY);
    let state = state_where(&mut watch, |state| state.functions.contains_key("a")).await;
    assert!(has_field(&state, "body"));
    let rule = state.functions["a"].invoke_rule.as_deref();
    assert_eq!(rule, Some("exists('posts', {'body': input.b})"));
    let proposal = WITH_BODY.replace("body:", "text:");
    project.write("schema.yaml", &proposal);
    health_where(&plane, "schema", |report| report.status == Status::Degraded).await;
    assert!(
        watch.borrow().functions.contains_key("a"),
        "the old schema is served"
    );
}

#[tokio::test]
async fn functions_are_read_again_on_demand() {
    let project = Project::new(POSTS);
    let plane = project.try_start(false).await.expect("started");
    assert_eq!(plane.reload_functions().await.expect("read"), 0);
    project.write("functions/a.js", "");
    assert_eq!(plane.reload_functions().await.expect("read"), 1);
    let watch = plane.watch();
    assert_eq!(watch.borrow().revision, 2);
    assert_eq!(plane.reload_functions().await.expect("read"), 1);
    assert_eq!(watch.borrow().revision, 2, "nothing changed");

    std::os::unix::fs::symlink(".", project.path("functions/circle")).expect("linked");
    assert!(plane.reload_functions().await.is_err());
    assert_eq!(health(&plane, "function_sources").await.status, Status::Degraded);
    assert!(
        watch.borrow().functions.contains_key("a"),
        "the old ones are served"
    );
    fs::remove_file(project.path("functions/circle")).expect("removed");
    assert_eq!(plane.reload_functions().await.expect("read"), 1);
    assert_eq!(health(&plane, "function_sources").await.status, Status::Healthy);
}

#[tokio::test]
async fn a_new_schema_is_never_published_without_the_functions_written_before_it() {
    let project = Project::new(POSTS);
    let plane = project.start().await;
    let mut watch = plane.watch();
    project.write("functions/a.js", "");
    project.write("schema.yaml", WITH_BODY);
    let state = state_where(&mut watch, |state| has_field(state, "body")).await;
    assert!(state.functions.contains_key("a"));
}
