//! `default`: a word for the server, or a literal in the field's storage form.

use super::walk::{Options, Walk, join};
use crate::document::literal;
use crate::model::{DefaultValue, Field, FieldType};
use alyx_yaml::Node;

/// Reads the default into the field, whose type and validation are known.
pub(super) fn read(walk: &mut Walk, options: &Options<'_>, field: &mut Field, path: &str) {
    let Some(node) = options.get("default") else {
        return;
    };
    let at = join(path, "default");
    let keyword = keyword(node, field.kind);
    field.default = match keyword {
        Some("auto") => match unmade(options, field) {
            None => Some(DefaultValue::Auto),
            Some((message, hint)) => {
                walk.problem(node.place, at, message, hint);
                None
            }
        },
        Some(_) => {
            if matches!(field.kind, FieldType::Timestamp | FieldType::Date) {
                Some(DefaultValue::Now)
            } else {
                let hint = "use `type: timestamp` or `type: date`, or quotes where the text `now` is meant";
                walk.problem(
                    node.place,
                    at,
                    "`now` is for fields of type timestamp or date",
                    hint,
                );
                None
            }
        }
        None if field.primary => {
            let hint = "use `default: auto`, or leave the default out and send the key with every document";
            walk.problem(
                node.place,
                at,
                "a primary field cannot have a fixed default: keys differ",
                hint,
            );
            None
        }
        None => literal_default(walk, node, field, &at),
    };
}

/// Why the server cannot make the values of a field, and the remedy.
fn unmade(options: &Options<'_>, field: &Field) -> Option<(&'static str, &'static str)> {
    let fits = match field.kind {
        FieldType::Uuid | FieldType::Id => true,
        FieldType::Int => field.primary,
        _ => false,
    };
    if options.get("references").is_some() {
        return Some((
            "a reference cannot be made: nothing has a key that is new",
            "leave it out, or make the field `nullable: true`",
        ));
    }
    (!fits).then_some((
        "`auto` is for fields of type uuid or id, and for a primary field of type int",
        if field.primary {
            "use `type: uuid`, `type: id` or `type: int`, or send the key with every document"
        } else {
            "leave it out, or write a value (in quotes where the text `auto` is meant)"
        },
    ))
}

/// `auto` and `now`; in quotes they are text where the field can hold it.
fn keyword(node: &Node, kind: FieldType) -> Option<&str> {
    let text = match kind {
        FieldType::String | FieldType::Text | FieldType::Json | FieldType::Select | FieldType::RichText => {
            node.plain_text()
        }
        FieldType::Uuid
        | FieldType::Int
        | FieldType::Float
        | FieldType::Bool
        | FieldType::Timestamp
        | FieldType::Email
        | FieldType::Url
        | FieldType::Date
        | FieldType::File
        | FieldType::Id
        | FieldType::Blob => node.text(),
    };
    text.filter(|text| matches!(*text, "auto" | "now"))
}

fn literal_default(walk: &mut Walk, node: &Node, field: &Field, at: &str) -> Option<DefaultValue> {
    let several = field.kind == FieldType::Select && node.text().is_none();
    let read = if field.kind == FieldType::Json || several {
        json_text(node).and_then(|text| literal(field, &text))
    } else {
        match node.text() {
            Some(text) => literal(field, text),
            None => Err(format!("must be a single value, not {}", node.describe())),
        }
    };
    match read {
        Ok(value) => Some(DefaultValue::Literal(value)),
        Err(message) => {
            walk.problem(node.place, at, message, format!("write {}", example(field.kind)));
            None
        }
    }
}

fn example(kind: FieldType) -> &'static str {
    match kind {
        FieldType::Uuid => "a UUID in quotes",
        FieldType::String | FieldType::Text => "a text that passes the field's own checks",
        FieldType::Int => "a whole number that passes the field's own checks, such as `default: 0`",
        FieldType::Float => "a number that passes the field's own checks, such as `default: 0.5`",
        FieldType::Bool => "`default: true` or `default: false`",
        FieldType::Timestamp => "`default: now`, or a time such as \"2026-01-31T12:00:00Z\"",
        FieldType::Json => "JSON, such as `default: {}` or `default: []`",
        FieldType::Blob => "base64 text in quotes",
        FieldType::Email => "an address such as `default: ada@example.com`",
        FieldType::Url => "a URL such as `default: https://example.com/`",
        FieldType::Date => "`default: now`, or a day such as \"2026-01-31\"",
        FieldType::Select => "one of the `values`, or a list of them",
        FieldType::RichText => "HTML in quotes",
        FieldType::File => "the id of a file in quotes",
        FieldType::Id => "15 letters and digits in quotes",
    }
}

/// The JSON that a YAML value stands for. Text that is JSON itself is taken as JSON.
fn json_text(node: &Node) -> Result<String, String> {
    if let Some(text) = node.text() {
        if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
            return Ok(text.to_owned());
        }
        if text.trim_start().starts_with(['{', '[']) {
            return Err("begins like JSON and is none".to_owned());
        }
    }
    let json = node.to_json().map_err(|fault| fault.message)?;
    Ok(json.to_string())
}
