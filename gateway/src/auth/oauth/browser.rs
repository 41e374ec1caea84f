//! What the browser that begins a login keeps until it comes back, and where it may be sent afterwards.
//!
//! **Invariants:** a login is finished by the browser that began it: its state is in a cookie that scripts cannot read
//! and that is sealed; it goes back to configured origins only.

use alyx_auth::{Sealer, url_origin};
use alyx_core::{Error, ErrorKind, Result};
use http::HeaderMap;
use http::header::COOKIE;
use serde::{Deserialize, Serialize};

/// How long somebody may take at the provider, in seconds.
pub(super) const LIFETIME: u64 = 600;
/// What the cookie is sealed for.
const PURPOSE: &str = "oauth";
/// Characters of the state that are in the cookie's name, so that logins in several tabs do not meet.
const NAME_LENGTH: usize = 12;
/// Longest address to go back to.
const MAX_REDIRECT: usize = 1024;

/// A login that has begun.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) provider: String,
    pub(super) state: String,
    pub(super) nonce: String,
    /// Of our PKCE with the provider.
    pub(super) verifier: String,
    /// Where the application wants to be told, and its own challenge.
    pub(super) back: Option<Back>,
    /// Seconds of Unix time.
    pub(super) expires: u64,
}

/// The application that began a login.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Back {
    pub(super) redirect: String,
    /// SHA-256 of what it will show, in base64 of URLs.
    pub(super) challenge: String,
}

impl Back {
    /// Reads what an application asked for; `None` where it wants the answer itself.
    ///
    /// Errors: `OAUTH_REDIRECT_NOT_ALLOWED`, `OAUTH_CHALLENGE_REQUIRED`.
    pub(super) fn read(
        (redirect, challenge): (Option<String>, Option<String>),
        allowed: &[String],
    ) -> Result<Option<Self>> {
        let Some(redirect) = redirect else {
            return Ok(None);
        };
        let origin =
            url_origin(&redirect).filter(|_| redirect.len() <= MAX_REDIRECT && !redirect.contains('#'));
        if !origin.is_some_and(|origin| allowed.contains(&origin)) {
            let message = "`redirect` is no address that a login may lead back to: write one under `server.public_url`, or add \
                           its origin to `auth.redirect_origins`";
            let error = Error::new(ErrorKind::InvalidInput, "OAUTH_REDIRECT_NOT_ALLOWED", message);
            return Err(error.with_field("redirect"));
        }
        let fits = |text: &String| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            text.len() == 43 && text.bytes().all(plain)
        };
        let challenge = challenge.filter(fits).ok_or_else(|| {
            let message = "`challenge` must be the SHA-256 of a secret of your own, in base64 of URLs without padding (43 \
                           characters); the secret itself is sent with the code that comes back";
            let error = Error::new(ErrorKind::InvalidInput, "OAUTH_CHALLENGE_REQUIRED", message);
            error.with_field("challenge")
        })?;
        Ok(Some(Self { redirect, challenge }))
    }

    /// The address with one more parameter.
    pub(super) fn with(&self, name: &str, value: &str) -> String {
        let separator = if self.redirect.contains('?') { '&' } else { '?' };
        format!("{}{separator}{name}={value}", self.redirect)
    }
}

/// How cookies are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cookies {
    /// The server is reached by `https`.
    pub(super) secure: bool,
    /// The provider's own page comes back with a form.
    pub(super) cross_site: bool,
}

impl Cookies {
    fn name(self, state: &str) -> String {
        let prefix = if self.secure { "__Host-" } else { "" };
        let part = state.get(..NAME_LENGTH).unwrap_or(state);
        format!("{prefix}alyx_oauth_{part}")
    }

    /// The cookie that keeps a login.
    pub(super) fn keep(self, sealer: &Sealer, pending: &Pending) -> Result<String> {
        let text = serde_json::to_vec(pending).map_err(Error::internal)?;
        Ok(self.write(&pending.state, &sealer.seal(PURPOSE, &text), LIFETIME))
    }

    /// The cookie that ends one.
    pub(super) fn end(self, state: &str) -> String {
        self.write(state, "", 0)
    }

    fn write(self, state: &str, value: &str, seconds: u64) -> String {
        let site = if self.cross_site { "None" } else { "Lax" };
        let secure = if self.secure { "; Secure" } else { "" };
        let name = self.name(state);
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite={site}{secure}")
    }

    /// The login of that state, where this browser began it with that provider and is in time.
    pub(super) fn read(
        self,
        headers: &HeaderMap,
        sealer: &Sealer,
        (provider, state): (&str, &str),
        now: u64,
    ) -> Option<Pending> {
        let name = self.name(state);
        let lines = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|line| line.to_str().ok());
        let mut pairs = lines
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let (_, sealed) = pairs.find(|(key, _)| *key == name)?;
        let pending: Pending = serde_json::from_slice(&sealer.open(PURPOSE, sealed)?).ok()?;
        let same = pending.state == state && pending.provider == provider;
        (same && pending.expires > now).then_some(pending)
    }
}
