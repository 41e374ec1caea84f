//! Another process writes into the file of an embedded store.

use alyx_core::Seq;

use crate::support::{EmbeddedBackend, flat, insert, replay, with_items};

async fn write_beside(backend: &EmbeddedBackend, sql: &str) {
    let database = libsql::Builder::new_local(backend.path())
        .build()
        .await
        .expect("the file");
    let connection = database.connect().expect("a connection");
    connection
        .busy_timeout(crate::support::PATIENCE)
        .expect("a timeout");
    connection.execute_batch(sql).await.expect("the foreign write");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_writes_are_a_commit_of_their_own() {
    let backend = EmbeddedBackend::new();
    let (store, published) = with_items(&backend).await;
    insert(&store, "a", 1).await.expect("a write");
    write_beside(&backend, "INSERT INTO items (id, n) VALUES ('f1', 1), ('f2', 2)").await;
    assert_eq!(
        store.position().await.expect("a position"),
        Seq(3),
        "seen at once"
    );
    let sizes = async || -> Vec<usize> {
        let commits = replay(&store, Seq(0), 100).await;
        commits.iter().map(|commit| commit.changes.len()).collect()
    };
    assert_eq!(sizes().await, [1, 2], "readable before the next write of our own");
    let reply = insert(&store, "b", 2).await.expect("a write");
    assert_eq!(reply.position, Seq(4));
    let commits = published.until(reply.position).await;
    let seqs: Vec<Vec<u64>> = commits
        .iter()
        .map(|commit| commit.changes.iter().map(|change| flat(change).0).collect())
        .collect();
    assert_eq!(
        seqs,
        [vec![1], vec![2, 3], vec![4]],
        "published ahead of the write that found it"
    );
    assert_eq!(sizes().await, [1, 2, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_writes_between_two_runs_are_a_commit() {
    let backend = EmbeddedBackend::new();
    let (store, _) = with_items(&backend).await;
    insert(&store, "a", 1).await.expect("a write");
    drop(store);
    write_beside(&backend, "INSERT INTO items (id, n) VALUES ('f1', 1), ('f2', 2)").await;
    let (store, published) = {
        let published = crate::support::Published::default();
        let store =
            crate::support::Backend::open(&backend, crate::support::Tuning::default(), published.follower())
                .await;
        (store, published)
    };
    let reply = insert(&store, "b", 2).await.expect("a write");
    assert_eq!(
        published.until(reply.position).await.len(),
        1,
        "what happened before the start is not news"
    );
    let sizes: Vec<usize> = replay(&store, Seq(0), 100)
        .await
        .iter()
        .map(|commit| commit.changes.len())
        .collect();
    assert_eq!(sizes, [1, 2, 1]);
}
