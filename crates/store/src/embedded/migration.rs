//! Changes of the tables themselves: one transaction, alone in its commit, with foreign keys checked at its end
//! instead of at each step, so that a table can be rebuilt
//! (<https://www.sqlite.org/lang_altertable.html#otheralter>).

use alyx_core::{Statement, Value};

use super::connection::Budget;
use super::group::{Committed, Transactor};
use crate::failure::Failure;

/// Tables named in the error about dangling references.
const NAMED_TABLES: usize = 5;

impl Transactor {
    /// Runs all steps or none. Must not be called inside a transaction.
    pub(super) fn migrate(&mut self, steps: &[Statement]) -> Result<Committed, Failure> {
        // Has no effect inside a transaction.
        self.connection.script("PRAGMA foreign_keys = OFF")?;
        let outcome = self.migrate_unchecked(steps);
        self.connection.rollback();
        self.connection.forget_statements();
        self.connection.script("PRAGMA foreign_keys = ON")?;
        outcome
    }

    /// After a panic, which may have been in the middle of a migration.
    pub(super) fn check_foreign_keys_again(&mut self) {
        if let Err(failure) = self.connection.script("PRAGMA foreign_keys = ON") {
            tracing::error!(error = %failure, "foreign keys are not checked until the next start");
        }
    }

    fn migrate_unchecked(&mut self, steps: &[Statement]) -> Result<Committed, Failure> {
        let opened = self.begin()?;
        self.connection.forbid_transactions(true)?;
        let outcome = self.run_steps(steps);
        self.connection.forbid_transactions(false)?;
        outcome?;
        self.check_foreign_keys()?;
        self.commit(opened)
    }

    fn run_steps(&mut self, steps: &[Statement]) -> Result<(), Failure> {
        for step in steps {
            if step.params.is_empty() {
                self.connection.script(&step.sql)?;
            } else {
                self.connection.run(step, &mut Budget::of_request())?;
            }
            // A trigger can still raise ROLLBACK.
            if self.connection.is_autocommit() {
                return Err(Failure::TransactionLost);
            }
        }
        Ok(())
    }

    pub(super) fn check_foreign_keys(&mut self) -> Result<(), Failure> {
        let mut tables: Vec<String> = Vec::new();
        self.connection
            .own_each("PRAGMA foreign_key_check", Vec::new(), |row| {
                let table = super::connection::owned_value(row, 0)?;
                let table = Value::as_text(&table).unwrap_or_default();
                if tables.len() < NAMED_TABLES && !tables.iter().any(|known| known == table) {
                    tables.push(table.to_owned());
                }
                Ok(())
            })?;
        if tables.is_empty() {
            return Ok(());
        }
        Err(Failure::ForeignKeyCheck(tables.join(", ")))
    }
}
