//! Tables that are made anew while they are served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alyx_tests::{Cluster, Http, Project, Server, Socket, eventually};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// What a table must be made anew for: another type, default and order, a reference that loses its documents otherwise.
const REBUILT: &str = "
collections:
  owners:
    fields:
      name: {type: string}
  notes:
    fields:
      stars: {type: float, default: 2.5}
      text: {type: text, nullable: true}
      owner: {type: uuid, nullable: true, references: owners.id, onDelete: cascade}
";
const TO_REBUILD: &str = "
collections:
  owners:
    fields:
      name: {type: string}
  notes:
    fields:
      text: {type: text}
      stars: {type: int, default: 3}
      owner: {type: uuid, nullable: true, references: owners.id}
";
const MAKE: &str = "export default async (ctx) => (await ctx.db.notes.create({ text: 'made' })).stars;\n";

/// Documents by id, as a live query has them.
struct Live {
    socket: Socket,
    docs: BTreeMap<String, Value>,
}

impl Live {
    async fn of_notes(mut socket: Socket) -> Self {
        let snapshot = socket
            .subscribe(json!({"collection": "notes", "limit": 1000}))
            .await;
        let docs = snapshot["docs"].clone();
        let mut live = Self {
            socket,
            docs: BTreeMap::new(),
        };
        live.put(&docs);
        live
    }

    fn put(&mut self, docs: &Value) {
        for doc in docs.as_array().expect("docs") {
            self.docs
                .insert(doc["id"].as_str().expect("an id").to_owned(), doc.clone());
        }
    }

    async fn next(&mut self) {
        let frame = self.socket.receive().await;
        let payload = &frame["payload"];
        match frame["type"].as_str() {
            Some("snapshot") => {
                self.docs.clear();
                self.put(&payload["docs"]);
            }
            Some("delta") => {
                self.put(&payload["changes"]["inserts"]);
                self.put(&payload["changes"]["updates"]);
                for id in payload["changes"]["deletes"].as_array().expect("deletes") {
                    self.docs.remove(id.as_str().expect("an id"));
                }
            }
            _ => panic!("{frame}"),
        }
    }
}

/// Writes and reads without a pause until it is told to stop; every request must be answered as if nothing happened.
/// Returns how many were written.
async fn traffic(http: Http, stop: Arc<AtomicBool>) -> usize {
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        let made = http
            .post("/api/collections/notes", &json!({"text": "meanwhile"}))
            .await;
        assert_eq!(made.status, 201, "{made:?}");
        let stars = &made.json()["stars"];
        assert!(
            *stars == json!(3) || *stars == json!(2.5),
            "of one schema or the other: {stars}"
        );
        written += 1;
        let list = http.get("/api/collections/notes?limit=2&sort=-id").await;
        assert_eq!(list.status, 200, "{list:?}");
    }
    written
}

/// A table is made anew under live queries and requests; `change` puts the schema in force.
async fn rebuilt_under_traffic(http: Http, socket: Socket, change: impl AsyncFnOnce()) {
    let owner = http
        .post("/api/collections/owners", &json!({"name": "ada"}))
        .await
        .json();
    let first = json!({"text": "first", "stars": 4, "owner": owner["id"]});
    let first = http.post("/api/collections/notes", &first).await.json();
    let mut live = Live::of_notes(socket).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut busy = JoinSet::new();
    busy.spawn(traffic(http.clone(), Arc::clone(&stop)));
    change().await;
    eventually("the new default is served", || async {
        let made = http
            .post("/api/collections/notes", &json!({"text": "after"}))
            .await
            .json();
        if made["stars"] == 2.5 { Ok(()) } else { Err(made) }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    assert!(busy.join_all().await.iter().sum::<usize>() > 0);
    let spec = http.get("/api/openapi.json").await.text;
    assert!(spec.contains("2.5"), "the spec follows");
    let call = http.post("/api/functions/make", &json!({})).await;
    assert_eq!(call.json(), json!(2.5), "functions follow: {call:?}");
    let nothing = http.post("/api/collections/notes", &json!({})).await;
    assert_eq!(
        nothing.status, 201,
        "what was required is not any more: {nothing:?}"
    );
    let gone = http
        .delete(&format!(
            "/api/collections/owners/{}",
            owner["id"].as_str().expect("an id")
        ))
        .await;
    assert_eq!(gone.status, 204, "the reference cascades now: {gone:?}");
    let list = http.get("/api/collections/notes?limit=1000").await.json();
    let listed: BTreeMap<String, Value> = list["docs"]
        .as_array()
        .expect("docs")
        .iter()
        .map(|doc| (doc["id"].as_str().expect("an id").to_owned(), doc.clone()))
        .collect();
    assert!(
        !listed.contains_key(first["id"].as_str().expect("an id")),
        "{list}"
    );
    while live.docs != listed {
        live.next().await;
    }
}

#[tokio::test]
async fn a_table_is_made_anew_under_live_queries_and_requests() {
    let project = Project::with_schema(TO_REBUILD);
    project.write("functions/make.js", MAKE);
    let server = Server::start(&project).await;
    let socket = server.socket().await;
    rebuilt_under_traffic(server.http(), socket, async || {
        project.write("schema.yaml", REBUILT)
    })
    .await;
}

#[tokio::test]
async fn a_table_is_made_anew_under_live_queries_and_requests_in_a_cluster() {
    let project = Project::with_schema(TO_REBUILD);
    project.write("functions/make.js", MAKE);
    let cluster = Cluster::start(&project).await;
    let socket = cluster.socket().await;
    project.write("next.yaml", REBUILT);
    let next = project.path().join("next.yaml");
    let change = async || {
        let (code, told) = cluster
            .operate(&["schema", "apply", next.to_str().expect("a path")])
            .await;
        assert_eq!(code, Some(0), "{told}");
    };
    rebuilt_under_traffic(cluster.gateway(0), socket, change).await;
}

#[tokio::test]
async fn a_large_table_is_made_anew_with_its_progress_told_and_reads_served() {
    const DOCUMENTS: usize = 21_000;
    let project = Project::with_schema(TO_REBUILD);
    let server = Server::start(&project).await;
    let http = server.http();
    let create = json!({"op": "create", "collection": "notes", "data": {"text": "one of many"}});
    for _ in 0..DOCUMENTS / 1000 {
        let batch = json!({"operations": vec![&create; 1000]});
        let made = http.post("/api/batch", &batch).await;
        assert_eq!(made.status, 200, "{made:?}");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut reading = JoinSet::new();
    let (http, stopped) = (server.http(), Arc::clone(&stop));
    reading.spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            let list = http.get("/api/collections/notes?limit=1").await;
            assert_eq!(list.json()["total"], DOCUMENTS, "{list:?}");
        }
    });
    project.write("schema.yaml", REBUILT);
    server.printed("20000 of 21000 rows").await;
    server.printed("21000 of 21000 rows").await;
    server.printed("the schema changed and is served").await;
    stop.store(true, Ordering::Relaxed);
    reading.join_all().await;
    let list = server.http().get("/api/collections/notes?limit=1").await.json();
    assert_eq!(
        (&list["docs"][0]["stars"], &list["total"]),
        (&json!(3.0), &json!(DOCUMENTS))
    );
}
