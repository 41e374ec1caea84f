//! What both backends promise.

use alyx_bus::{Bus, Delivery, Follower};
use alyx_store::ChangeOp;

use crate::support::{Nats, Node, commit, commit_of, next, next_commit, text};

/// A backend under test.
trait Backend {
    async fn start() -> Self;
    /// A bus that keeps few commits for slow followers.
    async fn start_small() -> Self;
    fn bus(&self) -> &Bus;
    async fn follow(&self) -> Follower;
}

struct InProcess(Bus);

impl Backend for InProcess {
    async fn start() -> Self {
        Self(Bus::in_process(1024))
    }

    async fn start_small() -> Self {
        Self(Bus::in_process(4))
    }

    fn bus(&self) -> &Bus {
        &self.0
    }

    async fn follow(&self) -> Follower {
        self.0.follow()
    }
}

struct OverNats {
    node: Node,
    _nats: Nats,
}

impl Backend for OverNats {
    async fn start() -> Self {
        let nats = Nats::start().await;
        let node = Node::on(&nats.url());
        Self { node, _nats: nats }
    }

    async fn start_small() -> Self {
        let nats = Nats::start().await;
        let node = Node::with(alyx_bus::NatsOptions {
            follower_buffer: 4,
            ..alyx_bus::NatsOptions::new(nats.url(), "test", "small")
        });
        Self { node, _nats: nats }
    }

    fn bus(&self) -> &Bus {
        &self.node.bus
    }

    async fn follow(&self) -> Follower {
        self.node.follow().await
    }
}

async fn commits_arrive_whole_and_in_order<B: Backend>() {
    let backend = B::start().await;
    let mut follower = backend.follow().await;
    let ops = [ChangeOp::Insert, ChangeOp::Update, ChangeOp::Delete];
    for n in 0..200 {
        backend.bus().publish(commit_of(1 + n * 3, &ops, 40));
    }
    for n in 0..200 {
        let heard = next_commit(&mut follower).await;
        assert_eq!(text(&heard), text(&commit_of(1 + n * 3, &ops, 40)));
    }
    assert!(follower.try_next().is_none());
}

async fn every_follower_hears_what_is_published_after_it_came<B: Backend>() {
    let backend = B::start().await;
    let mut early = backend.follow().await;
    backend.bus().publish(commit(1, 10));
    assert_eq!(next_commit(&mut early).await.position.0, 1);
    let mut late = backend.follow().await;
    backend.bus().publish(commit(2, 10));
    assert_eq!(next_commit(&mut late).await.position.0, 2);
    while !matches!(next(&mut early).await, Delivery::Commit(commit) if commit.position.0 == 2) {}
}

async fn a_commit_of_megabytes_arrives<B: Backend>() {
    let backend = B::start().await;
    let mut follower = backend.follow().await;
    let ops = [ChangeOp::Update; 50];
    let big = commit_of(1, &ops, 60_000);
    backend.bus().publish(big.clone());
    backend.bus().publish(commit(51, 10));
    assert_eq!(text(&next_commit(&mut follower).await), text(&big));
    assert_eq!(next_commit(&mut follower).await.position.0, 51);
}

async fn a_slow_follower_is_told_that_it_lost_something<B: Backend>() {
    let backend = B::start_small().await;
    let mut slow = backend.follow().await;
    let mut quick = backend.follow().await;
    while slow.try_next().is_some() {}
    for seq in 1..=50 {
        backend.bus().publish(commit(seq, 10));
        while !matches!(next(&mut quick).await, Delivery::Commit(commit) if commit.position.0 == seq) {}
    }
    assert!(matches!(next(&mut slow).await, Delivery::Lost));
    let mut last = 0;
    while let Some(delivery) = slow.try_next() {
        match delivery {
            Delivery::Commit(commit) => last = commit.position.0,
            Delivery::Lost => panic!("told twice"),
        }
    }
    assert_eq!(last, 50, "what was kept is delivered");
}

macro_rules! for_both {
    ($($name:ident)*) => {
        mod in_process {
            $(#[tokio::test] async fn $name() { super::$name::<super::InProcess>().await; })*
        }
        mod nats {
            $(#[tokio::test] async fn $name() { super::$name::<super::OverNats>().await; })*
        }
    };
}

for_both! {
    commits_arrive_whole_and_in_order
    every_follower_hears_what_is_published_after_it_came
    a_commit_of_megabytes_arrives
    a_slow_follower_is_told_that_it_lost_something
}
