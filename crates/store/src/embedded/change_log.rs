//! The change log's tables: `_alyx_changes` (written by triggers), `_alyx_commits` (the `seq` at which each commit
//! ends) and the horizon in `_alyx_meta`.
//!
//! **Invariants:** `seq` has no gaps above the horizon and is never reused. The log's last commit is never cut off.
//! The horizon is a commit's end, and moves before or together with the rows that it gives up.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use alyx_core::Seq;
use rustc_hash::FxHashMap;

use super::connection::{Connection, owned_value};
use crate::failure::Failure;
use crate::{Change, ChangeOp, Commit, LogBatch};

/// Tables of the log. `_alyx_changes` is what the triggers of tracked tables insert into.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS _alyx_changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    collection TEXT NOT NULL,
    op INTEGER NOT NULL,
    id,
    old TEXT,
    new TEXT
);
CREATE TABLE IF NOT EXISTS _alyx_commits (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL
);";

const HEAD: &str = "SELECT coalesce((SELECT max(seq) FROM _alyx_changes), \
     (SELECT value FROM _alyx_meta WHERE key = 'horizon'), 0)";
const HORIZON: &str = "SELECT value FROM _alyx_meta WHERE key = 'horizon'";
const CHANGES: &str = "SELECT seq, collection, op, old, new FROM _alyx_changes \
     WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";

/// Collections whose names the reader of the log shares between changes.
const SHARED_NAMES: usize = 1024;

/// The `seq` of the last change.
pub(super) fn head(connection: &mut Connection) -> Result<Seq, Failure> {
    Ok(seq(connection.own_int(HEAD, Vec::new())?))
}

/// Up to where the log has been cut off.
pub(super) fn horizon(connection: &mut Connection) -> Result<Seq, Failure> {
    Ok(seq(connection.own_int(HORIZON, Vec::new())?))
}

/// The end of the last commit, `0` where there is none.
pub(super) fn last_commit(connection: &mut Connection) -> Result<Seq, Failure> {
    Ok(seq(
        connection.own_int("SELECT max(seq) FROM _alyx_commits", Vec::new())?
    ))
}

/// Records that a commit ends at `position`.
pub(super) fn record_commit(connection: &mut Connection, position: Seq) -> Result<(), Failure> {
    let parameters = vec![integer(position), libsql::Value::Integer(unix_millis())];
    connection
        .own(
            "INSERT OR IGNORE INTO _alyx_commits (seq, at) VALUES (?1, ?2)",
            parameters,
        )
        .map(|_| ())
}

/// Reads changes and shares the names of their collections.
#[derive(Debug, Default)]
pub(super) struct ChangeReader {
    names: FxHashMap<Arc<str>, Arc<str>>,
}

impl ChangeReader {
    /// The changes after `after` up to and including `until`, oldest first.
    pub(super) fn read(
        &mut self,
        connection: &mut Connection,
        after: Seq,
        until: Seq,
    ) -> Result<Vec<Change>, Failure> {
        let mut changes = Vec::new();
        connection.own_each(CHANGES, vec![integer(after), integer(until)], |row| {
            changes.push(self.change(row)?);
            Ok(())
        })?;
        Ok(changes)
    }

    fn change(&mut self, row: &libsql::Row) -> Result<Change, Failure> {
        let op = match row.get::<i64>(2)? {
            1 => ChangeOp::Insert,
            2 => ChangeOp::Update,
            3 => ChangeOp::Delete,
            other => {
                return Err(Failure::Driver(format!(
                    "_alyx_changes holds the operation {other}"
                )));
            }
        };
        Ok(Change {
            seq: seq(owned_value(row, 0)?.as_int()),
            collection: self.name(row.get_str(1)?),
            op,
            old: optional_text(row, 3)?,
            new: optional_text(row, 4)?,
        })
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.names.get(name) {
            return Arc::clone(shared);
        }
        if self.names.len() >= SHARED_NAMES {
            self.names.clear();
        }
        let shared: Arc<str> = name.into();
        self.names.insert(Arc::clone(&shared), Arc::clone(&shared));
        shared
    }
}

/// Reads whole commits after `after`: as many as have `max_changes` changes together, but at least one. Must run
/// inside one transaction.
pub(super) fn read_batch(
    connection: &mut Connection,
    reader: &mut ChangeReader,
    after: Seq,
    max_changes: usize,
) -> Result<LogBatch, Failure> {
    let horizon = horizon(connection)?;
    let head = head(connection)?;
    let mut batch = LogBatch {
        commits: Vec::new(),
        head,
        horizon,
    };
    if after < horizon || after >= head {
        return Ok(batch);
    }
    let ends = commit_ends(connection, after, head, max_changes)?;
    let until = ends.last().copied().unwrap_or(head);
    let mut changes = reader.read(connection, after, until)?.into_iter().peekable();
    for end in ends {
        let mut own = Vec::new();
        while let Some(change) = changes.next_if(|change| change.seq <= end) {
            own.push(change);
        }
        if !own.is_empty() {
            batch.commits.push(Commit {
                position: end,
                changes: own.into(),
                traces: Vec::new(),
            });
        }
    }
    Ok(batch)
}

/// The ends of the commits to read. Rows after the last recorded commit were written by a foreign process and
/// count as one commit of their own.
fn commit_ends(
    connection: &mut Connection,
    after: Seq,
    head: Seq,
    max_changes: usize,
) -> Result<Vec<Seq>, Failure> {
    const ENDS: &str = "SELECT seq FROM _alyx_commits WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let most = max_changes.clamp(1, 10_000);
    let limit = libsql::Value::Integer(i64::try_from(most).unwrap_or(i64::MAX));
    let rows = connection.own(ENDS, vec![integer(after), limit])?;
    let mut ends: Vec<Seq> = rows
        .iter()
        .map(|row| seq(row.first().and_then(alyx_core::Value::as_int)))
        .collect();
    if ends.len() < most && ends.last().is_none_or(|last| *last < head) {
        ends.push(head);
    }
    let fitting = ends
        .iter()
        .take_while(|end| end.0 - after.0 <= most as u64)
        .count();
    ends.truncate(fitting.max(1));
    Ok(ends)
}

/// How much of the log to keep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    /// Commits older than this may go.
    pub(super) age: Duration,
    /// Commits further back than this many changes may go.
    pub(super) rows: u64,
}

/// Most rows that one truncation deletes.
const TRUNCATION_BATCH: u64 = 2_000;

/// What a truncation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Truncated {
    /// The horizon now.
    pub(super) horizon: Seq,
    /// The oldest change that is still in the table.
    pub(super) oldest: Seq,
    /// Whether it is worth calling again at once.
    pub(super) more: bool,
}

/// Cuts off one batch at the old end. Must run inside one transaction of the writer.
pub(super) fn truncate(connection: &mut Connection, retention: Retention) -> Result<Truncated, Failure> {
    let old = horizon(connection)?;
    let new = next_horizon(connection, retention)?.max(old);
    if new > old {
        connection.own(
            "UPDATE _alyx_meta SET value = ?1 WHERE key = 'horizon'",
            vec![integer(new)],
        )?;
        connection.own("DELETE FROM _alyx_commits WHERE seq <= ?1", vec![integer(new)])?;
    }
    let first = seq(connection.own_int("SELECT min(seq) FROM _alyx_changes", Vec::new())?);
    let until = new.min(Seq((first.0 + TRUNCATION_BATCH).saturating_sub(1)));
    if first <= until {
        connection.own("DELETE FROM _alyx_changes WHERE seq <= ?1", vec![integer(until)])?;
    }
    Ok(Truncated {
        horizon: new,
        oldest: first.max(Seq(until.0 + 1)),
        more: new > old || until < new,
    })
}

/// The last commit's end that may be given up, among the oldest ones.
fn next_horizon(connection: &mut Connection, retention: Retention) -> Result<Seq, Failure> {
    const EXPIRED: &str = "SELECT max(seq) FROM \
         (SELECT seq, at FROM _alyx_commits ORDER BY seq LIMIT 2000) \
         WHERE seq < ?1 AND (at < ?2 OR seq <= ?3)";
    let last = last_commit(connection)?;
    let too_far_back = Seq(head(connection)?.0.saturating_sub(retention.rows));
    let age = i64::try_from(retention.age.as_millis()).unwrap_or(i64::MAX);
    let too_old = libsql::Value::Integer(unix_millis().saturating_sub(age));
    let found = connection.own_int(EXPIRED, vec![integer(last), too_old, integer(too_far_back)])?;
    Ok(seq(found))
}

/// A position as the driver's value.
pub(super) fn integer(position: Seq) -> libsql::Value {
    libsql::Value::Integer(i64::try_from(position.0).unwrap_or(i64::MAX))
}

/// Never negative: `seq` counts from 1.
fn seq(int: Option<i64>) -> Seq {
    Seq(int.and_then(|int| u64::try_from(int).ok()).unwrap_or(0))
}

fn optional_text(row: &libsql::Row, column: i32) -> Result<Option<Arc<str>>, Failure> {
    Ok(match owned_value(row, column)? {
        alyx_core::Value::Text(text) => Some(text),
        _ => None,
    })
}

fn unix_millis() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}
