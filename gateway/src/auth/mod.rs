//! Accounts and sessions of end users, and the one place where a request's token becomes a [`Caller`].
//!
//! Accounts are rows of `_alyx_users`, sessions rows of `_alyx_sessions`; a session is there for as long as it is good.
//! An access token names its session, which is looked up and remembered until it changes: triggers note every change
//! of a session or an account in `_alyx_auth_events`, whoever makes it, and each gateway follows these
//! ([`events::follow`]). **Invariants:** a session that has ended is not accepted a second later, by any gateway, on
//! any surface; where the events cannot be followed, nothing that is remembered is believed.

mod accounts;
mod admission;
mod anonymous;
mod credentials;
mod events;
mod hashing;
mod identities;
mod identity;
mod limits;
mod mail;
mod oauth;
mod one_time;
mod operators;
mod reauthentication;
mod second_factor;
mod sessions;
mod tables;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use alyx_auth::{Names, Network, Policy, Sealer, Signer};
use alyx_config::{Auth as Settings, Config};
use alyx_core::{Clock, Error, ErrorKind, Result, Statement};
use alyx_store::steps::{must, step, unchanged};
use alyx_store::{Read, ReadCost, Rows, Store, Write, WriteReply, WriteStep};
use tokio::sync::{Notify, OnceCell};

pub(crate) use accounts::{Registration, SignedIn};
pub(crate) use admission::Admission;
pub(crate) use anonymous::Beginning;
pub(crate) use credentials::{Credentials, read};
pub(crate) use events::{Gone, follow};
pub(crate) use identity::{Identity, Requirement, bearer, scope_missing};
pub(crate) use mail::Purpose;
pub(crate) use oauth::{Begin, Landing, Onward, Return};
pub(crate) use one_time::{MailProof, send_mails};
pub(crate) use reauthentication::{Own, Shown};
pub(crate) use sessions::{Device, no_such_session};

use hashing::HashPool;
use identity::Remembered;
use limits::Limits;
use mail::Post;
use oauth::OAuth;

/// Longest wait for the tables to be made.
const TABLES_WITHIN: Duration = Duration::from_secs(10);

/// The service behind `/api/auth` and behind every bearer token.
pub(crate) struct Auth {
    store: Store,
    clock: Arc<dyn Clock>,
    settings: Settings,
    policy: Policy,
    /// `None` where there is no key to sign with: nobody can sign in.
    signer: Option<Signer>,
    trusted: Vec<Network>,
    limits: Limits,
    hashing: HashPool,
    post: Post,
    oauth: OAuth,
    remembered: Remembered,
    tables: OnceCell<()>,
    /// Something was changed here: there are events to be read.
    changed: Notify,
}

impl Auth {
    /// Reads the key. `local_url` is where this server is reached on this machine.
    ///
    /// Errors: `AUTH_KEY_INVALID`, `MAIL_INVALID`, `OAUTH_INVALID`.
    pub(crate) fn new(config: &Config, store: Store, clock: Arc<dyn Clock>, local_url: &str) -> Result<Self> {
        let settings = config.auth.clone();
        let post = Post::new(config, local_url)?;
        if settings.require_verification && !post.is_on() {
            tracing::warn!(
                "`auth.require_verification` is on and no mail is sent (`mail.smtp.host`): nobody can verify an address, \
                 so nobody new can sign in"
            );
        }
        let password = &settings.password;
        let trusted = config.server.trusted_proxies.iter();
        Ok(Self {
            policy: Policy {
                min_length: password.min_length as usize,
                require_uppercase: password.require_uppercase,
                require_lowercase: password.require_lowercase,
                require_number: password.require_number,
                require_special: password.require_special,
            },
            signer: signer(&settings)?,
            trusted: trusted.filter_map(|text| Network::parse(text)).collect(),
            limits: Limits::new(&settings),
            hashing: HashPool::start(),
            post,
            oauth: OAuth::new(config, local_url)?,
            remembered: Remembered::default(),
            tables: OnceCell::new(),
            changed: Notify::new(),
            store,
            clock,
            settings,
        })
    }

    /// Whether anybody can sign in.
    pub(crate) fn is_on(&self) -> bool {
        self.signer.is_some()
    }

    /// Passwords hashed or compared since start, and those that there was no room for.
    pub(crate) fn hashes(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.hashing.counts;
        (read(&counts.done), read(&counts.refused))
    }

    /// The proxies in front of the server.
    pub(crate) fn trusted_proxies(&self) -> &[Network] {
        &self.trusted
    }

    /// Public keys, for those who check tokens themselves.
    pub(crate) fn jwks(&self) -> Result<serde_json::Value> {
        Ok(self.signer()?.jwks())
    }

    /// Seals what only this server reads again.
    ///
    /// Errors: `AUTH_NOT_CONFIGURED`.
    pub(crate) fn sealer(&self) -> Result<&Sealer> {
        Ok(self.signer()?.sealer())
    }

    fn signer(&self) -> Result<&Signer> {
        self.signer.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                "AUTH_NOT_CONFIGURED",
                "this server has no key to sign sessions with: set `auth.jwt.secret` or `auth.jwt.key_file`",
            )
        })
    }

    /// Seconds of Unix time.
    fn now(&self) -> u64 {
        let now = self.clock.now().duration_since(UNIX_EPOCH);
        now.unwrap_or_default().as_secs()
    }

    /// The rows of one reading statement that touches a handful of rows.
    async fn query(&self, statement: Statement, deadline: Instant) -> Result<Rows> {
        self.prepare().await?;
        let read = Read {
            statements: vec![statement],
            cost: ReadCost::Point,
            deadline,
        };
        let mut reply = self.store.read(read).await?;
        reply
            .results
            .pop()
            .ok_or_else(|| Error::internal("the store gave no result for a read"))
    }

    /// Carries out all of these or none, and has the events read that they have caused.
    async fn write(&self, steps: Vec<WriteStep>, deadline: Instant) -> Result<WriteReply> {
        self.prepare().await?;
        let reply = self.store.write(Write { steps, deadline }).await?;
        self.changed.notify_one();
        Ok(reply)
    }

    /// Makes the tables where they are missing.
    async fn prepare(&self) -> Result<()> {
        let made = self
            .tables
            .get_or_try_init(|| tables::create(&self.store, Instant::now() + TABLES_WITHIN));
        made.await.map(|_| ())
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("signer", &self.signer)
            .finish_non_exhaustive()
    }
}

fn signer(settings: &Settings) -> Result<Option<Signer>> {
    let jwt = &settings.jwt;
    let names = Names {
        issuer: jwt.issuer.clone(),
        audience: jwt.audience.clone(),
    };
    let unusable = |key: &str, why: String| {
        Error::new(
            ErrorKind::InvalidInput,
            "AUTH_KEY_INVALID",
            format!("`{key}` cannot sign sessions: {why}"),
        )
    };
    if let Some(secret) = &jwt.secret {
        let signer = Signer::from_secret(secret.expose(), names);
        return signer
            .map(Some)
            .map_err(|error| unusable("auth.jwt.secret", error.to_string()));
    }
    let Some(path) = &jwt.key_file else {
        return Ok(None);
    };
    let shown = path.display();
    let pem = std::fs::read_to_string(path)
        .map_err(|error| unusable("auth.jwt.key_file", format!("{shown} cannot be read: {error}")))?;
    Signer::from_pem(&pem, names)
        .map(Some)
        .map_err(|error| unusable("auth.jwt.key_file", format!("{shown}: {error}")))
}
