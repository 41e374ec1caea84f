//! A group's window as the gateway knows it: what new subscribers get, and the ground on which several changes
//! become one step.
//!
//! **Invariants:** the window is what the node said it is at `applied`; a client that has the window of `sent`
//! and applies the next step has the window of that step's `to`. Steps never mix two groups of changes halfway:
//! a step always ends at a position that the node named.

use std::collections::BTreeMap;

use alyx_core::{Seq, Value};
use alyx_service::realtime::{Document, WindowChange};
use bytes::Bytes;

use super::difference::{Key, difference};
use super::message::{self, Step};

/// The window of one live query.
#[derive(Debug)]
pub(super) struct Mirror {
    docs: Vec<Document>,
    total: u64,
    /// Where the clients are: the end of the last step.
    sent: Seq,
    /// Where the window is. Ahead of `sent` only while a step is being put together.
    applied: Seq,
    /// Total as of `sent`.
    sent_total: u64,
    /// The snapshot after its head, until the next change.
    snapshot: Option<Bytes>,
}

/// A change did not start where the window is: the node and the gateway have lost each other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) expected: Seq,
    pub(super) found: Seq,
}

impl Mirror {
    pub(super) fn new(docs: Vec<Document>, total: u64, at: Seq) -> Self {
        Self {
            docs,
            total,
            sent: at,
            applied: at,
            sent_total: total,
            snapshot: None,
        }
    }

    /// What follows a snapshot's head; made once for all who ask before the next change.
    pub(super) fn snapshot(&mut self) -> Bytes {
        let body = self
            .snapshot
            .get_or_insert_with(|| message::snapshot_body(&self.docs, self.total, self.sent));
        body.clone()
    }

    /// Applies a run of changes, oldest first, as one step and hands it to `send`, unless it changes nothing
    /// that a client sees.
    pub(super) fn step(
        &mut self,
        changes: &[(Seq, Seq, &WindowChange)],
        send: impl FnOnce(&Step<'_>),
    ) -> Result<(), Gap> {
        let mut touched = Touched::default();
        for (from, to, change) in changes {
            if *from != self.applied {
                return Err(Gap {
                    expected: self.applied,
                    found: *from,
                });
            }
            touched.note(change);
            apply(&mut self.docs, change);
            self.applied = *to;
            self.total = change.total;
        }
        let step = touched.step(&self.docs);
        let still = step.inserts.is_empty() && step.updates.is_empty() && step.deletes.is_empty();
        if still && self.total == self.sent_total {
            // Clients stay where they are; the next step starts there.
            return Ok(());
        }
        send(&Step {
            total: self.total,
            from: self.sent,
            to: self.applied,
            ..step
        });
        self.sent = self.applied;
        self.sent_total = self.total;
        self.snapshot = None;
        Ok(())
    }

    /// Where the window is.
    pub(super) fn position(&self) -> Seq {
        self.applied
    }

    /// Whether a window at that position is this one further on.
    pub(super) fn goes_on_to(&self, at: Seq) -> bool {
        self.applied <= at
    }

    /// Takes the window as it is at `at`, not before this one, and hands the step there to `send`, unless it
    /// changes nothing that a client sees.
    pub(super) fn replace(&mut self, docs: Vec<Document>, total: u64, at: Seq, send: impl FnOnce(&Step<'_>)) {
        let step = difference(&self.docs, &docs);
        let still = step.inserts.is_empty() && step.updates.is_empty() && step.deletes.is_empty();
        let moved = !still || total != self.sent_total;
        if moved {
            send(&Step {
                total,
                from: self.sent,
                to: at,
                ..step
            });
            (self.sent, self.sent_total) = (at, total);
            self.snapshot = None;
        }
        (self.docs, self.total, self.applied) = (docs, total, at);
    }
}

/// Moves the window by one change, in the order that the seam prescribes.
pub(super) fn apply(docs: &mut Vec<Document>, change: &WindowChange) {
    let leaving: Vec<&Value> = change
        .deletes
        .iter()
        .chain(change.updates.iter().map(|(_, doc)| &doc.id))
        .collect();
    remove(docs, leaving);
    let (mut inserts, mut updates) = (change.inserts.iter().peekable(), change.updates.iter().peekable());
    loop {
        let next = match (inserts.peek(), updates.peek()) {
            (Some((insert, _)), Some((update, _))) if update < insert => updates.next(),
            (Some(_), _) => inserts.next(),
            (None, _) => updates.next(),
        };
        let Some((position, doc)) = next else { break };
        docs.insert((*position).min(docs.len()), doc.clone());
    }
}

fn remove(docs: &mut Vec<Document>, mut leaving: Vec<&Value>) {
    const FEW: usize = 8;
    match leaving.as_slice() {
        [] => {}
        few if few.len() <= FEW => docs.retain(|doc| !few.contains(&&doc.id)),
        _ => {
            leaving.sort_unstable_by(|a, b| a.sql_cmp(b));
            docs.retain(|doc| leaving.binary_search_by(|id| id.sql_cmp(&doc.id)).is_err());
        }
    }
}

/// What a run of changes touched, and whether it was in the window before the run.
#[derive(Debug, Default)]
struct Touched<'a> {
    was_there: BTreeMap<Key<'a>, bool>,
}

impl<'a> Touched<'a> {
    fn note(&mut self, change: &'a WindowChange) {
        let inserts = change.inserts.iter().map(|(_, doc)| (&doc.id, false));
        let updates = change.updates.iter().map(|(_, doc)| (&doc.id, true));
        let deletes = change.deletes.iter().map(|id| (id, true));
        for (id, was_there) in deletes.chain(updates).chain(inserts) {
            self.was_there.entry(Key(id)).or_insert(was_there);
        }
    }

    /// The difference between the window before the run and `docs`, the one after it.
    fn step(mut self, docs: &'a [Document]) -> Step<'a> {
        let mut step = Step::default();
        if self.was_there.is_empty() {
            return step;
        }
        for (position, doc) in docs.iter().enumerate() {
            match self.was_there.remove(&Key(&doc.id)) {
                Some(true) => step.updates.push((position, doc)),
                Some(false) => step.inserts.push((position, doc)),
                None => {}
            }
        }
        let gone = self.was_there.into_iter().filter(|(_, was_there)| *was_there);
        step.deletes = gone.map(|(id, _)| id.0).collect();
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(id: i64, version: u32) -> Document {
        Document {
            id: Value::Int(id),
            json: Bytes::from(format!("{{\"id\":{id},\"v\":{version}}}")),
        }
    }

    fn ids(mirror: &Mirror) -> Vec<i64> {
        mirror.docs.iter().filter_map(|doc| doc.id.as_int()).collect()
    }

    fn change(
        inserts: &[(usize, i64)],
        updates: &[(usize, i64)],
        deletes: &[i64],
        total: u64,
    ) -> WindowChange {
        let docs = |list: &[(usize, i64)]| list.iter().map(|&(at, id)| (at, doc(id, 2))).collect();
        WindowChange {
            inserts: docs(inserts),
            updates: docs(updates),
            deletes: deletes.iter().copied().map(Value::Int).collect(),
            total,
        }
    }

    /// Inserts, updates and deletes of a step, as ids with positions.
    type Seen = (Vec<(usize, i64)>, Vec<(usize, i64)>, Vec<i64>, u64, u64);

    fn run(mirror: &mut Mirror, changes: &[WindowChange]) -> Option<Seen> {
        let mut at = mirror.applied.0;
        let run: Vec<_> = changes
            .iter()
            .map(|change| {
                at += 1;
                (Seq(at - 1), Seq(at), change)
            })
            .collect();
        let mut seen = None;
        let list = |docs: &[(usize, &Document)]| {
            docs.iter()
                .map(|(at, doc)| (*at, doc.id.as_int().expect("an integer")))
                .collect()
        };
        mirror
            .step(&run, |step| {
                let deletes = step
                    .deletes
                    .iter()
                    .map(|id| id.as_int().expect("an integer"))
                    .collect();
                seen = Some((
                    list(&step.inserts),
                    list(&step.updates),
                    deletes,
                    step.from.0,
                    step.to.0,
                ));
            })
            .expect("no gap");
        seen
    }

    fn mirror(ids: &[i64]) -> Mirror {
        Mirror::new(
            ids.iter().map(|&id| doc(id, 1)).collect(),
            ids.len() as u64,
            Seq(10),
        )
    }

    #[test]
    fn one_change_moves_the_window_as_the_seam_says() {
        let mut mirror = mirror(&[10, 20, 30, 40]);
        let seen = run(&mut mirror, &[change(&[(0, 5), (3, 35)], &[(1, 40)], &[20], 5)]);
        assert_eq!(ids(&mirror), [5, 40, 10, 35, 30]);
        assert_eq!(
            seen,
            Some((vec![(0, 5), (3, 35)], vec![(1, 40)], vec![20], 10, 11))
        );
    }

    #[test]
    fn a_run_of_changes_becomes_its_net_effect() {
        let check = |changes: &[WindowChange], expected: Option<Seen>, window: &[i64]| {
            let mut mirror = mirror(&[10, 20]);
            assert_eq!(run(&mut mirror, changes), expected, "{changes:?}");
            assert_eq!(ids(&mirror), window);
        };
        // New, then changed: new. New, then gone: nothing. There, gone, back: changed.
        check(
            &[change(&[(0, 5)], &[], &[], 3), change(&[], &[(0, 5)], &[], 3)],
            Some((vec![(0, 5)], vec![], vec![], 10, 12)),
            &[5, 10, 20],
        );
        check(
            &[change(&[(0, 5)], &[], &[], 3), change(&[], &[], &[5], 2)],
            None,
            &[10, 20],
        );
        check(
            &[change(&[], &[], &[10], 1), change(&[(1, 10)], &[], &[], 2)],
            Some((vec![], vec![(1, 10)], vec![], 10, 12)),
            &[20, 10],
        );
        check(
            &[change(&[], &[(0, 20)], &[], 2), change(&[], &[], &[20], 1)],
            Some((vec![], vec![], vec![20], 10, 12)),
            &[10],
        );
    }

    #[test]
    fn what_clients_do_not_see_moves_nobody_and_the_chain_goes_on_without_a_hole() {
        let mut mirror = mirror(&[10, 20]);
        let before = mirror.snapshot();
        assert_eq!(run(&mut mirror, &[change(&[], &[], &[], 2)]), None);
        assert_eq!(mirror.snapshot(), before);
        assert_eq!(
            run(&mut mirror, &[change(&[], &[], &[], 3)]),
            Some((vec![], vec![], vec![], 10, 12)),
            "a new total alone is news"
        );
        assert_ne!(mirror.snapshot(), before);
    }

    #[test]
    fn a_change_that_starts_elsewhere_is_a_gap() {
        let mut mirror = mirror(&[10]);
        let change = change(&[], &[], &[10], 0);
        let gap = mirror.step(&[(Seq(11), Seq(12), &change)], |_| panic!("nothing to send"));
        assert_eq!(
            gap,
            Err(Gap {
                expected: Seq(10),
                found: Seq(11)
            })
        );
        assert_eq!(ids(&mirror), [10]);
    }

    #[test]
    fn many_leave_at_once() {
        let all: Vec<i64> = (0..100).collect();
        let mut mirror = mirror(&all);
        let odd: Vec<i64> = all.iter().copied().filter(|id| id % 2 == 1).collect();
        run(&mut mirror, &[change(&[], &[], &odd, 50)]);
        assert_eq!(
            ids(&mirror),
            all.into_iter().filter(|id| id % 2 == 0).collect::<Vec<_>>()
        );
    }
}
