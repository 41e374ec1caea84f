//! Live queries whose filter looks into documents that others refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alyx_core::{Seq, Statement, Value};
use alyx_query::Query;
use alyx_realtime_node::Limits;
use alyx_service::realtime::GroupEvent;
use serde_json::{Value as Json, json};

use crate::support::{Gateway, World, schema};

const RELATED: &str = "
collections:
  teams:
    fields:
      id: {type: int, primary: true, default: auto}
      code: {type: string, unique: true}
      size: {type: int}
      motto: {type: string, default: ''}
  people:
    fields:
      id: {type: int, primary: true, default: auto}
      name: {type: string, nullable: true}
      team: {type: string, nullable: true, references: teams.code, onDelete: set null}
      boss: {type: int, nullable: true, references: people.id, onDelete: set null}
  tasks:
    fields:
      id: {type: int, primary: true, default: auto}
      author: {type: int, nullable: true, index: true, references: people.id, onDelete: cascade}
      rank: {type: int, nullable: true}
";

fn sql(text: &str, params: Vec<Value>) -> Statement {
    Statement::new(text, params)
}

fn team(id: i64, code: &str, size: i64) -> Statement {
    let text = "INSERT OR REPLACE INTO teams (id, code, size) VALUES (?1, ?2, ?3)";
    sql(text, vec![id.into(), code.into(), size.into()])
}

fn person(id: i64, team: Option<&str>) -> Statement {
    let text = "INSERT INTO people (id, name, team) VALUES (?1, 'p', ?2)";
    sql(text, vec![id.into(), team.map_or(Value::Null, Value::from)])
}

fn task(id: i64, author: i64, rank: i64) -> Statement {
    let text = "INSERT INTO tasks (id, author, rank) VALUES (?1, ?2, ?3)";
    sql(text, vec![id.into(), author.into(), rank.into()])
}

fn run(text: &str) -> Statement {
    sql(text, Vec::new())
}

async fn related() -> (World, Gateway) {
    let world = World::with_schema(Limits::default(), RELATED, "tasks").await;
    let first = vec![
        team(1, "red", 3),
        team(2, "blue", 5),
        person(1, Some("red")),
        person(2, Some("blue")),
        task(1, 1, 10),
        task(2, 2, 20),
    ];
    world.write(first).await;
    let gateway = world.gateway().await;
    (world, gateway)
}

#[tokio::test]
async fn documents_move_in_and_out_as_what_they_refer_to_changes() {
    let (world, mut gateway) = related().await;
    let query = world.query_across(&json!({"filter": {"author.team": "red"}, "sort": "rank"}));
    gateway.open(1, query.clone()).await;
    gateway.until(1, |mirror| mirror.opened == 1).await;
    assert_eq!(gateway.mirror(1).json(), [r#"{"id":1,"author":1,"rank":10}"#]);
    for step in [
        "UPDATE people SET team = 'red' WHERE id = 2",
        "UPDATE people SET team = NULL WHERE id = 1",
        "DELETE FROM people WHERE id = 2",
        "UPDATE people SET team = 'red' WHERE id = 1",
        "DELETE FROM teams WHERE code = 'red'",
    ] {
        world.write(vec![run(step)]).await;
        gateway.settles(&world, 1, &query).await;
    }
    let mirror = gateway.mirror(1);
    assert_eq!(
        (mirror.opened, mirror.docs.len()),
        (1, 0),
        "it moved in deltas only"
    );
}

#[tokio::test]
async fn what_is_known_of_a_document_is_not_read_again_for_every_one_that_refers_to_it() {
    let (world, mut gateway) = related().await;
    let query = world.query_across(&json!({"filter": {"author.team.size": {"$gte": 4}}, "sort": "rank"}));
    gateway.open(1, query.clone()).await;
    gateway.until(1, |mirror| mirror.opened == 1).await;
    for id in 3..=60 {
        world.write(vec![task(id, 1 + id % 2, id)]).await;
    }
    gateway.settles(&world, 1, &query).await;
    // Neither does a change count that the filter does not look at.
    let others = [
        "UPDATE people SET name = 'x'",
        "UPDATE teams SET motto = 'y'",
        "UPDATE teams SET size = size - 1",
        "INSERT INTO teams (code, size) VALUES ('green', 1)",
    ];
    world.write(others.map(run).into()).await;
    world.write(vec![task(61, 2, 0)]).await;
    gateway.settles(&world, 1, &query).await;
    let stats = world.node.stats();
    assert!((1..=2).contains(&stats.rereads), "one for each author: {stats:?}");
    assert_eq!(stats.snapshots, 1);
    // The hop in the middle and the one at the end turn it.
    for step in [
        "UPDATE people SET team = 'green' WHERE id = 2",
        "UPDATE teams SET size = 9 WHERE code = 'green'",
        "UPDATE teams SET size = 4 WHERE code = 'red'",
    ] {
        world.write(vec![run(step)]).await;
        gateway.settles(&world, 1, &query).await;
    }
    assert_eq!(gateway.mirror(1).total, 61);
}

#[tokio::test]
async fn a_query_fails_where_a_reference_no_longer_leads_where_it_did() {
    let (world, mut gateway) = related().await;
    let query = world.query_across(&json!({"filter": {"author.team.size": 3}}));
    gateway.open(1, query.clone()).await;
    gateway.until(1, |mirror| mirror.opened == 1).await;
    // Another field of a collection on the way: the query goes on.
    let wider = RELATED.replace(
        "      motto:",
        "      since: {type: date, nullable: true}\n      motto:",
    );
    let added = "ALTER TABLE teams ADD COLUMN since TEXT";
    crate::support::migrate(&world.store, std::iter::once(added.to_owned())).await;
    world.serve(2, schema(&wider));
    gateway.until(1, |mirror| mirror.opened == 2).await;
    world
        .write(vec![run("UPDATE teams SET size = 3 WHERE code = 'blue'")])
        .await;
    gateway.settles(&world, 1, &query).await;
    assert_eq!(gateway.mirror(1).total, 2);
    world.serve(
        3,
        schema(&wider.replace(", references: teams.code, onDelete: set null", "")),
    );
    gateway.until(1, |mirror| mirror.failed.is_some()).await;
    assert_eq!(gateway.mirror(1).failed.as_deref(), Some("SCHEMA_CHANGED"));
    world.stats_become(|stats| stats.groups == 0).await;
}

#[tokio::test]
async fn a_window_that_cannot_be_read_again_for_a_while_keeps_its_members() {
    let (world, mut gateway) = related().await;
    let query = world.query_across(&json!({"filter": {"author.team.size": 3}}));
    let plain = world.query_across(&json!({"sort": "rank"}));
    gateway.open(1, query.clone()).await;
    gateway.open(2, plain.clone()).await;
    gateway.until(1, |mirror| mirror.opened == 1).await;
    gateway.until(2, |mirror| mirror.opened == 1).await;
    let rename = async |from: &str, to: &str| {
        let renamed = format!("ALTER TABLE {from} RENAME TO {to}");
        crate::support::migrate(&world.store, std::iter::once(renamed)).await;
    };
    rename("people", "away").await;
    world.write(vec![run("UPDATE teams SET size = 3")]).await;
    // Long enough for more than one attempt, as the other query goes on.
    for id in 10..40 {
        world.write(vec![task(id, 2, id)]).await;
        gateway.settles(&world, 2, &plain).await;
    }
    rename("away", "people").await;
    gateway.settles(&world, 1, &query).await;
    let mirror = gateway.mirror(1);
    assert_eq!((mirror.opened, mirror.total), (1, 32), "{mirror:?}");
}

/// Results of all queries by position.
type History = BTreeMap<Seq, Vec<(Vec<String>, u64)>>;

async fn note(world: &World, queries: &[Arc<Query>], history: &mut History) {
    let mut results = Vec::new();
    let mut positions = BTreeSet::new();
    for query in queries {
        let (docs, total, at) = world.result_at(query).await;
        results.push((docs, total));
        positions.insert(at);
    }
    assert_eq!(positions.len(), 1, "nobody else writes");
    history.extend(positions.into_iter().map(|at| (at, results.clone())));
}

/// Takes the events that are there; each must leave what the query returns at just its position.
async fn check_events(gateway: &mut Gateway, history: &History) -> usize {
    let mut events = 0;
    while !gateway.link.events.is_empty() {
        let event = gateway.next().await;
        let (GroupEvent::Opened { group, .. } | GroupEvent::Changed { group, .. }) = event else {
            panic!("a query fails: {event:?}");
        };
        let mirror = gateway.mirror(group.0);
        let expected = history.get(&mirror.at).map(|results| {
            let (docs, total) = &results[usize::try_from(group.0).expect("few")];
            (docs.clone(), *total)
        });
        assert_eq!(
            Some((mirror.json(), mirror.total)),
            expected,
            "query {} at {}",
            group.0,
            mirror.at
        );
        events += 1;
    }
    events
}

/// A fixed sequence that looks random: a linear congruential generator.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((self.0 >> 33) % bound).expect("bounds are small")
    }

    fn id(&mut self, bound: u64) -> Value {
        Value::Int(self.below(bound))
    }

    fn id_or_null(&mut self, bound: u64) -> Value {
        if self.below(6) == 0 {
            Value::Null
        } else {
            self.id(bound)
        }
    }

    fn code(&mut self) -> Value {
        [
            Value::from("red"),
            Value::from("blue"),
            Value::from("green"),
            Value::Null,
        ][usize::try_from(self.below(4)).expect("small")]
        .clone()
    }

    /// One change that keeps every reference sound. Most are of tasks, as most are in life.
    fn statement(&mut self) -> Statement {
        let found = "(SELECT id FROM people WHERE id = ?2)";
        match self.below(20) {
            0 => sql(
                "UPDATE teams SET size = ?1 WHERE id = ?2",
                vec![self.id(5), self.id(4)],
            ),
            1 => sql(
                "UPDATE people SET team = (SELECT code FROM teams WHERE code = ?1) WHERE id = ?2",
                vec![self.code(), self.id(12)],
            ),
            2 => sql(
                &format!("UPDATE people SET boss = {found}, name = nullif(name, 'p') WHERE id = ?1"),
                vec![self.id(12), self.id_or_null(12)],
            ),
            3 => sql("DELETE FROM people WHERE id = ?1 AND id > 8", vec![self.id(12)]),
            4 => sql(
                "INSERT INTO people (id, name, team) SELECT ?1, 'p', (SELECT code FROM teams WHERE code = ?2) \
                 WHERE NOT EXISTS (SELECT 1 FROM people WHERE id = ?1)",
                vec![self.id(12), self.code()],
            ),
            5 if self.below(8) == 0 => sql("DELETE FROM teams WHERE id = ?1", vec![self.id(4)]),
            5 => sql(
                "INSERT INTO teams (id, code, size) SELECT ?1, ?2, ?3 WHERE ?2 IS NOT NULL \
                 AND NOT EXISTS (SELECT 1 FROM teams WHERE id = ?1 OR code = ?2)",
                vec![self.id(4), self.code(), self.id(5)],
            ),
            6..=8 => sql("DELETE FROM tasks WHERE id = ?1", vec![self.id(60)]),
            9..=12 => sql(
                "UPDATE tasks SET rank = ?1 WHERE id = ?2",
                vec![self.id_or_null(9), self.id(60)],
            ),
            13 => sql(
                &format!("UPDATE tasks SET author = {found} WHERE id = ?1"),
                vec![self.id(60), self.id_or_null(12)],
            ),
            _ => sql(
                &format!(
                    "INSERT INTO tasks (id, author, rank) SELECT ?1, {found}, ?3 \
                     WHERE NOT EXISTS (SELECT 1 FROM tasks WHERE id = ?1)"
                ),
                vec![self.id(60), self.id_or_null(12), self.id_or_null(9)],
            ),
        }
    }
}

async fn random_history(collection: &str, queries: Vec<Json>, seed: u64) {
    let world = World::with_schema(Limits::default(), RELATED, collection).await;
    let queries: Vec<Arc<Query>> = queries.iter().map(|json| world.query_across(json)).collect();
    let mut gateway = world.gateway().await;
    let mut chance = Chance(seed);
    let mut history = History::new();
    note(&world, &queries, &mut history).await;
    let mut events = 0;
    for turn in 0..900 {
        if turn % 40 == 0
            && let Some(query) = queries.get(turn / 40)
        {
            gateway.open(turn as u64 / 40, query.clone()).await;
        }
        let count = 1 + chance.below(3);
        let statements = (0..count).map(|_| chance.statement()).collect();
        world.silence(chance.below(15) == 0);
        world.write(statements).await;
        note(&world, &queries, &mut history).await;
        events += check_events(&mut gateway, &history).await;
    }
    world.silence(false);
    world
        .write(vec![run("INSERT INTO teams (code, size) VALUES ('last', 1)")])
        .await;
    note(&world, &queries, &mut history).await;
    for (group, query) in (0..).zip(&queries) {
        gateway.settles(&world, group, query).await;
    }
    let stats = world.node.stats();
    println!("{events} events, {stats:?}");
    assert!(stats.rereads > 20, "{stats:?}");
    assert_eq!(stats.snapshots, queries.len() as u64, "{stats:?}");
}

#[tokio::test]
async fn every_event_across_references_is_what_the_query_returns_at_its_position() {
    let queries = vec![
        json!({"filter": {"author.team": "red"}, "sort": "rank", "limit": 4}),
        json!({"filter": {"author.team.size": {"$gte": 2}}, "sort": ["-rank"], "limit": 5, "offset": 1}),
        json!({"filter": {"author.name": null}, "limit": 1000}),
        json!({"filter": {"$not": {"author.team.size": {"$in": [1, 3]}}}, "sort": "-rank", "limit": 6}),
        json!({"filter": {"$or": [{"author.boss.team": "blue"}, {"rank": {"$lt": 2}}]}, "limit": 1000}),
        json!({"filter": {"rank": 3, "author.team.code": {"$ne": "red"}}, "limit": 2}),
    ];
    random_history("tasks", queries, 7).await;
}

#[tokio::test]
async fn every_event_within_one_collection_that_refers_to_itself_is_right_too() {
    let queries = vec![
        json!({"filter": {"boss.team": "red"}, "sort": "name", "limit": 3}),
        json!({"filter": {"boss.boss.team.size": {"$lt": 3}}, "limit": 1000}),
        json!({"filter": {"$or": [{"boss.name": "p"}, {"boss.boss": null}]}, "sort": "-team", "limit": 4}),
    ];
    random_history("people", queries, 11).await;
}
