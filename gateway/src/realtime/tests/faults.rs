//! The node fails, goes away, or starts afresh; the schema changes under live queries.

use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Seq};
use alyx_service::realtime::GroupEvent;
use serde_json::json;

use super::node::doc;
use super::peer::Window;
use super::{House, Limits, SCHEMA, desired};

#[tokio::test]
async fn a_query_that_the_node_refuses_is_an_error_for_all_who_wait() {
    let (house, mut node) = House::open().await;
    let (mut first, mut second) = (house.peer().await, house.peer().await);
    first.subscribe("a", json!({})).await;
    second.subscribe("b", json!({})).await;
    let (group, _) = node.opened().await;
    super::eventually("both wait", || house.hub.stats().subscriptions == 2).await;
    let error = Arc::new(Error::new(ErrorKind::Unavailable, "TOO_MANY_QUERIES", "later"));
    node.send(GroupEvent::Failed { group, error }).await;
    assert_eq!(first.error().await, ("TOO_MANY_QUERIES".to_owned(), json!("a")));
    assert_eq!(second.error().await, ("TOO_MANY_QUERIES".to_owned(), json!("b")));
    super::eventually("nothing is left", || {
        let stats = house.hub.stats();
        stats.subscriptions == 0 && stats.groups == 0
    })
    .await;
    first.subscribe("c", json!({})).await;
    assert_ne!(node.opened().await.0, group);
}

#[tokio::test]
async fn a_live_query_that_fails_names_its_subscription() {
    let (house, mut node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 1, &[]).await;
    let id = peer.snapshot().await["payload"]["subscription_id"].clone();
    let error = Arc::new(Error::internal("the cause stays on the server"));
    node.send(GroupEvent::Failed { group, error }).await;
    let message = peer.message().await;
    assert_eq!(message["payload"]["code"], "INTERNAL_ERROR");
    assert_eq!(message["payload"]["subscription_id"], id);
    assert!(!message.to_string().contains("cause"));
}

#[tokio::test(start_paused = true)]
async fn when_the_node_is_lost_subscribers_get_a_marked_snapshot_from_the_next_one() {
    let (house, mut node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 5, &[1]).await;
    let mut window = Window::default();
    window.take(&peer.snapshot().await);
    *house.service.refusals.lock() = 3;
    drop(node);
    let mut node = house.service.joined().await;
    let (again, _) = node.opened().await;
    assert_ne!(again, group);
    node.answer(again, 9, &[1, 2]).await;
    node.insert(again, 9, 2, 3).await;
    let snapshot = peer.snapshot().await;
    assert_eq!(snapshot["payload"]["reset"], true);
    assert_eq!(snapshot.get("id"), None);
    window.take(&snapshot);
    if window.at == 9 {
        window.take(&peer.delta().await);
    }
    assert_eq!((window.at, window.rows), (10, vec![(1, 1), (2, 1), (3, 1)]));
}

#[tokio::test]
async fn a_fresh_start_of_the_node_is_a_step_for_those_who_are_not_ahead_of_it() {
    let (house, mut node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 5, &[1, 2, 3]).await;
    let mut window = Window::default();
    window.take(&peer.snapshot().await);
    node.answer(group, 50, &[3, 7, 1]).await;
    let delta = peer.delta().await;
    let payload = &delta["payload"];
    assert_eq!((&payload["from"], &payload["to"]), (&json!(5), &json!(50)));
    window.take(&delta);
    assert_eq!(window.rows, vec![(3, 1), (7, 1), (1, 1)]);
    // The same again further on is no news, and the chain has no hole.
    node.answer(group, 60, &[3, 7, 1]).await;
    node.insert(group, 60, 3, 8).await;
    window.take(&peer.delta().await);
    assert_eq!((window.at, window.rows.len()), (61, 4));
}

#[tokio::test]
async fn a_fresh_start_from_before_what_clients_have_resets_them() {
    let (house, mut node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 50, &[1]).await;
    peer.snapshot().await;
    node.answer(group, 5, &[7]).await;
    let snapshot = peer.snapshot().await;
    assert_eq!(
        (&snapshot["payload"]["reset"], &snapshot["payload"]["seq"]),
        (&json!(true), &json!(5))
    );
    node.insert(group, 5, 1, 8).await;
    assert_eq!(peer.delta().await["payload"]["from"], 5);
}

#[tokio::test]
async fn a_hole_in_the_steps_is_healed_by_opening_afresh() {
    let (house, mut node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 5, &[1]).await;
    peer.snapshot().await;
    node.insert(group, 6, 1, 2).await;
    assert_eq!(node.closed().await, group);
    let (again, _) = node.opened().await;
    // Steps of the old name that were under way change nothing.
    node.insert(group, 5, 1, 99).await;
    node.answer(again, 8, &[1, 2]).await;
    let snapshot = peer.snapshot().await;
    assert_eq!(snapshot["payload"]["reset"], true);
    assert_eq!(
        snapshot["payload"]["docs"],
        json!([{"id": 1, "version": 1}, {"id": 2, "version": 1}])
    );
}

#[tokio::test]
async fn a_node_that_is_not_there_yet_is_waited_for() {
    let house = House::new(Limits::default());
    *house.service.refusals.lock() = 2;
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let mut node = house.service.joined().await;
    let (group, _) = node.opened().await;
    node.answer(group, 1, &[]).await;
    assert_eq!(peer.snapshot().await["id"], "a");
}

#[tokio::test]
async fn a_new_schema_reads_live_queries_again() {
    let (house, mut node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({"filter": {"text": "x"}})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 5, &[1]).await;
    let id = peer.snapshot().await["payload"]["subscription_id"].clone();

    let wider = SCHEMA.replace(
        "      done:",
        "      more: {type: string, nullable: true}\n      done:",
    );
    house.state.send_replace(desired(&wider, 2));
    assert_eq!(node.closed().await, group);
    let (again, query) = node.opened().await;
    assert!(query.collection.field("more").is_some());
    let docs = vec![doc(1, 2)];
    node.send(GroupEvent::Opened {
        group: again,
        at: Seq(6),
        docs,
        total: 1,
    })
    .await;
    let snapshot = peer.snapshot().await;
    assert_eq!(
        (
            &snapshot["payload"]["reset"],
            &snapshot["payload"]["subscription_id"]
        ),
        (&json!(true), &id)
    );
    // The same query asked now finds the group that was read again.
    let mut other = house.peer().await;
    other.subscribe("b", json!({"filter": {"text": "x"}})).await;
    assert_eq!(other.snapshot().await["payload"]["subscription_id"], id);
}

#[tokio::test]
async fn what_the_new_schema_does_not_allow_is_ended_with_the_reason() {
    let check = async |schema: &str, code: &str| {
        let (house, mut node) = House::open().await;
        let mut peer = house.peer().await;
        peer.subscribe("a", json!({"filter": {"text": "x"}})).await;
        let (group, _) = node.opened().await;
        node.answer(group, 5, &[1]).await;
        peer.snapshot().await;
        house.state.send_replace(desired(schema, 2));
        assert_eq!(peer.error().await.0, code);
        assert_eq!(node.closed().await, group);
    };
    check(&SCHEMA.replace("notes:", "others:"), "COLLECTION_NOT_FOUND").await;
    check(&SCHEMA.replace("read: true", "read: false"), "FORBIDDEN").await;
    check(&SCHEMA.replace("text:", "title:"), "INVALID_FILTER").await;
}

#[tokio::test]
async fn a_change_of_functions_alone_disturbs_nobody() {
    let (house, mut node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("a", json!({})).await;
    let (group, _) = node.opened().await;
    node.answer(group, 5, &[]).await;
    peer.snapshot().await;
    house.state.send_replace(desired(SCHEMA, 1));
    node.insert(group, 5, 0, 1).await;
    assert_eq!(peer.delta().await["payload"]["to"], 6);
}
