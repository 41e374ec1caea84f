//! The named text formats: UUID, short id, e-mail address, URL, date.

/// A UUID (RFC 9562: 8-4-4-4-12 hexadecimal digits, any version, any case) in lower case.
pub(crate) fn lower_uuid(text: &str) -> Option<String> {
    let fits = text.len() == 36
        && text.bytes().enumerate().all(|(position, byte)| match position {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    fits.then(|| text.to_ascii_lowercase())
}

/// `local@domain.tld`: ASCII, one `@`, a dotted domain whose last label has two letters or more. Deliberately
/// narrower than RFC 5322; addresses beyond it are better checked by sending mail to them.
pub(crate) fn is_email(text: &str) -> bool {
    const LONGEST: usize = 254;
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let Some((_, last)) = domain.rsplit_once('.') else {
        return false;
    };
    let local_fits = local
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._%+-'".contains(&b));
    let label_fits = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= LONGEST
        && !local.is_empty()
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local_fits
        && domain.split('.').all(label_fits)
        && last.len() >= 2
        && last.bytes().any(|b| b.is_ascii_alphabetic())
}

/// `http://` or `https://`, then a host, then anything without spaces or control characters.
pub(crate) fn is_url(text: &str) -> bool {
    let after_scheme = |scheme: &str| {
        text.get(..scheme.len())
            .filter(|start| start.eq_ignore_ascii_case(scheme))
            .map(|_| &text[scheme.len()..])
    };
    let Some(rest) = after_scheme("https://").or_else(|| after_scheme("http://")) else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host_fits = !host.is_empty() && !host.starts_with(['.', ':']);
    host_fits && !rest.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Characters of a date.
pub(crate) const DATE_LENGTH: usize = 10;

/// `YYYY-MM-DD`, a day that the Gregorian calendar has, in the years 0000 to 9999.
pub(crate) fn is_date(text: &str) -> bool {
    let shaped = text.len() == DATE_LENGTH
        && text.bytes().enumerate().all(|(position, byte)| match position {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    shaped && alyx_core::normalize_timestamp(text).is_some()
}

/// 15 letters and digits of ASCII, upper and lower case apart.
pub(crate) fn is_short_id(text: &str) -> bool {
    text.len() == alyx_core::SHORT_ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What ids of files are made of; which of them there are is not known here.
pub(crate) fn is_file_id(text: &str) -> bool {
    const LONGEST: usize = 128;
    (1..=LONGEST).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_have_15_letters_and_digits() {
        assert!(is_short_id("aB3dE6gH9jK2mN5"));
        assert!(is_short_id(&alyx_core::new_short_id()));
        for bad in [
            "",
            "aB3dE6gH9jK2mN",
            "aB3dE6gH9jK2mN5x",
            "aB3dE6gH9jK2mN-",
            "äB3dE6gH9jK2mN",
        ] {
            assert!(!is_short_id(bad), "{bad}");
        }
        assert!(is_file_id("0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3d") && is_file_id("a_1"));
        for bad in ["", "a/b", "..", "a b", "ä", &"a".repeat(129)] {
            assert!(!is_file_id(bad), "{bad}");
        }
    }

    #[test]
    fn dates_are_days_of_the_calendar() {
        for good in [
            "2026-01-31",
            "2024-02-29",
            "2000-02-29",
            "0000-01-01",
            "9999-12-31",
        ] {
            assert!(is_date(good), "{good}");
        }
        for bad in [
            "",
            "2026-02-29",
            "1900-02-29",
            "2026-99-99",
            "2026-00-10",
            "2026-1-31",
            "2026-01-31T00:00:00Z",
            " 2026-01-3",
            "+026-01-31",
            "２026-01-3",
        ] {
            assert!(!is_date(bad), "{bad}");
        }
    }

    #[test]
    fn uuids_of_any_version_and_case_come_out_lower_case() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(lower_uuid(text).as_deref(), expected, "{text}");
        };
        let lower = "0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3d";
        check(lower, Some(lower));
        check(&lower.to_uppercase(), Some(lower));
        check("0190a6c47e1b7c3a9d526f0e8b1a2c3d", None);
        check("0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3", None);
        check("0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3g", None);
        check("{190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3d", None);
        check("", None);
    }

    #[test]
    fn email_addresses() {
        for good in [
            "a@b.io",
            "first.last+tag@sub.example.com",
            "o'neil@example.org",
            "x_%@9.cc",
        ] {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "a@b",
            "@b.io",
            "a@.io",
            "a@b.i",
            "a b@c.io",
            "a@b@c.io",
            "a@-b.io",
            "a..b@c.io",
            "ä@b.io",
            "a@b.12",
        ] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn urls() {
        for good in [
            "http://a",
            "https://example.com/x?y=z#q",
            "HTTPS://EXAMPLE.com",
            "http://u:p@h:8080/",
            "http://[::1]/",
            "https://bücher.example/",
        ] {
            assert!(is_url(good), "{good}");
        }
        for bad in [
            "",
            "example.com",
            "ftp://a",
            "http://",
            "http:///x",
            "http://?q",
            "http://a b",
            "http://.x",
        ] {
            assert!(!is_url(bad), "{bad}");
        }
    }
}
