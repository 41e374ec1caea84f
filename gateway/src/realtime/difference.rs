//! The difference between two windows of one query whose order is not known here.
//!
//! **Invariant:** deletes and the old places of updates leave, then inserts and updates enter at their positions by
//! ascending position; what stays is in the same order in both windows, so this turns one window into the other.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use alyx_core::Value;
use alyx_service::realtime::Document;

use super::message::Step;

/// A key in the order of the database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a>(pub(super) &'a Value);

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.sql_cmp(other.0)
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key<'_> {}

/// What turns `old` into `new`; totals and positions are the caller's. Costs `n log n`.
pub(super) fn difference<'a>(old: &'a [Document], new: &'a [Document]) -> Step<'a> {
    let mut left: BTreeMap<Key<'a>, usize> =
        (0..).zip(old).map(|(place, doc)| (Key(&doc.id), place)).collect();
    let mut step = Step::default();
    // Places in the old window of what looks the same, with the place in the new one.
    let mut same: Vec<(usize, usize)> = Vec::with_capacity(new.len());
    for (position, doc) in new.iter().enumerate() {
        match left.remove(&Key(&doc.id)) {
            None => step.inserts.push((position, doc)),
            Some(place) if old[place].json == doc.json => same.push((place, position)),
            Some(_) => step.updates.push((position, doc)),
        }
    }
    let moved = out_of_order(&same);
    if !moved.is_empty() {
        step.updates
            .extend(moved.into_iter().map(|position| (position, &new[position])));
        step.updates.sort_unstable_by_key(|(position, _)| *position);
    }
    step.deletes = left.into_keys().map(|key| key.0).collect();
    step
}

/// Given (old place, new place) by ascending new place: the new places of the fewest without which the old places
/// ascend too (the rest is a longest increasing subsequence, found by patience sorting).
fn out_of_order(same: &[(usize, usize)]) -> Vec<usize> {
    if same.is_sorted_by_key(|(place, _)| *place) {
        return Vec::new();
    }
    // For every length, where the subsequence of that length with the smallest end ends.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(same.len());
    for (index, (place, _)) in same.iter().enumerate() {
        let length = ends.partition_point(|&end| same[end].0 < *place);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        if length == ends.len() {
            ends.push(index);
        } else {
            ends[length] = index;
        }
    }
    let mut stays = vec![false; same.len()];
    let mut at = ends.last().copied();
    while let Some(index) = at {
        stays[index] = true;
        at = before[index];
    }
    let moved = same.iter().zip(stays).filter(|(_, stays)| !stays);
    moved.map(|((_, position), _)| *position).collect()
}

#[cfg(test)]
mod tests {
    use alyx_service::realtime::WindowChange;

    use super::super::mirror::apply;
    use super::super::tests::node::{Truth, doc};
    use super::*;

    fn owned(step: &Step<'_>) -> WindowChange {
        let docs = |list: &[(usize, &Document)]| list.iter().map(|(at, doc)| (*at, (*doc).clone())).collect();
        WindowChange {
            inserts: docs(&step.inserts),
            updates: docs(&step.updates),
            deletes: step.deletes.iter().map(|&id| id.clone()).collect(),
            total: 0,
        }
    }

    fn docs(rows: &[(i64, u64)]) -> Vec<Document> {
        rows.iter().map(|&(id, version)| doc(id, version)).collect()
    }

    #[test]
    fn only_what_differs_is_named() {
        // Positions of inserts and updates, and how many leave.
        let check = |old: &[(i64, u64)], new: &[(i64, u64)], expected: (&[usize], &[usize], usize)| {
            let (old, new) = (docs(old), docs(new));
            let step = difference(&old, &new);
            let places = |list: &[(usize, &Document)]| list.iter().map(|(at, _)| *at).collect::<Vec<_>>();
            let found = (places(&step.inserts), places(&step.updates), step.deletes.len());
            assert_eq!(found, (expected.0.to_vec(), expected.1.to_vec(), expected.2));
        };
        check(&[(1, 1), (2, 1)], &[(1, 1), (2, 1)], (&[], &[], 0));
        check(&[], &[(1, 1)], (&[0], &[], 0));
        check(&[(1, 1)], &[], (&[], &[], 1));
        check(&[(1, 1), (2, 1)], &[(1, 2), (2, 1)], (&[], &[0], 0));
        // One that moves past many is one update.
        check(
            &[(1, 1), (2, 1), (3, 1), (4, 1)],
            &[(2, 1), (3, 1), (4, 1), (1, 1)],
            (&[], &[3], 0),
        );
        check(
            &[(1, 1), (2, 1), (3, 1)],
            &[(9, 1), (3, 1), (1, 1)],
            (&[0], &[1], 1),
        );
    }

    #[test]
    fn the_difference_of_any_two_windows_turns_one_into_the_other() {
        let mut truth = Truth::new(20, 77);
        for _ in 0..2_000 {
            let old = truth.docs();
            for _ in 0..truth.below(6) {
                truth.commit();
            }
            let new = truth.docs();
            let mut window = old.clone();
            apply(&mut window, &owned(&difference(&old, &new)));
            let json = |docs: &[Document]| docs.iter().map(|doc| doc.json.clone()).collect::<Vec<_>>();
            assert_eq!(json(&window), json(&new));
        }
    }
}
