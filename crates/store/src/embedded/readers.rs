//! Reader threads, connections for point reads on the callers' threads, and the watchdog that stops a read whose
//! deadline has passed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alyx_core::{Result, Seq};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::change_log::{self, ChangeReader};
use super::connection::{Budget, Connection};
use crate::failure::{Failure, aborted};
use crate::queue::{Queue, Taken};
use crate::stats::Counters;
use crate::{LogBatch, Read, ReadReply};

/// How often the watchdog looks while reads are running.
const WATCH_INTERVAL: Duration = Duration::from_millis(10);
/// How long the watchdog keeps looking after the last read before it parks.
const WATCH_LINGER: u32 = 100;

/// What a reader thread is asked.
#[derive(Debug)]
pub(super) enum Job {
    /// A read.
    Read {
        read: Read,
        reply: oneshot::Sender<Result<ReadReply>>,
    },
    /// A stretch of the change log.
    Log {
        after: Seq,
        max_changes: usize,
        deadline: Instant,
        reply: oneshot::Sender<Result<LogBatch>>,
    },
}

/// A reader's thread.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) queue: Arc<Queue<Job>>,
    pub(super) watched: Arc<Watched>,
    pub(super) watchdog: Arc<Watchdog>,
    pub(super) epoch: Arc<AtomicU64>,
    pub(super) counters: Arc<Counters>,
}

impl Reader {
    /// Serves the queue until it is closed and empty.
    pub(super) fn run(mut self) {
        let mut changes = ChangeReader::default();
        while let Taken::Some(job) = self.queue.take_one(None) {
            Counters::add(&self.counters.readers_busy, 1);
            if catch_unwind(AssertUnwindSafe(|| self.serve(job, &mut changes))).is_err() {
                tracing::error!("a database reader panicked; its request gets an error");
                self.watched.release();
                self.connection.recover();
            }
            self.counters.readers_busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn serve(&mut self, job: Job, changes: &mut ChangeReader) {
        match job {
            Job::Read { read, reply } if !reply.is_closed() => {
                Counters::add(&self.counters.scans, 1);
                let answer = self.watch(read.deadline, |connection| run_read(connection, &read, true));
                let _ = reply.send(answer);
            }
            Job::Log {
                after,
                max_changes,
                deadline,
                reply,
            } if !reply.is_closed() => {
                let answer = self.watch(deadline, |connection| {
                    in_transaction(connection, |connection| {
                        change_log::read_batch(connection, changes, after, max_changes)
                    })
                });
                let _ = reply.send(answer);
            }
            Job::Read { .. } | Job::Log { .. } => {}
        }
    }

    /// Does `work` unless it is too late, and has the watchdog interrupt it when it becomes so.
    fn watch<T>(
        &mut self,
        deadline: Instant,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T> {
        self.connection.follow_schema(self.epoch.load(Ordering::Acquire));
        let outcome = if deadline <= Instant::now() {
            Err(Failure::ReadDeadline)
        } else {
            self.watchdog.guard(&self.watched, deadline);
            let outcome = work(&mut self.connection);
            self.watched.release();
            outcome
        };
        outcome.map_err(|failure| {
            let error = failure.into_error();
            if error.code() == "QUERY_TIMEOUT" {
                Counters::add(&self.counters.read_timeouts, 1);
            }
            error
        })
    }
}

/// Runs a read; with its position where `positioned`, which takes a transaction.
fn run_read(connection: &mut Connection, read: &Read, positioned: bool) -> Result<ReadReply, Failure> {
    let statements = |connection: &mut Connection| {
        let mut budget = Budget::of_request();
        let mut results = Vec::with_capacity(read.statements.len());
        for statement in &read.statements {
            if !results.is_empty() && read.deadline <= Instant::now() {
                return Err(Failure::ReadDeadline);
            }
            results.push(connection.run(statement, &mut budget)?);
        }
        Ok(results)
    };
    if !positioned && read.statements.len() <= 1 {
        return Ok(ReadReply {
            results: statements(connection)?,
            position: Seq(0),
        });
    }
    in_transaction(connection, |connection| {
        let position = if positioned {
            change_log::head(connection)?
        } else {
            Seq(0)
        };
        Ok(ReadReply {
            results: statements(connection)?,
            position,
        })
    })
}

/// All that `work` reads is of one state of the database.
fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    connection.own("BEGIN", Vec::new())?;
    let outcome = work(connection).and_then(|done| connection.own("COMMIT", Vec::new()).map(|_| done));
    if outcome.is_err() {
        connection.rollback();
    }
    outcome
}

/// Connections for reads on the callers' threads.
pub(super) struct PointReaders {
    connections: Vec<Mutex<Option<Connection>>>,
    next: AtomicUsize,
    epoch: Arc<AtomicU64>,
    counters: Arc<Counters>,
}

impl PointReaders {
    pub(super) fn new(connections: Vec<Connection>, epoch: Arc<AtomicU64>, counters: Arc<Counters>) -> Self {
        Self {
            connections: connections
                .into_iter()
                .map(|connection| Mutex::new(Some(connection)))
                .collect(),
            next: AtomicUsize::new(0),
            epoch,
            counters,
        }
    }

    /// Runs the read here and now; `None` where every connection is in use.
    pub(super) fn read(&self, read: &Read) -> Option<Result<ReadReply>> {
        self.with(|connection| run_read(connection, read, false))
    }

    /// The log's head; `None` where every connection is in use.
    pub(super) fn head(&self) -> Option<Result<Seq>> {
        self.with(change_log::head)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, Failure>) -> Option<Result<T>> {
        let count = self.connections.len();
        let first = self.next.load(Ordering::Relaxed);
        for offset in 0..count {
            let index = (first + offset) % count;
            let Some(mut slot) = self.connections[index].try_lock() else {
                self.next.store(index + 1, Ordering::Relaxed);
                continue;
            };
            let connection = slot.as_mut()?;
            Counters::add(&self.counters.point_reads, 1);
            connection.follow_schema(self.epoch.load(Ordering::Acquire));
            let outcome = catch_unwind(AssertUnwindSafe(|| work(connection)));
            return Some(match outcome {
                Ok(outcome) => outcome.map_err(Failure::into_error),
                Err(_) => {
                    connection.recover();
                    Err(aborted())
                }
            });
        }
        None
    }

    /// Closes the connections; waits for the reads that run.
    pub(super) fn close(&self) {
        for slot in &self.connections {
            drop(slot.lock().take());
        }
    }
}

/// The read that a reader has in hand, as the watchdog sees it.
pub(super) struct Watched {
    connection: libsql::Connection,
    deadline: Mutex<Option<Instant>>,
}

impl Watched {
    pub(super) fn new(connection: &Connection) -> Self {
        Self {
            connection: connection.raw().clone(),
            deadline: Mutex::new(None),
        }
    }

    fn release(&self) {
        *self.deadline.lock() = None;
    }

    /// Interrupts the read if it is too late. Under the lock, so that it cannot hit the next one.
    fn check(&self, now: Instant) -> bool {
        let deadline = self.deadline.lock();
        if deadline.is_some_and(|deadline| deadline <= now) {
            // Between two statements an interrupt is lost; the next round repeats it.
            if let Err(error) = self.connection.interrupt() {
                tracing::warn!(%error, "a query could not be interrupted");
            }
        }
        deadline.is_some()
    }
}

/// Interrupts reads that are over their deadline. Parked while nothing is read.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    state: Mutex<WatchdogState>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct WatchdogState {
    parked: bool,
    closed: bool,
}

impl Watchdog {
    /// The deadline is set before the lock is taken, and the watchdog looks for deadlines before it gives the lock
    /// up to park: one of the two always notices the other.
    fn guard(&self, watched: &Watched, deadline: Instant) {
        *watched.deadline.lock() = Some(deadline);
        let mut state = self.state.lock();
        if state.parked {
            state.parked = false;
            self.wake.notify_one();
        }
    }

    /// Watches until closed.
    pub(super) fn run(&self, watched: &[Arc<Watched>]) {
        let mut quiet = 0;
        let mut state = self.state.lock();
        while !state.closed {
            let now = Instant::now();
            let busy = watched.iter().filter(|watched| watched.check(now)).count();
            quiet = if busy > 0 { 0 } else { quiet + 1 };
            if quiet < WATCH_LINGER {
                self.wake.wait_for(&mut state, WATCH_INTERVAL);
                continue;
            }
            state.parked = true;
            while state.parked && !state.closed {
                self.wake.wait(&mut state);
            }
            quiet = 0;
        }
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_all();
    }
}
