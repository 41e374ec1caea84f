//! The change log on a server: the same tables as in a file, read in pages, because the server bounds its answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use alyx_core::{Seq, Value};
use rustc_hash::FxHashMap;

use super::hrana::{Batch, BatchReply, Cell, StepReply, When};
use super::stream::{Stream, from_server};
use crate::failure::Failure;
use crate::{Change, ChangeOp, Commit, LogBatch};

/// The log's last position.
pub(super) const HEAD: &str = "SELECT coalesce((SELECT max(seq) FROM _alyx_changes), \
     (SELECT value FROM _alyx_meta WHERE key = 'horizon'), 0)";
/// Closes what is in the log after its last commit, as a commit of its own.
pub(super) const CLOSE_COMMIT: &str = "INSERT OR IGNORE INTO _alyx_commits (seq, at) \
     SELECT last, CAST(unixepoch('subsec') * 1000 AS INTEGER) FROM (SELECT max(seq) AS last FROM _alyx_changes) \
     WHERE last > coalesce((SELECT max(seq) FROM _alyx_commits), 0)";
/// The ends of the commits after a position.
pub(super) const ENDS: &str = "SELECT seq FROM _alyx_commits WHERE seq > ?1 ORDER BY seq LIMIT ?2";
/// Changes after a position.
pub(super) const CHANGES: &str = "SELECT seq, collection, op, old, new FROM _alyx_changes \
     WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";
const HORIZON: &str = "SELECT value FROM _alyx_meta WHERE key = 'horizon'";

/// Changes asked for in one page, to begin with.
const PAGE: usize = 2_000;
/// Characters of a change asked for at once where one change alone is over the server's bound.
const PIECE: i64 = 64 << 10;
/// Collections whose names the reader of the log shares between changes.
const SHARED_NAMES: usize = 1024;

/// Reads changes, in pages that the server can answer, and shares the names of their collections.
#[derive(Debug)]
pub(super) struct ChangeReader {
    names: parking_lot::Mutex<FxHashMap<Arc<str>, Arc<str>>>,
    /// What fitted last.
    page: AtomicUsize,
}

impl Default for ChangeReader {
    fn default() -> Self {
        Self {
            names: parking_lot::Mutex::default(),
            page: AtomicUsize::new(PAGE),
        }
    }
}

impl ChangeReader {
    /// The changes after `after` up to and including `until`, oldest first.
    pub(super) async fn read(
        &self,
        stream: &mut Stream,
        (after, until): (Seq, Seq),
        deadline: Instant,
    ) -> Result<Vec<Change>, Failure> {
        let mut changes: Vec<Change> = Vec::new();
        loop {
            let after = changes.last().map_or(after, |last| last.seq);
            if after >= until {
                return Ok(changes);
            }
            let page = self.page.load(Ordering::Relaxed).max(1);
            let limit = Value::Int(i64::try_from(page).unwrap_or(i64::MAX));
            let params = [integer(after), integer(until), limit];
            match rows(stream, CHANGES, &params, deadline).await {
                Ok(step) => {
                    let found = step.rows.len();
                    for row in step.rows {
                        changes.push(self.change(row)?);
                    }
                    if found < page {
                        return Ok(changes);
                    }
                    self.page.store(PAGE.min(page * 2), Ordering::Relaxed);
                }
                Err(Failure::ResultTooLarge) if page > 1 => self.page.store(page / 2, Ordering::Relaxed),
                Err(Failure::ResultTooLarge) => {
                    changes.push(self.large_change(stream, (after, until), deadline).await?);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// The first change after `after`, in pieces.
    async fn large_change(
        &self,
        stream: &mut Stream,
        (after, until): (Seq, Seq),
        deadline: Instant,
    ) -> Result<Change, Failure> {
        const OUTLINE: &str = "SELECT seq, collection, op, length(old), length(new) FROM _alyx_changes \
             WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT 1";
        let mut outline = rows(stream, OUTLINE, &[integer(after), integer(until)], deadline).await?;
        let row = outline.rows.pop().ok_or(Failure::ResultTooLarge)?;
        let seq = row.first().and_then(|cell| cell.0.as_int()).unwrap_or(0);
        let lengths = [3, 4].map(|column: usize| row.get(column).and_then(|cell| cell.0.as_int()));
        let mut texts: [Value; 2] = [Value::Null, Value::Null];
        let pieces = [
            "SELECT substr(old, ?2, ?3) FROM _alyx_changes WHERE seq = ?1",
            "SELECT substr(new, ?2, ?3) FROM _alyx_changes WHERE seq = ?1",
        ];
        for (index, length) in lengths.into_iter().enumerate() {
            let Some(length) = length else { continue };
            let mut whole = String::new();
            let mut from = 1;
            while from <= length {
                let params = [Value::Int(seq), Value::Int(from), Value::Int(PIECE)];
                let piece = rows(stream, pieces[index], &params, deadline).await?;
                let text = piece.rows.first().and_then(|row| row.first());
                whole.push_str(text.and_then(|cell| cell.0.as_text()).unwrap_or_default());
                from += PIECE;
            }
            texts[index] = Value::from(whole);
        }
        let [old, new] = texts;
        let row = row.into_iter().take(3).chain([Cell(old), Cell(new)]).collect();
        self.change(row)
    }

    /// A row of the log.
    pub(super) fn change(&self, row: Vec<Cell>) -> Result<Change, Failure> {
        let strange = || Failure::Driver("_alyx_changes holds a row of another form".to_owned());
        let [seq, collection, op, old, new] = <[Cell; 5]>::try_from(row).map_err(|_| strange())?;
        let op = match op.0.as_int() {
            Some(1) => ChangeOp::Insert,
            Some(2) => ChangeOp::Update,
            Some(3) => ChangeOp::Delete,
            _ => return Err(strange()),
        };
        Ok(Change {
            seq: position(seq.0.as_int()),
            collection: self.name(collection.0.as_text().ok_or_else(strange)?),
            op,
            old: text(old),
            new: text(new),
        })
    }

    fn name(&self, name: &str) -> Arc<str> {
        let mut names = self.names.lock();
        if let Some(shared) = names.get(name) {
            return Arc::clone(shared);
        }
        if names.len() >= SHARED_NAMES {
            names.clear();
        }
        let shared: Arc<str> = name.into();
        names.insert(Arc::clone(&shared), Arc::clone(&shared));
        shared
    }

    /// Reads whole commits after `after`: as many as have `max_changes` changes together, but at least one.
    pub(super) async fn read_batch(
        &self,
        stream: &mut Stream,
        (after, max_changes): (Seq, usize),
        deadline: Instant,
    ) -> Result<LogBatch, Failure> {
        let most = max_changes.clamp(1, 10_000);
        let limit = Value::Int(i64::try_from(most).unwrap_or(i64::MAX));
        let mut batch = Batch::new();
        let begin = batch.run(When::Always, "BEGIN", &[])?;
        let horizon = batch.rows(When::Worked(begin), HORIZON, &[])?;
        let head = batch.rows(When::Worked(begin), HEAD, &[])?;
        let ends = batch.rows(When::Worked(begin), ENDS, &[integer(after), limit])?;
        batch.run(When::Open, "ROLLBACK", &[])?;
        let reply = run(stream, &batch, deadline).await?;
        expect(&reply, &[begin, horizon, head, ends])?;
        let mut log = LogBatch {
            commits: Vec::new(),
            head: position(reply.int(head)),
            horizon: position(reply.int(horizon)),
        };
        if after < log.horizon || after >= log.head {
            return Ok(log);
        }
        let ends = fitting(
            reply.ints(ends).map(|end| position(Some(end))),
            after,
            log.head,
            most,
        );
        let until = ends.last().copied().unwrap_or(log.head);
        let changes = self.read(stream, (after, until), deadline).await?;
        // The old end may have been cut off between the two calls.
        if changes.first().is_none_or(|first| first.seq.0 != after.0 + 1) {
            let horizon = rows(stream, HORIZON, &[], deadline).await?;
            let horizon = horizon.rows.first().and_then(|row| row.first());
            log.horizon = position(horizon.and_then(|cell| cell.0.as_int()));
            if after < log.horizon {
                return Ok(log);
            }
        }
        log.commits = commits(changes, &ends);
        Ok(log)
    }
}

/// The ends of the commits to read. Rows after the last recorded commit were written by a foreign process and count as
/// one commit of their own.
fn fitting(recorded: impl Iterator<Item = Seq>, after: Seq, head: Seq, most: usize) -> Vec<Seq> {
    let mut ends: Vec<Seq> = recorded.filter(|end| *end <= head).collect();
    if ends.len() < most && ends.last().is_none_or(|last| *last < head) {
        ends.push(head);
    }
    let fitting = ends
        .iter()
        .take_while(|end| end.0 - after.0 <= most as u64)
        .count();
    ends.truncate(fitting.max(1));
    ends
}

/// The changes by the commits that end at `ends`; commits without changes are left out.
pub(super) fn commits(changes: Vec<Change>, ends: &[Seq]) -> Vec<Commit> {
    let mut changes = changes.into_iter().peekable();
    let mut commits = Vec::with_capacity(ends.len());
    for end in ends {
        let mut own = Vec::new();
        while let Some(change) = changes.next_if(|change| change.seq <= *end) {
            own.push(change);
        }
        if !own.is_empty() {
            commits.push(Commit {
                position: *end,
                changes: own.into(),
                traces: Vec::new(),
            });
        }
    }
    commits
}

/// Runs one statement that reads.
pub(super) async fn rows(
    stream: &mut Stream,
    sql: &str,
    params: &[Value],
    deadline: Instant,
) -> Result<StepReply, Failure> {
    let mut batch = Batch::new();
    let step = batch.rows(When::Always, sql, params)?;
    let mut reply = run(stream, &batch, deadline).await?;
    expect(&reply, &[step])?;
    Ok(reply.take(step).unwrap_or_default())
}

/// Runs a batch that reads.
pub(super) async fn run(
    stream: &mut Stream,
    batch: &Batch,
    deadline: Instant,
) -> Result<BatchReply, Failure> {
    stream
        .run(batch, deadline, true)
        .await
        .map_err(super::stream::BatchError::into_failure)
}

/// Fails where one of the steps failed.
pub(super) fn expect(reply: &BatchReply, steps: &[usize]) -> Result<(), Failure> {
    for step in steps {
        if let Some(error) = reply.error(*step) {
            return Err(from_server(error));
        }
        if !reply.worked(*step) {
            return Err(Failure::TransactionLost);
        }
    }
    Ok(())
}

/// A position as a parameter.
pub(super) fn integer(position: Seq) -> Value {
    Value::Int(i64::try_from(position.0).unwrap_or(i64::MAX))
}

/// Never negative: `seq` counts from 1.
pub(super) fn position(int: Option<i64>) -> Seq {
    Seq(int.and_then(|int| u64::try_from(int).ok()).unwrap_or(0))
}

fn text(cell: Cell) -> Option<Arc<str>> {
    match cell.0 {
        Value::Text(text) => Some(text),
        _ => None,
    }
}
