//! The node's place in the change log: puts commits from the bus in order and says when the log must be read.
//!
//! **Invariant:** commits come out in order, each change once, without gaps. A hole is filled from the log; where
//! the log no longer has it, the place is lost and everything starts from fresh snapshots.

use std::collections::VecDeque;

use alyx_core::Seq;
use alyx_store::{Change, Commit, LogBatch};

/// Commits from the bus that are kept while the log is read; with more of them they are read from the log too.
const MAX_AHEAD: usize = 4_096;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Last change that has been handed out.
    applied: Seq,
    /// Last change in `ready`, or `applied`.
    known: Seq,
    /// In order and without gaps after `applied`.
    ready: VecDeque<Commit>,
    /// From the bus, behind a hole.
    ahead: VecDeque<Commit>,
    /// The furthest position that anybody spoke of.
    heard: Seq,
    /// The bus lost something, so `heard` may be too low.
    lost: bool,
    /// A read of the log is under way.
    reading: bool,
}

/// What a read of the log brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The commits are ready, if there were any.
    Ready,
    /// The log does not reach back to our place, or does not reach it any more: go on from there with fresh
    /// snapshots.
    PlaceLost(Seq),
}

impl Tail {
    /// At a position that everything so far is included in.
    pub(crate) fn new(at: Seq) -> Self {
        Self {
            applied: at,
            known: at,
            ready: VecDeque::new(),
            ahead: VecDeque::new(),
            heard: at,
            lost: false,
            reading: false,
        }
    }

    /// Last change that has been handed out.
    pub(crate) fn applied(&self) -> Seq {
        self.applied
    }

    /// Changes that are known of and have not been handed out.
    pub(crate) fn lag(&self) -> u64 {
        self.heard.0.saturating_sub(self.applied.0)
    }

    /// Whether nothing is missing, as far as is known.
    pub(crate) fn is_caught_up(&self) -> bool {
        !self.lost && self.lag() == 0
    }

    /// A commit from the bus.
    pub(crate) fn hear(&mut self, commit: Commit) {
        self.heard = self.heard.max(commit.position);
        if self.reading || commit.first().0 > self.known.0 + 1 {
            if self.ahead.len() >= MAX_AHEAD {
                self.ahead.clear();
            }
            self.ahead.push_back(commit);
        } else {
            self.push(commit);
        }
    }

    /// The bus lost commits.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    /// Where to read the log from, if it must be read now. The caller must answer with [`Tail::read`] or
    /// [`Tail::read_failed`]. `look` asks for a read even where nothing is known to be missing.
    pub(crate) fn wants_read(&mut self, look: bool) -> Option<Seq> {
        let missing = self.lost || self.heard > self.known;
        if self.reading || !(missing || look) {
            return None;
        }
        self.reading = true;
        Some(self.known)
    }

    /// What the read of the log found.
    pub(crate) fn read(&mut self, batch: LogBatch) -> Progress {
        self.reading = false;
        let missing = batch.commits.is_empty() && batch.head > self.known;
        if batch.horizon > self.known || batch.head < self.known || missing {
            return self.lose_place(batch.head);
        }
        for commit in batch.commits {
            if commit.first().0 > self.known.0 + 1 {
                return self.lose_place(batch.head);
            }
            self.push(commit);
        }
        self.lost = false;
        self.heard = self.heard.max(batch.head);
        let ahead = std::mem::take(&mut self.ahead);
        for commit in ahead {
            self.hear(commit);
        }
        Progress::Ready
    }

    /// The log could not be read; it is wanted again.
    pub(crate) fn read_failed(&mut self) {
        self.reading = false;
    }

    /// The next commit in order.
    pub(crate) fn next(&mut self) -> Option<Commit> {
        let commit = self.ready.pop_front()?;
        self.applied = commit.position;
        Some(commit)
    }

    fn lose_place(&mut self, head: Seq) -> Progress {
        *self = Self::new(head);
        Progress::PlaceLost(head)
    }

    /// Appends a commit that begins no later than behind the last one known, without the changes that are known.
    fn push(&mut self, mut commit: Commit) {
        if commit.position <= self.known {
            return;
        }
        if commit.first() <= self.known {
            let news: Vec<Change> = commit
                .changes
                .iter()
                .filter(|change| change.seq > self.known)
                .cloned()
                .collect();
            commit.changes = news.into();
        }
        self.known = commit.position;
        self.ready.push_back(commit);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alyx_store::ChangeOp;

    use super::*;

    fn commit(first: u64, last: u64) -> Commit {
        let change = |seq| Change {
            seq: Seq(seq),
            collection: Arc::from("tasks"),
            op: ChangeOp::Delete,
            old: None,
            new: None,
        };
        Commit {
            position: Seq(last),
            changes: (first..=last).map(change).collect(),
            traces: Vec::new(),
        }
    }

    fn batch(commits: Vec<Commit>, head: u64, horizon: u64) -> LogBatch {
        LogBatch {
            commits,
            head: Seq(head),
            horizon: Seq(horizon),
        }
    }

    /// Every `seq` that comes out now.
    fn drain(tail: &mut Tail) -> Vec<u64> {
        let commits: Vec<Commit> = std::iter::from_fn(|| tail.next()).collect();
        commits
            .iter()
            .flat_map(|commit| commit.changes.iter().map(|change| change.seq.0))
            .collect()
    }

    #[test]
    fn commits_in_order_come_out_at_once() {
        let mut tail = Tail::new(Seq(5));
        tail.hear(commit(4, 5));
        tail.hear(commit(6, 7));
        tail.hear(commit(8, 8));
        assert_eq!(drain(&mut tail), [6, 7, 8]);
        assert_eq!(tail.wants_read(false), None);
        assert!(tail.is_caught_up());
    }

    #[test]
    fn a_hole_is_filled_from_the_log_and_what_came_meanwhile_follows() {
        let mut tail = Tail::new(Seq(5));
        tail.hear(commit(8, 9));
        assert_eq!(drain(&mut tail), [0; 0]);
        assert_eq!(tail.wants_read(false), Some(Seq(5)));
        assert_eq!(tail.wants_read(false), None, "one read at a time");
        tail.hear(commit(10, 10));
        tail.hear(commit(11, 12));
        assert_eq!(
            tail.read(batch(vec![commit(6, 7), commit(8, 9), commit(10, 10)], 10, 0)),
            Progress::Ready
        );
        assert_eq!(drain(&mut tail), [6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(tail.wants_read(false), None);
    }

    #[test]
    fn a_long_hole_is_read_page_by_page() {
        let mut tail = Tail::new(Seq(0));
        tail.lose();
        assert_eq!(tail.wants_read(false), Some(Seq(0)));
        assert_eq!(tail.read(batch(vec![commit(1, 2)], 4, 0)), Progress::Ready);
        assert_eq!(tail.wants_read(false), Some(Seq(2)));
        assert_eq!(tail.read(batch(vec![commit(3, 4)], 4, 0)), Progress::Ready);
        assert_eq!(tail.wants_read(false), None);
        assert_eq!(drain(&mut tail), [1, 2, 3, 4]);
    }

    #[test]
    fn more_commits_than_can_wait_are_read_from_the_log() {
        let mut tail = Tail::new(Seq(0));
        let last = 2 + MAX_AHEAD as u64;
        (2..=last).for_each(|seq| tail.hear(commit(seq, seq)));
        assert_eq!(tail.wants_read(false), Some(Seq(0)));
        assert_eq!(tail.read(batch(vec![commit(1, 1)], last, 0)), Progress::Ready);
        assert_eq!(
            tail.wants_read(false),
            Some(Seq(1)),
            "what was dropped is missing"
        );
    }

    #[test]
    fn a_failed_read_is_wanted_again() {
        let mut tail = Tail::new(Seq(0));
        tail.hear(commit(3, 3));
        assert_eq!(tail.wants_read(false), Some(Seq(0)));
        tail.read_failed();
        assert_eq!(tail.wants_read(false), Some(Seq(0)));
    }

    #[test]
    fn a_log_that_was_cut_off_or_set_back_loses_the_place() {
        for cut in [
            batch(Vec::new(), 90, 40),
            batch(Vec::new(), 7, 0),
            batch(Vec::new(), 25, 0),
        ] {
            let head = cut.head;
            let mut tail = Tail::new(Seq(20));
            tail.lose();
            assert!(tail.wants_read(false).is_some());
            assert_eq!(tail.read(cut), Progress::PlaceLost(head));
            assert_eq!(tail.applied(), head);
            assert!(tail.is_caught_up());
        }
    }
}
