//! From a request's token to who asks.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_auth::{Claims, TokenError, TokenKind};
use alyx_core::{Account, ApiToken, Caller, Error, ErrorKind, Permission, Result};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use lru::LruCache;
use parking_lot::Mutex;

use super::Auth;
use super::events::Gone;
use super::tables::{User, user_by_session};

/// Sessions that are remembered.
const MAX_REMEMBERED: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");
/// Tokens whose signature need not be checked again.
const MAX_CHECKED: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");
/// How long what is remembered is believed without news of changes.
const BELIEVED: Duration = Duration::from_millis(800);

/// Who may use a route: its row in the table of authorisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// Anybody. Tokens are not looked at, so a broken one does no harm.
    Anybody,
    /// Anybody, as far as access rules and functions let them. A token that is sent must be good.
    Rules,
    /// Whoever has signed in.
    Account,
    /// Operators, and API tokens that have the scope for it.
    Operator(Permission<'static>),
    /// The same; in `alyx dev` anybody.
    OperatorOrDev(Permission<'static>),
}

/// Who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    pub(crate) caller: Caller,
    /// Until when the token is good, in seconds of Unix time; `None` without one.
    pub(crate) expires: Option<u64>,
    /// The API token that was shown, which may be an operator's sign-in.
    pub(crate) token: Option<Arc<ApiToken>>,
    /// The operator whose sign-in it is, by id.
    pub(crate) operator: Option<Arc<str>>,
}

impl Identity {
    /// The account and its session.
    ///
    /// Errors: `UNAUTHORIZED` where nobody has signed in.
    pub(crate) fn account(&self) -> Result<(&Arc<Account>, &str)> {
        let account = self.caller.account();
        account
            .and_then(|account| Some((account, account.session.as_deref()?)))
            .ok_or_else(unauthorized)
    }

    /// Whether this is an operator, or a token that may do that.
    ///
    /// Errors: `UNAUTHORIZED` where nobody is known, `FORBIDDEN`, `SCOPE_MISSING`.
    pub(crate) fn permit(&self, permission: Permission<'_>) -> Result<()> {
        if self.caller.may(permission) {
            return Ok(());
        }
        Err(match &self.caller {
            Caller::Anonymous => refuse(
                "UNAUTHORIZED",
                "this is for operators: send `Authorization: Bearer` with an API token",
            ),
            Caller::Token(_) => scope_missing(permission),
            Caller::Account(_) | Caller::Operator | Caller::System => Error::new(
                ErrorKind::Forbidden,
                "FORBIDDEN",
                "this is for operators, which no account of the application is",
            ),
        })
    }
}

/// The token of a request: of `Authorization: Bearer …`, whose scheme is written in any case.
///
/// Errors: `INVALID_TOKEN` where the header is given twice, because others may believe the other one.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>> {
    const SCHEME: &str = "bearer ";
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(refuse("INVALID_TOKEN", "`Authorization` is given twice"));
    }
    let Ok(value) = value.to_str() else {
        return Ok(None);
    };
    let scheme = value.get(..SCHEME.len());
    if scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME)) {
        return Ok(Some(value[SCHEME.len()..].trim()));
    }
    Ok(None)
}

impl Auth {
    /// Who sends that token. Without a key to check it with, everybody is anonymous.
    ///
    /// Errors: `INVALID_TOKEN`, `TOKEN_EXPIRED`, `TOKEN_REVOKED`, and what the store says.
    pub(crate) async fn identify(&self, token: &str, deadline: Instant) -> Result<Identity> {
        let Some(signer) = &self.signer else {
            return Ok(Identity::default());
        };
        let (now, digest) = (self.now(), blake3::hash(token.as_bytes()));
        if let Some((account, expires)) = self.remembered.checked(&digest, now) {
            return Ok(signed_in(account, expires));
        }
        let claims = signer
            .verify(token, TokenKind::Access, now)
            .map_err(token_refused)?;
        let account = self.account_of(&claims.sid, deadline).await?;
        let account = account.filter(|account| account.id == claims.sub);
        let account =
            account.ok_or_else(|| refuse("TOKEN_REVOKED", "this session has ended: sign in again"))?;
        let identity = signed_in(account, claims.exp);
        self.remembered.was_checked(digest, claims.into());
        Ok(identity)
    }

    async fn account_of(&self, session: &str, deadline: Instant) -> Result<Option<Arc<Account>>> {
        if let Some(account) = self.remembered.get(session) {
            return Ok(Some(account));
        }
        let asked = self.remembered.generation();
        let rows = self.query(user_by_session(session, self.now()), deadline).await?;
        let Some(row) = rows.rows.first() else {
            return Ok(None);
        };
        let account = Arc::new(User::read(row)?.account(session));
        self.remembered.put(session, Arc::clone(&account), asked);
        Ok(Some(account))
    }

    /// What is remembered of these is no longer so.
    pub(super) fn forget(&self, gone: &Gone) {
        self.remembered.forget(gone);
    }

    /// Everything that had changed at that time is known.
    pub(super) fn is_up_to_date(&self, at: Instant) {
        self.remembered.inner.lock().told = Some(at);
    }
}

fn signed_in(account: Arc<Account>, expires: u64) -> Identity {
    Identity {
        caller: Caller::Account(account),
        expires: Some(expires),
        ..Identity::default()
    }
}

/// What a token says whose signature was good. It says so for ever; whether its session is good is another question.
struct Checked {
    session: String,
    account: String,
    expires: u64,
}

impl From<Claims> for Checked {
    fn from(claims: Claims) -> Self {
        Self {
            session: claims.sid,
            account: claims.sub,
            expires: claims.exp,
        }
    }
}

/// Sessions that were looked up, as long as nothing is heard of them.
pub(super) struct Remembered {
    inner: Mutex<Inner>,
}

struct Inner {
    sessions: LruCache<String, Arc<Account>>,
    /// By the digest of the token.
    tokens: LruCache<blake3::Hash, Checked>,
    /// When all changes were last known.
    told: Option<Instant>,
    /// Counts what was forgotten: an account that was read before may be the one of before.
    generation: u64,
}

impl Default for Remembered {
    fn default() -> Self {
        let inner = Inner {
            sessions: LruCache::new(MAX_REMEMBERED),
            tokens: LruCache::new(MAX_CHECKED),
            told: None,
            generation: 0,
        };
        Self {
            inner: Mutex::new(inner),
        }
    }
}

impl Remembered {
    fn generation(&self) -> u64 {
        self.inner.lock().generation
    }

    fn get(&self, session: &str) -> Option<Arc<Account>> {
        let mut inner = self.inner.lock();
        let believed = inner.told.is_some_and(|told| told.elapsed() < BELIEVED);
        let account = inner.sessions.get(session).cloned();
        account.filter(|_| believed)
    }

    /// The account of a token that was checked before and is good now, and until when it is.
    fn checked(&self, digest: &blake3::Hash, now: u64) -> Option<(Arc<Account>, u64)> {
        let mut inner = self.inner.lock();
        let Inner {
            sessions,
            tokens,
            told,
            ..
        } = &mut *inner;
        let token = tokens.get(digest).filter(|token| now < token.expires)?;
        let account = sessions.get(&token.session)?;
        // The session may have become another's.
        let good = account.id == token.account && told.is_some_and(|told| told.elapsed() < BELIEVED);
        good.then(|| (Arc::clone(account), token.expires))
    }

    fn was_checked(&self, digest: blake3::Hash, token: Checked) {
        self.inner.lock().tokens.put(digest, token);
    }

    fn put(&self, session: &str, account: Arc<Account>, asked: u64) {
        let mut inner = self.inner.lock();
        if inner.generation == asked {
            inner.sessions.put(session.to_owned(), account);
        }
    }

    fn forget(&self, gone: &Gone) {
        let mut inner = self.inner.lock();
        inner.generation += 1;
        let sessions = inner.sessions.iter();
        let over: Vec<String> = sessions
            .filter(|(session, account)| gone.is_over(&account.id, session))
            .map(|(session, _)| session.clone())
            .collect();
        for session in over {
            inner.sessions.pop(&session);
        }
    }
}

pub(super) fn refuse(code: &'static str, message: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated, code, message)
}

pub(super) fn token_refused(error: TokenError) -> Error {
    match error {
        TokenError::Expired => refuse("TOKEN_EXPIRED", "the token has expired: refresh the session"),
        TokenError::Invalid => refuse(
            "INVALID_TOKEN",
            "the token is not one of this server's for this purpose",
        ),
    }
}

/// A token lacks a scope.
pub(crate) fn scope_missing(permission: Permission<'_>) -> Error {
    let message = format!("this token may not do that: it would need the scope `{permission}`");
    Error::new(ErrorKind::Forbidden, "SCOPE_MISSING", message)
}

fn unauthorized() -> Error {
    refuse(
        "UNAUTHORIZED",
        "sign in first: send `Authorization: Bearer` with an access token",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(id: &str) -> Arc<Account> {
        Arc::new(Account {
            id: id.to_owned(),
            email: None,
            verified: false,
            role: "user".to_owned(),
            metadata: serde_json::Map::new(),
            session: None,
        })
    }

    #[test]
    fn nothing_is_believed_without_news() {
        let remembered = Remembered::default();
        remembered.put("s", account("u"), 0);
        assert!(remembered.get("s").is_none(), "no news yet");
        remembered.inner.lock().told = Some(Instant::now());
        assert!(remembered.get("s").is_some());
        remembered.inner.lock().told = Instant::now().checked_sub(BELIEVED);
        assert!(remembered.get("s").is_none(), "the news are too old");
    }

    #[test]
    fn a_token_is_checked_once_and_its_session_as_ever() {
        let remembered = Remembered::default();
        let (digest, other) = (blake3::hash(b"one"), blake3::hash(b"other"));
        let token = |account: &str| Checked {
            session: "s".to_owned(),
            account: account.to_owned(),
            expires: 100,
        };
        let good = |digest: &blake3::Hash, now: u64| remembered.checked(digest, now).map(|(_, until)| until);
        remembered.was_checked(digest, token("u"));
        remembered.was_checked(other, token("v"));
        remembered.inner.lock().told = Some(Instant::now());
        assert_eq!(good(&digest, 99), None, "its session is not known");
        remembered.put("s", account("u"), 0);
        assert_eq!(good(&digest, 99), Some(100));
        assert_eq!(good(&digest, 100), None, "it has expired");
        assert_eq!(good(&other, 99), None, "the session is another's");
        assert_eq!(good(&blake3::hash(b"third"), 99), None, "nobody has checked it");
        remembered.inner.lock().told = Instant::now().checked_sub(BELIEVED);
        assert_eq!(good(&digest, 99), None, "the news are too old");
        remembered.inner.lock().told = Some(Instant::now());
        remembered.forget(&Gone::everything());
        assert_eq!(good(&digest, 99), None, "its session is over");
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let remembered = Remembered::default();
        remembered.inner.lock().told = Some(Instant::now());
        let asked = remembered.generation();
        remembered.forget(&Gone::everything());
        remembered.put("s", account("u"), asked);
        assert!(remembered.get("s").is_none());
        remembered.put("s", account("u"), remembered.generation());
        assert!(remembered.get("s").is_some());
    }

    #[test]
    fn tokens_are_found_in_one_header_alone() {
        let check = |values: &[&'static str], expected: Option<Option<&str>>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, http::HeaderValue::from_static(value));
            }
            assert_eq!(bearer(&headers).ok(), expected, "{values:?}");
        };
        check(&[], Some(None));
        check(&["Bearer a.b.c"], Some(Some("a.b.c")));
        check(&["bEARER  a.b.c "], Some(Some("a.b.c")));
        check(&["Basic YTpi"], Some(None));
        check(&["Bearer"], Some(None));
        check(&["Bearer a", "Bearer b"], None);
    }
}
