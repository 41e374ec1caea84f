//! Who somebody is, as far as it can be computed: passwords, tokens, addresses, limits.
//!
//! Pure: it knows neither accounts' tables nor HTTP. Randomness comes from the system, the time from the caller.

mod address;
mod email;
mod id_token;
mod jwt;
mod origin;
mod password;
mod rate;
mod seal;
mod secret;
mod totp;

pub use address::{Network, client_address, limit_key};
pub use email::normalize_email;
pub use id_token::{ClientKey, Expected, IdTokenError, KeySet, Profile, verify_id_token};
pub use jwt::{Audience, Claims, KeyError, Names, Signer, TokenError, TokenKind};
pub use origin::{is_safe_endpoint, url_origin};
pub use password::{MAX_PASSWORD, Policy, Verdict, hash_password, verify_nobody, verify_password};
pub use rate::{Limiter, Rule};
pub use seal::Sealer;
pub use secret::{TokenDigest, new_code, new_secret, token_digest};
pub use totp::{new_recovery_code, new_totp_secret, recovery_code, totp_code, totp_step, totp_uri};
