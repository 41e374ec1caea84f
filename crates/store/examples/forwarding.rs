//! How fast two nodes over one libSQL server take inserts together, half of which are forwarded to the other node.
//!
//! `cargo run --release -p alyx-store --example forwarding -- SECONDS URL`: 64 callers, 32 at each of two stores in
//! this process, joined by gRPC over the loopback interface.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Error, Result, Statement, Value, new_uuid_v7};
use alyx_rpc::{Security, bind, serve};
use alyx_service::tasks::Tasks;
use alyx_store::{
    ClusterOptions, Expect, GrpcForwarder, RemoteOptions, Store, Write, WriteStep, WriterService,
    WriterStatus,
};
use tokio::task::JoinSet;

const SCHEMA: &str = "
DROP TABLE IF EXISTS messages;
CREATE TABLE messages (id TEXT PRIMARY KEY NOT NULL, room TEXT NOT NULL, author TEXT, body TEXT, created TEXT);
CREATE INDEX messages_room ON messages (room, created);
CREATE TRIGGER messages_insert AFTER INSERT ON messages BEGIN
    INSERT INTO _alyx_changes (collection, op, id, new) VALUES ('messages', 1, new.id, json_object(
        'id', new.id, 'room', new.room, 'author', new.author, 'body', new.body, 'created', new.created));
END;";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3);
    let url = arguments
        .next()
        .unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let runtime = tokio::runtime::Runtime::new().map_err(Error::internal)?;
    runtime.block_on(run(&url, Duration::from_secs(seconds)))
}

async fn run(url: &str, time: Duration) -> Result<()> {
    let security = Security::new(Some(&"secret ".repeat(8)), None)?;
    let tasks = Tasks::new();
    let mut nodes = Vec::new();
    for name in ["a", "b"] {
        let listener = bind("127.0.0.1:0").await?;
        let options = ClusterOptions::new(
            RemoteOptions::new(url),
            name,
            listener.local_addr().to_string(),
            Arc::new(GrpcForwarder::new(security.clone())),
        );
        let store = Store::open_cluster(options, |_| ()).await?;
        let service = WriterService::new(store.clone()).into_server();
        serve(listener, &security, tonic::service::Routes::new(service), &tasks).await?;
        while store.writer() == Some(WriterStatus::Nobody) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        nodes.push(store);
    }
    nodes[0].migrate(vec![Statement::new(SCHEMA, Vec::new())]).await?;
    for (name, callers) in [
        ("at the holder", [64, 0]),
        ("at the other", [0, 64]),
        ("at both", [32, 32]),
    ] {
        report(&nodes, name, callers, time).await?;
    }
    for store in &nodes {
        store.close().await;
    }
    tasks.stop(time).await;
    Ok(())
}

async fn report(nodes: &[Store], name: &str, callers: [usize; 2], time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    let mut running = JoinSet::new();
    for (store, callers) in nodes.iter().zip(callers) {
        for _ in 0..callers {
            let store = store.clone();
            running.spawn(async move {
                let mut latencies = Vec::new();
                while Instant::now() < end {
                    let began = Instant::now();
                    store.write(insert()).await?;
                    latencies.push(began.elapsed());
                }
                Ok::<_, Error>(latencies)
            });
        }
    }
    let mut latencies = Vec::new();
    while let Some(ended) = running.join_next().await {
        latencies.extend(ended.map_err(Error::internal)??);
    }
    latencies.sort_unstable();
    let percentile = |percent: usize| {
        latencies
            .get(latencies.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "64 callers {name}: {:.0} inserts/s, p50 {:?}, p99 {:?}",
        latencies.len() as f64 / time.as_secs_f64(),
        percentile(50),
        percentile(99)
    );
    Ok(())
}

fn insert() -> Write {
    const INSERT: &str = "INSERT INTO messages (id, room, author, body, created) VALUES (?1, ?2, ?3, ?4, ?5) \
         RETURNING id, room, author, body, created";
    let values = vec![
        Value::from(new_uuid_v7()),
        Value::from("room-3"),
        Value::from("author-4"),
        Value::from("a message of ordinary length, such as people write to each other all day long"),
        Value::from("2026-01-31T12:00:00.000Z"),
    ];
    Write {
        steps: vec![WriteStep {
            statement: Statement::new(INSERT, values),
            expect: Expect::Row,
        }],
        deadline: Instant::now() + Duration::from_secs(10),
    }
}
