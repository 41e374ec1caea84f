//! A way to open a store, a table with the change log's triggers, and short forms of what tests do with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Result, Seq, Statement, Value};
use alyx_store::{
    Change, Commit, EmbeddedOptions, Expect, Read, ReadCost, ReadReply, Store, Write, WriteReply, WriteStep,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use tempfile::TempDir;

/// What a test may want to be different.
#[derive(Debug, Clone)]
pub(crate) struct Tuning {
    pub(crate) write_queue: usize,
    pub(crate) log_max_rows: u64,
    pub(crate) log_retention: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            write_queue: 4096,
            log_max_rows: 1_000_000,
            log_retention: Duration::from_secs(3600),
        }
    }
}

/// Called with every commit.
pub(crate) type OnCommit = Box<dyn Fn(Commit) + Send + Sync>;

/// A way to open a store. Opening again opens the same database.
#[async_trait]
pub(crate) trait Backend: Sync {
    async fn open(&self, tuning: Tuning, on_commit: OnCommit) -> Store;
}

/// A file in a folder of its own.
pub(crate) struct EmbeddedBackend {
    folder: TempDir,
}

impl EmbeddedBackend {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("data/alyx.db")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

#[async_trait]
impl Backend for EmbeddedBackend {
    async fn open(&self, tuning: Tuning, on_commit: OnCommit) -> Store {
        let options = EmbeddedOptions {
            write_queue: tuning.write_queue,
            log_max_rows: tuning.log_max_rows,
            log_retention: tuning.log_retention,
            ..EmbeddedOptions::new(self.path())
        };
        Store::open_embedded(options, on_commit).expect("the store opens")
    }
}

/// Commits as they were published.
#[derive(Clone, Default)]
pub(crate) struct Published(Arc<Mutex<Vec<Commit>>>);

impl Published {
    pub(crate) fn follower(&self) -> OnCommit {
        let commits = Arc::clone(&self.0);
        Box::new(move |commit| commits.lock().push(commit))
    }

    pub(crate) fn all(&self) -> Vec<Commit> {
        self.0.lock().clone()
    }

    /// Waits until the commit at `position` is published: replies come first.
    pub(crate) async fn until(&self, position: Seq) -> Vec<Commit> {
        eventually("the commit is published", || {
            let commits = self.all();
            commits
                .last()
                .is_some_and(|commit| commit.position >= position)
                .then_some(commits)
        })
        .await
    }
}

/// A follower that holds the writer up, so that what is written meanwhile becomes one group.
pub(crate) struct Gate {
    open: std::sync::mpsc::Sender<()>,
    reached: std::sync::mpsc::Receiver<()>,
}

impl Gate {
    /// The gate, and a follower that stops at the first commit until the gate is opened.
    pub(crate) fn new(after: OnCommit) -> (Self, OnCommit) {
        let (open, opened) = std::sync::mpsc::channel();
        let (reach, reached) = std::sync::mpsc::channel();
        let stop = Mutex::new(Some((reach, opened)));
        let follower: OnCommit = Box::new(move |commit| {
            let first = stop.lock().take();
            if let Some((reach, opened)) = first {
                let _ = reach.send(());
                let _ = opened.recv();
            }
            after(commit);
        });
        (Self { open, reached }, follower)
    }

    /// Writes something and returns once the writer stands at the gate.
    pub(crate) async fn close(&self, store: &Store) {
        insert(store, "gate", 0).await.expect("the first write");
        let waited = tokio::task::block_in_place(|| self.reached.recv_timeout(PATIENCE));
        waited.expect("the writer reaches the gate");
    }

    pub(crate) fn open(&self) {
        self.open.send(()).expect("the writer waits at the gate");
    }
}

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition; panics with its name where it does not come true.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A tracked table, as migrations make them.
pub(crate) const ITEMS: &str = "
CREATE TABLE items (id TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL, note TEXT);
CREATE TRIGGER items_insert AFTER INSERT ON items BEGIN
    INSERT INTO _alyx_changes (collection, op, id, new)
    VALUES ('items', 1, new.id, json_object('id', new.id, 'n', new.n));
END;
CREATE TRIGGER items_update AFTER UPDATE ON items BEGIN
    INSERT INTO _alyx_changes (collection, op, id, old, new)
    VALUES ('items', 2, new.id, json_object('id', old.id, 'n', old.n), json_object('id', new.id, 'n', new.n));
END;
CREATE TRIGGER items_delete AFTER DELETE ON items BEGIN
    INSERT INTO _alyx_changes (collection, op, id, old)
    VALUES ('items', 3, old.id, json_object('id', old.id, 'n', old.n));
END;";

/// A store with the table `items`, and its published commits.
pub(crate) async fn with_items(backend: &dyn Backend) -> (Store, Published) {
    let published = Published::default();
    let store = backend.open(Tuning::default(), published.follower()).await;
    migrate(&store, ITEMS).await.expect("the table is created");
    (store, published)
}

/// The same with the writer held up at a gate; opened, everything written meanwhile is one group.
pub(crate) async fn with_gate(backend: &dyn Backend, tuning: Tuning) -> (Store, Gate, Published) {
    let published = Published::default();
    let (gate, follower) = Gate::new(published.follower());
    let store = backend.open(tuning, follower).await;
    migrate(&store, ITEMS).await.expect("the table is created");
    gate.close(&store).await;
    (store, gate, published)
}

pub(crate) async fn migrate(store: &Store, sql: &str) -> Result<Seq> {
    store.migrate(vec![Statement::new(sql, Vec::new())]).await
}

pub(crate) fn step(sql: &str, params: Vec<Value>) -> WriteStep {
    WriteStep {
        statement: Statement::new(sql, params),
        expect: Expect::Any,
    }
}

pub(crate) fn write_of(steps: Vec<WriteStep>) -> Write {
    Write {
        steps,
        deadline: Instant::now() + PATIENCE,
    }
}

pub(crate) async fn write(store: &Store, sql: &str) -> Result<WriteReply> {
    store.write(write_of(vec![step(sql, Vec::new())])).await
}

pub(crate) fn insert_step(id: &str, n: i64) -> WriteStep {
    step(
        "INSERT INTO items (id, n) VALUES (?1, ?2)",
        vec![id.into(), n.into()],
    )
}

pub(crate) async fn insert(store: &Store, id: &str, n: i64) -> Result<WriteReply> {
    store.write(write_of(vec![insert_step(id, n)])).await
}

pub(crate) fn read_of(sql: &str, cost: ReadCost) -> Read {
    Read {
        statements: vec![Statement::new(sql, Vec::new())],
        cost,
        deadline: Instant::now() + PATIENCE,
    }
}

pub(crate) async fn scan(store: &Store, sql: &str) -> Result<ReadReply> {
    store.read(read_of(sql, ReadCost::Scan)).await
}

/// The ids in `items`, sorted.
pub(crate) async fn ids(store: &Store) -> Vec<String> {
    let reply = scan(store, "SELECT id FROM items ORDER BY id")
        .await
        .expect("the ids");
    reply.results[0]
        .rows
        .iter()
        .map(|row| row[0].as_text().expect("an id").to_owned())
        .collect()
}

/// The first value of the first row.
pub(crate) async fn single(store: &Store, sql: &str) -> Value {
    let reply = scan(store, sql).await.expect("a value");
    reply.results[0].rows[0][0].clone()
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("an error").code().to_owned()
}

/// All commits after `after`, in as many reads as it takes.
pub(crate) async fn replay(store: &Store, after: Seq, max_changes: usize) -> Vec<Commit> {
    let mut commits: Vec<Commit> = Vec::new();
    loop {
        let position = commits.last().map_or(after, |commit| commit.position);
        let batch = store.read_log(position, max_changes).await.expect("the log");
        if batch.commits.is_empty() {
            assert_eq!(position, batch.head.max(after), "nothing is left out");
            return commits;
        }
        commits.extend(batch.commits);
    }
}

/// A change without its shared parts, to compare.
pub(crate) fn flat(change: &Change) -> (u64, String, u8, Option<String>, Option<String>) {
    (
        change.seq.0,
        change.collection.to_string(),
        change.op as u8,
        change.old.as_deref().map(str::to_owned),
        change.new.as_deref().map(str::to_owned),
    )
}
