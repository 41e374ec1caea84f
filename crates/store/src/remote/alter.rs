//! Changes of the tables on a server: an interactive transaction on the writer's stream, alone in its commit, with
//! foreign keys checked at its end.
//!
//! The server ends a transaction that holds the lock for more than 5 s while somebody else waits for it; in a cluster
//! a long migration is therefore run while the gateways do not write.

use std::time::{Duration, Instant};

use alyx_core::{Result, Row, Statement};
use tokio::runtime::Runtime;

use super::change_log;
use super::hrana::{Batch, BatchReply, When};
use super::plan::Budget;
use super::sql;
use super::stream::{Stream, from_server};
use super::transactor::{Committed, NotCommitted, Transactor};
use crate::alteration::{Alteration, Tables, Work};
use crate::failure::Failure;
use crate::statement_text;

/// Statements of a script that are sent at once.
const STATEMENTS: usize = 200;

/// The open transaction, for work that is not asynchronous.
struct Open<'a> {
    runtime: &'a Runtime,
    stream: &'a mut Stream,
    timeout: Duration,
    /// The work may swallow the error that told it.
    lost: bool,
}

impl Open<'_> {
    fn call(&mut self, batch: &mut Batch, steps: &[usize]) -> Result<BatchReply, Failure> {
        let open = batch.run(When::Open, "SELECT 1", &[])?;
        let deadline = Instant::now() + self.timeout;
        // A new stream would be outside of the transaction.
        let reply = self
            .runtime
            .block_on(self.stream.run(batch, deadline, false))
            .map_err(|error| {
                self.lost = true;
                error.into_failure()
            })?;
        let error = steps.iter().find_map(|step| reply.error(*step)).map(from_server);
        if let Some(failure) = error {
            self.lost |= !reply.worked(open);
            return Err(failure);
        }
        if !reply.worked(open) {
            self.lost = true;
            return Err(Failure::TransactionLost);
        }
        Ok(reply)
    }

    fn run_script(&mut self, text: &str) -> Result<(), Failure> {
        for statements in sql::script(text)?.chunks(STATEMENTS) {
            let mut batch = Batch::new();
            let mut steps: Vec<usize> = Vec::with_capacity(statements.len());
            for statement in statements {
                let when = steps.last().map_or(When::Open, |last| When::Worked(*last));
                steps.push(batch.run(when, statement, &[])?);
            }
            self.call(&mut batch, &steps)?;
        }
        Ok(())
    }

    fn run_query(&mut self, statement: &Statement) -> Result<Vec<Row>, Failure> {
        statement_text::check(&statement.sql).map_err(Failure::Refused)?;
        sql::script(&statement.sql)?;
        let mut batch = Batch::new();
        let step = batch.rows(When::Open, &statement.sql, &statement.params)?;
        let mut reply = self.call(&mut batch, &[step])?;
        let rows = reply.take(step).unwrap_or_default();
        Budget::of_request().rows(rows).map(|rows| rows.rows)
    }
}

impl Tables for Open<'_> {
    fn run(&mut self, sql: &str) -> Result<()> {
        self.run_script(sql).map_err(Failure::into_error)
    }

    fn query(&mut self, statement: &Statement) -> Result<Vec<Row>> {
        self.run_query(statement).map_err(Failure::into_error)
    }
}

impl Transactor {
    /// Does the whole work or nothing.
    pub(super) fn alter(&mut self, runtime: &Runtime, timeout: Duration, work: Work) -> Result<Committed> {
        runtime
            .block_on(self.begin_alteration())
            .map_err(Failure::into_error)?;
        let mut open = Open {
            runtime,
            stream: &mut self.stream,
            timeout,
            lost: false,
        };
        let outcome = work(&mut Alteration { tables: &mut open });
        let lost = open.lost;
        let outcome = match outcome {
            Ok(()) if lost => Err(Failure::TransactionLost.into_error()),
            Ok(()) => runtime
                .block_on(self.commit_alteration())
                .map_err(Failure::into_error),
            Err(error) => Err(error),
        };
        runtime.block_on(self.end_alteration());
        outcome
    }

    async fn begin_alteration(&mut self) -> Result<(), Failure> {
        self.ready().await?;
        if self.leased && self.held.is_none() {
            // What others wrote meanwhile is not ours to publish.
            self.find_head().await?;
        }
        let mut batch = Batch::new();
        // Has no effect inside a transaction.
        let keys = batch.run(When::Always, "PRAGMA foreign_keys = OFF", &[])?;
        let begin = batch.run(When::Always, "BEGIN IMMEDIATE", &[])?;
        let close = batch.run(When::Worked(begin), change_log::CLOSE_COMMIT, &[])?;
        let deadline = self.deadline();
        let reply = change_log::run(&mut self.stream, &batch, deadline).await?;
        change_log::expect(&reply, &[keys, begin, close])
    }

    async fn commit_alteration(&mut self) -> Result<Committed, Failure> {
        const DANGLING: &str = "SELECT DISTINCT \"table\" FROM pragma_foreign_key_check LIMIT 5";
        let deadline = self.deadline();
        let mut batch = Batch::new();
        let step = batch.rows(When::Open, DANGLING, &[])?;
        let mut reply = match self.stream.run(&batch, deadline, false).await {
            Ok(reply) => reply,
            Err(error) => return Err(error.into_failure()),
        };
        change_log::expect(&reply, &[step])?;
        let tables = reply.take(step).unwrap_or_default().rows;
        let tables: Vec<&str> = tables
            .iter()
            .filter_map(|row| row.first())
            .filter_map(|cell| cell.0.as_text())
            .collect();
        if !tables.is_empty() {
            return Err(Failure::ForeignKeyCheck(tables.join(", ")));
        }
        match self.commit(self.last_part()?).await {
            Ok((_, committed)) | Err(NotCommitted::ReplyLost(committed)) => Ok(committed),
            Err(NotCommitted::Failed(failure) | NotCommitted::TryAgain(failure)) => Err(failure),
            Err(NotCommitted::Ended(_)) => Err(Failure::TransactionLost),
        }
    }

    /// Leaves the stream with nothing open, and has the next one check foreign keys again.
    async fn end_alteration(&mut self) {
        let end = async {
            let mut batch = Batch::new();
            batch.run(When::Open, "ROLLBACK", &[])?;
            batch.run(When::Always, "PRAGMA foreign_keys = ON", &[])?;
            let deadline = self.deadline();
            change_log::run(&mut self.stream, &batch, deadline).await
        };
        if let Err(failure) = end.await {
            tracing::warn!(error = %failure, "the stream of a migration could not be brought back into order");
        }
        self.stream.forget();
        self.partial_triggers = true;
        self.settled = false;
    }
}
