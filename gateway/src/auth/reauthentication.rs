//! What whoever has signed in shows once more before something that a thief of the session must not do: the password,
//! a code of the second factor, or, where there is no password, that they have just signed in.
//!
//! **Invariant:** what was shown is a condition of the write that it is shown for.

use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result, Statement, Value, format_timestamp};
use alyx_store::WriteStep;
use serde::Deserialize;

use super::accounts::{account_gone, still_has, wrong};
use super::second_factor::invalid_code;
use super::sessions::Device;
use super::tables::{password_hash, user_by_id};
use super::{Auth, must, unchanged};

/// How long ago a sign-in may be that stands for a password.
const FRESH: Duration = Duration::from_secs(600);

/// Whoever has signed in, and from where they ask.
#[derive(Clone, Copy)]
pub(crate) struct Own<'a> {
    pub(crate) user: &'a str,
    pub(crate) session: &'a str,
    pub(crate) device: &'a Device,
}

/// What they show.
#[derive(Default, Deserialize)]
pub(crate) struct Shown {
    #[serde(default)]
    password: Option<String>,
    /// Of the app, or a recovery code.
    #[serde(default)]
    code: Option<String>,
}

impl Auth {
    /// Carries out `steps` for whoever shows that the account is theirs.
    ///
    /// Errors: `INVALID_CREDENTIALS`, `INVALID_CODE`, `SECOND_FACTOR_NOT_FOUND` where a code is shown and there is none,
    /// `PASSWORD_REQUIRED`, `FRESH_SIGN_IN_REQUIRED`, `TOO_MANY_ATTEMPTS`, `AUTH_BUSY`.
    pub(super) async fn write_as_owner(
        &self,
        own: Own<'_>,
        shown: Shown,
        steps: Vec<WriteStep>,
        deadline: Instant,
    ) -> Result<()> {
        if let Some(code) = shown.code {
            return self.write_by_code(own, &code, steps, deadline).await;
        }
        let rows = self.query(user_by_id(own.user), deadline).await?;
        let row = rows.rows.first().ok_or_else(account_gone)?;
        let (condition, refusal) = match (password_hash(row), shown.password) {
            (Some(kept), Some(password)) => {
                self.prove(own.user, own.device, password, Some(kept.clone()))
                    .await?;
                (still_has(own.user, Some(&kept)), wrong as fn() -> Error)
            }
            (Some(_), None) => return Err(password_required()),
            (None, _) => (self.is_fresh(own), sign_in_again as fn() -> Error),
        };
        let steps = std::iter::once(must(condition)).chain(steps);
        let written = self.write(steps.collect(), deadline).await;
        written.map_err(|error| if unchanged(&error) { refusal() } else { error })?;
        Ok(())
    }

    async fn write_by_code(
        &self,
        own: Own<'_>,
        code: &str,
        steps: Vec<WriteStep>,
        deadline: Instant,
    ) -> Result<()> {
        let factor = self.confirmed_factor(own.user, deadline).await?;
        let counted = self.guess_code(own.user, own.device)?;
        let spend = self.spend(own.user, &factor, code)?;
        let steps = std::iter::once(must(spend)).chain(steps);
        let written = self.write(steps.collect(), deadline).await;
        written.map_err(|error| if unchanged(&error) { invalid_code() } else { error })?;
        self.limits.was_right(&counted, &own.device.limit_key);
        Ok(())
    }

    /// Whether the account has no password and the session has just begun. Refreshing does not make it younger. To an
    /// anonymous account nobody can sign in again: its session is all that there is.
    fn is_fresh(&self, own: Own<'_>) -> Statement {
        Statement::new(
            "SELECT 1 FROM _alyx_sessions s JOIN _alyx_users u ON u.id = s.user_id \
             WHERE s.id = ?1 AND u.id = ?2 AND u.password_hash IS NULL AND (s.created_at >= ?3 OR u.role = 'anonymous')",
            vec![
                Value::text(own.session),
                Value::text(own.user),
                Value::text(format_timestamp(self.clock.now() - FRESH)),
            ],
        )
    }
}

fn password_required() -> Error {
    let message = "show that the account is yours: send its `password`, or a `code` of its second factor";
    Error::new(ErrorKind::InvalidInput, "PASSWORD_REQUIRED", message).with_field("password")
}

fn sign_in_again() -> Error {
    let message = "the account has no password that you could show: sign in to it again and repeat this within ten minutes";
    Error::new(ErrorKind::Forbidden, "FRESH_SIGN_IN_REQUIRED", message)
}
