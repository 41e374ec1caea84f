//! Carrying a transition out, on whatever runs SQL.

use alyx_core::{Row, Statement};
use thiserror::Error;

use super::shape::{Tables, inspect};
use super::{Change, Transition, Undone};

/// Runs SQL inside one open transaction, foreign keys unchecked.
pub trait Database {
    /// What can go wrong.
    type Error: std::error::Error + 'static;

    /// Runs statements without parameters.
    ///
    /// # Errors
    /// The database's.
    fn run(&mut self, sql: &str) -> Result<(), Self::Error>;

    /// Runs one statement and returns its rows.
    ///
    /// # Errors
    /// The database's.
    fn query(&mut self, statement: &Statement) -> Result<Vec<Row>, Self::Error>;

    /// Is told how far the copy of a table is, after each batch of rows.
    fn progress(&mut self, progress: Progress<'_>);
}

/// How far the copy of a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The table.
    pub table: &'a str,
    /// Rows that are copied.
    pub done: u64,
    /// Rows that there are.
    pub rows: u64,
}

/// Bounds of what is carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// The most rows of a table that may be made anew; no bound where it is `None`.
    pub rebuilt_rows: Option<u64>,
}

/// Why a transition was not carried out. The transaction is to be undone.
#[derive(Debug, Error)]
pub enum NotSettled<E: std::error::Error + 'static> {
    /// A migration failed, in words of its own.
    #[error("{0}")]
    Migration(#[source] E),
    /// A statement failed.
    #[error("the database did not take a statement: {sql}")]
    Failed {
        /// Why.
        #[source]
        source: E,
        /// The statement.
        sql: String,
    },
    /// The migrations lead to other tables.
    #[error("the migrations leave the tables in another shape than the schema's")]
    Undone(Vec<Undone>),
    /// Documents do not fit.
    #[error("{failing} {problem}")]
    Unfit {
        /// How many.
        failing: u64,
        /// What they are, and what is wrong with them.
        problem: String,
    },
    /// A table that must be made anew is too large for that.
    #[error("the table `{table}` has to be made anew, and it has {rows} rows, more than {most}")]
    TooLarge {
        /// The table.
        table: String,
        /// Its rows.
        rows: u64,
        /// The bound.
        most: u64,
    },
    /// The new table has not as many rows as the old one.
    #[error("the table `{table}` has {rows} rows, and its new one {copied}")]
    RowsLost {
        /// The table.
        table: String,
        /// Rows before.
        rows: u64,
        /// Rows after.
        copied: u64,
    },
    /// What was made is still not what was wanted.
    #[error("the tables are still not those of the schema: {0}")]
    Unsettled(String),
}

impl Transition {
    /// Runs `migrations`, each once, and what else leads to the tables of the schema. To be called inside a
    /// transaction, and undone where it fails.
    ///
    /// # Errors
    /// All of [`NotSettled`].
    pub fn carry_out<D: Database>(
        &self,
        database: &mut D,
        limits: Limits,
        migrations: impl FnOnce(&mut D) -> Result<(), D::Error>,
    ) -> Result<(), NotSettled<D::Error>> {
        let look =
            |database: &mut D| inspect(database).map_err(|error| failed(error, "(reading the tables)"));
        let before = look(database)?;
        run(database, &self.clear())?;
        migrations(database).map_err(NotSettled::Migration)?;
        let now = if self.migrations {
            look(database)?
        } else {
            before.clone()
        };
        for change in self.changes(&before, &now)? {
            match change {
                Change::Run(sql) => run(database, &[sql])?,
                Change::Rebuild(rebuild) => rebuild.perform(database, limits)?,
            }
        }
        // What has just been made must be what was wanted, whatever the migrations have built around it.
        let settled = look(database)?;
        for change in self.changes(&before, &settled)? {
            match change {
                Change::Run(sql) => return Err(NotSettled::Unsettled(sql)),
                Change::Rebuild(rebuild) if rebuild.instead.is_none() => {
                    return Err(NotSettled::Unsettled(rebuild.table));
                }
                Change::Rebuild(_) => {}
            }
        }
        run(database, &self.finish(&settled))
    }

    /// The statements that a transition without migrations would run on the database, where no large table is made
    /// anew for the order of its columns alone.
    ///
    /// # Errors
    /// As for [`Self::carry_out`].
    pub fn preview<D: Database>(&self, database: &mut D) -> Result<Vec<String>, NotSettled<D::Error>> {
        let now = inspect(database).map_err(|error| failed(error, "(reading the tables)"))?;
        self.settle(&now, &now).map_err(NotSettled::Undone)?;
        Ok(self.statements_on(now))
    }

    fn changes<E: std::error::Error + 'static>(
        &self,
        before: &Tables,
        now: &Tables,
    ) -> Result<Vec<Change>, NotSettled<E>> {
        let changes = self.settle(before, now).map_err(NotSettled::Undone)?;
        Ok(changes.into_iter().flat_map(|(_, changes)| changes).collect())
    }
}

pub(super) fn run<D: Database>(database: &mut D, statements: &[String]) -> Result<(), NotSettled<D::Error>> {
    for sql in statements {
        database.run(sql).map_err(|error| failed(error, sql))?;
    }
    Ok(())
}

pub(super) fn failed<E: std::error::Error + 'static>(source: E, sql: &str) -> NotSettled<E> {
    let sql = sql.to_owned();
    NotSettled::Failed { source, sql }
}
