//! Values of attributes: decoded, checked, and only what is known to be harmless kept.

/// What a link may lead to, besides places that are relative to the page.
const SCHEMES: [&str; 3] = ["http", "https", "mailto"];
/// Longest character reference, from `&` to `;`.
const LONGEST_REFERENCE: usize = 33;

/// The address of a link as a browser would follow it, unless its scheme is none of [`SCHEMES`]
/// (<https://url.spec.whatwg.org/#concept-basic-url-parser>).
pub(super) fn link(raw: &str) -> Option<String> {
    let decoded = decode(raw);
    let address: String = decoded
        .trim_matches(|c: char| c <= ' ')
        .chars()
        .filter(|c| !matches!(c, '\t' | '\n' | '\r'))
        .collect();
    let scheme = address.find([':', '/', '?', '#']);
    let scheme = scheme.filter(|&at| address.as_bytes()[at] == b':');
    let fits = scheme.is_none_or(|end| {
        SCHEMES
            .iter()
            .any(|scheme| scheme.eq_ignore_ascii_case(&address[..end]))
    });
    fits.then_some(address)
}

/// The name of a window that every page knows.
pub(super) fn target(raw: &str) -> Option<&'static str> {
    let known = ["_blank", "_self", "_parent", "_top"];
    known.into_iter().find(|name| name.eq_ignore_ascii_case(raw))
}

/// The link types of a `rel`, each once, in lower case.
pub(super) fn relations(raw: &str) -> Vec<String> {
    let mut relations: Vec<String> = Vec::new();
    for word in raw.split_ascii_whitespace() {
        let word = word.to_ascii_lowercase();
        let fits = word.len() <= 32 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        if fits && !relations.contains(&word) && relations.len() < 16 {
            relations.push(word);
        }
    }
    relations
}

/// Classes, such as `language-c++`; `None` where there are none.
pub(super) fn class(raw: &str) -> Option<String> {
    let fits = |word: &&str| {
        word.len() <= 64
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-+#.".contains(&byte))
    };
    let words: Vec<&str> = raw.split_ascii_whitespace().filter(fits).take(16).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// Length in bytes of the character reference that the text begins with, where it has the form of one.
pub(super) fn reference_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let end = bytes
        .iter()
        .take(LONGEST_REFERENCE)
        .position(|byte| *byte == b';')?;
    let name = bytes.get(1..end)?;
    let fits = match name {
        [b'#', b'x' | b'X', digits @ ..] => {
            (1..=6).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit)
        }
        [b'#', digits @ ..] => (1..=7).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit),
        [first, others @ ..] => first.is_ascii_alphabetic() && others.iter().all(u8::is_ascii_alphanumeric),
        [] => false,
    };
    fits.then_some(end + 1)
}

/// Text with its numeric references, with or without `;`, and the five that XML has, as characters. All others stay
/// as they are, and stand for themselves once their `&` is escaped again.
fn decode(raw: &str) -> String {
    const NAMED: [(&str, char); 5] = [
        ("&amp;", '&'),
        ("&lt;", '<'),
        ("&gt;", '>'),
        ("&quot;", '"'),
        ("&apos;", '\''),
    ];
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('&') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some((c, behind)) = numeric(rest) {
            text.push(c);
            rest = behind;
        } else if let Some((name, c)) = NAMED.iter().find(|(name, _)| rest.starts_with(name)) {
            text.push(*c);
            rest = &rest[name.len()..];
        } else {
            text.push('&');
            rest = &rest[1..];
        }
    }
    text.push_str(rest);
    text
}

/// The character of a numeric reference at the beginning, and what is behind it.
fn numeric(text: &str) -> Option<(char, &str)> {
    let number = text.strip_prefix("&#")?;
    let (digits, radix) = match number.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let behind = &digits[end..];
    let number = &digits[..end];
    if number.is_empty() {
        return None;
    }
    let code = u32::from_str_radix(number, radix).unwrap_or(u32::MAX);
    let c = char::from_u32(code).filter(|c| *c != '\0');
    Some((
        c.unwrap_or(char::REPLACEMENT_CHARACTER),
        behind.strip_prefix(';').unwrap_or(behind),
    ))
}
