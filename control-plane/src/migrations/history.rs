//! Which migrations a database has behind it, recorded in that database.

use alyx_core::{Error, ErrorKind, Result, Statement, Value};
use alyx_store::Store;

use super::Migration;
use crate::revision;

/// A migration that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) version: u32,
    pub(crate) name: String,
    pub(crate) checksum: String,
    /// When, in RFC 3339.
    pub(crate) at: String,
}

/// Every migration that was applied, by number.
pub(crate) async fn applied(store: &Store) -> Result<Vec<Applied>> {
    let table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_alyx_migrations'";
    if revision::query(store, table).await?.is_empty() {
        return Ok(Vec::new());
    }
    let all = "SELECT version, name, checksum, applied_at FROM _alyx_migrations ORDER BY version";
    let rows = revision::query(store, all).await?;
    rows.iter().map(|row| read(row).ok_or_else(broken)).collect()
}

/// The statements that record migrations as applied, for the transaction that applies them. Two servers that
/// record the same one cannot both succeed.
pub(crate) fn record(migrations: &[Migration], applied_at: &str) -> Vec<Statement> {
    let mut statements = vec![Statement::new(
        "CREATE TABLE IF NOT EXISTS _alyx_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, \
         checksum TEXT NOT NULL, applied_at TEXT NOT NULL)",
        Vec::new(),
    )];
    statements.extend(migrations.iter().map(|migration| {
        Statement::new(
            "INSERT INTO _alyx_migrations (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
            vec![
                Value::Int(migration.version.into()),
                Value::text(migration.name.clone()),
                Value::text(migration.checksum.clone()),
                Value::text(applied_at.to_owned()),
            ],
        )
    }));
    statements
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
    })
}

fn broken() -> Error {
    Error::new(
        ErrorKind::Internal,
        "SCHEMA_HISTORY_BROKEN",
        "the table `_alyx_migrations` does not hold what was written to it; restore the database from a backup",
    )
}
