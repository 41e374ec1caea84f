//! SQLite's `LIKE` without an escape character.
//!
//! Works on bytes and decodes characters as SQLite does, so that both agree also where raw SQL stored a blob that is
//! no UTF-8. Time is at most the product of both lengths: only the last `%` is ever tried again.

/// Whether `text LIKE pattern`. Both end at their first NUL, as in SQLite.
pub(crate) fn like(pattern: &[u8], text: &[u8]) -> bool {
    let (pattern, text) = (until_nul(pattern), until_nul(text));
    let (mut p, mut t) = (0, 0);
    // After the last `%`: the rest of the pattern, and where in the text it was last tried.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if let Some((wanted, after_wanted)) = next_char(pattern, p) {
            if wanted == u32::from(b'%') {
                retry = Some((after_wanted, t));
                p = after_wanted;
                continue;
            }
            if let Some((found, after_found)) = next_char(text, t)
                && (wanted == u32::from(b'_') || same(wanted, found))
            {
                (p, t) = (after_wanted, after_found);
                continue;
            }
        } else if t == text.len() {
            return true;
        }
        let Some((rest, tried)) = retry else { return false };
        let Some((_, after)) = next_char(text, tried) else {
            return false;
        };
        retry = Some((rest, after));
        (p, t) = (rest, after);
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    memchr::memchr(0, bytes).map_or(bytes, |end| &bytes[..end])
}

/// Equal, or the same ASCII letter in another case.
fn same(a: u32, b: u32) -> bool {
    a == b
        || matches!((u8::try_from(a), u8::try_from(b)), (Ok(a), Ok(b)) if a.is_ascii() && a.eq_ignore_ascii_case(&b))
}

/// The character at `at` and where the next one starts. What is not UTF-8 decodes as in `sqlite3Utf8Read`: a lead
/// byte takes every continuation byte behind it; overlong forms, surrogates, U+FFFE and U+FFFF are U+FFFD.
fn next_char(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    let lead = *bytes.get(at)?;
    let mut code = u32::from(lead);
    let mut next = at + 1;
    if lead < 0xC0 {
        return Some((code, next));
    }
    code &= match lead {
        0xC0..=0xDF => 0x1F,
        0xE0..=0xEF => 0x0F,
        0xF0..=0xF7 => 0x07,
        0xF8..=0xFB => 0x03,
        0xFC..=0xFD => 0x01,
        _ => 0x00,
    };
    while let Some(&byte) = bytes.get(next).filter(|&&byte| byte & 0xC0 == 0x80) {
        code = (code << 6) | u32::from(byte & 0x3F);
        next += 1;
    }
    let replaced = code < 0x80 || code & 0xFFFF_F800 == 0xD800 || code & 0xFFFF_FFFE == 0xFFFE;
    Some((if replaced { 0xFFFD } else { code }, next))
}

#[cfg(test)]
mod tests {
    use super::like;

    #[test]
    fn matches_as_sqlite_does() {
        let check = |text: &str, pattern: &str, expected: bool| {
            assert_eq!(
                like(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{text:?} LIKE {pattern:?}"
            );
        };
        check("hello", "HELLO", true);
        check("hello", "h%o", true);
        check("hello", "h_llo", true);
        check("hello", "hell", false);
        check("hello", "%ell%", true);
        check("", "", true);
        check("", "%", true);
        check("", "_", false);
        check("äb", "_b", true);
        check("äb", "Äb", false);
        check("50%", "50%", true);
        check("aab", "%ab", true);
        check("a\0b", "a", true);
        check("abc", "a\0zzz", false);
        check("\u{FFFE}", "\u{FFFD}", true);
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_the_product_of_the_lengths() {
        let text = "a".repeat(10_000);
        let pattern = format!("{}b", "%a".repeat(500));
        assert!(!like(pattern.as_bytes(), text.as_bytes()));
    }
}
