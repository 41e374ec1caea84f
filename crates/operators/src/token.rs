//! API tokens: made, found by what a request shows, used.

use std::time::{Duration, Instant};

use alyx_auth::{new_secret, token_digest};
use alyx_core::{Error, ErrorKind, Permission, Result, Row, Scopes, Statement, Value, new_uuid_v7};
use alyx_store::{ReadCost, WriteStep};

use crate::tables::{seconds, text, time};
use crate::{Operator, Operators, must, step, unchanged};

/// How every token begins, so that it is known for what it is, by Alyx and by whoever looks for leaked secrets.
pub const PREFIX: &str = "alyx_";

/// Most tokens that have names.
const MAX_TOKENS: i64 = 1_000;
/// Sign-ins of one operator; the oldest makes place for one more.
const MAX_SIGN_INS: i64 = 20;
/// How long a sign-in is good.
const SIGN_IN: Duration = Duration::from_secs(12 * 3600);
/// Longest name of a token.
const MAX_NAME: usize = 64;
/// Rows past their end that are removed with each one that is added.
const REMOVED_AT_ONCE: i64 = 16;
/// Uses that are noted in one write.
const MAX_USES: usize = 256;

/// Whether a request's bearer is to be looked up here.
pub fn is_api_token(bearer: &str) -> bool {
    bearer.starts_with(PREFIX)
}

/// A token that is to be.
#[derive(Debug)]
pub struct NewToken {
    /// What it is called: 1 to 64 letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// How long from now; for ever where it is not said.
    pub expires_in: Option<Duration>,
}

/// A token that was made. `Debug` does not show it.
pub struct MadeToken {
    /// What is shown from now on; kept nowhere.
    pub token: String,
    /// Its id.
    pub id: String,
    /// Seconds of Unix time.
    pub expires_at: Option<u64>,
}

impl std::fmt::Debug for MadeToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MadeToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// An operator who signs in, with the hash that the password was compared with.
#[derive(Debug)]
pub struct SignIn<'a> {
    /// Who.
    pub operator: &'a Operator,
    /// It must be the hash still when the sign-in is written.
    pub password_hash: &'a str,
}

/// A token that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// A UUID.
    pub id: String,
    /// What it may do.
    pub scopes: Scopes,
    /// The operator whose sign-in it is.
    pub operator: Option<String>,
    /// Seconds of Unix time.
    pub expires_at: Option<u64>,
}

impl Known {
    /// Whether it is good at that time, in seconds of Unix time.
    pub fn is_good(&self, now: u64) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

impl Operators {
    /// Makes a token.
    ///
    /// # Errors
    ///
    /// `INVALID_TOKEN_NAME`, `INVALID_EXPIRY`, `TOKEN_EXISTS`, `TOKEN_LIMIT`, and those of the store.
    pub async fn create_token(&self, new: NewToken, deadline: Instant) -> Result<MadeToken> {
        check_name(&new.name)?;
        let expires_at = new.expires_in.map(|within| self.ends(within)).transpose()?;
        let (made, digest) = self.made(expires_at);
        let add = Statement::new(
            "INSERT INTO _alyx_api_tokens (id, name, digest, scopes, created_at, expires_at) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE (SELECT count(*) FROM _alyx_api_tokens WHERE name IS NOT NULL) < ?7 \
             ON CONFLICT (name) DO NOTHING RETURNING id",
            vec![
                Value::text(made.id.as_str()),
                Value::text(new.name.as_str()),
                digest,
                Value::text(new.scopes.to_string()),
                Value::text(self.clock.timestamp()),
                expires_at.map_or(Value::Null, seconds),
                Value::Int(MAX_TOKENS),
            ],
        );
        match self.write(vec![self.remove_old(), must(add)], deadline).await {
            Ok(_) => Ok(made),
            Err(error) if unchanged(&error) => Err(self.no_room(&new.name, deadline).await?),
            Err(error) => Err(error),
        }
    }

    /// A token for an operator whose password was right: everything, for 12 hours.
    ///
    /// # Errors
    ///
    /// `INVALID_CREDENTIALS` where the password has changed meanwhile, or the operator is gone; those of the store.
    pub async fn sign_in(&self, sign_in: SignIn<'_>, deadline: Instant) -> Result<MadeToken> {
        let (made, digest) = self.made(Some(self.ends(SIGN_IN)?));
        let operator = sign_in.operator.id.as_str();
        let make_place = Statement::new(
            "DELETE FROM _alyx_api_tokens WHERE id IN (SELECT id FROM _alyx_api_tokens WHERE operator_id = ?1 \
             ORDER BY created_at DESC LIMIT -1 OFFSET ?2)",
            vec![Value::text(operator), Value::Int(MAX_SIGN_INS - 1)],
        );
        let add = Statement::new(
            "INSERT INTO _alyx_api_tokens (id, digest, scopes, operator_id, created_at, expires_at) \
             SELECT ?1, ?2, ?3, id, ?5, ?6 FROM _alyx_operators WHERE id = ?4 AND password_hash = ?7 RETURNING id",
            vec![
                Value::text(made.id.as_str()),
                digest,
                Value::text(Permission::Administer.to_string()),
                Value::text(operator),
                Value::text(self.clock.timestamp()),
                made.expires_at.map_or(Value::Null, seconds),
                Value::text(sign_in.password_hash),
            ],
        );
        let steps = vec![self.remove_old(), step(make_place), must(add)];
        match self.write(steps, deadline).await {
            Ok(_) => Ok(made),
            Err(error) if unchanged(&error) => Err(Error::new(
                ErrorKind::Unauthenticated,
                "INVALID_CREDENTIALS",
                "the address or the password is wrong",
            )),
            Err(error) => Err(error),
        }
    }

    /// The token that a request shows, where it is good.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn find(&self, token: &str, deadline: Instant) -> Result<Option<Known>> {
        let find = Statement::new(
            "SELECT id, scopes, operator_id, expires_at FROM _alyx_api_tokens WHERE digest = ?1",
            vec![digest_of(token)],
        );
        let rows = self.query(find, ReadCost::Point, deadline).await?;
        let known = rows.rows.first().and_then(known);
        Ok(known.filter(|known| known.is_good(self.now())))
    }

    /// All tokens, named or not.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn all(&self, deadline: Instant) -> Result<Vec<Known>> {
        let sql = "SELECT id, scopes, operator_id, expires_at FROM _alyx_api_tokens";
        let rows = self
            .query(Statement::new(sql, Vec::new()), ReadCost::Scan, deadline)
            .await?;
        Ok(rows.rows.iter().filter_map(known).collect())
    }

    /// A number that moves with every change that takes something from a token.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn changes(&self, deadline: Instant) -> Result<i64> {
        let sql = "SELECT count FROM _alyx_api_token_changes WHERE id = 1";
        let rows = self
            .query(Statement::new(sql, Vec::new()), ReadCost::Point, deadline)
            .await?;
        let count = rows.rows.first().and_then(|row| row.first()?.as_int());
        count.ok_or_else(|| Error::internal("`_alyx_api_token_changes` has no row"))
    }

    /// Notes when tokens were last used, by their ids, in seconds of Unix time. More than 256 are not all noted.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn note_uses(&self, uses: Vec<(String, u64)>, deadline: Instant) -> Result<()> {
        let note = |(id, at): (String, u64)| {
            let sql = "UPDATE _alyx_api_tokens SET used_at = max(coalesce(used_at, 0), ?2) WHERE id = ?1";
            step(Statement::new(sql, vec![Value::text(id), seconds(at)]))
        };
        let steps: Vec<WriteStep> = uses.into_iter().take(MAX_USES).map(note).collect();
        if steps.is_empty() {
            return Ok(());
        }
        self.write(steps, deadline).await.map(|_| ())
    }

    fn made(&self, expires_at: Option<u64>) -> (MadeToken, Value) {
        let token = format!("{PREFIX}{}", new_secret());
        let digest = digest_of(&token);
        let id = new_uuid_v7();
        let made = MadeToken {
            token,
            id,
            expires_at,
        };
        (made, digest)
    }

    fn ends(&self, within: Duration) -> Result<u64> {
        const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
        if within.as_secs() == 0 || within > LONGEST {
            let message = "a token expires after a second or more, and 100 years or less";
            return Err(Error::new(ErrorKind::InvalidInput, "INVALID_EXPIRY", message).with_field("expires"));
        }
        Ok(self.now() + within.as_secs())
    }

    fn remove_old(&self) -> WriteStep {
        step(Statement::new(
            "DELETE FROM _alyx_api_tokens WHERE id IN (SELECT id FROM _alyx_api_tokens WHERE name IS NULL \
             AND expires_at <= ?1 LIMIT ?2)",
            vec![seconds(self.now()), Value::Int(REMOVED_AT_ONCE)],
        ))
    }

    async fn no_room(&self, name: &str, deadline: Instant) -> Result<Error> {
        let find = Statement::new(
            "SELECT 1 FROM _alyx_api_tokens WHERE name = ?1",
            vec![Value::text(name)],
        );
        let rows = self.query(find, ReadCost::Point, deadline).await?;
        Ok(if rows.rows.is_empty() {
            let message = format!("there are {MAX_TOKENS} tokens, which is the most; revoke some first");
            Error::new(ErrorKind::Conflict, "TOKEN_LIMIT", message)
        } else {
            let message =
                format!("there is a token `{name}` already; revoke it first, or choose another name");
            Error::new(ErrorKind::Conflict, "TOKEN_EXISTS", message).with_field("name")
        })
    }
}

/// None where the scopes are not known to this version: such a token opens nothing.
fn known(row: &Row) -> Option<Known> {
    Some(Known {
        id: text(row, 0)?,
        scopes: Scopes::parse(text(row, 1)?.split(' ')).ok()?,
        operator: text(row, 2),
        expires_at: time(row, 3),
    })
}

fn digest_of(token: &str) -> Value {
    Value::Blob(token_digest(token).as_slice().into())
}

fn check_name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(fits) {
        return Ok(());
    }
    let message = format!("a token's name has 1 to {MAX_NAME} letters, digits, `_`, `-` and `.`");
    Err(Error::new(ErrorKind::InvalidInput, "INVALID_TOKEN_NAME", message).with_field("name"))
}
