//! Who the owners of accounts are at other providers, and which account somebody is who comes from one.
//!
//! **Invariant:** an address joins somebody to an account only where the provider says that it is theirs *and* the
//! account has shown that it is its owner's. An account that a stranger has made with somebody's address is neither
//! joined nor taken over.

use std::time::Instant;

use alyx_core::{Error, ErrorKind, Result, Statement, Value, new_uuid_v7};
use alyx_store::WriteStep;
use serde::Serialize;

use super::accounts::{email_not_verified, insert};
use super::admission::Admission;
use super::oauth::External;
use super::sessions::Device;
use super::tables::{USER, User, user_by_email};
use super::{Auth, must, step, unchanged};

/// Times that a login is begun again because somebody else did the same at the same moment.
const TRIES: u32 = 3;

/// One of the providers that an account is signed into by.
#[derive(Debug, Serialize)]
pub(crate) struct IdentityEntry {
    provider: String,
    /// The address there, where the provider said that it is theirs.
    email: Option<String>,
    created_at: String,
}

/// What a login by a provider means.
struct Resolved {
    user: User,
    steps: Vec<WriteStep>,
}

impl Auth {
    /// Signs in somebody who comes from a provider, together with `first`; makes an account where there is none.
    ///
    /// Errors: `OAUTH_EMAIL_TAKEN`, `REGISTRATION_CLOSED`, `EMAIL_NOT_VERIFIED`, `TOO_MANY_ATTEMPTS`, and
    /// `DOCUMENT_NOT_FOUND` where `first` found nothing to do.
    pub(super) async fn sign_in_by(
        &self,
        external: &External,
        first: Option<WriteStep>,
        device: &Device,
        deadline: Instant,
    ) -> Result<Admission> {
        for _ in 1..TRIES {
            match self
                .try_sign_in_by(external, first.clone(), device, deadline)
                .await
            {
                // The same login elsewhere was quicker: now there is an account to be found.
                Err(error) if error.code() == "UNIQUE_VIOLATION" => {}
                done => return done,
            }
        }
        let done = self.try_sign_in_by(external, first, device, deadline).await;
        done.map_err(identity_taken)
    }

    async fn try_sign_in_by(
        &self,
        external: &External,
        first: Option<WriteStep>,
        device: &Device,
        deadline: Instant,
    ) -> Result<Admission> {
        let resolved = self.resolve(external, device, deadline).await?;
        let user = resolved.user;
        if self.settings.require_verification && !user.verified {
            return Err(email_not_verified());
        }
        let steps = first.into_iter().chain(resolved.steps);
        self.admit(user, device, steps.collect(), deadline).await
    }

    /// Whose account it is. What was read for that is checked again by the steps.
    async fn resolve(&self, external: &External, device: &Device, deadline: Instant) -> Result<Resolved> {
        let known = Statement::new(
            format!(
                "SELECT {USER} FROM _alyx_identities i JOIN _alyx_users u ON u.id = i.user_id \
                 WHERE i.provider = ?1 AND i.subject = ?2"
            ),
            names(external),
        );
        if let Some(row) = self.query(known, deadline).await?.rows.first() {
            let user = User::read(row)?;
            let mut params = names(external);
            params.push(Value::text(user.id.as_str()));
            let still = Statement::new(
                "SELECT 1 FROM _alyx_identities WHERE provider = ?1 AND subject = ?2 AND user_id = ?3",
                params,
            );
            return Ok(Resolved {
                user,
                steps: vec![must(still)],
            });
        }
        if let Some(email) = &external.email
            && let Some(row) = self.query(user_by_email(email), deadline).await?.rows.first()
        {
            let user = User::read(row)?;
            if !user.verified {
                return Err(email_taken());
            }
            let steps = vec![must(self.join(external, &user.id, Some(email)))];
            return Ok(Resolved { user, steps });
        }
        self.newcomer(external, device, deadline).await
    }

    async fn newcomer(&self, external: &External, device: &Device, deadline: Instant) -> Result<Resolved> {
        self.may_register(deadline).await?;
        if self.settings.require_verification && external.email.is_none() {
            return Err(email_not_verified());
        }
        self.limits.register(&device.limit_key)?;
        let at = self.clock.timestamp();
        let user = User {
            id: new_uuid_v7(),
            // An address that the provider does not vouch for may be anybody's.
            email: external.email.clone(),
            verified: external.email.is_some(),
            role: "user".to_owned(),
            metadata: serde_json::Map::new(),
            created_at: at.clone(),
            updated_at: at,
        };
        let add = insert(&user, None, "{}".to_owned());
        let steps = vec![must(add), must(self.join(external, &user.id, None))];
        Ok(Resolved { user, steps })
    }

    /// Joins somebody to an account, as long as there is one; where `email` is given, as long as it is the account's
    /// and verified.
    fn join(&self, external: &External, user: &str, email: Option<&str>) -> Statement {
        let mut params = names(external);
        params.extend([
            Value::text(user),
            external.email.clone().into(),
            Value::text(self.clock.timestamp()),
        ]);
        let mut sql = "INSERT INTO _alyx_identities (provider, subject, user_id, email, created_at) \
                       SELECT ?1, ?2, ?3, ?4, ?5 FROM _alyx_users WHERE id = ?3"
            .to_owned();
        if let Some(email) = email {
            params.push(Value::text(email));
            sql.push_str(" AND verified = 1 AND email = ?6");
        }
        Statement::new(sql, params)
    }

    /// Joins somebody to the account that they have signed in to, together with `first`; an anonymous one becomes real.
    ///
    /// Errors: `IDENTITY_TAKEN`, those of [`Self::upgrade_by`], and `DOCUMENT_NOT_FOUND` where `first` found nothing to do.
    pub(super) async fn link(
        &self,
        user: &str,
        external: &External,
        first: WriteStep,
        deadline: Instant,
    ) -> Result<()> {
        let mut steps = vec![first, must(self.join(external, user, None))];
        steps.extend(self.upgrade_by(user, external, deadline).await?);
        let written = self.write(steps, deadline).await;
        written.map(|_| ()).map_err(identity_taken)
    }

    /// The providers that an account is signed into by.
    pub(crate) async fn identities(&self, user: &str, deadline: Instant) -> Result<Vec<IdentityEntry>> {
        let all = Statement::new(
            "SELECT provider, email, created_at FROM _alyx_identities WHERE user_id = ?1 ORDER BY provider",
            vec![Value::text(user)],
        );
        let rows = self.query(all, deadline).await?;
        let entries = rows.rows.iter().map(|row| {
            let text = |at: usize| row.get(at).and_then(Value::as_text).map(str::to_owned);
            IdentityEntry {
                provider: text(0).unwrap_or_default(),
                email: text(1),
                created_at: text(2).unwrap_or_default(),
            }
        });
        Ok(entries.collect())
    }

    /// Takes a provider away from an account that can still be signed into.
    ///
    /// Errors: `IDENTITY_NOT_FOUND`, `LAST_SIGN_IN_METHOD`.
    pub(crate) async fn unlink(&self, user: &str, provider: &str, deadline: Instant) -> Result<()> {
        let by_mail = i64::from(self.post.is_on());
        let params = || vec![Value::text(user), Value::text(provider)];
        let mut remove = params();
        remove.push(Value::Int(by_mail));
        let remove = Statement::new(
            "DELETE FROM _alyx_identities WHERE user_id = ?1 AND provider = ?2 AND (EXISTS (SELECT 1 FROM _alyx_users \
             WHERE id = ?1 AND (password_hash IS NOT NULL OR verified = 1 AND email IS NOT NULL AND ?3 = 1)) \
             OR EXISTS (SELECT 1 FROM _alyx_identities WHERE user_id = ?1 AND provider <> ?2))",
            remove,
        );
        match self.write(vec![must(remove)], deadline).await {
            Ok(_) => return Ok(()),
            Err(error) if unchanged(&error) => {}
            Err(error) => return Err(error),
        }
        let there = Statement::new(
            "SELECT 1 FROM _alyx_identities WHERE user_id = ?1 AND provider = ?2",
            params(),
        );
        if self.query(there, deadline).await?.rows.is_empty() {
            let message = "the account is not signed into by this provider";
            return Err(Error::new(ErrorKind::NotFound, "IDENTITY_NOT_FOUND", message));
        }
        let message =
            "nobody could sign in to the account any more: set a password or link another provider first";
        Err(Error::new(ErrorKind::Conflict, "LAST_SIGN_IN_METHOD", message))
    }
}

/// Takes everything away from an account by which somebody could sign in to it who made it with another's address.
pub(super) fn forget_identities(user: &str) -> WriteStep {
    step(Statement::new(
        "DELETE FROM _alyx_identities WHERE user_id = ?1",
        vec![Value::text(user)],
    ))
}

fn names(external: &External) -> Vec<Value> {
    vec![
        Value::text(external.provider.as_str()),
        Value::text(external.subject.as_str()),
    ]
}

fn email_taken() -> Error {
    let message = "an account with your address exists whose address was never verified: sign in to it, or by a link in a \
                   mail, and link the provider there";
    Error::new(ErrorKind::Conflict, "OAUTH_EMAIL_TAKEN", message)
}

fn identity_taken(error: Error) -> Error {
    if error.code() != "UNIQUE_VIOLATION" {
        return error;
    }
    let message =
        "this is linked to another account already, or the account to somebody else at this provider";
    Error::new(ErrorKind::Conflict, "IDENTITY_TAKEN", message)
}
