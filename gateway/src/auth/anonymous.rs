//! Accounts of those who have not said who they are: made without an address, kept by their session alone, and made
//! real by an address and a password, or by another provider.
//!
//! **Invariants:** an anonymous account keeps its id as it becomes real, and with it what it owns; it is never taken for
//! the first account of a server; nobody can sign in to it again, so it is removed once it was not used for
//! `auth.anonymous_ttl`. The last use stands in `updated_at`, which each refresh sets.

use std::time::{Duration, Instant};

use alyx_auth::hash_password;
use alyx_core::{Error, ErrorKind, Result, Statement, Value, format_timestamp, new_uuid_v7};
use alyx_store::WriteStep;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::accounts::{email_not_verified, insert, taken};
use super::credentials::{Checked, Credentials, metadata_text};
use super::oauth::External;
use super::reauthentication::Own;
use super::sessions::{Device, end_others};
use super::tables::{ANONYMOUS, User};
use super::{Admission, Auth, must, step, unchanged};

/// Accounts that are removed with each one that is made.
const REMOVED_AT_ONCE: i64 = 16;
/// Accounts that are removed from time to time.
const REMOVED_IN_TIME: i64 = 500;
/// Tables with rows of an account, itself last.
const ROWS: [(&str, &str); 7] = [
    ("_alyx_sessions", "user_id"),
    ("_alyx_auth_tokens", "user_id"),
    ("_alyx_identities", "user_id"),
    ("_alyx_auth_challenges", "user_id"),
    ("_alyx_recovery_codes", "user_id"),
    ("_alyx_second_factors", "user_id"),
    ("_alyx_users", "id"),
];

/// What an anonymous account may begin with.
#[derive(Default, Deserialize)]
pub(crate) struct Beginning {
    #[serde(default)]
    metadata: Option<Map<String, Json>>,
}

impl Auth {
    /// Makes an account for somebody who says nothing of themselves, and signs them in.
    ///
    /// Errors: `ANONYMOUS_DISABLED`, `INVALID_METADATA`, `TOO_MANY_ATTEMPTS`.
    pub(crate) async fn register_anonymously(
        &self,
        beginning: Beginning,
        device: &Device,
        deadline: Instant,
    ) -> Result<Admission> {
        self.signer()?;
        if !self.settings.allow_anonymous {
            let message = "this server has no anonymous accounts (`auth.allow_anonymous`)";
            return Err(Error::new(ErrorKind::Forbidden, "ANONYMOUS_DISABLED", message));
        }
        let metadata = metadata_text(beginning.metadata)?;
        self.limits.register(&device.limit_key)?;
        let at = self.clock.timestamp();
        let user = User {
            id: new_uuid_v7(),
            email: None,
            verified: false,
            role: ANONYMOUS.to_owned(),
            metadata: serde_json::from_str(&metadata).map_err(Error::internal)?,
            created_at: at.clone(),
            updated_at: at,
        };
        let mut steps = self.remove_unused(REMOVED_AT_ONCE);
        steps.push(must(insert(&user, None, metadata)));
        self.admit(user, device, steps, deadline).await
    }

    /// Makes an anonymous account a real one, and ends its other sessions.
    ///
    /// Errors: of the credentials and the policy, `NOT_ANONYMOUS`, `USER_EXISTS`, `REGISTRATION_CLOSED`,
    /// `EMAIL_NOT_VERIFIED`, `TOO_MANY_ATTEMPTS`, `AUTH_BUSY`.
    pub(crate) async fn upgrade(
        &self,
        own: Own<'_>,
        credentials: Credentials,
        deadline: Instant,
    ) -> Result<User> {
        let Checked { email, password, .. } = credentials.check()?;
        self.policy.check(&password)?;
        self.may_upgrade(deadline).await?;
        if self.user(own.user, deadline).await?.role != ANONYMOUS {
            return Err(not_anonymous());
        }
        self.limits.register(&own.device.limit_key)?;
        let hash = self.hashing.run(move || hash_password(&password)).await?;
        let upgrade = Statement::new(
            "UPDATE _alyx_users SET role = 'user', email = ?2, password_hash = ?3, updated_at = ?4 \
             WHERE id = ?1 AND role = 'anonymous'",
            vec![
                Value::text(own.user),
                Value::text(email.as_str()),
                Value::text(hash),
                Value::text(self.clock.timestamp()),
            ],
        );
        let mut steps = vec![must(upgrade)];
        steps.extend(end_others(own.user, own.session));
        let written = self.write(steps, deadline).await;
        written.map_err(|error| match unchanged(&error) {
            true => not_anonymous(),
            false => taken(error),
        })?;
        self.offer_verification(&email);
        self.user(own.user, deadline).await
    }

    /// Whether an account may be made real: that is a registration like any other.
    async fn may_upgrade(&self, deadline: Instant) -> Result<()> {
        if self.settings.require_verification {
            return Err(email_not_verified());
        }
        self.may_register(deadline).await
    }

    /// The steps that make an anonymous account real that a provider is linked to; none where it is real already.
    ///
    /// Errors: `REGISTRATION_CLOSED`, `EMAIL_NOT_VERIFIED`.
    pub(super) async fn upgrade_by(
        &self,
        user: &str,
        external: &External,
        deadline: Instant,
    ) -> Result<Vec<WriteStep>> {
        if self.user(user, deadline).await?.role != ANONYMOUS {
            return Ok(Vec::new());
        }
        if self.settings.require_verification && external.email.is_none() {
            return Err(email_not_verified());
        }
        self.may_register(deadline).await?;
        // An address that another account has stays its own.
        let take_address = Statement::new(
            "UPDATE _alyx_users SET email = ?2, verified = 1 WHERE id = ?1 AND role = 'anonymous' \
             AND ?2 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM _alyx_users WHERE email = ?2)",
            vec![Value::text(user), external.email.clone().into()],
        );
        let upgrade = Statement::new(
            "UPDATE _alyx_users SET role = 'user', updated_at = ?2 WHERE id = ?1 AND role = 'anonymous'",
            vec![Value::text(user), Value::text(self.clock.timestamp())],
        );
        Ok(vec![step(take_address), step(upgrade)])
    }

    /// The step that notes that an account is used, where its life depends on that.
    pub(super) fn note_use(&self, user: &User) -> Option<WriteStep> {
        let note = || {
            step(Statement::new(
                "UPDATE _alyx_users SET updated_at = ?2 WHERE id = ?1 AND role = 'anonymous'",
                vec![Value::text(user.id.as_str()), Value::text(self.clock.timestamp())],
            ))
        };
        (user.role == ANONYMOUS).then(note)
    }

    /// The steps that remove anonymous accounts that nobody has used for long, from time to time.
    pub(super) fn remove_unused_in_time(&self) -> Vec<WriteStep> {
        self.remove_unused(REMOVED_IN_TIME)
    }

    fn remove_unused(&self, most: i64) -> Vec<WriteStep> {
        // What never was possible is never long ago.
        let ttl = self.settings.anonymous_ttl.max(Duration::from_secs(1));
        let since = self.clock.now().checked_sub(ttl).map(format_timestamp);
        let params = || vec![since.clone().into(), Value::Int(most)];
        let remove = |(table, key): (&str, &str)| {
            let sql = format!(
                "DELETE FROM {table} WHERE {key} IN (SELECT id FROM _alyx_users WHERE role = 'anonymous' \
                 AND updated_at < ?1 ORDER BY updated_at, id LIMIT ?2)"
            );
            step(Statement::new(sql, params()))
        };
        ROWS.into_iter().map(remove).collect()
    }
}

fn not_anonymous() -> Error {
    let message = "the account is no anonymous one: it has become real already";
    Error::new(ErrorKind::Conflict, "NOT_ANONYMOUS", message)
}
