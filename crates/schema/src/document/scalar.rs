//! One value against one field: type, then validation. Shared by bodies and filter operands.

use std::borrow::Cow;

use alyx_core::{Value, normalize_timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::operand::value_from_text;
use super::problems::{Problems, quoted};
use super::select;
use super::token::{Token, unescape};
use crate::model::{Field, FieldType, Format};
use crate::{formats, richtext};

/// Deepest nesting of a `json` value.
const MAX_JSON_DEPTH: usize = 64;
/// Integers up to here are exact in a float.
const EXACT_FLOAT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Why a value does not fit: a stable code and what follows the field's name in the message.
pub(super) struct Misfit {
    pub(super) code: &'static str,
    pub(super) text: Cow<'static, str>,
}

impl Misfit {
    pub(super) fn new(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

/// The storage value of a token that is not null. `now` is what the word `now` means for a timestamp.
pub(super) fn convert(field: &Field, token: Token<'_>, now: Option<&str>) -> Result<Value, Misfit> {
    match (field.kind, token) {
        (FieldType::Json, token) => json(token).map(Value::from),
        (FieldType::Bool, Token::Bool(truth)) => Ok(truth.into()),
        (FieldType::Int, Token::Number(number)) => int(number).map(Value::Int),
        (FieldType::Float, Token::Number(number)) => float(number).map(Value::Float),
        (FieldType::Select, Token::Array(array)) => select::several(field, array),
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
            Token::Text(quoted),
        ) => {
            let text = unescape(quoted).ok_or_else(|| {
                Misfit::new(
                    "invalid_text",
                    "is not valid Unicode: it escapes half of a surrogate pair",
                )
            })?;
            text_value(field.kind, &text, now)
        }
        (kind, token) => Err(Misfit::new(
            "invalid_type",
            format!("must be {}, not {}", expected(kind), token.kind()),
        )),
    }
}

/// What a field of that type is written as in JSON.
pub(super) fn expected(kind: FieldType) -> &'static str {
    match kind {
        FieldType::Uuid => "a UUID as a string",
        FieldType::String | FieldType::Text => "a string",
        FieldType::Int => "a whole number",
        FieldType::Float => "a number",
        FieldType::Bool => "true or false",
        FieldType::Timestamp => "a timestamp as a string",
        FieldType::Json => "a JSON value",
        FieldType::Blob => "base64 text",
        FieldType::Email => "an e-mail address as a string",
        FieldType::Url => "a URL as a string",
        FieldType::Date => "a date such as 2026-01-31 as a string",
        FieldType::Select => "one of its values as a string",
        FieldType::RichText => "HTML as a string",
        FieldType::File => "the id of a file as a string",
        FieldType::Id => "an id of 15 letters and digits as a string",
    }
}

/// The storage value of unescaped text for a type that JSON writes as a string.
pub(super) fn text_value(kind: FieldType, text: &str, now: Option<&str>) -> Result<Value, Misfit> {
    match kind {
        FieldType::Uuid => formats::lower_uuid(text).map(Value::from).ok_or_else(|| {
            Misfit::new(
                "invalid_uuid",
                "must be a UUID such as 0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3d",
            )
        }),
        FieldType::Timestamp => match now {
            Some(now) if text == "now" => Ok(Value::from(now)),
            _ => timestamp(text),
        },
        FieldType::Date => match now {
            Some(now) if text == "now" => Ok(now_value(kind, now)),
            _ if formats::is_date(text) => Ok(Value::from(text)),
            _ => Err(Misfit::new(
                "invalid_date",
                "must be a day of the calendar such as 2026-01-31",
            )),
        },
        FieldType::Id if !formats::is_short_id(text) => Err(Misfit::new(
            "invalid_id",
            "must be an id of 15 letters and digits",
        )),
        FieldType::File if !formats::is_file_id(text) => Err(Misfit::new(
            "invalid_file",
            "must be the id of a file: up to 128 letters, digits, `-` and `_`",
        )),
        FieldType::Select if text.starts_with('[') => Err(Misfit::new(
            "invalid_select",
            "must be one of its values; several are a JSON array, not a string",
        )),
        FieldType::Blob => STANDARD
            .decode(text)
            .map(|bytes| Value::Blob(bytes.into()))
            .map_err(|error| Misfit::new("invalid_base64", format!("must be padded base64 text: {error}"))),
        FieldType::String
        | FieldType::Text
        | FieldType::Int
        | FieldType::Float
        | FieldType::Bool
        | FieldType::Json
        | FieldType::Email
        | FieldType::Url
        | FieldType::Select
        | FieldType::RichText
        | FieldType::File
        | FieldType::Id => {
            if text.contains('\0') {
                return Err(Misfit::new(
                    "invalid_text",
                    "must not contain the NUL character (U+0000)",
                ));
            }
            Ok(Value::from(text))
        }
    }
}

/// The time of a request as a value: `now` is a timestamp in the product's form, a date is the day of it in UTC.
pub(super) fn now_value(kind: FieldType, now: &str) -> Value {
    match kind {
        FieldType::Date => Value::from(now.get(..formats::DATE_LENGTH).unwrap_or(now)),
        _ => Value::from(now),
    }
}

fn timestamp(text: &str) -> Result<Value, Misfit> {
    normalize_timestamp(text).map(Value::from).ok_or_else(|| {
        Misfit::new(
            "invalid_timestamp",
            "must be a time in RFC 3339 such as 2026-01-31T12:00:00Z",
        )
    })
}

/// A JSON number as a 64-bit integer. `1.0` and `1e3` are whole too, as far as floats are exact.
pub(super) fn int(number: &str) -> Result<i64, Misfit> {
    if let Ok(int) = number.parse() {
        return Ok(int);
    }
    let out_of_range = || {
        Misfit::new(
            "out_of_range",
            format!("must be from {} to {}", i64::MIN, i64::MAX),
        )
    };
    if !number.contains(['.', 'e', 'E']) {
        return Err(out_of_range());
    }
    let float: f64 = number.parse().map_err(|_| out_of_range())?;
    if !float.is_finite() {
        return Err(out_of_range());
    }
    if float.fract() != 0.0 {
        return Err(Misfit::new(
            "invalid_type",
            "must be a whole number, without a fraction",
        ));
    }
    if float.abs() > EXACT_FLOAT_INTEGER {
        return Err(Misfit::new(
            "out_of_range",
            "is too large to be exact in this spelling: write it as digits only",
        ));
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and at most 2^53")]
    Ok(float as i64)
}

/// A JSON number as the nearest finite float.
pub(super) fn float(number: &str) -> Result<f64, Misfit> {
    match number.parse::<f64>() {
        Ok(float) if float.is_finite() => Ok(float),
        _ => Err(Misfit::new(
            "out_of_range",
            "is too large for a 64-bit float (at most about 1.8e308)",
        )),
    }
}

/// Any JSON value in compact form: numbers digit for digit, strings as they were escaped.
fn json(token: Token<'_>) -> Result<String, Misfit> {
    match token {
        Token::Null => Ok("null".to_owned()),
        Token::Bool(truth) => Ok(truth.to_string()),
        Token::Number(text) | Token::Text(text) | Token::Array(text) | Token::Object(text) => compact(text),
    }
}

/// Strips the space between tokens of valid JSON, and refuses what readers of it would choke on.
pub(super) fn compact(text: &str) -> Result<String, Misfit> {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_JSON_DEPTH {
                    return Err(Misfit::new(
                        "too_deep",
                        format!("is nested deeper than {MAX_JSON_DEPTH} levels"),
                    ));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                at = end_of_string(bytes, at);
                if unescape(&text[start..at]).is_none() {
                    return Err(Misfit::new(
                        "invalid_text",
                        "contains a string that is not valid Unicode: it escapes half of a surrogate pair",
                    ));
                }
            }
            b'-' | b'0'..=b'9' => {
                while matches!(
                    bytes.get(at),
                    Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
                ) {
                    at += 1;
                }
                float(&text[start..at])?;
            }
            _ => {}
        }
        out.push_str(&text[start..at]);
    }
    Ok(out)
}

/// Offset behind the closing quote of a string whose content starts at `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' => at += 1,
            _ => {}
        }
    }
    at.min(bytes.len())
}

/// A literal of the schema in storage form, checked as a document's value would be.
pub(crate) fn literal(field: &Field, text: &str) -> Result<Value, String> {
    let value = if field.kind == FieldType::Json {
        compact(text)
            .map(Value::from)
            .map_err(|misfit| misfit.text.into_owned())?
    } else {
        value_from_text(field, text)?
    };
    let mut problems = Problems::default();
    let value = accept(field, value, &mut problems);
    problems
        .into_result()
        .map(|()| value)
        .map_err(|error| error.message().to_owned())
}

/// Runs the field's own checks on a value that has its type. What is to be stored: rich text is checked as it was
/// sent, and cleaned.
pub(super) fn accept(field: &Field, value: Value, problems: &mut Problems) -> Value {
    validate(field, &value, problems);
    match &value {
        Value::Text(html) if field.kind == FieldType::RichText => {
            Value::from(richtext::clean(html, field.validation.formats))
        }
        _ => value,
    }
}

fn validate(field: &Field, value: &Value, problems: &mut Problems) {
    match value {
        Value::Text(text) if field.kind.is_free_text() || field.kind == FieldType::RichText => {
            validate_text(field, text, problems);
        }
        Value::Text(text) if field.kind == FieldType::Select => select::validate(field, text, problems),
        #[expect(
            clippy::cast_precision_loss,
            reason = "bounds are floats; compared exactly below"
        )]
        Value::Int(int) if field.kind == FieldType::Int => {
            validate_number(field, value, &(*int as f64), problems);
        }
        Value::Float(float) => validate_number(field, value, float, problems),
        Value::Null | Value::Int(_) | Value::Text(_) | Value::Blob(_) => {}
    }
}

fn validate_number(field: &Field, value: &Value, shown: &f64, problems: &mut Problems) {
    let checks = &field.validation;
    if let Some(min) = checks.min
        && value.sql_cmp(&Value::Float(min)).is_lt()
    {
        let message = format!("`{}` must be at least {min}, not {shown}", field.name);
        problems.add(&field.name, "min_value", message);
    }
    if let Some(max) = checks.max
        && value.sql_cmp(&Value::Float(max)).is_gt()
    {
        let message = format!("`{}` must be at most {max}, not {shown}", field.name);
        problems.add(&field.name, "max_value", message);
    }
}

fn validate_text(field: &Field, text: &str, problems: &mut Problems) {
    let checks = &field.validation;
    let name = &field.name;
    if field.kind == FieldType::Email && !formats::is_email(text) {
        let message = format!("`{name}` must be an e-mail address such as ada@example.com");
        problems.add(name, "invalid_email", message);
    }
    if field.kind == FieldType::Url && !formats::is_url(text) {
        let message = format!("`{name}` must be an http or https URL such as https://example.com/");
        problems.add(name, "invalid_url", message);
    }
    if checks.min_length.is_some() || checks.max_length.is_some() {
        validate_length(field, text, problems);
    }
    if let Some(pattern) = &checks.pattern
        && !pattern.is_match(text)
    {
        problems.add(
            name,
            "pattern",
            format!("`{name}` must match the pattern {}", quoted(pattern.as_str())),
        );
    }
    if !checks.one_of.is_empty() && !checks.one_of.iter().any(|allowed| allowed == text) {
        let message = format!("`{name}` must be one of {}", allowed(&checks.one_of));
        problems.add(name, "enum", message);
    }
    let (fits, code, wanted) = match checks.format {
        None => return,
        Some(Format::Email) => (formats::is_email(text), "format_email", "an e-mail address"),
        Some(Format::Url) => (formats::is_url(text), "format_url", "an http or https URL"),
        Some(Format::Uuid) => (formats::lower_uuid(text).is_some(), "format_uuid", "a UUID"),
    };
    if !fits {
        problems.add(name, code, format!("`{name}` must be {wanted}"));
    }
}

/// The first of the texts allowed, for a message.
pub(super) fn allowed(texts: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = texts.iter().take(SHOWN).map(|text| quoted(text)).collect();
    let rest = if texts.len() > SHOWN { ", …" } else { "" };
    format!("{}{rest}", shown.join(", "))
}

fn validate_length(field: &Field, text: &str, problems: &mut Problems) {
    let name = &field.name;
    let length = text.chars().count() as u64;
    if let Some(min) = field.validation.min_length
        && length < min
    {
        let message = format!("`{name}` must have at least {min} characters, not {length}");
        problems.add(name, "min_length", message);
    }
    if let Some(max) = field.validation.max_length
        && length > max
    {
        let message = format!("`{name}` must have at most {max} characters, not {length}");
        problems.add(name, "max_length", message);
    }
}
