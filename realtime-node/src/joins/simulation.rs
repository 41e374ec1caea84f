//! Random histories of three collections that refer to each other and ask about each other, with reads that complete late and at later
//! positions, against an oracle: the query as a left join by hand over the state at exactly the commit of each step.
//!
//! `ALYX_HISTORIES` raises the number of histories, `ALYX_SEED` names the first; a failure prints its seed.

mod database;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Row, Seq, Value};
use alyx_query::{Elsewhere, Query};
use alyx_service::realtime::GroupId;

use database::{Database, Random};

use super::Joins;
use crate::group::{Answer, Group, Member, Phase, Told};
use crate::link::LinkId;
use crate::record::{QueryShape, Record, RowId};
use crate::router::Router;
use crate::window::{Shape, Transition, Window};

const HISTORIES: u64 = 3_000;
const STEPS: usize = 60;

/// How a driver breaks what a node does around such a group, to prove that the oracle notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    None,
    /// Changes of documents that are referred to are not heard.
    Deaf,
    /// Verdicts outlive the changes that turn them.
    KeepVerdicts,
    /// What is heard while a window is read is forgotten.
    ForgetHeard,
    /// A window that needs to be read again is let out as it is.
    TrustStale,
}

#[derive(Debug, Default)]
struct Tally {
    /// Told as a read ended, and from what the node had heard.
    by_reads: u64,
    from_memory: u64,
    rereads: u64,
    /// Rereads at positions that the node had not come to, or had passed.
    ahead: u64,
    behind: u64,
}

/// What a client makes of the steps.
#[derive(Debug, Default)]
struct Client {
    rows: Vec<Arc<Record>>,
    total: u64,
    at: Seq,
}

impl Client {
    fn of(window: &Window<QueryShape>) -> Self {
        let (rows, total, at) = window.emitted();
        Self {
            rows: rows.to_vec(),
            total,
            at,
        }
    }

    fn take(&mut self, shape: &QueryShape, id: &RowId) -> Result<(), String> {
        let place = self.rows.iter().position(|row| shape.id(row) == *id);
        let place = place.ok_or_else(|| format!("{id:?} leaves and is not there"))?;
        self.rows.remove(place);
        Ok(())
    }

    fn apply(&mut self, shape: &QueryShape, step: &Transition<QueryShape>) -> Result<(), String> {
        if step.from != self.at || step.to <= step.from {
            return Err(format!(
                "a step from {} to {} for a client at {}",
                step.from, step.to, self.at
            ));
        }
        for id in &step.deletes {
            self.take(shape, id)?;
        }
        for (_, row) in &step.updates {
            self.take(shape, &shape.id(row))?;
        }
        let mut entering: Vec<&(usize, Arc<Record>)> = step.inserts.iter().chain(&step.updates).collect();
        entering.sort_by_key(|(place, _)| *place);
        for (place, row) in entering {
            if *place > self.rows.len() {
                return Err(format!("a row cannot enter at {place}"));
            }
            self.rows.insert(*place, row.clone());
        }
        (self.total, self.at) = (step.total, step.to);
        Ok(())
    }
}

/// A node with one group, as its engine would drive it.
struct Node<'d> {
    database: &'d mut Database,
    random: &'d mut Random,
    query: Arc<Query>,
    group: Group,
    router: Router,
    /// The commit that was applied last.
    applied: usize,
    /// The read under way: the commit at which it was asked for.
    read: Option<usize>,
    planned: Option<Instant>,
    now: Instant,
    client: Option<Client>,
    sabotage: Sabotage,
}

impl<'d> Node<'d> {
    fn new(database: &'d mut Database, random: &'d mut Random, sabotage: Sabotage) -> Self {
        let query = Arc::new(database.query(random));
        let group = Group::new(query.canonical(), query.clone(), database.position(0));
        let mut router = Router::default();
        for (collection, route) in &group.routes {
            router.add(collection, route, 0);
        }
        Self {
            database,
            random,
            query,
            group,
            router,
            applied: 0,
            read: Some(0),
            planned: None,
            now: Instant::now(),
            client: None,
            sabotage,
        }
    }

    fn apply_next(&mut self) {
        if self.applied == self.database.head() {
            return;
        }
        self.applied += 1;
        for heard in self.database.changes(self.applied) {
            let other = *heard.collection != *self.query.collection.name;
            if self.sabotage == Sabotage::Deaf && other {
                continue;
            }
            let Some(routes) = self.router.routes(&heard.collection) else {
                continue;
            };
            let (old, new) = (heard.change.old.as_deref(), heard.change.new.as_deref());
            let mut found = Vec::new();
            routes.find(old.map(Record::row), new.map(Record::row), &mut found);
            if found.is_empty() {
                continue;
            }
            let kept = self.group.joins.as_ref().map(|joins| joins.verdicts.clone());
            self.group.hear(&heard);
            if let (Sabotage::KeepVerdicts, Some(joins), Some(kept)) =
                (self.sabotage, &mut self.group.joins, kept)
            {
                joins.verdicts.extend(kept);
            }
        }
        if let Phase::Live(window) = &mut self.group.phase {
            window.settle();
        }
    }

    /// Completes the read under way, at a position between the request and the database's head.
    fn complete(&mut self, tally: &mut Tally) -> Result<(), String> {
        let Some(asked) = self.read.take() else {
            return Ok(());
        };
        let commit = asked + self.random.below(self.database.head() - asked + 1);
        let at = self.database.position(commit);
        let (rows, total) = self.database.result(&self.query, commit);
        let answer = Answer {
            at,
            rows: rows
                .into_iter()
                .take(Group::extent(&self.query).snapshot_rows())
                .map(|row| Arc::new(Record::new(row)))
                .collect(),
            total,
            verdicts: self.verdicts(commit),
        };
        if matches!(self.group.phase, Phase::Opening(_)) {
            let heard = self.group.open_with(answer).ok_or("it was opening")?;
            if let Phase::Live(window) = &self.group.phase {
                self.client = Some(Client::of(window));
            }
            self.check()?;
            self.group.go_on(heard);
            return Ok(());
        }
        tally.rereads += 1;
        tally.ahead += u64::from(commit > self.applied);
        tally.behind += u64::from(commit < self.applied);
        let (Phase::Live(window), Some(joins)) = (&mut self.group.phase, &mut self.group.joins) else {
            return Err("a read for nothing".to_owned());
        };
        let heard = joins
            .answered(window, answer, self.now)
            .ok_or("a read that was late enough")?;
        let step = window.flush(at);
        if self.sabotage == Sabotage::ForgetHeard {
            window.settle();
        } else {
            joins.go_on(window, heard);
        }
        tally.by_reads += u64::from(step.is_some());
        self.tell(step)
    }

    /// What the statements of the read under way return at that commit.
    fn verdicts(&self, commit: usize) -> Vec<Vec<Row>> {
        let Some(joins) = &self.group.joins else {
            return Vec::new();
        };
        let asked = joins.reading.iter().flat_map(|reading| &reading.asked);
        let held = asked.map(|(top, values)| {
            let part = Elsewhere::of(&joins.tops[*top]).expect("tops are such parts");
            let holds = values
                .iter()
                .filter(|value| self.database.holds(part, value, commit));
            holds.map(|value| vec![value.clone()]).collect()
        });
        held.collect()
    }

    /// What the node does after commits: lets output out and asks for reads.
    fn flush(&mut self, tally: &mut Tally) -> Result<(), String> {
        let at = self.database.position(self.applied);
        let (Phase::Live(window), Some(joins)) = (&mut self.group.phase, &mut self.group.joins) else {
            return Ok(());
        };
        if self.sabotage == Sabotage::TrustStale {
            window.stale_for_tests(false);
        }
        let step = window.flush(at);
        if let Some(due) = joins.wants_read(window, self.now) {
            joins.plan();
            self.planned = Some(due);
        }
        if self.planned.is_some_and(|due| due <= self.now) {
            self.planned = None;
            joins.ask(at, self.now);
            self.read = Some(self.applied);
        }
        tally.from_memory += u64::from(step.is_some());
        self.tell(step)
    }

    fn tell(&mut self, step: Option<Transition<QueryShape>>) -> Result<(), String> {
        let Some(step) = step else {
            return Ok(());
        };
        let shape = QueryShape::new(self.query.clone());
        self.client
            .as_mut()
            .ok_or("a step before the window")?
            .apply(&shape, &step)?;
        self.check()
    }

    /// The client has what the query returns at just its position.
    fn check(&self) -> Result<(), String> {
        let client = self.client.as_ref().ok_or("nothing was told")?;
        let commit = self
            .database
            .at(client.at)
            .ok_or("a position that is no commit")?;
        let (rows, total) = self.database.result(&self.query, commit);
        let offset = usize::try_from(self.query.offset).map_err(|error| error.to_string())?;
        let visible = rows.iter().skip(offset).take(self.query.limit as usize);
        let expected: Vec<&Row> = visible.collect();
        let shown: Vec<&Row> = client.rows.iter().map(|row| row.row()).collect();
        if shown != expected || client.total != total {
            return Err(format!(
                "{:?} at {}: the client has {shown:?} of {}, the query returns {expected:?} of {total}",
                self.query.filter, client.at, client.total
            ));
        }
        Ok(())
    }

    /// With everything delivered and every read answered, the client has what the query returns.
    fn quiesce(&mut self, tally: &mut Tally) -> Result<(), String> {
        while self.applied < self.database.head() {
            self.apply_next();
        }
        for _ in 0..6 {
            self.complete(tally)?;
            // Longer than any pause.
            self.now += Duration::from_secs(60);
            self.flush(tally)?;
        }
        let Phase::Live(window) = &self.group.phase else {
            return Err("never opened".to_owned());
        };
        if window.is_stale() || self.read.is_some() {
            return Err("a window is read for ever".to_owned());
        }
        let head = self.database.position(self.database.head());
        if window.emitted_through(head) != head {
            return Err("the window does not come to the end".to_owned());
        }
        // A member that joins now is told the window as of the end.
        let told = Member {
            link: LinkId(1),
            id: GroupId(1),
            told: Told::Nothing(head),
        };
        if self.group.join(told, head).is_none() {
            return Err("nobody is told the window".to_owned());
        }
        if let Some(client) = &mut self.client {
            client.at = head;
        }
        self.check()
    }
}

fn run(seed: u64, sabotage: Sabotage, tally: &mut Tally) -> Result<(), String> {
    let mut random = Random(seed);
    let mut database = Database::new(&mut random);
    let mut choices = Random(seed ^ 0x5eed);
    let mut node = Node::new(&mut database, &mut choices, sabotage);
    for _ in 0..STEPS {
        match random.below(10) {
            0..=3 => node.database.commit(&mut random),
            4..=7 => node.apply_next(),
            _ => node.complete(tally)?,
        }
        node.now += Duration::from_millis(random.next() % 120);
        if random.chance(75) {
            node.flush(tally)?;
        }
    }
    node.quiesce(tally)
}

#[expect(clippy::disallowed_methods, reason = "a test's own switches")]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn every_step_across_references_equals_the_query_at_its_commit() {
    let first = setting("ALYX_SEED", 1);
    let count = setting("ALYX_HISTORIES", HISTORIES);
    let mut tally = Tally::default();
    for seed in first..first + count {
        if let Err(problem) = run(seed, Sabotage::None, &mut tally) {
            panic!("history {seed} (repeat with ALYX_SEED={seed} ALYX_HISTORIES=1): {problem}");
        }
    }
    println!("{count} histories: {tally:?}");
    if count >= 1_000 {
        assert!(
            tally.ahead > 100 && tally.behind > 100,
            "races were not exercised: {tally:?}"
        );
        assert!(
            tally.by_reads > count / 10 && tally.from_memory > count / 10,
            "{tally:?}"
        );
    }
}

#[test]
fn the_oracle_notices_a_node_that_breaks_the_rules() {
    for sabotage in [
        Sabotage::Deaf,
        Sabotage::KeepVerdicts,
        Sabotage::ForgetHeard,
        Sabotage::TrustStale,
    ] {
        let caught: BTreeSet<u64> = (1..=600)
            .filter(|&seed| run(seed, sabotage, &mut Tally::default()).is_err())
            .collect();
        println!(
            "{sabotage:?}: {} of 600 histories fail, first {:?}",
            caught.len(),
            caught.first()
        );
        assert!(!caught.is_empty(), "{sabotage:?} went unnoticed");
    }
}

#[test]
fn what_is_kept_of_other_documents_has_a_bound() {
    let mut random = Random(3);
    let database = Database::new(&mut random);
    let query = database.across();
    let mut joins = Joins::of(&query).expect("it looks into others");
    for round in 0..24_i64 {
        let values: Vec<Value> = (0..200).map(|value| Value::Int(round * 200 + value)).collect();
        let held = values.iter().map(|value| vec![value.clone()]).collect();
        joins.learn(vec![(0, values)], &[held]);
        assert!(joins.verdicts.len() <= super::MAX_VERDICTS);
    }
    assert_eq!(
        joins.verdicts.len(),
        800,
        "those that came after the last clearing"
    );
}
