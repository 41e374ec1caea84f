//! Values as SQL: of one type from another, and for documents that have none.

use crate::ddl::{literal, sql_now, storage_type, text_literal};
use crate::model::{DefaultValue, Field, FieldType};

/// The expression that makes a value of type `to` from the column `name` of type `from`; the name itself where
/// every value can stay as it is.
pub(crate) fn converted(from: FieldType, to: FieldType, name: &str) -> String {
    if from == to {
        return name.to_owned();
    }
    // Bytes are no text; `hex` would make empty text of NULL.
    let hex = from == FieldType::Blob && storage_type(to) == "TEXT";
    let name = &if hex {
        format!("CASE WHEN {name} IS NOT NULL THEN hex({name}) END")
    } else {
        name.to_owned()
    };
    let number = matches!(from, FieldType::Int | FieldType::Float | FieldType::Bool);
    match to {
        FieldType::Json => match from {
            FieldType::Bool => format!("CASE {name} WHEN 0 THEN 'false' WHEN 1 THEN 'true' END"),
            FieldType::Int | FieldType::Float => format!("CAST({name} AS TEXT)"),
            FieldType::Select => format!(
                "CASE WHEN {name} LIKE '[%' AND json_valid({name}) THEN {name} \
                 WHEN {name} IS NOT NULL THEN json_quote({name}) END"
            ),
            _ => format!("CASE WHEN {name} IS NOT NULL THEN json_quote({name}) END"),
        },
        FieldType::Timestamp if number => format!("strftime('%Y-%m-%dT%H:%M:%fZ', {name}, 'unixepoch')"),
        FieldType::Timestamp => format!("strftime('%Y-%m-%dT%H:%M:%fZ', {name})"),
        FieldType::Date if number => format!("strftime('%Y-%m-%d', {name}, 'unixepoch')"),
        FieldType::Date => format!("strftime('%Y-%m-%d', {name})"),
        FieldType::Bool if number => format!("{name} <> 0"),
        FieldType::Bool => format!("{name} IN ('true', '1')"),
        FieldType::Uuid => format!("lower(CAST({name} AS TEXT))"),
        FieldType::RichText => {
            let text = if number || from == FieldType::Blob {
                format!("CAST({name} AS TEXT)")
            } else {
                name.to_owned()
            };
            // What was text stays text.
            format!("replace(replace(replace({text}, '&', '&amp;'), '<', '&lt;'), '>', '&gt;')")
        }
        FieldType::Select if from == FieldType::Json => {
            format!("CASE json_type({name}) WHEN 'text' THEN json_extract({name}, '$') ELSE {name} END")
        }
        FieldType::String | FieldType::Text | FieldType::Email | FieldType::Url | FieldType::Select
            if from == FieldType::Bool =>
        {
            format!("CASE {name} WHEN 0 THEN 'false' WHEN 1 THEN 'true' END")
        }
        FieldType::String
        | FieldType::Text
        | FieldType::Email
        | FieldType::Url
        | FieldType::Select
        | FieldType::File
        | FieldType::Id
        | FieldType::Int
        | FieldType::Float
        | FieldType::Blob => {
            if storage_type(from) == storage_type(to) {
                name.to_owned()
            } else {
                format!("CAST({name} AS {})", storage_type(to))
            }
        }
    }
}

/// Whether every value of type `from` is a value of type `to` too, but for whole numbers that are too large for a
/// `float`.
pub(crate) fn keeps_values(from: FieldType, to: FieldType) -> bool {
    use FieldType::{Bool, Date, Email, Float, Id, Int, String, Text, Timestamp, Url, Uuid};
    from == to
        || matches!(
            (from, to),
            (
                String | Text | Uuid | Id | Timestamp | Date | Email | Url,
                String | Text
            ) | (Bool, Int)
                | (Int, Float)
        )
}

/// Whether the conversion to type `to` gives every value of type `from` a value of its own.
pub(super) fn is_lossless(from: FieldType, to: FieldType) -> bool {
    use FieldType::{Blob, Float, Json, String, Text};
    keeps_values(from, to)
        || match to {
            Json => from != Float,
            String | Text => !matches!(from, Float | Blob),
            _ => false,
        }
}

/// What existing documents get for a new field that can simply be added.
pub(crate) fn new_value(field: &Field) -> String {
    let filled = field.default.is_some() || (field.on_update_now && !field.nullable);
    if filled { sample(field) } else { "NULL".to_owned() }
}

/// A value for documents that have none: the default, else the plainest one of the type.
pub(crate) fn sample(field: &Field) -> String {
    match (&field.default, field.kind) {
        (Some(DefaultValue::Literal(value)), _) => literal(value),
        (_, FieldType::Uuid) => {
            // RFC 9562, version 4.
            "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-a' \
             || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))"
                .to_owned()
        }
        (_, FieldType::Id) => "substr(hex(randomblob(8)), 1, 15)".to_owned(),
        (
            _,
            FieldType::String
            | FieldType::Text
            | FieldType::Email
            | FieldType::Url
            | FieldType::Select
            | FieldType::RichText
            | FieldType::File,
        ) => text_literal(field.validation.one_of.first().map_or("", String::as_str)),
        (_, FieldType::Int | FieldType::Bool) => "0".to_owned(),
        (_, FieldType::Float) => "0.0".to_owned(),
        (_, FieldType::Timestamp | FieldType::Date) => sql_now(field.kind).to_owned(),
        (_, FieldType::Json) => "'{}'".to_owned(),
        (_, FieldType::Blob) => "x''".to_owned(),
    }
}
