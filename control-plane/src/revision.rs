//! The history of applied schemas, in the database that they were applied to.

use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result, Statement, Value};
use alyx_store::{Read, ReadCost, Store};

use crate::schema::Candidate;

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

impl Revision {
    /// What a database has that is new.
    pub(crate) fn none() -> Self {
        let source = String::new();
        Self { id: 0, source }
    }
}

/// A kept revision as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) id: i64,
    /// Empty in a list.
    pub(crate) source: String,
    /// BLAKE3 of the source in hexadecimal.
    pub(crate) hash: String,
    /// RFC 3339.
    pub(crate) applied_at: String,
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
        _ => Err(broken()),
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

/// The kept revisions without their sources, newest first.
pub(crate) async fn list(store: &Store) -> Result<Vec<Kept>> {
    let sql = "SELECT id, '', hash, applied_at FROM _alyx_schema_revisions ORDER BY id DESC";
    query(store, sql).await?.iter().map(read).collect()
}

/// One revision, `None` where it is not kept.
pub(crate) async fn get(store: &Store, id: i64) -> Result<Option<Kept>> {
    let sql = "SELECT id, source, hash, applied_at FROM _alyx_schema_revisions WHERE id = ?1";
    let rows = query_with(store, Statement::new(sql, vec![Value::Int(id)])).await?;
    rows.first().map(read).transpose()
}

fn read(row: &alyx_core::Row) -> Result<Kept> {
    let text = |at: usize| row.get(at).and_then(Value::as_text).map(str::to_owned);
    match (row.first().and_then(Value::as_int), text(1), text(2), text(3)) {
        (Some(id), Some(source), Some(hash), Some(applied_at)) => Ok(Kept {
            id,
            source,
            hash,
            applied_at,
        }),
        _ => Err(broken()),
    }
}

/// Whether the files of the candidate were heeded already, and something else may have been applied since.
pub(crate) async fn is_heeded(store: &Store, candidate: &Candidate) -> Result<bool> {
    let known = heeded(store).await?;
    Ok(known.is_some() && known == candidate.file)
}

/// The statements that remember the state of the schema's files as heeded; none where that is known.
pub(crate) async fn heed(store: &Store, file: &str) -> Result<Vec<Statement>> {
    if heeded(store).await?.as_deref() == Some(file) {
        return Ok(Vec::new());
    }
    Ok(vec![
        Statement::new(
            "CREATE TABLE IF NOT EXISTS _alyx_schema_file (id INTEGER PRIMARY KEY CHECK (id = 1), hash TEXT NOT NULL)",
            Vec::new(),
        ),
        Statement::new(
            "INSERT INTO _alyx_schema_file (id, hash) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET hash = ?1",
            vec![Value::text(file)],
        ),
    ])
}

async fn heeded(store: &Store) -> Result<Option<String>> {
    let table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_alyx_schema_file'";
    if query(store, table).await?.is_empty() {
        return Ok(None);
    }
    let rows = query(store, "SELECT hash FROM _alyx_schema_file").await?;
    let hash = rows.first().and_then(|row| row.first()).and_then(Value::as_text);
    Ok(hash.map(str::to_owned))
}

fn broken() -> Error {
    Error::new(
        ErrorKind::Internal,
        "SCHEMA_HISTORY_BROKEN",
        "the table `_alyx_schema_revisions` does not hold what was written to it; restore the database from a backup",
    )
}

/// The rows of one reading statement.
pub(crate) async fn query(store: &Store, sql: &str) -> Result<Vec<alyx_core::Row>> {
    query_with(store, Statement::new(sql, Vec::new())).await
}

async fn query_with(store: &Store, statement: Statement) -> Result<Vec<alyx_core::Row>> {
    let reply = store
        .read(Read {
            statements: vec![statement],
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
