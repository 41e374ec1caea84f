//! The second factor: codes of an authenticator app (TOTP), and recovery codes for whoever has lost it.
//!
//! A secret is made, and asked for at each sign-in from when a first code has confirmed it. **Invariants:** the code of
//! a step of time is good once, and so is a recovery code, because its use is a condition of the write that it is
//! good for; secrets are kept sealed, recovery codes as digests. Setting another password does not remove it.

use std::time::Instant;

use alyx_auth::{new_recovery_code, new_totp_secret, recovery_code, token_digest, totp_step, totp_uri};
use alyx_core::{Error, ErrorKind, Result, Row, Statement, Value};
use alyx_store::WriteStep;
use serde::Serialize;

use super::admission::end_challenges;
use super::identity::refuse;
use super::reauthentication::{Own, Shown};
use super::sessions::Device;
use super::{Auth, must, step, unchanged};

/// Recovery codes of an account.
const RECOVERY_CODES: usize = 10;

/// The row of an account's second factor.
pub(super) struct Factor {
    /// Sealed.
    secret: String,
    confirmed_at: Option<String>,
}

/// A secret that is to be confirmed; shown once.
#[derive(Serialize)]
pub(crate) struct Enrolment {
    secret: String,
    /// What an app reads, mostly as a QR code.
    uri: String,
}

/// Shown once.
#[derive(Serialize)]
pub(crate) struct RecoveryCodes {
    recovery_codes: Vec<String>,
}

/// How an account is guarded.
#[derive(Serialize)]
pub(crate) struct FactorStatus {
    enabled: bool,
    enabled_at: Option<String>,
    /// How many are left.
    recovery_codes: i64,
}

impl Factor {
    /// Columns `secret` and `confirmed_at` of a row, from there on.
    pub(super) fn read(row: &Row, at: usize) -> Result<Self> {
        let text = |at: usize| row.get(at).and_then(Value::as_text).map(str::to_owned);
        Ok(Self {
            secret: text(at).ok_or_else(|| Error::internal("a second factor has no secret"))?,
            confirmed_at: text(at + 1),
        })
    }
}

impl Auth {
    /// The second factor of an account, confirmed or not.
    async fn factor(&self, user: &str, deadline: Instant) -> Result<Option<Factor>> {
        let find = Statement::new(
            "SELECT secret, confirmed_at FROM _alyx_second_factors WHERE user_id = ?1",
            vec![Value::text(user)],
        );
        let rows = self.query(find, deadline).await?;
        rows.rows.first().map(|row| Factor::read(row, 0)).transpose()
    }

    /// The second factor that an account is asked for.
    ///
    /// Errors: `SECOND_FACTOR_NOT_FOUND`.
    pub(super) async fn confirmed_factor(&self, user: &str, deadline: Instant) -> Result<Factor> {
        let factor = self.factor(user, deadline).await?;
        let factor = factor.filter(|factor| factor.confirmed_at.is_some());
        factor.ok_or_else(not_found)
    }

    /// Whether an account has one, and how many recovery codes are left.
    pub(crate) async fn factor_status(&self, user: &str, deadline: Instant) -> Result<FactorStatus> {
        let count = Statement::new(
            "SELECT count(*) FROM _alyx_recovery_codes WHERE user_id = ?1",
            vec![Value::text(user)],
        );
        let factor = self.factor(user, deadline).await?;
        let enabled_at = factor.and_then(|factor| factor.confirmed_at);
        let rows = self.query(count, deadline).await?;
        let count = rows.rows.first().and_then(|row| row.first());
        Ok(FactorStatus {
            enabled: enabled_at.is_some(),
            recovery_codes: count.and_then(Value::as_int).unwrap_or_default(),
            enabled_at,
        })
    }

    /// Makes a secret, in place of one that was never confirmed.
    ///
    /// Errors: `SECOND_FACTOR_ENABLED`, those of [`Self::write_as_owner`].
    pub(crate) async fn enrol(&self, own: Own<'_>, shown: Shown, deadline: Instant) -> Result<Enrolment> {
        let user = self.user(own.user, deadline).await?;
        let factor = self.factor(own.user, deadline).await?;
        if factor.is_some_and(|factor| factor.confirmed_at.is_some()) {
            let message = "the account has a second factor: remove it first (DELETE /api/auth/second-factor)";
            return Err(Error::new(ErrorKind::Conflict, "SECOND_FACTOR_ENABLED", message));
        }
        let secret = new_totp_secret();
        let sealed = self
            .signer()?
            .sealer()
            .seal(&purpose(own.user), secret.as_bytes());
        let keep = Statement::new(
            "INSERT INTO _alyx_second_factors (user_id, secret) VALUES (?1, ?2) ON CONFLICT (user_id) \
             DO UPDATE SET secret = excluded.secret, last_step = 0 WHERE confirmed_at IS NULL",
            vec![Value::text(own.user), Value::text(sealed)],
        );
        self.write_as_owner(own, shown, vec![must(keep)], deadline)
            .await?;
        let name = user.email.as_deref().unwrap_or(&user.id);
        Ok(Enrolment {
            uri: totp_uri(&self.settings.second_factor_issuer, name, &secret),
            secret,
        })
    }

    /// Has a secret asked for from now on, because its owner's app shows its codes.
    ///
    /// Errors: `SECOND_FACTOR_NOT_FOUND` where none waits for that, `INVALID_CODE`, `TOO_MANY_ATTEMPTS`.
    pub(crate) async fn confirm(
        &self,
        user: &str,
        code: &str,
        device: &Device,
        deadline: Instant,
    ) -> Result<RecoveryCodes> {
        let factor = self.factor(user, deadline).await?;
        let factor = factor.filter(|factor| factor.confirmed_at.is_none());
        let factor = factor.ok_or_else(not_found)?;
        let counted = self.guess_code(user, device)?;
        let step = self.step_of(user, &factor, code)?;
        let confirm = Statement::new(
            "UPDATE _alyx_second_factors SET confirmed_at = ?2, last_step = ?3 \
             WHERE user_id = ?1 AND secret = ?4 AND confirmed_at IS NULL",
            vec![
                Value::text(user),
                Value::text(self.clock.timestamp()),
                step,
                Value::text(factor.secret),
            ],
        );
        let (codes, replace) = new_recovery_codes(user);
        let mut steps = vec![must(confirm)];
        steps.extend(replace);
        let written = self.write(steps, deadline).await;
        written.map_err(|error| if unchanged(&error) { not_found() } else { error })?;
        self.limits.was_right(&counted, &device.limit_key);
        Ok(codes)
    }

    /// Other recovery codes in place of those that are left.
    ///
    /// Errors: `SECOND_FACTOR_NOT_FOUND`, those of [`Self::write_as_owner`].
    pub(crate) async fn renew_recovery_codes(
        &self,
        own: Own<'_>,
        shown: Shown,
        deadline: Instant,
    ) -> Result<RecoveryCodes> {
        self.confirmed_factor(own.user, deadline).await?;
        let (codes, replace) = new_recovery_codes(own.user);
        self.write_as_owner(own, shown, replace.to_vec(), deadline)
            .await?;
        Ok(codes)
    }

    /// No longer asks for a second factor.
    ///
    /// Errors: `SECOND_FACTOR_NOT_FOUND`, those of [`Self::write_as_owner`].
    pub(crate) async fn disable(&self, own: Own<'_>, shown: Shown, deadline: Instant) -> Result<()> {
        self.confirmed_factor(own.user, deadline).await?;
        let remove = forget_second_factor(own.user).to_vec();
        self.write_as_owner(own, shown, remove, deadline).await
    }

    /// The same by an operator, for whoever has lost everything: `who` is an address or an id.
    ///
    /// Errors: `SECOND_FACTOR_NOT_FOUND`.
    pub(crate) async fn disable_by_operator(&self, who: &str, deadline: Instant) -> Result<()> {
        let email = alyx_auth::normalize_email(who).unwrap_or_default();
        let find = Statement::new(
            "SELECT f.user_id FROM _alyx_second_factors f JOIN _alyx_users u ON u.id = f.user_id \
             WHERE u.id = ?1 OR u.email = ?2",
            vec![Value::text(who), Value::text(email)],
        );
        let rows = self.query(find, deadline).await?;
        let user = rows.rows.first().and_then(|row| row.first());
        let user = user.and_then(Value::as_text).ok_or_else(not_found)?;
        self.write(forget_second_factor(user).to_vec(), deadline).await?;
        tracing::info!(
            user_id = user,
            "an operator has removed the second factor of an account"
        );
        Ok(())
    }

    /// A try to show a code; the name that it is counted by.
    ///
    /// Errors: `TOO_MANY_ATTEMPTS`.
    pub(super) fn guess_code(&self, user: &str, device: &Device) -> Result<String> {
        let counted = format!("second factor {user}");
        self.limits.guess(&counted, &device.limit_key)?;
        Ok(counted)
    }

    /// The statement that uses up a code of the app or a recovery code; it does nothing where that was used before.
    ///
    /// Errors: `INVALID_CODE`.
    pub(super) fn spend(&self, user: &str, factor: &Factor, code: &str) -> Result<Statement> {
        if let Some(code) = recovery_code(code) {
            return Ok(Statement::new(
                "DELETE FROM _alyx_recovery_codes WHERE user_id = ?1 AND digest = ?2",
                vec![Value::text(user), digest(user, &code)],
            ));
        }
        let step = self.step_of(user, factor, code)?;
        Ok(Statement::new(
            "UPDATE _alyx_second_factors SET last_step = ?2 \
             WHERE user_id = ?1 AND last_step < ?2 AND secret = ?3 AND confirmed_at IS NOT NULL",
            vec![Value::text(user), step, Value::text(factor.secret.as_str())],
        ))
    }

    /// The step of time whose code that is.
    fn step_of(&self, user: &str, factor: &Factor, code: &str) -> Result<Value> {
        let opened = self.signer()?.sealer().open(&purpose(user), &factor.secret);
        let Some(secret) = opened.and_then(|secret| String::from_utf8(secret).ok()) else {
            tracing::warn!(
                user_id = user,
                "the secret of a second factor was sealed by another key than `auth.jwt` has now; only its recovery codes \
                 are good"
            );
            return Err(invalid_code());
        };
        let code: String = code.chars().filter(|c| !c.is_whitespace()).take(16).collect();
        let step = totp_step(&secret, &code, self.now()).ok_or_else(invalid_code)?;
        i64::try_from(step).map(Value::Int).map_err(Error::internal)
    }
}

/// Takes the second factor from an account, and ends the sign-ins that wait for it.
pub(super) fn forget_second_factor(user: &str) -> [WriteStep; 3] {
    let by_user = |sql: &'static str| step(Statement::new(sql, vec![Value::text(user)]));
    [
        by_user("DELETE FROM _alyx_second_factors WHERE user_id = ?1"),
        by_user("DELETE FROM _alyx_recovery_codes WHERE user_id = ?1"),
        end_challenges(user),
    ]
}

/// Recovery codes, and the steps that put them in the place of those before.
fn new_recovery_codes(user: &str) -> (RecoveryCodes, [WriteStep; 2]) {
    let recovery_codes: Vec<String> = (0..RECOVERY_CODES).map(|_| new_recovery_code()).collect();
    let rows: Vec<String> = (0..RECOVERY_CODES)
        .map(|number| format!("(?1, ?{})", number + 2))
        .collect();
    let mut params = vec![Value::text(user)];
    params.extend(recovery_codes.iter().map(|code| digest(user, code)));
    let add = format!(
        "INSERT INTO _alyx_recovery_codes (user_id, digest) VALUES {}",
        rows.join(", ")
    );
    let remove = Statement::new(
        "DELETE FROM _alyx_recovery_codes WHERE user_id = ?1",
        vec![Value::text(user)],
    );
    let steps = [step(remove), must(Statement::new(add, params))];
    (RecoveryCodes { recovery_codes }, steps)
}

/// What a secret is sealed for: another account's does not open here.
fn purpose(user: &str) -> String {
    format!("totp {user}")
}

fn digest(user: &str, code: &str) -> Value {
    Value::Blob(token_digest(&format!("recovery {user} {code}")).as_slice().into())
}

pub(super) fn invalid_code() -> Error {
    refuse("INVALID_CODE", "the code is wrong, or was used before")
}

fn not_found() -> Error {
    let message = "there is no second factor that this is about";
    Error::new(ErrorKind::NotFound, "SECOND_FACTOR_NOT_FOUND", message)
}
