//! One JSON value as the text it was written in, told apart by kind. Nothing is converted before the field's
//! type is known, so no digit of a number is lost.

use std::borrow::Cow;
use std::fmt;

use alyx_core::{Error, ErrorKind};
use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON value; the text is valid JSON, except that escapes may name half a surrogate pair.
#[derive(Debug, Clone, Copy)]
pub(super) enum Token<'b> {
    Null,
    Bool(bool),
    /// As written.
    Number(&'b str),
    /// With its quotes and escapes.
    Text(&'b str),
    /// An array.
    Array(&'b str),
    /// An object.
    Object(&'b str),
}

impl<'b> Token<'b> {
    /// `text` is one valid JSON value without space around it.
    fn new(text: &'b str) -> Self {
        match text.as_bytes().first() {
            Some(b'"') => Self::Text(text),
            Some(b'{') => Self::Object(text),
            Some(b'[') => Self::Array(text),
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'n') | None => Self::Null,
            Some(_) => Self::Number(text),
        }
    }

    /// The kind, for messages.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// The text that a [`Token::Text`] stands for. `None` where it escapes half a surrogate pair.
pub(super) fn unescape(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = &quoted[1..quoted.len() - 1];
    if inner.contains('\\') {
        serde_json::from_str::<String>(quoted).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Calls `member` with every key and value of the JSON object `body`, in order.
///
/// # Errors
/// `INVALID_JSON` with line and column where the body is not one JSON object.
pub(super) fn for_each_member<'b>(
    body: &'b [u8],
    member: impl FnMut(Cow<'b, str>, Token<'b>),
) -> Result<(), Error> {
    let invalid = |message: String| Error::new(ErrorKind::InvalidInput, "INVALID_JSON", message);
    let text = std::str::from_utf8(body).map_err(|error| {
        invalid(format!(
            "the body is not UTF-8 text: the byte at offset {} begins no character",
            error.valid_up_to()
        ))
    })?;
    if text.trim_ascii().is_empty() {
        return Err(invalid("the body is empty: send a JSON object".to_owned()));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer
        .deserialize_map(MemberVisitor(member))
        .and_then(|()| deserializer.end());
    read.map_err(|error| {
        if error.is_data() {
            return invalid(format!(
                "the body must be a JSON object, not {}",
                Token::new(text.trim_ascii()).kind()
            ));
        }
        invalid(format!("the body is not valid JSON: {error}"))
    })
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'b>(#[serde(borrow)] Cow<'b, str>);

struct MemberVisitor<F>(F);

impl<'b, F: FnMut(Cow<'b, str>, Token<'b>)> Visitor<'b> for MemberVisitor<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'b>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            let value: &'b RawValue = map.next_value()?;
            (self.0)(key, Token::new(value.get()));
        }
        Ok(())
    }
}
