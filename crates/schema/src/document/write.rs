//! Rows as JSON.

use alyx_core::Value;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::model::{Collection, Field, FieldType};

/// Appends the document as a JSON object, in order of declaration and without internal fields; `fields` are the
/// positions to write, `None` means all. `row` has one value per field.
pub fn write_json(collection: &Collection, row: &[Value], fields: Option<&[usize]>, out: &mut Vec<u8>) {
    write_json_with(collection, row, fields, out, |_, _, _| false);
}

/// As [`write_json`]. `instead` may append something else in place of the value at a position, and says whether it
/// did.
pub fn write_json_with(
    collection: &Collection,
    row: &[Value],
    fields: Option<&[usize]>,
    out: &mut Vec<u8>,
    mut instead: impl FnMut(usize, &Value, &mut Vec<u8>) -> bool,
) {
    let mut separator = b'{';
    let mut member = |position: usize| {
        let (Some(field), Some(value)) = (collection.fields.get(position), row.get(position)) else {
            return;
        };
        if field.internal {
            return;
        }
        // Names are of [a-z0-9_-], so they need no escapes.
        out.extend_from_slice(&[separator, b'"']);
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(b"\":");
        separator = b',';
        if !instead(position, value, out) {
            write_value(field.kind, value, out);
        }
    };
    match fields {
        Some(positions) => positions.iter().for_each(|&position| member(position)),
        None => (0..collection.fields.len()).for_each(member),
    }
    if separator == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

/// Appends the JSON form of a primary key.
pub fn key_to_json(collection: &Collection, key: &Value, out: &mut Vec<u8>) {
    write_value(collection.primary_field().kind, key, out);
}

/// Appends the JSON form of a value of the field.
pub fn value_to_json(field: &Field, value: &Value, out: &mut Vec<u8>) {
    write_value(field.kind, value, out);
}

/// A value of another storage class than its field's (raw SQL can put it there) is written as what it is.
fn write_value(kind: FieldType, value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Int(int) => match kind {
            FieldType::Bool => out.extend_from_slice(if *int == 0 { b"false" } else { b"true" }),
            #[expect(clippy::cast_precision_loss, reason = "the field is a float")]
            FieldType::Float => serialize(&(*int as f64), out),
            FieldType::Uuid
            | FieldType::String
            | FieldType::Text
            | FieldType::Int
            | FieldType::Timestamp
            | FieldType::Json
            | FieldType::Email
            | FieldType::Url
            | FieldType::Date
            | FieldType::Select
            | FieldType::RichText
            | FieldType::File
            | FieldType::Id
            | FieldType::Blob => serialize(int, out),
        },
        Value::Float(float) => serialize(float, out),
        Value::Text(text) => {
            let may_be_json = match kind {
                FieldType::Json => true,
                FieldType::Select => text.starts_with('['),
                _ => false,
            };
            if may_be_json && serde_json::from_str::<IgnoredAny>(text).is_ok() {
                out.extend_from_slice(text.as_bytes());
            } else {
                serialize(text.as_ref(), out);
            }
        }
        Value::Blob(bytes) => {
            out.push(b'"');
            let start = out.len();
            let length = bytes.len().div_ceil(3) * 4;
            out.resize(start + length, 0);
            STANDARD
                .encode_slice(bytes, &mut out[start..])
                .expect("padded base64 has four characters for every three bytes begun");
            out.push(b'"');
        }
    }
}

fn serialize<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("scalars serialise, and writing to memory cannot fail");
}
