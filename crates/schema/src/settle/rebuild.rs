//! A table made anew: what SQLite needs for everything but a new column
//! (<https://www.sqlite.org/lang_altertable.html#otheralter>).
//!
//! Foreign keys must not be checked meanwhile. Rows keep SQLite's number, so that a full-text index stays right.

use super::{Database, Limits, NotSettled, Progress};
use crate::ddl::{self, quote, text_literal};
use crate::model::{Collection, FieldType};
use alyx_core::{Statement, Value};

/// Name of the new table until the old one is gone.
const REBUILT: &str = "_alyx_rebuilt";
/// Rows that are copied by one statement.
const BATCH: i64 = 20_000;
/// The most rows of a table that is made anew for nothing but the order of its columns, which nothing depends on.
const ROWS_FOR_ORDER: u64 = 100_000;

/// A table that is to be made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rebuild {
    /// The table's name.
    pub(super) table: String,
    /// Columns in quotes, each with what the old row has for it.
    pub(super) columns: Vec<(String, String)>,
    create: String,
    finish: Vec<String>,
    /// What must hold of the old rows: a query that counts those for which it does not, and what is wrong with them.
    pub(super) guards: Vec<(String, String)>,
    /// Where nothing but the order of columns is different: what is enough in a large table.
    pub(super) instead: Option<Vec<String>>,
}

impl Rebuild {
    pub(super) fn new(collection: &Collection, columns: Vec<(String, String)>) -> Self {
        let (old, new) = (quote(&collection.name), quote(REBUILT));
        let mut finish = Vec::new();
        if ddl::counts(collection) {
            let name = text_literal(&collection.name);
            finish.push(format!(
                "UPDATE sqlite_sequence SET seq = max(seq, coalesce((SELECT seq FROM sqlite_sequence WHERE name = \
                 {name}), 0)) WHERE name = '{REBUILT}'"
            ));
            finish.push(format!(
                "INSERT INTO sqlite_sequence (name, seq) SELECT '{REBUILT}', seq FROM sqlite_sequence \
                 WHERE name = {name} AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = '{REBUILT}')"
            ));
        }
        finish.push(format!("DROP TABLE {old}"));
        finish.push(format!("ALTER TABLE {new} RENAME TO {old}"));
        let mut columns = columns;
        if collection.primary_field().kind != FieldType::Int {
            columns.push(("_rowid_".to_owned(), "_rowid_".to_owned()));
        }
        Self {
            table: collection.name.clone(),
            columns,
            create: ddl::table(collection, REBUILT),
            finish,
            guards: Vec::new(),
            instead: None,
        }
    }

    /// What else is to be run once the new table is in its place.
    pub(super) fn also(&mut self, statements: Vec<String>) {
        self.finish.extend(statements);
    }

    /// All of its statements, where the rows are copied at once.
    pub(super) fn statements(&self) -> Vec<String> {
        let mut statements = vec![self.create.clone(), self.copy("")];
        statements.extend(self.finish.iter().cloned());
        statements
    }

    fn copy(&self, which: &str) -> String {
        let list = |of: fn(&(String, String)) -> &str| {
            let parts: Vec<&str> = self.columns.iter().map(of).collect();
            parts.join(", ")
        };
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {}{which}",
            quote(REBUILT),
            list(|(name, _)| name),
            list(|(_, value)| value),
            quote(&self.table)
        )
    }

    /// Carries it out.
    pub(super) fn perform<D: Database>(
        &self,
        database: &mut D,
        limits: Limits,
    ) -> Result<(), NotSettled<D::Error>> {
        let rows = count(database, &self.table)?;
        if let Some(instead) = self.instead.as_ref().filter(|_| rows > ROWS_FOR_ORDER) {
            return super::run(database, instead);
        }
        if let Some(most) = limits.rebuilt_rows.filter(|most| rows > *most) {
            let table = self.table.clone();
            return Err(NotSettled::TooLarge { table, rows, most });
        }
        for (query, problem) in &self.guards {
            let failing = number(database, query)?;
            if failing > 0 {
                let problem = problem.clone();
                return Err(NotSettled::Unfit { failing, problem });
            }
        }
        super::run(database, std::slice::from_ref(&self.create))?;
        self.copy_rows(database, rows)?;
        let copied = count(database, REBUILT)?;
        if copied != rows {
            let table = self.table.clone();
            return Err(NotSettled::RowsLost { table, rows, copied });
        }
        super::run(database, &self.finish)
    }

    fn copy_rows<D: Database>(&self, database: &mut D, rows: u64) -> Result<(), NotSettled<D::Error>> {
        let table = quote(&self.table);
        let next = format!(
            "SELECT max(n), count(*) FROM (SELECT _rowid_ AS n FROM {table} WHERE _rowid_ >= ?1 ORDER BY _rowid_ \
             LIMIT {BATCH})"
        );
        let copy = self.copy(" WHERE _rowid_ BETWEEN ?1 AND ?2");
        let (mut from, mut done) = (i64::MIN, 0);
        loop {
            let batch = Statement::new(next.as_str(), vec![Value::Int(from)]);
            let batch = database
                .query(&batch)
                .map_err(|error| super::failed(error, &next))?;
            let value = |at: usize| batch.first().and_then(|row| row.get(at)).and_then(Value::as_int);
            let Some(last) = value(0) else { return Ok(()) };
            let range = Statement::new(copy.as_str(), vec![Value::Int(from), Value::Int(last)]);
            database
                .query(&range)
                .map_err(|error| super::failed(error, &copy))?;
            done += value(1).unwrap_or_default().unsigned_abs();
            database.progress(Progress {
                table: &self.table,
                done,
                rows,
            });
            let Some(next) = last.checked_add(1) else {
                return Ok(());
            };
            from = next;
        }
    }
}

fn count<D: Database>(database: &mut D, table: &str) -> Result<u64, NotSettled<D::Error>> {
    number(database, &format!("SELECT count(*) FROM {}", quote(table)))
}

fn number<D: Database>(database: &mut D, query: &str) -> Result<u64, NotSettled<D::Error>> {
    let statement = Statement::new(query, Vec::new());
    let rows = database
        .query(&statement)
        .map_err(|error| super::failed(error, query))?;
    let value = rows.first().and_then(|row| row.first()).and_then(Value::as_int);
    Ok(value.unwrap_or_default().unsigned_abs())
}
