//! What the writer does between groups: cuts off the old end of the change log, and forgets writes and writers that
//! nobody asks about any more.

use std::time::{Duration, Instant, SystemTime};

use alyx_core::{Seq, Value};

use super::change_log::position;
use super::hrana::When;
use super::transactor::{NotCommitted, Transactor};
use crate::Commit;
use crate::failure::Failure;

/// How often an idle writer looks for changes that are too old.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long the writer rests before it looks again while changes are kept for no time at all.
const SHORTEST: Duration = Duration::from_millis(200);
/// How long a forwarded write is remembered: longer than any of them is tried.
const REMEMBERED: Duration = Duration::from_secs(120);
/// How often forwarded writes are forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(10);

/// When to do what.
#[derive(Debug)]
pub(super) struct Upkeep {
    age: Duration,
    rows: u64,
    /// The oldest change in the table.
    oldest: Seq,
    /// Whether the last cut left something to cut off.
    unfinished: bool,
    /// The head after which there was nothing more to cut off.
    settled: Seq,
    truncate_at: Instant,
    forget_at: Instant,
}

/// What a cut did.
struct Cut {
    horizon: Seq,
    oldest: Seq,
    commits: Vec<Commit>,
}

impl Upkeep {
    pub(super) fn new(age: Duration, rows: u64) -> Self {
        Self {
            age,
            rows,
            oldest: Seq(1),
            unfinished: false,
            settled: Seq(0),
            truncate_at: Instant::now(),
            forget_at: Instant::now(),
        }
    }

    /// When an idle writer must come back.
    pub(super) fn due(&self, head: Seq) -> Instant {
        if self.unfinished {
            return Instant::now();
        }
        if self.too_long(head, 0) {
            return Instant::now() + SHORTEST;
        }
        self.truncate_at.min(self.forget_at)
    }

    /// Whether the log is over its bound by more than `slack` and there may be something to cut off.
    fn too_long(&self, head: Seq, slack: u64) -> bool {
        let stored = (head.0 + 1).saturating_sub(self.oldest.0);
        stored > self.rows.saturating_add(slack) && head != self.settled
    }

    /// Does what is due. Returns the horizon where it was looked at, and commits of others that were found.
    pub(super) async fn work(&mut self, database: &mut Transactor, idle: bool) -> (Option<Seq>, Vec<Commit>) {
        let slack = if idle { 0 } else { self.rows / 8 };
        let now = Instant::now();
        let due = idle && (self.unfinished || self.truncate_at <= now);
        if !due && !self.too_long(database.head, slack) && self.forget_at > now {
            return (None, Vec::new());
        }
        self.forget_at = now + FORGET_INTERVAL;
        let before = self.settled;
        match self.cut(database).await {
            Ok(cut) => {
                self.oldest = cut.oldest;
                self.unfinished = cut.oldest <= cut.horizon && cut.oldest != Seq(0);
                if !self.unfinished {
                    self.settled = database.head;
                    let rest = INTERVAL.min(self.age.max(SHORTEST));
                    self.truncate_at = now + rest;
                }
                (Some(cut.horizon), cut.commits)
            }
            Err(failure) => {
                tracing::warn!(error = %failure, "the change log could not be cut off");
                self.unfinished = false;
                self.settled = before.max(database.head);
                self.truncate_at = now + INTERVAL;
                (None, Vec::new())
            }
        }
    }

    async fn cut(&self, database: &mut Transactor) -> Result<Cut, Failure> {
        const MOVE_HORIZON: &str = "UPDATE _alyx_meta SET value = max(value, coalesce((SELECT max(seq) FROM \
             (SELECT seq, at FROM _alyx_commits ORDER BY seq LIMIT 2000) \
             WHERE seq < (SELECT max(seq) FROM _alyx_commits) \
             AND (at < CAST(unixepoch('subsec') * 1000 AS INTEGER) - ?1 \
             OR seq <= (SELECT max(seq) FROM _alyx_changes) - ?2)), 0)) WHERE key = 'horizon'";
        const CUT_COMMITS: &str = "DELETE FROM _alyx_commits \
             WHERE seq <= (SELECT value FROM _alyx_meta WHERE key = 'horizon')";
        const CUT_CHANGES: &str = "DELETE FROM _alyx_changes WHERE seq <= min(\
             (SELECT value FROM _alyx_meta WHERE key = 'horizon'), \
             (SELECT min(seq) FROM _alyx_changes) + 1999)";
        const LEFT: &str = "SELECT (SELECT value FROM _alyx_meta WHERE key = 'horizon'), \
             coalesce((SELECT min(seq) FROM _alyx_changes), 0)";
        const FORGET_WRITES: &str = "DELETE FROM _alyx_writes WHERE id IN \
             (SELECT id FROM _alyx_writes WHERE id < ?1 ORDER BY id LIMIT 50000)";
        const FORGET_WRITERS: &str = "DELETE FROM _alyx_writers WHERE at < unixepoch() - 604800 AND id <> ?1";
        database.ready().await?;
        let mut transaction = database.transaction(true)?;
        database.renew(&mut transaction)?;
        let batch = &mut transaction.batch;
        let age = Value::Int(i64::try_from(self.age.as_millis()).unwrap_or(i64::MAX));
        let rows = Value::Int(i64::try_from(self.rows).unwrap_or(i64::MAX));
        batch.run(When::Open, MOVE_HORIZON, &[age, rows])?;
        batch.run(When::Open, CUT_COMMITS, &[])?;
        batch.run(When::Open, CUT_CHANGES, &[])?;
        batch.run(When::Open, FORGET_WRITES, &[Value::from(oldest_remembered())])?;
        let me = Value::from(database.id.as_ref());
        batch.run(When::Open, FORGET_WRITERS, &[me])?;
        let left = batch.rows(When::Open, LEFT, &[])?;
        match database.commit(transaction).await {
            Ok((reply, committed)) => {
                let row = reply.step(left).and_then(|step| step.rows.first());
                let int = |column: usize| position(row.and_then(|row| row.get(column)?.0.as_int()));
                Ok(Cut {
                    horizon: int(0),
                    oldest: int(1),
                    commits: committed.commits,
                })
            }
            Err(NotCommitted::ReplyLost(_)) => Err(Failure::OutcomeUnknown),
            Err(NotCommitted::Failed(failure) | NotCommitted::TryAgain(failure)) => Err(failure),
            Err(NotCommitted::Ended(_)) => Err(Failure::TransactionLost),
        }
    }
}

/// Ids of writes begin with the time in which they were made (RFC 9562, version 7).
fn oldest_remembered() -> String {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let millis = since.saturating_sub(REMEMBERED).as_millis();
    format!("{:08x}-{:04x}", (millis >> 16) & 0xffff_ffff, millis & 0xffff)
}
