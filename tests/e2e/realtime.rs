//! Live queries over the WebSocket.

use std::collections::BTreeMap;

use alyx_tests::{Form, Project, Server, Socket, eventually};
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    the_demo_protocol_works_frame_by_frame,
    a_message_sent_by_a_function_arrives_too,
    every_operator_filters_snapshots_and_deltas_alike,
    a_limited_window_refills_from_behind_its_edge,
    bad_frames_are_answered_and_the_socket_lives_on,
    stopping_the_server_closes_sockets_with_1001,
    clients_that_join_in_a_storm_miss_nothing_and_see_nothing_twice,
    documents_move_in_and_out_with_what_they_refer_to,
}

async fn chat(form: Form) -> (Project, Server) {
    let project = Project::chat();
    let server = form.start(&project).await;
    (project, server)
}

async fn say(server: &Server, channel: &str, content: &str) -> Value {
    let message = json!({"channel": channel, "author": "Bob", "content": content});
    let reply = server.http().post("/api/collections/messages", &message).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()
}

async fn the_demo_protocol_works_frame_by_frame(form: Form) {
    let (_project, server) = chat(form).await;
    let first = say(&server, "general", "first").await;
    let mut socket = server.socket().await;
    assert!(!socket.client_id().is_empty());
    let subscribe = json!({"id": "sub_1", "type": "subscribe",
                           "payload": {"collection": "messages", "sort": ["-created_at"], "limit": 50}});
    socket.send(subscribe).await;
    let snapshot = socket.receive().await;
    assert_eq!(
        (&snapshot["id"], &snapshot["type"]),
        (&json!("sub_1"), &json!("snapshot")),
        "{snapshot}"
    );
    assert_eq!(snapshot["payload"]["docs"], json!([first]));
    assert_eq!(snapshot["payload"]["total"], 1);
    let subscription = snapshot["payload"]["subscription_id"].clone();

    let second = say(&server, "general", "second").await;
    let delta = socket.receive().await;
    assert_eq!(delta["type"], "delta");
    assert_eq!(delta["payload"]["subscription_id"], subscription);
    assert_eq!(
        delta["payload"]["changes"],
        json!({"inserts": [second], "updates": [], "deletes": []})
    );

    let path = format!(
        "/api/collections/messages/{}",
        second["id"].as_str().expect("an id")
    );
    let edited = server
        .http()
        .patch(&path, &json!({"content": "edited"}))
        .await
        .json();
    assert_eq!(
        socket.delta().await,
        json!({"inserts": [], "updates": [edited], "deletes": []})
    );
    server.http().delete(&path).await;
    assert_eq!(
        socket.delta().await,
        json!({"inserts": [], "updates": [], "deletes": [second["id"]]})
    );

    socket.send(json!({"id": "p1", "type": "ping"})).await;
    let pong = socket.receive().await;
    assert_eq!(
        (&pong["type"], &pong["id"]),
        (&json!("pong"), &json!("p1")),
        "{pong}"
    );

    socket
        .send(json!({"type": "unsubscribe", "payload": {"subscription_id": subscription}}))
        .await;
    socket.send(json!({"id": "p2", "type": "ping"})).await;
    assert_eq!(socket.receive().await["id"], "p2");
    say(&server, "general", "unheard").await;
    socket.send(json!({"id": "p3", "type": "ping"})).await;
    assert_eq!(socket.receive().await["id"], "p3");
}

async fn a_message_sent_by_a_function_arrives_too(form: Form) {
    let (_project, server) = chat(form).await;
    let mut socket = server.socket().await;
    socket.subscribe(json!({"collection": "messages"})).await;
    let call = json!({"input": {"channel": "general", "content": "Hello world!", "author": "Bob"}});
    let sent = server
        .http()
        .post("/api/functions/sendMessage", &call)
        .await
        .json();
    assert_eq!(sent["success"], true, "{sent}");
    assert_eq!(socket.delta().await["inserts"][0]["id"], sent["output"]["id"]);
}

async fn every_operator_filters_snapshots_and_deltas_alike(form: Form) {
    let schema = "
collections:
  items:
    fields:
      id: {type: int, primary: true, default: auto}
      n: {type: int}
      name: {type: string}
      done: {type: bool, default: false}
      tags: {type: json, nullable: true}
";
    let project = Project::with_schema(schema);
    let server = form.start(&project).await;
    let operators = [
        json!({"n": {"$eq": 2}}),
        json!({"n": {"$ne": 2}}),
        json!({"n": {"$gt": 2}}),
        json!({"n": {"$gte": 2}}),
        json!({"n": {"$lt": 2}}),
        json!({"n": {"$lte": 2}}),
        json!({"name": {"$like": "B%"}}),
        json!({"n": {"$in": [1, 3]}}),
        json!({"tags": {"$contains": "red"}}),
        json!({"done": true}),
        json!({"$or": [{"n": 1}, {"name": {"$contains": "an"}}]}),
    ];
    let documents = [
        json!({"n": 1, "name": "apple", "tags": ["red", "green"]}),
        json!({"n": 2, "name": "banana", "done": true}),
        json!({"n": 3, "name": "Berry", "tags": {"red": 1}}),
    ];
    for filter in operators {
        let mut live = server.socket().await;
        let before = live
            .subscribe(json!({"collection": "items", "filter": filter, "sort": ["id"]}))
            .await;
        let mut seen: BTreeMap<i64, Value> = rows(&before["docs"]);
        for document in &documents {
            let made = server.http().post("/api/collections/items", document).await;
            assert_eq!(made.status, 201, "{made:?}");
        }
        let mut late = server.socket().await;
        let after = late
            .subscribe(json!({"collection": "items", "filter": filter, "sort": ["id"]}))
            .await;
        let expected = rows(&after["docs"]);
        assert!(expected.len() > seen.len(), "{filter} matches something");
        while seen.len() < expected.len() {
            let changes = live.delta().await;
            seen.extend(rows(&changes["inserts"]));
        }
        assert_eq!(seen, expected, "{filter}");
        assert_eq!(after["total"], expected.len(), "{filter}");
    }
}

fn rows(docs: &Value) -> BTreeMap<i64, Value> {
    let docs = docs.as_array().expect("an array");
    docs.iter()
        .map(|doc| (doc["id"].as_i64().expect("an id"), doc.clone()))
        .collect()
}

async fn a_limited_window_refills_from_behind_its_edge(form: Form) {
    let (_project, server) = chat(form).await;
    let mut ids = Vec::new();
    for n in 0..30 {
        ids.push(say(&server, "general", &format!("message {n}")).await["id"].clone());
    }
    let mut socket = server.socket().await;
    let window = socket
        .subscribe(json!({"collection": "messages", "sort": ["id"], "limit": 3}))
        .await;
    assert_eq!(window["total"], 30);
    let mut shown: Vec<Value> = window["docs"]
        .as_array()
        .expect("docs")
        .iter()
        .map(|d| d["id"].clone())
        .collect();
    assert_eq!(shown, ids[..3]);
    // Far more deletions than any margin behind the limit.
    for gone in &ids[..25] {
        let path = format!("/api/collections/messages/{}", gone.as_str().expect("an id"));
        assert_eq!(server.http().delete(&path).await.status, 204);
    }
    while shown != ids[25..28] {
        let changes = socket.delta().await;
        for gone in changes["deletes"].as_array().expect("deletes") {
            shown.retain(|id| id != gone);
        }
        for new in changes["inserts"].as_array().expect("inserts") {
            shown.push(new["id"].clone());
        }
        shown.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        assert!(shown.len() <= 3, "{shown:?}");
    }
}

async fn bad_frames_are_answered_and_the_socket_lives_on(form: Form) {
    let (_project, server) = chat(form).await;
    let mut socket = server.socket().await;
    for (frame, id, code) in [
        ("not json", Value::Null, "INVALID_MESSAGE"),
        ("{\"id\":\"a\",\"type\":\"dance\"}", json!("a"), "INVALID_MESSAGE"),
        (
            "{\"id\":\"b\",\"type\":\"subscribe\"}",
            json!("b"),
            "INVALID_PAYLOAD",
        ),
        (
            "{\"id\":\"c\",\"type\":\"subscribe\",\"payload\":{}}",
            json!("c"),
            "INVALID_PAYLOAD",
        ),
        (
            "{\"id\":\"d\",\"type\":\"subscribe\",\"payload\":{\"collection\":\"nope\"}}",
            json!("d"),
            "COLLECTION_NOT_FOUND",
        ),
        (
            "{\"id\":\"e\",\"type\":\"subscribe\",\"payload\":{\"collection\":\"messages\",\"filter\":{\"nope\":1}}}",
            json!("e"),
            "INVALID_FILTER",
        ),
        (
            "{\"id\":\"f\",\"type\":\"subscribe\",\"payload\":{\"collection\":\"messages\",\"sort\":[\"nope\"]}}",
            json!("f"),
            "INVALID_QUERY",
        ),
        (
            "{\"id\":\"g\",\"type\":\"unsubscribe\",\"payload\":{}}",
            json!("g"),
            "INVALID_PAYLOAD",
        ),
    ] {
        socket.send_text(frame).await;
        let reply = socket.receive().await;
        assert_eq!(reply["type"], "error", "{frame} → {reply}");
        assert_eq!(reply["payload"]["code"], code, "{frame} → {reply}");
        assert_eq!(reply["id"], id, "{frame} → {reply}");
        assert!(
            reply["payload"]["message"]
                .as_str()
                .is_some_and(|m| !m.is_empty()),
            "{reply}"
        );
    }
    socket.subscribe(json!({"collection": "messages"})).await;
    socket.send_text(&"x".repeat(600 * 1024)).await;
    assert_eq!(socket.closed().await, 1009);
}

#[tokio::test]
async fn limits_are_kept() {
    let project = Project::chat();
    let env = [
        ("ALYX_REALTIME_MAX_CONNECTIONS", "2"),
        ("ALYX_REALTIME_MAX_SUBSCRIPTIONS_PER_CLIENT", "2"),
    ];
    let server = Server::start_with(&project, &["dev"], &env).await;
    let mut first = server.socket().await;
    let second = server.socket().await;
    for channel in ["a", "b"] {
        first
            .subscribe(json!({"collection": "messages", "filter": {"channel": channel}}))
            .await;
    }
    first
        .send(json!({"id": "3", "type": "subscribe", "payload": {"collection": "messages"}}))
        .await;
    let reply = first.receive().await;
    assert_eq!(reply["payload"]["code"], "SUBSCRIPTION_LIMIT_REACHED", "{reply}");
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let refused = server
        .http()
        .send(http::Method::GET, "/api/realtime", &upgrade, "")
        .await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    drop(second);
    eventually("a place is free again", || async {
        let reply = server
            .http()
            .try_send(http::Method::GET, "/api/realtime", &upgrade, "")
            .await;
        match reply {
            Ok(reply) if reply.status == 503 => Err(reply),
            _ => Ok(()),
        }
    })
    .await;
}

async fn stopping_the_server_closes_sockets_with_1001(form: Form) {
    let (_project, server) = chat(form).await;
    let mut socket = server.socket().await;
    socket.subscribe(json!({"collection": "messages"})).await;
    let stopped = server.terminate();
    let (code, status) = tokio::join!(socket.closed(), stopped);
    assert_eq!((code, status), (1001, Some(0)));
}

/// A client that joins in the middle of a storm of writes ends with exactly what the database holds.
async fn clients_that_join_in_a_storm_miss_nothing_and_see_nothing_twice(form: Form) {
    let (_project, server) = chat(form).await;
    let http = server.http();
    let storm = async {
        let mut ids = Vec::new();
        for n in 0..400 {
            ids.push(
                say(&server, "storm", &format!("{n}")).await["id"]
                    .as_str()
                    .expect("an id")
                    .to_owned(),
            );
            if n % 5 == 4 {
                let gone = ids.swap_remove(n * 31 % ids.len());
                assert_eq!(
                    http.delete(&format!("/api/collections/messages/{gone}"))
                        .await
                        .status,
                    204
                );
            }
        }
        say(&server, "storm", "the end").await["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let watch = async |start: usize| {
        eventually("the storm has begun", || async {
            let total = http.get("/api/collections/messages").await.json()["total"]
                .as_u64()
                .expect("a total");
            if total >= start as u64 { Ok(()) } else { Err(total) }
        })
        .await;
        let mut socket = server.socket().await;
        let query =
            json!({"collection": "messages", "filter": {"channel": "storm"}, "sort": ["-id"], "limit": 1000});
        let snapshot = socket.subscribe(query).await;
        let mut held: BTreeMap<String, Value> = BTreeMap::new();
        let key = |doc: &Value| doc["id"].as_str().expect("an id").to_owned();
        for doc in snapshot["docs"].as_array().expect("docs") {
            assert!(
                held.insert(key(doc), doc.clone()).is_none(),
                "twice in the snapshot"
            );
        }
        while !held.values().any(|doc| doc["content"] == "the end") {
            let changes = socket.delta().await;
            for gone in changes["deletes"].as_array().expect("deletes") {
                assert!(
                    held.remove(gone.as_str().expect("an id")).is_some(),
                    "deleted without being there"
                );
            }
            for new in changes["inserts"].as_array().expect("inserts") {
                assert!(held.insert(key(new), new.clone()).is_none(), "inserted twice");
            }
        }
        held
    };
    let (_, a, b, c) = tokio::join!(storm, watch(0), watch(40), watch(150));
    let truth = http
        .get("/api/collections/messages?filter=channel:eq:storm&limit=1000")
        .await
        .json();
    let truth: BTreeMap<String, Value> = truth["docs"]
        .as_array()
        .expect("docs")
        .iter()
        .map(|doc| (doc["id"].as_str().expect("an id").to_owned(), doc.clone()))
        .collect();
    assert_eq!(a, truth);
    assert_eq!(b, truth);
    assert_eq!(c, truth);
}

const TEAMS: &str = "
collections:
  teams:
    fields:
      id: {type: int, primary: true}
      size: {type: int}
  people:
    fields:
      id: {type: int, primary: true}
      team_id: {type: int, nullable: true, references: teams.id, onDelete: set null}
  tasks:
    fields:
      id: {type: int, primary: true}
      author_id: {type: int, index: true, references: people.id, onDelete: cascade}
  secrets:
    rules: {read: false}
    fields:
      id: {type: int, primary: true}
      owner: {type: int, nullable: true, references: people.id}
  notes:
    fields:
      id: {type: int, primary: true}
      secret: {type: int, nullable: true, references: secrets.id}
";

/// The ids of the documents that a client holds after taking its deltas until they are the wanted ones.
async fn until_shown(socket: &mut Socket, shown: &mut BTreeMap<i64, Value>, wanted: &[i64]) {
    while !shown.keys().eq(wanted) {
        let changes = socket.delta().await;
        for gone in changes["deletes"].as_array().expect("deletes") {
            let gone = gone.as_i64().expect("an id");
            assert!(shown.remove(&gone).is_some(), "{gone} leaves and is not there");
        }
        for (id, doc) in rows(&changes["inserts"]) {
            assert!(shown.insert(id, doc).is_none(), "{id} comes twice");
        }
        shown.extend(rows(&changes["updates"]));
    }
}

async fn documents_move_in_and_out_with_what_they_refer_to(form: Form) {
    let project = Project::with_schema(TEAMS);
    let server = form.start(&project).await;
    let http = server.http();
    let create = async |collection: &str, document: Value| {
        let path = format!("/api/collections/{collection}");
        let made = http.post(&path, &document).await;
        assert_eq!(made.status, 201, "{made:?}");
    };
    for id in [1, 2] {
        create("teams", json!({"id": id, "size": id})).await;
        create("people", json!({"id": id, "team_id": id})).await;
        create("tasks", json!({"id": id * 10, "author_id": id})).await;
    }
    let mut near = server.socket().await;
    let snapshot = near
        .subscribe(json!({"collection": "tasks", "filter": {"author.team_id": 1}, "sort": ["id"]}))
        .await;
    let mut in_team = rows(&snapshot["docs"]);
    let mut far = server.socket().await;
    let snapshot = far
        .subscribe(
            json!({"collection": "tasks", "filter": {"author.team.size": {"$gte": 2}}, "sort": ["id"]}),
        )
        .await;
    let mut in_large = rows(&snapshot["docs"]);
    assert!(in_team.keys().eq(&[10]) && in_large.keys().eq(&[20]));

    for id in 11..15 {
        create("tasks", json!({"id": id, "author_id": 1})).await;
        create("tasks", json!({"id": id + 10, "author_id": 2})).await;
    }
    until_shown(&mut near, &mut in_team, &[10, 11, 12, 13, 14]).await;
    until_shown(&mut far, &mut in_large, &[20, 21, 22, 23, 24]).await;
    let all = [10, 11, 12, 13, 14, 20, 21, 22, 23, 24];
    // The first reference leads elsewhere, then what the second one leads to changes, then a document on the way goes.
    http.patch("/api/collections/people/2", &json!({"team_id": 1}))
        .await;
    until_shown(&mut near, &mut in_team, &all).await;
    until_shown(&mut far, &mut in_large, &[]).await;
    http.patch("/api/collections/teams/1", &json!({"size": 5})).await;
    until_shown(&mut far, &mut in_large, &all).await;
    http.delete("/api/collections/people/1").await;
    until_shown(&mut near, &mut in_team, &all[5..]).await;
    until_shown(&mut far, &mut in_large, &all[5..]).await;
    http.delete("/api/collections/teams/1").await;
    until_shown(&mut near, &mut in_team, &[]).await;
    until_shown(&mut far, &mut in_large, &[]).await;

    let hidden = json!({"collection": "notes", "filter": {"secret.owner": 2}});
    near.send(json!({"id": "h", "type": "subscribe", "payload": hidden}))
        .await;
    let refused = near.receive().await;
    assert_eq!(refused["payload"]["code"], "INVALID_FILTER", "{refused}");
    assert!(refused.to_string().contains("may not be read"), "{refused}");
}
