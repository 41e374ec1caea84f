//! The window of one live query: a pure state machine that turns snapshots and changes into transitions.
//!
//! A window holds the first `offset + limit` rows of its query in order, and some slack behind them, so that a row
//! that leaves is replaced without a read. Invariants:
//!
//! - Every matching row up to `reach` is held, and nothing else is; `reach` covers everything where all matching
//!   rows are held. It moves up only by a refill and down only by a trim.
//! - A transition shows the query's result at exactly its `to`: states that mix two commits, or that lack rows
//!   which only a refill can bring, are held back.
//!
//! It does no I/O and knows neither the store nor the clock: the node reads what [`Window::wanted_refill`] asks
//! for and hands the time in.

mod anew;
mod diff;
#[cfg(test)]
mod simulation;

use std::cmp::Ordering;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::Seq;
use rustc_hash::FxHashMap;

pub(crate) use diff::Transition;

/// Changes that a window remembers while a read is under way; with more of them the read is given up and repeated.
pub(crate) const MAX_PENDING: usize = 16_384;

/// Two refills within this time double the slack.
const REFILLS_TOO_CLOSE: Duration = Duration::from_secs(10);

/// Slack never grows beyond this.
const MAX_SLACK: usize = 1_000;

/// What a window has to know about the rows of its query.
pub(crate) trait Shape {
    /// A row.
    type Row;
    /// Its primary key.
    type Id: Clone + Eq + Hash;

    /// Whether the row is in the query's result, limit aside.
    fn matches(&self, row: &Self::Row) -> bool;

    /// The query's order. Total: equal only for rows of the same id.
    fn compare(&self, a: &Self::Row, b: &Self::Row) -> Ordering;

    /// The row's primary key.
    fn id(&self, row: &Self::Row) -> Self::Id;

    /// Whether clients see no difference between two rows of one id.
    fn looks_same(&self, a: &Self::Row, b: &Self::Row) -> bool;
}

/// One row before and after. At least one side is there.
#[derive(Debug)]
pub(crate) struct Change<R> {
    /// Its place in the log, which is also the revision of the row that it leaves.
    pub(crate) seq: Seq,
    /// The row before.
    pub(crate) old: Option<Arc<R>>,
    /// The row after.
    pub(crate) new: Option<Arc<R>>,
}

impl<R> Clone for Change<R> {
    fn clone(&self) -> Self {
        Self {
            seq: self.seq,
            old: self.old.clone(),
            new: self.new.clone(),
        }
    }
}

/// Which stretch of the result is visible, and how many rows to hold behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Rows left out first.
    pub(crate) offset: usize,
    /// Most rows visible.
    pub(crate) limit: usize,
    /// Rows held behind the visible ones.
    pub(crate) slack: usize,
}

impl Extent {
    /// The extent for a query's offset and limit, with the slack that makes refills rare.
    pub(crate) fn new(offset: usize, limit: usize) -> Self {
        Self {
            offset,
            limit,
            slack: (limit / 4).max(10),
        }
    }

    /// Rows that have to be held for the visible ones to be known. A window that shows nothing holds nothing.
    pub(crate) fn depth(self) -> usize {
        if self.limit == 0 {
            0
        } else {
            self.offset + self.limit
        }
    }

    /// Rows to read for a fresh window.
    pub(crate) fn snapshot_rows(self) -> usize {
        if self.limit == 0 {
            0
        } else {
            self.depth() + self.slack
        }
    }
}

/// The query's result as one read found it.
#[derive(Debug)]
pub(crate) struct Snapshot<R> {
    /// Position of the read.
    pub(crate) at: Seq,
    /// The first [`Extent::snapshot_rows`] rows, in order.
    pub(crate) rows: Vec<Arc<R>>,
    /// All rows that match.
    pub(crate) total: u64,
}

/// A read that the window needs: the first `count` matching rows behind `after`, at a position not before the last
/// commit applied.
#[derive(Debug)]
pub(crate) struct Refill<R> {
    /// Rows up to and including this one are held.
    pub(crate) after: Arc<R>,
    /// How many rows.
    pub(crate) count: usize,
}

/// How far the window knows the result.
#[derive(Debug)]
enum Reach<R> {
    /// No row at all (a window with limit 0).
    Nothing,
    /// Every matching row up to this one, whether or not it still exists.
    Through(Arc<R>),
    /// Every matching row.
    All,
}

/// A row that is held, and the position that it is known from.
#[derive(Debug)]
struct Held<R> {
    row: Arc<R>,
    rev: Seq,
}

/// A read under way and everything that happened since it was asked for.
#[derive(Debug)]
struct UnderWay<R> {
    asked_at: Seq,
    count: usize,
    pending: Vec<Change<R>>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Window<S: Shape> {
    shape: S,
    extent: Extent,
    /// The rows held, in order.
    rows: Vec<Arc<S::Row>>,
    /// The same rows by id.
    held: FxHashMap<S::Id, Held<S::Row>>,
    reach: Reach<S::Row>,
    /// Output is allowed from this position on.
    gate: Seq,
    /// Position of the snapshot; changes up to it are known already.
    opened_at: Seq,
    total: u64,
    /// The rows held may not be the result: see [`Window::distrust`].
    stale: bool,
    refill: Option<UnderWay<S::Row>>,
    last_refill: Option<Instant>,
    emitted: Vec<Arc<S::Row>>,
    emitted_total: u64,
    emitted_at: Seq,
}

impl<S: Shape> Window<S> {
    /// A window from a snapshot. The changes that were routed to it since before that snapshot was read are to be
    /// applied next, in order; those up to the snapshot are skipped, here and later.
    pub(crate) fn open(shape: S, extent: Extent, snapshot: Snapshot<S::Row>) -> Self {
        let at = snapshot.at;
        let mut window = Self {
            shape,
            extent,
            rows: Vec::new(),
            held: FxHashMap::default(),
            reach: Reach::Nothing,
            gate: at,
            opened_at: at,
            total: snapshot.total,
            stale: false,
            refill: None,
            last_refill: None,
            emitted: Vec::new(),
            emitted_total: snapshot.total,
            emitted_at: at,
        };
        window.fill(at, snapshot.rows);
        window.emitted = window.visible().to_vec();
        window
    }

    /// What was emitted last: the visible rows, the total, and the position of both.
    pub(crate) fn emitted(&self) -> (&[Arc<S::Row>], u64, Seq) {
        (&self.emitted, self.emitted_total, self.emitted_at)
    }

    /// Up to which position what was emitted last is the result. `applied` is the last commit applied; everything
    /// up to it has been flushed.
    pub(crate) fn emitted_through(&self, applied: Seq) -> Seq {
        if self.stale || applied < self.gate || self.is_short() {
            self.emitted_at
        } else {
            applied
        }
    }

    /// Rows and ids are told apart by this.
    pub(crate) fn shape(&self) -> &S {
        &self.shape
    }

    /// The position from which on output is allowed.
    pub(crate) fn gate(&self) -> Seq {
        self.gate
    }

    /// Applies one change. Changes come in order of the log; after the last one of a commit comes
    /// [`Window::settle`].
    pub(crate) fn apply(&mut self, change: &Change<S::Row>) {
        if change.seq <= self.opened_at {
            return;
        }
        let before = change.old.as_deref().is_some_and(|row| self.shape.matches(row));
        let after = change.new.as_deref().is_some_and(|row| self.shape.matches(row));
        if !(before || after) {
            return;
        }
        if let Some(refill) = &mut self.refill {
            if refill.pending.len() < MAX_PENDING {
                refill.pending.push(change.clone());
            } else {
                self.refill = None;
            }
        }
        self.apply_known(change, before, after);
    }

    /// Ends a commit: drops rows beyond the slack.
    pub(crate) fn settle(&mut self) {
        let most = self.extent.snapshot_rows();
        if self.rows.len() <= most {
            return;
        }
        for row in self.rows.drain(most..) {
            self.held.remove(&self.shape.id(&row));
        }
        if let Some(last) = self.rows.last() {
            self.reach = Reach::Through(last.clone());
        }
        // It reads behind a row that is now beyond the reach: there would be a hole between them.
        self.refill = None;
    }

    /// Starts a refill where rows run short: the caller must read it and answer with [`Window::refilled`].
    /// `applied` is the last commit applied.
    pub(crate) fn wanted_refill(&mut self, applied: Seq, now: Instant) -> Option<Refill<S::Row>> {
        let low_water = self.extent.depth() + self.extent.slack / 2;
        if self.refill.is_some() || self.rows.len() >= low_water {
            return None;
        }
        let Reach::Through(after) = &self.reach else {
            return None;
        };
        let after = after.clone();
        let close = |last: Instant| now.saturating_duration_since(last) < REFILLS_TOO_CLOSE;
        if self.last_refill.is_some_and(close) {
            self.extent.slack = (self.extent.slack * 2).min(MAX_SLACK.max(self.extent.slack));
            self.last_refill = None;
        } else {
            self.last_refill = Some(now);
        }
        let count = self.extent.snapshot_rows() - self.rows.len();
        self.refill = Some(UnderWay {
            asked_at: applied,
            count,
            pending: Vec::new(),
        });
        Some(Refill { after, count })
    }

    /// Merges the rows of the refill under way, read at `at`. A read from before the commit at which it was asked
    /// for is of no use and wanted again.
    pub(crate) fn refilled(&mut self, at: Seq, rows: Vec<Arc<S::Row>>) {
        let Some(refill) = self.refill.take() else {
            return;
        };
        if at < refill.asked_at {
            return;
        }
        self.gate = self.gate.max(at);
        self.reach = match rows.last() {
            Some(last) if rows.len() >= refill.count => Reach::Through(last.clone()),
            _ => Reach::All,
        };
        for row in rows {
            let id = self.shape.id(&row);
            match self.held.get(&id) {
                Some(held) if held.rev > at => {}
                Some(_) => {
                    self.remove(&id);
                    self.insert(id, row, at);
                }
                None => self.insert(id, row, at),
            }
        }
        // The window may have run past the read, with rows in it that the read shows as they were before.
        for change in refill.pending.iter().filter(|change| change.seq > at) {
            let before = change.old.as_deref().is_some_and(|row| self.shape.matches(row));
            let after = change.new.as_deref().is_some_and(|row| self.shape.matches(row));
            self.place(change, before, after);
        }
        self.settle();
    }

    /// The step from what was emitted last to `applied`, the last commit applied; `None` where nothing visible has
    /// changed, or the state cannot be shown yet (before the gate, or short of rows until a refill).
    pub(crate) fn flush(&mut self, applied: Seq) -> Option<Transition<S>> {
        if self.stale || applied < self.gate || self.is_short() {
            return None;
        }
        let (start, end) = self.visible_range();
        diff::step(
            &self.shape,
            &mut self.emitted,
            &self.rows[start..end],
            diff::Move {
                from: &mut self.emitted_at,
                to: applied,
                old_total: &mut self.emitted_total,
                total: self.total,
            },
        )
    }

    /// Whether visible rows are missing until a refill brings them.
    pub(crate) fn is_short(&self) -> bool {
        self.rows.len() < self.extent.depth() && matches!(self.reach, Reach::Through(_))
    }

    fn visible_range(&self) -> (usize, usize) {
        let start = self.extent.offset.min(self.rows.len());
        let end = (start + self.extent.limit).min(self.rows.len());
        (start, end)
    }

    fn visible(&self) -> &[Arc<S::Row>] {
        let (start, end) = self.visible_range();
        &self.rows[start..end]
    }

    fn reaches(&self, row: &S::Row) -> bool {
        match &self.reach {
            Reach::Nothing => false,
            Reach::Through(last) => self.shape.compare(row, last) != Ordering::Greater,
            Reach::All => true,
        }
    }

    /// Puts one change into the rows held. `before` and `after` tell whether its sides match.
    fn place(&mut self, change: &Change<S::Row>, before: bool, after: bool) {
        let leaving = change.old.as_ref().filter(|row| before && self.reaches(row));
        let entering = change.new.as_ref().filter(|row| after && self.reaches(row));
        if let Some(row) = leaving {
            let id = self.shape.id(row);
            if self.held.get(&id).is_some_and(|held| held.rev < change.seq) {
                self.remove(&id);
            }
        }
        // A row whose old side is beyond the reach is held only if a newer read brought it, so there is nothing
        // to remove then.
        if let Some(row) = entering {
            let id = self.shape.id(row);
            match self.held.get(&id) {
                Some(held) if held.rev >= change.seq => return,
                Some(_) => self.remove(&id),
                None => {}
            }
            self.insert(id, row.clone(), change.seq);
        }
    }

    fn insert(&mut self, id: S::Id, row: Arc<S::Row>, rev: Seq) {
        let place = self.place_of(&row).unwrap_or_else(|place| place);
        self.rows.insert(place, row.clone());
        self.held.insert(id, Held { row, rev });
    }

    fn remove(&mut self, id: &S::Id) {
        let Some(held) = self.held.remove(id) else {
            return;
        };
        let place = self
            .place_of(&held.row)
            .expect("a row that is held by id has its place in the order");
        self.rows.remove(place);
    }

    /// Where the row is in the order, or where it would be. New rows mostly come first or last, which saves the
    /// search and the cache misses of looking at rows in the middle.
    fn place_of(&self, row: &S::Row) -> Result<usize, usize> {
        let (Some(first), Some(last)) = (self.rows.first(), self.rows.last()) else {
            return Err(0);
        };
        if self.shape.compare(row, first) == Ordering::Less {
            return Err(0);
        }
        if self.shape.compare(row, last) == Ordering::Greater {
            return Err(self.rows.len());
        }
        self.rows.binary_search_by(|other| self.shape.compare(other, row))
    }
}
