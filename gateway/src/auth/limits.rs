//! How often somebody may try to sign in, register or guess a password: by account and by address.
//!
//! Tries are counted before the work that they cause, so that many at once do not all slip through, and given back
//! where they turn out to have done no harm. Each gateway counts for itself.

use std::time::{Duration, Instant};

use alyx_auth::{Limiter, Rule};
use alyx_config::{Auth as Settings, RateLimit};
use alyx_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

/// Wrong passwords for one account, existing or not.
const BY_ACCOUNT: Rule = Rule {
    max: 5,
    window: Duration::from_secs(15 * 60),
};

/// The counts of this gateway.
pub(super) struct Limits {
    logins: Mutex<Limiter>,
    registrations: Mutex<Limiter>,
    accounts: Mutex<Limiter>,
    mails: Mutex<Limiter>,
    mails_by_address: Mutex<Limiter>,
    outside: Mutex<Limiter>,
}

impl Limits {
    pub(super) fn new(settings: &Settings) -> Self {
        let of = |limit: RateLimit| {
            Mutex::new(Limiter::new(Rule {
                max: limit.max,
                window: limit.window,
            }))
        };
        Self {
            logins: of(settings.login_limit),
            registrations: of(settings.register_limit),
            accounts: Mutex::new(Limiter::new(BY_ACCOUNT)),
            mails: of(settings.mail_limit),
            outside: of(settings.login_limit),
            mails_by_address: of(RateLimit {
                max: settings.mail_limit.max.saturating_mul(10),
                ..settings.mail_limit
            }),
        }
    }

    /// A try to show the password of `account` (an address, or an id), from `address`.
    ///
    /// Errors: `TOO_MANY_ATTEMPTS`.
    pub(super) fn guess(&self, account: &str, address: &str) -> Result<()> {
        let now = Instant::now();
        self.logins.lock().take(address, now).map_err(too_many)?;
        self.accounts.lock().take(account, now).map_err(|wait| {
            self.logins.lock().give_back(address);
            too_many(wait)
        })
    }

    /// The password was right.
    pub(super) fn was_right(&self, account: &str, address: &str) {
        self.logins.lock().give_back(address);
        self.accounts.lock().clear(account);
    }

    /// The password was not looked at.
    pub(super) fn was_not_looked_at(&self, account: &str, address: &str) {
        self.logins.lock().give_back(address);
        self.accounts.lock().give_back(account);
    }

    /// The guesses for `account` no longer count.
    pub(super) fn forget(&self, account: &str) {
        self.accounts.lock().clear(account);
    }

    /// A login from `address` that another provider is asked about.
    ///
    /// Errors: `TOO_MANY_ATTEMPTS`.
    pub(super) fn outside(&self, address: &str) -> Result<()> {
        let mut outside = self.outside.lock();
        outside.take(address, Instant::now()).map_err(too_many)
    }

    /// The provider has let somebody in.
    pub(super) fn was_let_in(&self, address: &str) {
        self.outside.lock().give_back(address);
    }

    /// A mail for `kind_and_account` that is asked for from `address`.
    ///
    /// Errors: `TOO_MANY_ATTEMPTS`.
    pub(super) fn mail(&self, kind_and_account: &str, address: &str) -> Result<()> {
        let now = Instant::now();
        self.mails_by_address
            .lock()
            .take(address, now)
            .map_err(too_many)?;
        self.mails.lock().take(kind_and_account, now).map_err(too_many)
    }

    /// A registration from `address`.
    ///
    /// Errors: `TOO_MANY_ATTEMPTS`.
    pub(super) fn register(&self, address: &str) -> Result<()> {
        self.registrations
            .lock()
            .take(address, Instant::now())
            .map_err(too_many)
    }
}

/// Says the same whatever was counted.
fn too_many(wait: Duration) -> Error {
    Error::new(
        ErrorKind::TooManyRequests,
        "TOO_MANY_ATTEMPTS",
        "too many attempts; wait as long as `Retry-After` says",
    )
    .with_retry_after(wait.max(Duration::from_secs(1)))
}
