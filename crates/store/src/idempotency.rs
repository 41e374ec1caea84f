//! Replies of requests that must not be carried out twice: kept in the database, in the very transaction of their
//! effects, so that a reply is there exactly where its effects are.
//!
//! The table keeps itself small: whoever adds a reply also removes some that are too old or too many.

use alyx_core::{Row, Statement, Value};

use crate::{Condition, Expect, WriteStep};

/// Replies that are kept at most; the oldest go first.
const MAX_REPLIES: i64 = 100_000;
/// Replies that are removed with each one that is added.
const REMOVED_AT_ONCE: i64 = 64;

pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS _alyx_idempotency (id INTEGER PRIMARY KEY, \
     key BLOB NOT NULL UNIQUE, request BLOB NOT NULL, status INTEGER NOT NULL, etag TEXT, body BLOB NOT NULL, \
     at INTEGER NOT NULL)";

/// A reply as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptReply {
    /// Digest of the request that it answers.
    pub request: [u8; 32],
    /// HTTP status.
    pub status: u16,
    /// `ETag` header.
    pub etag: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl KeptReply {
    /// Asks for the reply under `key`, unless it is older than `since` (seconds of Unix time).
    pub fn find(key: [u8; 32], since: i64) -> Statement {
        let sql = "SELECT request, status, etag, body FROM _alyx_idempotency WHERE key = ?1 AND at >= ?2";
        Statement::new(sql, vec![blob(&key), Value::Int(since)])
    }

    /// The reply in a row that [`KeptReply::find`] returned.
    pub fn from_row(row: &Row) -> Option<Self> {
        let [Value::Blob(request), Value::Int(status), etag, Value::Blob(body)] = row.as_slice() else {
            return None;
        };
        Some(Self {
            request: request.as_ref().try_into().ok()?,
            status: u16::try_from(*status).ok()?,
            etag: etag.as_text().map(str::to_owned),
            body: body.to_vec(),
        })
    }

    /// Steps for the write whose reply this is: keeps it, at the time `now`, and removes some that are older than
    /// `since`. Where the key is taken already, the write fails with `IDEMPOTENCY_KEY_TAKEN`.
    pub fn keep(&self, key: [u8; 32], now: i64, since: i64) -> [WriteStep; 2] {
        let remove = Statement::new(
            "DELETE FROM _alyx_idempotency WHERE id IN (SELECT id FROM _alyx_idempotency \
             WHERE at < ?1 OR id <= (SELECT max(id) FROM _alyx_idempotency) - ?2 ORDER BY id LIMIT ?3) \
             OR key = ?4 AND at < ?1",
            vec![
                Value::Int(since),
                Value::Int(MAX_REPLIES),
                Value::Int(REMOVED_AT_ONCE),
                blob(&key),
            ],
        );
        let add = Statement::new(
            "INSERT INTO _alyx_idempotency (key, request, status, etag, body, at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (key) DO NOTHING",
            vec![
                blob(&key),
                blob(&self.request),
                Value::Int(i64::from(self.status)),
                self.etag.clone().into(),
                blob(&self.body),
                Value::Int(now),
            ],
        );
        [
            WriteStep {
                statement: remove,
                expect: Expect::Any,
            },
            WriteStep {
                statement: add,
                expect: Expect::Holds(Condition::FreeKey),
            },
        ]
    }
}

fn blob(bytes: &[u8]) -> Value {
    Value::Blob(bytes.into())
}
