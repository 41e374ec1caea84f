//! How one write becomes steps of a batch, so that it succeeds or fails on its own, and what has become of it.
//!
//! A write of one plain statement relies on the statement's own atomicity. Any other runs under a savepoint, and what
//! the client would check between two statements of a file is a guard here: a statement that fails.

use std::sync::Arc;

use alyx_core::{Row, Value};

use super::hrana::{Batch, BatchReply, StepReply, When};
use super::sql::{self, Facts};
use super::stream::from_server;
use crate::failure::{Failure, MAX_RESULT_BYTES, MAX_RESULT_ROWS};
use crate::{Expect, Rows, Write, WriteStep};

/// The id of a write, made by whoever sends it: it is carried out at most once, however often it is sent.
pub type WriteId = Arc<str>;

const RECORD_ID: &str =
    "INSERT INTO _alyx_writes (id, seq) SELECT ?1, coalesce(max(seq), 0) FROM _alyx_commits";
const FORGET_ID: &str = "DELETE FROM _alyx_writes WHERE id = ?1";

/// Where the steps of a write are in the batch.
#[derive(Debug)]
pub(super) struct Plan {
    recorded: Option<usize>,
    statements: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    step: usize,
    guard: Option<usize>,
    /// A check, which fails by itself where it does not hold.
    check: bool,
}

/// What has become of a write.
#[derive(Debug)]
pub(super) enum Fate {
    /// Carried out.
    Done(Vec<Rows>),
    /// Not carried out.
    Failed(Failure),
    /// It was carried out before.
    Repeated,
    /// It was not reached: the transaction had ended before it.
    Skipped,
}

/// What a write's place in the batch depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style<'a> {
    /// Recorded together with the write.
    pub(super) id: Option<&'a WriteId>,
    /// Whether it gets a savepoint in any case.
    pub(super) protect: bool,
}

impl Plan {
    /// Adds the write's steps. On failure the batch is spoilt.
    pub(super) fn add(
        batch: &mut Batch,
        write: &Write,
        facts: &[Facts],
        style: Style<'_>,
    ) -> Result<Self, Failure> {
        let alone = write.steps.len() == 1;
        let guards: Vec<Option<Guard>> = write
            .steps
            .iter()
            .zip(facts)
            .map(|(step, facts)| guard(step, *facts, alone, style.id.is_some()))
            .collect();
        let protect = style.protect
            || !alone
            || guards.iter().any(Option::is_some)
            || facts.iter().any(|facts| facts.partial);
        let savepoint = protect
            .then(|| batch.run(When::Open, "SAVEPOINT step", &[]))
            .transpose()?;
        let mut before = savepoint;
        let after = |before: Option<usize>| before.map_or(When::Open, When::Worked);
        let id = style.id.map(|id| Value::Text(Arc::clone(id)));
        let recorded = id
            .as_ref()
            .map(|id| batch.run(after(before), RECORD_ID, std::slice::from_ref(id)))
            .transpose()?;
        before = recorded.or(before);
        let mut statements = Vec::with_capacity(write.steps.len());
        for (step, guard) in write.steps.iter().zip(guards) {
            let statement = &step.statement;
            if let Some(Guard::InPlace(sql)) = &guard {
                let planned = batch.run(after(before), sql, &statement.params)?;
                before = Some(planned);
                statements.push(Planned {
                    step: planned,
                    guard: None,
                    check: true,
                });
                continue;
            }
            let planned = batch.rows(after(before), &statement.sql, &statement.params)?;
            let guard = match guard {
                Some(Guard::OfRows(sql)) => {
                    Some(batch.run(When::Worked(planned), &sql, &statement.params)?)
                }
                Some(Guard::OfChanges(sql)) => Some(batch.run(When::Worked(planned), &sql, &[])?),
                Some(Guard::InPlace(_)) | None => None,
            };
            before = Some(guard.unwrap_or(planned));
            statements.push(Planned {
                step: planned,
                guard,
                check: false,
            });
        }
        match (savepoint, recorded, before, &id) {
            (Some(savepoint), _, Some(last), _) => {
                batch.run(When::Undone(savepoint, last), "ROLLBACK TO step", &[])?;
                batch.run(When::Worked(savepoint), "RELEASE step", &[])?;
            }
            (None, Some(recorded), Some(last), Some(id)) => {
                batch.run(When::Undone(recorded, last), FORGET_ID, std::slice::from_ref(id))?;
            }
            _ => {}
        }
        Ok(Self { recorded, statements })
    }

    /// What has become of the write, by the server's reply.
    pub(super) fn fate(&self, reply: &mut BatchReply, write: &Write) -> Fate {
        if let Some(recorded) = self.recorded
            && let Some(error) = reply.error(recorded)
        {
            return match from_server(error) {
                Failure::Sqlite { code: 2067, .. } => Fate::Repeated,
                failure => Fate::Failed(failure),
            };
        }
        for (number, (planned, step)) in self.statements.iter().zip(&write.steps).enumerate() {
            match planned.outcome(reply, step.expect) {
                Ok(true) => {}
                Ok(false) => return Fate::Skipped,
                Err(failure) => return Fate::Failed(failure.at_step(number, write.steps.len())),
            }
        }
        let mut budget = Budget::of_request();
        let taken = self.statements.iter().map(|planned| {
            let step = reply.take(planned.step).unwrap_or_default();
            budget.rows(step)
        });
        match taken.collect() {
            Ok(rows) => Fate::Done(rows),
            Err(failure) => Fate::Failed(failure),
        }
    }

    /// Whether a step of the write was run and failed.
    pub(super) fn failed(&self, reply: &BatchReply) -> bool {
        self.statements
            .iter()
            .any(|planned| reply.error(planned.step).is_some())
    }
}

impl Planned {
    /// Whether the step was run, where it did what it must.
    fn outcome(&self, reply: &BatchReply, expect: Expect) -> Result<bool, Failure> {
        if let Some(error) = reply.error(self.step) {
            return Err(match (from_server(error), expect) {
                // The check's own way to fail.
                (Failure::Sqlite { message, .. }, Expect::Holds(condition))
                    if self.check && message.contains("integer overflow") =>
                {
                    Failure::Unmet(condition)
                }
                (failure, _) => failure,
            });
        }
        let Some(done) = reply.step(self.step) else {
            return Ok(false);
        };
        let nothing = done.affected_row_count == 0 && done.rows.is_empty();
        match expect {
            Expect::Row if nothing => return Err(Failure::NoRow),
            Expect::Holds(condition) if nothing && !self.check => return Err(Failure::Unmet(condition)),
            Expect::Any | Expect::Row | Expect::Holds(_) => {}
        }
        match self.guard {
            Some(guard) if !reply.worked(guard) => match reply.error(guard) {
                Some(_) => Err(Failure::ResultTooLarge),
                None => Ok(false),
            },
            Some(_) | None => Ok(true),
        }
    }
}

/// A statement that fails where the step did not do what it must, or returned more than a reply may have.
enum Guard {
    /// Takes the place of a step that only checks.
    InPlace(String),
    /// Looks at how many rows the step changed.
    OfChanges(String),
    /// Counts the rows of a step that reads, and takes its parameters.
    OfRows(String),
}

fn guard(step: &WriteStep, facts: Facts, alone: bool, recorded: bool) -> Option<Guard> {
    // The absolute value of the smallest integer is none.
    const ELSE_FAIL: &str = "0, -9223372036854775808))";
    let row = step.expect != Expect::Any;
    if !facts.writes {
        if let Expect::Holds(_) = step.expect {
            let text = sql::first(&step.statement.sql);
            return Some(Guard::InPlace(format!(
                "SELECT abs(iif(EXISTS ({text}\n), {ELSE_FAIL}"
            )));
        }
        // It changes nothing: alone, there is nothing to undo, and the client looks at what it returned.
        if alone || !facts.many_rows {
            return None;
        }
        let (text, least) = (sql::first(&step.statement.sql), u8::from(row));
        return Some(Guard::OfRows(format!(
            "SELECT abs(iif((SELECT count(*) FROM (SELECT 1 FROM ({text}\n) LIMIT {})) \
             BETWEEN {least} AND {MAX_RESULT_ROWS}, {ELSE_FAIL}",
            MAX_RESULT_ROWS + 1
        )));
    }
    let must = row && (!alone || recorded && !facts.inserts_given_rows);
    let wanted = match (must, facts.many_rows) {
        (false, false) => return None,
        (true, false) => "> 0".to_owned(),
        (must, true) => format!("BETWEEN {} AND {MAX_RESULT_ROWS}", u8::from(must)),
    };
    Some(Guard::OfChanges(format!(
        "SELECT abs(iif(changes() {wanted}, {ELSE_FAIL}"
    )))
}

/// What a request may still return.
#[derive(Debug)]
pub(super) struct Budget {
    rows: usize,
    bytes: usize,
}

impl Budget {
    /// The bounds of one request.
    pub(super) const fn of_request() -> Self {
        Self {
            rows: MAX_RESULT_ROWS,
            bytes: MAX_RESULT_BYTES,
        }
    }

    /// A step's rows, where they are within what is left.
    pub(super) fn rows(&mut self, step: StepReply) -> Result<Rows, Failure> {
        self.rows = self
            .rows
            .checked_sub(step.rows.len())
            .ok_or(Failure::ResultTooLarge)?;
        let affected = step.affected_row_count;
        let rows: Vec<Row> = step
            .rows
            .into_iter()
            .map(|row| row.into_iter().map(|cell| cell.0).collect())
            .collect();
        let bytes: usize = rows.iter().flatten().map(size_of_value).sum();
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Failure::ResultTooLarge)?;
        Ok(Rows { rows, affected })
    }
}

/// Bytes of a value, for bounds.
pub(crate) fn size_of_value(value: &Value) -> usize {
    match value {
        Value::Null | Value::Int(_) | Value::Float(_) => 8,
        Value::Text(text) => text.len(),
        Value::Blob(blob) => blob.len(),
    }
}
