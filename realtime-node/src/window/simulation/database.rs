//! The simulated database: rows, queries over them, and every commit with the state that it left.

use std::cmp::Ordering;
use std::sync::Arc;

use alyx_core::Seq;

use crate::window::{Change, Shape};

const IDS: usize = 12;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to pick test cases.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn small(&mut self, bound: usize) -> i8 {
        i8::try_from(self.below(bound)).unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: u8,
    team: i8,
    rank: Option<i8>,
    note: i8,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Predicate {
    Any,
    Team(i8),
    RankAtLeast(i8),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct TestShape {
    predicate: Predicate,
    by_rank: Option<bool>,
    by_note: Option<bool>,
    id_descending: bool,
    shows_note: bool,
}

fn directed(order: Ordering, descending: bool) -> Ordering {
    if descending { order.reverse() } else { order }
}

impl TestShape {
    pub(super) fn random(random: &mut Random) -> Self {
        let predicate = match random.below(3) {
            0 => Predicate::Any,
            1 => Predicate::Team(random.small(2)),
            _ => Predicate::RankAtLeast(random.small(3)),
        };
        let key = |random: &mut Random, percent| random.chance(percent).then(|| random.chance(50));
        Self {
            predicate,
            by_rank: key(random, 85),
            by_note: key(random, 40),
            id_descending: random.chance(50),
            shows_note: random.chance(60),
        }
    }

    pub(super) fn shown(&self, row: &Row) -> Row {
        Row {
            note: if self.shows_note { row.note } else { 0 },
            ..*row
        }
    }
}

impl Shape for TestShape {
    type Row = Row;
    type Id = u8;

    fn matches(&self, row: &Row) -> bool {
        match self.predicate {
            Predicate::Any => true,
            Predicate::Team(team) => row.team == team,
            Predicate::RankAtLeast(least) => row.rank.is_some_and(|rank| rank >= least),
        }
    }

    fn compare(&self, a: &Row, b: &Row) -> Ordering {
        let rank = self.by_rank.map_or(Ordering::Equal, |descending| {
            directed(a.rank.cmp(&b.rank), descending)
        });
        let note = self.by_note.map_or(Ordering::Equal, |descending| {
            directed(a.note.cmp(&b.note), descending)
        });
        rank.then(note)
            .then(directed(a.id.cmp(&b.id), self.id_descending))
    }

    fn id(&self, row: &Row) -> u8 {
        row.id
    }

    fn looks_same(&self, a: &Row, b: &Row) -> bool {
        self.shown(a) == self.shown(b)
    }
}

pub(super) type State = [Option<Row>; IDS];

pub(super) struct Committed {
    pub(super) position: Seq,
    pub(super) changes: Vec<Change<Row>>,
    state: State,
}

/// The simulated database: every commit with the state that it left.
pub(super) struct Database {
    pub(super) commits: Vec<Committed>,
    ids: usize,
}

impl Database {
    pub(super) fn new(random: &mut Random) -> Self {
        let ids = 3 + random.below(IDS - 2);
        let mut state = [None; IDS];
        for (id, place) in state.iter_mut().enumerate().take(ids) {
            if random.chance(60) {
                *place = Some(Self::row(random, id));
            }
        }
        let start = Committed {
            position: Seq(10),
            changes: Vec::new(),
            state,
        };
        Self {
            commits: vec![start],
            ids,
        }
    }

    pub(super) fn row(random: &mut Random, id: usize) -> Row {
        Row {
            id: u8::try_from(id).unwrap(),
            team: random.small(2),
            rank: random.chance(85).then(|| random.small(5)),
            note: random.small(3),
        }
    }

    pub(super) fn head(&self) -> usize {
        self.commits.len() - 1
    }

    pub(super) fn commit(&mut self, random: &mut Random) {
        let last = &self.commits[self.head()];
        let (mut state, mut seq) = (last.state, last.position);
        let changes = (0..1 + random.below(4))
            .map(|_| {
                let id = random.below(self.ids);
                let old = state[id];
                let new = match old {
                    Some(_) if random.chance(35) => None,
                    Some(row) if random.chance(25) => Some(Row {
                        note: random.small(3),
                        ..row
                    }),
                    _ => Some(Self::row(random, id)),
                };
                state[id] = new;
                seq = Seq(seq.0 + 1);
                Change {
                    seq,
                    old: old.map(Arc::new),
                    new: new.map(Arc::new),
                }
            })
            .collect();
        self.commits.push(Committed {
            position: seq,
            changes,
            state,
        });
    }

    pub(super) fn matching(&self, shape: &TestShape, commit: usize) -> Vec<Row> {
        let mut rows: Vec<Row> = self.commits[commit]
            .state
            .iter()
            .flatten()
            .copied()
            .filter(|row| shape.matches(row))
            .collect();
        rows.sort_by(|a, b| shape.compare(a, b));
        rows
    }

    pub(super) fn at(&self, position: Seq) -> Option<usize> {
        self.commits
            .binary_search_by_key(&position, |commit| commit.position)
            .ok()
    }
}
