//! Operators and tokens as people see them, and their end.

use std::time::{Duration, Instant, UNIX_EPOCH};

use alyx_auth::normalize_email;
use alyx_core::{Error, ErrorKind, Result, Row, Statement, Value, format_timestamp};
use alyx_store::ReadCost;
use serde::Serialize;

use crate::tables::{text, time};
use crate::{Operators, step};

/// An operator in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperatorEntry {
    /// A UUID.
    pub id: String,
    /// The address.
    pub email: String,
    /// RFC 3339.
    pub created_at: String,
    /// When one of the operator's sign-ins was last used, RFC 3339; to about a minute.
    pub used_at: Option<String>,
}

/// A token in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenEntry {
    /// A UUID.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// As they are written.
    pub scopes: Vec<String>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; none where it never does.
    pub expires_at: Option<String>,
    /// When it was last used, RFC 3339; to about a minute.
    pub used_at: Option<String>,
}

/// Everybody and everything that operates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// By address.
    pub operators: Vec<OperatorEntry>,
    /// By name; those that have expired too.
    pub tokens: Vec<TokenEntry>,
}

/// What was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// An operator, with all sign-ins.
    Operator,
    /// A token.
    Token,
}

impl Operators {
    /// All operators and all tokens that have names.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn list(&self, deadline: Instant) -> Result<Listing> {
        let operators = "SELECT o.id, o.email, o.created_at, (SELECT max(t.used_at) FROM _alyx_api_tokens t \
                         WHERE t.operator_id = o.id) FROM _alyx_operators o ORDER BY o.email";
        let tokens = "SELECT id, name, scopes, created_at, expires_at, used_at FROM _alyx_api_tokens \
                      WHERE name IS NOT NULL ORDER BY name";
        let read = async |sql: &'static str| {
            let statement = Statement::new(sql, Vec::new());
            self.query(statement, ReadCost::Scan, deadline).await
        };
        let (operators, tokens) = (read(operators).await?, read(tokens).await?);
        Ok(Listing {
            operators: operators.rows.iter().filter_map(operator).collect(),
            tokens: tokens.rows.iter().filter_map(token).collect(),
        })
    }

    /// Ends an operator, by address or id, or a token, by name or id. An operator's sign-ins end with it.
    ///
    /// # Errors
    ///
    /// `OPERATOR_NOT_FOUND` where there is neither; those of the store.
    pub async fn revoke(&self, who: &str, deadline: Instant) -> Result<Revoked> {
        let email = normalize_email(who).unwrap_or_default();
        let end = |sql: &'static str, names: &[&str]| {
            let names = names.iter().map(|name| Value::text(*name));
            step(Statement::new(sql, names.collect()))
        };
        let steps = vec![
            end(
                "DELETE FROM _alyx_api_tokens WHERE name IS NOT NULL AND (name = ?1 OR id = ?1)",
                &[who],
            ),
            end(
                "DELETE FROM _alyx_api_tokens WHERE operator_id IN \
                 (SELECT id FROM _alyx_operators WHERE id = ?1 OR email = ?2)",
                &[who, &email],
            ),
            end(
                "DELETE FROM _alyx_operators WHERE id = ?1 OR email = ?2",
                &[who, &email],
            ),
        ];
        let reply = self.write(steps, deadline).await?;
        let did = |at: usize| reply.steps.get(at).is_some_and(|rows| rows.affected > 0);
        if did(2) {
            Ok(Revoked::Operator)
        } else if did(0) {
            Ok(Revoked::Token)
        } else {
            let shown: String = who.chars().take(128).collect();
            let message =
                format!("there is no operator and no token `{shown}`; `alyx admin list` shows them");
            Err(Error::new(ErrorKind::NotFound, "OPERATOR_NOT_FOUND", message))
        }
    }

    /// Ends one sign-in, by its id.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn sign_out(&self, id: &str, deadline: Instant) -> Result<()> {
        let end = Statement::new(
            "DELETE FROM _alyx_api_tokens WHERE id = ?1 AND operator_id IS NOT NULL",
            vec![Value::text(id)],
        );
        self.write(vec![step(end)], deadline).await.map(|_| ())
    }
}

fn operator(row: &Row) -> Option<OperatorEntry> {
    Some(OperatorEntry {
        id: text(row, 0)?,
        email: text(row, 1)?,
        created_at: text(row, 2)?,
        used_at: time(row, 3).map(format),
    })
}

fn token(row: &Row) -> Option<TokenEntry> {
    Some(TokenEntry {
        id: text(row, 0)?,
        name: text(row, 1)?,
        scopes: text(row, 2)?.split(' ').map(str::to_owned).collect(),
        created_at: text(row, 3)?,
        expires_at: time(row, 4).map(format),
        used_at: time(row, 5).map(format),
    })
}

/// RFC 3339 of seconds of Unix time.
fn format(seconds: u64) -> String {
    format_timestamp(UNIX_EPOCH + Duration::from_secs(seconds))
}
