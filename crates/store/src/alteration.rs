//! Changes of the tables whose later steps depend on what the earlier ones left.

use alyx_core::{Result, Row, Statement};

/// The work of one alteration. Everybody who writes waits while it runs.
pub(crate) type Work = Box<dyn FnOnce(&mut Alteration<'_>) -> Result<()> + Send>;

/// A backend's open transaction.
pub(crate) trait Tables {
    /// Runs statements without parameters.
    fn run(&mut self, sql: &str) -> Result<()>;
    /// Runs one statement and returns its rows.
    fn query(&mut self, statement: &Statement) -> Result<Vec<Row>>;
}

/// The tables while they are changed. What it has run so far is undone unless the whole alteration succeeds.
pub struct Alteration<'a> {
    pub(crate) tables: &'a mut dyn Tables,
}

impl Alteration<'_> {
    /// Runs statements without parameters, none of which may begin or end a transaction.
    ///
    /// # Errors
    ///
    /// As for [`crate::Store::migrate`].
    pub fn run(&mut self, sql: &str) -> Result<()> {
        self.tables.run(sql)
    }

    /// Runs one statement and returns its rows: at most 10,000 and 64 MiB.
    ///
    /// # Errors
    ///
    /// As for [`crate::Store::migrate`], and `RESULT_TOO_LARGE`.
    pub fn query(&mut self, statement: &Statement) -> Result<Vec<Row>> {
        self.tables.query(statement)
    }
}
