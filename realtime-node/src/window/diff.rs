//! The difference between two states of a visible window.
//!
//! Rows that did not change are the same allocation in both states, so that the walk costs a pointer comparison
//! for each of them and an order comparison only where the states differ.

use std::cmp::Ordering;
use std::sync::Arc;

use alyx_core::Seq;
use rustc_hash::FxHashSet;

use super::Shape;

/// With more edits than this the emitted window is copied instead of edited.
const MAX_EDITS_IN_PLACE: usize = 16;

/// The step from one state of the window to another. Deletes and the old places of updates leave first; then
/// inserts and updates, merged by ascending position, enter at their position in the new window.
pub(crate) struct Transition<S: Shape> {
    /// Position of the state before.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "each member's own position is told; tests hold them equal"
        )
    )]
    pub(crate) from: Seq,
    /// Position of the state after.
    pub(crate) to: Seq,
    /// Rows new in the window, by ascending position.
    pub(crate) inserts: Vec<(usize, Arc<S::Row>)>,
    /// Rows that stayed and changed or moved, by ascending position.
    pub(crate) updates: Vec<(usize, Arc<S::Row>)>,
    /// Rows that left.
    pub(crate) deletes: Vec<S::Id>,
    /// Rows that match at `to`.
    pub(crate) total: u64,
}

/// Positions and totals on both sides of a step.
pub(super) struct Move<'w> {
    pub(super) from: &'w mut Seq,
    pub(super) to: Seq,
    pub(super) old_total: &'w mut u64,
    pub(super) total: u64,
}

/// Compares `emitted` with `now`; where they differ, or the totals do, the step is returned and `emitted` and the
/// old position and total become the new ones.
pub(super) fn step<S: Shape>(
    shape: &S,
    emitted: &mut Vec<Arc<S::Row>>,
    now: &[Arc<S::Row>],
    moved: Move<'_>,
) -> Option<Transition<S>> {
    let edits = walk(shape, emitted, now);
    let mut left: FxHashSet<S::Id> = FxHashSet::default();
    if !edits.entered.is_empty() {
        left.extend(edits.left.iter().map(|&place| shape.id(&emitted[place])));
    }
    let (mut inserts, mut updates) = (Vec::new(), Vec::new());
    for entry in &edits.entered {
        let row = now[entry.place].clone();
        let stayed = entry.replaces || left.remove(&shape.id(&row));
        if stayed {
            updates.push((entry.place, row));
        } else {
            inserts.push((entry.place, row));
        }
    }
    let deletes: Vec<S::Id> = edits
        .left
        .iter()
        .map(|&place| shape.id(&emitted[place]))
        .filter(|id| edits.entered.is_empty() || left.contains(id))
        .collect();
    edits.carry_out(emitted, now);

    let same = inserts.is_empty() && updates.is_empty() && deletes.is_empty();
    if same && *moved.old_total == moved.total {
        return None;
    }
    *moved.old_total = moved.total;
    Some(Transition {
        from: std::mem::replace(moved.from, moved.to),
        to: moved.to,
        inserts,
        updates,
        deletes,
        total: moved.total,
    })
}

/// A row of the new state that is not the same in the old one.
struct Entry {
    /// Its place in the new state.
    place: usize,
    /// Whether the old state has a row of the same key, hence of the same id, in its stead.
    replaces: bool,
}

#[derive(Default)]
struct Edits {
    /// Places in the old state of rows whose key is not in the new one, ascending.
    left: Vec<usize>,
    /// Ascending.
    entered: Vec<Entry>,
    /// Places in the new state of rows that look the same and are another allocation.
    swapped: Vec<usize>,
}

/// Both states are in order, so one walk over both finds where they differ.
fn walk<S: Shape>(shape: &S, old: &[Arc<S::Row>], new: &[Arc<S::Row>]) -> Edits {
    let mut edits = Edits::default();
    let (mut i, mut j) = (0, 0);
    while let (Some(before), Some(after)) = (old.get(i), new.get(j)) {
        if Arc::ptr_eq(before, after) {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        match shape.compare(before, after) {
            Ordering::Less => {
                edits.left.push(i);
                i += 1;
            }
            Ordering::Greater => {
                edits.entered.push(Entry {
                    place: j,
                    replaces: false,
                });
                j += 1;
            }
            Ordering::Equal => {
                if shape.looks_same(before, after) {
                    edits.swapped.push(j);
                } else {
                    edits.entered.push(Entry {
                        place: j,
                        replaces: true,
                    });
                }
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    edits.left.extend(i..old.len());
    edits.entered.extend((j..new.len()).map(|place| Entry {
        place,
        replaces: false,
    }));
    edits
}

impl Edits {
    /// Turns the old state into the new one.
    fn carry_out<R>(&self, old: &mut Vec<Arc<R>>, new: &[Arc<R>]) {
        if self.left.len() + self.entered.len() > MAX_EDITS_IN_PLACE {
            old.clear();
            old.extend_from_slice(new);
            return;
        }
        for &place in self.left.iter().rev() {
            old.remove(place);
        }
        for entry in &self.entered {
            if entry.replaces {
                old[entry.place] = new[entry.place].clone();
            } else {
                old.insert(entry.place, new[entry.place].clone());
            }
        }
        for &place in &self.swapped {
            old[place] = new[place].clone();
        }
    }
}
