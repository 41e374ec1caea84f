//! What the writer does between commits: copies the write-ahead log into the database, and cuts off the old end of
//! the change log. When there is nothing to write, and under load where a bound is passed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alyx_core::{Seq, Value};

use super::change_log::{self, Retention, Truncated};
use super::group::Transactor;
use super::options::EmbeddedOptions;
use crate::failure::Failure;
use crate::stats::Counters;

/// How long nothing must have been written before the log is copied.
const IDLE: Duration = Duration::from_millis(200);
/// How often an idle writer looks for changes that are too old.
const TRUNCATION_INTERVAL: Duration = Duration::from_secs(60);
/// How long to wait for readers of an overgrown write-ahead log.
const RESTART_PATIENCE: Duration = Duration::from_millis(50);
/// An overgrown write-ahead log is this many times its bound.
const OVERGROWN: u64 = 8;
const PAGE_BYTES: u64 = 4096;

/// The writer's upkeep.
#[derive(Debug)]
pub(super) struct Upkeep {
    retention: Retention,
    wal_bound: u64,
    busy_timeout: Duration,
    /// What was written since the last copying, as a guess: the log's file keeps its size, and nothing tells how
    /// much of it is in use.
    wal_guess: u64,
    /// Whether something in the log is not in the database yet.
    dirty: bool,
    /// The oldest change in the table.
    oldest: Seq,
    /// Whether the last cut left something to cut off.
    unfinished: bool,
    /// The head after which there was nothing more to cut off.
    settled: Seq,
    /// When to look for changes that are too old.
    truncate_at: Instant,
    counters: Arc<Counters>,
}

impl Upkeep {
    pub(super) fn new(options: &EmbeddedOptions, counters: Arc<Counters>) -> Self {
        Self {
            retention: Retention {
                age: options.log_retention,
                rows: options.log_max_rows,
            },
            wal_bound: options.wal_bytes,
            busy_timeout: options.busy_timeout,
            wal_guess: 0,
            dirty: true,
            oldest: Seq(1),
            unfinished: false,
            settled: Seq(0),
            truncate_at: Instant::now(),
            counters,
        }
    }

    /// How long the writer may sleep; `None` for as long as nothing comes.
    pub(super) fn patience(&self, head: Seq) -> Option<Duration> {
        if self.unfinished {
            return Some(Duration::ZERO);
        }
        if self.dirty {
            return Some(IDLE);
        }
        (head >= self.oldest).then(|| self.truncate_at.saturating_duration_since(Instant::now()))
    }

    /// Notes a commit: `steps` statements with `bytes` of parameters.
    pub(super) fn wrote(&mut self, steps: usize, bytes: usize) {
        // A commit's fixed pages; a share of a page per row; the row, its log entry and its index entries.
        self.wal_guess += 4 * PAGE_BYTES + (steps as u64) * PAGE_BYTES / 2 + 3 * bytes as u64;
        self.dirty = true;
    }

    /// What cannot wait for an idle moment.
    pub(super) fn under_load(&mut self, database: &mut Transactor) {
        if self.wal_guess >= self.wal_bound {
            self.checkpoint(database);
        }
        if self.too_long(database.head(), self.retention.rows / 8) {
            self.truncate(database);
        }
    }

    /// Whether the log is over its bound by more than `slack` and there may be something to cut off.
    fn too_long(&self, head: Seq, slack: u64) -> bool {
        let stored = (head.0 + 1).saturating_sub(self.oldest.0);
        stored > self.retention.rows.saturating_add(slack) && head != self.settled
    }

    /// What can be done while nothing is to be written.
    pub(super) fn idle(&mut self, database: &mut Transactor) {
        if self.unfinished || self.truncate_at <= Instant::now() || self.too_long(database.head(), 0) {
            self.truncate(database);
        }
        if self.dirty && !self.unfinished {
            self.checkpoint(database);
        }
    }

    /// Copies the log into the database and empties it, as far as readers allow.
    pub(super) fn finish(&mut self, database: &mut Transactor) {
        if let Err(failure) = database.connection.script("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(error = %failure, "the write-ahead log was not emptied; the next start does it");
        }
    }

    fn checkpoint(&mut self, database: &mut Transactor) {
        self.wal_guess = 0;
        match copy_log(database, "PRAGMA wal_checkpoint(PASSIVE)") {
            Ok(left) => {
                Counters::add(&self.counters.checkpoints, 1);
                self.dirty = left.missing > 0;
                if left.frames * PAGE_BYTES > OVERGROWN * self.wal_bound {
                    self.restart_log(database);
                }
            }
            Err(failure) => tracing::warn!(error = %failure, "the write-ahead log could not be copied"),
        }
    }

    /// Readers that overlap without a pause keep the log from starting over: makes them wait for a moment.
    fn restart_log(&mut self, database: &mut Transactor) {
        let set_patience = |database: &mut Transactor, patience| {
            database
                .connection
                .raw()
                .busy_timeout(patience)
                .map_err(Failure::from)
        };
        let outcome = set_patience(database, RESTART_PATIENCE)
            .and_then(|()| copy_log(database, "PRAGMA wal_checkpoint(RESTART)"));
        let restored = set_patience(database, self.busy_timeout);
        if let Err(failure) = outcome.map(|_| ()).and(restored) {
            tracing::warn!(error = %failure, "the write-ahead log could not be started over");
        }
    }

    fn truncate(&mut self, database: &mut Transactor) {
        match truncate(database, self.retention) {
            Ok(truncated) => {
                self.oldest = truncated.oldest;
                self.counters
                    .horizon
                    .store(truncated.horizon.0, Ordering::Relaxed);
                self.dirty = true;
                self.unfinished = truncated.more;
                if !truncated.more {
                    self.settled = database.head();
                    self.truncate_at = Instant::now() + TRUNCATION_INTERVAL.min(self.retention.age.max(IDLE));
                }
            }
            Err(failure) => {
                tracing::warn!(error = %failure, "the change log could not be cut off");
                self.unfinished = false;
                self.settled = database.head();
                self.truncate_at = Instant::now() + TRUNCATION_INTERVAL;
            }
        }
    }
}

fn truncate(database: &mut Transactor, retention: Retention) -> Result<Truncated, Failure> {
    database.connection.own("BEGIN IMMEDIATE", Vec::new())?;
    let outcome = change_log::truncate(&mut database.connection, retention).and_then(|truncated| {
        database.connection.own("COMMIT", Vec::new())?;
        Ok(truncated)
    });
    if outcome.is_err() {
        database.connection.rollback();
    }
    outcome
}

/// What copying left of the log.
struct Left {
    /// Pages in it.
    frames: u64,
    /// Pages that are not in the database yet.
    missing: u64,
}

fn copy_log(database: &mut Transactor, pragma: &str) -> Result<Left, Failure> {
    let rows = database.connection.script(pragma)?;
    let figure = |column: usize| {
        rows.first()
            .and_then(|row| row.get(column))
            .and_then(Value::as_int)
            .and_then(|int| u64::try_from(int).ok())
            .unwrap_or(0)
    };
    let (frames, copied) = (figure(1), figure(2));
    Ok(Left {
        frames,
        missing: frames.saturating_sub(copied),
    })
}
