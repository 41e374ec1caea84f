//! Signing in by other providers: OAuth 2 with PKCE (RFC 6749, RFC 7636) and OpenID Connect.
//!
//! The browser is sent to the provider and comes back with a code, which this server exchanges. The application then
//! gets a code of ours in its address, and exchanges that together with a secret of its own; tokens are never in an
//! address. **Invariants:** each state is good once, for the browser that began, for one provider and ten minutes;
//! each code is good once and for a minute; a code without the secret of who began is used up by the try.

mod browser;
mod discovery;
mod outgoing;
mod provider;

use std::collections::BTreeMap;
use std::time::Instant;

use alyx_auth::{new_secret, token_digest, url_origin};
use alyx_config::Config;
use alyx_core::{Error, ErrorKind, Result, Statement, Value};
use alyx_store::WriteStep;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use serde::Deserialize;

pub(crate) use provider::External;

use self::browser::{Back, Cookies, LIFETIME, Pending};
use self::outgoing::Outgoing;
use self::provider::{Attempt, Provider};
use super::sessions::Device;
use super::tables::seconds;
use super::{Admission, Auth, must, step};

/// How long an application has to exchange a code, in seconds.
const CODE_LIFETIME: u64 = 60;
/// Rows past their end that are removed with each one that is added.
const REMOVED_AT_ONCE: i64 = 16;
/// Longest code of a provider.
const MAX_CODE: usize = 4096;

/// The providers, as configured.
pub(super) struct OAuth {
    providers: BTreeMap<String, Provider>,
    http: Option<Outgoing>,
    /// Without a slash at the end.
    public_url: String,
    /// Origins that a login may lead back to.
    origins: Vec<String>,
}

/// What an application asks for that begins a login.
#[derive(Default, Deserialize)]
pub(crate) struct Begin {
    #[serde(default)]
    redirect: Option<String>,
    #[serde(default)]
    challenge: Option<String>,
}

/// What a browser brings back from a provider.
#[derive(Default, Deserialize)]
pub(crate) struct Return {
    #[serde(default)]
    state: String,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

/// What an application shows for what it began.
#[derive(Deserialize)]
pub(crate) struct Exchange {
    #[serde(default)]
    code: String,
    #[serde(default)]
    verifier: String,
}

/// Where a browser goes next, and the cookie that it gets.
pub(crate) struct Onward {
    pub(crate) url: String,
    pub(crate) cookie: String,
}

/// What becomes of a browser that has come back.
pub(crate) enum Landing {
    Onward(Onward),
    /// Nobody is to be told but the browser itself.
    Here {
        admission: Admission,
        cookie: String,
    },
}

impl OAuth {
    /// `local_url` stands for the public one in development.
    ///
    /// Errors: `OAUTH_INVALID`.
    pub(super) fn new(config: &Config, local_url: &str) -> Result<Self> {
        let given = &config.auth.oauth;
        let providers = given.iter().map(|(name, given)| {
            let provider = Provider::new(name, given)?;
            Ok((name.clone(), provider))
        });
        let http = match given.is_empty() {
            true => None,
            false => Some(Outgoing::new(given.values().any(Provider::is_away))?),
        };
        let public_url = config.server.public_url.clone();
        let public_url = public_url.unwrap_or_else(|| local_url.to_owned());
        let origins = config.auth.redirect_origins.iter().chain([&public_url]);
        Ok(Self {
            providers: providers.collect::<Result<_>>()?,
            http,
            origins: origins.filter_map(|url| url_origin(url)).collect(),
            public_url,
        })
    }

    fn find(&self, name: &str) -> Result<(&Provider, &Outgoing)> {
        let found = self.providers.get(name).zip(self.http.as_ref());
        found.ok_or_else(|| {
            let message = "there is no such provider; `GET /api/auth/providers` lists them";
            Error::new(ErrorKind::NotFound, "OAUTH_PROVIDER_NOT_FOUND", message)
        })
    }

    fn redirect_uri(&self, name: &str) -> String {
        format!("{}/api/auth/oauth/{name}/callback", self.public_url)
    }

    fn cookies(&self, provider: &Provider) -> Cookies {
        Cookies {
            secure: self.public_url.starts_with("https://"),
            cross_site: provider.answers_by_form(),
        }
    }
}

impl Auth {
    /// The names of the providers that people can sign in by.
    pub(crate) fn providers(&self) -> Vec<&str> {
        let names = self.oauth.providers.keys().map(String::as_str);
        if self.is_on() { names.collect() } else { Vec::new() }
    }

    /// Sends a browser to a provider.
    ///
    /// Errors: `OAUTH_PROVIDER_NOT_FOUND`, `OAUTH_PROVIDER_FAILED`, and of [`Back::read`].
    pub(crate) async fn begin_oauth(&self, name: &str, begin: Begin, deadline: Instant) -> Result<Onward> {
        let signer = self.signer()?;
        let (provider, http) = self.oauth.find(name)?;
        let pending = Pending {
            provider: name.to_owned(),
            state: new_secret(),
            nonce: new_secret(),
            verifier: new_secret(),
            back: Back::read((begin.redirect, begin.challenge), &self.oauth.origins)?,
            expires: self.now() + LIFETIME,
        };
        let redirect_uri = self.oauth.redirect_uri(name);
        let attempt = self.attempt(&pending, &redirect_uri);
        Ok(Onward {
            url: provider.authorization_url(http, &attempt, deadline).await?,
            cookie: self.oauth.cookies(provider).keep(signer.sealer(), &pending)?,
        })
    }

    fn attempt<'a>(&self, pending: &'a Pending, redirect_uri: &'a str) -> Attempt<'a> {
        Attempt {
            redirect_uri,
            state: &pending.state,
            nonce: &pending.nonce,
            verifier: &pending.verifier,
            now: self.now(),
        }
    }

    /// Takes in a browser that comes back from a provider. What fails after its state was found right is told to the
    /// application, where there is one.
    ///
    /// Errors: `OAUTH_PROVIDER_NOT_FOUND`, `OAUTH_STATE_INVALID`; without an application to be told those of
    /// [`Self::sign_in_by`], `OAUTH_DENIED`, `OAUTH_PROVIDER_FAILED` and `TOO_MANY_ATTEMPTS` too.
    pub(crate) async fn finish_oauth(
        &self,
        name: &str,
        returned: Return,
        headers: &HeaderMap,
        device: &Device,
        deadline: Instant,
    ) -> Result<Landing> {
        let signer = self.signer()?;
        let (provider, _) = self.oauth.find(name)?;
        let cookies = self.oauth.cookies(provider);
        let login = (name, returned.state.as_str());
        let pending = cookies.read(headers, signer.sealer(), login, self.now());
        let pending = pending.ok_or_else(state_invalid)?;
        let cookie = cookies.end(&pending.state);
        let external = self.come_back(&pending, returned, device, deadline).await;
        let Some(back) = &pending.back else {
            let admission = self.sign_in_by(&external?, None, device, deadline).await?;
            return Ok(Landing::Here { admission, cookie });
        };
        let kept = match external {
            Ok(external) => self.keep_for_exchange(&external, back, deadline).await,
            Err(error) => Err(error),
        };
        let url = match kept {
            Ok(code) => back.with("code", &code),
            Err(error) if error.code() == "OAUTH_STATE_INVALID" => return Err(error),
            Err(error) => back.with("error", error.code()),
        };
        Ok(Landing::Onward(Onward { url, cookie }))
    }

    /// Uses up the state and asks the provider who it is.
    async fn come_back(
        &self,
        pending: &Pending,
        returned: Return,
        device: &Device,
        deadline: Instant,
    ) -> Result<External> {
        let (provider, http) = self.oauth.find(&pending.provider)?;
        self.limits.outside(&device.limit_key)?;
        let used = Statement::new(
            "INSERT INTO _alyx_oauth_logins (digest, expires_at) VALUES (?1, ?2)",
            vec![digest("state", &pending.state), seconds(self.now() + LIFETIME)],
        );
        let written = self
            .write(vec![step(self.remove_old()), must(used)], deadline)
            .await;
        written.map_err(|error| match error.code() {
            "UNIQUE_VIOLATION" => state_invalid(),
            _ => error,
        })?;
        let code = returned
            .code
            .filter(|code| !code.is_empty() && code.len() <= MAX_CODE);
        let code = code.filter(|_| returned.error.is_none()).ok_or_else(|| {
            let message = format!("`{}` did not let you in", pending.provider);
            Error::new(ErrorKind::InvalidInput, "OAUTH_DENIED", message)
        })?;
        let redirect_uri = self.oauth.redirect_uri(&pending.provider);
        let attempt = self.attempt(pending, &redirect_uri);
        let external = provider.identify(http, &code, &attempt, deadline).await?;
        self.limits.was_let_in(&device.limit_key);
        Ok(external)
    }

    fn remove_old(&self) -> Statement {
        Statement::new(
            "DELETE FROM _alyx_oauth_logins WHERE digest IN (SELECT digest FROM _alyx_oauth_logins \
             WHERE expires_at <= ?1 LIMIT ?2)",
            vec![seconds(self.now()), Value::Int(REMOVED_AT_ONCE)],
        )
    }

    /// Keeps who has come back until the application asks; the code for it.
    async fn keep_for_exchange(&self, external: &External, back: &Back, deadline: Instant) -> Result<String> {
        let code = new_secret();
        let keep = Statement::new(
            "INSERT INTO _alyx_oauth_logins (digest, provider, subject, email, challenge, expires_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            vec![
                digest("code", &code),
                Value::text(external.provider.as_str()),
                Value::text(external.subject.as_str()),
                external.email.clone().into(),
                Value::text(back.challenge.as_str()),
                seconds(self.now() + CODE_LIFETIME),
            ],
        );
        self.write(vec![must(keep)], deadline).await?;
        Ok(code)
    }

    /// Signs in whoever has come back, for the application that began.
    ///
    /// Errors: `OAUTH_CODE_INVALID`, and those of [`Self::sign_in_by`].
    pub(crate) async fn login_by_oauth(
        &self,
        exchange: &Exchange,
        device: &Device,
        deadline: Instant,
    ) -> Result<Admission> {
        self.signer()?;
        let (external, use_up) = self.exchanged(exchange, deadline).await?;
        let admission = self.sign_in_by(&external, Some(use_up), device, deadline).await;
        admission.map_err(used_up)
    }

    /// Lets an account be signed into by whom its owner is at a provider.
    ///
    /// Errors: `OAUTH_CODE_INVALID`, `IDENTITY_TAKEN`.
    pub(crate) async fn link_by_oauth(
        &self,
        user: &str,
        exchange: &Exchange,
        deadline: Instant,
    ) -> Result<()> {
        let (external, use_up) = self.exchanged(exchange, deadline).await?;
        self.link(user, &external, use_up, deadline)
            .await
            .map_err(used_up)
    }

    /// Who is behind a code, and the step that uses it up.
    async fn exchanged(&self, exchange: &Exchange, deadline: Instant) -> Result<(External, WriteStep)> {
        let code = digest("code", &exchange.code);
        let find = Statement::new(
            "SELECT provider, subject, email, challenge FROM _alyx_oauth_logins WHERE digest = ?1 AND expires_at > ?2 \
             AND subject IS NOT NULL",
            vec![code.clone(), seconds(self.now())],
        );
        let rows = self.query(find, deadline).await?;
        let row = rows.rows.first().ok_or_else(code_invalid)?;
        let text = |at: usize| row.get(at).and_then(Value::as_text).map(str::to_owned);
        let delete = Statement::new("DELETE FROM _alyx_oauth_logins WHERE digest = ?1", vec![code]);
        if text(3) != Some(URL_SAFE_NO_PAD.encode(token_digest(&exchange.verifier))) {
            self.write(vec![step(delete)], deadline).await?;
            return Err(code_invalid());
        }
        let external = External {
            provider: text(0).unwrap_or_default(),
            subject: text(1).unwrap_or_default(),
            email: text(2),
        };
        Ok((external, must(delete)))
    }
}

fn digest(kind: &str, secret: &str) -> Value {
    Value::Blob(token_digest(&format!("{kind} {secret}")).as_slice().into())
}

fn state_invalid() -> Error {
    let message =
        "this login was begun by another browser, was finished before, or is too old: begin it again";
    Error::new(ErrorKind::InvalidInput, "OAUTH_STATE_INVALID", message)
}

fn code_invalid() -> Error {
    let message = "the code was used before, is older than a minute, or `verifier` is not what its `challenge` was made of: \
                   begin the login again";
    Error::new(ErrorKind::InvalidInput, "OAUTH_CODE_INVALID", message)
}

/// The one step of these writes that must find something and is not about an account is the one that uses up the code.
fn used_up(error: Error) -> Error {
    if super::unchanged(&error) {
        code_invalid()
    } else {
        error
    }
}
