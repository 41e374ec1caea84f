//! The order of commits, and reads against it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alyx_core::{Seq, Value};
use alyx_store::{ChangeOp, Commit, ReadCost, ReadReply, Store};
use tokio::task::JoinSet;

use crate::support::{
    Backend, insert, insert_step, read_of, replay, scan, step, with_items, write, write_of,
};

const WRITERS: usize = 64;
const WRITES_EACH: usize = 20;
const ACCOUNTS: i64 = 8;
const TOTAL: i64 = ACCOUNTS * 100;

/// 64 callers write; returns what each write's reply said.
async fn write_from_many(store: &Store) -> BTreeMap<String, Seq> {
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        tasks.spawn(async move {
            let mut replies = Vec::new();
            for turn in 0..WRITES_EACH {
                let id = format!("{writer:02}-{turn:02}");
                let mut steps = vec![insert_step(&id, 1)];
                if turn % 5 == 0 {
                    steps.push(insert_step(&format!("{id}-more"), 2));
                }
                let reply = store.write(write_of(steps)).await.expect("a write");
                replies.push((id, reply.position));
            }
            replies
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

fn assert_gapless(commits: &[Commit]) {
    let mut next = 1;
    for commit in commits {
        assert_eq!(commit.first().0, next);
        for change in commit.changes.iter() {
            assert_eq!(change.seq.0, next);
            next += 1;
        }
        assert_eq!(commit.position.0 + 1, next);
    }
}

pub(crate) async fn commits_are_published_in_log_order_without_gaps(backend: &dyn Backend) {
    let (store, published) = with_items(backend).await;
    write_from_many(&store).await;
    let head = store.position().await.expect("a position");
    let commits = published.until(head).await;
    assert_gapless(&commits);
    let changes: usize = commits.iter().map(|commit| commit.changes.len()).sum();
    assert_eq!(changes, WRITERS * (WRITES_EACH + WRITES_EACH / 5));
    assert!(commits.len() < changes, "writers share commits");
}

pub(crate) async fn a_reply_names_the_commit_that_holds_the_write(backend: &dyn Backend) {
    let (store, published) = with_items(backend).await;
    let replies = write_from_many(&store).await;
    let commits = published.until(store.position().await.expect("a position")).await;
    let mut found = 0;
    for commit in &commits {
        for change in commit.changes.iter() {
            let new = change.new.as_deref().expect("an insert");
            let id = new.split('"').nth(3).expect("an id");
            if let Some(position) = replies.get(id) {
                assert_eq!(*position, commit.position, "{id}");
                found += 1;
            }
        }
    }
    assert_eq!(found, replies.len());
}

pub(crate) async fn a_write_is_seen_by_the_reads_after_it(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    for turn in 0..50 {
        let id = format!("i{turn}");
        let written = insert(&store, &id, turn).await.expect("a write");
        let sql = format!("SELECT n FROM items WHERE id = '{id}'");
        for cost in [ReadCost::Point, ReadCost::Scan] {
            let reply = store.read(read_of(&sql, cost)).await.expect("a read");
            assert_eq!(reply.results[0].rows, [vec![Value::Int(turn)]], "{cost:?}");
            assert_eq!(reply.results[0].affected, 0);
            let position = if cost == ReadCost::Point {
                Seq(0)
            } else {
                written.position
            };
            assert_eq!(reply.position, position);
        }
        assert_eq!(store.position().await.expect("a position"), written.position);
    }
}

pub(crate) async fn a_snapshot_equals_the_log_up_to_its_position(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    let accounts = (0..ACCOUNTS)
        .map(|account| insert_step(&format!("a{account}"), 100))
        .collect();
    store.write(write_of(accounts)).await.expect("the accounts");
    let done = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..8_i64 {
        let store = store.clone();
        writers.spawn(async move {
            for turn in 0..60 {
                let add = |account: i64, amount: i64| {
                    let sql = "UPDATE items SET n = n + ?2 WHERE id = ?1";
                    step(
                        sql,
                        vec![format!("a{}", account % ACCOUNTS).into(), amount.into()],
                    )
                };
                let transfer = vec![add(writer + turn, -1), add(writer * turn + 3, 1)];
                store.write(write_of(transfer)).await.expect("a transfer");
            }
        });
    }
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        let (store, done) = (store.clone(), Arc::clone(&done));
        readers.spawn(async move {
            let mut snapshots = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let mut read = read_of("SELECT id, n FROM items ORDER BY id", ReadCost::Scan);
                read.statements
                    .push(alyx_core::Statement::new("SELECT sum(n) FROM items", Vec::new()));
                snapshots.push(store.read(read).await.expect("a snapshot"));
            }
            snapshots
        });
    }
    writers.join_all().await;
    done.store(true, Ordering::Relaxed);
    let mut snapshots: Vec<_> = readers.join_all().await.into_iter().flatten().collect();
    snapshots.push(
        scan(&store, "SELECT id, n FROM items ORDER BY id")
            .await
            .expect("the end"),
    );
    snapshots.sort_by_key(|snapshot| snapshot.position);

    assert_follows_the_log(&replay(&store, Seq(0), 100).await, &snapshots);
    write(&store, "DELETE FROM items")
        .await
        .expect("the store still works");
}

/// Each snapshot is what the changes up to its position add up to.
fn assert_follows_the_log(log: &[Commit], snapshots: &[ReadReply]) {
    let mut states = log.iter().peekable();
    let mut state: BTreeMap<String, i64> = BTreeMap::new();
    for snapshot in snapshots {
        while let Some(commit) = states.next_if(|commit| commit.position <= snapshot.position) {
            for change in commit.changes.iter() {
                assert_ne!(change.op, ChangeOp::Delete);
                let new = change.new.as_deref().expect("a row");
                let id = new.split('"').nth(3).expect("an id").to_owned();
                let n = new.rsplit(':').next().expect("a number").trim_end_matches('}');
                state.insert(id, n.parse().expect("a number"));
            }
        }
        let rows: BTreeMap<String, i64> = snapshot.results[0]
            .rows
            .iter()
            .map(|row| {
                (
                    row[0].as_text().expect("an id").to_owned(),
                    row[1].as_int().expect("a number"),
                )
            })
            .collect();
        assert_eq!(rows, state, "at {}", snapshot.position);
        assert_eq!(rows.values().sum::<i64>(), TOTAL);
        if let Some(sum) = snapshot.results.get(1) {
            assert_eq!(sum.rows[0][0], Value::Int(TOTAL), "both statements see one state");
        }
    }
}
