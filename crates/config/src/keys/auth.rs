//! The keys of accounts: tokens, passwords, limits.

use std::time::Duration;

use super::Key;
use super::cluster::secret;
use super::live::{count, duration, live, optional};
use crate::value::Kind;

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
        "auth.allow_registration",
        "true",
        Kind::Bool(|c, _, v| c.auth.allow_registration = v),
        "Let anybody register.",
    ),
    live(
        "auth.require_verification",
        "false",
        Kind::Bool(|c, _, v| c.auth.require_verification = v),
        "Let only accounts with a verified address sign in.",
    ),
];
