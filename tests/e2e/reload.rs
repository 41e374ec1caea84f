//! Editing the schema while the server runs, and between runs.

use alyx_tests::{Project, Server, eventually};
use serde_json::{Value, json};

const FIRST: &str = "
collections:
  notes:
    fields:
      text: {type: text}
";

const SAFE: &str = "
collections:
  notes:
    fields:
      text: {type: text}
      stars: {type: int, default: 3, index: true}
      hint: {type: string, nullable: true}
      seen_at: {type: timestamp, default: now}
  tags:
    fields:
      name: {type: string, unique: true}
";

const UNSAFE: &str = "
collections:
  notes:
    fields:
      stars: {type: string}
";

async fn served(server: &Server, path: &str, status: u16) {
    eventually(&format!("{path} answers {status}"), || async {
        let reply = server.http().get(path).await;
        if reply.status == status {
            Ok(())
        } else {
            Err(reply)
        }
    })
    .await;
}

#[tokio::test]
async fn safe_changes_are_served_at_once_on_every_surface() {
    let project = Project::with_schema(FIRST);
    let server = Server::start(&project).await;
    let http = server.http();
    let old = http
        .post("/api/collections/notes", &json!({"text": "old"}))
        .await
        .json();
    let mut socket = server.socket().await;
    socket.subscribe(json!({"collection": "notes"})).await;
    project.write("schema.yaml", SAFE);
    served(&server, "/api/collections/tags", 200).await;
    let path = format!("/api/collections/notes/{}", old["id"].as_str().expect("an id"));
    let read = http.get(&path).await.json();
    assert_eq!(
        (&read["stars"], &read["hint"]),
        (&json!(3), &Value::Null),
        "{read}"
    );
    assert!(read["seen_at"].is_string(), "{read}");
    let made = http
        .post("/api/collections/notes", &json!({"text": "new", "stars": 5}))
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(
        http.get("/api/collections/notes?filter=stars:gte:4").await.json()["total"],
        1
    );
    let spec = http.get("/api/openapi.json").await.text;
    assert!(
        spec.contains("/api/collections/tags") && spec.contains("stars"),
        "the spec follows"
    );
    // The open live query has the new field too, whether it came by a fresh snapshot or by a delta.
    let mut seen = false;
    while !seen {
        let frame = socket.receive().await;
        let docs = match frame["type"].as_str() {
            Some("snapshot") => &frame["payload"]["docs"],
            Some("delta") => &frame["payload"]["changes"]["inserts"],
            _ => panic!("{frame}"),
        };
        seen = docs.as_array().expect("docs").iter().any(|doc| doc["stars"] == 5);
    }
}

#[tokio::test]
async fn an_unsafe_change_is_refused_with_its_price_and_the_old_schema_is_served() {
    let project = Project::with_schema(SAFE);
    let server = Server::start(&project).await;
    let http = server.http();
    http.post("/api/collections/notes", &json!({"text": "kept"}))
        .await;
    http.post("/api/collections/tags", &json!({"name": "kept"})).await;
    project.write("schema.yaml", UNSAFE);
    for named in [
        "collections.tags",
        "collections.notes.fields.text",
        "collections.notes.fields.stars",
    ] {
        server.printed(named).await;
    }
    assert!(server.output().contains("migration"), "{}", server.output());
    assert_eq!(
        http.get("/api/collections/notes").await.json()["docs"][0]["text"],
        "kept"
    );
    assert_eq!(http.get("/api/collections/tags").await.json()["total"], 1);
    let health = http.get("/health").await;
    assert_eq!(
        (health.status, &health.json()["status"]),
        (200, &json!("degraded")),
        "{health:?}"
    );

    // Started again on the refused schema it still serves what there is.
    server.kill().await;
    let server = Server::start(&project).await;
    assert_eq!(
        server.http().get("/api/collections/tags").await.json()["total"],
        1
    );
    server.printed("collections.tags").await;

    project.write("schema.yaml", SAFE);
    eventually("all is well again", || async {
        let health = server.http().get("/health").await.json();
        if health["status"] == "healthy" {
            Ok(())
        } else {
            Err(health)
        }
    })
    .await;
}

#[tokio::test]
async fn a_broken_schema_names_the_place_and_the_old_one_is_served() {
    let project = Project::with_schema(FIRST);
    let server = Server::start(&project).await;
    project.write(
        "schema.yaml",
        "collections:\n  notes:\n    fields:\n      text: {type: sting}\n",
    );
    server.printed("schema.yaml:4").await;
    server.printed("collections.notes.fields.text.type").await;
    assert!(
        server.output().contains("string"),
        "it says what would be right: {}",
        server.output()
    );
    assert_eq!(server.http().get("/api/collections/notes").await.status, 200);
}

#[tokio::test]
async fn changes_made_between_runs_are_applied_at_the_start() {
    let project = Project::with_schema(FIRST);
    let server = Server::start(&project).await;
    server
        .http()
        .post("/api/collections/notes", &json!({"text": "old"}))
        .await;
    assert_eq!(server.terminate().await, Some(0));
    project.write("schema.yaml", SAFE);
    let server = Server::start(&project).await;
    let list = server.http().get("/api/collections/notes?stars=3").await.json();
    assert_eq!(list["docs"][0]["text"], "old", "{list}");
}

#[tokio::test]
async fn a_project_whose_schema_never_worked_does_not_start() {
    let project = Project::with_schema(
        "collections:\n  Notes:\n    fields: {a: {type: nope}, b: {type: int, minLength: 3}}\n",
    );
    let (code, printed) = Server::run(&project, &["dev"], &[]).await;
    assert_eq!(code, Some(64), "{printed}");
    for named in ["schema.yaml:2", "collections.Notes", "nope"] {
        assert!(printed.contains(named), "{named} in {printed}");
    }
    assert!(!printed.contains("http://"), "no port was bound: {printed}");
}

const NEWER: &str = "
buckets:
  images: {backend: local}
collections:
  notes:
    fields:
      text: {type: email}
      state: {type: select, default: draft, select: {values: [draft, done], maxSelect: 1}}
      day: {type: date, default: now}
      body: {type: richtext, default: '<b>new'}
      parent: {type: relation, nullable: true, relation: {collection: notes, onDelete: cascade}}
      face: {type: file, nullable: true, file: {bucket: images}}
";

#[tokio::test]
async fn documents_take_fields_of_the_newer_types_while_they_are_served() {
    let project = Project::with_schema(FIRST);
    let server = Server::start(&project).await;
    let http = server.http();
    let old = http
        .post("/api/collections/notes", &json!({"text": "no address"}))
        .await;
    let path = format!(
        "/api/collections/notes/{}",
        old.json()["id"].as_str().expect("an id")
    );
    project.write("schema.yaml", NEWER);
    served(&server, "/api/collections/notes?state=draft", 200).await;
    server
        .printed("collections.notes.fields.face: the field keeps an id")
        .await;
    let read = http.get(&path).await.json();
    assert_eq!(
        (&read["text"], &read["state"], &read["body"], &read["parent"]),
        (
            &json!("no address"),
            &json!("draft"),
            &json!("<b>new</b>"),
            &Value::Null
        ),
        "{read}"
    );
    assert_eq!(read["day"].as_str().map(str::len), Some(10), "{read}");
    let refused = http.patch(&path, &json!({"text": "still none"})).await;
    assert_eq!(
        refused.json()["error"]["details"][0]["code"],
        "invalid_email",
        "{refused:?}"
    );
    let mut socket = server.socket().await;
    socket
        .subscribe(json!({"collection": "notes", "filter": {"state": "done"}}))
        .await;
    let child = json!({"text": "a@b.io", "state": "done", "parent": read["id"]});
    let child = http.post("/api/collections/notes", &child).await.json();
    assert_eq!(socket.delta().await["inserts"], json!([child]));
    assert_eq!(http.delete(&path).await.status, 204);
    assert_eq!(socket.delta().await["deletes"], json!([child["id"]]));

    // What could make markup of stored text is refused, with a migration that escapes it.
    project.write(
        "schema.yaml",
        &NEWER.replace("text: {type: email}", "text: {type: richtext}"),
    );
    server.printed("collections.notes.fields.text").await;
    server.printed("&lt;").await;
    let kept = http
        .post("/api/collections/notes", &json!({"text": "<b>x"}))
        .await;
    assert_eq!(
        kept.json()["error"]["details"][0]["code"],
        "invalid_email",
        "{kept:?}"
    );
}
