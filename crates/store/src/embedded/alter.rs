//! Changes of the tables whose later steps depend on what the earlier ones left: a function that runs on the
//! writer, inside one transaction that is alone in its commit, and may look as well as write.

use alyx_core::{Result, Row, Seq, Statement};
use tokio::sync::oneshot;

use super::connection::{Budget, Connection};
use super::group::{Committed, Transactor};
use crate::alteration::{Alteration, Tables, Work};
use crate::failure::Failure;

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

impl Tables for Connection {
    fn run(&mut self, sql: &str) -> Result<()> {
        let outcome = self.script(sql);
        still_open(self, outcome.map(|_| ()))
    }

    fn query(&mut self, statement: &Statement) -> Result<Vec<Row>> {
        let outcome = Self::run(self, statement, &mut Budget::of_request());
        still_open(self, outcome.map(|rows| rows.rows))
    }
}

/// A trigger can still raise ROLLBACK.
fn still_open<T>(connection: &Connection, outcome: Result<T, Failure>) -> Result<T> {
    let value = outcome.map_err(Failure::into_error)?;
    if connection.is_autocommit() {
        return Err(Failure::TransactionLost.into_error());
    }
    Ok(value)
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
            tables: &mut self.connection,
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
