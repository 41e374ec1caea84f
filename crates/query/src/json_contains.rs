//! [`Filter::JsonContains`](crate::Filter::JsonContains) in memory.
//!
//! What SQLite's `json_valid` takes for JSON is JSON here too, and strings are compared as the bytes that SQLite
//! decodes. Numbers need care: SQLite's conversion of decimal text can be off in the last bit. Numbers of at most
//! [`MAX_BY_VALUE`] characters differ by more than that, so they are compared by value; longer ones must be written
//! alike. `sql.rs` says the same in SQL.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::ast::JsonNeedle;

/// Numbers of at most so many characters are compared by value.
pub(crate) const MAX_BY_VALUE: usize = 15;

/// SQLite does not read JSON nested deeper.
const MAX_DEPTH: usize = 1000;

/// Whether the stored text is a json array with that element, an object with that key or a string with that part.
pub(crate) fn json_contains(text: &str, needle: &JsonNeedle) -> bool {
    let Some(text) = readable(text) else { return false };
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = match text
        .trim_start_matches([' ', '\t', '\n', '\r'])
        .as_bytes()
        .first()
    {
        Some(b'[') => reader.deserialize_seq(ArrayVisitor(needle)),
        Some(b'{') => match needle {
            JsonNeedle::Text(key) => reader.deserialize_map(ObjectVisitor(key)),
            JsonNeedle::Number(_) | JsonNeedle::Bool(_) => return false,
        },
        Some(b'"') => match needle {
            JsonNeedle::Text(part) => Decoded::deserialize(&mut reader)
                .map(|Decoded(text)| memchr::memmem::find(&text, part.as_bytes()).is_some()),
            JsonNeedle::Number(_) | JsonNeedle::Bool(_) => return false,
        },
        _ => return false,
    };
    found.is_ok_and(|found| found && reader.end().is_ok())
}

/// What SQLite's parser sees of the text, unless it refuses it for its depth or its control characters.
pub(crate) fn readable(text: &str) -> Option<&str> {
    // It ends at a NUL.
    let text = text.split('\0').next().unwrap_or_default();
    Some(text).filter(|text| !too_deep(text) && !has_control_in_string(text))
}

/// The bytes of a JSON string, where it is one.
pub(crate) fn decoded(raw: &str) -> Option<Vec<u8>> {
    let text = raw.starts_with('"').then_some(raw)?;
    serde_json::from_str::<Decoded>(text).ok().map(|text| text.0)
}

/// Decoding to bytes lets control characters through that JSON does not allow; skipping a value does not.
fn has_control_in_string(text: &str) -> bool {
    text.bytes().any(|byte| byte < b' ') && serde_json::from_str::<IgnoredAny>(text).is_err()
}

/// Brackets outside strings, counted only where there are enough bytes for them.
fn too_deep(text: &str) -> bool {
    if text.len() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

fn is_needle(raw: &str, needle: &JsonNeedle) -> bool {
    match needle {
        JsonNeedle::Bool(true) => raw == "true",
        JsonNeedle::Bool(false) => raw == "false",
        JsonNeedle::Number(number) => {
            let is_number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
            is_number && (raw == number.as_ref() || same_value(raw, number))
        }
        JsonNeedle::Text(text) => {
            raw.starts_with('"')
                && serde_json::from_str::<Decoded>(raw).is_ok_and(|found| found.0 == text.as_bytes())
        }
    }
}

fn same_value(element: &str, needle: &str) -> bool {
    element.len() <= MAX_BY_VALUE
        && by_value(needle)
            .is_some_and(|needle| element.parse::<f64>().is_ok_and(|element| element == needle))
}

/// The needle's value, where it is compared by value: at the ends of the range floats lie too far apart for that.
pub(crate) fn by_value(needle: &str) -> Option<f64> {
    Some(needle)
        .filter(|needle| needle.len() <= MAX_BY_VALUE)
        .and_then(|needle| needle.parse::<f64>().ok())
        .filter(|value| *value == 0.0 || (1e-300..=1e300).contains(&value.abs()))
}

struct ArrayVisitor<'n>(&'n JsonNeedle);

impl<'de> Visitor<'de> for ArrayVisitor<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(raw) = seq.next_element::<&RawValue>()? {
            found = found || is_needle(raw.get(), self.0);
        }
        Ok(found)
    }
}

struct ObjectVisitor<'n>(&'n str);

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(Decoded(key)) = map.next_key()? {
            found = found || key == self.0.as_bytes();
            map.next_value::<IgnoredAny>()?;
        }
        Ok(found)
    }
}

/// A JSON string's bytes. Bytes and not text, because an escape may stand for half a surrogate pair.
pub(crate) struct Decoded(pub(crate) Vec<u8>);

impl<'de> Deserialize<'de> for Decoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(DecodedVisitor).map(Self)
    }
}

struct DecodedVisitor;

impl Visitor<'_> for DecodedVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_str<E>(self, text: &str) -> Result<Vec<u8>, E> {
        Ok(text.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_into_arrays_objects_and_strings() {
        let text = |needle: &str| JsonNeedle::Text(needle.into());
        let number = |needle: &str| JsonNeedle::Number(needle.into());
        let check = |json: &str, needle: JsonNeedle, expected: bool| {
            assert_eq!(json_contains(json, &needle), expected, "{json} with {needle:?}");
        };
        check(r#"["a","b"]"#, text("b"), true);
        check(r#"["ab"]"#, text("b"), false);
        check(r#"["\u0061"]"#, text("a"), true);
        check(r#"[["b"]]"#, text("b"), false);
        check(r#"{"b":1}"#, text("b"), true);
        check(r#"{"a":"b"}"#, text("b"), false);
        check(r#""abc""#, text("b"), true);
        check(r#""ab\ud800""#, text("b"), true);
        check("[1,1.50,2e1]", number("1.5"), true);
        check("[1,1.50,2e1]", number("20"), true);
        check("[1,1.50,2e1]", number("2"), false);
        check("[9007199254740993]", number("9007199254740993"), true);
        check("[9007199254740993]", number("9007199254740992"), false);
        check("[true]", JsonNeedle::Bool(true), true);
        check("[true]", number("1"), false);
        check("[1]", text("1"), false);
        check("1", number("1"), false);
        check("[1] x", number("1"), false);
        check("not json", text("json"), false);
        check(
            &format!("{}1{}", "[".repeat(1001), "]".repeat(1001)),
            number("1"),
            false,
        );
        check(
            &format!("[1,{}]", "[".repeat(998) + &"]".repeat(998)),
            number("1"),
            true,
        );
    }
}
