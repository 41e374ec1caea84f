//! The one door: whoever has shown in one way who they are is let in here, or asked for their second factor.
//!
//! **Invariants:** a session is made by this file alone; which of the two it is follows from the account's row in the
//! very write that makes it, so no way of signing in and no moment passes by a second factor. A challenge is good
//! once, for five minutes and five tries.

use std::time::{Duration, Instant};

use alyx_auth::{new_secret, token_digest};
use alyx_core::{Error, ErrorKind, Result, Row, Statement, Value, format_timestamp, new_secret_id};
use alyx_store::WriteStep;
use serde::{Deserialize, Serialize};

use super::accounts::account_gone;
use super::second_factor::{Factor, invalid_code};
use super::sessions::{self, Device, Tokens};
use super::tables::{USER, User, seconds};
use super::{Auth, SignedIn, must, step, unchanged};

/// Sessions of one account; the one that was used longest ago makes place for one more.
const MAX_SESSIONS: i64 = 100;
/// Challenges of one account; the oldest makes place for one more.
const MAX_CHALLENGES: i64 = 100;
/// How long a challenge is good.
const LIFETIME: Duration = Duration::from_secs(300);
/// Codes that may be tried with one challenge.
const MAX_TRIES: i64 = 5;
/// Rows past their end that are removed with each one that is added.
const REMOVED_AT_ONCE: i64 = 16;
/// That the account `?2` has a second factor.
const HAS_SECOND_FACTOR: &str =
    "EXISTS (SELECT 1 FROM _alyx_second_factors WHERE user_id = ?2 AND confirmed_at IS NOT NULL)";

/// What becomes of somebody who has shown in one way who they are.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Admission {
    SignedIn(Box<SignedIn>),
    Challenged(Challenge),
}

/// What is answered with a code of the second factor.
#[derive(Debug, Serialize)]
pub(crate) struct Challenge {
    second_factor_required: bool,
    challenge: String,
    expires_at: String,
}

/// The answer.
#[derive(Deserialize)]
pub(crate) struct Answer {
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    code: String,
}

/// A session that is about to be: its row, and what its client gets once that is there.
struct NewSession {
    row: Vec<Value>,
    tokens: Tokens,
}

impl Auth {
    /// Lets somebody in once `before` is done, or asks for their second factor: all of it or nothing.
    ///
    /// Errors: those of the store, `DOCUMENT_NOT_FOUND` where a step of `before` that must do something did nothing.
    pub(super) async fn admit(
        &self,
        user: User,
        device: &Device,
        before: Vec<WriteStep>,
        deadline: Instant,
    ) -> Result<Admission> {
        let (session, challenge) = (self.new_session(&user, device)?, new_secret());
        let unless = format!("NOT {HAS_SECOND_FACTOR}");
        let mut steps = before;
        let at = steps.len();
        steps.extend([
            step(add_session(session.row, &unless)),
            step(self.add_challenge(&user.id, &challenge)),
        ]);
        steps.extend(self.tidy(&user.id));
        let reply = self.write(steps, deadline).await?;
        let done = |at: usize| reply.steps.get(at).is_some_and(|rows| rows.affected > 0);
        if done(at) {
            let tokens = session.tokens;
            return Ok(Admission::SignedIn(Box::new(SignedIn { user, tokens })));
        }
        if !done(at + 1) {
            return Err(account_gone());
        }
        Ok(Admission::Challenged(Challenge {
            second_factor_required: true,
            challenge,
            expires_at: format_timestamp(self.clock.now() + LIFETIME),
        }))
    }

    /// Lets somebody in who was asked for their second factor.
    ///
    /// Errors: `CHALLENGE_INVALID`, `INVALID_CODE`, `TOO_MANY_ATTEMPTS`.
    pub(crate) async fn answer(
        &self,
        answer: &Answer,
        device: &Device,
        deadline: Instant,
    ) -> Result<SignedIn> {
        self.signer()?;
        let challenge = digest(&answer.challenge);
        let (user, factor) = self.challenged(&challenge, deadline).await?;
        let counted = self.guess_code(&user.id, device)?;
        // Counted before the code is looked at, so that many at once do not all slip through.
        let count = Statement::new(
            "UPDATE _alyx_auth_challenges SET tries = tries + 1 WHERE digest = ?1 AND tries < ?2",
            vec![challenge.clone(), Value::Int(MAX_TRIES)],
        );
        let count = self.write(vec![must(count)], deadline).await;
        count.map_err(|error| {
            if unchanged(&error) {
                challenge_invalid()
            } else {
                error
            }
        })?;
        let spend = self.spend(&user.id, &factor, &answer.code)?;
        let use_up = Statement::new(
            "DELETE FROM _alyx_auth_challenges WHERE digest = ?1",
            vec![challenge],
        );
        let session = self.new_session(&user, device)?;
        let mut steps = vec![
            must(use_up),
            must(spend),
            must(add_session(session.row, HAS_SECOND_FACTOR)),
        ];
        steps.extend(self.tidy(&user.id));
        let written = self.write(steps, deadline).await;
        written.map_err(|error| if unchanged(&error) { invalid_code() } else { error })?;
        self.limits.was_right(&counted, &device.limit_key);
        let tokens = session.tokens;
        Ok(SignedIn { user, tokens })
    }

    async fn challenged(&self, challenge: &Value, deadline: Instant) -> Result<(User, Factor)> {
        let sql = format!(
            "SELECT {USER}, f.secret, f.confirmed_at FROM _alyx_auth_challenges c JOIN _alyx_users u ON u.id = c.user_id \
             JOIN _alyx_second_factors f ON f.user_id = u.id WHERE c.digest = ?1 AND c.expires_at > ?2 AND c.tries < ?3"
        );
        let params = vec![challenge.clone(), seconds(self.now()), Value::Int(MAX_TRIES)];
        let rows = self.query(Statement::new(sql, params), deadline).await?;
        let row: &Row = rows.rows.first().ok_or_else(challenge_invalid)?;
        Ok((User::read(row)?, Factor::read(row, 7)?))
    }

    fn new_session(&self, user: &User, device: &Device) -> Result<NewSession> {
        let id = new_secret_id();
        let tokens = self.tokens(user, &id)?;
        let row = vec![
            Value::text(id),
            Value::text(user.id.as_str()),
            sessions::digest(&tokens.refresh_token),
            Value::text(self.clock.timestamp()),
            seconds(self.now() + self.settings.jwt.refresh_ttl.as_secs()),
            device.agent.clone().into(),
            Value::text(device.address.as_str()),
        ];
        Ok(NewSession { row, tokens })
    }

    fn add_challenge(&self, user: &str, challenge: &str) -> Statement {
        Statement::new(
            format!(
                "INSERT INTO _alyx_auth_challenges (digest, user_id, expires_at) SELECT ?1, ?2, ?3 \
                 WHERE {HAS_SECOND_FACTOR}"
            ),
            vec![
                digest(challenge),
                Value::text(user),
                seconds(self.now() + LIFETIME.as_secs()),
            ],
        )
    }

    /// Removes what is past its end, and what is more than an account may have.
    fn tidy(&self, user: &str) -> Vec<WriteStep> {
        let old = |table: &str, key: &str| {
            let sql = format!(
                "DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE expires_at <= ?1 \
                 ORDER BY expires_at LIMIT ?2)"
            );
            step(Statement::new(
                sql,
                vec![seconds(self.now()), Value::Int(REMOVED_AT_ONCE)],
            ))
        };
        let many = |table: &str, (key, order): (&str, &str), most: i64| {
            let sql = format!(
                "DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE user_id = ?1 \
                 ORDER BY {order} DESC, rowid DESC LIMIT -1 OFFSET ?2)"
            );
            step(Statement::new(sql, vec![Value::text(user), Value::Int(most)]))
        };
        let (sessions, challenges) = ("_alyx_sessions", "_alyx_auth_challenges");
        vec![
            old(sessions, "id"),
            old(challenges, "digest"),
            many(sessions, ("id", "used_at"), MAX_SESSIONS),
            many(challenges, ("digest", "expires_at"), MAX_CHALLENGES),
        ]
    }
}

/// Adds a session to an account as long as `condition` holds for it.
fn add_session(row: Vec<Value>, condition: &str) -> Statement {
    Statement::new(
        format!(
            "INSERT INTO _alyx_sessions (id, user_id, refresh_digest, created_at, used_at, expires_at, user_agent, \
             ip_address) SELECT ?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7 WHERE {condition}"
        ),
        row,
    )
}

/// Ends the sign-ins of an account that wait for its second factor.
pub(super) fn end_challenges(user: &str) -> WriteStep {
    step(Statement::new(
        "DELETE FROM _alyx_auth_challenges WHERE user_id = ?1",
        vec![Value::text(user)],
    ))
}

fn challenge_invalid() -> Error {
    let message = "the challenge is wrong, was answered before, had too many wrong answers, or is too old: sign in again";
    Error::new(ErrorKind::Unauthenticated, "CHALLENGE_INVALID", message)
}

fn digest(challenge: &str) -> Value {
    Value::Blob(token_digest(&format!("challenge {challenge}")).as_slice().into())
}
