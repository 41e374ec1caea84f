//! The tables of accounts, and what their rows mean.

use std::time::Instant;

use alyx_core::{Account, Error, Result, Row, Statement, Value};
use alyx_store::{Read, ReadCost, Store};
use serde::Serialize;
use serde_json::{Map, Value as Json};

/// Tables, indexes, and the triggers that note what gateways must know of at once. In this order.
const SCHEMA: [&str; 20] = [
    "CREATE TABLE IF NOT EXISTS _alyx_users (id TEXT PRIMARY KEY NOT NULL, email TEXT UNIQUE, password_hash TEXT, \
     verified INTEGER NOT NULL DEFAULT 0, role TEXT NOT NULL DEFAULT 'user', metadata TEXT NOT NULL DEFAULT '{}', \
     created_at TEXT NOT NULL, updated_at TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS _alyx_sessions (id TEXT PRIMARY KEY NOT NULL, \
     user_id TEXT NOT NULL REFERENCES _alyx_users (id) ON DELETE CASCADE, refresh_digest BLOB NOT NULL, \
     created_at TEXT NOT NULL, used_at TEXT NOT NULL, expires_at INTEGER NOT NULL, user_agent TEXT, ip_address TEXT)",
    "CREATE INDEX IF NOT EXISTS _alyx_sessions_by_user ON _alyx_sessions (user_id, used_at)",
    "CREATE INDEX IF NOT EXISTS _alyx_sessions_by_end ON _alyx_sessions (expires_at)",
    // What mails carry, good once. The code is for people to type.
    "CREATE TABLE IF NOT EXISTS _alyx_auth_tokens (digest BLOB PRIMARY KEY NOT NULL, \
     user_id TEXT NOT NULL REFERENCES _alyx_users (id) ON DELETE CASCADE, purpose TEXT NOT NULL, code_digest BLOB, \
     expires_at INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS _alyx_auth_tokens_by_user ON _alyx_auth_tokens (user_id, purpose)",
    // Who owners of accounts are at other providers.
    "CREATE TABLE IF NOT EXISTS _alyx_identities (provider TEXT NOT NULL, subject TEXT NOT NULL, \
     user_id TEXT NOT NULL REFERENCES _alyx_users (id) ON DELETE CASCADE, email TEXT, created_at TEXT NOT NULL, \
     PRIMARY KEY (provider, subject), UNIQUE (user_id, provider))",
    // Logins by other providers on their way: states that were used, and who waits for an application to ask.
    "CREATE TABLE IF NOT EXISTS _alyx_oauth_logins (digest BLOB PRIMARY KEY NOT NULL, provider TEXT, subject TEXT, \
     email TEXT, challenge TEXT, expires_at INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS _alyx_oauth_logins_by_end ON _alyx_oauth_logins (expires_at)",
    // Of the whole account where no session is named.
    "CREATE TABLE IF NOT EXISTS _alyx_auth_events (seq INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT NOT NULL, \
     session_id TEXT)",
    "CREATE TRIGGER IF NOT EXISTS _alyx_users_changed AFTER UPDATE OF id, email, verified, role, metadata \
     ON _alyx_users BEGIN INSERT INTO _alyx_auth_events (user_id) VALUES (old.id); END",
    "CREATE TRIGGER IF NOT EXISTS _alyx_users_gone AFTER DELETE ON _alyx_users BEGIN \
     INSERT INTO _alyx_auth_events (user_id) VALUES (old.id); END",
    "CREATE TRIGGER IF NOT EXISTS _alyx_sessions_gone AFTER DELETE ON _alyx_sessions BEGIN \
     INSERT INTO _alyx_auth_events (user_id, session_id) VALUES (old.user_id, old.id); END",
    // A session that is made another's is over for the one who had it.
    "CREATE TRIGGER IF NOT EXISTS _alyx_sessions_moved AFTER UPDATE OF id, user_id ON _alyx_sessions BEGIN \
     INSERT INTO _alyx_auth_events (user_id, session_id) VALUES (old.user_id, old.id); END",
    // Anonymous accounts by their last use.
    "CREATE INDEX IF NOT EXISTS _alyx_users_anonymous ON _alyx_users (updated_at) WHERE role = 'anonymous'",
    // Second factors, and the last step of time whose code was used. Asked for once they are confirmed.
    "CREATE TABLE IF NOT EXISTS _alyx_second_factors (\
     user_id TEXT PRIMARY KEY NOT NULL REFERENCES _alyx_users (id) ON DELETE CASCADE, secret TEXT NOT NULL, \
     last_step INTEGER NOT NULL DEFAULT 0, confirmed_at TEXT)",
    "CREATE TABLE IF NOT EXISTS _alyx_recovery_codes (\
     user_id TEXT NOT NULL REFERENCES _alyx_users (id) ON DELETE CASCADE, digest BLOB NOT NULL, \
     PRIMARY KEY (user_id, digest))",
    // Sign-ins that wait for the second factor.
    "CREATE TABLE IF NOT EXISTS _alyx_auth_challenges (digest BLOB PRIMARY KEY NOT NULL, \
     user_id TEXT NOT NULL REFERENCES _alyx_users (id) ON DELETE CASCADE, tries INTEGER NOT NULL DEFAULT 0, \
     expires_at INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS _alyx_auth_challenges_by_end ON _alyx_auth_challenges (expires_at)",
    "CREATE INDEX IF NOT EXISTS _alyx_auth_challenges_by_user ON _alyx_auth_challenges (user_id, expires_at)",
];

/// The role of accounts whose owner has not said who they are.
pub(super) const ANONYMOUS: &str = "anonymous";

/// Columns of an account, as [`User::read`] takes them.
pub(super) const USER: &str = "u.id, u.email, u.verified, u.role, u.metadata, u.created_at, u.updated_at";

/// Makes what is missing.
pub(super) async fn create(store: &Store, deadline: Instant) -> Result<()> {
    let there = "SELECT count(*) FROM sqlite_master WHERE name IN ('_alyx_oauth_logins_by_end', '_alyx_sessions_moved', \
                 '_alyx_auth_challenges_by_user')";
    let read = Read {
        statements: vec![Statement::new(there, Vec::new())],
        cost: ReadCost::Scan,
        deadline,
    };
    let reply = store.read(read).await?;
    let rows = reply.results.first().map(|rows| rows.rows.as_slice());
    let count = rows.and_then(<[Row]>::first).and_then(|row| row.first());
    if count.and_then(Value::as_int) == Some(3) {
        return Ok(());
    }
    let steps = SCHEMA.into_iter().map(|sql| Statement::new(sql, Vec::new()));
    store.migrate(steps.collect()).await.map(|_| ())
}

/// An account as its owner sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) email: Option<String>,
    pub(crate) verified: bool,
    pub(crate) role: String,
    pub(crate) metadata: Map<String, Json>,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
}

impl User {
    /// The account in the columns [`USER`] at the start of a row.
    pub(super) fn read(row: &Row) -> Result<Self> {
        let text = |at: usize| row.get(at).and_then(Value::as_text).map(str::to_owned);
        let read = || {
            Some(Self {
                id: text(0)?,
                email: text(1),
                verified: row.get(2)?.as_int()? != 0,
                role: text(3)?,
                metadata: serde_json::from_str(row.get(4)?.as_text()?).ok()?,
                created_at: text(5)?,
                updated_at: text(6)?,
            })
        };
        read().ok_or_else(|| Error::internal("a row of `_alyx_users` does not hold what was written to it"))
    }

    /// The account as rules see it, signed in by a session.
    pub(super) fn account(&self, session: &str) -> Account {
        Account {
            id: self.id.clone(),
            email: self.email.clone(),
            verified: self.verified,
            role: self.role.clone(),
            metadata: self.metadata.clone(),
            session: Some(session.to_owned()),
        }
    }
}

/// The account with that address, and its password's hash behind it.
pub(super) fn user_by_email(email: &str) -> Statement {
    let sql = format!("SELECT {USER}, u.password_hash FROM _alyx_users u WHERE u.email = ?1");
    Statement::new(sql, vec![Value::text(email)])
}

/// The account with that id, and its password's hash behind it.
pub(super) fn user_by_id(id: &str) -> Statement {
    let sql = format!("SELECT {USER}, u.password_hash FROM _alyx_users u WHERE u.id = ?1");
    Statement::new(sql, vec![Value::text(id)])
}

/// The account of a session that is good at `now`.
pub(super) fn user_by_session(session: &str, now: u64) -> Statement {
    let sql = format!(
        "SELECT {USER} FROM _alyx_sessions s JOIN _alyx_users u ON u.id = s.user_id \
         WHERE s.id = ?1 AND s.expires_at > ?2"
    );
    Statement::new(sql, vec![Value::text(session), seconds(now)])
}

/// The password's hash behind the columns of an account.
pub(super) fn password_hash(row: &Row) -> Option<String> {
    row.get(7).and_then(Value::as_text).map(str::to_owned)
}

/// Seconds of Unix time.
pub(super) fn seconds(time: u64) -> Value {
    Value::Int(i64::try_from(time).unwrap_or(i64::MAX))
}
