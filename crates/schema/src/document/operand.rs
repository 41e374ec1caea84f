//! Single values that callers write outside bodies: keys in paths, operands of filters.

use alyx_core::Value;

use super::problems::quoted;
use super::scalar::{self, Misfit};
use super::select;
use crate::formats::{self, lower_uuid};
use crate::model::{Collection, Field, FieldType};

/// The primary key that `text` in a path stands for; `None` where no document can have such a key.
pub fn parse_key(collection: &Collection, text: &str) -> Option<Value> {
    match collection.primary_field().kind {
        FieldType::Uuid => lower_uuid(text).map(Value::from),
        FieldType::Int => Some(text)
            .filter(|text| !text.starts_with('+'))
            .and_then(|text| text.parse().ok())
            .map(Value::Int),
        FieldType::Id => formats::is_short_id(text).then(|| Value::from(text)),
        FieldType::String
        | FieldType::Text
        | FieldType::Float
        | FieldType::Bool
        | FieldType::Timestamp
        | FieldType::Json
        | FieldType::Email
        | FieldType::Url
        | FieldType::Date
        | FieldType::Select
        | FieldType::RichText
        | FieldType::File
        | FieldType::Blob => (!text.is_empty() && !text.contains('\0')).then(|| Value::from(text)),
    }
}

/// A filter operand written in JSON, in the field's storage form. Never null.
///
/// # Errors
/// What is wrong with it, as a sentence that names the field.
pub fn value_from_json(field: &Field, json: &serde_json::Value) -> Result<Value, String> {
    use serde_json::Value as Json;
    let read = match (field.kind, json) {
        (_, Json::Null) => {
            return Err(format!(
                "`{}` cannot be compared with null: test for null instead",
                field.name
            ));
        }
        (FieldType::Json, json) => Ok(Value::from(json.to_string())),
        (FieldType::Bool, Json::Bool(truth)) => Ok(Value::from(*truth)),
        (FieldType::Bool, Json::Number(number)) if matches!(number.as_i64(), Some(0 | 1)) => {
            Ok(Value::from(number.as_i64() == Some(1)))
        }
        (FieldType::Int, Json::Number(number)) => scalar::int(&number.to_string()).map(Value::Int),
        (FieldType::Float, Json::Number(number)) => scalar::float(&number.to_string()).map(Value::Float),
        (
            FieldType::Uuid
            | FieldType::String
            | FieldType::Text
            | FieldType::Timestamp
            | FieldType::Email
            | FieldType::Url
            | FieldType::Date
            | FieldType::Select
            | FieldType::RichText
            | FieldType::File
            | FieldType::Id
            | FieldType::Blob,
            Json::String(text),
        ) => scalar::text_value(field.kind, text, None),
        (FieldType::Select, Json::Array(_)) => select::several(field, &json.to_string()),
        (kind, json) => {
            return Err(format!(
                "`{}` must be {}, not {}",
                field.name,
                scalar::expected(kind),
                quoted(&json.to_string())
            ));
        }
    };
    read.map_err(|misfit| explain(field, &misfit))
}

/// A filter operand written as plain text (in a query string), in the field's storage form.
///
/// # Errors
/// What is wrong with it, as a sentence that names the field.
pub fn value_from_text(field: &Field, text: &str) -> Result<Value, String> {
    let mismatch = || {
        let wanted = scalar::expected(field.kind);
        Err(format!("`{}` must be {wanted}, not {}", field.name, quoted(text)))
    };
    let read = match field.kind {
        FieldType::Select if text.starts_with('[') => select::several(field, text),
        FieldType::Uuid
        | FieldType::String
        | FieldType::Text
        | FieldType::Timestamp
        | FieldType::Email
        | FieldType::Url
        | FieldType::Date
        | FieldType::Select
        | FieldType::RichText
        | FieldType::File
        | FieldType::Id
        | FieldType::Blob => scalar::text_value(field.kind, text, None),
        FieldType::Bool => match text {
            "true" | "1" => Ok(Value::from(true)),
            "false" | "0" => Ok(Value::from(false)),
            _ => return mismatch(),
        },
        FieldType::Int if is_number(text) => scalar::int(text).map(Value::Int),
        FieldType::Float if is_number(text) => scalar::float(text).map(Value::Float),
        FieldType::Int | FieldType::Float => return mismatch(),
        FieldType::Json => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) => scalar::compact(text).map(Value::from),
            // What is not JSON is meant as a string.
            Err(_) => Ok(Value::from(serde_json::Value::from(text).to_string())),
        },
    };
    read.map_err(|misfit| explain(field, &misfit))
}

/// Numbers of digits: not the `inf` and `NaN` that Rust reads too.
fn is_number(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
        && text.parse::<f64>().is_ok()
}

fn explain(field: &Field, misfit: &Misfit) -> String {
    format!("`{}` {}", field.name, misfit.text)
}
