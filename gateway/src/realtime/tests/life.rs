//! Beginnings and ends: of groups, of connections, of the hub. The clock is the test's.

use std::time::{Duration, SystemTime};

use alyx_core::Seq;
use alyx_service::realtime::GroupCommand;
use serde_json::json;
use tokio::time::{Instant, advance};
use tokio_tungstenite::tungstenite::Message;

use super::super::ruled_query::RULES_EVERY;
use super::{House, SCHEMA, desired, eventually};

/// Lets `seconds` pass one by one, as the sweeper counts them.
async fn pass(seconds: u64) {
    for _ in 0..seconds {
        advance(Duration::from_secs(1)).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_without_subscribers_is_kept_for_a_while_and_then_closed() {
    let (house, mut node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 1, &[1]).await;
    peer.snapshot().await;
    drop(peer);
    eventually("the subscriber is gone", || house.hub.stats().subscriptions == 0).await;
    pass(20).await;
    // Steps go on being taken in, so that whoever comes back finds the window of now.
    node.insert(group, 1, 1, 2).await;
    let mut back = house.peer().await;
    back.subscribe("b", json!({})).await;
    let snapshot = back.snapshot().await;
    assert_eq!(
        (&snapshot["payload"]["seq"], &snapshot["payload"]["total"]),
        (&json!(2), &json!(2))
    );
    pass(25).await;
    assert_eq!(house.hub.stats().groups, 1);
    back.socket.close(None).await.expect("the connection is open");
    assert_eq!(back.close_code().await, Some(1000));
    pass(29).await;
    assert!(node.commands.try_recv().is_err());
    pass(2).await;
    assert_eq!(node.closed().await, group);
    assert_eq!(house.hub.stats().groups, 0);
}

#[tokio::test]
async fn a_group_that_nobody_waits_for_any_more_is_closed_at_once() {
    let (house, mut node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    drop(peer);
    assert_eq!(node.closed().await, group);
    // What was under way goes nowhere.
    node.answer(group, 1, &[1]).await;
    let mut other = house.peer().await;
    other.subscribe("a", json!({})).await;
    assert_ne!(node.opened().await.0, group);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_does_not_open_in_time_is_an_error() {
    let (house, mut node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    assert_eq!(
        peer.error().await,
        ("REALTIME_UNAVAILABLE".to_owned(), json!("a"))
    );
    assert_eq!(node.closed().await, group);
    eventually("the place is free", || house.hub.stats().subscriptions == 0).await;
}

#[tokio::test(start_paused = true)]
async fn peers_are_pinged_and_the_silent_ones_dropped() {
    let (house, _node) = House::open().await;
    let start = Instant::now();
    let mut alive = house.peer().await;
    let silent = house.peer().await;
    let mut pings = 0;
    while pings < 5 {
        match alive.frame().await {
            // Reading on sends the pong.
            Some(Message::Ping(_)) => pings += 1,
            other => panic!("{other:?}"),
        }
        if pings < 2 {
            assert_eq!(house.hub.stats().connections, 2);
        }
    }
    let seconds = start.elapsed().as_secs();
    assert!((149..=156).contains(&seconds), "five pings took {seconds} s");
    let stats = house.hub.stats();
    assert_eq!((stats.connections, stats.closes.timeout), (1, 1));
    drop(silent);
}

#[tokio::test]
async fn stopping_closes_every_socket_with_1001_and_ends_all_tasks() {
    let (house, mut node) = House::open().await;
    let mut peers = Vec::new();
    for _ in 0..20 {
        peers.push(house.peer().await);
    }
    peers[0].subscribe("a", json!({})).await;
    node.opened().await;
    let tasks = house.tasks.clone();
    let stopping = tokio::task::spawn_blocking(move || {
        tokio::runtime::Handle::current().block_on(tasks.stop(Duration::from_secs(30)))
    });
    for peer in &mut peers {
        assert_eq!(peer.close_code().await, Some(1001));
    }
    drop(peers);
    assert!(stopping.await.expect("no panic"), "tasks are left over");
    let stats = house.hub.stats();
    assert_eq!(
        (stats.connections, stats.subscriptions, stats.closes.going_away),
        (0, 0, 20)
    );
    assert_eq!(
        house
            .hub
            .admit()
            .err()
            .map(|error| error.code().to_owned())
            .as_deref(),
        Some("SHUTTING_DOWN")
    );
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_peers_that_do_not_answer() {
    let (house, _node) = House::open().await;
    let peer = house.peer().await;
    assert!(house.tasks.stop(Duration::from_secs(10)).await);
    assert_eq!(house.hub.stats().connections, 0);
    drop(peer);
}

#[tokio::test]
async fn nothing_is_left_when_all_have_gone() {
    let (house, mut node) = House::open().await;
    let mut peers = Vec::new();
    for _ in 0..50 {
        let mut peer = house.peer().await;
        peer.subscribe("a", json!({})).await;
        peers.push(peer);
    }
    let (group, _) = node.opened().await;
    node.answer(group, 1, &[1]).await;
    for peer in &mut peers {
        peer.snapshot().await;
    }
    let stats = house.hub.stats();
    assert_eq!(
        (stats.connections, stats.subscriptions, stats.groups),
        (50, 50, 1)
    );
    drop(peers);
    eventually("all are forgotten", || {
        let stats = house.hub.stats();
        stats.connections == 0 && stats.subscriptions == 0
    })
    .await;
    node.insert(group, 1, 1, 2).await;
    let mut peer = house.peer().await;
    peer.subscribe("b", json!({})).await;
    peer.snapshot().await;
}

#[tokio::test(start_paused = true)]
async fn rules_that_look_at_the_time_are_asked_again_and_what_they_change_is_told() {
    let (house, mut node) = House::open().await;
    let timed = SCHEMA
        .replace("text: {type: string}", "at: {type: timestamp}")
        .replace("read: true", "read: doc.at <= now");
    house.state.send_replace(desired(&timed, 2));
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 5, &[1]).await;
    peer.snapshot().await;
    pass(u64::from(RULES_EVERY) + 1).await;
    assert_eq!(node.closed().await, group);
    let GroupCommand::Open { group, have, .. } = node.command().await else {
        panic!("it goes on under another name");
    };
    assert_eq!(have, Some(Seq(5)), "at no earlier position");
    // Whoever comes meanwhile gets the window of before, and what comes of it like the others.
    peer.subscribe("b", json!({})).await;
    assert_eq!(peer.snapshot().await["payload"]["total"], 1);
    node.answer(group, 5, &[1, 2]).await;
    for _ in 0..2 {
        let delta = peer.delta().await;
        let payload = &delta["payload"];
        assert_eq!(payload["changes"]["inserts"][0]["id"], 2, "{delta}");
        assert_eq!(
            (&payload["from"], &payload["to"]),
            (&json!(5), &json!(5)),
            "{delta}"
        );
    }
    node.insert(group, 5, 2, 3).await;
    assert_eq!(peer.delta().await["payload"]["to"], 6);
}

#[tokio::test(start_paused = true)]
async fn rules_that_say_the_same_at_another_time_disturb_nobody() {
    let (house, mut node) = House::open().await;
    let timed = SCHEMA.replace("read: true", "read: doc.done && now > '2000-01-01'");
    house.state.send_replace(desired(&timed, 2));
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 5, &[1]).await;
    peer.snapshot().await;
    pass(3 * u64::from(RULES_EVERY)).await;
    assert!(node.commands.try_recv().is_err());
    node.insert(group, 5, 1, 2).await;
    assert_eq!(peer.delta().await["payload"]["to"], 6);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_rules_come_to_forbid_ends() {
    let (house, mut node) = House::open().await;
    let until = SystemTime::now() + Duration::from_secs(1);
    let rule = format!("read: now < '{}'", alyx_core::format_timestamp(until));
    house
        .state
        .send_replace(desired(&SCHEMA.replace("read: true", &rule), 2));
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 5, &[1]).await;
    peer.snapshot().await;
    eventually("the time has come", || SystemTime::now() > until).await;
    pass(u64::from(RULES_EVERY) + 1).await;
    assert_eq!(peer.error().await.0, "FORBIDDEN");
    assert_eq!(node.closed().await, group);
    assert_eq!(house.hub.stats().groups, 0);
}
