//! A node on a real database and bus, as gateways meet it.

mod references;
mod support;

use std::sync::Arc;
use std::time::Duration;

use alyx_realtime_node::Limits;
use alyx_service::health::{HealthCheck, Status};
use alyx_service::realtime::{GroupEvent, GroupId, RealtimeService};
use serde_json::json;
use support::{SCHEMA, World, delete, insert, migrate, schema, set_rank};

#[tokio::test]
async fn a_live_query_opens_with_its_window_and_follows_every_change() {
    let world = World::new(Limits::default()).await;
    world
        .write(vec![
            insert(1, "a", Some(10)),
            insert(2, "b", Some(20)),
            insert(3, "a", Some(30)),
        ])
        .await;
    let query = world.query(&json!({"filter": {"room": "a"}, "sort": "rank"}));
    let mut gateway = world.gateway().await;
    gateway.open(7, query.clone()).await;
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
    assert!(change.updates.is_empty() && change.deletes.is_empty());

    world.write(vec![set_rank(1, Some(99))]).await;
    let GroupEvent::Changed { change, .. } = gateway.next().await else {
        panic!("a change follows");
    };
    assert_eq!(
        (change.updates[0].0, change.updates.len()),
        (2, 1),
        "it moved to the end"
    );

    world.write(vec![delete(3)]).await;
    let GroupEvent::Changed { change, .. } = gateway.next().await else {
        panic!("a change follows");
    };
    assert_eq!(
        (change.deletes.as_slice(), change.total),
        ([3_i64.into()].as_slice(), 2)
    );
    gateway.settles(&world, 7, &query).await;
    assert_eq!(gateway.mirror(7).opened, 1);
}

#[tokio::test]
async fn equal_queries_share_one_group_and_one_change() {
    let world = World::new(Limits::default()).await;
    let query = world.query(&json!({"filter": {"room": "a", "done": false}}));
    let equal = world.query(&json!({"filter": {"$and": [{"done": false}, {"room": "a"}]}}));
    let (mut one, mut two) = (world.gateway().await, world.gateway().await);
    one.open(1, query.clone()).await;
    one.next().await;
    two.open(5, equal).await;
    two.next().await;
    let stats = world.stats_become(|stats| stats.subscriptions == 2).await;
    assert_eq!((stats.groups, stats.snapshots, stats.residual_groups), (1, 1, 0));
    world.write(vec![insert(1, "a", None)]).await;
    let events = (one.next().await, two.next().await);
    let (GroupEvent::Changed { change: a, .. }, GroupEvent::Changed { change: b, .. }) = events else {
        panic!("both are told");
    };
    assert!(Arc::ptr_eq(&a, &b));
}

#[tokio::test]
async fn a_gateway_that_is_ahead_gets_its_window_once_the_node_is_there() {
    let world = World::new(Limits::default()).await;
    let query = world.query(&json!({"filter": {"room": "a"}, "sort": "rank"}));
    let (mut gateway, mut other) = (world.gateway().await, world.gateway().await);
    other.open(1, query.clone()).await;
    other.next().await;
    world.write(vec![insert(1, "a", Some(1))]).await;
    other.settles(&world, 1, &query).await;
    let far = other.mirror(1).at.0 + 3;
    // Of a group that is live already, and of one that nobody has opened.
    gateway.open_from(1, query.clone(), Some(far)).await;
    let fresh = world.query(&json!({"filter": {"room": "b"}}));
    gateway.open_from(2, fresh.clone(), Some(far)).await;
    gateway.open(3, query.clone()).await;
    let GroupEvent::Opened { group, at, .. } = gateway.next().await else {
        panic!("a group begins with its window");
    };
    assert_eq!((group, at.0), (GroupId(3), far - 3));
    for id in 2..=3 {
        world.write(vec![insert(id, "b", None)]).await;
    }
    assert!(gateway.mirror(1).opened == 0 && gateway.mirror(2).opened == 0);
    world.write(vec![insert(4, "a", Some(0))]).await;
    gateway.settles(&world, 1, &query).await;
    gateway.settles(&world, 2, &fresh).await;
    assert!(gateway.mirror(1).at.0 >= far && gateway.mirror(2).at.0 >= far);
    assert_eq!((gateway.mirror(1).opened, gateway.mirror(2).opened), (1, 1));
    world.write(vec![delete(4), insert(5, "b", None)]).await;
    for link in [&mut gateway, &mut other] {
        link.settles(&world, 1, &query).await;
    }
}

#[tokio::test]
async fn a_window_is_told_as_of_the_last_commit_even_where_that_did_not_change_it() {
    let world = World::new(Limits::default()).await;
    let query = world.query(&json!({"filter": {"room": "a"}}));
    let mut gateway = world.gateway().await;
    gateway.open(1, query.clone()).await;
    gateway.next().await;
    let elsewhere = world.query(&json!({"filter": {"room": "b"}}));
    gateway.open(2, elsewhere.clone()).await;
    world
        .write((1..=5).map(|id| insert(id, "b", None)).collect())
        .await;
    gateway.settles(&world, 2, &elsewhere).await;
    let head = gateway.mirror(2).at;
    gateway.open_from(3, query.clone(), Some(head.0)).await;
    gateway.until(3, |mirror| mirror.opened == 1).await;
    assert_eq!(gateway.mirror(3).at, head);
    world.write(vec![insert(6, "a", None)]).await;
    gateway.settles(&world, 3, &query).await;
    gateway.settles(&world, 1, &query).await;
}

#[tokio::test]
async fn commits_that_the_bus_loses_come_from_the_log() {
    let world = World::new(Limits::default()).await;
    let query = world.query(&json!({"filter": {"room": "a"}, "sort": "rank", "limit": 3}));
    let mut gateway = world.gateway().await;
    gateway.open(1, query.clone()).await;
    gateway.next().await;
    world.silence(true);
    for id in 1..=20 {
        world.write(vec![insert(id, "a", Some(100 - id))]).await;
    }
    world.silence(false);
    world.write(vec![insert(21, "a", Some(0))]).await;
    gateway.settles(&world, 1, &query).await;

    world.silence(true);
    world.write(vec![delete(21), delete(20)]).await;
    gateway.settles(&world, 1, &query).await;
    assert_eq!(gateway.mirror(1).opened, 1, "nothing had to start afresh");
}

#[tokio::test]
async fn a_node_whose_place_in_the_log_was_cut_off_starts_every_group_afresh() {
    let world = World::new(Limits::default()).await;
    let query = world.query(&json!({"filter": {"room": "a"}}));
    let mut gateway = world.gateway().await;
    gateway.open(1, query.clone()).await;
    gateway.next().await;
    world.silence(true);
    for id in 1..=5 {
        world.write(vec![insert(id, "a", None)]).await;
    }
    let cut = [
        "UPDATE _alyx_meta SET value = 4 WHERE key = 'horizon'",
        "DELETE FROM _alyx_changes WHERE seq <= 4",
        "DELETE FROM _alyx_commits WHERE seq <= 4",
    ];
    migrate(&world.store, cut.map(str::to_owned).into_iter()).await;
    gateway.settles(&world, 1, &query).await;
    world.silence(false);
    world.write(vec![insert(6, "a", None)]).await;
    gateway.settles(&world, 1, &query).await;
    assert!(gateway.mirror(1).opened >= 2);
}

#[tokio::test]
async fn a_link_that_is_full_stalls_nobody_and_gets_its_windows_later() {
    let limits = Limits {
        link_events: 4,
        ..Limits::default()
    };
    let world = World::new(limits).await;
    let query = world.query(&json!({"sort": "-rank", "limit": 5}));
    let other = world.query(&json!({"filter": {"room": "b"}}));
    let (mut slow, mut fast) = (world.gateway().await, world.gateway().await);
    slow.open(1, query.clone()).await;
    slow.open(2, other.clone()).await;
    slow.next().await;
    slow.next().await;
    fast.open(1, query.clone()).await;
    fast.next().await;
    for id in 1..=100 {
        world
            .write(vec![insert(id, if id % 2 == 0 { "a" } else { "b" }, Some(id))])
            .await;
        fast.settles(&world, 1, &query).await;
    }
    assert_eq!(fast.mirror(1).opened, 1);
    slow.settles(&world, 1, &query).await;
    slow.settles(&world, 2, &other).await;
    assert!(slow.mirror(1).opened > 1 && slow.mirror(2).opened > 1);
    world.write(vec![delete(100), delete(99)]).await;
    slow.settles(&world, 1, &query).await;
    slow.settles(&world, 2, &other).await;
}

#[tokio::test]
async fn closing_frees_everything() {
    let world = World::new(Limits::default()).await;
    let mut gateway = world.gateway().await;
    for group in 0..20 {
        let query = world.query(&json!({"filter": {"room": format!("r{}", group % 10)}}));
        gateway.open(group, query).await;
    }
    gateway
        .open(20, world.query(&json!({"filter": {"title": {"$like": "%x%"}}})))
        .await;
    let stats = world
        .stats_become(|stats| stats.subscriptions == 21 && stats.snapshots == 11)
        .await;
    assert_eq!((stats.groups, stats.links, stats.residual_groups), (11, 1, 1));
    for group in 0..10 {
        gateway.close(group).await;
    }
    let stats = world.stats_become(|stats| stats.subscriptions == 11).await;
    assert_eq!(stats.groups, 11, "each is still followed once");
    gateway.close(20).await;
    world
        .stats_become(|stats| stats.groups == 10 && stats.residual_groups == 0)
        .await;
    let second = world.node.connect().await.expect("the node is there");
    world.stats_become(|stats| stats.links == 2).await;
    drop(second.events);
    world.stats_become(|stats| stats.links == 1).await;
    drop(gateway);
    let stats = world.stats_become(|stats| stats.links == 0).await;
    assert_eq!((stats.groups, stats.subscriptions), (0, 0));
    assert!(
        world.tasks.stop(Duration::from_secs(10)).await,
        "no task is left behind"
    );
}

#[tokio::test]
async fn a_query_that_cannot_be_served_fails_with_its_reason() {
    let world = World::new(Limits {
        max_subscriptions: 1,
        ..Limits::default()
    })
    .await;
    let mut gateway = world.gateway().await;
    gateway.open(1, world.query(&json!({"offset": 100_000}))).await;
    gateway.next().await;
    assert_eq!(gateway.mirror(1).failed.as_deref(), Some("WINDOW_TOO_LARGE"));
    gateway.open(2, world.query(&json!({}))).await;
    gateway.open(3, world.query(&json!({"limit": 5}))).await;
    gateway.until(3, |mirror| mirror.failed.is_some()).await;
    assert_eq!(gateway.mirror(3).failed.as_deref(), Some("TOO_MANY_LIVE_QUERIES"));
    gateway.until(2, |mirror| mirror.opened == 1).await;
    world.serve(
        2,
        schema("collections: {others: {fields: {id: {type: int, primary: true}}}}"),
    );
    gateway.until(2, |mirror| mirror.failed.is_some()).await;
    assert_eq!(gateway.mirror(2).failed.as_deref(), Some("COLLECTION_NOT_FOUND"));
    world
        .stats_become(|stats| stats.groups == 0 && stats.subscriptions == 0)
        .await;
}

#[tokio::test]
async fn a_group_whose_rows_cannot_be_read_fails_and_the_others_stay() {
    let world = World::new(Limits::default()).await;
    world.write(vec![insert(1, "a", None)]).await;
    let mut gateway = world.gateway().await;
    gateway.open(1, world.query(&json!({}))).await;
    gateway.until(1, |mirror| mirror.opened == 1).await;
    world.store.close().await;
    gateway.open(2, world.query(&json!({"limit": 1}))).await;
    gateway.until(2, |mirror| mirror.failed.is_some()).await;
    assert_eq!(gateway.mirror(2).failed.as_deref(), Some("STORE_CLOSED"));
    gateway.open(3, world.query(&json!({}))).await;
    gateway.until(3, |mirror| mirror.opened == 1).await;
    assert_eq!(gateway.mirror(3).docs.len(), 1, "it is answered from memory");
}

#[tokio::test]
async fn groups_follow_the_schema_or_fail_where_their_query_no_longer_fits() {
    let world = World::new(Limits::default()).await;
    world.write(vec![insert(1, "a", Some(1))]).await;
    let mut gateway = world.gateway().await;
    let by_room = world.query(&json!({"filter": {"room": "a"}}));
    gateway.open(1, by_room.clone()).await;
    gateway.open(2, world.query(&json!({"sort": "title"}))).await;
    gateway.until(1, |mirror| mirror.opened == 1).await;
    gateway.until(2, |mirror| mirror.opened == 1).await;

    let without_title = SCHEMA.replace("      title: {type: text, default: ''}\n", "");
    let changed = without_title.replace(
        "      rank:",
        "      color: {type: string, default: red}\n      rank:",
    );
    let (old, new) = (schema(SCHEMA), schema(&changed));
    let collection = Arc::clone(new.collection("tasks").expect("it is declared"));
    let mut sql = alyx_schema::drop_triggers(&collection);
    sql.push("ALTER TABLE tasks ADD COLUMN color TEXT NOT NULL DEFAULT 'red'".to_owned());
    sql.push("ALTER TABLE tasks DROP COLUMN title".to_owned());
    sql.extend(alyx_schema::triggers(&collection));
    migrate(&world.store, sql.into_iter()).await;
    world.serve(2, new);
    gateway.until(2, |mirror| mirror.failed.is_some()).await;
    assert_eq!(gateway.mirror(2).failed.as_deref(), Some("SCHEMA_CHANGED"));
    gateway.until(1, |mirror| mirror.opened == 2).await;
    let expected = r#"{"id":1,"room":"a","color":"red","rank":1,"done":false}"#;
    assert_eq!(gateway.mirror(1).json(), [expected]);

    // A gateway that has not heard of the new schema yet asks with the old one.
    assert!(Arc::ptr_eq(&by_room.collection, &world.collection) && old.collection("tasks").is_some());
    gateway.open(3, by_room).await;
    gateway.until(3, |mirror| mirror.opened == 1).await;
    assert_eq!(gateway.mirror(3).json(), [expected]);
    let added = "INSERT INTO tasks (id, room, color, rank, done) VALUES (2, 'a', 'blue', NULL, 1)";
    world
        .write(vec![alyx_core::Statement::new(added, Vec::new())])
        .await;
    gateway.until(3, |mirror| mirror.docs.len() == 2).await;
    assert_eq!(
        gateway.mirror(3).json()[1],
        r#"{"id":2,"room":"a","color":"blue","rank":null,"done":true}"#
    );
    let stats = world.stats_become(|stats| stats.subscriptions == 2).await;
    assert_eq!(stats.groups, 1, "old and new query are the same");
}

#[tokio::test]
async fn windows_under_random_writes_lost_commits_and_refills_are_what_the_queries_return() {
    let world = World::new(Limits::default()).await;
    let queries = [
        json!({"sort": "rank", "limit": 3}),
        json!({"sort": ["-rank", "room"], "limit": 4, "offset": 2}),
        json!({"filter": {"room": "a"}, "sort": "-rank", "limit": 2, "fields": ["room"]}),
        json!({"filter": {"room": {"$in": ["b", "c"]}}, "limit": 1000}),
        json!({"filter": {"rank": {"$gte": 5}}, "limit": 5}),
        json!({"filter": {"room": "c"}, "limit": 0}),
    ];
    let queries = queries.map(|json| world.query(&json));
    let mut gateway = world.gateway().await;
    // A fixed sequence that looks random: a linear congruential generator.
    let mut random = 12_345_u64;
    let mut below = |bound: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((random >> 33) % bound).expect("bounds are small")
    };
    let mut taken = std::collections::BTreeSet::new();
    for turn in 0..1_500 {
        if let Some(query) = queries.get(turn / 50).filter(|_| turn % 50 == 0) {
            gateway.open(turn as u64 / 50, query.clone()).await;
        }
        let steps = (0..=below(3)).map(|_| {
            let (id, rank) = (below(120), Some(below(12)).filter(|rank| *rank > 0));
            // Deletes prevail in long stretches, so that windows run dry.
            let deletes = if turn / 100 % 2 == 1 { 70 } else { 10 };
            if taken.insert(id) {
                insert(
                    id,
                    ["a", "b", "c"][usize::try_from(below(3)).expect("small")],
                    rank,
                )
            } else if below(100) < deletes {
                taken.remove(&id);
                delete(id)
            } else {
                set_rank(id, rank)
            }
        });
        let steps = steps.collect();
        world.silence(below(10) == 0);
        world.write(steps).await;
        while gateway.link.events.len() > 100 {
            gateway.next().await;
        }
    }
    for (group, query) in queries.iter().enumerate() {
        gateway.settles(&world, group as u64, query).await;
    }
    let stats = world.node.stats();
    println!("{stats:?}");
    assert!(stats.refills > 0, "{stats:?}");
    assert_eq!(stats.snapshots, 6, "{stats:?}");
}

#[tokio::test]
async fn a_node_reports_that_its_engine_has_ended() {
    let world = World::new(Limits::default()).await;
    assert_eq!(world.node.check().await.status, Status::Healthy);
    assert!(world.tasks.stop(Duration::from_secs(10)).await);
    assert_eq!(world.node.check().await.status, Status::Unhealthy);
    assert_eq!(
        world.node.connect().await.expect_err("it has ended").code(),
        "REALTIME_UNAVAILABLE"
    );
}
