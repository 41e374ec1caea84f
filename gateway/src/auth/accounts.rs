//! Accounts: registering, signing in, changing the password, leaving.
//!
//! **Invariant:** whether an account exists shows neither in the answer nor in the time of a login: the same is looked
//! up, hashed and said.

use std::time::Instant;

use alyx_auth::{Verdict, hash_password, verify_nobody, verify_password};
use alyx_core::{Error, ErrorKind, Result, Statement, Value, new_uuid_v7};
use serde::Serialize;

use super::admission::Admission;
use super::credentials::{Checked, Credentials};
use super::identities::forget_identities;
use super::identity::refuse;
use super::reauthentication::{Own, Shown};
use super::second_factor::forget_second_factor;
use super::sessions::{Device, Tokens, end_others};
use super::tables::{User, password_hash, user_by_email, user_by_id};
use super::{Auth, must, step, unchanged};

/// The reply to whoever has signed in.
#[derive(Debug, Clone)]
pub(crate) struct SignedIn {
    pub(crate) user: User,
    pub(crate) tokens: Tokens,
}

/// Tokens are also told flat, as generic clients look for them.
impl Serialize for SignedIn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Reply<'a> {
            user: &'a User,
            tokens: &'a Tokens,
            #[serde(flatten)]
            flat: &'a Tokens,
        }
        let Self { user, tokens } = self;
        let flat = tokens;
        Reply { user, tokens, flat }.serialize(serializer)
    }
}

/// What became of a registration.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Registration {
    /// It is signed in: what is new has no second factor.
    Admitted(Admission),
    /// Whoever has the address may sign in once it is verified. The same is said where it has an account already.
    Unverified { email: String },
}

/// What anybody may know.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    needs_setup: bool,
    allow_registration: bool,
}

impl Auth {
    /// Whether there are accounts, and whether there may be more.
    pub(crate) async fn status(&self, deadline: Instant) -> Result<Status> {
        self.signer()?;
        let needs_setup = self.is_empty(deadline).await?;
        Ok(Status {
            needs_setup,
            allow_registration: self.settings.allow_registration,
        })
    }

    async fn is_empty(&self, deadline: Instant) -> Result<bool> {
        // Anonymous accounts are nobody's: they have neither.
        let any =
            "SELECT 1 FROM _alyx_users WHERE email > '' UNION ALL SELECT 1 FROM _alyx_identities LIMIT 1";
        let any = Statement::new(any, Vec::new());
        Ok(self.query(any, deadline).await?.rows.is_empty())
    }

    /// Whether there may be one more account. The first may register all the same: otherwise nobody could begin.
    ///
    /// Errors: `REGISTRATION_CLOSED`.
    pub(super) async fn may_register(&self, deadline: Instant) -> Result<()> {
        if self.settings.allow_registration || self.is_empty(deadline).await? {
            return Ok(());
        }
        let message = "this server takes no registrations";
        Err(Error::new(ErrorKind::Forbidden, "REGISTRATION_CLOSED", message))
    }

    /// Makes an account.
    ///
    /// Errors: of the credentials and the policy, `REGISTRATION_CLOSED`, `USER_EXISTS`, `TOO_MANY_ATTEMPTS`, `AUTH_BUSY`.
    pub(crate) async fn register(
        &self,
        credentials: Credentials,
        device: &Device,
        deadline: Instant,
    ) -> Result<Registration> {
        self.signer()?;
        self.may_register(deadline).await?;
        let Checked {
            email,
            password,
            metadata,
        } = credentials.check()?;
        self.policy.check(&password)?;
        self.limits.register(&device.limit_key)?;
        let hash = self.hashing.run(move || hash_password(&password)).await?;
        let at = self.clock.timestamp();
        let user = User {
            id: new_uuid_v7(),
            email: Some(email),
            verified: false,
            role: "user".to_owned(),
            metadata: serde_json::from_str(&metadata).map_err(Error::internal)?,
            created_at: at.clone(),
            updated_at: at,
        };
        let add = must(insert(&user, Some(&hash), metadata));
        let email = user.email.clone().unwrap_or_default();
        if self.settings.require_verification {
            match self.write(vec![add], deadline).await {
                Err(error) if error.code() != "UNIQUE_VIOLATION" => return Err(error),
                Ok(_) | Err(_) => self.offer_verification(&email),
            }
            return Ok(Registration::Unverified { email });
        }
        let admission = self.admit(user, device, vec![add], deadline).await;
        let admission = admission.map_err(taken)?;
        self.offer_verification(&email);
        Ok(Registration::Admitted(admission))
    }

    /// Signs in.
    ///
    /// Errors: of the credentials, `INVALID_CREDENTIALS`, `EMAIL_NOT_VERIFIED`, `TOO_MANY_ATTEMPTS`, `AUTH_BUSY`.
    pub(crate) async fn login(
        &self,
        credentials: Credentials,
        device: &Device,
        deadline: Instant,
    ) -> Result<Admission> {
        self.signer()?;
        let Checked { email, password, .. } = credentials.check()?;
        let rows = self.query(user_by_email(&email), deadline).await?;
        let known = rows.rows.first();
        let kept = known.and_then(password_hash);
        let proof = self.prove(&email, device, password, kept.clone()).await?;
        let Some(user) = known.map(User::read).transpose()? else {
            return Err(wrong());
        };
        if self.settings.require_verification && !user.verified {
            return Err(email_not_verified());
        }
        // Between the look and the write the password may have been changed, by whoever noticed a theft.
        let mut steps = vec![must(still_has(&user.id, kept.as_deref()))];
        if let Some(hash) = proof.better {
            steps.push(step(set_password(&user.id, &hash)));
        }
        let admission = self.admit(user, device, steps, deadline).await;
        admission.map_err(|error| if unchanged(&error) { wrong() } else { error })
    }

    /// Whether somebody knows the password whose hash is `kept`; what counts guesses knows them as `account`.
    ///
    /// Errors: `INVALID_CREDENTIALS`, `TOO_MANY_ATTEMPTS`, `AUTH_BUSY`.
    pub(super) async fn prove(
        &self,
        account: &str,
        device: &Device,
        password: String,
        kept: Option<String>,
    ) -> Result<Proof> {
        self.limits.guess(account, &device.limit_key)?;
        let compared = self
            .hashing
            .run(move || match kept {
                Some(kept) => {
                    let verdict = verify_password(&password, &kept);
                    let old = verdict == Verdict::RightButOld;
                    (verdict != Verdict::Wrong, old.then(|| hash_password(&password)))
                }
                None => {
                    verify_nobody(&password);
                    (false, None)
                }
            })
            .await;
        let (right, better) =
            compared.inspect_err(|_| self.limits.was_not_looked_at(account, &device.limit_key))?;
        if !right {
            return Err(wrong());
        }
        self.limits.was_right(account, &device.limit_key);
        Ok(Proof { better })
    }

    /// The account of a session, as it is now.
    pub(crate) async fn user(&self, id: &str, deadline: Instant) -> Result<User> {
        let rows = self.query(user_by_id(id), deadline).await?;
        rows.rows.first().map_or_else(|| Err(account_gone()), User::read)
    }

    /// Gives an account another password and ends its other sessions.
    ///
    /// Errors: of the policy, `INVALID_CREDENTIALS` where `current` is not its password, `TOO_MANY_ATTEMPTS`,
    /// `AUTH_BUSY`.
    pub(crate) async fn change_password(
        &self,
        (user, session): (&str, &str),
        (current, new): (String, String),
        device: &Device,
        deadline: Instant,
    ) -> Result<()> {
        self.policy.check(&new)?;
        let kept = self.prove_again(user, current, device, deadline).await?;
        let hash = self.hashing.run(move || hash_password(&new)).await?;
        let mut steps = vec![
            must(still_has(user, kept.as_deref())),
            must(set_password(user, &hash)),
        ];
        steps.extend(end_others(user, session));
        let written = self.write(steps, deadline).await;
        written
            .map(|_| ())
            .map_err(|error| if unchanged(&error) { wrong() } else { error })
    }

    /// Removes an account with everything that belongs to it here.
    ///
    /// Errors: those of [`Self::write_as_owner`].
    pub(crate) async fn delete_account(&self, own: Own<'_>, shown: Shown, deadline: Instant) -> Result<()> {
        let by_id = |sql: &str| step(Statement::new(sql, vec![Value::text(own.user)]));
        let mut steps = vec![
            by_id("DELETE FROM _alyx_sessions WHERE user_id = ?1"),
            by_id("DELETE FROM _alyx_auth_tokens WHERE user_id = ?1"),
            forget_identities(own.user),
        ];
        steps.extend(forget_second_factor(own.user));
        steps.push(by_id("DELETE FROM _alyx_users WHERE id = ?1"));
        self.write_as_owner(own, shown, steps, deadline).await
    }

    /// Whether whoever has signed in still knows the password; its hash.
    async fn prove_again(
        &self,
        user: &str,
        password: String,
        device: &Device,
        deadline: Instant,
    ) -> Result<Option<String>> {
        let rows = self.query(user_by_id(user), deadline).await?;
        let row = rows.rows.first().ok_or_else(account_gone)?;
        let kept = password_hash(row);
        self.prove(user, device, password, kept.clone()).await?;
        Ok(kept)
    }
}

/// Somebody knows a password.
pub(super) struct Proof {
    /// A hash of it to keep in place of the one that is kept.
    better: Option<String>,
}

/// A new account; without `hash` it has no password.
pub(super) fn insert(user: &User, hash: Option<&str>, metadata: String) -> Statement {
    Statement::new(
        "INSERT INTO _alyx_users (id, email, password_hash, verified, role, metadata, created_at, updated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        vec![
            Value::text(user.id.as_str()),
            user.email.clone().into(),
            hash.map_or(Value::Null, Value::text),
            Value::Int(i64::from(user.verified)),
            Value::text(user.role.as_str()),
            Value::text(metadata),
            Value::text(user.created_at.as_str()),
            Value::text(user.updated_at.as_str()),
        ],
    )
}

fn set_password(user: &str, hash: &str) -> Statement {
    Statement::new(
        "UPDATE _alyx_users SET password_hash = ?2 WHERE id = ?1",
        vec![Value::text(user), Value::text(hash)],
    )
}

pub(super) fn still_has(user: &str, hash: Option<&str>) -> Statement {
    Statement::new(
        "SELECT 1 FROM _alyx_users WHERE id = ?1 AND password_hash IS ?2",
        vec![Value::text(user), hash.map_or(Value::Null, Value::text)],
    )
}

/// Says the same whether the account or the password is wrong.
pub(super) fn wrong() -> Error {
    refuse(
        "INVALID_CREDENTIALS",
        "the e-mail address or the password is wrong",
    )
}

pub(super) fn email_not_verified() -> Error {
    let message = "this account's e-mail address is not verified yet";
    Error::new(ErrorKind::Forbidden, "EMAIL_NOT_VERIFIED", message)
}

pub(super) fn account_gone() -> Error {
    refuse("TOKEN_REVOKED", "this session has ended: sign in again")
}

pub(super) fn taken(error: Error) -> Error {
    if error.code() != "UNIQUE_VIOLATION" {
        return error;
    }
    let message = "an account with this e-mail address exists already: sign in, or choose another address";
    Error::new(ErrorKind::Conflict, "USER_EXISTS", message).with_field("email")
}
