//! A window whose filter looks into other documents: it cannot tell by itself which rows match, and where nobody else
//! can, it is read again as a whole.

use std::sync::Arc;

use alyx_core::Seq;

use super::{Change, Held, Reach, Shape, Snapshot, Window};

impl<S: Shape> Window<S> {
    /// As [`Window::apply`], where it is known whether the row was in the result before and is in it after.
    pub(crate) fn apply_known(&mut self, change: &Change<S::Row>, before: bool, after: bool) {
        if change.seq <= self.opened_at {
            return;
        }
        match (before, after) {
            (false, true) => self.total += 1,
            (true, false) => self.total = self.total.saturating_sub(1),
            (false, false) => return,
            (true, true) => {}
        }
        self.place(change, before, after);
    }

    /// The rows held may no longer be the result: nothing is let out until [`Window::replace`].
    pub(crate) fn distrust(&mut self) {
        self.stale = true;
    }

    /// Whether nothing is let out until [`Window::replace`].
    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Position of the last read of the whole window: changes up to it are known already.
    pub(crate) fn read_at(&self) -> Seq {
        self.opened_at
    }

    /// The result as another read found it. What was let out last stays what the next step begins from, so the read
    /// must not be older than that.
    pub(crate) fn replace(&mut self, snapshot: Snapshot<S::Row>) {
        let Snapshot { at, rows, total } = snapshot;
        self.fill(at, rows);
        self.gate = at;
        self.opened_at = at;
        self.total = total;
        self.refill = None;
        self.stale = false;
    }

    /// Holds the first rows of the result as of `at`, and no others.
    pub(super) fn fill(&mut self, at: Seq, mut rows: Vec<Arc<S::Row>>) {
        // In order already, as far as the database and `compare` agree; places are found by `compare` alone.
        rows.sort_by(|a, b| self.shape.compare(a, b));
        self.reach = match rows.last() {
            _ if self.extent.limit == 0 => Reach::Nothing,
            Some(last) if rows.len() >= self.extent.snapshot_rows() => Reach::Through(last.clone()),
            _ => Reach::All,
        };
        let held = |row: &Arc<S::Row>| {
            let held = Held {
                row: row.clone(),
                rev: at,
            };
            (self.shape.id(row), held)
        };
        self.held = rows.iter().map(held).collect();
        self.rows = rows;
    }
}

#[cfg(test)]
impl<S: Shape> Window<S> {
    /// Breaks the rule that a stale window says nothing.
    pub(crate) fn stale_for_tests(&mut self, stale: bool) {
        self.stale = stale;
    }
}
