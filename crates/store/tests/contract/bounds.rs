//! Deadlines, queues, sizes and defects.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alyx_core::{ErrorKind, Statement, Value};
use alyx_store::{Read, ReadCost, Write};
use tokio::task::JoinSet;

use crate::support::{
    Backend, ITEMS, PATIENCE, Published, Tuning, code, eventually, ids, insert, insert_step, migrate,
    read_of, scan, single, step, with_gate, with_items, write_of,
};

/// A task to be waited for or aborted.
fn background<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    #[expect(clippy::disallowed_methods, reason = "the test waits for its own task")]
    tokio::task::spawn(work)
}

/// Runs until it is stopped.
const ENDLESS: &str =
    "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c";

pub(crate) async fn a_late_write_is_not_carried_out(backend: &dyn Backend) {
    let (store, gate, _) = with_gate(backend, Tuning::default()).await;
    let late = Write {
        deadline: Instant::now(),
        ..write_of(vec![insert_step("late", 1)])
    };
    assert_eq!(code(store.write(late).await), "WRITE_TIMEOUT");
    let deadline = Instant::now() + Duration::from_millis(100);
    let waiting = {
        let store = store.clone();
        let write = Write {
            deadline,
            ..write_of(vec![insert_step("late", 1)])
        };
        background(async move { store.write(write).await })
    };
    // On a machine that is busy enough it is late before it is even queued, and is refused there.
    eventually("the write waits past its deadline", || {
        let waits = store.stats().write_queue == 1;
        (waiting.is_finished() || waits && Instant::now() > deadline).then_some(())
    })
    .await;
    gate.open();
    let error = waiting.await.expect("no panic").expect_err("a late write");
    assert_eq!(
        (error.code(), error.kind()),
        ("WRITE_TIMEOUT", ErrorKind::DeadlineExceeded)
    );
    assert_eq!(ids(&store).await, ["gate"]);
}

pub(crate) async fn an_abandoned_write_is_not_carried_out(backend: &dyn Backend) {
    let (store, gate, _) = with_gate(backend, Tuning::default()).await;
    let abandoned = {
        let store = store.clone();
        background(async move { insert(&store, "abandoned", 1).await })
    };
    eventually("the write waits", || {
        (store.stats().write_queue == 1).then_some(())
    })
    .await;
    abandoned.abort();
    assert!(abandoned.await.is_err_and(|error| error.is_cancelled()));
    gate.open();
    insert(&store, "next", 1).await.expect("a write");
    assert_eq!(ids(&store).await, ["gate", "next"]);
}

pub(crate) async fn a_full_queue_refuses_writes(backend: &dyn Backend) {
    const BOUND: usize = 8;
    let tuning = Tuning {
        write_queue: BOUND,
        ..Tuning::default()
    };
    let (store, gate, _) = with_gate(backend, tuning).await;
    let mut tasks = JoinSet::new();
    for turn in 0..BOUND {
        let store = store.clone();
        tasks.spawn(async move { insert(&store, &format!("i{turn}"), 1).await });
    }
    eventually("the queue is full", || {
        (store.stats().write_queue == BOUND).then_some(())
    })
    .await;
    let error = insert(&store, "one too many", 1).await.expect_err("a full queue");
    assert_eq!(
        (error.code(), error.kind()),
        ("WRITE_QUEUE_FULL", ErrorKind::Unavailable)
    );
    assert!(error.retry_after().is_some());
    gate.open();
    assert!(
        tasks.join_all().await.iter().all(Result::is_ok),
        "those that waited are carried out"
    );
    insert(&store, "later", 1).await.expect("there is room again");
    assert_eq!(ids(&store).await.len(), 1 + BOUND + 1);
}

pub(crate) async fn a_query_over_its_deadline_is_stopped(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    let soon = |sql: &str| Read {
        deadline: Instant::now() + Duration::from_millis(30),
        ..read_of(sql, ReadCost::Scan)
    };
    // More of them than there are readers: some are stopped while running, others are too late when their turn comes.
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let (store, read) = (store.clone(), soon(ENDLESS));
        tasks.spawn(async move { store.read(read).await });
    }
    for answer in tasks.join_all().await {
        let error = answer.expect_err("an endless query");
        assert_eq!(
            (error.code(), error.kind()),
            ("QUERY_TIMEOUT", ErrorKind::DeadlineExceeded)
        );
    }
    assert_eq!(store.stats().read_timeouts, 6);
    // Nothing lingers: the same readers serve what comes next, and see new data.
    insert(&store, "a", 1).await.expect("a write");
    for _ in 0..20 {
        assert_eq!(single(&store, "SELECT count(*) FROM items").await, Value::Int(1));
    }
    store.ping().await.expect("the database answers");
}

pub(crate) async fn a_result_over_the_bound_is_an_error(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    let rows = |count: u64| {
        format!(
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) SELECT n FROM c"
        )
    };
    let reply = scan(&store, &rows(10_000)).await.expect("at the bound");
    assert_eq!(reply.results[0].rows.len(), 10_000);
    for cost in [ReadCost::Point, ReadCost::Scan] {
        let error = store
            .read(read_of(&rows(10_001), cost))
            .await
            .expect_err("over the bound");
        assert_eq!(
            (error.code(), error.kind()),
            ("RESULT_TOO_LARGE", ErrorKind::InvalidInput)
        );
    }
    let wide = rows(80).replace("SELECT n FROM c", &format!("SELECT zeroblob({}) FROM c", 1 << 20));
    assert_eq!(code(scan(&store, &wide).await), "RESULT_TOO_LARGE");
}

pub(crate) async fn a_read_cannot_write(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    for cost in [ReadCost::Point, ReadCost::Scan] {
        let answer = store
            .read(read_of("INSERT INTO items (id, n) VALUES ('a', 1)", cost))
            .await;
        assert_eq!(code(answer), "STATEMENT_NOT_READ_ONLY");
    }
    assert!(ids(&store).await.is_empty());
}

pub(crate) async fn too_many_statements_are_refused(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    let steps = (0..4097)
        .map(|turn| insert_step(&format!("i{turn}"), 1))
        .collect();
    assert_eq!(code(store.write(write_of(steps)).await), "TOO_MANY_STATEMENTS");
    let read = Read {
        statements: vec![Statement::new("SELECT 1", Vec::new()); 65],
        ..read_of("", ReadCost::Scan)
    };
    assert_eq!(code(store.read(read).await), "TOO_MANY_STATEMENTS");
}

pub(crate) async fn a_wrong_number_of_parameters_is_a_defect(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    insert(&store, "a", 1).await.expect("a write");
    let short = step("INSERT INTO items (id, n) VALUES (?1, ?2)", vec!["b".into()]);
    assert_eq!(code(store.write(write_of(vec![short])).await), "INTERNAL_ERROR");
    assert_eq!(
        ids(&store).await,
        ["a"],
        "the number of the call before is not used again"
    );
}

pub(crate) async fn a_follower_that_panics_does_not_stop_the_writer(backend: &dyn Backend) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let follower = move |_| {
        assert_ne!(
            counted.fetch_add(1, Ordering::SeqCst),
            0,
            "panics at the first commit"
        )
    };
    let store = backend.open(Tuning::default(), Box::new(follower)).await;
    migrate(&store, ITEMS).await.expect("the table");
    for turn in 0..3 {
        insert(&store, &format!("i{turn}"), 1).await.expect("a write");
    }
    eventually("all commits are published", || {
        (calls.load(Ordering::SeqCst) == 3).then_some(())
    })
    .await;
}

pub(crate) async fn a_closed_store_says_so(backend: &dyn Backend) {
    let published = Published::default();
    let (store, gate, _) = with_gate(backend, Tuning::default()).await;
    let waiting = {
        let store = store.clone();
        background(async move { insert(&store, "queued", 1).await })
    };
    eventually("the write waits", || {
        (store.stats().write_queue == 1).then_some(())
    })
    .await;
    let closing = {
        let store = store.clone();
        background(async move { store.close().await })
    };
    eventually("the store takes no more work", || {
        let now = std::pin::pin!(store.position());
        let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
        matches!(now.poll(context), std::task::Poll::Ready(Err(_))).then_some(())
    })
    .await;
    gate.open();
    tokio::time::timeout(PATIENCE, closing)
        .await
        .expect("it closes")
        .expect("no panic");
    waiting
        .await
        .expect("no panic")
        .expect("what is queued is carried out");
    assert_eq!(code(insert(&store, "late", 1).await), "STORE_CLOSED");
    for cost in [ReadCost::Point, ReadCost::Scan] {
        assert_eq!(code(store.read(read_of("SELECT 1", cost)).await), "STORE_CLOSED");
    }
    assert_eq!(code(store.position().await), "STORE_CLOSED");
    store.close().await;
    // Another may have it, although the first is still in scope, and finds what was acknowledged.
    let again = backend.open(Tuning::default(), published.follower()).await;
    assert_eq!(ids(&again).await, ["gate", "queued"]);
}

pub(crate) async fn point_reads_beyond_the_connections_are_served(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    insert(&store, "a", 7).await.expect("a write");
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        tasks.spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                for _ in 0..20 {
                    let read = read_of("SELECT n FROM items WHERE id = 'a'", ReadCost::Point);
                    let reply = store.read(read).await.expect("a read");
                    assert_eq!(reply.results[0].rows[0][0], Value::Int(7));
                }
            });
        });
    }
    tasks.join_all().await;
}
