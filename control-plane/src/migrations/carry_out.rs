//! Carrying out migrations and what else leads to the schema, in one transaction of the store.

use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result, Row, Statement, Value};
use alyx_schema::{Column, Schema, Table, Tables, Transition, Undone};
use alyx_store::{Alteration, Store};

use super::{Migration, Operation};
use crate::failure::chain;

/// Runs the migrations, brings the tables to `to` and executes `records`; all of it or nothing.
///
/// # Errors
/// Which operation failed and why, or what the migrations have left undone.
pub(crate) async fn carry_out(
    store: &Store,
    (from, to): (Arc<Schema>, Arc<Schema>),
    migrations: Vec<Migration>,
    records: Vec<Statement>,
) -> Result<()> {
    let texts = migrations
        .iter()
        .flat_map(|migration| &migration.operations)
        .map(|operation| operation.sql.as_str());
    let transition = Transition::new(from, to, texts);
    let work = move |database: &mut Alteration<'_>| {
        let before = tables(database)?;
        run(database, &transition.clear())?;
        for migration in &migrations {
            for (position, operation) in migration.operations.iter().enumerate() {
                database
                    .run(&operation.sql)
                    .map_err(|error| failed(migration, position, operation, &error))?;
            }
        }
        let now = tables(database)?;
        let rest = transition
            .settle(&before, &now)
            .map_err(|undone| incomplete(&undone))?;
        run(database, &rest)?;
        // What has just been made must be what was wanted, whatever the migrations have built around it.
        let settled = tables(database)?;
        let rest = transition
            .settle(&before, &settled)
            .map_err(|undone| incomplete(&undone))?;
        if let Some(rest) = rest.first() {
            return Err(invalid(format!(
                "the tables are still not those of the schema; missing: {rest}"
            )));
        }
        run(database, &transition.restore())?;
        for record in &records {
            if record.params.is_empty() {
                database.run(&record.sql)?;
            } else {
                database.query(record)?;
            }
        }
        Ok(())
    };
    store.alter(work).await.map(|_| ())
}

fn run(database: &mut Alteration<'_>, statements: &[String]) -> Result<()> {
    for sql in statements {
        database.run(sql).map_err(|error| {
            invalid(format!(
                "after the migrations the database could not be brought to the schema: {}\n    the statement: {sql}",
                chain(&error)
            ))
        })?;
    }
    Ok(())
}

fn failed(migration: &Migration, position: usize, operation: &Operation, error: &Error) -> Error {
    let (line, column) = operation.place;
    invalid(format!(
        "{}:{line}:{column}: operation {} failed: {}\n    the statement: {}\n    (indexes and triggers of the schema \
         are taken away before and made again afterwards)",
        migration.path,
        position + 1,
        chain(error),
        operation.sql.trim()
    ))
}

fn incomplete(undone: &[Undone]) -> Error {
    let mut text = "they leave the tables in another shape than the schema's".to_owned();
    for undone in undone {
        text.push_str(&format!(
            "\n  {}: {}\n    instead: {}",
            undone.path, undone.problem, undone.remedy
        ));
    }
    invalid(text)
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, "SCHEMA_INVALID", message)
}

/// The tables of the database but for those of the server and of SQLite.
fn tables(database: &mut Alteration<'_>) -> Result<Tables> {
    const TABLES: &str = "SELECT l.name, l.strict, upper(s.sql) LIKE '%PRIMARY KEY AUTOINCREMENT%' \
         FROM pragma_table_list l JOIN sqlite_schema s ON s.type = 'table' AND s.name = l.name \
         WHERE l.schema = ?1 AND l.type = 'table' AND l.name NOT LIKE 'sqlite|_%' ESCAPE '|' \
         AND l.name NOT LIKE '|_alyx%' ESCAPE '|'";
    let mut tables = Tables::new();
    for row in database.query(&Statement::new(TABLES, vec!["main".into()]))? {
        let name = text(&row, 0);
        let table = table(database, &name, &row)?;
        tables.insert(name, table);
    }
    Ok(tables)
}

fn table(database: &mut Alteration<'_>, name: &str, row: &Row) -> Result<Table> {
    const COLUMNS: &str = "SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?1)";
    const REFERENCES: &str = "SELECT \"from\", \"table\", \"to\", on_delete FROM pragma_foreign_key_list(?1)";
    const EXTRAS: &str = "SELECT sql FROM sqlite_schema WHERE tbl_name = ?1 AND type IN ('index', 'trigger') \
         AND sql IS NOT NULL ORDER BY rowid";
    let mut about = |sql: &str| database.query(&Statement::new(sql, vec![name.into()]));
    Ok(Table {
        columns: about(COLUMNS)?
            .iter()
            .map(|row| Column {
                name: text(row, 0),
                kind: text(row, 1),
                required: truth(row, 2),
                primary: truth(row, 3),
            })
            .collect(),
        references: about(REFERENCES)?
            .iter()
            .map(|row| (text(row, 0), text(row, 1), text(row, 2), text(row, 3)))
            .collect(),
        strict: truth(row, 1),
        counts: truth(row, 2),
        extras: about(EXTRAS)?.iter().map(|row| text(row, 0)).collect(),
    })
}

fn text(row: &Row, at: usize) -> String {
    row.get(at)
        .and_then(Value::as_text)
        .unwrap_or_default()
        .to_owned()
}

fn truth(row: &Row, at: usize) -> bool {
    row.get(at)
        .and_then(Value::as_int)
        .is_some_and(|value| value != 0)
}
