//! Many clients come at random moments of a storm of commits: what each of them mirrors is the truth at every
//! position that it reaches.

use alyx_core::Seq;
use alyx_service::realtime::GroupEvent;
use serde_json::json;

use super::node::Truth;
use super::peer::Window;
use super::{House, Limits};

const CLIENTS: usize = 200;
const COMMITS: usize = 1500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_joins_whenever_mirrors_the_truth() {
    for (seed, room) in [(0x9E37_79B9_7F4A_7C15, 1 << 20), (0xD1B5_4A32_D192_ED03, 2048)] {
        storm(seed, room).await;
    }
}

async fn storm(seed: u64, room: usize) {
    let house = House::new(Limits::default());
    let mut node = house.service.joined().await;
    let mut truth = Truth::new(20, seed);
    let mut first = house.peer().await;
    first.subscribe("first", json!({})).await;
    let (group, _) = node.opened().await;
    let (docs, total) = (truth.docs(), truth.rows.len() as u64);
    node.send(GroupEvent::Opened {
        group,
        at: Seq(1),
        docs,
        total,
    })
    .await;
    first.snapshot().await;
    drop(first);

    let mut clients = tokio::task::JoinSet::new();
    let (done, watch) = tokio::sync::watch::channel(0_u64);
    for commit in 0..COMMITS {
        if commit % (COMMITS / CLIENTS) == 0 && clients.len() < CLIENTS {
            let (client, server) = tokio::io::duplex(room);
            house.serve(server);
            let (watch, patience) = (watch.clone(), truth.below(3));
            clients.spawn(async move { follow(client, watch, patience).await });
        }
        let (from, to, change) = truth.commit();
        node.change(group, from, to, change).await;
        if truth.below(20) == 0 {
            tokio::task::yield_now().await;
        }
    }
    done.send_replace(truth.at);
    let mut total_steps = 0;
    while let Some(seen) = clients.join_next().await {
        let seen = seen.expect("no client panicked");
        for window in &seen {
            assert_eq!(
                Some(&window.rows),
                truth.history.get(&window.at),
                "at {}",
                window.at
            );
        }
        assert_eq!(seen.last().map(|window| window.at), Some(truth.at));
        total_steps += seen.len();
    }
    assert!(total_steps > CLIENTS, "only {total_steps} steps were seen");
}

/// Subscribes once or twice and follows until the window is where the storm ended; every state on the way.
async fn follow(
    client: tokio::io::DuplexStream,
    mut done: tokio::sync::watch::Receiver<u64>,
    patience: usize,
) -> Vec<Window> {
    let mut peer = super::Peer::new(client).await;
    assert_eq!(peer.message().await["type"], "connected");
    let (mut window, mut seen) = (Window::default(), Vec::new());
    peer.subscribe("me", json!({})).await;
    let mut known = None;
    loop {
        let message = peer.message().await;
        let id = message["payload"]["subscription_id"].clone();
        window.take(&message);
        seen.push(window.clone());
        if known.is_none() && patience == 1 {
            // Leaves and comes back: what was under way for the old subscription does not disturb the new one.
            peer.send(json!({"type": "unsubscribe", "payload": {"subscription_id": id}}))
                .await;
            peer.subscribe("again", json!({})).await;
        }
        known = Some(id);
        let end = *done.borrow_and_update();
        if end > 0 && window.at == end {
            return seen;
        }
    }
}
