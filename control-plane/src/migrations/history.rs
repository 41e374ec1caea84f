//! Which migrations a database has behind it, recorded in that database.

use alyx_core::{Error, ErrorKind, Result, Statement, Value};
use alyx_store::Store;

use super::Migration;
use crate::revision;

/// In place of a revision: the migration did not run here.
pub(super) const NEVER_RAN: i64 = 0;

/// A migration that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) version: u32,
    pub(crate) name: String,
    pub(crate) checksum: String,
    /// When, in RFC 3339.
    pub(crate) at: String,
    /// The schema revision that it led to: [`NEVER_RAN`] where the database was made from a schema that has it behind it;
    /// `None` where an older version recorded it, and did not say.
    pub(crate) revision: Option<i64>,
}

/// What `_alyx_migrations` holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// By number.
    pub(crate) applied: Vec<Applied>,
    table: Option<Columns>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Columns {
    revision: bool,
}

/// Every migration that was applied.
pub(crate) async fn applied(store: &Store) -> Result<History> {
    let columns = "SELECT name FROM pragma_table_info('_alyx_migrations')";
    let columns = revision::query(store, columns).await?;
    if columns.is_empty() {
        return Ok(History::default());
    }
    let revision = columns
        .iter()
        .any(|row| row.first().and_then(Value::as_text) == Some("revision"));
    let all = format!(
        "SELECT version, name, checksum, applied_at, {} FROM _alyx_migrations ORDER BY version",
        if revision { "revision" } else { "NULL" }
    );
    let rows = revision::query(store, &all).await?;
    let applied = rows.iter().map(|row| read(row).ok_or_else(broken));
    Ok(History {
        applied: applied.collect::<Result<_>>()?,
        table: Some(Columns { revision }),
    })
}

/// The statements that record migrations as applied, for the transaction that applies them; `revision` is the one that
/// they lead to, where they run. Two servers that record the same one cannot both succeed.
pub(crate) fn record(
    history: &History,
    migrations: &[Migration],
    revision: Option<i64>,
    applied_at: &str,
) -> Vec<Statement> {
    let table = match history.table {
        None => Some(
            "CREATE TABLE _alyx_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, \
             applied_at TEXT NOT NULL, revision INTEGER)",
        ),
        Some(Columns { revision: false }) => Some("ALTER TABLE _alyx_migrations ADD COLUMN revision INTEGER"),
        Some(Columns { revision: true }) => None,
    };
    let table = table.into_iter().map(|sql| Statement::new(sql, Vec::new()));
    let rows = migrations.iter().map(|migration| {
        Statement::new(
            "INSERT INTO _alyx_migrations (version, name, checksum, applied_at, revision) VALUES (?1, ?2, ?3, ?4, ?5)",
            vec![
                Value::Int(migration.version.into()),
                Value::text(migration.name.clone()),
                Value::text(migration.checksum.clone()),
                Value::text(applied_at.to_owned()),
                Value::Int(revision.unwrap_or(NEVER_RAN)),
            ],
        )
    });
    table.chain(rows).collect()
}

/// The statement that takes a migration out of the history.
pub(super) fn forget(version: u32) -> Statement {
    Statement::new(
        "DELETE FROM _alyx_migrations WHERE version = ?1",
        vec![Value::Int(version.into())],
    )
}

fn read(row: &alyx_core::Row) -> Option<Applied> {
    let text = |at: usize| row.get(at).and_then(Value::as_text).map(str::to_owned);
    Some(Applied {
        version: row
            .first()?
            .as_int()
            .and_then(|version| version.try_into().ok())?,
        name: text(1)?,
        checksum: text(2)?,
        at: text(3)?,
        revision: row.get(4).and_then(Value::as_int),
    })
}

fn broken() -> Error {
    Error::new(
        ErrorKind::Internal,
        "SCHEMA_HISTORY_BROKEN",
        "the table `_alyx_migrations` does not hold what was written to it; restore the database from a backup",
    )
}
