//! Access rules as somebody meets them who has not signed in.

use std::time::{Duration, SystemTime};

use alyx_tests::{Form, Http, Project, Server, eventually};
use http::Method;
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    a_read_rule_holds_on_every_surface,
    refused_writes_change_nothing,
    live_queries_show_what_the_rule_allows,
    live_queries_follow_what_rules_ask_about_other_documents,
    live_queries_follow_rules_that_look_at_the_time,
    a_deletion_takes_along_what_the_schema_says_and_needs_its_own_rule_alone,
}

const SCHEMA: &str = "
collections:
  teams:
    rules: {read: doc.open}
    fields:
      id: {type: string, primary: true}
      open: {type: bool}
  posts:
    rules:
      read: doc.published
      create: data.author != 'admin' && (data.team == null || get('teams', data.team).open)
      update: doc.author != 'admin' && !has(data.author)
      delete: doc.author == 'me' && doc.team.open
    fields:
      id: {type: string, primary: true}
      author: {type: string, default: me}
      title: {type: string, default: none}
      published: {type: bool, default: true}
      team: {type: string, nullable: true, references: teams.id}
";

async fn seeded(server: &Server) {
    let http = server.http();
    for (id, open) in [("open", true), ("closed", false)] {
        // Nobody reads what is not open, but everybody may write teams.
        let reply = http
            .post("/api/collections/teams", &json!({"id": id, "open": open}))
            .await;
        assert_eq!(reply.status, 201, "{reply:?}");
    }
    for (id, published, team) in [
        ("a", true, Some("open")),
        ("b", false, Some("open")),
        ("c", true, None),
    ] {
        let post = json!({"id": id, "published": published, "team": team});
        let reply = http.post("/api/collections/posts", &post).await;
        assert_eq!(reply.status, 201, "{reply:?}");
    }
}

fn ids(page: &Value) -> Vec<&str> {
    let docs = page["docs"].as_array().expect("a page").iter();
    docs.map(|doc| doc["id"].as_str().expect("an id")).collect()
}

/// A condition that holds of a hidden document answers like one that does not.
async fn conditions_on_hidden_documents_tell_nothing(http: &Http) {
    for op in ["get", "update", "delete"] {
        for author in ["me", "somebody else"] {
            let mut operation = json!({"op": op, "collection": "posts", "id": "b", "if": {"author": author}});
            if op == "update" {
                operation["data"] = json!({"title": "x"});
            }
            let refused = http.post("/api/batch", &json!({"operations": [operation]})).await;
            assert_eq!(
                (refused.status, refused.code()),
                (404, "DOCUMENT_NOT_FOUND".to_owned()),
                "{op} if {author}: {refused:?}"
            );
        }
    }
}

async fn a_read_rule_holds_on_every_surface(form: Form) {
    let project = Project::with_schema(SCHEMA);
    let server = form.start(&project).await;
    seeded(&server).await;
    let http = server.http();
    let page = http
        .get("/api/collections/posts?sort=id&expand=team")
        .await
        .json();
    assert_eq!(
        (ids(&page), &page["total"]),
        (vec!["a", "c"], &json!(2)),
        "{page}"
    );
    assert_eq!(page["docs"][0]["team"]["id"], "open", "{page}");
    let teams = http.get("/api/collections/teams").await.json();
    assert_eq!(ids(&teams), ["open"], "{teams}");
    let count = http.get("/api/aggregate/posts?select=count").await.json();
    assert_eq!(count["groups"][0]["count"], 2, "{count}");
    let found = http.get("/api/collections/posts?search=b").await.json();
    assert_eq!(ids(&found), [""; 0], "{found}");
    let hidden = http.get("/api/collections/posts/b").await;
    let missing = http.get("/api/collections/posts/x").await;
    assert_eq!(
        (hidden.status, hidden.code()),
        (404, "DOCUMENT_NOT_FOUND".to_owned()),
        "{hidden:?}"
    );
    assert_eq!((missing.status, missing.code()), (hidden.status, hidden.code()));
    let batch = json!({"operations": [{"op": "get", "collection": "posts", "id": "b"}]});
    assert_eq!(http.post("/api/batch", &batch).await.status, 404);
    conditions_on_hidden_documents_tell_nothing(&http).await;
    let conditional = http
        .send(
            Method::PATCH,
            "/api/collections/posts/b",
            &[("if-match", "*")],
            r#"{"title":"x"}"#,
        )
        .await;
    assert_eq!(
        conditional.status, 404,
        "a condition tells nothing: {conditional:?}"
    );
    let tx = http.post("/api/transactions", &json!({})).await.json();
    let tx = tx["transaction_id"].as_str().expect("an id");
    let within = http
        .get(&format!("/api/collections/posts?sort=id&tx_id={tx}"))
        .await
        .json();
    assert_eq!(
        (ids(&within), &within["total"]),
        (vec!["a", "c"], &json!(2)),
        "{within}"
    );
    assert_eq!(
        http.get(&format!("/api/collections/posts/b?tx_id={tx}"))
            .await
            .status,
        404
    );
}

async fn refused_writes_change_nothing(form: Form) {
    let project = Project::with_schema(SCHEMA);
    let server = form.start(&project).await;
    seeded(&server).await;
    let http = server.http();
    for (body, why) in [
        (json!({"id": "d", "author": "admin"}), "by its own fields"),
        (json!({"id": "d", "team": "closed"}), "by another document"),
        (
            json!({"id": "d", "team": "nowhere"}),
            "a reference to nothing is not told apart",
        ),
        (
            json!({"id": "a", "author": "admin"}),
            "a key that is taken is not told",
        ),
    ] {
        let reply = http.post("/api/collections/posts", &body).await;
        assert_eq!(
            (reply.status, reply.code()),
            (403, "FORBIDDEN".to_owned()),
            "{why}: {reply:?}"
        );
    }
    let given = http
        .patch("/api/collections/posts/a", &json!({"author": "you"}))
        .await;
    assert_eq!(
        (given.status, given.code()),
        (403, "FORBIDDEN".to_owned()),
        "{given:?}"
    );
    let hidden = http
        .patch("/api/collections/posts/b", &json!({"author": "you"}))
        .await;
    assert_eq!(hidden.status, 403, "whatever the document is: {hidden:?}");
    let refused = http.delete("/api/collections/posts/c").await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let all = json!({"operations": [
        {"op": "update", "collection": "posts", "id": "a", "data": {"title": "changed"}},
        {"op": "delete", "collection": "posts", "id": "c"},
    ]});
    let batch = http.post("/api/batch", &all).await;
    assert_eq!(
        (batch.status, batch.code()),
        (403, "FORBIDDEN".to_owned()),
        "{batch:?}"
    );
    let page = http.get("/api/collections/posts?sort=id").await.json();
    assert_eq!(ids(&page), ["a", "c"], "{page}");
    assert_eq!(page["docs"][0]["title"], "none", "{page}");
    assert_eq!(page["docs"][0]["author"], "me", "{page}");
    // Who may change a document that they may not read is told its key and no more.
    let blind = http
        .patch("/api/collections/posts/b", &json!({"title": "x"}))
        .await;
    assert_eq!(
        (blind.status, blind.json()),
        (200, json!({"id": "b"})),
        "{blind:?}"
    );
    assert_eq!(http.delete("/api/collections/posts/a").await.status, 204);
}

async fn live_queries_show_what_the_rule_allows(form: Form) {
    let project = Project::with_schema(SCHEMA);
    let server = form.start(&project).await;
    seeded(&server).await;
    let http = server.http();
    let mut socket = server.socket().await;
    let snapshot = socket
        .subscribe(json!({"collection": "posts", "sort": ["id"]}))
        .await;
    assert_eq!(ids(&snapshot), ["a", "c"], "{snapshot}");
    let made = json!({"id": "hidden", "published": false});
    assert_eq!(http.post("/api/collections/posts", &made).await.status, 201);
    let shown = json!({"published": true});
    assert_eq!(http.patch("/api/collections/posts/b", &shown).await.status, 200);
    let delta = socket.delta().await;
    assert_eq!(delta["inserts"][0]["id"], "b", "{delta}");
    assert_eq!(
        http.patch("/api/collections/posts/b", &json!({"published": false}))
            .await
            .status,
        200
    );
    let delta = socket.delta().await;
    assert_eq!(delta["deletes"], json!(["b"]), "{delta}");
}

#[tokio::test]
async fn a_schema_with_a_broken_rule_is_refused_and_the_rules_in_force_stay() {
    let project = Project::with_schema(SCHEMA);
    let server = Server::start(&project).await;
    seeded(&server).await;
    let http = server.http();
    project.write(
        "schema.yaml",
        &SCHEMA.replace("read: doc.published", "read: doc.publishd"),
    );
    server.printed("`posts` has no field `publishd`").await;
    assert_eq!(http.get("/api/collections/posts/b").await.status, 404);
    project.write(
        "schema.yaml",
        &SCHEMA.replace("read: doc.published", "read: doc.title == 'none'"),
    );
    eventually("the new rule is in force", || async {
        let reply = http.get("/api/collections/posts/b").await;
        if reply.status == 200 { Ok(()) } else { Err(reply) }
    })
    .await;
}

#[tokio::test]
async fn the_rules_of_a_folder_are_told_in_words() {
    let project = Project::with_schema(SCHEMA);
    let (code, output) = Server::run(&project, &["rules", "check"], &[]).await;
    assert_eq!(code, Some(0), "{output}");
    for line in [
        "  read      some        some  doc.published",
        "  create    all         all   true",
        "  ! anybody may create any document without signing in",
        "  ! no index serves the read rule",
    ] {
        assert!(output.contains(line), "{line}\n{output}");
    }
    project.write("schema.yaml", &SCHEMA.replace("doc.published", "doc.publishd"));
    let (code, output) = Server::run(&project, &["rules", "check"], &[]).await;
    assert_eq!(code, Some(64), "{output}");
    assert!(output.contains("did you mean `published`?"), "{output}");
}

async fn live_queries_follow_what_rules_ask_about_other_documents(form: Form) {
    let asking = "read: \"doc.published && (exists('members', {'team': doc.team, 'who': 'me'}) || get('teams', doc.title).open)\"";
    let schema = SCHEMA.replace("read: doc.published", asking)
        + "
  members:
    fields:
      id: {type: string, primary: true}
      team: {type: string, references: teams.id}
      who: {type: string}
";
    let project = Project::with_schema(&schema);
    let server = form.start(&project).await;
    seeded(&server).await;
    let http = server.http();
    let mut socket = server.socket().await;
    let snapshot = socket
        .subscribe(json!({"collection": "posts", "sort": ["id"]}))
        .await;
    assert_eq!(ids(&snapshot), [""; 0], "{snapshot}");
    let patch = async |path: &str, body: Value| {
        let reply = http.patch(&format!("/api/collections/{path}"), &body).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    };
    let post = async |path: &str, body: Value| {
        let reply = http.post(&format!("/api/collections/{path}"), &body).await;
        assert_eq!(reply.status, 201, "{path}: {reply:?}");
    };

    // Somebody else's membership, then one's own: posts move in and out with it.
    post("members", json!({"id": "1", "team": "open", "who": "you"})).await;
    post("members", json!({"id": "2", "team": "open", "who": "me"})).await;
    let delta = socket.delta().await;
    assert_eq!(delta["inserts"][0]["id"], "a", "{delta}");
    assert_eq!(delta["inserts"].as_array().map(Vec::len), Some(1), "{delta}");
    post("posts", json!({"id": "d", "team": "open"})).await;
    let delta = socket.delta().await;
    assert_eq!(delta["inserts"][0]["id"], "d", "{delta}");
    patch("members/2", json!({"team": "closed"})).await;
    let delta = socket.delta().await;
    assert_eq!(delta["deletes"], json!(["a", "d"]), "{delta}");

    // A document that no reference leads to.
    patch("posts/c", json!({"title": "closed"})).await;
    patch("teams/closed", json!({"open": true})).await;
    let delta = socket.delta().await;
    assert_eq!(delta["inserts"][0]["id"], "c", "{delta}");
    let listed = http.get("/api/collections/posts").await.json();
    assert_eq!(ids(&listed), ["c"], "{listed}");

    // A filter across a reference sees what the rule of that collection shows.
    patch("members/2", json!({"team": "open"})).await;
    let delta = socket.delta().await;
    assert_eq!(delta["inserts"].as_array().map(Vec::len), Some(2), "{delta}");
    let mut across = server.socket().await;
    let filter = json!({"team.id": {"$null": false}});
    let snapshot = across
        .subscribe(json!({"collection": "posts", "sort": ["id"], "filter": filter}))
        .await;
    assert_eq!(ids(&snapshot), ["a", "d"], "{snapshot}");
    patch("teams/open", json!({"open": false})).await;
    let delta = across.delta().await;
    assert_eq!(delta["deletes"], json!(["a", "d"]), "{delta}");
}

async fn live_queries_follow_rules_that_look_at_the_time(form: Form) {
    let schema = SCHEMA
        .replace("read: doc.published", "read: doc.at <= now")
        .replace(
            "author: {type",
            "at: {type: timestamp, default: now}\n      author: {type",
        );
    let project = Project::with_schema(&schema);
    let server = form.start(&project).await;
    seeded(&server).await;
    let http = server.http();
    let later = json!({"id": "later", "at": "3000-01-01T00:00:00Z"});
    let reply = http.post("/api/collections/posts", &later).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let mut socket = server.socket().await;
    let snapshot = socket
        .subscribe(json!({"collection": "posts", "sort": ["id"]}))
        .await;
    assert_eq!(ids(&snapshot), ["a", "b", "c"], "{snapshot}");
    let soon = alyx_core::format_timestamp(SystemTime::now() + Duration::from_secs(1));
    let reply = http
        .patch("/api/collections/posts/later", &json!({"at": soon}))
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let delta = socket.delta().await;
    assert_eq!(delta["inserts"][0]["id"], "later", "{delta}");
}

/// `onDelete` is the schema's word, and reaches documents that the caller could not have touched; but only from a document
/// that the caller may delete.
async fn a_deletion_takes_along_what_the_schema_says_and_needs_its_own_rule_alone(form: Form) {
    let closed = "rules: {create: true, read: true, update: false, delete: false}";
    let schema = format!(
        "collections:
  folders:
    rules: {{create: true, read: true, update: false, delete: doc.open}}
    fields:
      id: {{type: string, primary: true}}
      open: {{type: bool}}
  notes:
    {closed}
    fields:
      id: {{type: string, primary: true}}
      folder: {{type: string, references: folders.id, onDelete: cascade}}
  marks:
    {closed}
    fields:
      id: {{type: string, primary: true}}
      folder: {{type: string, nullable: true, references: folders.id, onDelete: set null}}
"
    );
    let project = Project::with_schema(&schema);
    let server = form.start(&project).await;
    let http = server.http();
    let post = async |path: &str, body: Value| {
        let reply = http.post(&format!("/api/collections/{path}"), &body).await;
        assert_eq!(reply.status, 201, "{path}: {reply:?}");
    };
    for (id, open) in [("open", true), ("closed", false)] {
        post("folders", json!({"id": id, "open": open})).await;
        for collection in ["notes", "marks"] {
            post(collection, json!({"id": format!("in {id}"), "folder": id})).await;
        }
    }
    let delete = async |path: &str| {
        let path = format!("/api/collections/{path}");
        http.send(Method::DELETE, &path, &[], "").await.status
    };
    assert_eq!(delete("notes/in%20open").await, 403);
    assert_eq!(delete("folders/closed").await, 403);
    let batch = json!({"operations": [
        {"op": "delete", "collection": "folders", "id": "open"},
        {"op": "delete", "collection": "folders", "id": "closed"},
    ]});
    assert_eq!(http.post("/api/batch", &batch).await.status, 403);
    let list = async |collection: &str| {
        let path = format!("/api/collections/{collection}?sort=id");
        http.get(&path).await.json()["docs"].clone()
    };
    let whole = json!([{"id": "in closed", "folder": "closed"}, {"id": "in open", "folder": "open"}]);
    assert_eq!((list("notes").await, list("marks").await), (whole.clone(), whole));

    assert_eq!(delete("folders/open").await, 204);
    assert_eq!(
        list("notes").await,
        json!([{"id": "in closed", "folder": "closed"}])
    );
    let freed = json!([{"id": "in closed", "folder": "closed"}, {"id": "in open", "folder": null}]);
    assert_eq!(list("marks").await, freed);
}
