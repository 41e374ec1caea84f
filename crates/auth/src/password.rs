//! Passwords: what they must be, and how they are kept.
//!
//! Kept as argon2id in the PHC string format (RFC 9106; <https://github.com/P-H-C/phc-string-format>). Hashes of bcrypt,
//! as other systems leave them, are verified too, and said to be old. **Invariant:** the cost of a kept hash is bounded
//! before it is computed, so that a hash that came from elsewhere cannot take the machine.

use alyx_core::{Error, ErrorKind, Result};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use subtle::ConstantTimeEq as _;

use crate::secret::random;

/// Longest password in bytes.
pub const MAX_PASSWORD: usize = 1024;

/// Memory in KiB, passes and lanes: what OWASP recommends, about 20 ms of one core.
const MEMORY: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Most memory in KiB that a kept hash may ask for.
const MAX_MEMORY: u32 = 64 * 1024;
/// Most passes that a kept hash may ask for.
const MAX_PASSES: u32 = 10;
/// Highest cost of a kept bcrypt hash, about a second of one core.
const MAX_BCRYPT_COST: u32 = 14;
const SALT: usize = 16;
const HASH: usize = 32;

/// What a new password must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Fewest characters.
    pub min_length: usize,
    /// Whether an upper-case letter must be in it.
    pub require_uppercase: bool,
    /// Whether a lower-case letter must be in it.
    pub require_lowercase: bool,
    /// Whether a digit must be in it.
    pub require_number: bool,
    /// Whether something that is neither a letter, a digit nor a blank must be in it.
    pub require_special: bool,
}

/// What comparing a password with a kept hash gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is another password, or the hash is not one.
    Wrong,
    /// It is the password.
    Right,
    /// It is the password, kept in a form that should be replaced by [`hash_password`]'s.
    RightButOld,
}

impl Policy {
    /// Whether a new password may be used.
    ///
    /// # Errors
    ///
    /// `PASSWORD_REQUIRED`, `PASSWORD_TOO_SHORT`, `PASSWORD_TOO_LONG`, `PASSWORD_NO_UPPERCASE`,
    /// `PASSWORD_NO_LOWERCASE`, `PASSWORD_NO_NUMBER`, `PASSWORD_NO_SPECIAL`.
    pub fn check(&self, password: &str) -> Result<()> {
        let refuse = |code: &'static str, message: String| {
            Err(Error::new(ErrorKind::InvalidInput, code, message).with_field("password"))
        };
        let lacks = |required: bool, kind: fn(char) -> bool| required && !password.chars().any(kind);
        if password.is_empty() {
            return refuse("PASSWORD_REQUIRED", "`password` is required".to_owned());
        }
        if password.chars().count() < self.min_length {
            let message = format!("the password has fewer than {} characters", self.min_length);
            return refuse("PASSWORD_TOO_SHORT", message);
        }
        if password.len() > MAX_PASSWORD {
            let message = format!("the password has more than {MAX_PASSWORD} bytes");
            return refuse("PASSWORD_TOO_LONG", message);
        }
        if lacks(self.require_uppercase, char::is_uppercase) {
            return refuse(
                "PASSWORD_NO_UPPERCASE",
                "the password has no upper-case letter".to_owned(),
            );
        }
        if lacks(self.require_lowercase, char::is_lowercase) {
            return refuse(
                "PASSWORD_NO_LOWERCASE",
                "the password has no lower-case letter".to_owned(),
            );
        }
        if lacks(self.require_number, char::is_numeric) {
            return refuse("PASSWORD_NO_NUMBER", "the password has no digit".to_owned());
        }
        if lacks(self.require_special, |c| {
            !c.is_alphanumeric() && !c.is_whitespace()
        }) {
            return refuse(
                "PASSWORD_NO_SPECIAL",
                "the password has no special character".to_owned(),
            );
        }
        Ok(())
    }
}

/// The hash to keep. Takes tens of milliseconds of one core and 19 MiB, so not for a thread that serves requests.
pub fn hash_password(password: &str) -> String {
    let salt = random::<SALT>();
    let hash = argon2id(password, &salt, (MEMORY, PASSES, LANES))
        .expect("the parameters are within the algorithm's bounds");
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    format!("$argon2id$v=19$m={MEMORY},t={PASSES},p={LANES}${salt}${hash}")
}

/// Compares a password with a kept hash. As costly as [`hash_password`].
pub fn verify_password(password: &str, kept: &str) -> Verdict {
    if password.len() > MAX_PASSWORD {
        return Verdict::Wrong;
    }
    if let Some(cost) = bcrypt_cost(kept) {
        let fits = cost <= MAX_BCRYPT_COST && bcrypt::verify(password, kept).unwrap_or(false);
        return if fits {
            Verdict::RightButOld
        } else {
            Verdict::Wrong
        };
    }
    let Some(kept) = Kept::parse(kept) else {
        return Verdict::Wrong;
    };
    let cost = (kept.memory, kept.passes, kept.lanes);
    match argon2id(password, &kept.salt, cost) {
        Some(hash) if bool::from(hash[..].ct_eq(&kept.hash)) => {
            if cost == (MEMORY, PASSES, LANES) {
                Verdict::Right
            } else {
                Verdict::RightButOld
            }
        }
        Some(_) | None => Verdict::Wrong,
    }
}

/// Takes as long as [`verify_password`] with a hash of our own, and finds nothing: for accounts that do not exist, so
/// that the time of the answer does not tell them from others.
pub fn verify_nobody(password: &str) {
    let password = password.get(..MAX_PASSWORD).unwrap_or(password);
    std::hint::black_box(argon2id(password, &[0; SALT], (MEMORY, PASSES, LANES)));
}

fn argon2id(password: &str, salt: &[u8], (memory, passes, lanes): (u32, u32, u32)) -> Option<[u8; HASH]> {
    let params = Params::new(memory, passes, lanes, Some(HASH)).ok()?;
    let mut hash = [0; HASH];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut hash)
        .ok()?;
    Some(hash)
}

/// The cost of a bcrypt hash, `None` where it is none.
fn bcrypt_cost(kept: &str) -> Option<u32> {
    let rest = ["$2a$", "$2b$", "$2x$", "$2y$"]
        .iter()
        .find_map(|version| kept.strip_prefix(version))?;
    rest.split('$').next()?.parse().ok()
}

/// An argon2id hash, taken apart, its cost within bounds.
struct Kept {
    memory: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Kept {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let mut costs = parts.next()?.split(',');
        let mut cost = |name: &str| costs.next()?.strip_prefix(name)?.parse::<u32>().ok();
        let (memory, passes, lanes) = (cost("m=")?, cost("t=")?, cost("p=")?);
        let decoded = |part: &str| STANDARD_NO_PAD.decode(part).ok();
        let (salt, hash) = (decoded(parts.next()?)?, decoded(parts.next()?)?);
        let bounded = memory <= MAX_MEMORY && passes <= MAX_PASSES && lanes <= 16 && salt.len() <= 64;
        (bounded && hash.len() == HASH && parts.next().is_none()).then_some(Self {
            memory,
            passes,
            lanes,
            salt,
            hash,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Policy = Policy {
        min_length: 8,
        require_uppercase: false,
        require_lowercase: false,
        require_number: false,
        require_special: false,
    };

    #[test]
    fn a_password_is_recognised_by_its_hash_alone() {
        let kept = hash_password("correct horse");
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert_eq!(verify_password("correct horse", &kept), Verdict::Right);
        assert_eq!(verify_password("correct horsf", &kept), Verdict::Wrong);
        assert_eq!(verify_password("", &kept), Verdict::Wrong);
        assert_ne!(
            kept,
            hash_password("correct horse"),
            "each hash has a salt of its own"
        );
    }

    #[test]
    fn hashes_of_other_systems_are_verified_and_called_old() {
        // Published test vectors of bcrypt (crypt_blowfish) and of the argon2 reference implementation's format.
        let bcrypt = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert_eq!(verify_password("U*U", bcrypt), Verdict::RightButOld);
        assert_eq!(verify_password("U*V", bcrypt), Verdict::Wrong);
        let weaker = argon2id("password", b"somesalt", (256, 2, 1)).expect("a hash");
        let weaker = format!(
            "$argon2id$v=19$m=256,t=2,p=1${}${}",
            STANDARD_NO_PAD.encode(b"somesalt"),
            STANDARD_NO_PAD.encode(weaker)
        );
        // The reference implementation's own vector (phc-winner-argon2, src/test.c).
        assert!(
            weaker.ends_with("$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"),
            "{weaker}"
        );
        assert_eq!(verify_password("password", &weaker), Verdict::RightButOld);
    }

    #[test]
    fn a_hash_that_asks_for_too_much_is_not_computed() {
        let kept = hash_password("correct horse");
        for (from, to) in [
            ("m=19456", "m=4000000"),
            ("t=2", "t=4000000"),
            ("p=1", "p=17"),
            ("v=19", "v=16"),
            ("argon2id", "argon2i"),
        ] {
            let altered = kept.replace(from, to);
            assert_eq!(verify_password("correct horse", &altered), Verdict::Wrong, "{to}");
        }
        let costly = "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert_eq!(verify_password("U*U", costly), Verdict::Wrong);
        for broken in [
            "",
            "plain",
            "$argon2id$v=19$m=1",
            "$2b$xx$",
            "$argon2id$v=19$m=8,t=1,p=1$!$!",
        ] {
            assert_eq!(verify_password("U*U", broken), Verdict::Wrong, "{broken}");
        }
        let long = "a".repeat(MAX_PASSWORD + 1);
        assert_eq!(verify_password(&long, &kept), Verdict::Wrong);
    }

    #[test]
    fn the_policy_names_what_is_missing() {
        let check = |policy: &Policy, password: &str, expected: &str| {
            let code = policy.check(password).map_err(|error| error.code().to_owned());
            assert_eq!(code.err().unwrap_or_default(), expected, "{password}");
        };
        check(&OPEN, "", "PASSWORD_REQUIRED");
        check(&OPEN, "sevenup", "PASSWORD_TOO_SHORT");
        check(&OPEN, "üüüüüüü", "PASSWORD_TOO_SHORT");
        check(&OPEN, "eightups", "");
        check(&OPEN, &"a".repeat(MAX_PASSWORD), "");
        check(&OPEN, &"a".repeat(MAX_PASSWORD + 1), "PASSWORD_TOO_LONG");
        let strict = Policy {
            require_uppercase: true,
            require_lowercase: true,
            require_number: true,
            require_special: true,
            ..OPEN
        };
        check(&strict, "lowercase1!", "PASSWORD_NO_UPPERCASE");
        check(&strict, "UPPERCASE1!", "PASSWORD_NO_LOWERCASE");
        check(&strict, "NoNumbers!!", "PASSWORD_NO_NUMBER");
        check(&strict, "NoSpecial 1", "PASSWORD_NO_SPECIAL");
        check(&strict, "AllOfThem1!", "");
    }
}
