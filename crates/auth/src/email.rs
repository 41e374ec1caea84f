//! E-mail addresses as accounts are told apart by them.

use alyx_core::{Error, ErrorKind, Result};

/// Longest address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const MAX_LENGTH: usize = 254;
/// Longest part before the `@` (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL: usize = 64;

/// The address in the one form that accounts have: without blanks around it, in lower case. Only what would make the
/// address unusable or ambiguous is refused: whether mail arrives is shown by sending some.
///
/// # Errors
///
/// `EMAIL_REQUIRED` where there is none, `INVALID_EMAIL`.
pub fn normalize_email(text: &str) -> Result<String> {
    let email = text.trim().to_lowercase();
    if email.is_empty() {
        return Err(refused("EMAIL_REQUIRED", "`email` is required"));
    }
    let plain = |text: &str| {
        let odd =
            |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | ',' | ';' | '\\');
        !text.is_empty() && !text.contains(odd)
    };
    let valid = email.len() <= MAX_LENGTH
        && email.split_once('@').is_some_and(|(local, domain)| {
            let labels = !domain.split('.').any(str::is_empty);
            local.len() <= MAX_LOCAL && plain(local) && plain(domain) && !domain.contains('@') && labels
        });
    if valid {
        return Ok(email);
    }
    Err(refused(
        "INVALID_EMAIL",
        "`email` is not an e-mail address; write one such as name@example.com",
    ))
}

fn refused(code: &'static str, message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, code, message).with_field("email")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_one_form() {
        let check = |text: &str, expected: &str| assert_eq!(normalize_email(text).expect(text), expected);
        check(" A@X.io ", "a@x.io");
        check("first.last+tag@sub.example.com", "first.last+tag@sub.example.com");
        check("MÜLLER@example.com", "müller@example.com");
        check("root@localhost", "root@localhost");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let check = |text: &str, code: &str| {
            let error = normalize_email(text).expect_err(text);
            assert_eq!((error.code(), error.field()), (code, Some("email")), "{text}");
        };
        check("", "EMAIL_REQUIRED");
        check("  \t", "EMAIL_REQUIRED");
        for text in [
            "name",
            "@x.io",
            "a@",
            "a@b@c",
            "a b@x.io",
            "a@x..io",
            "a@x.io\r\nBcc: b@x.io",
            "a@x.io,b@x.io",
            "<a@x.io>",
        ] {
            check(text, "INVALID_EMAIL");
        }
        check(&format!("{}@x.io", "a".repeat(65)), "INVALID_EMAIL");
        check(&format!("a@{}.io", "b".repeat(254)), "INVALID_EMAIL");
    }
}
