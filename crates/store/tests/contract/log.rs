//! Reading and cutting off the change log.

use std::time::Duration;

use alyx_core::Seq;

use crate::support::{
    Backend, Published, Tuning, eventually, flat, insert, insert_step, migrate, replay, step, with_items,
    write, write_of,
};

pub(crate) async fn the_log_can_be_read_from_any_position(backend: &dyn Backend) {
    let (store, published) = with_items(backend).await;
    for size in [1, 3, 1, 2, 5, 1] {
        let position = store.position().await.expect("a position").0;
        let steps = (0..size)
            .map(|turn| insert_step(&format!("i{position}-{turn}"), turn))
            .collect();
        store.write(write_of(steps)).await.expect("a write");
    }
    let head = store.position().await.expect("a position");
    let commits = published.until(head).await;
    let all: Vec<_> = commits
        .iter()
        .flat_map(|commit| commit.changes.iter().map(flat))
        .collect();
    let ends: Vec<Seq> = commits.iter().map(|commit| commit.position).collect();
    for after in 0..=head.0 + 1 {
        for max_changes in [1, 2, 4, 100] {
            let read = replay(&store, Seq(after), max_changes).await;
            let changes: Vec<_> = read
                .iter()
                .flat_map(|commit| commit.changes.iter().map(flat))
                .collect();
            let expected = all
                .get(usize::try_from(after).expect("small")..)
                .unwrap_or_default();
            assert_eq!(changes, expected, "after {after}, {max_changes} at a time");
            let read_ends: Vec<Seq> = read.iter().map(|commit| commit.position).collect();
            let expected_ends: Vec<Seq> = ends.iter().copied().filter(|end| end.0 > after).collect();
            assert_eq!(read_ends, expected_ends, "after {after}, {max_changes} at a time");
        }
    }
}

pub(crate) async fn a_commit_is_never_split(backend: &dyn Backend) {
    let (store, _) = with_items(backend).await;
    insert(&store, "first", 1).await.expect("a write");
    let steps = (0..50)
        .map(|turn| insert_step(&format!("i{turn}"), turn))
        .collect();
    store.write(write_of(steps)).await.expect("a write");
    insert(&store, "last", 1).await.expect("a write");
    let sizes = async |after: u64, most: usize| -> Vec<usize> {
        let batch = store.read_log(Seq(after), most).await.expect("the log");
        assert_eq!(batch.head, Seq(52));
        batch.commits.iter().map(|commit| commit.changes.len()).collect()
    };
    assert_eq!(sizes(0, 10).await, [1]);
    assert_eq!(sizes(1, 10).await, [50], "larger than asked for, but whole");
    assert_eq!(sizes(1, 51).await, [50, 1]);
    assert_eq!(sizes(51, 10).await, [1]);
    assert_eq!(sizes(52, 10).await, [0_usize; 0]);
}

pub(crate) async fn changes_tell_what_happened(backend: &dyn Backend) {
    let (store, published) = with_items(backend).await;
    insert(&store, "a", 1).await.expect("a write");
    write(&store, "UPDATE items SET n = 2").await.expect("a write");
    write(&store, "UPDATE items SET n = 3 WHERE id = 'nobody'")
        .await
        .expect("a write of nothing");
    let reply = write(&store, "DELETE FROM items").await.expect("a write");
    let commits = published.until(reply.position).await;
    let changes: Vec<_> = commits
        .iter()
        .flat_map(|commit| commit.changes.iter().map(flat))
        .collect();
    let row = |n: i64| Some(format!(r#"{{"id":"a","n":{n}}}"#));
    let expected = [
        (1, "items".to_owned(), 0, None, row(1)),
        (2, "items".to_owned(), 1, row(1), row(2)),
        (3, "items".to_owned(), 2, row(2), None),
    ];
    assert_eq!(changes, expected);
    assert_eq!(commits.len(), 3, "a commit without changes is not published");
}

pub(crate) async fn a_replaced_row_is_deleted_and_inserted(backend: &dyn Backend) {
    let (store, published) = with_items(backend).await;
    insert(&store, "a", 1).await.expect("a write");
    let reply = write(&store, "REPLACE INTO items (id, n) VALUES ('a', 2)")
        .await
        .expect("a write");
    let commits = published.until(reply.position).await;
    let ops: Vec<u8> = commits[1].changes.iter().map(|change| flat(change).2).collect();
    assert_eq!(ops, [2, 0]);
}

/// Writes 40 commits of one change into a log that keeps ten, and waits until it has been cut.
async fn cut_log(backend: &dyn Backend) -> alyx_store::Store {
    let tuning = Tuning {
        log_max_rows: 10,
        ..Tuning::default()
    };
    let store = backend.open(tuning, Published::default().follower()).await;
    migrate(&store, crate::support::ITEMS).await.expect("the table");
    for turn in 0..40 {
        insert(&store, &format!("i{turn}"), turn).await.expect("a write");
    }
    eventually("the log is cut", || {
        (store.stats().horizon == Seq(30)).then_some(())
    })
    .await;
    store
}

pub(crate) async fn the_old_end_is_cut_off_and_the_head_stays(backend: &dyn Backend) {
    let store = cut_log(backend).await;
    let lost = store.read_log(Seq(29), 100).await.expect("the log");
    assert_eq!(
        (lost.commits.len(), lost.horizon, lost.head),
        (0, Seq(30), Seq(40))
    );
    let kept = store.read_log(Seq(30), 100).await.expect("the log");
    assert_eq!(kept.commits.len(), 10);
    assert_eq!(kept.commits[0].first(), Seq(31));
    drop(store);
    let store = backend
        .open(Tuning::default(), Published::default().follower())
        .await;
    let reopened = store.read_log(Seq(30), 100).await.expect("the log");
    assert_eq!((reopened.commits.len(), reopened.horizon), (10, Seq(30)));
    // One commit that is larger than the bound is still the head, and stays.
    drop(store);
    let store = backend
        .open(
            Tuning {
                log_max_rows: 10,
                ..Tuning::default()
            },
            Published::default().follower(),
        )
        .await;
    write(&store, "UPDATE items SET n = 0").await.expect("a write");
    eventually("the log is cut", || {
        (store.stats().horizon == Seq(40)).then_some(())
    })
    .await;
    let kept = store.read_log(Seq(40), 1).await.expect("the log");
    assert_eq!((kept.commits.len(), kept.commits[0].changes.len()), (1, 40));
}

pub(crate) async fn positions_are_not_reused_after_a_cut(backend: &dyn Backend) {
    let store = cut_log(backend).await;
    // Even where somebody empties the log by hand.
    write(&store, "DELETE FROM _alyx_changes WHERE seq > 30")
        .await
        .expect("a write");
    let reply = store
        .write(write_of(vec![step(
            "UPDATE items SET n = 9 WHERE id = 'i0'",
            Vec::new(),
        )]))
        .await
        .expect("a write");
    assert_eq!(reply.position, Seq(41));
}

pub(crate) async fn old_changes_go_by_age(backend: &dyn Backend) {
    let tuning = Tuning {
        log_retention: Duration::ZERO,
        ..Tuning::default()
    };
    let store = backend.open(tuning, Published::default().follower()).await;
    migrate(&store, crate::support::ITEMS).await.expect("the table");
    for turn in 0..5 {
        insert(&store, &format!("i{turn}"), turn).await.expect("a write");
    }
    eventually("the log is cut", || {
        (store.stats().horizon == Seq(4)).then_some(())
    })
    .await;
    let kept = store.read_log(Seq(4), 100).await.expect("the log");
    assert_eq!(kept.commits.len(), 1, "the last commit stays");
}
