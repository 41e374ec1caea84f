//! The keys of accounts: tokens, passwords, limits.

use std::time::Duration;

use super::Key;
use super::cluster::secret;
use super::live::{count, duration, live, optional};
use crate::model::{Config, Smtp, SmtpTls};
use crate::value::Kind;

fn smtp(config: &mut Config) -> &mut Smtp {
    config.mail.smtp.get_or_insert_with(Smtp::default)
}

const SECOND: Duration = Duration::from_secs(1);

/// In the order of the documentation.
pub(super) static KEYS: &[Key] = &[
    optional(
        "auth.jwt.secret",
        Kind::Secret(|c, _, v| c.auth.jwt.secret = secret(v)),
        "Signs session tokens with HS256: 32 bytes or more, the same for every gateway. `alyx dev` makes one up and keeps \
         it where there is neither this nor `auth.jwt.key_file`; everywhere else nobody can sign in without.",
    ),
    optional(
        "auth.jwt.key_file",
        Kind::Path(|c, _, v| c.auth.jwt.key_file = Some(v)),
        "In place of `auth.jwt.secret`: PEM file of a private key that signs session tokens, Ed25519 (EdDSA) or RSA \
         (RS256). Its public half is at `/api/auth/jwks.json`.",
    ),
    live(
        "auth.jwt.access_ttl",
        "15m",
        duration(SECOND, |c, _, v| c.auth.jwt.access_ttl = v),
        "How long an access token is good.",
    ),
    live(
        "auth.jwt.refresh_ttl",
        "168h",
        duration(SECOND, |c, _, v| c.auth.jwt.refresh_ttl = v),
        "How long a session lasts without being refreshed; at least `auth.jwt.access_ttl`.",
    ),
    live(
        "auth.jwt.issuer",
        "alyx",
        Kind::Text(|c, _, v| c.auth.jwt.issuer = v),
        "`iss` of tokens. Tokens of another issuer are refused.",
    ),
    optional(
        "auth.jwt.audience",
        Kind::List(|c, _, v| c.auth.jwt.audience = v),
        "`aud` of tokens. Where it is set, tokens without one of these are refused.",
    ),
    live(
        "auth.password.min_length",
        "8",
        count(8, |c, _, v| c.auth.password.min_length = v as u32),
        "Fewest characters of a new password.",
    ),
    live(
        "auth.password.require_uppercase",
        "false",
        Kind::Bool(|c, _, v| c.auth.password.require_uppercase = v),
        "A new password needs an upper-case letter.",
    ),
    live(
        "auth.password.require_lowercase",
        "false",
        Kind::Bool(|c, _, v| c.auth.password.require_lowercase = v),
        "A new password needs a lower-case letter.",
    ),
    live(
        "auth.password.require_number",
        "false",
        Kind::Bool(|c, _, v| c.auth.password.require_number = v),
        "A new password needs a digit.",
    ),
    live(
        "auth.password.require_special",
        "false",
        Kind::Bool(|c, _, v| c.auth.password.require_special = v),
        "A new password needs something that is neither letter, digit nor blank.",
    ),
    live(
        "auth.rate_limit.login.max",
        "5",
        count(1, |c, _, v| c.auth.login_limit.max = v as u32),
        "Failed logins that one address has in a window, at each gateway.",
    ),
    live(
        "auth.rate_limit.login.window",
        "1m",
        duration(SECOND, |c, _, v| c.auth.login_limit.window = v),
        "How long failed logins count.",
    ),
    live(
        "auth.rate_limit.register.max",
        "3",
        count(1, |c, _, v| c.auth.register_limit.max = v as u32),
        "Registrations that one address has in a window, at each gateway.",
    ),
    live(
        "auth.rate_limit.register.window",
        "1m",
        duration(SECOND, |c, _, v| c.auth.register_limit.window = v),
        "How long registrations count.",
    ),
    live(
        "auth.rate_limit.password_reset.max",
        "3",
        count(1, |c, _, v| c.auth.mail_limit.max = v as u32),
        "Mails of one kind (password reset, verification, login) that one account gets in a window, at each gateway; one \
         address may ask for ten times as many.",
    ),
    live(
        "auth.rate_limit.password_reset.window",
        "1h",
        duration(SECOND, |c, _, v| c.auth.mail_limit.window = v),
        "How long mails count.",
    ),
    live(
        "auth.allow_registration",
        "true",
        Kind::Bool(|c, _, v| c.auth.allow_registration = v),
        "Let anybody register.",
    ),
    live(
        "auth.allow_anonymous",
        "false",
        Kind::Bool(|c, _, v| c.auth.allow_anonymous = v),
        "Let anybody have an account with the role `anonymous`, without an address, that can become a real one.",
    ),
    live(
        "auth.anonymous_ttl",
        "720h",
        duration(SECOND, |c, _, v| c.auth.anonymous_ttl = v),
        "How long an anonymous account lasts without being used; at least `auth.jwt.access_ttl`.",
    ),
    live(
        "auth.require_verification",
        "false",
        Kind::Bool(|c, _, v| c.auth.require_verification = v),
        "Let only accounts with a verified address sign in.",
    ),
    live(
        "auth.second_factor.issuer",
        "Alyx",
        Kind::Text(|c, _, v| c.auth.second_factor_issuer = v),
        "What authenticator apps show as the name of this server, beside the account.",
    ),
];

/// Mails to owners of accounts, in the order of the documentation.
pub(super) static MAIL: &[Key] = &[
    optional(
        "mail.from",
        Kind::Text(|c, _, v| c.mail.from = Some(v)),
        "Who mails come from, such as `Alyx <no-reply@example.com>`.",
    ),
    optional(
        "mail.smtp.host",
        Kind::Text(|c, _, v| smtp(c).host = v),
        "The mail server. Without one no mails are sent; `alyx dev` shows them in its log.",
    ),
    optional(
        "mail.smtp.port",
        Kind::Int {
            min: 1,
            max: 65_535,
            set: |c, _, v| smtp(c).port = v as u16,
        },
        "Its port; 587 where nothing is said.",
    ),
    optional(
        "mail.smtp.username",
        Kind::Text(|c, _, v| smtp(c).username = Some(v)),
        "Who to sign in as.",
    ),
    optional(
        "mail.smtp.password",
        Kind::Secret(|c, _, v| smtp(c).password = secret(v)),
        "Proof of `mail.smtp.username`.",
    ),
    optional(
        "mail.smtp.tls",
        Kind::Choice {
            words: &["starttls", "tls", "none"],
            set: |c, _, v| {
                smtp(c).tls = match v {
                    "tls" => SmtpTls::Tls,
                    "none" => SmtpTls::None,
                    _ => SmtpTls::StartTls,
                }
            },
        },
        "How the connection is protected: encrypted before anything is said (`starttls`, where nothing is set), from the \
         start (`tls`), or not at all, for a server on this machine.",
    ),
    live(
        "mail.links.verify",
        "/auth/verify",
        Kind::Text(|c, _, v| c.mail.links.verify = v),
        "Page under `server.public_url` that links of verifications lead to, with `?token=…`.",
    ),
    live(
        "mail.links.reset",
        "/auth/reset",
        Kind::Text(|c, _, v| c.mail.links.reset = v),
        "The same for setting a new password.",
    ),
    live(
        "mail.links.login",
        "/auth/login",
        Kind::Text(|c, _, v| c.mail.links.login = v),
        "The same for signing in.",
    ),
];
