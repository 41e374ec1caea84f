//! Access rules for people who have signed in: each sees and changes what is theirs, on every surface.

use alyx_tests::{Form, Http, Project, Reply, Server, Socket, eventually};
use http::Method;
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    everybody_sees_and_changes_what_is_theirs,
    what_is_somebody_elses_is_as_if_it_were_not_there,
    live_queries_follow_who_asks,
}

const SCHEMA: &str = "
default_access: deny
collections:
  notes:
    rules:
      read: doc.owner == auth.id
      create: auth.id != null && data.owner == auth.id
      update: doc.owner == auth.id && !has(data.owner)
      delete: doc.owner == auth.id
    fields:
      id: {type: string, primary: true}
      owner: {type: uuid, index: true}
      text: {type: string}
";

async fn start(form: Form) -> (Project, Server) {
    let project = Project::with_schema(SCHEMA);
    let env = [("ALYX_AUTH_JWT_SECRET", "a secret of the tests, 32 bytes or more")];
    let server = form.start_with(&project, &env).await;
    (project, server)
}

/// Somebody who has signed in.
struct Person {
    http: Http,
    id: String,
    bearer: String,
}

impl Person {
    async fn register(server: &Server, email: &str) -> Self {
        let http = server.http();
        let body = json!({"email": email, "password": "correct horse"});
        let reply = http.post("/api/auth/register", &body).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        let told = reply.json();
        Self {
            http,
            id: told["user"]["id"].as_str().expect("an id").to_owned(),
            bearer: format!("Bearer {}", told["access_token"].as_str().expect("a token")),
        }
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Reply {
        let headers = [("authorization", self.bearer.as_str())];
        self.http.send(method, path, &headers, body.to_string()).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &Value::Null).await
    }

    async fn note(&self, id: &str, owner: &str) -> Reply {
        let note = json!({"id": id, "owner": owner, "text": format!("note {id}")});
        self.send(Method::POST, "/api/collections/notes", &note).await
    }
}

fn ids(docs: &Value) -> Vec<&str> {
    let docs = docs.as_array().expect("documents").iter();
    docs.map(|doc| doc["id"].as_str().expect("an id")).collect()
}

async fn everybody_sees_and_changes_what_is_theirs(form: Form) {
    let (_project, server) = start(form).await;
    let (ann, bob) = (
        Person::register(&server, "ann@x.io").await,
        Person::register(&server, "bob@x.io").await,
    );
    for (id, person) in [("a1", &ann), ("a2", &ann), ("b1", &bob)] {
        let made = person.note(id, &person.id).await;
        assert_eq!(made.status, 201, "{made:?}");
    }
    let forged = bob.note("b2", &ann.id).await;
    assert_eq!(
        (forged.status, forged.code().as_str()),
        (403, "FORBIDDEN"),
        "{forged:?}"
    );
    let anonymous = server.http().get("/api/collections/notes").await;
    assert!(
        anonymous.status == 403 || anonymous.json()["total"] == 0,
        "{anonymous:?}"
    );

    let page = ann.get("/api/collections/notes?sort=id").await.json();
    assert_eq!(
        (ids(&page["docs"]), &page["total"]),
        (vec!["a1", "a2"], &json!(2))
    );
    let counted = bob.get("/api/aggregate/notes?select=count").await.json();
    assert_eq!(counted["groups"][0]["count"], 1, "{counted}");
    assert_eq!(ann.get("/api/collections/notes/a1").await.status, 200);

    let given_away = ann
        .send(
            Method::PATCH,
            "/api/collections/notes/a1",
            &json!({"owner": bob.id}),
        )
        .await;
    assert_eq!(
        (given_away.status, given_away.code().as_str()),
        (403, "FORBIDDEN")
    );
    let changed = ann
        .send(
            Method::PATCH,
            "/api/collections/notes/a1",
            &json!({"text": "changed"}),
        )
        .await;
    assert_eq!(
        (changed.status, &changed.json()["text"]),
        (200, &json!("changed"))
    );
    assert_eq!(
        ann.send(Method::DELETE, "/api/collections/notes/a2", &Value::Null)
            .await
            .status,
        204
    );
}

async fn what_is_somebody_elses_is_as_if_it_were_not_there(form: Form) {
    let (_project, server) = start(form).await;
    let (ann, bob) = (
        Person::register(&server, "ann@x.io").await,
        Person::register(&server, "bob@x.io").await,
    );
    assert_eq!(ann.note("a1", &ann.id).await.status, 201);
    assert_eq!(bob.note("b1", &bob.id).await.status, 201);
    for (method, body) in [
        (Method::GET, Value::Null),
        (Method::PATCH, json!({"text": "mine now"})),
        (Method::DELETE, Value::Null),
    ] {
        let hidden = bob.send(method.clone(), "/api/collections/notes/a1", &body).await;
        let missing = bob.send(method.clone(), "/api/collections/notes/zz", &body).await;
        assert_eq!(
            (hidden.status, hidden.code()),
            (404, missing.code()),
            "{method}: {hidden:?}"
        );
        let neutral = |reply: &Reply| reply.json()["error"]["message"].to_string().replace("zz", "a1");
        assert_eq!(neutral(&hidden), neutral(&missing), "{method}");
    }
    let searched = bob
        .get("/api/collections/notes?filter=text:eq:note%20a1")
        .await
        .json();
    assert_eq!(searched["total"], 0, "{searched}");
    let batch = json!({"operations": [
        {"op": "update", "collection": "notes", "id": "b1", "data": {"text": "first"}},
        {"op": "delete", "collection": "notes", "id": "a1"},
    ]});
    let refused = bob.send(Method::POST, "/api/batch", &batch).await;
    assert_eq!(refused.status, 404, "{refused:?}");
    assert_eq!(
        bob.get("/api/collections/notes/b1").await.json()["text"],
        "note b1"
    );
}

async fn live_queries_follow_who_asks(form: Form) {
    let (_project, server) = start(form).await;
    let (ann, bob) = (
        Person::register(&server, "ann@x.io").await,
        Person::register(&server, "bob@x.io").await,
    );
    assert_eq!(ann.note("a1", &ann.id).await.status, 201);
    let query = json!({"collection": "notes", "sort": ["id"], "limit": 10});
    let mut sockets = Vec::new();
    for (person, expected) in [(&ann, vec!["a1"]), (&bob, vec![])] {
        let headers = [("authorization", person.bearer.as_str())];
        let mut socket = Socket::open_with(&server.base(), &headers)
            .await
            .expect("a socket");
        let snapshot = socket.subscribe(query.clone()).await;
        assert_eq!(ids(&snapshot["docs"]), expected, "{snapshot}");
        sockets.push(socket);
    }
    // Each hears of their own alone: the first thing that Bob hears is his note, which was made last.
    assert_eq!(ann.note("a2", &ann.id).await.status, 201);
    assert_eq!(bob.note("b1", &bob.id).await.status, 201);
    for (socket, expected) in sockets.iter_mut().zip(["a2", "b1"]) {
        let delta = socket.delta().await;
        assert_eq!(ids(&delta["inserts"]), [expected], "{delta}");
    }
    eventually("the end of the account is the end of its sockets", || async {
        let left = bob
            .send(
                Method::DELETE,
                "/api/auth/me",
                &json!({"password": "correct horse"}),
            )
            .await;
        match left.status {
            204 | 401 => Ok(()),
            _ => Err(left),
        }
    })
    .await;
    let closed = loop {
        match sockets[1].try_receive().await {
            Ok(_) => {}
            Err(closed) => break closed,
        }
    };
    assert!(closed.contains("4401"), "{closed}");
}
