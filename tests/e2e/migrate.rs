//! `alyx migrate …` on a project's folder.

use alyx_tests::{Project, Server};
use serde_json::{Value, json};

const NOTES: &str = "collections:\n  notes:\n    fields:\n      text: {type: text}\n      extra: {type: string, nullable: true}\n";
const RENAMED: &str = "collections:\n  notes:\n    fields:\n      body: {type: text}\n";

async fn migrate(project: &Project, args: &[&str]) -> (Option<i32>, String) {
    Server::run(project, &[&["migrate"], args].concat(), &[]).await
}

async fn asked(project: &Project, args: &[&str]) -> Value {
    let (code, printed) = migrate(project, &[args, &["--json"]].concat()).await;
    assert_eq!(code, Some(0), "{args:?}: {printed}");
    let json = printed.find('{').map_or("", |at| &printed[at..]);
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

#[tokio::test]
async fn a_project_is_migrated_and_rolled_back_from_the_command_line() {
    let project = Project::with_schema(NOTES);
    let server = Server::start(&project).await;
    let note = json!({"text": "kept", "extra": "x"});
    assert_eq!(
        server.http().post("/api/collections/notes", &note).await.status,
        201
    );
    let (code, printed) = migrate(&project, &["status"]).await;
    assert_eq!(code, Some(69), "{printed}");
    for word in ["DATABASE_IN_USE", "alyx dev", "alyx schema apply"] {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    assert_eq!(server.terminate().await, Some(0));

    assert_eq!(asked(&project, &["status"]).await["schema_revision"], 1);
    project.write("schema.yaml", RENAMED);
    let (code, printed) = migrate(&project, &["plan"]).await;
    assert_eq!(code, Some(64), "{printed}");
    for word in [
        "! ",
        "destructive",
        "collections.notes.fields.text",
        "would lose",
        "alyx migrate create",
    ] {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    let (code, printed) = migrate(&project, &["apply"]).await;
    assert_eq!(code, Some(64), "{printed}");
    assert!(printed.contains("nothing of it was applied"), "{printed}");

    let created = asked(&project, &["create", "body of notes"]).await;
    assert_eq!(created["path"], "migrations/001_body_of_notes.yaml", "{created}");
    let proposed = project.read("migrations/001_body_of_notes.yaml");
    assert!(
        proposed.contains("`body` is taken for the renamed `text`"),
        "{proposed}"
    );
    project.write(
        "migrations/001_body_of_notes.yaml",
        "version: 1\noperations:\n  - {type: rename_field, collection: notes, from: text, to: body}\n  - {type: sql, up: ALTER \
         TABLE notes DROP COLUMN extra, down: ALTER TABLE notes ADD COLUMN extra TEXT}\n",
    );
    let plan = asked(&project, &["plan", "--sql"]).await;
    assert!(
        plan["sql"][0].as_str().expect("SQL").contains("RENAME COLUMN"),
        "{plan}"
    );
    let applied = asked(&project, &["apply"]).await;
    assert_eq!(
        (&applied["schema_revision"], &applied["changed"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(asked(&project, &["apply"]).await["changed"], false);

    let server = Server::start(&project).await;
    let list = server.http().get("/api/collections/notes").await.json();
    assert_eq!(list["docs"][0]["body"], "kept", "{list}");
    assert_eq!(server.terminate().await, Some(0));
    let back = asked(&project, &["rollback"]).await;
    assert_eq!(back["rolled_back"][0]["version"], 1, "{back}");
    let server = Server::start(&project).await;
    let list = server.http().get("/api/collections/notes").await.json();
    assert_eq!(
        list["docs"][0]["text"], "kept",
        "what is rolled back holds over restarts: {list}"
    );
    assert_eq!(server.terminate().await, Some(0));
    let (code, printed) = migrate(&project, &["rollback", "2"]).await;
    assert_eq!(code, Some(64), "{printed}");
    assert!(printed.contains("no migration is applied"), "{printed}");
}
