//! `alyx migrate` without the command line: plans, new migrations, and the way back.

use std::fs;
use std::sync::Arc;

use alyx_control_plane::Migrator;
use alyx_core::SystemClock;
use alyx_service::state::ControlPlane as _;

use crate::support::Project;

const NOTES: &str = "collections:\n  notes:\n    fields:\n      text: {type: text, index: true}\n      \
                     stars: {type: int, default: 0}\n";
const RENAME: &str = "version: 1\noperations:\n  - {type: rename_field, collection: notes, from: text, to: body}\n  - \
                      {type: sql, up: UPDATE notes SET body = body || '!', down: \"UPDATE notes SET body = rtrim(body, '!')\"}\n";

fn renamed() -> String {
    NOTES.replace("text: {", "body: {")
}

fn migrator(project: &Project) -> Migrator {
    Migrator::new(
        project.store.clone(),
        Arc::new(SystemClock),
        project.path("schema.yaml"),
    )
}

async fn notes() -> Project {
    let project = Project::new(NOTES);
    assert_eq!(project.restart().await, None);
    fs::create_dir(project.path("migrations")).expect("made");
    project
        .execute("INSERT INTO notes (id, text, stars) VALUES ('1', 'one', 1), ('2', 'two', 2)")
        .await;
    project
}

async fn schema_text(project: &Project) -> String {
    let sql = "SELECT group_concat(sql) FROM (SELECT sql FROM sqlite_schema WHERE tbl_name = 'notes' ORDER BY name)";
    project.texts(sql).await.remove(0)
}

async fn refused(project: &Project, words: &[&str]) {
    let (done, outcome) = migrator(project).roll_back(1).await;
    let error = outcome.expect_err("refused");
    assert!(done.is_empty(), "{done:?}");
    for word in words {
        assert!(error.message().contains(word), "{word}: {error}");
    }
}

#[tokio::test]
async fn a_migration_that_is_rolled_back_leaves_tables_and_data_as_they_were() {
    let project = notes().await;
    let before = schema_text(&project).await;
    project.write("schema.yaml", &renamed());
    project.write("migrations/001_rename.yaml", RENAME);
    let migrated = migrator(&project).apply().await.expect("applied");
    assert_eq!((migrated.schema_revision, migrated.migrations.len()), (2, 1));
    assert_eq!(
        project.texts("SELECT body FROM notes ORDER BY id").await,
        ["one!", "two!"]
    );

    let (done, outcome) = migrator(&project).roll_back(1).await;
    outcome.expect("rolled back");
    assert_eq!((done.len(), done[0].version, done[0].schema_revision), (1, 1, 3));
    assert_eq!(
        project.texts("SELECT text FROM notes ORDER BY id").await,
        ["one", "two"]
    );
    assert_eq!(schema_text(&project).await, before);
    let status = migrator(&project).status().await.expect("a status");
    assert_eq!(status.migrations[0].applied_at, None, "{status:?}");

    // It holds over restarts, and until it is asked for again.
    let plane = project.try_start(false).await.expect("started");
    let schema = Arc::clone(&plane.watch().borrow().schema);
    assert!(schema.collections["notes"].field("text").is_some());
    assert_eq!(
        project.texts("SELECT text FROM notes ORDER BY id").await,
        ["one", "two"]
    );
    migrator(&project).apply().await.expect("applied again");
    assert_eq!(
        project.texts("SELECT body FROM notes ORDER BY id").await,
        ["one!", "two!"]
    );
    assert_eq!(
        project.count("SELECT count(*) FROM _alyx_migrations").await,
        Some(1)
    );
}

#[tokio::test]
async fn several_are_rolled_back_one_after_the_other() {
    let project = notes().await;
    project.write("migrations/001_ten.yaml", "version: 1\noperations: [{type: sql, up: UPDATE notes SET stars = stars * 10, down: UPDATE notes SET stars = stars / 10}]");
    migrator(&project).apply().await.expect("applied");
    project.write("migrations/002_add.yaml", "version: 2\noperations: [{type: sql, up: UPDATE notes SET stars = stars + 1, down: UPDATE notes SET stars = stars - 1}]");
    project.write("migrations/003_more.yaml", "version: 3\noperations: [{type: sql, up: UPDATE notes SET stars = stars * 2, down: UPDATE notes SET stars = stars / 2}]");
    migrator(&project).apply().await.expect("applied");
    assert_eq!(project.count("SELECT sum(stars) FROM notes").await, Some(64));
    let (done, outcome) = migrator(&project).roll_back(3).await;
    outcome.expect("rolled back");
    assert_eq!(
        done.iter().map(|undone| undone.version).collect::<Vec<_>>(),
        [3, 2, 1]
    );
    assert_eq!(project.count("SELECT sum(stars) FROM notes").await, Some(3));
    refused(&project, &["no migration is applied"]).await;
}

#[tokio::test]
async fn what_cannot_be_rolled_back_says_why_and_stays() {
    let project = notes().await;
    let up = "version: 1\noperations: [{type: sql, up: UPDATE notes SET stars = 9}]";
    project.write("migrations/001_nine.yaml", up);
    migrator(&project).apply().await.expect("applied");
    refused(
        &project,
        &[
            "migration 1 (nine)",
            "001_nine.yaml:2:14: operation 1 has no `down`",
        ],
    )
    .await;
    project.write("migrations/001_nine.yaml", &format!("{up} # changed"));
    refused(
        &project,
        &["changed after it was applied", "put the old text back"],
    )
    .await;
    fs::remove_file(project.path("migrations/001_nine.yaml")).expect("removed");
    refused(&project, &["its file is missing"]).await;
    let fails = "version: 2\noperations: [{type: sql, up: UPDATE notes SET stars = 8, down: UPDATE nots SET stars = 1}]";
    project.write("migrations/001_nine.yaml", up);
    project.write("migrations/002_eight.yaml", fails);
    migrator(&project).apply().await.expect("applied");
    refused(&project, &["migration 2 (eight)", "nots"]).await;
    assert_eq!(project.count("SELECT sum(stars) FROM notes").await, Some(16));
    assert_eq!(
        project.count("SELECT count(*) FROM _alyx_migrations").await,
        Some(2)
    );

    let fresh = Project::new(&renamed());
    fs::create_dir(fresh.path("migrations")).expect("made");
    fresh.write("migrations/001_rename.yaml", RENAME);
    assert_eq!(fresh.restart().await, None);
    refused(&fresh, &["never ran in this database"]).await;
    // As a version that did not keep revisions has left it.
    fresh.execute("UPDATE _alyx_migrations SET revision = NULL").await;
    refused(
        &fresh,
        &["an older version of Alyx recorded it", "write a new migration"],
    )
    .await;
}

#[tokio::test]
async fn a_field_that_came_with_the_migration_is_not_lost_by_rolling_back() {
    let project = notes().await;
    project.write(
        "schema.yaml",
        &format!("{}      more: {{type: int, default: 5}}\n", renamed()),
    );
    project.write("migrations/001_rename.yaml", RENAME);
    migrator(&project).apply().await.expect("applied");
    refused(
        &project,
        &["collections.notes.fields.more", "its column is still there"],
    )
    .await;
    assert_eq!(project.count("SELECT sum(more) FROM notes").await, Some(10));
}

#[tokio::test]
async fn a_plan_tells_class_rows_and_sql_and_the_proposed_migration_carries_it_out() {
    let project = notes().await;
    project.write(
        "schema.yaml",
        "collections:\n  notes:\n    fields:\n      stars: {type: float, default: 0}\n      hint: {type: string}\n",
    );
    let plan = migrator(&project).plan().await.expect("planned");
    let steps: Vec<(&str, &str, Option<u64>, bool)> = plan
        .steps
        .iter()
        .map(|step| {
            (
                step.path.as_str(),
                step.class.name(),
                step.rows,
                step.refused.is_some(),
            )
        })
        .collect();
    assert_eq!(
        steps,
        [
            ("collections.notes.fields.text", "destructive", Some(2), true),
            ("collections.notes.fields.stars", "safe", Some(2), false),
            ("collections.notes.fields.hint", "needs-decision", Some(2), true),
        ]
    );
    assert!(migrator(&project).apply().await.is_err(), "refused");
    let created = migrator(&project).create("Shorter notes").await.expect("written");
    assert!(created.path.ends_with("migrations/001_shorter_notes.yaml") && created.operations > 0);
    let plan = migrator(&project).plan().await.expect("planned");
    assert!(
        plan.steps.iter().all(|step| step.refused.is_none()) && plan.pending.len() == 1,
        "{plan:?}"
    );
    migrator(&project).apply().await.expect("applied");
    assert_eq!(
        project.count("SELECT count(*) FROM notes WHERE hint = ''").await,
        Some(2)
    );

    let safe = "collections:\n  notes:\n    fields:\n      stars: {type: float, default: 1}\n      hint: {type: string}\n";
    project.write("schema.yaml", safe);
    let plan = migrator(&project).plan().await.expect("planned");
    assert!(
        plan.sql.iter().any(|sql| sql.contains("_alyx_rebuilt")),
        "{plan:?}"
    );
    assert_eq!(
        project.count("SELECT max(id) FROM _alyx_schema_revisions").await,
        Some(2),
        "nothing is changed"
    );
}
