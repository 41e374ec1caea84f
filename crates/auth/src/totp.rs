//! Codes of the time as authenticator apps show them (TOTP, RFC 6238: SHA-1, 30 seconds, six digits), and recovery
//! codes for whoever has lost the app.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use subtle::ConstantTimeEq;

use crate::secret::random;

/// How long a code is shown, in seconds.
const STEP: u64 = 30;
/// Steps before and after the present one whose codes are good, for clocks that are apart (RFC 6238, section 5.2).
const WINDOW: u64 = 1;
/// Base 32 (RFC 4648, section 6).
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// What stays as it is in a URI (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Characters of a recovery code, five bits each.
const RECOVERY_LENGTH: usize = 16;

/// A new shared secret, in base 32: 160 bits, as RFC 4226 recommends.
pub fn new_totp_secret() -> String {
    base32(&random::<20>())
}

/// What an app is told, mostly as a QR code: the account as its owner knows it, and the secret.
pub fn totp_uri(issuer: &str, account: &str, secret: &str) -> String {
    let (issuer, account) = (
        utf8_percent_encode(issuer, ENCODED),
        utf8_percent_encode(account, ENCODED),
    );
    format!(
        "otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits=6&period={STEP}"
    )
}

/// The step of time whose code that is, where it is one that is good at `now` (seconds of Unix time). Whoever accepts
/// a code must not accept that step again.
pub fn totp_step(secret: &str, code: &str, now: u64) -> Option<u64> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &unbase32(secret)?);
    let present = now / STEP;
    let mut found = None;
    // All are compared, so that the time tells nothing about which one it was.
    for step in present.saturating_sub(WINDOW)..=present + WINDOW {
        if bool::from(code_at(&key, step).as_bytes().ct_eq(code.as_bytes())) {
            found = Some(step);
        }
    }
    found
}

/// The code that an app shows at `now` (seconds of Unix time); `None` where `secret` is not one.
pub fn totp_code(secret: &str, now: u64) -> Option<String> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &unbase32(secret)?);
    Some(code_at(&key, now / STEP))
}

/// RFC 4226, section 5.3.
fn code_at(key: &hmac::Key, step: u64) -> String {
    let tag = hmac::sign(key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[tag.len() - 1] & 0xf);
    let number = u32::from_be_bytes([tag[at] & 0x7f, tag[at + 1], tag[at + 2], tag[at + 3]]);
    format!("{:06}", number % 1_000_000)
}

/// A code of 80 random bits, in groups that can be copied by hand.
pub fn new_recovery_code() -> String {
    let code = base32(&random::<10>());
    let groups: Vec<&str> = (0..RECOVERY_LENGTH)
        .step_by(4)
        .map(|at| &code[at..at + 4])
        .collect();
    groups.join("-")
}

/// A recovery code in the form in which [`new_recovery_code`] made it, however it was typed; `None` where it is none.
pub fn recovery_code(typed: &str) -> Option<String> {
    let typed = typed.get(..64.min(typed.len()))?;
    let plain: Vec<u8> = typed
        .bytes()
        .filter(|byte| !matches!(byte, b'-' | b' '))
        .map(|byte| byte.to_ascii_uppercase())
        .collect();
    if plain.len() != RECOVERY_LENGTH || !plain.iter().all(|byte| ALPHABET.contains(byte)) {
        return None;
    }
    let plain = String::from_utf8(plain).ok()?;
    Some([&plain[..4], &plain[4..8], &plain[8..12], &plain[12..]].join("-"))
}

/// Without padding: lengths here are multiples of five bytes.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let mut block = [0; 8];
        block[3..3 + chunk.len()].copy_from_slice(chunk);
        let number = u64::from_be_bytes(block);
        for at in (0..8).rev() {
            text.push(char::from(ALPHABET[(number >> (at * 5)) as usize & 31]));
        }
    }
    text
}

fn unbase32(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(8) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 8 * 5);
    for chunk in text.as_bytes().chunks(8) {
        let mut number = 0_u64;
        for byte in chunk {
            let digit = ALPHABET.iter().position(|letter| letter == byte)?;
            number = number << 5 | digit as u64;
        }
        bytes.extend_from_slice(&number.to_be_bytes()[3..]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, of whose eight digits apps show the last six.
    #[test]
    fn codes_are_those_of_the_standard() {
        let secret = base32(b"12345678901234567890");
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(totp_step(&secret, code, time), Some(time / STEP), "{time}");
            assert_eq!(totp_code(&secret, time).as_deref(), Some(code), "{time}");
        }
    }

    #[test]
    fn a_code_is_good_for_three_steps_and_tells_its_own() {
        let secret = base32(b"12345678901234567890");
        let check = |now: u64, expected: Option<u64>| {
            assert_eq!(totp_step(&secret, "279037", now), expected, "{now}");
        };
        let step = 2_000_000_000 / STEP;
        check((step - 1) * STEP, Some(step));
        check(step * STEP, Some(step));
        check((step + 2) * STEP - 1, Some(step));
        check((step + 2) * STEP, None);
        check((step - 1) * STEP - 1, None);
        for code in ["", "27903", "2790370", " 279037", "279038", "２７９０３７"] {
            assert_eq!(totp_step(&secret, code, 2_000_000_000), None, "{code}");
        }
        assert_eq!(totp_step("no base 32", "279037", 2_000_000_000), None);
    }

    #[test]
    fn secrets_are_long_and_differ() {
        let secret = new_totp_secret();
        assert_eq!(secret.len(), 32);
        assert_eq!(unbase32(&secret).expect("base 32").len(), 20);
        assert_ne!(secret, new_totp_secret());
        assert_eq!(
            totp_uri("My app", "a@x.io", "ABC"),
            "otpauth://totp/My%20app:a%40x.io?secret=ABC&issuer=My%20app&algorithm=SHA1&digits=6&period=30"
        );
    }

    #[test]
    fn recovery_codes_are_read_as_people_type_them() {
        let code = new_recovery_code();
        assert_eq!(code.len(), 19);
        assert_ne!(code, new_recovery_code());
        let check = |typed: &str, expected: Option<&str>| {
            assert_eq!(recovery_code(typed).as_deref(), expected, "{typed}");
        };
        check(&code, Some(&code));
        check(&code.to_lowercase().replace('-', " "), Some(&code));
        check(&code.replace('-', ""), Some(&code));
        check("", None);
        check("123456", None);
        check("ABCD-ABCD-ABCD-ABC1", None);
        check(&"ABCD ".repeat(100), None);
        check("ééééééééééééééééééééééééééééééééé", None);
    }
}
