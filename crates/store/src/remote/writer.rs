//! The writer: one thread with one stream, which sends what is waiting as one batch.
//!
//! **Invariants:** a caller is answered only after the server has committed what it wrote, or when it is certain or
//! said to be unknown that it has not; commits are published in the order of their positions; nothing is published
//! that is not committed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alyx_core::{Result, Seq};
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

use super::group::{Entry, Pending};
use super::lease::Terms;
use super::queue::{JobQueue, Waited};
use super::transactor::Transactor;
use super::upkeep::Upkeep;
use crate::Commit;
use crate::alteration::Work;
use crate::failure::{Failure, write_timeout};
use crate::stats::Counters;

/// Writes in one batch at most.
const GROUP_WRITES: usize = 256;
/// Statements after which a batch takes no more writes.
const GROUP_STEPS: usize = 1_024;
/// Bytes of parameters after which a batch takes no more writes: the server's answer, with what comes back, is bounded.
const GROUP_BYTES: usize = 1 << 20;

/// How long an idle writer rests after a failure.
const REST: Duration = Duration::from_millis(250);

/// Called with every commit that has changes.
pub(super) type OnCommit = Box<dyn Fn(Commit) + Send + Sync>;

/// What the writer is asked.
pub(super) enum Job {
    /// Part of a group.
    Write(Pending),
    /// Alone in its commit.
    Alter {
        work: Work,
        reply: oneshot::Sender<Result<Seq>>,
    },
    /// To take the lease, where nobody has it.
    Acquire {
        terms: Terms,
        reply: oneshot::Sender<Result<bool>>,
    },
    /// To give the lease back, where it is ours.
    Release { reply: oneshot::Sender<()> },
}

/// The writer's thread.
pub(super) struct Writer {
    pub(super) runtime: Runtime,
    pub(super) database: Transactor,
    pub(super) queue: Arc<JobQueue<Job>>,
    pub(super) upkeep: Upkeep,
    pub(super) on_commit: OnCommit,
    pub(super) counters: Arc<Counters>,
    /// The epoch of the lease, while it is ours.
    pub(super) holding: watch::Sender<Option<i64>>,
    pub(super) migration_timeout: Duration,
    pub(super) probe_interval: Duration,
    /// When the server last proved that it can write.
    pub(super) proven: Instant,
    /// After a failure: when to try again while nothing is to be written.
    pub(super) rest_until: Instant,
}

impl Writer {
    /// Serves the queue until it is closed and empty.
    pub(super) fn run(mut self) {
        self.note_head();
        loop {
            let until = self.patience();
            match self.runtime.block_on(self.queue.wait(until)) {
                Waited::Some => {
                    self.guarded(Self::serve);
                    self.guarded(|writer| writer.keep_up(false));
                }
                Waited::Nothing => self.guarded(Self::idle),
                Waited::Closed => break,
            }
        }
        self.guarded(Self::release);
        self.tell_holding();
    }

    /// Whether it can be given back or not, it is not ours from then on.
    fn release(&mut self) {
        if let Err(failure) = self.runtime.block_on(self.database.release()) {
            tracing::warn!(error = %failure, "the lease could not be given back; it runs out by itself");
        }
    }

    fn may_write(&self) -> bool {
        !self.database.leased || self.database.held.is_some()
    }

    fn patience(&self) -> Instant {
        let probe = self.proven + self.probe_interval;
        if !self.may_write() {
            return Instant::now() + self.probe_interval;
        }
        let until = self.upkeep.due(self.database.head).min(probe);
        let until = match self.database.held {
            Some(held) => until.min(held.renew_at()),
            None => until,
        };
        until.max(self.rest_until)
    }

    /// A panic (a defect of ours) costs the work in hand, whose callers see their channel close, and not the thread.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            tracing::error!("the database writer panicked; the transaction in hand is given up");
            self.database.stream.forget();
            self.database.settled = false;
        }
        self.tell_holding();
    }

    /// Says whether the lease is ours, where that has changed.
    fn tell_holding(&self) {
        let now = self.database.held.map(|held| held.epoch);
        self.holding.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }

    fn serve(&mut self) {
        match self.queue.pop_if(|job| !matches!(job, Job::Write(_))) {
            Some(Job::Alter { work, reply }) => self.alter(work, reply),
            Some(Job::Acquire { terms, reply }) => self.acquire(&terms, reply),
            Some(Job::Release { reply }) => {
                self.release();
                let _ = reply.send(());
            }
            Some(Job::Write(_)) | None => self.write(),
        }
    }

    fn write(&mut self) {
        let mut group = self.take_group();
        if group.is_empty() {
            return;
        }
        let mut commits = self.runtime.block_on(self.database.run_group(&mut group));
        group.iter().for_each(|entry| entry.note_trace(&mut commits));
        self.note_storage(group.iter().find_map(Entry::storage_failure));
        let (mut done, all) = (0, group.len());
        for entry in group {
            done += usize::from(entry.answer());
        }
        Counters::add(&self.counters.failed_writes, (all - done) as u64);
        self.publish(commits, done);
    }

    fn take_group(&mut self) -> Vec<Entry> {
        let mut group = Vec::new();
        let (mut steps, mut bytes) = (0, 0);
        while group.len() < GROUP_WRITES && steps < GROUP_STEPS && bytes < GROUP_BYTES {
            let Some(Job::Write(pending)) = self.queue.pop_if(|job| matches!(job, Job::Write(_))) else {
                break;
            };
            let Some(pending) = self.admit(pending) else {
                continue;
            };
            steps += pending.write.steps.len();
            bytes += pending.weight();
            group.push(Entry::new(pending));
        }
        group
    }

    /// Drops what nobody waits for any more.
    fn admit(&self, pending: Pending) -> Option<Pending> {
        let late = pending.write.deadline <= Instant::now();
        if late || pending.reply.is_closed() || !pending.ticket.take() {
            Counters::add(&self.counters.failed_writes, 1);
            if late {
                let _ = pending.reply.send(Err(write_timeout()));
            }
            return None;
        }
        Some(pending)
    }

    fn alter(&mut self, work: Work, reply: oneshot::Sender<Result<Seq>>) {
        match self.database.alter(&self.runtime, self.migration_timeout, work) {
            Ok(committed) => {
                let _ = reply.send(Ok(committed.position));
                self.publish(committed.commits, 1);
            }
            Err(error) => {
                Counters::add(&self.counters.failed_writes, 1);
                let _ = reply.send(Err(error));
            }
        }
    }

    fn acquire(&mut self, terms: &Terms, reply: oneshot::Sender<Result<bool>>) {
        match self.runtime.block_on(self.database.acquire(terms)) {
            Ok(Some(commits)) => {
                tracing::info!(
                    epoch = self.database.held.map_or(0, |held| held.epoch),
                    "this node is the writer now"
                );
                self.note_storage(None);
                self.tell_holding();
                let _ = reply.send(Ok(true));
                self.publish(commits, 0);
            }
            Ok(None) => {
                let _ = reply.send(Ok(false));
            }
            Err(failure) => {
                let _ = reply.send(Err(failure.into_error()));
            }
        }
    }

    fn idle(&mut self) {
        if !self.may_write() {
            return;
        }
        let renewal = self
            .database
            .held
            .is_some_and(|held| held.renew_at() <= Instant::now());
        if renewal || self.proven + self.probe_interval <= Instant::now() {
            let outcome = self.runtime.block_on(self.database.probe());
            self.note_storage(outcome.as_ref().err());
            self.publish(outcome.unwrap_or_default(), 0);
        }
        self.keep_up(true);
    }

    fn keep_up(&mut self, idle: bool) {
        if !self.may_write() {
            return;
        }
        let work = self.upkeep.work(&mut self.database, idle);
        let (horizon, commits) = self.runtime.block_on(work);
        if let Some(horizon) = horizon {
            Counters::add(&self.counters.checkpoints, 1);
            Counters::set(&self.counters.horizon, horizon.0);
        }
        self.publish(commits, 0);
    }

    fn publish(&mut self, commits: Vec<Commit>, writes: usize) {
        let changes = commits.iter().map(|commit| commit.changes.len()).sum();
        if writes > 0 {
            self.counters.commit(writes, changes);
        }
        self.note_head();
        if !self.may_write() {
            // The holder finds them and publishes them, in their place among its own.
            return;
        }
        for commit in commits {
            if catch_unwind(AssertUnwindSafe(|| (self.on_commit)(commit))).is_err() {
                tracing::error!(
                    "a follower of the commits panicked; it must read what it missed from the log"
                );
            }
        }
    }

    /// Keeps whether writes can be stored, and logs when that changes. Not being the writer is no fault.
    fn note_storage(&mut self, failure: Option<&Failure>) {
        self.proven = Instant::now();
        let failure = failure.filter(|failure| !matches!(failure, Failure::Fenced));
        if failure.is_some() {
            self.rest_until = Instant::now() + REST;
        }
        let was_failing = self
            .counters
            .storage_failing
            .swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(failure) if !was_failing => tracing::error!(error = %failure, "writes cannot be stored"),
            None if was_failing => tracing::info!("writes can be stored again"),
            Some(_) | None => {}
        }
    }

    fn note_head(&self) {
        Counters::set(&self.counters.head, self.database.head.0);
    }
}
