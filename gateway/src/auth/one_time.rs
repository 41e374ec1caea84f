//! Secrets that are good once: to verify an address, to set another password, to sign in without one.
//!
//! **Invariants:** what a secret does and its end are one write, so of all who use it one succeeds; a new one of a kind
//! ends the one before; only a digest is kept. Who signs in by mail shows that the address is theirs; a password,
//! providers and a second factor that somebody gave the account before that was shown are somebody else's, and are
//! removed.

use std::sync::Arc;
use std::time::Instant;

use alyx_auth::{hash_password, new_code, new_secret, normalize_email, token_digest};
use alyx_core::{Error, ErrorKind, Result, Row, Statement, Value};
use alyx_store::WriteStep;
use futures_util::StreamExt;
use futures_util::stream;
use serde::Deserialize;

use super::admission::end_challenges;
use super::identities::forget_identities;
use super::mail::{Letter, Purpose, Wish};
use super::second_factor::forget_second_factor;
use super::sessions::Device;
use super::tables::{USER, User, seconds, user_by_email};
use super::{Admission, Auth, must, step, unchanged};

/// Mails that are made and sent at the same time.
const AT_ONCE: usize = 8;
/// Longest time for making the secret of one.
const MAKE_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);
/// Secrets past their end that are removed with each one that is added.
const REMOVED_AT_ONCE: i64 = 16;

/// What somebody shows who signs in by mail.
#[derive(Deserialize)]
pub(crate) struct MailProof {
    /// Of the link.
    #[serde(default)]
    token: Option<String>,
    /// Of the code.
    #[serde(default)]
    email: String,
    #[serde(default)]
    code: String,
}

/// Sends what is asked for, as long as it is polled.
pub(crate) async fn send_mails(auth: Arc<Auth>) {
    let Some(queue) = auth.post.take_queue() else {
        return;
    };
    let wishes = stream::unfold(queue, async |mut queue| {
        queue.recv().await.map(|wish| (wish, queue))
    });
    wishes
        .for_each_concurrent(AT_ONCE, async |wish| {
            if let Err(error) = auth.fulfil(&wish).await {
                tracing::warn!(
                    code = error.code(),
                    purpose = wish.purpose.word(),
                    "a mail could not be made: {error}"
                );
            }
        })
        .await;
}

impl Auth {
    /// Has a mail sent to an account, where there is one with that address.
    ///
    /// Errors: `MAIL_NOT_CONFIGURED`, `EMAIL_REQUIRED`, `INVALID_EMAIL`, `TOO_MANY_ATTEMPTS`, `MAIL_BUSY`.
    pub(crate) fn ask_for_mail(&self, email: &str, purpose: Purpose, device: &Device) -> Result<()> {
        self.signer()?;
        let email = normalize_email(email)?;
        self.limits
            .mail(&format!("{} {email}", purpose.word()), &device.limit_key)?;
        self.post.ask(Wish { email, purpose })
    }

    /// The same of the server's own accord, where it sends mail at all.
    pub(super) fn offer_verification(&self, email: &str) {
        let wish = Wish {
            email: email.to_owned(),
            purpose: Purpose::Verify,
        };
        if self.post.is_on()
            && let Err(error) = self.post.ask(wish)
        {
            tracing::warn!(code = error.code(), "a verification could not be sent: {error}");
        }
    }

    async fn fulfil(&self, wish: &Wish) -> Result<()> {
        let deadline = Instant::now() + MAKE_WITHIN;
        let rows = self.query(user_by_email(&wish.email), deadline).await?;
        let Some(user) = rows.rows.first().map(User::read).transpose()? else {
            return Ok(());
        };
        if wish.purpose == Purpose::Verify && user.verified {
            return Ok(());
        }
        let (secret, code) = (new_secret(), new_code());
        let now = self.now();
        let remove = Statement::new(
            "DELETE FROM _alyx_auth_tokens WHERE user_id = ?1 AND purpose = ?2 OR digest IN \
             (SELECT digest FROM _alyx_auth_tokens WHERE expires_at <= ?3 LIMIT ?4)",
            vec![
                Value::text(user.id.as_str()),
                Value::text(wish.purpose.word()),
                seconds(now),
                Value::Int(REMOVED_AT_ONCE),
            ],
        );
        let code_digest = match wish.purpose {
            Purpose::Login => digest_of_code(&wish.email, &code),
            Purpose::Verify | Purpose::Reset => Value::Null,
        };
        let add = Statement::new(
            "INSERT INTO _alyx_auth_tokens (digest, user_id, purpose, code_digest, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            vec![
                digest(&secret),
                Value::text(user.id.as_str()),
                Value::text(wish.purpose.word()),
                code_digest,
                seconds(now + wish.purpose.lifetime()),
            ],
        );
        self.write(vec![step(remove), must(add)], deadline).await?;
        let letter = Letter {
            to: &wish.email,
            purpose: wish.purpose,
            secret: &secret,
            code: &code,
        };
        self.post.send(&letter).await;
        Ok(())
    }

    /// The account's address is its owner's.
    ///
    /// Errors: `LINK_INVALID`.
    pub(crate) async fn verify_email(&self, token: &str, deadline: Instant) -> Result<()> {
        self.signer()?;
        let owner = self.owner(digest(token), Purpose::Verify, deadline).await?;
        let verify = Statement::new(
            "UPDATE _alyx_users SET verified = 1, updated_at = ?2 WHERE id = ?1",
            vec![
                Value::text(owner.user.id.as_str()),
                Value::text(self.clock.timestamp()),
            ],
        );
        let steps = vec![use_up(&owner), must(verify)];
        self.write(steps, deadline).await.map(|_| ()).map_err(used_up)
    }

    /// Gives an account another password and ends all its sessions.
    ///
    /// Errors: `LINK_INVALID`, of the policy, `AUTH_BUSY`.
    pub(crate) async fn reset_password(
        &self,
        token: &str,
        password: String,
        deadline: Instant,
    ) -> Result<()> {
        self.signer()?;
        self.policy.check(&password)?;
        let owner = self.owner(digest(token), Purpose::Reset, deadline).await?;
        let hash = self.hashing.run(move || hash_password(&password)).await?;
        let user = || Value::text(owner.user.id.as_str());
        let set = Statement::new(
            "UPDATE _alyx_users SET password_hash = ?2, verified = 1, updated_at = ?3 WHERE id = ?1",
            vec![user(), Value::text(hash), Value::text(self.clock.timestamp())],
        );
        let end =
            |table: &str| Statement::new(format!("DELETE FROM {table} WHERE user_id = ?1"), vec![user()]);
        let mut effects = vec![
            use_up(&owner),
            must(set),
            step(end("_alyx_sessions")),
            step(end("_alyx_auth_tokens")),
            end_challenges(&owner.user.id),
        ];
        if !owner.user.verified {
            effects.extend(forget_strangers(&owner.user.id));
        }
        self.write(effects, deadline).await.map_err(used_up)?;
        // Whoever was locked out by somebody else's guesses gets in again.
        if let Some(email) = &owner.user.email {
            self.limits.forget(email);
        }
        Ok(())
    }

    /// Signs in by a link or a code of a mail.
    ///
    /// Errors: `LINK_INVALID`, `EMAIL_REQUIRED`, `INVALID_EMAIL`, `TOO_MANY_ATTEMPTS`.
    pub(crate) async fn login_by_mail(
        &self,
        proof: MailProof,
        device: &Device,
        deadline: Instant,
    ) -> Result<Admission> {
        self.signer()?;
        let owner = match proof.token {
            Some(token) => self.owner(digest(&token), Purpose::Login, deadline).await?,
            None => {
                let email = normalize_email(&proof.email)?;
                let guessed = format!("code {email}");
                // A code has a million values: few of them may be tried while it is good.
                self.limits.guess(&guessed, &device.limit_key)?;
                let owner = self.owner_by_code(&email, &proof.code, deadline).await?;
                self.limits.was_right(&guessed, &device.limit_key);
                owner
            }
        };
        let mut user = owner.user.clone();
        let by_id = |sql: &str| Statement::new(sql, vec![Value::text(user.id.as_str())]);
        let mut effects = vec![use_up(&owner)];
        if !user.verified {
            effects.push(step(by_id("DELETE FROM _alyx_sessions WHERE user_id = ?1")));
            effects.extend(forget_strangers(&user.id));
            effects.push(must(by_id(
                "UPDATE _alyx_users SET verified = 1, password_hash = NULL WHERE id = ?1",
            )));
        }
        user.verified = true;
        self.admit(user, device, effects, deadline).await.map_err(used_up)
    }

    async fn owner(&self, digest: Value, purpose: Purpose, deadline: Instant) -> Result<Owner> {
        let sql = format!(
            "SELECT {USER}, t.digest FROM _alyx_auth_tokens t JOIN _alyx_users u ON u.id = t.user_id \
             WHERE t.digest = ?1 AND t.purpose = ?2 AND t.expires_at > ?3"
        );
        let params = vec![digest, Value::text(purpose.word()), seconds(self.now())];
        self.find_owner(Statement::new(sql, params), deadline).await
    }

    async fn owner_by_code(&self, email: &str, code: &str, deadline: Instant) -> Result<Owner> {
        let sql = format!(
            "SELECT {USER}, t.digest FROM _alyx_users u JOIN _alyx_auth_tokens t ON t.user_id = u.id \
             WHERE u.email = ?1 AND t.purpose = ?2 AND t.expires_at > ?3 AND t.code_digest = ?4"
        );
        let params = vec![
            Value::text(email),
            Value::text(Purpose::Login.word()),
            seconds(self.now()),
            digest_of_code(email, code.trim()),
        ];
        self.find_owner(Statement::new(sql, params), deadline).await
    }

    async fn find_owner(&self, statement: Statement, deadline: Instant) -> Result<Owner> {
        let rows = self.query(statement, deadline).await?;
        let row = rows.rows.first().ok_or_else(invalid)?;
        Owner::read(row)
    }
}

/// Whose a secret is.
struct Owner {
    user: User,
    digest: Value,
}

impl Owner {
    fn read(row: &Row) -> Result<Self> {
        let digest = row.get(7).cloned();
        Ok(Self {
            user: User::read(row)?,
            digest: digest.ok_or_else(|| Error::internal("a one-time secret has no digest"))?,
        })
    }
}

/// The step that ends a secret, of the write that does what it is for.
fn use_up(owner: &Owner) -> WriteStep {
    let end = "DELETE FROM _alyx_auth_tokens WHERE digest = ?1";
    must(Statement::new(end, vec![owner.digest.clone()]))
}

fn used_up(error: Error) -> Error {
    if unchanged(&error) { invalid() } else { error }
}

/// Takes everything from an account that whoever had it before its address was shown may get in by, or keep its owner
/// out with.
fn forget_strangers(user: &str) -> Vec<WriteStep> {
    let mut steps = forget_second_factor(user).to_vec();
    steps.push(forget_identities(user));
    steps
}

fn invalid() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "LINK_INVALID",
        "the link or code is wrong, was used before, or is too old: ask for another one",
    )
}

fn digest(secret: &str) -> Value {
    Value::Blob(token_digest(secret).as_slice().into())
}

fn digest_of_code(email: &str, code: &str) -> Value {
    digest(&format!("{email}\n{code}"))
}
