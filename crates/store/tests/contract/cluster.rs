//! Several stores over one server: one writes, the others forward to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result, Seq, Value};
use alyx_rpc::{Security, bind, serve};
use alyx_service::health::{HealthCheck, Status};
use alyx_service::tasks::Tasks;
use alyx_store::{
    ClusterOptions, Commit, GrpcForwarder, RemoteOptions, Store, Write, WriteForwarder, WriteId, WriteReply,
    WriterService, WriterStatus,
};
use async_trait::async_trait;
use tokio::task::JoinSet;

use crate::proxy::Proxy;
use crate::server::RemoteBackend;
use crate::support::{
    Gate, ITEMS, OnCommit, PATIENCE, Published, eventually, ids, insert, insert_step, migrate, replay,
    single, write, write_of,
};

fn security() -> Security {
    Security::new(Some("a token of the cluster that is long enough"), None).expect("a token")
}

/// A store with its listener.
struct Node {
    store: Store,
    tasks: Tasks,
}

impl Node {
    async fn start(server: &RemoteBackend, name: &str, flaky: Option<u64>, on_commit: OnCommit) -> Self {
        Self::start_as(server, (name, true), flaky, on_commit).await
    }

    async fn start_as(
        server: &RemoteBackend,
        (name, may_hold): (&str, bool),
        flaky: Option<u64>,
        on_commit: OnCommit,
    ) -> Self {
        let grpc = GrpcForwarder::new(security());
        let forwarder: Arc<dyn WriteForwarder> = match flaky {
            Some(seed) => Arc::new(Flaky {
                inner: grpc,
                state: AtomicU64::new(seed | 1),
            }),
            None => Arc::new(grpc),
        };
        Self::open(server.options(), (name, may_hold), forwarder, on_commit).await
    }

    async fn open(
        remote: RemoteOptions,
        (name, may_hold): (&str, bool),
        forwarder: Arc<dyn WriteForwarder>,
        on_commit: OnCommit,
    ) -> Self {
        let listener = bind("127.0.0.1:0").await.expect("a port");
        let options = ClusterOptions {
            lease: Duration::from_millis(900),
            may_hold,
            ..ClusterOptions::new(remote, name, listener.local_addr().to_string(), forwarder)
        };
        let store = Store::open_cluster(options, on_commit)
            .await
            .expect("the store opens");
        let tasks = Tasks::new();
        let routes = tonic::service::Routes::new(WriterService::new(store.clone()).into_server());
        serve(listener, &security(), routes, &tasks)
            .await
            .expect("it serves");
        Self { store, tasks }
    }

    fn epoch(&self) -> Option<i64> {
        match self.store.writer() {
            Some(WriterStatus::Here { epoch }) => Some(epoch),
            _ => None,
        }
    }

    async fn until_holder(&self) -> i64 {
        eventually("it is the writer", || self.epoch()).await
    }

    async fn until_follower(&self) {
        eventually("it knows another writer", || {
            matches!(self.store.writer(), Some(WriterStatus::Elsewhere { .. })).then_some(())
        })
        .await;
    }

    async fn stop(self) {
        self.store.close().await;
        assert!(self.tasks.stop(PATIENCE).await);
    }
}

/// Loses requests and, after they were carried out, answers.
struct Flaky {
    inner: GrpcForwarder,
    state: AtomicU64,
}

impl Flaky {
    /// A number below `bound`, by the seed (xorshift).
    fn draw(&self, bound: u64) -> u64 {
        let next = |mut x: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        };
        let before = self
            .state
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |x| Some(next(x)));
        next(before.unwrap_or(1)) % bound
    }
}

#[async_trait]
impl WriteForwarder for Flaky {
    async fn forward(&self, address: &str, write: Write, id: WriteId) -> Result<WriteReply> {
        let lost = || Error::new(ErrorKind::Unavailable, "PEER_UNAVAILABLE", "lost");
        let fate = self.draw(6);
        if fate == 0 {
            return Err(lost());
        }
        let answer = self.inner.forward(address, write, id).await;
        if fate == 1 { Err(lost()) } else { answer }
    }
}

fn ignore() -> OnCommit {
    Box::new(|_: Commit| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_through_every_node_land_in_one_log() {
    let server = RemoteBackend::new();
    let published = [Published::default(), Published::default()];
    let a = Node::start(&server, "a", None, published[0].follower()).await;
    a.until_holder().await;
    let b = Node::start(&server, "b", None, published[1].follower()).await;
    b.until_follower().await;
    migrate(&b.store, ITEMS).await.expect("the table");
    let mut callers = JoinSet::new();
    for caller in 0..32 {
        let store = if caller % 2 == 0 { &a.store } else { &b.store }.clone();
        callers.spawn(async move {
            for turn in 0..10 {
                let id = format!("{caller:02}-{turn}");
                insert(&store, &id, turn).await.expect("a write");
                let sql = format!("SELECT n FROM items WHERE id = '{id}'");
                assert_eq!(single(&store, &sql).await, Value::Int(turn), "seen at once");
            }
        });
    }
    callers.join_all().await;
    let refused = insert(&b.store, "00-0", 1).await.expect_err("it is there");
    assert_eq!(
        (refused.code(), refused.field()),
        ("UNIQUE_VIOLATION", Some("id"))
    );
    let head = b.store.position().await.expect("a position");
    let commits = published[0].until(head).await;
    let seqs: Vec<u64> = commits
        .iter()
        .flat_map(|commit| commit.changes.iter().map(|change| change.seq.0))
        .collect();
    assert_eq!(
        seqs,
        (1..=320).collect::<Vec<u64>>(),
        "all of it, in order, by the holder"
    );
    assert!(published[1].all().is_empty());
    a.stop().await;
    assert_eq!(b.until_holder().await, 2, "handed over");
    insert(&b.store, "last", 1).await.expect("a write");
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_holder_is_replaced_and_cannot_write_any_more() {
    let server = RemoteBackend::new();
    let (gate, follower) = Gate::new(ignore());
    let published = Published::default();
    let a = Node::start(&server, "a", None, follower).await;
    assert_eq!(a.until_holder().await, 1);
    migrate(&a.store, ITEMS).await.expect("the table");
    let b = Node::start(&server, "b", None, published.follower()).await;
    b.until_follower().await;
    gate.close(&a.store).await;
    // It stands still with this write in its queue, and still takes itself for the writer.
    let queued = {
        let store = a.store.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { insert(&store, "queued", 1).await });
        tasks
    };
    let frozen = Instant::now();
    assert_eq!(b.until_holder().await, 2);
    println!("taken over after {:?}", frozen.elapsed());
    assert_eq!(a.epoch(), Some(1));
    insert(&b.store, "by b", 1).await.expect("a write");
    assert_eq!(ids(&b.store).await, ["by b", "gate"]);
    let commits = published.until(Seq(2)).await;
    assert_eq!(
        commits[0].changes[0].seq,
        Seq(1),
        "what the frozen holder may not have published is published by the new one"
    );
    gate.open();
    for answer in queued.join_all().await {
        answer.expect("forwarded in the end");
    }
    a.until_follower().await;
    insert(&a.store, "by a", 1).await.expect("a write");
    assert_eq!(ids(&a.store).await, ["by a", "by b", "gate", "queued"]);
    let log = replay(&a.store, Seq(0), 100).await;
    let changes: usize = log.iter().map(|commit| commit.changes.len()).sum();
    assert_eq!(changes, 4, "each row was written once");
    a.stop().await;
    b.stop().await;
}

/// A way that leads nowhere: the peer cannot be reached, or says nothing.
struct Broken {
    is_silent: bool,
}

#[async_trait]
impl WriteForwarder for Broken {
    async fn forward(&self, _address: &str, _write: Write, _id: WriteId) -> Result<WriteReply> {
        if self.is_silent {
            std::future::pending::<()>().await;
        }
        Err(Error::new(ErrorKind::Unavailable, "PEER_UNAVAILABLE", "cut"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_another_node_cannot_reach_gives_way_to_it() {
    for is_silent in [false, true] {
        let server = RemoteBackend::new();
        let holder = Node::start(&server, "holder", None, ignore()).await;
        assert_eq!(holder.until_holder().await, 1);
        migrate(&holder.store, ITEMS).await.expect("the table");
        let forwarder = Arc::new(Broken { is_silent });
        let node = Node::open(server.options(), ("other", true), forwarder, ignore()).await;
        node.until_follower().await;
        // Its lease is renewed all the time, so that waiting for its end would take for ever.
        insert(&node.store, "by the other", 1).await.expect("a write");
        assert_eq!(node.epoch(), Some(2));
        insert(&holder.store, "by the former holder", 1)
            .await
            .expect("forwarded, as this way is sound");
        assert_eq!(node.epoch(), Some(2));
        holder.until_follower().await;
        assert_eq!(ids(&node.store).await, ["by the former holder", "by the other"]);
        holder.stop().await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_where_forwarding_fails_and_holders_change() {
    const SEED: u64 = 0x5eed_a17e;
    const CALLERS: usize = 8;
    println!("seed {SEED:#x}");
    let server = RemoteBackend::new();
    let a = Node::start(&server, "a", Some(SEED), ignore()).await;
    a.until_holder().await;
    migrate(&a.store, ITEMS).await.expect("the table");
    let b = Node::start(&server, "b", Some(SEED ^ 0xb), ignore()).await;
    let c = Node::start(&server, "c", Some(SEED ^ 0xc), ignore()).await;
    insert(&a.store, "counter", 0).await.expect("a write");
    let done = Arc::new(AtomicBool::new(false));
    let counted = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let store = if caller % 2 == 0 { &b.store } else { &c.store }.clone();
        let (done, counted) = (Arc::clone(&done), Arc::clone(&counted));
        callers.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let add = "UPDATE items SET n = n + 1 WHERE id = 'counter'";
                write(&store, add).await.expect("a write in the end");
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let until = async |more: u64| {
        let target = counted.load(Ordering::Relaxed) + more;
        eventually("writes go on", || {
            (counted.load(Ordering::Relaxed) >= target).then_some(())
        })
        .await;
    };
    until(100).await;
    // The holder leaves; one of those that write takes over in the middle of it.
    a.stop().await;
    until(100).await;
    done.store(true, Ordering::Relaxed);
    callers.join_all().await;
    let counter = single(&b.store, "SELECT n FROM items WHERE id = 'counter'").await;
    let counted = i64::try_from(counted.load(Ordering::Relaxed)).expect("few");
    assert_eq!(counter, Value::Int(counted), "once for each answer");
    b.stop().await;
    c.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_waits_for_a_writer_until_its_deadline() {
    let server = RemoteBackend::new();
    let lonely = Node::start_as(&server, ("lonely", false), None, ignore()).await;
    migrate(&lonely.store, ITEMS)
        .await
        .expect("a migration needs no lease");
    let write = Write {
        deadline: Instant::now() + Duration::from_millis(200),
        ..write_of(vec![insert_step("a", 1)])
    };
    let error = lonely.store.write(write).await.expect_err("nobody writes");
    assert_eq!(
        (error.code(), error.kind()),
        ("WRITER_UNAVAILABLE", ErrorKind::Unavailable)
    );
    assert!(error.retry_after().is_some());
    assert!(ids(&lonely.store).await.is_empty(), "reading goes on");
    assert_eq!(lonely.store.check().await.status, Status::Degraded);
    let waiting = {
        let store = lonely.store.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { insert(&store, "b", 1).await });
        tasks
    };
    let writer = Node::start(&server, "writer", None, ignore()).await;
    for answer in waiting.join_all().await {
        answer.expect("written once there is a writer");
    }
    assert_eq!(lonely.store.check().await.status, Status::Healthy);
    lonely.stop().await;
    writer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_committed_before_its_holder_lost_the_lease_is_not_done_again() {
    let server = RemoteBackend::new();
    let proxy = Proxy::start(server.port()).await;
    let options = RemoteOptions {
        url: proxy.url(),
        // Longer than the lease, which runs out while the holder waits for its answer.
        call_timeout: Duration::from_secs(2),
        ..server.options()
    };
    let forwarder = Arc::new(GrpcForwarder::new(security()));
    let holder = Node::open(options, ("holder", true), forwarder, ignore()).await;
    assert_eq!(holder.until_holder().await, 1);
    migrate(&holder.store, ITEMS).await.expect("the table");
    insert(&holder.store, "counter", 0).await.expect("a row");
    let next = Node::start(&server, "next", None, ignore()).await;
    next.until_follower().await;
    let add = "UPDATE items SET n = n + 1 WHERE id = 'counter'";
    proxy.never_answer("SET n = n + 1");
    let error = write(&holder.store, add).await.expect_err("its answer is lost");
    assert_eq!(error.code(), "WRITE_OUTCOME_UNKNOWN");
    holder.until_follower().await;
    assert_eq!(next.epoch(), Some(2));
    let counter = "SELECT n FROM items WHERE id = 'counter'";
    assert_eq!(single(&next.store, counter).await, Value::Int(1), "done once");
    write(&holder.store, add).await.expect("forwarded");
    assert_eq!(single(&next.store, counter).await, Value::Int(2));
    holder.stop().await;
    next.stop().await;
}

/// Keeps the first answer back until the node that gave it is gone, and then loses it.
struct LosesFirst {
    inner: GrpcForwarder,
    first: AtomicBool,
    carried_out: tokio::sync::watch::Sender<bool>,
    gone: tokio::sync::watch::Receiver<bool>,
}

#[async_trait]
impl WriteForwarder for LosesFirst {
    async fn forward(&self, address: &str, write: Write, id: WriteId) -> Result<WriteReply> {
        let answer = self.inner.forward(address, write, id).await;
        if !self.first.swap(false, Ordering::SeqCst) {
            return answer;
        }
        answer.expect("the first one works");
        self.carried_out.send_replace(true);
        let mut gone = self.gone.clone();
        gone.wait_for(|gone| *gone).await.expect("the test goes on");
        Err(Error::new(ErrorKind::Unavailable, "PEER_UNAVAILABLE", "lost"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_died_with_its_holder_is_not_done_again() {
    for (sql, expected) in [
        ("UPDATE items SET n = n + 1 WHERE id = 'a'", Ok(1)),
        (
            "UPDATE items SET n = n + 1 WHERE id = 'a' RETURNING n",
            Err("WRITE_REPLY_LOST".to_owned()),
        ),
    ] {
        let server = RemoteBackend::new();
        let holder = Node::start(&server, "holder", None, ignore()).await;
        holder.until_holder().await;
        migrate(&holder.store, ITEMS).await.expect("the table");
        insert(&holder.store, "a", 0).await.expect("a row");
        let (carried_out, mut done) = tokio::sync::watch::channel(false);
        let (go, gone) = tokio::sync::watch::channel(false);
        let forwarder = LosesFirst {
            inner: GrpcForwarder::new(security()),
            first: AtomicBool::new(true),
            carried_out,
            gone,
        };
        let options = ClusterOptions {
            may_hold: false,
            ..ClusterOptions::new(server.options(), "follower", "127.0.0.1:1", Arc::new(forwarder))
        };
        let follower = Store::open_cluster(options, ignore()).await.expect("it opens");
        let mut writing = JoinSet::new();
        let writer = follower.clone();
        writing.spawn(async move { write(&writer, sql).await });
        done.wait_for(|done| *done).await.expect("it is forwarded");
        holder.stop().await;
        let next = Node::start(&server, "next", None, ignore()).await;
        go.send_replace(true);
        for answer in writing.join_all().await {
            let answer = answer
                .map(|reply| reply.steps[0].affected)
                .map_err(|error| error.code().to_owned());
            assert_eq!(answer, expected, "{sql}");
        }
        assert_eq!(
            single(&follower, "SELECT n FROM items").await,
            Value::Int(1),
            "{sql}"
        );
        follower.close().await;
        next.stop().await;
    }
}
