//! What comes back, read straight into the store's own values.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use alyx_core::Value;
use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::GeneralPurposeConfig;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};

/// Base64 with or without padding: servers differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// The answer to a call.
#[derive(Debug, Deserialize)]
pub(in crate::remote) struct Answer {
    /// Names the stream for the next call; none where it is closed.
    #[serde(default)]
    pub(in crate::remote) baton: Option<String>,
    /// Where the next call of this stream must go.
    #[serde(default)]
    pub(in crate::remote) base_url: Option<String>,
    /// One for each request.
    pub(in crate::remote) results: Vec<Outcome>,
}

/// What became of one request.
#[derive(Debug, Deserialize)]
pub(in crate::remote) struct Outcome {
    #[serde(default)]
    pub(in crate::remote) response: Option<Response>,
    #[serde(default)]
    pub(in crate::remote) error: Option<ServerError>,
}

#[derive(Debug, Deserialize)]
pub(in crate::remote) struct Response {
    #[serde(default)]
    pub(in crate::remote) result: Option<BatchReply>,
}

/// What became of a batch: for each step a result, an error, or neither where it was not run.
#[derive(Debug, Default, Deserialize)]
pub(in crate::remote) struct BatchReply {
    step_results: Vec<Option<StepReply>>,
    step_errors: Vec<Option<ServerError>>,
}

/// What a step did.
#[derive(Debug, Default, Deserialize)]
pub(in crate::remote) struct StepReply {
    #[serde(default)]
    pub(in crate::remote) rows: Vec<Vec<Cell>>,
    #[serde(default)]
    pub(in crate::remote) affected_row_count: u64,
}

/// An error as the server words it.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::remote) struct ServerError {
    pub(in crate::remote) message: String,
    #[serde(default)]
    pub(in crate::remote) code: Option<String>,
}

/// One value of a row.
#[derive(Debug)]
pub(in crate::remote) struct Cell(pub(in crate::remote) Value);

impl BatchReply {
    /// Whether the step was run and worked.
    pub(in crate::remote) fn worked(&self, step: usize) -> bool {
        matches!(self.step_results.get(step), Some(Some(_)))
    }

    /// Why the step failed, where it was run.
    pub(in crate::remote) fn error(&self, step: usize) -> Option<&ServerError> {
        self.step_errors.get(step).and_then(Option::as_ref)
    }

    /// What the step did.
    pub(in crate::remote) fn step(&self, step: usize) -> Option<&StepReply> {
        self.step_results.get(step).and_then(Option::as_ref)
    }

    /// Takes what the step did.
    pub(in crate::remote) fn take(&mut self, step: usize) -> Option<StepReply> {
        self.step_results.get_mut(step).and_then(Option::take)
    }

    /// The first value of the step's first row, where it is an integer.
    pub(in crate::remote) fn int(&self, step: usize) -> Option<i64> {
        self.step(step)?.rows.first()?.first()?.0.as_int()
    }

    /// The first column of all rows of the step, as far as they are integers.
    pub(in crate::remote) fn ints(&self, step: usize) -> impl Iterator<Item = i64> {
        self.step(step)
            .into_iter()
            .flat_map(|step| &step.rows)
            .filter_map(|row| row.first().and_then(|cell| cell.0.as_int()))
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CellVisitor).map(Cell)
    }
}

struct CellVisitor;

/// The members of a value.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Type,
    Value,
    Base64,
    #[serde(other)]
    Other,
}

/// The types of a value.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Null,
    Integer,
    Float,
    Text,
    Blob,
}

/// A string or a number.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Number(f64),
    Null,
}

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value with its type")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let (mut kind, mut value) = (None, Scalar::Null);
        while let Some(key) = map.next_key()? {
            match key {
                Key::Type => kind = Some(map.next_value()?),
                Key::Value | Key::Base64 => value = map.next_value()?,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (kind.ok_or_else(|| de::Error::missing_field("type"))?, value) {
            (Kind::Null, _) => Ok(Value::Null),
            (Kind::Integer, Scalar::Text(digits)) => {
                digits.parse().map(Value::Int).map_err(de::Error::custom)
            }
            (Kind::Float, Scalar::Number(float)) => Ok(Value::Float(float)),
            (Kind::Text, Scalar::Text(text)) => Ok(Value::Text(Arc::from(text))),
            (Kind::Blob, Scalar::Text(text)) => BASE64
                .decode(text.as_bytes())
                .map(|bytes| Value::Blob(bytes.into()))
                .map_err(de::Error::custom),
            (kind, _) => Err(de::Error::custom(format!("{kind:?} of the wrong form"))),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl<'de> Visitor<'de> for ScalarVisitor {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a number")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number))
            }

            #[expect(
                clippy::cast_precision_loss,
                reason = "a float that was written without its point"
            )]
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number as f64))
            }

            #[expect(
                clippy::cast_precision_loss,
                reason = "a float that was written without its point"
            )]
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number as f64))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Null)
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_the_stores_values() {
        let blob = BASE64.encode([0_u8, 255]);
        let text = format!(
            r#"{{"baton":"b","base_url":null,"results":[{{"type":"ok","response":{{"type":"batch","result":{{
                "step_results":[{{"cols":[{{"name":"a"}}],"rows":[[{{"type":"integer","value":"-5"}},
                    {{"type":"float","value":1}},{{"type":"text","value":"ä\n"}},{{"type":"null"}},
                    {{"type":"blob","base64":"{blob}"}}]],"affected_row_count":2,"last_insert_rowid":"7"}},null],
                "step_errors":[null,{{"message":"no","code":"SQLITE_BUSY"}}],"replication_index":"3"}}}}}}]}}"#
        );
        let answer: Answer = serde_json::from_str(&text).expect("an answer");
        let outcome = answer.results.into_iter().next().expect("one result");
        let reply = outcome.response.expect("ok").result.expect("a batch");
        let row: Vec<&Value> = reply.step(0).expect("a step").rows[0]
            .iter()
            .map(|cell| &cell.0)
            .collect();
        let expected = [
            Value::Int(-5),
            Value::Float(1.0),
            Value::text("ä\n"),
            Value::Null,
            Value::Blob([0_u8, 255].as_slice().into()),
        ];
        assert_eq!(format!("{row:?}"), format!("{:?}", expected.each_ref()));
        assert_eq!(reply.int(0), Some(-5));
        assert!(reply.worked(0) && !reply.worked(1) && !reply.worked(2));
        assert_eq!(reply.error(1).expect("an error").message, "no");
    }

    #[test]
    fn a_value_that_is_none_is_refused() {
        for text in [
            r#"{"type":"integer","value":"x"}"#,
            r#"{"type":"float","value":null}"#,
            r#"{"value":"x"}"#,
            r#"{"type":"blob","base64":"*"}"#,
        ] {
            assert!(serde_json::from_str::<Cell>(text).is_err(), "{text}");
        }
    }
}
