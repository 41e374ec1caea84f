//! Nodes die, freeze, drain and come while everything is being written: groups move, and what gateways are told goes
//! on without a hole.

use std::sync::Arc;
use std::time::Duration;

use alyx_query::Query;
use serde_json::json;

use crate::support::{Gateway, Mode, Node, World, eventually, insert};

/// Enough that every node has some.
fn queries(world: &World) -> Vec<Arc<Query>> {
    let mut queries = Vec::new();
    for room in ["a", "b", "c", "d"] {
        for limit in [3, 10, 1000] {
            for sort in ["rank", "-rank"] {
                let json = json!({"filter": {"room": room}, "sort": sort, "limit": limit});
                queries.push(world.query(&json));
            }
        }
        queries.push(world.query(&json!({"filter": {"room": {"$ne": room}}, "offset": 2, "limit": 5})));
    }
    queries
}

async fn open_all(gateway: &mut Gateway, queries: &[Arc<Query>]) {
    for (group, query) in queries.iter().enumerate() {
        gateway.open(group as u64, query).await;
    }
    gateway.until("all are opened", Gateway::all_opened).await;
}

/// Nobody has been thrown back, nothing has failed, and every window is the query's result.
async fn is_right(world: &World, gateway: &mut Gateway, queries: &[Arc<Query>]) {
    for (group, query) in queries.iter().enumerate() {
        gateway.settles(world, group as u64, query).await;
        let mirror = gateway.mirror(group as u64);
        assert_eq!((mirror.went_back, &mirror.failed), (0, &None));
    }
}

fn groups(node: &Node) -> usize {
    node.node.stats().groups
}

fn subscriptions(node: &Node) -> usize {
    node.node.stats().subscriptions
}

/// Takes events until the nodes' figures are as wanted.
async fn until_nodes(gateway: &mut Gateway, what: &str, wanted: impl Fn() -> bool) {
    gateway.until(what, |_| wanted()).await;
}

#[tokio::test]
async fn groups_of_a_node_that_dies_go_on_at_the_others() {
    let world = World::new().await;
    let nodes = [world.node("n1").await, world.node("n2").await];
    world.list(&[&nodes[0], &nodes[1]]);
    let queries = queries(&world);
    let mut gateway = world.gateway().await;
    gateway
        .until("both are joined", |gateway| gateway.remote.stats().joined == 2)
        .await;
    open_all(&mut gateway, &queries).await;
    assert!(nodes.iter().all(|node| groups(node) > 5), "both have some");
    let writing = world.keep_writing();
    for turn in 0..6 {
        let (dies, stays) = (&nodes[turn % 2], &nodes[(turn + 1) % 2]);
        dies.proxy.set(Mode::Cut);
        until_nodes(&mut gateway, "the other one has all", || {
            subscriptions(stays) == queries.len()
        })
        .await;
        dies.proxy.set(Mode::Pass);
        until_nodes(&mut gateway, "it has its share again", || {
            subscriptions(dies) > 5 && subscriptions(stays) < queries.len()
        })
        .await;
    }
    drop(writing);
    is_right(&world, &mut gateway, &queries).await;
    assert!(gateway.remote.stats().moves > 0);
}

#[tokio::test]
async fn groups_of_a_node_that_freezes_go_on_at_the_others() {
    let world = World::new().await;
    let nodes = [world.node("n1").await, world.node("n2").await];
    world.list(&[&nodes[0], &nodes[1]]);
    let queries = queries(&world);
    let mut gateway = world.gateway().await;
    open_all(&mut gateway, &queries).await;
    let writing = world.keep_writing();
    nodes[0].proxy.set(Mode::Stall);
    until_nodes(&mut gateway, "the other one has all", || {
        subscriptions(&nodes[1]) == queries.len()
    })
    .await;
    nodes[0].proxy.set(Mode::Pass);
    until_nodes(&mut gateway, "it has its share again", || {
        subscriptions(&nodes[1]) < queries.len()
    })
    .await;
    drop(writing);
    is_right(&world, &mut gateway, &queries).await;
}

#[tokio::test]
async fn a_node_that_drains_hands_its_groups_over_and_a_new_one_takes_its_share() {
    let world = World::new().await;
    let old = world.node("old").await;
    world.list(&[&old]);
    let queries = queries(&world);
    let (mut gateway, mut other) = (world.gateway().await, world.gateway().await);
    open_all(&mut gateway, &queries).await;
    open_all(&mut other, &queries).await;
    let writing = world.keep_writing();

    let new = world.node("new").await;
    world.list(&[&old, &new]);
    until_nodes(&mut gateway, "both have some", || {
        groups(&new) > 5 && groups(&old) < queries.len()
    })
    .await;
    other
        .until("it has been there", |_| {
            groups(&new) + groups(&old) == queries.len()
        })
        .await;

    let drained = old.rpc.drain(Duration::from_secs(30));
    let taking = async {
        loop {
            tokio::join!(
                gateway.next_within(Duration::from_millis(10)),
                other.next_within(Duration::from_millis(10))
            );
        }
    };
    let drained = tokio::select! {
        drained = drained => drained,
        () = taking => false,
    };
    assert!(drained, "{:?}", old.node.stats());
    drop(writing);
    assert!(old.tasks.stop(Duration::from_secs(10)).await);
    world.list(&[&new]);
    world
        .write(vec![insert(1_000, "a", Some(1)), insert(1_001, "b", Some(1))])
        .await;
    is_right(&world, &mut gateway, &queries).await;
    is_right(&world, &mut other, &queries).await;
    assert_eq!(groups(&new), queries.len());
}

#[tokio::test]
async fn a_node_that_drains_keeps_what_has_nowhere_to_go() {
    let world = World::new().await;
    let node = world.node("n1").await;
    world.list(&[&node]);
    let queries = queries(&world);
    let mut gateway = world.gateway().await;
    open_all(&mut gateway, &queries).await;
    assert!(!node.rpc.drain(Duration::from_millis(200)).await);
    world
        .write(vec![insert(1, "a", Some(1)), insert(2, "b", Some(1))])
        .await;
    is_right(&world, &mut gateway, &queries).await;
}

#[tokio::test]
async fn a_gateway_that_goes_leaves_nothing_behind() {
    let world = World::new().await;
    let node = world.node("n1").await;
    world.list(&[&node]);
    let queries = queries(&world);
    let mut gateway = world.gateway().await;
    open_all(&mut gateway, &queries).await;
    drop(gateway);
    let gone = || {
        let stats = node.node.stats();
        let left = (stats.links, stats.groups, stats.subscriptions);
        if left == (0, 0, 0) {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    };
    eventually("the node has forgotten it", gone).await;
    assert!(
        node.tasks.stop(Duration::from_secs(10)).await,
        "no task is left behind"
    );
}
