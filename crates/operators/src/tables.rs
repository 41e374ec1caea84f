//! The tables of operators and tokens.

use std::time::Instant;

use alyx_core::{Result, Row, Statement, Value};
use alyx_store::{Read, ReadCost, Store};

/// Tables, indexes and triggers, in this order. The last one is looked for to know whether they are there.
const SCHEMA: [&str; 7] = [
    "CREATE TABLE IF NOT EXISTS _alyx_operators (id TEXT PRIMARY KEY NOT NULL, email TEXT UNIQUE NOT NULL, \
     password_hash TEXT NOT NULL, created_at TEXT NOT NULL)",
    // A token without a name is an operator's sign-in.
    "CREATE TABLE IF NOT EXISTS _alyx_api_tokens (id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE, \
     digest BLOB UNIQUE NOT NULL, scopes TEXT NOT NULL, \
     operator_id TEXT REFERENCES _alyx_operators (id) ON DELETE CASCADE, created_at TEXT NOT NULL, \
     expires_at INTEGER, used_at INTEGER)",
    "CREATE INDEX IF NOT EXISTS _alyx_api_tokens_by_operator ON _alyx_api_tokens (operator_id, created_at)",
    "CREATE TABLE IF NOT EXISTS _alyx_api_token_changes (id INTEGER PRIMARY KEY CHECK (id = 1), \
     count INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO _alyx_api_token_changes (id, count) VALUES (1, 0)",
    "CREATE TRIGGER IF NOT EXISTS _alyx_api_tokens_changed \
     AFTER UPDATE OF id, digest, scopes, operator_id, expires_at ON _alyx_api_tokens BEGIN \
     UPDATE _alyx_api_token_changes SET count = count + 1; END",
    "CREATE TRIGGER IF NOT EXISTS _alyx_api_tokens_gone AFTER DELETE ON _alyx_api_tokens BEGIN \
     UPDATE _alyx_api_token_changes SET count = count + 1; END",
];
const THERE: &str = "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = '_alyx_api_tokens_gone'";

/// Makes what is missing.
pub(crate) async fn create(store: &Store, deadline: Instant) -> Result<()> {
    let read = Read {
        statements: vec![Statement::new(THERE, Vec::new())],
        cost: ReadCost::Scan,
        deadline,
    };
    let reply = store.read(read).await?;
    if reply.results.first().is_some_and(|rows| !rows.rows.is_empty()) {
        return Ok(());
    }
    let steps = SCHEMA.into_iter().map(|sql| Statement::new(sql, Vec::new()));
    store.migrate(steps.collect()).await.map(|_| ())
}

/// Text of a column.
pub(crate) fn text(row: &Row, at: usize) -> Option<String> {
    row.get(at).and_then(Value::as_text).map(str::to_owned)
}

/// Seconds of Unix time in a column.
pub(crate) fn time(row: &Row, at: usize) -> Option<u64> {
    let time = row.get(at).and_then(Value::as_int)?;
    u64::try_from(time).ok()
}

/// Seconds of Unix time for a column.
pub(crate) fn seconds(time: u64) -> Value {
    Value::Int(i64::try_from(time).unwrap_or(i64::MAX))
}
