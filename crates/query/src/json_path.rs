//! A place inside a json value: object keys and places in lists, from the top.

use std::fmt;
use std::fmt::Write as _;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json_contains::{Decoded, readable};

/// Steps of a path at most.
const MAX_STEPS: usize = 8;
/// Bytes of one key at most.
const MAX_KEY: usize = 128;
/// Digits of a place in a list at most.
const MAX_DIGITS: usize = 6;

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The member of an object with that key; of several, the first.
    Key(String),
    /// The element of a list, from 0.
    Place(u32),
}

/// Steps from the top of a json value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath {
    steps: Vec<Step>,
    sql: String,
}

impl JsonPath {
    /// Reads `size`, `dimensions.width` or `parts.0.name`. A step of nothing but digits is a place in a list.
    ///
    /// # Errors
    /// What is wrong with the path, as the end of a sentence that names it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        for part in text.split('.') {
            if part.is_empty() {
                return Err("has an empty step in its path".to_owned());
            }
            if part.len() > MAX_KEY {
                return Err(format!("has a key of more than {MAX_KEY} bytes in its path"));
            }
            if part.chars().any(|c| c.is_control() || matches!(c, '"' | '\\')) {
                return Err("has a quote, a backslash or a control character in its path".to_owned());
            }
            steps.push(if part.bytes().all(|byte| byte.is_ascii_digit()) {
                let place = Some(part).filter(|part| part.len() <= MAX_DIGITS);
                let place = place.and_then(|part| part.parse().ok());
                Step::Place(place.ok_or_else(|| format!("has a place of more than {MAX_DIGITS} digits"))?)
            } else {
                Step::Key(part.to_owned())
            });
        }
        if steps.len() > MAX_STEPS {
            return Err(format!("has more than {MAX_STEPS} steps in its path"));
        }
        let sql = sql(&steps);
        Ok(Self { steps, sql })
    }

    /// The whole value. It is written as nothing, which [`JsonPath::parse`] does not take.
    pub fn root() -> Self {
        Self {
            steps: Vec::new(),
            sql: sql(&[]),
        }
    }

    /// As SQLite writes it: `$."a"[0]`.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The value there as it is written; none where the text is no JSON or has nothing there.
    pub(crate) fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        let mut found = whole(readable(text)?)?;
        for step in &self.steps {
            let mut reader = serde_json::Deserializer::from_str(found);
            let inner = match (step, found.as_bytes().first()) {
                (Step::Key(key), Some(b'{')) => reader.deserialize_map(Member(key)),
                (Step::Place(place), Some(b'[')) => reader.deserialize_seq(Element(*place)),
                _ => return None,
            };
            found = inner.ok()??.get();
        }
        Some(found)
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "." })?;
            match step {
                Step::Key(key) => f.write_str(key)?,
                Step::Place(place) => write!(f, "{place}")?,
            }
        }
        Ok(())
    }
}

fn sql(steps: &[Step]) -> String {
    let mut sql = "$".to_owned();
    for step in steps {
        match step {
            Step::Key(key) => write!(sql, ".\"{key}\""),
            Step::Place(place) => write!(sql, "[{place}]"),
        }
        .expect("writing to a string cannot fail");
    }
    sql
}

/// The text without the white space around it, where it is JSON.
fn whole(text: &str) -> Option<&str> {
    serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get)
}

struct Member<'k>(&'k str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Decoded(key)) = map.next_key()? {
            if found.is_none() && key == self.0.as_bytes() {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

struct Element(u32);

impl<'de> Visitor<'de> for Element {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        for _ in 0..self.0 {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = list.next_element()?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there() {
        let check = |json: &str, path: &str, expected: Option<&str>| {
            let path = JsonPath::parse(path).expect("a sound path");
            assert_eq!(path.find(json), expected, "{json} at {path}");
        };
        check(r#"{"a":1,"b":{"c":[true,null]}}"#, "a", Some("1"));
        check(r#"{"a":1,"b":{"c":[true,null]}}"#, "b.c.1", Some("null"));
        check(r#" {"b": {"c": [ true ]} } "#, "b.c", Some("[ true ]"));
        check(r#"{"a":1}"#, "b", None);
        check(r#"{"a":1}"#, "a.b", None);
        check(r#"[1,2]"#, "1", Some("2"));
        check(r#"[1,2]"#, "2", None);
        check(r#"{"1":2}"#, "1", None);
        check(r#"{"\u0061":1,"a":2}"#, "a", Some("1"));
        check(r#"{"a":1"#, "a", None);
        check(r#"{"a":1} x"#, "a", None);
    }

    #[test]
    fn paths_are_bounded_and_plain() {
        for path in [
            "",
            "a.",
            "a..b",
            "a\"b",
            "a\\b",
            "a\nb",
            "1234567",
            "a.b.c.d.e.f.g.h.i",
        ] {
            assert!(JsonPath::parse(path).is_err(), "{path:?}");
        }
        let path = JsonPath::parse("parts.0.größe x").expect("sound");
        assert_eq!(path.sql(), "$.\"parts\"[0].\"größe x\"");
        assert_eq!(path.to_string(), "parts.0.größe x");
    }
}
