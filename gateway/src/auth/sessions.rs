//! Sessions: what shows that somebody has signed in, until it ends.
//!
//! A session has one refresh token at a time. **Invariant:** of all who use one, one gets the next; whoever uses one
//! that was used before ends the session, because one of the two has stolen it.

use std::time::Instant;

use alyx_auth::{Claims, TokenKind, new_secret, token_digest};
use alyx_core::{Error, ErrorKind, Result, Statement, Value, format_timestamp};
use alyx_store::WriteStep;
use serde::Serialize;

use super::admission::end_challenges;
use super::identity::{refuse, token_refused};
use super::tables::{User, seconds, user_by_session};
use super::{Auth, SignedIn, must, step, unchanged};

/// Longest `User-Agent` that is kept, in characters.
const MAX_AGENT: usize = 256;

/// Where somebody signs in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Device {
    /// `User-Agent`, cut to a length that can be kept.
    pub(crate) agent: Option<String>,
    /// The client's address.
    pub(crate) address: String,
    /// What limits count it by.
    pub(crate) limit_key: String,
}

impl Device {
    /// Cuts what is too long.
    pub(crate) fn new(agent: Option<&str>, address: std::net::IpAddr) -> Self {
        Self {
            agent: agent.map(|agent| agent.chars().take(MAX_AGENT).collect()),
            address: address.to_string(),
            limit_key: alyx_auth::limit_key(address),
        }
    }
}

/// What a client shows from now on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Tokens {
    access_token: String,
    pub(super) refresh_token: String,
    /// When the access token expires.
    expires_at: String,
    token_type: &'static str,
}

/// A session as its owner sees it.
#[derive(Debug, Serialize)]
pub(crate) struct SessionEntry {
    id: String,
    created_at: String,
    used_at: String,
    expires_at: String,
    user_agent: Option<String>,
    ip_address: Option<String>,
    /// Whether it is the one that asks.
    current: bool,
}

impl Auth {
    /// What the client of a session of that id shows.
    pub(super) fn tokens(&self, user: &User, session: &str) -> Result<Tokens> {
        let (signer, now) = (self.signer()?, self.now());
        let jwt = &self.settings.jwt;
        let claims = |typ: TokenKind, seconds: u64| Claims {
            iss: String::new(),
            aud: alyx_auth::Audience::default(),
            sub: user.id.clone(),
            sid: session.to_owned(),
            typ,
            jti: new_secret(),
            iat: now,
            nbf: now,
            exp: now + seconds,
            email: None,
            verified: false,
        };
        let access = Claims {
            email: user.email.clone(),
            verified: user.verified,
            ..claims(TokenKind::Access, jwt.access_ttl.as_secs())
        };
        Ok(Tokens {
            access_token: signer.sign(access),
            refresh_token: signer.sign(claims(TokenKind::Refresh, jwt.refresh_ttl.as_secs())),
            expires_at: format_timestamp(self.clock.now() + jwt.access_ttl),
            token_type: "Bearer",
        })
    }

    /// New tokens for a refresh token, which is used up.
    ///
    /// Errors: `INVALID_TOKEN`, `TOKEN_EXPIRED`, `SESSION_NOT_FOUND` where the session has ended, or ends now because
    /// the token was used before.
    pub(crate) async fn refresh(&self, token: &str, device: &Device, deadline: Instant) -> Result<SignedIn> {
        let now = self.now();
        let claims = self.signer()?.verify(token, TokenKind::Refresh, now);
        let claims = claims.map_err(token_refused)?;
        let rows = self.query(user_by_session(&claims.sid, now), deadline).await?;
        let user = rows.rows.first().map(User::read).transpose()?;
        let user = user
            .filter(|user| user.id == claims.sub)
            .ok_or_else(session_gone)?;
        let tokens = self.tokens(&user, &claims.sid)?;
        let turn = Statement::new(
            "UPDATE _alyx_sessions SET refresh_digest = ?3, used_at = ?4, expires_at = ?5, user_agent = ?6, \
             ip_address = ?7 WHERE id = ?1 AND refresh_digest = ?2",
            vec![
                Value::text(claims.sid.as_str()),
                digest(token),
                digest(&tokens.refresh_token),
                Value::text(self.clock.timestamp()),
                seconds(now + self.settings.jwt.refresh_ttl.as_secs()),
                device.agent.clone().into(),
                Value::text(device.address.as_str()),
            ],
        );
        let mut steps = vec![must(turn)];
        steps.extend(self.note_use(&user));
        match self.write(steps, deadline).await {
            Ok(_) => Ok(SignedIn { user, tokens }),
            Err(error) if unchanged(&error) => Err(self.used_before(&claims, token, deadline).await?),
            Err(error) => Err(error),
        }
    }

    /// Ends the session of a token that is not its own any more.
    async fn used_before(&self, claims: &Claims, token: &str, deadline: Instant) -> Result<Error> {
        let end = Statement::new(
            "DELETE FROM _alyx_sessions WHERE id = ?1 AND refresh_digest <> ?2",
            vec![Value::text(claims.sid.as_str()), digest(token)],
        );
        let reply = self.write(vec![step(end)], deadline).await?;
        if reply.steps.first().is_some_and(|rows| rows.affected > 0) {
            tracing::warn!(user_id = %claims.sub, "a refresh token was used twice; its session was ended");
        }
        Ok(session_gone())
    }

    /// Ends the session that a refresh token belongs to, or belonged to. Whatever the token is, nothing is told.
    pub(crate) async fn end_by_refresh_token(&self, token: &str, deadline: Instant) -> Result<()> {
        match self.signer()?.verify(token, TokenKind::Refresh, self.now()) {
            Ok(claims) => self
                .end_session(&claims.sub, &claims.sid, deadline)
                .await
                .map(|_| ()),
            Err(_) => Ok(()),
        }
    }

    /// Ends the session that an access token belongs to. Whatever the token is, nothing is told.
    pub(crate) async fn end_by_access_token(&self, token: &str, deadline: Instant) -> Result<()> {
        match self.signer()?.verify(token, TokenKind::Access, self.now()) {
            Ok(claims) => self
                .end_session(&claims.sub, &claims.sid, deadline)
                .await
                .map(|_| ()),
            Err(_) => Ok(()),
        }
    }

    /// Ends a session of an account; `false` where it has none of that name.
    pub(crate) async fn end_session(&self, user: &str, session: &str, deadline: Instant) -> Result<bool> {
        let end = Statement::new(
            "DELETE FROM _alyx_sessions WHERE id = ?1 AND user_id = ?2",
            vec![Value::text(session), Value::text(user)],
        );
        let reply = self.write(vec![step(end)], deadline).await?;
        Ok(reply.steps.first().is_some_and(|rows| rows.affected > 0))
    }

    /// Ends all sessions of an account but that one.
    pub(crate) async fn end_other_sessions(
        &self,
        user: &str,
        session: &str,
        deadline: Instant,
    ) -> Result<()> {
        let end = end_others(user, session).to_vec();
        self.write(end, deadline).await.map(|_| ())
    }

    /// The sessions of an account, the last used first.
    pub(crate) async fn sessions(
        &self,
        user: &str,
        current: &str,
        deadline: Instant,
    ) -> Result<Vec<SessionEntry>> {
        let all = Statement::new(
            "SELECT id, created_at, used_at, expires_at, user_agent, ip_address FROM _alyx_sessions \
             WHERE user_id = ?1 AND expires_at > ?2 ORDER BY used_at DESC, id",
            vec![Value::text(user), seconds(self.now())],
        );
        let rows = self.query(all, deadline).await?;
        rows.rows
            .iter()
            .map(|row| {
                let text = |at: usize| row.get(at).and_then(Value::as_text).map(str::to_owned);
                let ends = row.get(3).and_then(Value::as_int).unwrap_or_default();
                let ends = std::time::Duration::from_secs(u64::try_from(ends).unwrap_or_default());
                let id = text(0).ok_or_else(|| Error::internal("a session has no name"))?;
                Ok(SessionEntry {
                    current: id == current,
                    id,
                    created_at: text(1).unwrap_or_default(),
                    used_at: text(2).unwrap_or_default(),
                    expires_at: format_timestamp(std::time::UNIX_EPOCH + ends),
                    user_agent: text(4),
                    ip_address: text(5),
                })
            })
            .collect()
    }
}

/// Ends whatever else of an account is signed in, or about to be.
pub(super) fn end_others(user: &str, session: &str) -> [WriteStep; 2] {
    let others = Statement::new(
        "DELETE FROM _alyx_sessions WHERE user_id = ?1 AND id <> ?2",
        vec![Value::text(user), Value::text(session)],
    );
    [step(others), end_challenges(user)]
}

/// There is no such session of the account's.
pub(crate) fn no_such_session() -> Error {
    let message = "the account has no such session; it may have ended";
    Error::new(ErrorKind::NotFound, "SESSION_NOT_FOUND", message)
}

fn session_gone() -> Error {
    refuse("SESSION_NOT_FOUND", "this session has ended: sign in again")
}

pub(super) fn digest(token: &str) -> Value {
    Value::Blob(token_digest(token).as_slice().into())
}
