//! One node, or several that stay: what is asked, told, shared and held back.

use std::sync::Arc;
use std::time::Duration;

use alyx_realtime_node::Limits;
use alyx_service::health::{HealthCheck as _, Status};
use alyx_service::realtime::{GroupEvent, GroupId};
use serde_json::json;

use crate::support::{SCHEMA, World, delete, eventually, insert, schema, set_rank, set_title};

#[tokio::test]
async fn a_live_query_follows_every_change_over_the_wire() {
    let world = World::new().await;
    let node = world.node("n1").await;
    world.list(&[&node]);
    world
        .write(vec![
            insert(1, "a", Some(10)),
            insert(2, "b", Some(20)),
            insert(3, "a", Some(30)),
        ])
        .await;
    let query = world.query(&json!({"filter": {"room": "a"}, "sort": "rank"}));
    let mut gateway = world.gateway().await;
    gateway.open(7, &query).await;
    let GroupEvent::Opened {
        group, docs, total, ..
    } = gateway.next().await
    else {
        panic!("a group begins with its window");
    };
    assert_eq!((group, docs.len(), total), (GroupId(7), 2, 2));
    assert_eq!(
        docs[0].json,
        r#"{"id":1,"room":"a","rank":10,"done":false,"title":"new"}"#
    );
    world
        .write(vec![insert(4, "a", Some(20)), insert(5, "b", None)])
        .await;
    let GroupEvent::Changed { change, .. } = gateway.next().await else {
        panic!("a change follows");
    };
    assert_eq!(
        (change.inserts[0].0, change.inserts.len(), change.total),
        (1, 1, 3)
    );
    world.write(vec![set_rank(1, Some(99))]).await;
    let GroupEvent::Changed { change, .. } = gateway.next().await else {
        panic!("a change follows");
    };
    assert_eq!((change.updates[0].0, change.updates.len()), (2, 1));
    world.write(vec![delete(3)]).await;
    gateway.next().await;
    gateway.settles(&world, 7, &query).await;
    assert_eq!(gateway.mirror(7).opened, 1);

    gateway.close(7).await;
    let unused = || {
        let stats = node.node.stats();
        if stats.groups == 0 {
            Ok(())
        } else {
            Err(format!("{stats:?}"))
        }
    };
    eventually("the node forgets the group", unused).await;
}

#[tokio::test]
async fn gateways_share_one_evaluation_of_a_query() {
    let world = World::new().await;
    let nodes = [world.node("n1").await, world.node("n2").await];
    world.list(&[&nodes[0], &nodes[1]]);
    let (mut one, mut two) = (world.gateway().await, world.gateway().await);
    let same = [
        world.query(&json!({"filter": {"room": "a", "done": false}})),
        world.query(&json!({"filter": {"$and": [{"done": false}, {"room": "a"}]}})),
    ];
    one.open(1, &same[0]).await;
    one.until("it is opened", |gateway| gateway.mirror(1).opened > 0)
        .await;
    two.open(9, &same[1]).await;
    two.until("it is opened", |gateway| gateway.mirror(9).opened > 0)
        .await;
    let shared = || {
        let stats = nodes.each_ref().map(|node| node.node.stats());
        let count = |which: fn(&alyx_realtime_node::Stats) -> usize| stats.iter().map(which).sum::<usize>();
        let seen = (count(|stats| stats.groups), count(|stats| stats.subscriptions));
        if seen == (1, 2) {
            Ok(stats)
        } else {
            Err(format!("{seen:?}"))
        }
    };
    let stats = eventually("one group with two members", shared).await;
    assert_eq!(stats.iter().map(|stats| stats.snapshots).sum::<u64>(), 1);
    world.write(vec![insert(1, "a", None)]).await;
    one.settles(&world, 1, &same[0]).await;
    two.settles(&world, 9, &same[0]).await;
    assert_eq!(
        nodes
            .iter()
            .map(|node| node.node.stats().transitions)
            .sum::<u64>(),
        1
    );
}

#[tokio::test]
async fn a_query_that_cannot_be_served_fails_with_its_reason() {
    let world = World::new().await;
    let node = world.node("n1").await;
    world.list(&[&node]);
    let mut gateway = world.gateway().await;
    gateway.open(1, &world.query(&json!({"offset": 100_000}))).await;
    gateway
        .until("it fails", |gateway| gateway.mirror(1).failed.is_some())
        .await;
    assert_eq!(gateway.mirror(1).failed.as_deref(), Some("WINDOW_TOO_LARGE"));
}

#[tokio::test]
async fn a_node_that_has_not_heard_of_a_field_yet_is_asked_again() {
    let world = World::new().await;
    let node = world.node("n1").await;
    world.list(&[&node]);
    world.write(vec![insert(1, "a", None)]).await;
    let wider = schema(&SCHEMA.replace(
        "      rank:",
        "      color: {type: string, default: red}\n      rank:",
    ));
    let collection = Arc::clone(wider.collection("tasks").expect("it is declared"));
    let mut sql = alyx_schema::drop_triggers(&collection);
    sql.push("ALTER TABLE tasks ADD COLUMN color TEXT NOT NULL DEFAULT 'red'".to_owned());
    sql.extend(alyx_schema::triggers(&collection));
    let steps = sql
        .into_iter()
        .map(|sql| alyx_core::Statement::new(sql, Vec::new()));
    world
        .store
        .migrate(steps.collect())
        .await
        .expect("the migration is right");

    world.serve(1, 2, &wider);
    let mut gateway = world.gateway().await;
    let query = alyx_query::parse_query_json(&collection, &json!({"filter": {"color": "red"}}));
    gateway
        .open(1, &Arc::new(query.expect("the query is right")))
        .await;
    assert!(gateway.next_within(Duration::from_millis(300)).await.is_none());
    world.serve(0, 2, &wider);
    gateway
        .until("it is opened", |gateway| gateway.mirror(1).opened > 0)
        .await;
    let expected = r#"{"id":1,"room":"a","color":"red","rank":null,"done":false,"title":"new"}"#;
    assert_eq!(gateway.mirror(1).json(), [expected]);
}

#[tokio::test]
async fn a_gateway_that_stands_still_costs_a_bounded_amount_and_gets_its_windows_later() {
    let world = World::new().await;
    let limits = Limits {
        link_events: 64,
        ..Limits::default()
    };
    let node = world.node_with("n1", limits).await;
    world.list(&[&node]);
    world
        .write((1..=20).map(|id| insert(id, "a", Some(id))).collect())
        .await;
    let query = world.query(&json!({"sort": "rank"}));
    let (mut slow, mut fast) = (world.gateway().await, world.gateway().await);
    slow.open(1, &query).await;
    slow.until("it is opened", |gateway| gateway.mirror(1).opened > 0)
        .await;
    fast.open(1, &query).await;
    fast.until("it is opened", |gateway| gateway.mirror(1).opened > 0)
        .await;
    let mut sent = 0;
    for turn in 0..500_u32 {
        let title = format!("{turn}{}", "x".repeat(60_000));
        sent += title.len();
        let id = i64::from(turn % 20) + 1;
        world.write(vec![set_title(id, title)]).await;
        let news = format!("\"title\":\"{turn}x");
        fast.until("the change is told", |gateway| {
            let docs = &gateway.mirror(1).docs;
            docs.iter().any(|(_, json)| json.contains(&news))
        })
        .await;
    }
    assert_eq!(
        fast.mirror(1).opened,
        1,
        "the other one does not hold this one up"
    );
    // Far more than credit, the link's bounds and all buffers hold.
    assert!(sent > 25_000_000);
    slow.settles(&world, 1, &query).await;
    assert!(
        slow.mirror(1).opened > 1,
        "what did not fit was told as one window"
    );
    assert_eq!(slow.mirror(1).went_back, 0);
    world.write(vec![delete(1), delete(2)]).await;
    slow.settles(&world, 1, &query).await;
}

#[tokio::test]
async fn windows_that_are_longer_than_a_message_arrive_whole() {
    let world = World::new().await;
    let node = world.node("n1").await;
    world.list(&[&node]);
    for id in 1..=30 {
        world
            .write(vec![
                insert(id, "a", Some(id)),
                set_title(id, "é".repeat(250_000)),
            ])
            .await;
    }
    let query = world.query(&json!({"sort": "-rank"}));
    let mut gateway = world.gateway().await;
    gateway.open(1, &query).await;
    gateway.settles(&world, 1, &query).await;
    world
        .write((1..=30).map(|id| set_rank(id, Some(-id))).collect())
        .await;
    gateway.settles(&world, 1, &query).await;
    assert_eq!(gateway.mirror(1).opened, 1);
}

#[tokio::test]
async fn live_queries_wait_for_the_first_node() {
    let world = World::new().await;
    let mut gateway = world.gateway().await;
    let query = world.query(&json!({}));
    gateway.open(1, &query).await;
    assert!(gateway.next_within(Duration::from_millis(50)).await.is_none());
    assert_eq!(gateway.remote.check().await.status, Status::Degraded);
    let node = world.node("n1").await;
    world.list(&[&node]);
    gateway.settles(&world, 1, &query).await;
    gateway
        .until("all is well", |gateway| gateway.remote.stats().joined == 1)
        .await;
    assert_eq!(gateway.remote.check().await.status, Status::Healthy);
}
