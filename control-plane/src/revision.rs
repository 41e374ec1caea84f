//! The history of applied schemas, in the database that they were applied to.

use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result, Statement, Value};
use alyx_store::{Read, ReadCost, Store};

/// Revisions kept for looking back; only the last one is ever read by the product.
const KEPT: i64 = 100;
/// How long start-up waits for the database.
const DEADLINE: Duration = Duration::from_secs(10);

/// A schema that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision {
    /// Counts up from 1.
    pub(crate) id: i64,
    /// The text of its file.
    pub(crate) source: String,
}

/// Makes the table where it is missing, and reads the last revision.
pub(crate) async fn last(store: &Store) -> Result<Option<Revision>> {
    let table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_alyx_schema_revisions'";
    if query(store, table).await?.is_empty() {
        let create = "CREATE TABLE IF NOT EXISTS _alyx_schema_revisions (\
                      id INTEGER PRIMARY KEY, source TEXT NOT NULL, hash TEXT NOT NULL, applied_at TEXT NOT NULL)";
        store.migrate(vec![Statement::new(create, Vec::new())]).await?;
        return Ok(None);
    }
    let rows = query(
        store,
        "SELECT id, source FROM _alyx_schema_revisions ORDER BY id DESC LIMIT 1",
    )
    .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    match (row.first(), row.get(1)) {
        (Some(Value::Int(id)), Some(Value::Text(source))) => Ok(Some(Revision {
            id: *id,
            source: source.to_string(),
        })),
        _ => Err(Error::new(
            ErrorKind::Internal,
            "SCHEMA_HISTORY_BROKEN",
            "the table `_alyx_schema_revisions` does not hold what was written to it; restore the database from a \
             backup",
        )),
    }
}

/// The statements that record a revision, for the transaction that applies it. Two servers that record the same id
/// cannot both succeed.
pub(crate) fn record(revision: &Revision, applied_at: String) -> Vec<Statement> {
    let hash = blake3::hash(revision.source.as_bytes()).to_hex().to_string();
    vec![
        Statement::new(
            "INSERT INTO _alyx_schema_revisions (id, source, hash, applied_at) VALUES (?1, ?2, ?3, ?4)",
            vec![
                Value::Int(revision.id),
                Value::text(revision.source.clone()),
                Value::text(hash),
                Value::text(applied_at),
            ],
        ),
        Statement::new(
            "DELETE FROM _alyx_schema_revisions WHERE id <= ?1",
            vec![Value::Int(revision.id - KEPT)],
        ),
    ]
}

/// The rows of one reading statement.
pub(crate) async fn query(store: &Store, sql: &str) -> Result<Vec<alyx_core::Row>> {
    let reply = store
        .read(Read {
            statements: vec![Statement::new(sql, Vec::new())],
            cost: ReadCost::Scan,
            deadline: Instant::now() + DEADLINE,
        })
        .await?;
    Ok(reply
        .results
        .into_iter()
        .next()
        .map(|rows| rows.rows)
        .unwrap_or_default())
}
