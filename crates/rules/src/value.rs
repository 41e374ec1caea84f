//! Values while a rule is evaluated.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use alyx_core::{Value, format_timestamp, normalize_timestamp};
use alyx_schema::{Field, FieldType};
use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A value. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Val {
    Null,
    Bool(bool),
    Int(i64),
    /// Finite.
    Float(f64),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Arc<[Val]>),
    Map(Arc<BTreeMap<Arc<str>, Val>>),
    /// Milliseconds since 1970, in the years 0 to 9999.
    Time(i64),
    /// Milliseconds.
    Span(i64),
}

impl Val {
    /// The value that a field's stored value stands for. What cannot be what the field's type says stands as it is.
    pub(crate) fn stored(field: &Field, value: &Value) -> Self {
        match (field.kind, value) {
            (_, Value::Null) => Self::Null,
            (FieldType::Bool, Value::Int(int @ (0 | 1))) => Self::Bool(*int == 1),
            (FieldType::Timestamp, Value::Text(text)) => {
                parse_time(text).map_or_else(|| Self::Text(text.clone()), Self::Time)
            }
            (FieldType::Json, Value::Text(text)) => {
                serde_json::from_str(text).map_or(Self::Null, |json| Self::json(&json))
            }
            (FieldType::Select, Value::Text(text)) if is_choice(field) => {
                let several = Some(text).filter(|text| text.starts_with('['));
                let several = several.and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
                let texts = several.unwrap_or_else(|| vec![text.as_ref().to_owned()]);
                Self::List(texts.into_iter().map(|text| Self::Text(text.into())).collect())
            }
            (_, Value::Int(int)) => Self::Int(*int),
            (_, Value::Float(float)) => Self::Float(*float),
            (_, Value::Text(text)) => Self::Text(text.clone()),
            (_, Value::Blob(bytes)) => Self::Bytes(bytes.clone()),
        }
    }

    pub(crate) fn json(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(truth) => Self::Bool(*truth),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(int), _) => Self::Int(int),
                (None, Some(float)) => Self::Float(float),
                (None, None) => Self::Null,
            },
            Json::String(text) => Self::Text(text.as_str().into()),
            Json::Array(parts) => Self::List(parts.iter().map(Self::json).collect()),
            Json::Object(members) => Self::Map(Arc::new(
                members
                    .iter()
                    .map(|(name, value)| (name.as_str().into(), Self::json(value)))
                    .collect(),
            )),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The member of that name; null where there is none.
    pub(crate) fn member(&self, name: &str) -> Self {
        match self {
            Self::Map(members) => members.get(name).cloned().unwrap_or(Self::Null),
            _ => Self::Null,
        }
    }

    /// The member or element; null where there is none.
    pub(crate) fn at(&self, index: &Self) -> Self {
        match (self, index) {
            (Self::List(parts), Self::Int(place)) => {
                let place = usize::try_from(*place).ok();
                place
                    .and_then(|place| parts.get(place))
                    .cloned()
                    .unwrap_or(Self::Null)
            }
            (_, Self::Text(name)) => self.member(name),
            _ => Self::Null,
        }
    }

    /// Values of different types are not equal; numbers are compared by value.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(_) | Self::Float(_), Self::Int(_) | Self::Float(_)) => {
                self.order(other) == Some(Ordering::Equal)
            }
            (Self::List(a), Self::List(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.equals(b))
            }
            (Self::Map(a), Self::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.0 == b.0 && a.1.equals(b.1))
            }
            _ => self == other,
        }
    }

    /// The order of two values of one type that has an order.
    pub(crate) fn order(&self, other: &Self) -> Option<Ordering> {
        let number = |val: &Self| match val {
            Self::Int(int) => Some(Value::Int(*int)),
            Self::Float(float) => Some(Value::Float(*float)),
            _ => None,
        };
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
            (Self::Time(a), Self::Time(b)) | (Self::Span(a), Self::Span(b)) => Some(a.cmp(b)),
            (a, b) => Some(number(a)?.sql_cmp(&number(b)?)),
        }
    }
}

/// Whether a field may have several values chosen: it is a list in rules.
pub(crate) fn is_choice(field: &Field) -> bool {
    field.kind == FieldType::Select && field.validation.max_select != Some(1)
}

/// Milliseconds since 1970.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let normal = normalize_timestamp(text)?;
    let at = OffsetDateTime::parse(&normal, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

/// As it is stored.
pub(crate) fn time_text(millis: i64) -> Option<String> {
    let length = Duration::from_millis(millis.unsigned_abs());
    let at = if millis < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(length)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(length)
    };
    at.map(format_timestamp).filter(|text| text.len() == 24)
}

/// Milliseconds since 1970.
pub(crate) fn millis(at: SystemTime) -> i64 {
    match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}

/// `1h30m`, `-1.5s`: milliseconds, what is smaller is cut off.
pub(crate) fn parse_span(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 6] = [
        ("ms", 1.0),
        ("us", 1e-3),
        ("ns", 1e-6),
        ("h", 3_600_000.0),
        ("m", 60_000.0),
        ("s", 1000.0),
    ];
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let mut sum = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (unit, length) = UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        sum += number * length;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    (sum < 1e15).then_some((sign * sum) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_both_ways() {
        for text in [
            "1969-12-31T23:59:59.999Z",
            "2026-01-31T12:00:00.000Z",
            "0001-01-01T00:00:00.000Z",
        ] {
            let millis = parse_time(text).expect(text);
            assert_eq!(time_text(millis).as_deref(), Some(text));
        }
        assert_eq!(
            parse_time("2026-01-31T13:00:00.5+01:00"),
            parse_time("2026-01-31T12:00:00.500Z")
        );
    }

    #[test]
    fn spans_add_up_their_parts() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(parse_span(text), expected, "{text}");
        check("1h30m", Some(5_400_000));
        check("-1.5s", Some(-1500));
        check("20ms", Some(20));
        check("", None);
        check("-", None);
        check("5", None);
        check("5x", None);
    }
}
