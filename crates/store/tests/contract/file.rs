//! The file of an embedded store: opening it, and what is in it after the end.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use alyx_core::Seq;
use alyx_service::health::{HealthCheck, Status};
use alyx_store::{EmbeddedOptions, Store};
use tokio::task::JoinSet;

use crate::support::{
    Backend, EmbeddedBackend, Published, Tuning, ids, insert, migrate, replay, with_items, write,
};

fn open_error(path: impl Into<std::path::PathBuf>) -> alyx_core::Error {
    let options = EmbeddedOptions::new(path);
    Store::open_embedded(options, |_| ()).expect_err("it does not open")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_reopening() {
    let backend = EmbeddedBackend::new();
    let (store, _) = with_items(&backend).await;
    let mut tasks = JoinSet::new();
    for turn in 0..40 {
        let store = store.clone();
        tasks.spawn(async move {
            insert(&store, &format!("{turn:02}"), turn)
                .await
                .map(|reply| reply.position)
        });
    }
    let positions: Vec<_> = tasks
        .join_all()
        .await
        .into_iter()
        .map(|answer| answer.expect("a write"))
        .collect();
    drop(store);
    let wal = std::fs::metadata(backend.path().with_extension("db-wal"));
    assert!(
        wal.is_err() || wal.is_ok_and(|wal| wal.len() == 0),
        "everything is in the database itself"
    );
    let (again, follower) = (Published::default(), Published::default());
    let store = backend.open(Tuning::default(), again.follower()).await;
    assert_eq!(ids(&store).await.len(), 40);
    assert_eq!(
        store.position().await.expect("a position"),
        *positions.iter().max().expect("some")
    );
    let reply = insert(&store, "next", 1).await.expect("a write");
    assert_eq!(reply.position, Seq(41));
    assert_eq!(again.until(Seq(41)).await.len(), 1);
    assert!(follower.all().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_in_use_is_refused() {
    let backend = EmbeddedBackend::new();
    let (store, _) = with_items(&backend).await;
    let error = open_error(backend.path());
    assert_eq!(error.code(), "DATABASE_IN_USE");
    assert!(error.message().contains("another server"), "{}", error.message());
    #[cfg(unix)]
    {
        let link = backend.folder().join("link.db");
        std::os::unix::fs::symlink(backend.path(), &link).expect("a link");
        assert_eq!(
            open_error(link).code(),
            "DATABASE_IN_USE",
            "under another name, too"
        );
    }
    insert(&store, "a", 1).await.expect("the first goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_used_says_why() {
    let backend = EmbeddedBackend::new();
    let folder = backend.folder().to_owned();
    let text = folder.join("text.db");
    std::fs::write(&text, "This is no database. ".repeat(100)).expect("a file");
    assert_eq!(open_error(&text).code(), "NOT_A_DATABASE");
    assert!(
        std::fs::read_to_string(&text)
            .expect("a file")
            .starts_with("This is"),
        "left as it was"
    );
    assert_eq!(open_error(&folder).code(), "DATABASE_UNUSABLE");
    let below_a_file = open_error(text.join("alyx.db"));
    assert_eq!(below_a_file.code(), "DATABASE_UNUSABLE");
    assert!(
        below_a_file.message().contains("folder"),
        "{}",
        below_a_file.message()
    );
    assert_eq!(open_error("").code(), "DATABASE_UNUSABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_format_is_left_alone() {
    let backend = EmbeddedBackend::new();
    let (store, _) = with_items(&backend).await;
    write(&store, "UPDATE _alyx_meta SET value = 2 WHERE key = 'format'")
        .await
        .expect("a write");
    drop(store);
    let error = open_error(backend.path());
    assert_eq!(error.code(), "DATABASE_FORMAT_NEWER");
    assert!(error.message().contains("newer"), "{}", error.message());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_goes_on_reading() {
    let backend = EmbeddedBackend::new();
    let (store, published) = with_items(&backend).await;
    insert(&store, "a", 1).await.expect("a write");
    // The database's own bound gives the same result as the disk's.
    migrate(&store, "PRAGMA max_page_count = 1")
        .await
        .expect("a bound");
    let big = "INSERT INTO items (id, n, note) VALUES ('big', 1, hex(zeroblob(100000)))";
    let error = write(&store, big).await.expect_err("a full disk");
    assert_eq!(
        (error.code(), error.kind()),
        ("STORAGE_FULL", alyx_core::ErrorKind::Unavailable)
    );
    assert!(error.retry_after().is_some());
    assert_eq!(ids(&store).await, ["a"]);
    assert_eq!(store.check().await.status, Status::Degraded);
    migrate(&store, "PRAGMA max_page_count = 1000000")
        .await
        .expect("no bound");
    let reply = write(&store, big).await.expect("there is room again");
    assert_eq!(reply.position, Seq(2));
    assert_eq!(
        published.until(Seq(2)).await.len(),
        2,
        "nothing was published that was not stored"
    );
    assert_eq!(store.check().await.status, Status::Healthy);
    store.close().await;
    assert_eq!(store.check().await.status, Status::Unhealthy);
}

/// Set in the child process of the test below: the database's path.
const CHILD: &str = "ALYX_STORE_TEST_CHILD";
const CHILD_CALLERS: usize = 16;

#[test]
fn every_acknowledged_write_survives_kill_9() {
    #[expect(
        clippy::disallowed_methods,
        reason = "how this test tells its child process what to do"
    )]
    if let Ok(path) = std::env::var(CHILD) {
        write_until_killed(&path);
        return;
    }
    let backend = EmbeddedBackend::new();
    for round in 0..3 {
        let acknowledged = run_child_and_kill(&backend, round);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let store = backend
                .open(Tuning::default(), Published::default().follower())
                .await;
            let found = ids(&store).await;
            for id in &acknowledged {
                assert!(
                    found.binary_search(id).is_ok(),
                    "{id} was acknowledged and is lost"
                );
            }
            let logged: usize = replay(&store, Seq(0), 1000)
                .await
                .iter()
                .map(|commit| commit.changes.len())
                .sum();
            assert_eq!(logged, found.len(), "the log has each row");
            assert_eq!(store.position().await.expect("a position").0, found.len() as u64);
        });
    }
}

/// Starts this test again as a process of its own, kills it while it writes, and returns what it acknowledged.
fn run_child_and_kill(backend: &EmbeddedBackend, round: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "file::every_acknowledged_write_survives_kill_9",
            "--nocapture",
        ])
        .env(CHILD, backend.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let mut acknowledged = Vec::new();
    for line in output.lines() {
        let line = line.expect("a line");
        // A line may have been cut off by the end.
        if let Some(id) = line.strip_prefix("ack ").and_then(|id| id.strip_suffix('.')) {
            acknowledged.push(id.to_owned());
        }
        if acknowledged.len() == 200 + 100 * round {
            child.kill().expect("the child is killed");
        }
    }
    child.wait().expect("the child has ended");
    assert!(
        acknowledged.len() >= 200 + 100 * round,
        "the child wrote only {}",
        acknowledged.len()
    );
    acknowledged
}

fn write_until_killed(path: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = Store::open_embedded(EmbeddedOptions::new(path), |_| ()).expect("the store opens");
        if store.position().await.expect("a position") == Seq(0) {
            migrate(&store, crate::support::ITEMS).await.expect("the table");
        }
        let mut tasks = JoinSet::new();
        for caller in 0..CHILD_CALLERS {
            let store = store.clone();
            tasks.spawn(async move {
                // Bounded, in case nobody kills it.
                for turn in 0..2_000 {
                    let id = format!("{}-{caller}-{turn}", std::process::id());
                    insert(&store, &id, turn).await.expect("a write");
                    println!("ack {id}.");
                }
            });
        }
        tasks.join_all().await;
    });
}
