//! Random histories of a simulated database, with reads that complete late and at later positions, against an
//! oracle: the same query evaluated on the database's state at exactly the commit of each transition.
//!
//! `ALYX_HISTORIES` raises the number of histories, `ALYX_SEED` names the first; a failure prints its seed.

mod database;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::Seq;

use database::{Committed, Database, Random, Row, TestShape};

use super::{Change, Extent, Refill, Shape, Snapshot, Transition, Window};

const HISTORIES: u64 = 100_000;
const STEPS: usize = 36;

/// What a client makes of the transitions.
#[derive(Debug)]
struct Mirror {
    docs: Vec<Row>,
    total: u64,
    at: Seq,
}

impl Mirror {
    fn take(&mut self, id: u8) -> Result<Row, String> {
        let place = self.docs.iter().position(|row| row.id == id);
        let place = place.ok_or_else(|| format!("row {id} leaves and is not there"))?;
        Ok(self.docs.remove(place))
    }

    fn apply(&mut self, shape: &TestShape, limit: usize, step: &Transition<TestShape>) -> Result<(), String> {
        if step.from != self.at {
            return Err(format!("from {} where the client is at {}", step.from, self.at));
        }
        for id in &step.deletes {
            self.take(*id)?;
        }
        for (_, row) in &step.updates {
            self.take(row.id)?;
        }
        let mut entering: Vec<&(usize, Arc<Row>)> = step.inserts.iter().chain(&step.updates).collect();
        entering.sort_by_key(|(place, _)| *place);
        for (place, row) in entering {
            if *place > self.docs.len() || self.docs.iter().any(|other| other.id == row.id) {
                return Err(format!("row {} cannot enter at {place}", row.id));
            }
            self.docs.insert(*place, shape.shown(row));
            if self.docs.len() > limit {
                return Err(format!("{} rows where the limit is {limit}", self.docs.len()));
            }
        }
        (self.total, self.at) = (step.total, step.to);
        Ok(())
    }

    fn check(&self, database: &Database, shape: &TestShape, extent: Extent) -> Result<(), String> {
        let commit = database.at(self.at).ok_or("a position that is no commit")?;
        let all = database.matching(shape, commit);
        let expected: Vec<Row> = all
            .iter()
            .skip(extent.offset)
            .take(extent.limit)
            .map(|row| shape.shown(row))
            .collect();
        if self.docs != expected || self.total != all.len() as u64 {
            return Err(format!(
                "at {}: client has {:?} of {}, the query returns {expected:?} of {}",
                self.at,
                self.docs,
                self.total,
                all.len()
            ));
        }
        Ok(())
    }
}

/// How a driver breaks what the node does around a window, to prove that the oracle notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    None,
    ForgetPending,
    IgnoreGate,
}

#[derive(Debug, Default)]
struct Tally {
    transitions: u64,
    refills_behind: u64,
    refills_ahead: u64,
    opened_behind: u64,
    opened_ahead: u64,
}

/// One subscriber with its window, as the node would drive it.
struct Subscriber {
    shape: TestShape,
    extent: Extent,
    sabotage: Sabotage,
    /// Commit index at which it began to listen, and what it has heard while its snapshot is read.
    since: usize,
    heard: Vec<Change<Row>>,
    open: Option<(Window<TestShape>, Mirror)>,
    /// The read under way and the commit index at which it was asked for.
    read: Option<(Refill<Row>, usize)>,
}

impl Subscriber {
    fn new(random: &mut Random, extent: Extent, shape: TestShape, sabotage: Sabotage, since: usize) -> Self {
        let slack = if extent.slack == 0 { 0 } else { random.below(4) + 1 };
        Self {
            shape,
            extent: Extent { slack, ..extent },
            sabotage,
            since,
            heard: Vec::new(),
            open: None,
            read: None,
        }
    }

    fn hear(&mut self, commit: &Committed) {
        match &mut self.open {
            Some((window, _)) => {
                commit.changes.iter().for_each(|change| window.apply(change));
                window.settle();
            }
            None => self.heard.extend(commit.changes.iter().cloned()),
        }
    }

    fn open(&mut self, database: &Database, random: &mut Random, applied: usize, tally: &mut Tally) {
        let commit = self.since + random.below(database.head() - self.since + 1);
        let matching = database.matching(&self.shape, commit);
        let total = matching.len() as u64;
        let rows = matching.into_iter().map(Arc::new);
        let at = database.commits[commit].position;
        let snapshot = Snapshot {
            at,
            rows: rows.take(self.extent.snapshot_rows()).collect(),
            total,
        };
        tally.opened_behind += u64::from(commit < applied);
        tally.opened_ahead += u64::from(commit > applied);
        let mut window = Window::open(self.shape, self.extent, snapshot);
        self.heard.iter().for_each(|change| window.apply(change));
        window.settle();
        let (docs, total, at) = window.emitted();
        let docs = docs.iter().map(|row| self.shape.shown(row)).collect();
        self.open = Some((window, Mirror { docs, total, at }));
    }

    /// Completes the read under way, at a position between the request and the database's head.
    fn complete(&mut self, database: &Database, random: &mut Random, applied: usize, tally: &mut Tally) {
        let (Some((window, _)), Some((refill, asked))) = (&mut self.open, self.read.take()) else {
            return;
        };
        let earliest = if random.chance(3) { 0 } else { asked };
        let commit = earliest + random.below(database.head() - earliest + 1);
        let rows = database
            .matching(&self.shape, commit)
            .into_iter()
            .filter(|row| self.shape.compare(row, &refill.after) == Ordering::Greater)
            .take(refill.count)
            .map(Arc::new)
            .collect();
        tally.refills_behind += u64::from(asked <= commit && commit < applied);
        tally.refills_ahead += u64::from(commit > applied);
        if let (Sabotage::ForgetPending, Some(under_way)) = (self.sabotage, &mut window.refill) {
            under_way.pending.clear();
        }
        window.refilled(database.commits[commit].position, rows);
        if self.sabotage == Sabotage::IgnoreGate {
            window.gate = Seq(0);
        }
    }

    /// What the node does after anything happened: asks for reads, lets output out, checks it.
    fn after(
        &mut self,
        database: &Database,
        applied: usize,
        now: Instant,
        flush: bool,
    ) -> Result<bool, String> {
        let Some((window, mirror)) = &mut self.open else {
            return Ok(false);
        };
        let position = database.commits[applied].position;
        if window.refill.is_none() {
            self.read = window
                .wanted_refill(position, now)
                .map(|refill| (refill, applied));
        }
        if self.sabotage == Sabotage::None {
            check_state(window, &database.matching(&self.shape, applied), position)?;
        }
        let step = if flush { window.flush(position) } else { None };
        let Some(step) = step else {
            return Ok(false);
        };
        mirror.apply(&self.shape, self.extent.limit, &step)?;
        mirror.check(database, &self.shape, self.extent)?;
        Ok(true)
    }
}

/// The window holds exactly the matching rows up to its reach, and everything where the reach is everything.
fn check_state(window: &Window<TestShape>, matching: &[Row], applied: Seq) -> Result<(), String> {
    if applied < window.gate() {
        return Ok(());
    }
    let expected: Vec<Row> = matching
        .iter()
        .copied()
        .filter(|row| window.reaches(row))
        .collect();
    let held: Vec<Row> = window.rows.iter().map(|row| **row).collect();
    if held != expected || window.held.len() != held.len() {
        return Err(format!(
            "holds {held:?}, reach is {:?}, matching: {matching:?}",
            window.reach
        ));
    }
    Ok(())
}

fn run(seed: u64, sabotage: Sabotage, tally: &mut Tally) -> Result<(), String> {
    let mut random = Random(seed);
    let mut database = Database::new(&mut random);
    let shape = TestShape::random(&mut random);
    let extent = Extent {
        offset: if random.chance(70) { 0 } else { random.below(4) },
        limit: if random.chance(3) { 0 } else { 1 + random.below(5) },
        slack: 0,
    };
    let mut applied = 0;
    let mut now = Instant::now();
    let slacked = Extent { slack: 1, ..extent };
    let mut subscribers =
        [extent, slacked].map(|extent| Subscriber::new(&mut random, extent, shape, sabotage, 0));
    for _ in 0..STEPS {
        match random.below(10) {
            0..=3 => database.commit(&mut random),
            4..=7 if applied < database.head() => {
                applied += 1;
                let commit = &database.commits[applied];
                subscribers
                    .iter_mut()
                    .for_each(|subscriber| subscriber.hear(commit));
            }
            _ => {
                for subscriber in &mut subscribers {
                    if random.chance(30) {
                        continue;
                    }
                    if subscriber.open.is_none() {
                        subscriber.open(&database, &mut random, applied, tally);
                    } else {
                        subscriber.complete(&database, &mut random, applied, tally);
                    }
                }
            }
        }
        now += Duration::from_secs(random.next() % 8);
        let flush = random.chance(75);
        for subscriber in &mut subscribers {
            tally.transitions += u64::from(subscriber.after(&database, applied, now, flush)?);
        }
    }
    quiesce(&database, &mut random, applied, &mut subscribers, tally)
}

/// With everything delivered and every read answered, each client has what the query returns.
fn quiesce(
    database: &Database,
    random: &mut Random,
    applied: usize,
    subscribers: &mut [Subscriber],
    tally: &mut Tally,
) -> Result<(), String> {
    let head = database.head();
    let now = Instant::now();
    for subscriber in subscribers {
        for commit in &database.commits[applied + 1..] {
            subscriber.hear(commit);
        }
        if subscriber.open.is_none() {
            subscriber.open(database, random, head, tally);
        }
        subscriber.after(database, head, now, true)?;
        for _ in 0..100 {
            if subscriber.read.is_some() {
                subscriber.complete(database, random, head, tally);
            }
            subscriber.after(database, head, now, true)?;
        }
        let (window, mirror) = subscriber.open.as_mut().ok_or("never opened")?;
        if window.refill.is_some() {
            return Err("a refill is wanted for ever".to_owned());
        }
        let expected = database.matching(&subscriber.shape, head);
        mirror.at = database.commits[head].position;
        if mirror.total != expected.len() as u64 {
            return Err(format!("total {} of {}", mirror.total, expected.len()));
        }
        mirror.check(database, &subscriber.shape, subscriber.extent)?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a test's own switches")]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn every_transition_equals_the_query_at_its_commit() {
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
        let races = [
            tally.refills_ahead,
            tally.refills_behind,
            tally.opened_ahead,
            tally.opened_behind,
        ];
        assert!(
            races.iter().all(|&races| races > 100),
            "races were not exercised: {tally:?}"
        );
        assert!(tally.transitions > count, "{tally:?}");
    }
}

#[test]
fn the_oracle_notices_a_node_that_breaks_the_rules() {
    for sabotage in [Sabotage::ForgetPending, Sabotage::IgnoreGate] {
        let caught: BTreeSet<u64> = (1..=5_000)
            .filter(|&seed| run(seed, sabotage, &mut Tally::default()).is_err())
            .collect();
        println!(
            "{sabotage:?}: {} of 5000 histories fail, first {:?}",
            caught.len(),
            caught.first()
        );
        assert!(!caught.is_empty(), "{sabotage:?} went unnoticed");
    }
}
