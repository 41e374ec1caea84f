//! Committing a transaction: one write that checks first that nothing has changed of what was read.
//!
//! The checks go through the change log from the position of each read on. Where that was long ago, a reader goes
//! through it first, so that the writer, who holds up everybody, has only the last moment left to look at.

use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result, Seq, Statement, Value};
use alyx_query::{documents_unchanged, query_unchanged};
use alyx_store::{Condition, Expect, Read, ReadCost, Write, WriteStep};

use super::Engine;
use super::transaction::{Touched, Transaction, too_large};

/// Age up to which the writer alone goes through the log.
const YOUNG: Duration = Duration::from_millis(100);
/// Documents in one check.
const DOCUMENTS_PER_CHECK: usize = 256;
/// Checks of one transaction at most: a read has no more statements.
const MAX_CHECKS: usize = 64;

impl Transaction {
    /// Commits, together with `extra` steps that come first. The transaction is over in any case.
    ///
    /// Errors: `TRANSACTION_CONFLICT`, and what the store says; an error about one of the transaction's writes has its
    /// number as step.
    pub(crate) async fn commit(
        self,
        engine: &Engine,
        extra: Vec<WriteStep>,
        deadline: Instant,
    ) -> Result<Seq> {
        let mut checks = self.checks(Seq(0));
        if checks.len() > MAX_CHECKS {
            return Err(too_large(format!(
                "reads that take more than {MAX_CHECKS} checks"
            )));
        }
        if !checks.is_empty() && (self.began.elapsed() > YOUNG || self.only_reads() && extra.is_empty()) {
            let position = validate(engine, checks, deadline).await?;
            if self.only_reads() && extra.is_empty() {
                return Ok(position);
            }
            checks = self.checks(position);
        }
        let writes = self.steps.len();
        let mut steps = extra;
        steps.extend(checks.into_iter().map(|statement| WriteStep {
            statement,
            expect: Expect::Holds(Condition::Snapshot),
        }));
        let before = steps.len();
        steps.extend(self.steps);
        if steps.is_empty() {
            return Ok(Seq(0));
        }
        let count = steps.len();
        match engine.store.write(Write { steps, deadline }).await {
            Ok(reply) => Ok(reply.position),
            Err(error) => {
                let step = error.step().or((count == 1).then_some(0));
                let own = step.and_then(|step| step.checked_sub(before));
                let own = own.filter(|own| *own < writes);
                // Of the transaction's own steps only the checks of rules have this code.
                if own.is_some() && error.code() == "PRECONDITION_FAILED" {
                    return Err(told(rule_failed(), own));
                }
                Err(told(error, own))
            }
        }
    }

    /// Statements that hold while nothing has changed since the reads, or since `position` where that is later.
    fn checks(&self, position: Seq) -> Vec<Statement> {
        let documents = self.touched.values().flat_map(|touched| touched.checks(position));
        let lists = self
            .lists
            .iter()
            .map(|(query, seen)| query_unchanged(query, (*seen).max(position)));
        documents.chain(lists).collect()
    }
}

impl Touched {
    fn checks(&self, position: Seq) -> Vec<Statement> {
        let reads = self.known.values().filter_map(|known| {
            let seen = known.seen?;
            Some((known.key.clone(), seen.max(position)))
        });
        let mut reads: Vec<(Value, Seq)> = reads.collect();
        // In an order that two commits agree about, so that few texts are prepared.
        reads.sort_by(|a, b| a.0.sql_cmp(&b.0));
        reads
            .chunks(DOCUMENTS_PER_CHECK)
            .map(|chunk| documents_unchanged(&self.collection, chunk))
            .collect()
    }
}

/// Has a reader go through the log, and returns the position up to which nothing has changed.
async fn validate(engine: &Engine, checks: Vec<Statement>, deadline: Instant) -> Result<Seq> {
    let read = Read {
        statements: checks,
        cost: ReadCost::Scan,
        deadline,
    };
    let reply = engine.store.read(read).await?;
    if reply.results.iter().all(|result| !result.rows.is_empty()) {
        return Ok(reply.position);
    }
    Err(conflict(
        "something that the transaction has read was changed meanwhile",
    ))
}

/// The transaction cannot be committed any more.
fn conflict(why: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        "TRANSACTION_CONFLICT",
        format!("{why}; nothing was written: begin again"),
    )
}

/// What a rule asks about other documents is not so any more.
fn rule_failed() -> Error {
    let message = "the rules do not let you write this";
    Error::new(ErrorKind::Forbidden, "FORBIDDEN", message)
}

/// The tables are not those that the transaction began with.
pub(crate) fn schema_changed() -> Error {
    conflict("the schema has changed since the transaction began")
}

/// The same error about the write with that number, or about none.
fn told(error: Error, write: Option<usize>) -> Error {
    match write {
        Some(write) => error.with_step(write),
        None => error.without_step(),
    }
}
