//! Random secrets, and what is kept of them: a digest, never the secret itself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

/// What is kept of a secret that the server has made up: SHA-256. Enough, because 256 random bits cannot be guessed.
pub type TokenDigest = [u8; 32];

/// 256 random bits in the alphabet of URLs: 43 characters.
pub fn new_secret() -> String {
    URL_SAFE_NO_PAD.encode(random::<32>())
}

/// Six random digits, for people to type. Only safe where guesses are counted.
pub fn new_code() -> String {
    const CODES: u32 = 1_000_000;
    // Numbers beyond would make the first codes likelier.
    const FAIR: u32 = u32::MAX / CODES * CODES;
    loop {
        let number = u32::from_le_bytes(random());
        if number < FAIR {
            return format!("{:06}", number % CODES);
        }
    }
}

/// What is kept of a secret.
pub fn token_digest(secret: &str) -> TokenDigest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    bytes
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system's source of randomness does not fail once it has started");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_are_long() {
        assert_ne!(new_secret(), new_secret());
        assert_eq!(new_secret().len(), 43);
        assert_ne!(token_digest("a"), token_digest("b"));
    }

    #[test]
    fn codes_have_six_digits() {
        for _ in 0..1_000 {
            let code = new_code();
            assert!(
                code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()),
                "{code}"
            );
        }
    }
}
