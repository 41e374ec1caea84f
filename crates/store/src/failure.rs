//! From what the database reports to what callers program against.
//!
//! A [`Failure`] can be cloned, because one failed commit is the answer to every write in it; the error that
//! crosses the seam cannot.

use std::time::Duration;

use alyx_core::{Error, ErrorKind};
use thiserror::Error as ThisError;

use crate::Condition;
use crate::statement_text::Refusal;

/// Most rows that one read or write may return.
pub(crate) const MAX_RESULT_ROWS: usize = 10_000;
/// Most bytes of values that one read or write may return.
pub(crate) const MAX_RESULT_BYTES: usize = 64 << 20;

/// Result codes of SQLite (<https://www.sqlite.org/rescode.html>).
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const READONLY: i32 = 8;
    pub(super) const INTERRUPT: i32 = 9;
    pub(super) const FULL: i32 = 13;
    pub(super) const TOOBIG: i32 = 18;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const MISMATCH: i32 = 20;
    pub(super) const AUTH: i32 = 23;
    pub(super) const CHECK: i32 = 275;
    pub(super) const FOREIGN_KEY: i32 = 787;
    pub(super) const NOT_NULL: i32 = 1299;
    pub(super) const PRIMARY_KEY: i32 = 1555;
    pub(super) const UNIQUE: i32 = 2067;
    pub(super) const TRIGGER: i32 = 1811;
    pub(super) const ROWID: i32 = 2579;
    pub(super) const DATATYPE: i32 = 3091;
}

/// Why a statement or a transaction did not work.
#[derive(Debug, Clone, ThisError)]
pub(crate) enum Failure {
    /// The database said no.
    #[error("the database reports {code}: {message}")]
    Sqlite {
        /// Extended result code.
        code: i32,
        /// Its message.
        message: String,
    },
    /// The driver said no before the database was asked.
    #[error("the database driver reports: {0}")]
    Driver(String),
    /// The statement's parameters do not fit its text.
    #[error("a statement takes {expected} parameters and was given {given}")]
    Parameters {
        /// What the text holds.
        expected: usize,
        /// What came with it.
        given: usize,
    },
    /// The statement is not one that a write or a read may run.
    #[error("the statement cannot be run here: {0:?}")]
    Refused(Refusal),
    /// A text holds U+0000, at which the driver would cut it off on the way out.
    #[error("parameter {0} holds U+0000")]
    NulInText(usize),
    /// A text in the result is not text.
    #[error("a text in the result is not UTF-8")]
    NotUtf8,
    /// A bound of the result was passed.
    #[error("the result is over its bound")]
    ResultTooLarge,
    /// `Expect::Row` was not met.
    #[error("no row was changed or returned")]
    NoRow,
    /// `Expect::Holds` was not met.
    #[error("a condition of the write does not hold: {0:?}")]
    Unmet(Condition),
    /// One step of a write of several failed.
    #[error("step {step}: {failure}")]
    AtStep {
        /// Counted from 0.
        step: usize,
        /// Why.
        failure: Box<Failure>,
    },
    /// The reader's deadline passed.
    #[error("the deadline passed")]
    ReadDeadline,
    /// The transaction was ended by one of its own statements.
    #[error("a statement ended the transaction that it was part of")]
    TransactionLost,
    /// Rows that point nowhere were found after a migration.
    #[error("rows without their referenced row in: {0}")]
    ForeignKeyCheck(String),
    /// The database server does not answer, or not as it should.
    #[error("the database server is away: {0}")]
    Away(String),
    /// The database server does not accept who we are.
    #[error("the database server refuses the token")]
    Unauthorized,
    /// The server closed the stream before it ran anything on it.
    #[error("the stream has been closed")]
    StreamGone,
    /// Another writer has taken over; nothing of the transaction is there.
    #[error("another writer has taken over")]
    Fenced,
    /// The connection broke while the transaction was being committed.
    #[error("it is not known whether the transaction was committed")]
    OutcomeUnknown,
    /// The transaction was committed, and what it returned is lost.
    #[error("the transaction was committed and its reply is lost")]
    ReplyLost,
}

impl From<libsql::Error> for Failure {
    fn from(error: libsql::Error) -> Self {
        match error {
            libsql::Error::SqliteFailure(code, message) => Self::Sqlite { code, message },
            other => Self::Driver(other.to_string()),
        }
    }
}

impl Failure {
    /// The same, said of one step of a write that has several.
    pub(crate) fn at_step(self, step: usize, steps: usize) -> Self {
        if steps < 2 {
            return self;
        }
        Self::AtStep {
            step,
            failure: Box::new(self),
        }
    }

    /// Whether the caller's own statement or data is at fault, so that other writes are none the worse.
    pub(crate) fn is_callers_fault(&self) -> bool {
        match self {
            Self::Sqlite { code, .. } => {
                matches!(
                    code & 0xff,
                    1 | code::CONSTRAINT | code::MISMATCH | code::TOOBIG | code::AUTH
                )
            }
            Self::Parameters { .. }
            | Self::Refused(_)
            | Self::NulInText(_)
            | Self::NotUtf8
            | Self::ResultTooLarge
            | Self::NoRow
            | Self::Unmet(_)
            | Self::ForeignKeyCheck(_)
            | Self::ReplyLost => true,
            Self::AtStep { failure, .. } => failure.is_callers_fault(),
            Self::Driver(_)
            | Self::ReadDeadline
            | Self::TransactionLost
            | Self::Away(_)
            | Self::Unauthorized
            | Self::StreamGone
            | Self::Fenced
            | Self::OutcomeUnknown => false,
        }
    }

    /// The error for the caller.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Sqlite { code, message } => sqlite_error(code, message),
            Self::Refused(refusal) => refused(refusal),
            Self::NulInText(_) => Error::new(
                ErrorKind::InvalidInput,
                "INVALID_TEXT",
                "text must not contain the character U+0000: remove it, or store the value as a blob",
            ),
            Self::ResultTooLarge => Error::new(
                ErrorKind::InvalidInput,
                "RESULT_TOO_LARGE",
                format!(
                    "the result has more than {MAX_RESULT_ROWS} rows or {} MiB: narrow the filter or lower the limit",
                    MAX_RESULT_BYTES >> 20
                ),
            ),
            Self::NoRow => Error::new(
                ErrorKind::NotFound,
                "DOCUMENT_NOT_FOUND",
                "there is no such document",
            ),
            Self::Unmet(condition) => unmet(condition),
            Self::AtStep { step, failure } => failure.into_error().with_step(step),
            Self::ReadDeadline => query_timeout(),
            Self::ForeignKeyCheck(ref tables) => Error::new(
                ErrorKind::Conflict,
                "FOREIGN_KEY_VIOLATION",
                format!(
                    "the migration leaves rows that refer to missing rows, in: {tables}; nothing was changed"
                ),
            ),
            Self::Away(_) | Self::StreamGone => database_unavailable().with_source(self),
            Self::Unauthorized => Error::new(
                ErrorKind::Unavailable,
                "DATABASE_UNAUTHORIZED",
                "the database server refuses this server: its operator must check the database token",
            )
            .with_source(self),
            Self::Fenced => writer_fenced(),
            Self::OutcomeUnknown => Error::new(
                ErrorKind::Unavailable,
                "WRITE_OUTCOME_UNKNOWN",
                "the database went away while it carried out the write: look whether it is there before you send it again",
            )
            .with_retry_after(Duration::from_secs(1)),
            Self::ReplyLost => Error::new(
                ErrorKind::Conflict,
                "WRITE_REPLY_LOST",
                "the write was carried out, and what it returned was lost on the way: read the document",
            ),
            Self::Driver(_) | Self::Parameters { .. } | Self::NotUtf8 | Self::TransactionLost => {
                Error::internal(self)
            }
        }
    }
}

fn sqlite_error(code: i32, message: String) -> Error {
    let columns = constraint_columns(&message);
    let error = match (code & 0xff, code) {
        (_, code::UNIQUE | code::PRIMARY_KEY | code::ROWID) => Error::new(
            ErrorKind::Conflict,
            "UNIQUE_VIOLATION",
            columns.as_ref().map_or_else(
                || "a document with these values already exists".to_owned(),
                |columns| format!("a document with this value of `{columns}` already exists"),
            ),
        ),
        // `ON DELETE RESTRICT` is carried out by a trigger of SQLite's own.
        (_, code::FOREIGN_KEY | code::TRIGGER) if message.starts_with("FOREIGN KEY") => Error::new(
            ErrorKind::Conflict,
            "FOREIGN_KEY_VIOLATION",
            "a reference points to a document that does not exist, or other documents still refer to this one",
        ),
        (_, code::NOT_NULL) => Error::new(
            ErrorKind::InvalidInput,
            "REQUIRED_FIELD_MISSING",
            columns.as_ref().map_or_else(
                || "a required field is missing".to_owned(),
                |columns| format!("field `{columns}` is required and must not be null"),
            ),
        ),
        (_, code::CHECK) => Error::new(
            ErrorKind::InvalidInput,
            "CHECK_CONSTRAINT_FAILED",
            format!("a value breaks a rule of the table: {message}"),
        ),
        (_, code::DATATYPE) | (code::MISMATCH, _) => Error::new(
            ErrorKind::InvalidInput,
            "INVALID_TYPE",
            format!("a value has the wrong type: {message}"),
        ),
        (code::CONSTRAINT, _) => Error::new(ErrorKind::Conflict, "CONSTRAINT_VIOLATION", message),
        (code::FULL, _) => storage_full(),
        (code::BUSY, _) => Error::new(
            ErrorKind::Unavailable,
            "DATABASE_BUSY",
            "another process holds the database's write lock: try again",
        )
        .with_retry_after(Duration::from_secs(1)),
        (code::INTERRUPT, _) => query_timeout(),
        (code::TOOBIG, _) => Error::new(
            ErrorKind::PayloadTooLarge,
            "VALUE_TOO_LARGE",
            "a value or statement is larger than the database can hold",
        ),
        (code::AUTH, _) => Error::new(
            ErrorKind::InvalidInput,
            "STATEMENT_NOT_ALLOWED",
            "a migration must not begin or end a transaction or attach another database: it runs in one transaction",
        ),
        (code::READONLY, _) => Error::new(
            ErrorKind::InvalidInput,
            "STATEMENT_NOT_READ_ONLY",
            "this statement writes; only reading statements can run here",
        ),
        _ => return Error::internal(Failure::Sqlite { code, message }),
    };
    match columns {
        Some(columns) => error.with_field(columns),
        None => error,
    }
}

fn unmet(condition: Condition) -> Error {
    let (kind, code, message) = match condition {
        Condition::Precondition => (
            ErrorKind::PreconditionFailed,
            "PRECONDITION_FAILED",
            "the document is not in the state that the request demands: read it again",
        ),
        Condition::Snapshot => (
            ErrorKind::Conflict,
            "TRANSACTION_CONFLICT",
            "something that the transaction has read was changed meanwhile; nothing was written: begin again",
        ),
        Condition::FreeKey => (
            ErrorKind::Conflict,
            "IDEMPOTENCY_KEY_TAKEN",
            "another request with this idempotency key was carried out meanwhile: send it again",
        ),
    };
    Error::new(kind, code, message)
}

fn refused(refusal: Refusal) -> Error {
    let message = match refusal {
        Refusal::Empty => "the SQL text holds no statement",
        Refusal::NotRows => {
            "only statements that read or write rows can run here: SELECT, INSERT, UPDATE, DELETE, WITH, VALUES"
        }
        Refusal::NotOnServer => {
            "the database server does not run this statement; of PRAGMA it takes few, and REPLACE would delete rows unseen: use INSERT … ON CONFLICT DO UPDATE"
        }
        Refusal::Several => "the SQL text holds more than one statement: send them one by one",
    };
    Error::new(ErrorKind::InvalidInput, "STATEMENT_NOT_ALLOWED", message)
}

/// The columns in `UNIQUE constraint failed: users.name, users.team`, as `name, team`.
fn constraint_columns(message: &str) -> Option<String> {
    let (kind, columns) = message.split_once(" constraint failed: ")?;
    if !matches!(kind, "UNIQUE" | "NOT NULL") || columns.starts_with("index ") {
        return None;
    }
    let names: Vec<&str> = columns
        .split(", ")
        .map(|column| column.rsplit_once('.').map_or(column, |(_, name)| name))
        .collect();
    Some(names.join(", "))
}

/// The disk is full.
fn storage_full() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "STORAGE_FULL",
        "the disk that holds the database is full: free some space; reading goes on",
    )
    .with_retry_after(Duration::from_secs(30))
}

/// The database server is away.
pub(crate) fn database_unavailable() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "DATABASE_UNAVAILABLE",
        "the database server cannot be reached: try again",
    )
    .with_retry_after(Duration::from_secs(1))
}

/// This process is not, or no longer, the one that writes.
pub(crate) fn writer_fenced() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "WRITER_FENCED",
        "another server has taken over writing; nothing of this write was carried out: try again",
    )
    .with_retry_after(Duration::from_secs(1))
}

/// A read's deadline passed.
pub(crate) fn query_timeout() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "QUERY_TIMEOUT",
        "the query took longer than it may: narrow the filter, or add an index on the fields it uses",
    )
}

/// A write's deadline passed before it was begun.
pub(crate) fn write_timeout() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "WRITE_TIMEOUT",
        "the write waited longer than it may and was not carried out",
    )
}

/// The write queue is at its bound.
pub(crate) fn write_queue_full() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "WRITE_QUEUE_FULL",
        "too many writes are waiting: try again",
    )
    .with_retry_after(Duration::from_secs(1))
}

/// The read queue is at its bound.
pub(crate) fn read_queue_full() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "READ_QUEUE_FULL",
        "too many queries are waiting: try again",
    )
    .with_retry_after(Duration::from_secs(1))
}

/// The store no longer takes work.
pub(crate) fn closed() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "STORE_CLOSED",
        "the database is being closed",
    )
    .with_retry_after(Duration::from_secs(1))
}

/// The thread that had the work in hand panicked; whether a write was carried out is not known.
pub(crate) fn aborted() -> Error {
    Error::internal("the database thread panicked while it had this request in hand")
}

/// More statements in one request than the interface allows.
pub(crate) fn too_many_statements(most: usize, given: usize) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "TOO_MANY_STATEMENTS",
        format!("{given} statements in one request; at most {most} are allowed"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_have_codes_and_fields() {
        let check = |code: i32, message: &str, expected: (&str, u16, Option<&str>)| {
            let error = Failure::Sqlite {
                code,
                message: message.to_owned(),
            }
            .into_error();
            assert_eq!(
                (error.code(), error.kind().http_status(), error.field()),
                expected,
                "{message}"
            );
        };
        check(
            2067,
            "UNIQUE constraint failed: users.email",
            ("UNIQUE_VIOLATION", 409, Some("email")),
        );
        check(
            2067,
            "UNIQUE constraint failed: m.room, m.name",
            ("UNIQUE_VIOLATION", 409, Some("room, name")),
        );
        check(
            2067,
            "UNIQUE constraint failed: index 'lower_email'",
            ("UNIQUE_VIOLATION", 409, None),
        );
        check(
            1555,
            "UNIQUE constraint failed: users.id",
            ("UNIQUE_VIOLATION", 409, Some("id")),
        );
        check(
            787,
            "FOREIGN KEY constraint failed",
            ("FOREIGN_KEY_VIOLATION", 409, None),
        );
        check(
            1811,
            "FOREIGN KEY constraint failed",
            ("FOREIGN_KEY_VIOLATION", 409, None),
        );
        check(1811, "raised by a trigger", ("CONSTRAINT_VIOLATION", 409, None));
        check(
            1299,
            "NOT NULL constraint failed: users.email",
            ("REQUIRED_FIELD_MISSING", 400, Some("email")),
        );
        check(
            275,
            "CHECK constraint failed: age >= 0",
            ("CHECK_CONSTRAINT_FAILED", 400, None),
        );
        check(13, "database or disk is full", ("STORAGE_FULL", 503, None));
        check(10, "disk I/O error", ("INTERNAL_ERROR", 500, None));
    }
}
