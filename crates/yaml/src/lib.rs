//! YAML as a tree that knows the line and column of every key and value, so that all problems of a file can be
//! reported together, each at its place.
//!
//! Scalars keep their text: what they mean is decided by whoever asks for them, so `version: 1.10` stays `1.10`.
//! Anchors, aliases and merge keys are resolved; an alias shares the value that it names, and what it stands for
//! counts towards the bound on values, so neither reading a small file nor walking its tree can run away. Tags
//! (but for `!!str`) and second documents are refused. Comments are not kept.

mod read;

use std::rc::Rc;

pub use read::{parse, parse_unique};

/// Where something stands. The default is no place at all (line 0).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Place {
    /// The beginning of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// A value with its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it starts.
    pub place: Place,
    /// What it is; shared with the aliases that name it.
    pub kind: Rc<Kind>,
}

/// What a value is.
#[derive(Debug)]
pub enum Kind {
    /// Anything that is no list and no mapping.
    Scalar {
        /// Its text without quotes and escapes.
        text: String,
        /// Whether it was written without quotes, so that it can mean a number, a boolean or null.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file, keys from merged mappings last. Keys may be repeated unless
    /// [`parse_unique`] read it.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Where it starts.
    pub place: Place,
}

/// Something wrong with a file, at a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What is wrong and how to fix it.
    pub message: String,
}

impl Node {
    /// The text of a scalar that is not null.
    pub fn text(&self) -> Option<&str> {
        match self.kind.as_ref() {
            Kind::Scalar { text, .. } if !self.is_null() => Some(text),
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// The text of a scalar without quotes that is not null.
    pub fn plain_text(&self) -> Option<&str> {
        match self.kind.as_ref() {
            Kind::Scalar { plain: true, .. } => self.text(),
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// YAML's null: nothing, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.kind.as_ref(), Kind::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for messages.
    pub fn describe(&self) -> &'static str {
        match self.kind.as_ref() {
            Kind::Scalar { .. } if self.is_null() => "nothing",
            Kind::Scalar { .. } => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    /// The value as JSON, with plain scalars read as YAML's core schema reads them.
    ///
    /// # Errors
    /// A key that is repeated in one mapping.
    pub fn to_json(&self) -> Result<serde_json::Value, Fault> {
        match self.kind.as_ref() {
            Kind::Scalar { .. } if self.is_null() => Ok(serde_json::Value::Null),
            Kind::Scalar { text, plain: true } => Ok(plain_to_json(text)),
            Kind::Scalar { text, plain: false } => Ok(serde_json::Value::String(text.clone())),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => {
                let mut object = serde_json::Map::new();
                for (key, value) in entries {
                    if object.insert(key.text.clone(), value.to_json()?).is_some() {
                        return Err(Fault {
                            place: key.place,
                            message: format!("has the key `{}` twice", key.text),
                        });
                    }
                }
                Ok(serde_json::Value::Object(object))
            }
        }
    }
}

fn plain_to_json(text: &str) -> serde_json::Value {
    match text {
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    if let Ok(number) = text.parse::<serde_json::Number>() {
        return number.into();
    }
    // What YAML calls a number and JSON does not: `+1`, `.5`, `1.`.
    if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        if let Ok(number) = text.parse::<i64>() {
            return number.into();
        }
        if let Some(number) = text.parse::<f64>().ok().and_then(serde_json::Number::from_f64) {
            return number.into();
        }
    }
    text.into()
}
