//! `alyx migrate …` on a project's folder.

use alyx_tests::{Cluster, Part, Project, Server, Socket, eventually};
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

async fn migrate_cluster(cluster: &Cluster, project: &Project, args: &[&str]) -> (Option<i32>, String) {
    cluster
        .run_on_database(project, &[&["migrate"], args].concat())
        .await
}

async fn asked_of_cluster(cluster: &Cluster, project: &Project, args: &[&str]) -> Value {
    let (code, printed) = migrate_cluster(cluster, project, &[args, &["--json"]].concat()).await;
    assert_eq!(code, Some(0), "{args:?}: {printed}");
    let json = printed.find('{').map_or("", |at| &printed[at..]);
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// Every gateway shows the notes with just those fields.
async fn notes_have(cluster: &Cluster, fields: &Value) {
    for gateway in 0..cluster.count(Part::Gateway) {
        let http = cluster.gateway(gateway);
        eventually("a gateway takes the schema over", || async {
            let list = http.get("/api/collections/notes").await.json();
            let mut doc = list["docs"][0].clone();
            doc.as_object_mut().map(|doc| doc.remove("id"));
            if doc == *fields { Ok(()) } else { Err(list) }
        })
        .await;
    }
}

/// The live query of all notes comes to show a note with that field.
async fn socket_shows(socket: &mut Socket, field: &str) {
    loop {
        let frame = socket.receive().await;
        assert_ne!(frame["type"], "error", "{frame}");
        let payload = &frame["payload"];
        let docs = [
            &payload["docs"],
            &payload["changes"]["inserts"],
            &payload["changes"]["updates"],
        ];
        if docs.iter().any(|docs| !docs[0][field].is_null()) {
            return;
        }
    }
}

#[tokio::test]
async fn a_clusters_database_is_migrated_while_its_control_plane_is_away_and_all_roles_take_it_over() {
    let project = Project::with_schema(NOTES);
    let mut cluster = Cluster::start(&project).await;
    let note = json!({"text": "kept", "extra": "x"});
    let made = cluster.http().post("/api/collections/notes", &note).await;
    assert_eq!(made.status, 201, "{made:?}");
    let mut socket = cluster.socket().await;
    socket.subscribe(json!({"collection": "notes"})).await;

    // While a control plane leads, it can be looked at and not changed.
    project.write("schema.yaml", RENAMED);
    let (code, printed) = migrate_cluster(&cluster, &project, &["plan"]).await;
    assert_eq!(code, Some(64), "{printed}");
    assert!(
        printed.contains("destructive") && printed.contains("collections.notes.fields.text"),
        "{printed}"
    );
    let created = asked_of_cluster(&cluster, &project, &["create", "body of notes"]).await;
    assert_eq!(created["path"], "migrations/001_body_of_notes.yaml", "{created}");
    project.write(
        "migrations/001_body_of_notes.yaml",
        "version: 1\noperations:\n  - {type: rename_field, collection: notes, from: text, to: body}\n  - {type: sql, up: ALTER \
         TABLE notes DROP COLUMN extra, down: ALTER TABLE notes ADD COLUMN extra TEXT}\n",
    );
    let (code, printed) = migrate_cluster(&cluster, &project, &["apply"]).await;
    assert_eq!(code, Some(69), "{printed}");
    for word in ["DATABASE_IN_USE", "leads a cluster", "alyx schema apply"] {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    let status = asked_of_cluster(&cluster, &project, &["status"]).await;
    assert_eq!(status["schema_revision"], 1, "{status}");
    assert_eq!(status["migrations"][0]["applied_at"], Value::Null, "{status}");

    // Without one, gateways, nodes and workers run on, and take over what has been done once it is back.
    assert_eq!(cluster.terminate(Part::ControlPlane, 0).await, Some(0));
    let applied = asked_of_cluster(&cluster, &project, &["apply"]).await;
    assert_eq!(
        (
            &applied["schema_revision"],
            &applied["changed"],
            &applied["migrations"][0]["version"]
        ),
        (&json!(2), &json!(true), &json!(1))
    );
    assert_eq!(
        asked_of_cluster(&cluster, &project, &["apply"]).await["changed"],
        false
    );
    cluster.restart(Part::ControlPlane, 0).await;
    notes_have(&cluster, &json!({"body": "kept"})).await;
    socket_shows(&mut socket, "body").await;
    let body = json!({"body": "new"});
    let made = cluster.http().post("/api/collections/notes", &body).await;
    assert_eq!(made.status, 201, "{made:?}");

    assert_eq!(cluster.terminate(Part::ControlPlane, 0).await, Some(0));
    let back = asked_of_cluster(&cluster, &project, &["rollback"]).await;
    assert_eq!(back["rolled_back"][0]["version"], 1, "{back}");
    cluster.restart(Part::ControlPlane, 0).await;
    notes_have(&cluster, &json!({"text": "kept", "extra": null})).await;
    socket_shows(&mut socket, "text").await;

    // The same with the control plane running: it carries out the migrations beside its schema file.
    let applied = cluster
        .operate(&[
            "schema",
            "apply",
            project.path().join("schema.yaml").to_str().expect("a path"),
        ])
        .await;
    assert_eq!(applied.0, Some(0), "{}", applied.1);
    notes_have(&cluster, &json!({"body": "kept"})).await;
    socket_shows(&mut socket, "body").await;
}
