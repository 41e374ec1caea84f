//! Every message of the protocol, in both directions.

use alyx_service::realtime::WindowChange;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::House;
use super::node::doc;

#[tokio::test]
async fn a_subscription_gets_its_snapshot_and_then_its_deltas() {
    let (house, mut node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("sub_1", json!({"sort": ["-id"], "limit": 50}))
        .await;
    let (group, query) = node.opened().await;
    assert_eq!((query.collection.name.as_str(), query.limit), ("notes", 50));
    node.answer(group, 7, &[2, 1]).await;
    assert_eq!(
        peer.snapshot().await,
        json!({
            "id": "sub_1",
            "type": "snapshot",
            "payload": {
                "subscription_id": "sub_1",
                "docs": [{"id": 2, "version": 1}, {"id": 1, "version": 1}],
                "total": 2,
                "seq": 7
            }
        })
    );
    let change = WindowChange {
        inserts: vec![(0, doc(3, 1))],
        updates: vec![(1, doc(1, 2))],
        deletes: vec![2.into()],
        total: 2,
    };
    node.change(group, 7, 9, change).await;
    assert_eq!(
        peer.delta().await,
        json!({
            "type": "delta",
            "payload": {
                "subscription_id": "sub_1",
                "changes": {
                    "inserts": [{"id": 3, "version": 1}],
                    "updates": [{"id": 1, "version": 2}],
                    "deletes": [2]
                },
                "positions": {"inserts": [0], "updates": [1]},
                "total": 2,
                "from": 7,
                "to": 9,
                "seq": 9
            }
        })
    );
}

#[tokio::test]
async fn identical_queries_of_all_sockets_are_one_group() {
    let (house, mut node) = House::open().await;
    let (mut first, mut second) = (house.peer().await, house.peer().await);
    first
        .subscribe("a", json!({"filter": {"text": {"$eq": "x"}}}))
        .await;
    let (group, _) = node.opened().await;
    node.answer(group, 1, &[1]).await;
    let known = first.snapshot().await["payload"]["subscription_id"].clone();
    // Attaches from memory: the node hears nothing of it.
    second
        .subscribe("b", json!({"filter": {"text": "x"}, "limit": 100}))
        .await;
    let attached = second.snapshot().await;
    assert_eq!(
        (&attached["id"], &attached["payload"]["subscription_id"]),
        (&json!("b"), &known)
    );
    node.insert(group, 1, 1, 2).await;
    assert_eq!(first.delta().await, second.delta().await);
    assert_eq!(house.hub.stats().groups, 1);
    // Another query is another group.
    second
        .subscribe("c", json!({"filter": {"text": {"$eq": "y"}}}))
        .await;
    let (other, _) = node.opened().await;
    assert_ne!(other, group);
}

#[tokio::test]
async fn the_same_query_twice_on_a_socket_has_two_ids() {
    let (house, mut node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    peer.subscribe("b", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 1, &[]).await;
    let first = peer.snapshot().await["payload"]["subscription_id"].clone();
    let second = peer.snapshot().await["payload"]["subscription_id"].clone();
    assert_ne!(first, second);
    node.insert(group, 1, 0, 1).await;
    let deltas = [peer.delta().await, peer.delta().await];
    assert_eq!(deltas[0]["payload"]["subscription_id"], first);
    assert_eq!(deltas[1]["payload"]["subscription_id"], second);
    assert_eq!(deltas[0]["payload"]["changes"], deltas[1]["payload"]["changes"]);

    peer.send(json!({"type": "unsubscribe", "payload": {"subscription_id": first}}))
        .await;
    peer.send(json!({"type": "ping"})).await;
    assert_eq!(peer.message().await["type"], "pong");
    node.insert(group, 2, 1, 2).await;
    assert_eq!(peer.delta().await["payload"]["subscription_id"], second);
}

#[tokio::test]
async fn unsubscribing_is_silent_and_ends_the_deltas() {
    let (house, mut node) = House::open().await;
    let (mut leaver, mut stayer) = (house.peer().await, house.peer().await);
    for peer in [&mut leaver, &mut stayer] {
        peer.subscribe("a", json!({})).await;
    }
    let (group, _) = node.opened().await;
    node.answer(group, 1, &[]).await;
    let id = leaver.snapshot().await["payload"]["subscription_id"].clone();
    stayer.snapshot().await;
    leaver
        .send(json!({"id": "x", "type": "unsubscribe", "payload": {"subscription_id": id}}))
        .await;
    leaver
        .send(json!({"id": "y", "type": "unsubscribe", "payload": {"subscription_id": "sub_nobody"}}))
        .await;
    leaver.send(json!({"id": "z", "type": "ping"})).await;
    assert_eq!(leaver.message().await, json!({"id": "z", "type": "pong"}));
    node.insert(group, 1, 0, 1).await;
    stayer.delta().await;
    leaver.send(json!({"type": "ping"})).await;
    assert_eq!(leaver.message().await["type"], "pong");
    assert_eq!(house.hub.stats().subscriptions, 1);
}

#[tokio::test]
async fn a_ping_gets_its_id_back() {
    let (house, _node) = House::open().await;
    let mut peer = house.peer().await;
    peer.send(json!({"id": "3", "type": "ping"})).await;
    assert_eq!(peer.message().await, json!({"id": "3", "type": "pong"}));
    peer.send(json!({"id": 4, "type": "ping", "payload": {}})).await;
    assert_eq!(peer.message().await, json!({"id": 4, "type": "pong"}));
    peer.send(json!({"type": "ping"})).await;
    assert_eq!(peer.message().await, json!({"type": "pong"}));
    peer.send_raw(Message::Ping(Bytes::from_static(b"beat"))).await;
    assert_eq!(
        peer.frame().await,
        Some(Message::Pong(Bytes::from_static(b"beat")))
    );
}

#[tokio::test]
async fn every_broken_message_gets_its_code_and_the_socket_stays() {
    let (house, _node) = House::open().await;
    let mut peer = house.peer().await;
    let subscribe = |payload: serde_json::Value| json!({"id": "1", "type": "subscribe", "payload": payload});
    let cases = [
        (json!({"id": "1", "type": "nope"}), "INVALID_MESSAGE"),
        (json!({"id": "1"}), "INVALID_MESSAGE"),
        (subscribe(json!(null)), "INVALID_PAYLOAD"),
        (subscribe(json!({"sort": ["id"]})), "INVALID_PAYLOAD"),
        (json!({"id": "1", "type": "unsubscribe"}), "INVALID_PAYLOAD"),
        (
            subscribe(json!({"collection": "nothing"})),
            "COLLECTION_NOT_FOUND",
        ),
        (subscribe(json!({"collection": "secrets"})), "FORBIDDEN"),
        (
            subscribe(json!({"collection": "notes", "filter": {"nope": 1}})),
            "INVALID_FILTER",
        ),
        (
            subscribe(json!({"collection": "notes", "filter": {"text": {"$bad": 1}}})),
            "INVALID_FILTER",
        ),
        (
            subscribe(json!({"collection": "notes", "sort": ["nope"]})),
            "INVALID_QUERY",
        ),
        (
            subscribe(json!({"collection": "notes", "limit": "many"})),
            "INVALID_QUERY",
        ),
    ];
    for (message, code) in cases {
        peer.send(message.clone()).await;
        assert_eq!(peer.error().await, (code.to_owned(), json!("1")), "{message}");
    }
    for raw in [Message::text("{not json"), Message::binary(vec![1_u8, 2])] {
        peer.send_raw(raw).await;
        assert_eq!(peer.error().await, ("INVALID_MESSAGE".to_owned(), json!(null)));
    }
    peer.send(json!({"type": "ping"})).await;
    assert_eq!(peer.message().await["type"], "pong");
    assert_eq!(house.hub.stats().groups, 0);
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let (house, _node) = House::open().await;
    let mut peer = house.peer().await;
    peer.socket.close(None).await.expect("the connection is open");
    assert_eq!(peer.close_code().await, Some(1000));
    super::eventually("the connection is forgotten", || {
        house.hub.stats().connections == 0
    })
    .await;
    assert_eq!(house.hub.stats().closes.client, 1);
}

#[tokio::test]
async fn steps_that_come_together_are_one_frame() {
    let (house, mut node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 1, &[]).await;
    peer.snapshot().await;
    // The hub's task does not run between these on a runtime with one thread.
    for (index, id) in [10, 11, 12].into_iter().enumerate() {
        let change = WindowChange {
            inserts: vec![(index, doc(id, 1))],
            total: index as u64 + 1,
            ..WindowChange::default()
        };
        let event = alyx_service::realtime::GroupEvent::Changed {
            group,
            from: alyx_core::Seq(index as u64 + 1),
            to: alyx_core::Seq(index as u64 + 2),
            change: change.into(),
        };
        node.events.try_send(event).expect("room for three");
    }
    let delta = peer.delta().await;
    assert_eq!(
        delta["payload"]["changes"]["inserts"].as_array().map(Vec::len),
        Some(3)
    );
    assert_eq!(
        (&delta["payload"]["from"], &delta["payload"]["to"]),
        (&json!(1), &json!(4))
    );
}
