//! What a browser keeps for the server without being able to read or to change it: ChaCha20-Poly1305 (RFC 8439) under
//! a key that follows from the one that signs sessions, so that all gateways share it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;

use crate::secret::random;

/// Longest sealed text that is looked at, in bytes; browsers keep cookies of about 4 KB.
const MAX_SEALED: usize = 4096;

/// Seals and opens. A nonce is 96 random bits: far fewer than 2^32 texts are sealed in the life of a key.
pub struct Sealer(LessSafeKey);

impl Sealer {
    /// The key follows from `material`, which is secret.
    pub(crate) fn derive(material: &[u8]) -> Self {
        let material = hmac::Key::new(hmac::HMAC_SHA256, material);
        let key = hmac::sign(&material, b"alyx.seal.v1");
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).expect("SHA-256 has the length of a key");
        Self(LessSafeKey::new(key))
    }

    /// `text` in the alphabet of URLs, good for `purpose` alone.
    pub fn seal(&self, purpose: &str, text: &[u8]) -> String {
        let nonce: [u8; NONCE_LEN] = random();
        let mut sealed = text.to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(purpose),
                &mut sealed,
            )
            .expect("only texts of gigabytes are too long");
        URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat())
    }

    /// What was sealed for `purpose`; `None` where it was not sealed by this key, for something else, or was changed.
    pub fn open(&self, purpose: &str, sealed: &str) -> Option<Vec<u8>> {
        if sealed.len() > MAX_SEALED {
            return None;
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.0.open_in_place(nonce, Aad::from(purpose), text).ok()?;
        Some(text.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_opened_by_the_same_key_for_the_same_purpose() {
        let sealer = Sealer::derive(b"a");
        let sealed = sealer.seal("state", b"text");
        assert_eq!(
            Sealer::derive(b"a").open("state", &sealed).as_deref(),
            Some(&b"text"[..])
        );
        assert_eq!(Sealer::derive(b"b").open("state", &sealed), None, "another key");
        assert_eq!(sealer.open("other", &sealed), None, "another purpose");
        assert_ne!(sealer.seal("state", b"text"), sealed);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(sealer.open("state", &changed), None, "changed at {at}");
        }
        for nonsense in ["", "A", "AAAAAAAAAAAAAAAAAAAA", "not base64!", &"A".repeat(5000)] {
            assert_eq!(sealer.open("state", nonsense), None);
        }
    }
}
