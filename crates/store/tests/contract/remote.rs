//! What only a database on a server can do: die, hang, answer late, and refuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alyx_core::{ErrorKind, Result, Seq, Value};
use alyx_service::health::{HealthCheck, Status};
use alyx_store::{Expect, Read, ReadCost, RemoteOptions, Store, Write, WriteReply, WriteStep};
use tokio::task::JoinSet;

use crate::proxy::Proxy;
use crate::server::RemoteBackend;
use crate::support::{
    ITEMS, PATIENCE, Published, code, eventually, ids, insert, insert_step, migrate, read_of, replay, single,
    step, with_items, write, write_of,
};

/// Short waits, for servers that do not answer.
fn impatient(options: RemoteOptions) -> RemoteOptions {
    RemoteOptions {
        call_timeout: Duration::from_millis(500),
        ..options
    }
}

async fn until_written(store: &Store, id: &str) {
    let end = Instant::now() + PATIENCE;
    while let Err(error) = insert(store, id, 1).await {
        if error.code() == "UNIQUE_VIOLATION" {
            return;
        }
        assert!(Instant::now() < end, "{id}: {error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_write_survives_kill_9_of_the_server() {
    let server = RemoteBackend::new();
    let (store, published) = with_items(&server).await;
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let (store, acknowledged, done) = (store.clone(), Arc::clone(&acknowledged), Arc::clone(&done));
        callers.spawn(async move {
            let mut written = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let id = format!("{caller:02}-{:04}", written.len());
                until_written(&store, &id).await;
                acknowledged.fetch_add(1, Ordering::Relaxed);
                written.push(id);
            }
            written
        });
    }
    for round in 1..=3 {
        eventually("writes are acknowledged", || {
            (acknowledged.load(Ordering::Relaxed) >= round * 200).then_some(())
        })
        .await;
        tokio::task::block_in_place(|| {
            server.kill();
            server.restart();
        });
    }
    let before = acknowledged.load(Ordering::Relaxed);
    eventually("writes are acknowledged again", || {
        (acknowledged.load(Ordering::Relaxed) >= before + 100).then_some(())
    })
    .await;
    done.store(true, Ordering::Relaxed);
    let mut written: Vec<String> = callers.join_all().await.into_iter().flatten().collect();
    written.sort_unstable();
    assert_eq!(ids(&store).await, written);
    let log = replay(&store, Seq(0), 1000).await;
    let changes: usize = log.iter().map(|commit| commit.changes.len()).sum();
    assert_eq!(changes, written.len(), "each row is in the log once");
    let positions: Vec<Seq> = published.all().iter().map(|commit| commit.position).collect();
    assert!(positions.is_sorted(), "published in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_told_at_once_and_found_again() {
    let server = RemoteBackend::new();
    let (store, _) = with_items(&server).await;
    insert(&store, "a", 1).await.expect("a write");
    server.kill();
    // The first one may have been on its way already.
    let first = insert(&store, "b", 1).await.expect_err("no server");
    assert_eq!(first.kind(), ErrorKind::Unavailable);
    let error = insert(&store, "b", 1).await.expect_err("no server");
    assert_eq!(
        (error.code(), error.kind()),
        ("DATABASE_UNAVAILABLE", ErrorKind::Unavailable)
    );
    assert!(error.retry_after().is_some());
    for cost in [ReadCost::Point, ReadCost::Scan] {
        let answer = store.read(read_of("SELECT 1", cost)).await;
        assert_eq!(code(answer), "DATABASE_UNAVAILABLE");
    }
    assert_eq!(store.check().await.status, Status::Unhealthy);
    tokio::task::block_in_place(|| server.restart());
    until_written(&store, "c").await;
    assert_eq!(ids(&store).await, ["a", "c"]);
    assert_eq!(store.check().await.status, Status::Healthy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_does_not_hold_its_callers() {
    let server = RemoteBackend::new();
    let (store, _) = with_items(&server).await;
    store.close().await;
    let store = Store::open_remote(impatient(server.options()), |_| ())
        .await
        .expect("the store opens");
    server.signal("-STOP");
    let soon = || Instant::now() + Duration::from_millis(300);
    let hanging = Write {
        deadline: soon(),
        ..write_of(vec![insert_step("hanging", 1)])
    };
    let waiting = Write {
        deadline: soon(),
        ..write_of(vec![insert_step("waiting", 1)])
    };
    for unanswered in [hanging, waiting] {
        let error = store.write(unanswered).await.expect_err("no answer");
        let codes = ["WRITE_OUTCOME_UNKNOWN", "WRITE_TIMEOUT", "DATABASE_UNAVAILABLE"];
        assert!(codes.contains(&error.code()), "{error:?}");
    }
    let read = Read {
        deadline: soon(),
        ..read_of("SELECT 1", ReadCost::Scan)
    };
    assert_eq!(code(store.read(read).await), "QUERY_TIMEOUT");
    assert_eq!(store.check().await.status, Status::Unhealthy);
    server.signal("-CONT");
    until_written(&store, "later").await;
    assert_eq!(store.check().await.status, Status::Healthy);
}

/// Adds one, which nothing in the table would keep from happening twice.
async fn add_one(store: &Store) -> Result<WriteReply> {
    write(store, "UPDATE items SET n = n + 1 WHERE id = 'counter'").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_arrives_late_is_not_carried_out() {
    let server = RemoteBackend::new();
    let proxy = Proxy::start(server.port()).await;
    let options = RemoteOptions {
        url: proxy.url(),
        ..impatient(server.options())
    };
    let store = Store::open_remote(options, |_| ())
        .await
        .expect("the store opens");
    migrate(&store, ITEMS).await.expect("the table");
    insert(&store, "counter", 0).await.expect("a write");
    proxy.hold_open_connections();
    // The first try is held back, given up and settled over another connection, and made again.
    add_one(&store).await.expect("a write");
    assert_eq!(single(&store, "SELECT n FROM items").await, Value::Int(1));
    let held = proxy.release();
    assert!(held > 0, "something was held back");
    proxy.until_quiet().await;
    for turn in 2..5 {
        add_one(&store).await.expect("a write");
        assert_eq!(single(&store, "SELECT n FROM items").await, Value::Int(turn));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_not_made_again() {
    let server = RemoteBackend::new();
    let proxy = Proxy::start(server.port()).await;
    let published = Published::default();
    let options = RemoteOptions {
        url: proxy.url(),
        ..impatient(server.options())
    };
    let store = Store::open_remote(options, published.follower())
        .await
        .expect("the store opens");
    migrate(&store, ITEMS).await.expect("the table");
    insert(&store, "counter", 0).await.expect("a write");
    proxy.swallow_next_answer();
    let error = add_one(&store).await.expect_err("no answer");
    assert_eq!(error.code(), "WRITE_OUTCOME_UNKNOWN");
    assert_eq!(single(&store, "SELECT n FROM items").await, Value::Int(1));
    let reply = add_one(&store).await.expect("a write");
    assert_eq!(single(&store, "SELECT n FROM items").await, Value::Int(2));
    let commits = published.until(reply.position).await;
    let changes: usize = commits.iter().map(|commit| commit.changes.len()).sum();
    assert_eq!(changes, 3, "what was committed is published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_commits_come_back_whole() {
    let server = RemoteBackend::with_arguments(&["--max-response-size", "1MB"]);
    let (store, published) = with_items(&server).await;
    let many = "INSERT INTO items (id, n) \
         WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5000) SELECT 'i' || n, n FROM c";
    let reply = write(&store, many).await.expect("many rows");
    let commits = published.until(reply.position).await;
    assert_eq!((commits.len(), commits[0].changes.len()), (1, 5000));
    let log = store.read_log(Seq(0), 10).await.expect("the log");
    assert_eq!(log.commits[0].changes.len(), 5000);
    // A change that is larger than the server's answers may be.
    let large = "CREATE TABLE large (id TEXT PRIMARY KEY, text TEXT);
        CREATE TRIGGER large_insert AFTER INSERT ON large BEGIN
            INSERT INTO _alyx_changes (collection, op, id, old, new)
            VALUES ('large', 2, new.id, new.text, new.text || 'end');
        END;";
    migrate(&store, large).await.expect("a table");
    let text = "ä\"".repeat(200_000);
    let sql = "INSERT INTO large (id, text) VALUES ('a', ?1)";
    let reply = store
        .write(write_of(vec![step(sql, vec![text.as_str().into()])]))
        .await
        .expect("a large row");
    let commits = published.until(reply.position).await;
    let change = &commits.last().expect("a commit").changes[0];
    assert_eq!(change.old.as_deref(), Some(text.as_str()));
    assert_eq!(change.new.as_deref(), Some(format!("{text}end").as_str()));
    let log = store.read_log(Seq(5000), 10).await.expect("the log");
    assert_eq!(log.commits[0].changes[0].old.as_deref(), Some(text.as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_write_reads_is_bounded_and_expected() {
    let server = RemoteBackend::new();
    let (store, _) = with_items(&server).await;
    let expecting = |sql: &str| WriteStep {
        expect: Expect::Row,
        ..step(sql, Vec::new())
    };
    let missing = write_of(vec![
        insert_step("a", 1),
        expecting("SELECT n FROM items WHERE id = 'b'; -- nobody"),
    ]);
    assert_eq!(code(store.write(missing).await), "DOCUMENT_NOT_FOUND");
    let found = write_of(vec![
        insert_step("a", 1),
        expecting("SELECT n FROM items WHERE id = 'a'"),
    ]);
    let reply = store.write(found).await.expect("a write");
    assert_eq!(reply.steps[1].rows, [vec![Value::Int(1)]]);
    let many =
        "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n <= 10000) SELECT n FROM c";
    let over = write_of(vec![insert_step("b", 1), step(many, Vec::new())]);
    assert_eq!(code(store.write(over).await), "RESULT_TOO_LARGE");
    assert_eq!(ids(&store).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_would_delete_unseen_is_refused() {
    let server = RemoteBackend::new();
    let (store, _) = with_items(&server).await;
    let error = write(&store, "REPLACE INTO items (id, n) VALUES ('a', 2)")
        .await
        .expect_err("a refusal");
    assert_eq!(error.code(), "STATEMENT_NOT_ALLOWED");
    assert!(error.message().contains("ON CONFLICT"), "{}", error.message());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_used_says_why() {
    let refused = |url: &str| RemoteOptions {
        open_timeout: Duration::from_millis(300),
        ..RemoteOptions::new(url)
    };
    let open_error = async |options: RemoteOptions| {
        let error = Store::open_remote(options, |_| ()).await.expect_err("no server");
        error.code().to_owned()
    };
    assert_eq!(open_error(refused("nonsense")).await, "DATABASE_URL_INVALID");
    let server = RemoteBackend::new();
    let url = server.url();
    drop(server);
    assert_eq!(open_error(refused(&url)).await, "DATABASE_UNAVAILABLE");
}
