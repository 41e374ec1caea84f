//! Changes of the tables whose later steps depend on what the earlier ones left: a function that runs on the
//! writer, inside one transaction that is alone in its commit, and may look as well as write.

use alyx_core::{Result, Row, Seq, Statement};
use tokio::sync::oneshot;

use super::connection::{Budget, Connection};
use super::group::{Committed, Transactor};
use crate::failure::Failure;

/// The work of one alteration. Everybody who writes waits while it runs.
pub(super) type Work = Box<dyn FnOnce(&mut Alteration<'_>) -> Result<()> + Send>;

/// An alteration and whoever waits for it.
pub(super) struct Request {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Result<Seq>>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alteration")
    }
}

/// The tables while they are changed. What it has run so far is undone unless the whole alteration succeeds.
pub struct Alteration<'a> {
    connection: &'a mut Connection,
}

impl Alteration<'_> {
    /// Runs statements without parameters, none of which may begin or end a transaction.
    ///
    /// # Errors
    ///
    /// As for [`crate::Store::migrate`].
    pub fn run(&mut self, sql: &str) -> Result<()> {
        let outcome = self.connection.script(sql);
        self.still_open(outcome.map(|_| ()))
    }

    /// Runs one statement and returns its rows: at most 10,000 and 64 MiB.
    ///
    /// # Errors
    ///
    /// As for [`crate::Store::migrate`], and `RESULT_TOO_LARGE`.
    pub fn query(&mut self, statement: &Statement) -> Result<Vec<Row>> {
        let outcome = self.connection.run(statement, &mut Budget::of_request());
        self.still_open(outcome.map(|rows| rows.rows))
    }

    /// A trigger can still raise ROLLBACK.
    fn still_open<T>(&self, outcome: Result<T, Failure>) -> Result<T> {
        let value = outcome.map_err(Failure::into_error)?;
        if self.connection.is_autocommit() {
            return Err(Failure::TransactionLost.into_error());
        }
        Ok(value)
    }
}

impl Transactor {
    /// Does the whole work or nothing. Must not be called inside a transaction.
    pub(super) fn alter(&mut self, work: Work) -> Result<Committed> {
        let foreign_keys = |connection: &mut Connection, sql: &str| {
            connection.script(sql).map(|_| ()).map_err(Failure::into_error)
        };
        // Has no effect inside a transaction.
        foreign_keys(&mut self.connection, "PRAGMA foreign_keys = OFF")?;
        let outcome = self.alter_unchecked(work);
        self.connection.rollback();
        self.connection.forget_statements();
        foreign_keys(&mut self.connection, "PRAGMA foreign_keys = ON")?;
        outcome
    }

    fn alter_unchecked(&mut self, work: Work) -> Result<Committed> {
        let opened = self.begin().map_err(Failure::into_error)?;
        let forbid =
            |connection: &mut Connection, on| connection.forbid_transactions(on).map_err(Failure::into_error);
        forbid(&mut self.connection, true)?;
        let outcome = work(&mut Alteration {
            connection: &mut self.connection,
        });
        forbid(&mut self.connection, false)?;
        outcome?;
        // The work may have swallowed the error that told it.
        if self.connection.is_autocommit() {
            return Err(Failure::TransactionLost.into_error());
        }
        self.check_foreign_keys().map_err(Failure::into_error)?;
        self.commit(opened).map_err(Failure::into_error)
    }
}
