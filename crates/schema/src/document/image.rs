//! Rows out of the change log: the JSON objects that the triggers of [`crate::triggers`] write.

use alyx_core::{Error, Result, Row, Value};

use super::token::{Token, for_each_member, unescape};
use crate::model::{Collection, DefaultValue, Field, FieldType};

/// Reads a change's image into a row. A field that the image does not have (it is younger than the change) gets
/// its constant default or null; members that are no longer fields are skipped.
///
/// # Errors
/// `INTERNAL_ERROR` where the image is not what a trigger writes.
pub fn row_from_image(collection: &Collection, image: &str) -> Result<Row> {
    let mut slots: Vec<Option<Value>> = vec![None; collection.fields.len()];
    let mut broken = None;
    let mut next = 0;
    for_each_member(image.as_bytes(), |key, token| {
        let guess = collection.fields.get(next).filter(|field| field.name == key);
        let position = match guess {
            Some(_) => next,
            None => match collection.field(&key) {
                Some((position, _)) => position,
                None => return,
            },
        };
        next = position + 1;
        let field = &collection.fields[position];
        slots[position] = read_value(field.kind, token);
        if slots[position].is_none() {
            broken.get_or_insert_with(|| field.name.clone());
        }
    })
    .map_err(Error::internal)?;
    if let Some(field) = broken {
        return Err(Error::internal(format!(
            "the change image of `{}` has no storage value for `{field}`",
            collection.name
        )));
    }
    let fields = collection.fields.iter().zip(slots);
    Ok(fields
        .map(|(field, slot)| slot.unwrap_or_else(|| missing(field)))
        .collect())
}

fn missing(field: &Field) -> Value {
    match &field.default {
        Some(DefaultValue::Literal(value)) => value.clone(),
        Some(DefaultValue::Auto | DefaultValue::Now) | None => Value::Null,
    }
}

/// The storage class is the token's own: raw SQL can store text in a number's column.
fn read_value(kind: FieldType, token: Token<'_>) -> Option<Value> {
    match token {
        Token::Null => Some(Value::Null),
        Token::Number(number) if kind == FieldType::Float => number.parse().ok().map(Value::Float),
        Token::Number(number) => match number.parse() {
            Ok(int) => Some(Value::Int(int)),
            Err(_) => number.parse().ok().map(Value::Float),
        },
        Token::Text(quoted) if kind == FieldType::Blob => unhex(&quoted[1..quoted.len() - 1]),
        Token::Text(quoted) if kind == FieldType::Float => unscale(&quoted[1..quoted.len() - 1]),
        Token::Text(quoted) => unescape(quoted).map(|text| Value::from(text.as_ref())),
        Token::Bool(_) | Token::Array(_) | Token::Object(_) => None,
    }
}

/// `1.5` or, scaled, `1.5p300`: 1.5 × 2³⁰⁰.
fn unscale(text: &str) -> Option<Value> {
    let (number, power) = text.split_once('p').unwrap_or((text, "0"));
    let (number, power) = (number.parse::<f64>().ok()?, power.parse::<i16>().ok()?);
    // The bits of a power of two whose exponent is in the normal range.
    let exponent = u64::try_from(power.checked_add(1023)?)
        .ok()
        .filter(|bits| (1..2047).contains(bits))?;
    Some(Value::Float(number * f64::from_bits(exponent << 52)))
}

fn unhex(text: &str) -> Option<Value> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect::<Option<Vec<u8>>>()
        .map(|bytes| Value::Blob(bytes.into()))
}
