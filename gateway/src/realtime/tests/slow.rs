//! Peers that do not read: a bounded amount of memory, a fresh snapshot or a close, and no harm to others.

use alyx_core::Seq;
use alyx_service::realtime::{GroupEvent, WindowChange};
use serde_json::json;

use super::node::big_doc;
use super::{House, eventually};
use crate::realtime::connection::MAX_FRAMES;

/// A connection that holds next to nothing, so that a peer that does not read blocks it at once.
const NARROW: usize = 512;

/// A step that changes the one document of the window.
fn rewrite(size: usize) -> WindowChange {
    WindowChange {
        updates: vec![(0, big_doc(1, size))],
        total: 1,
        ..WindowChange::default()
    }
}

#[tokio::test]
async fn a_peer_that_falls_behind_gets_a_fresh_snapshot_and_others_get_every_step() {
    let (house, mut node) = House::open().await;
    let mut slow = house.peer_with(NARROW).await;
    let mut quick = house.peer().await;
    slow.subscribe("slow", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 1, &[1]).await;
    slow.snapshot().await;
    quick.subscribe("quick", json!({})).await;
    quick.snapshot().await;
    let last = 1 + 2 * MAX_FRAMES as u64;
    for at in 1..last {
        node.change(group, at, at + 1, rewrite(1000)).await;
        // One frame per step: the quick peer reads each before the next.
        assert_eq!(quick.delta().await["payload"]["to"], at + 1);
    }
    assert_eq!(house.hub.stats().overflows, 1);
    let (mut at, mut resets) = (1, 0);
    while at < last {
        let message = slow.message().await;
        let payload = &message["payload"];
        if message["type"] == "snapshot" {
            assert_eq!(payload["reset"], true);
            resets += 1;
        } else {
            assert_eq!(payload["from"], at, "a hole");
        }
        at = payload["seq"].as_u64().expect("a position");
    }
    assert_eq!((at, resets), (last, 1));
    // From here it is like everybody else.
    node.change(group, last, last + 1, rewrite(10)).await;
    assert_eq!(slow.delta().await["payload"]["from"], last);
    assert_eq!(house.hub.stats().resets, 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_closed_as_slow() {
    let (house, mut node) = House::open().await;
    let mut stuck = house.peer_with(NARROW).await;
    let mut quick = house.peer().await;
    stuck.subscribe("a", json!({})).await;
    quick.subscribe("b", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 1, &[1]).await;
    stuck.snapshot().await;
    quick.snapshot().await;
    node.change(group, 1, 2, rewrite(100_000)).await;
    quick.delta().await;
    // Waiting for the quick peer's next ping lets the clock run; the stuck one is gone by then.
    quick.frame().await;
    let stats = house.hub.stats();
    assert_eq!((stats.connections, stats.closes.slow), (1, 1));
    node.change(group, 2, 3, rewrite(10)).await;
    assert_eq!(quick.delta().await["payload"]["to"], 3);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_wakes_up_in_time_sees_why_it_is_closed() {
    let (house, mut node) = House::open().await;
    let mut stuck = house.peer_with(NARROW).await;
    stuck.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 1, &[1]).await;
    stuck.snapshot().await;
    node.change(group, 1, 2, rewrite(100_000)).await;
    tokio::time::sleep(std::time::Duration::from_millis(11_500)).await;
    // The frame that was half out is completed, then comes the close.
    assert_eq!(stuck.delta().await["payload"]["to"], 2);
    assert_eq!(stuck.close_code().await, Some(3008));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_without_reading_holds_itself_back() {
    let (house, mut node) = House::open().await;
    let mut greedy = house.peer_with(NARROW).await;
    greedy.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    let docs = vec![big_doc(1, 200_000)];
    node.send(GroupEvent::Opened {
        group,
        at: Seq(1),
        docs,
        total: 1,
    })
    .await;
    assert_eq!(greedy.snapshot().await["id"], "a");
    let mut asked = 0;
    // Each ask is small and each answer is large; in the end the server stops reading.
    let flood = async {
        loop {
            greedy.subscribe("more", json!({})).await;
            asked += 1;
        }
    };
    let stuck = tokio::time::timeout(std::time::Duration::from_millis(300), flood).await;
    assert!(stuck.is_err());
    assert!(asked < 60, "{asked} snapshots of 200 KB were asked for");
    let mut quick = house.peer().await;
    quick.subscribe("b", json!({})).await;
    assert_eq!(quick.snapshot().await["id"], "b");
    eventually("the greedy one still counts", || {
        house.hub.stats().connections == 2
    })
    .await;
}
