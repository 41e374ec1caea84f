//! The store's own tables on a server.

use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result, Value};

use super::change_log::{CLOSE_COMMIT, expect, run};
use super::hrana::{Batch, When};
use super::stream::Stream;
use crate::failure::Failure;

/// The layout of the `_alyx_` tables of this store. A database with a higher one is left alone.
const FORMAT: i64 = 1;
/// Pauses between two tries to reach a server that is away.
const PAUSE: Duration = Duration::from_millis(200);

const TABLES: [&str; 7] = [
    "CREATE TABLE IF NOT EXISTS _alyx_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS _alyx_changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, collection TEXT NOT NULL, \
     op INTEGER NOT NULL, id, old TEXT, new TEXT)",
    "CREATE TABLE IF NOT EXISTS _alyx_commits (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL)",
    // Each writer's last batch: a batch that arrives late, after its writer has gone on without it, does not fit.
    "CREATE TABLE IF NOT EXISTS _alyx_writers (id TEXT PRIMARY KEY NOT NULL, batch INTEGER NOT NULL, \
     at INTEGER NOT NULL) WITHOUT ROWID",
    // Who writes, and until when.
    "CREATE TABLE IF NOT EXISTS _alyx_lease (name TEXT PRIMARY KEY NOT NULL, holder TEXT NOT NULL, \
     address TEXT NOT NULL, epoch INTEGER NOT NULL, expires_at INTEGER NOT NULL) WITHOUT ROWID",
    // Forwarded writes that were carried out, with the position before their commit.
    "CREATE TABLE IF NOT EXISTS _alyx_writes (id TEXT PRIMARY KEY NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID",
    crate::idempotency::TABLE,
];

/// Creates what is missing. Goes on trying until `deadline` while the server is away.
///
/// Errors: `DATABASE_UNAVAILABLE`, `DATABASE_UNAUTHORIZED`, `DATABASE_FORMAT_NEWER`.
pub(super) async fn prepare(
    stream: &mut Stream,
    shown: &str,
    call: Duration,
    deadline: Instant,
) -> Result<()> {
    loop {
        let failure = match create(stream, Instant::now() + call).await {
            Ok(found) if found > FORMAT => {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "DATABASE_FORMAT_NEWER",
                    format!(
                        "the database at {shown} has format {found}, and this version of alyx knows up to {FORMAT}: use a newer alyx"
                    ),
                ));
            }
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        let again = matches!(failure, Failure::Away(_) | Failure::StreamGone)
            || matches!(&failure, Failure::Sqlite { code: 5, .. });
        if !again || Instant::now() + PAUSE >= deadline {
            return Err(open_error(failure, shown));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn open_error(failure: Failure, shown: &str) -> Error {
    let message = match &failure {
        Failure::Away(_) => {
            format!("the database server at {shown} cannot be reached: start it, or check database.turso.url")
        }
        Failure::Unauthorized => {
            format!("the database server at {shown} refuses the token: check database.turso.auth_token")
        }
        _ => return failure.into_error(),
    };
    let code = match &failure {
        Failure::Unauthorized => "DATABASE_UNAUTHORIZED",
        _ => "DATABASE_UNAVAILABLE",
    };
    Error::new(ErrorKind::Unavailable, code, message).with_source(failure)
}

/// Creates what is missing and returns the format.
async fn create(stream: &mut Stream, deadline: Instant) -> Result<i64, Failure> {
    if let Some(format) = found(stream, deadline).await? {
        return Ok(format);
    }
    let mut batch = Batch::new();
    let mut last = batch.run(When::Always, "BEGIN IMMEDIATE", &[])?;
    for table in TABLES {
        last = batch.run(When::Worked(last), table, &[])?;
    }
    let rows = "INSERT OR IGNORE INTO _alyx_meta (key, value) VALUES ('format', ?1), ('horizon', 0)";
    last = batch.run(When::Worked(last), rows, &[Value::Int(FORMAT)])?;
    last = batch.run(When::Worked(last), CLOSE_COMMIT, &[])?;
    last = batch.run(When::Worked(last), "COMMIT", &[])?;
    batch.run(When::Open, "ROLLBACK", &[])?;
    let reply = run(stream, &batch, deadline).await?;
    let all: Vec<usize> = (0..=last).collect();
    expect(&reply, &all)?;
    Ok(found(stream, deadline).await?.unwrap_or(FORMAT))
}

/// The format, where all tables are there.
async fn found(stream: &mut Stream, deadline: Instant) -> Result<Option<i64>, Failure> {
    const OURS: &str = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN \
         ('_alyx_meta', '_alyx_changes', '_alyx_commits', '_alyx_writers', '_alyx_lease', '_alyx_writes', \
         '_alyx_idempotency')";
    let tables = super::change_log::rows(stream, OURS, &[], deadline).await?;
    let count = tables.rows.first().and_then(|row| row.first());
    if count.and_then(|cell| cell.0.as_int()) != i64::try_from(TABLES.len()).ok() {
        return Ok(None);
    }
    let format = "SELECT value FROM _alyx_meta WHERE key = 'format'";
    let rows = super::change_log::rows(stream, format, &[], deadline).await?;
    Ok(rows
        .rows
        .first()
        .and_then(|row| row.first())
        .and_then(|cell| cell.0.as_int()))
}
