//! The writer: one thread that commits what is waiting together.
//!
//! **Invariants:** a caller is answered only after the disk has what it wrote, or after none of it is there; commits
//! are published in the order of their positions, each once; nothing is published that is not committed.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alyx_core::{Result, Seq, Statement};
use tokio::sync::oneshot;

use super::alter;
use super::group::{Committed, Entry, Pending, Transactor};
use super::upkeep::Upkeep;
use crate::Commit;
use crate::failure::{Failure, write_timeout};
use crate::queue::{Queue, Taken};
use crate::stats::Counters;

/// Writes in one commit at most.
const GROUP_WRITES: usize = 512;
/// Bytes of parameters after which a commit takes no more writes.
const GROUP_BYTES: usize = 4 << 20;
/// Time after which a commit takes no more writes.
const GROUP_TIME: Duration = Duration::from_millis(10);

/// Called with every commit that has changes.
pub(super) type OnCommit = Box<dyn Fn(Commit) + Send + Sync>;

/// What the writer is asked.
#[derive(Debug)]
pub(super) enum Job {
    /// Part of a group.
    Write(Pending),
    /// Alone in its commit.
    Migrate(Migration),
    /// Likewise.
    Alter(alter::Request),
}

/// A migration and whoever waits for it.
#[derive(Debug)]
pub(super) struct Migration {
    pub(super) steps: Vec<Statement>,
    pub(super) reply: oneshot::Sender<Result<Seq>>,
}

/// The writer's thread.
pub(super) struct Writer {
    pub(super) database: Transactor,
    pub(super) queue: Arc<Queue<Job>>,
    pub(super) upkeep: Upkeep,
    pub(super) on_commit: OnCommit,
    /// Counts the migrations, so that readers drop their prepared statements.
    pub(super) epoch: Arc<AtomicU64>,
    pub(super) counters: Arc<Counters>,
    pub(super) backlog: VecDeque<Job>,
    /// Held for as long as this thread may write.
    pub(super) lock: File,
}

impl Writer {
    /// Serves the queue until it is closed and empty.
    pub(super) fn run(mut self) {
        self.note_head();
        loop {
            if self.backlog.is_empty() {
                match self.queue.take_all(self.upkeep.patience(self.database.head())) {
                    Taken::Some(jobs) => self.backlog = jobs,
                    Taken::Nothing => {
                        self.guarded(|writer| writer.upkeep.idle(&mut writer.database));
                        continue;
                    }
                    Taken::Closed => break,
                }
            }
            self.guarded(Self::serve);
            self.guarded(|writer| writer.upkeep.under_load(&mut writer.database));
        }
        self.guarded(|writer| writer.upkeep.finish(&mut writer.database));
        let Self { database, lock, .. } = self;
        drop(database);
        drop(lock);
    }

    /// A panic (a defect of the driver or ours) costs the work in hand, whose callers see their channel close, and
    /// not the thread.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            tracing::error!("the database writer panicked; the transaction in hand is undone");
            self.database.connection.recover();
            self.database.check_foreign_keys_again();
        }
    }

    fn serve(&mut self) {
        match self.backlog.pop_front() {
            Some(Job::Migrate(migration)) => self.migrate(migration),
            Some(Job::Alter(request)) => self.alter(request),
            Some(Job::Write(pending)) => self.write(pending),
            None => {}
        }
        Counters::set(&self.counters.backlog, self.backlog.len() as u64);
    }

    fn write(&mut self, first: Pending) {
        let mut taker = Taker {
            backlog: &mut self.backlog,
            queue: &self.queue,
            counters: &self.counters,
            began: Instant::now(),
            writes: 0,
            steps: 0,
            bytes: 0,
        };
        let Some(first) = taker.admit(first) else { return };
        let (group, committed) = self.database.run_group(vec![first], || taker.next());
        let (steps, bytes) = (taker.steps, taker.bytes);
        self.note_storage(group.iter().find_map(Entry::storage_failure));
        let head = self.database.head();
        let mut done = 0;
        let all = group.len();
        for entry in group {
            done += usize::from(entry.answer(head));
        }
        Counters::add(&self.counters.failed_writes, (all - done) as u64);
        if let Some(committed) = committed {
            if done > 0 {
                self.upkeep.wrote(steps, bytes);
            }
            self.publish(committed, done);
        }
    }

    fn migrate(&mut self, migration: Migration) {
        let outcome = self.database.migrate(&migration.steps);
        self.epoch.fetch_add(1, Ordering::Release);
        self.upkeep.wrote(migration.steps.len(), 0);
        match outcome {
            Ok(committed) => {
                let _ = migration.reply.send(Ok(committed.position));
                self.publish(committed, 1);
            }
            Err(failure) => {
                Counters::add(&self.counters.failed_writes, 1);
                let _ = migration.reply.send(Err(failure.into_error()));
            }
        }
    }

    fn alter(&mut self, request: alter::Request) {
        let outcome = self.database.alter(request.work);
        self.epoch.fetch_add(1, Ordering::Release);
        self.upkeep.wrote(1, 0);
        match outcome {
            Ok(committed) => {
                let _ = request.reply.send(Ok(committed.position));
                self.publish(committed, 1);
            }
            Err(error) => {
                Counters::add(&self.counters.failed_writes, 1);
                let _ = request.reply.send(Err(error));
            }
        }
    }

    fn publish(&mut self, committed: Committed, writes: usize) {
        let changes = committed.commits.iter().map(|commit| commit.changes.len()).sum();
        if writes > 0 {
            self.counters.commit(writes, changes);
        }
        self.note_head();
        for commit in committed.commits {
            if catch_unwind(AssertUnwindSafe(|| (self.on_commit)(commit))).is_err() {
                tracing::error!(
                    "a follower of the commits panicked; it must read what it missed from the log"
                );
            }
        }
    }

    /// Keeps whether writes can be stored, and logs when that changes.
    fn note_storage(&self, failure: Option<&Failure>) {
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
        Counters::set(&self.counters.head, self.database.head().0);
    }
}

/// Hands the group its next write, for as long as there is one and the group is within its bounds.
struct Taker<'a> {
    backlog: &'a mut VecDeque<Job>,
    queue: &'a Queue<Job>,
    counters: &'a Counters,
    began: Instant,
    writes: usize,
    steps: usize,
    bytes: usize,
}

impl Taker<'_> {
    fn next(&mut self) -> Option<Pending> {
        loop {
            if self.backlog.is_empty() {
                *self.backlog = self.queue.try_take_all();
            }
            let full = self.writes >= GROUP_WRITES || self.bytes >= GROUP_BYTES;
            if full
                || !matches!(self.backlog.front(), Some(Job::Write(_)))
                || self.began.elapsed() > GROUP_TIME
            {
                return None;
            }
            let Some(Job::Write(pending)) = self.backlog.pop_front() else {
                return None;
            };
            if let Some(pending) = self.admit(pending) {
                return Some(pending);
            }
        }
    }

    /// Drops what nobody waits for any more.
    fn admit(&mut self, pending: Pending) -> Option<Pending> {
        if pending.reply.is_closed() {
            Counters::add(&self.counters.failed_writes, 1);
            return None;
        }
        if pending.write.deadline <= Instant::now() {
            Counters::add(&self.counters.failed_writes, 1);
            let _ = pending.reply.send(Err(write_timeout()));
            return None;
        }
        self.writes += 1;
        self.steps += pending.write.steps.len();
        self.bytes += pending.weight();
        Some(pending)
    }
}

/// What a failed start of the writer's side means.
pub(super) fn transactor(connection: super::connection::Connection) -> Result<Transactor> {
    Transactor::new(connection).map_err(Failure::into_error)
}
