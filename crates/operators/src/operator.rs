//! Operators: people who sign in with a password to do what rules and scopes let nobody else do.

use std::time::Instant;

use alyx_auth::{Policy, hash_password, normalize_email};
use alyx_core::{Error, ErrorKind, Result, Statement, Value, new_uuid_v7};
use alyx_store::ReadCost;

use crate::tables::text;
use crate::{Operators, must, step, unchanged};

/// Most operators.
const MAX_OPERATORS: i64 = 100;
/// What a password must be, whatever the application asks of its users.
const POLICY: Policy = Policy {
    min_length: 10,
    require_uppercase: false,
    require_lowercase: false,
    require_number: false,
    require_special: false,
};

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// A UUID.
    pub id: String,
    /// Normalised.
    pub email: String,
}

/// An operator that is to be.
#[derive(Debug)]
pub struct NewOperator {
    /// An address; it is normalised.
    pub email: String,
    /// What [`hash_new_password`] made.
    pub password_hash: String,
}

/// Checks a new operator's password and hashes it, which takes tens of milliseconds of one core.
///
/// # Errors
///
/// `PASSWORD_REQUIRED`, `PASSWORD_TOO_SHORT` (fewer than 10 characters), `PASSWORD_TOO_LONG`.
pub fn hash_new_password(password: &str) -> Result<String> {
    POLICY.check(password)?;
    Ok(hash_password(password))
}

impl Operators {
    /// Makes an operator.
    ///
    /// # Errors
    ///
    /// `EMAIL_REQUIRED`, `INVALID_EMAIL`, `OPERATOR_EXISTS`, `OPERATOR_LIMIT`, and those of the store.
    pub async fn create_operator(&self, new: NewOperator, deadline: Instant) -> Result<Operator> {
        let email = normalize_email(&new.email)?;
        if self.find_operator(&email, deadline).await?.is_some() {
            return Err(exists(&email));
        }
        let operator = Operator {
            id: new_uuid_v7(),
            email,
        };
        let add = Statement::new(
            "INSERT INTO _alyx_operators (id, email, password_hash, created_at) SELECT ?1, ?2, ?3, ?4 \
             WHERE (SELECT count(*) FROM _alyx_operators) < ?5 ON CONFLICT (email) DO NOTHING RETURNING id",
            vec![
                Value::text(operator.id.as_str()),
                Value::text(operator.email.as_str()),
                Value::text(new.password_hash),
                Value::text(self.clock.timestamp()),
                Value::Int(MAX_OPERATORS),
            ],
        );
        match self.write(vec![must(add)], deadline).await {
            Ok(_) => Ok(operator),
            Err(error) if unchanged(&error) => {
                Err(match self.find_operator(&operator.email, deadline).await? {
                    Some(_) => exists(&operator.email),
                    None => full(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Gives an operator, by address or id, another password, and ends all its sign-ins.
    ///
    /// # Errors
    ///
    /// `OPERATOR_NOT_FOUND`, and those of the store.
    pub async fn set_password(
        &self,
        who: &str,
        password_hash: String,
        deadline: Instant,
    ) -> Result<Operator> {
        let email = normalize_email(who).unwrap_or_default();
        let find = Statement::new(
            "SELECT id, email FROM _alyx_operators WHERE id = ?1 OR email = ?2",
            vec![Value::text(who), Value::text(email)],
        );
        let rows = self.query(find, ReadCost::Point, deadline).await?;
        let found = rows.rows.first().and_then(|row| {
            Some(Operator {
                id: text(row, 0)?,
                email: text(row, 1)?,
            })
        });
        let operator = found.ok_or_else(|| not_found(who))?;
        let set = Statement::new(
            "UPDATE _alyx_operators SET password_hash = ?2 WHERE id = ?1",
            vec![Value::text(operator.id.as_str()), Value::text(password_hash)],
        );
        let end = Statement::new(
            "DELETE FROM _alyx_api_tokens WHERE operator_id = ?1",
            vec![Value::text(operator.id.as_str())],
        );
        let written = self.write(vec![must(set), step(end)], deadline).await;
        written.map_err(|error| if unchanged(&error) { not_found(who) } else { error })?;
        Ok(operator)
    }

    /// The operator with that normalised address, and the hash of the password.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn find_operator(&self, email: &str, deadline: Instant) -> Result<Option<(Operator, String)>> {
        let find = Statement::new(
            "SELECT id, email, password_hash FROM _alyx_operators WHERE email = ?1",
            vec![Value::text(email)],
        );
        let rows = self.query(find, ReadCost::Point, deadline).await?;
        Ok(rows.rows.first().and_then(|row| {
            let operator = Operator {
                id: text(row, 0)?,
                email: text(row, 1)?,
            };
            Some((operator, text(row, 2)?))
        }))
    }

    /// Whether there is an operator.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn has_operators(&self, deadline: Instant) -> Result<bool> {
        let any = Statement::new("SELECT 1 FROM _alyx_operators LIMIT 1", Vec::new());
        let rows = self.query(any, ReadCost::Point, deadline).await?;
        Ok(!rows.rows.is_empty())
    }
}

fn not_found(who: &str) -> Error {
    let shown: String = who.chars().take(128).collect();
    let message = format!("there is no operator `{shown}`; `alyx admin list` shows them");
    Error::new(ErrorKind::NotFound, "OPERATOR_NOT_FOUND", message)
}

fn exists(email: &str) -> Error {
    let message = format!("there is an operator with the address {email} already");
    Error::new(ErrorKind::Conflict, "OPERATOR_EXISTS", message).with_field("email")
}

fn full() -> Error {
    let message = format!("there are {MAX_OPERATORS} operators, which is the most; revoke some first");
    Error::new(ErrorKind::Conflict, "OPERATOR_LIMIT", message)
}
