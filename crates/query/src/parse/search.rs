//! `search`: a text anywhere in the text fields of a document.

use alyx_core::Result;
use alyx_schema::{Collection, Field, FieldType};

use super::{MAX_PATTERN, invalid_query};
use crate::ast::Filter;

/// Words of a search in a full-text index at most.
const MAX_WORDS: usize = 32;

/// The condition of a search; none where nothing is searched for.
///
/// Errors: `INVALID_QUERY`.
pub(super) fn search(collection: &Collection, text: &str) -> Result<Option<Filter>> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if text.contains('\0') || text.chars().count() > MAX_PATTERN {
        let problem = format_args!("`search` is a text of at most {MAX_PATTERN} characters without NUL");
        return Err(invalid_query(problem).with_field("search"));
    }
    if !collection.search.is_empty() {
        return words(text).map(Some);
    }
    let fields = collection.fields.iter().enumerate();
    let fields = fields
        .filter(|(_, field)| is_searched(field))
        .map(|(position, _)| position);
    Ok(Some(Filter::Mentions {
        fields: fields.collect(),
        text: text.into(),
    }))
}

/// Every word must be there, or one that begins with it. Each is quoted, so that none of it is FTS5 syntax; what has
/// no letter or digit is no word.
fn words(text: &str) -> Result<Filter> {
    let words = text.split_whitespace();
    let words: Vec<&str> = words
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .collect();
    if words.len() > MAX_WORDS {
        let problem = format_args!("`search` has {} words, {MAX_WORDS} at most", words.len());
        return Err(invalid_query(problem).with_field("search"));
    }
    if words.is_empty() {
        return Ok(Filter::FALSE);
    }
    let quoted = words
        .iter()
        .map(|word| format!("\"{}\"*", word.replace('"', "\"\"")));
    Ok(Filter::Found {
        expression: quoted.collect::<Vec<_>>().join(" ").into(),
    })
}

/// What people write, and keys: no times, no json, no internal fields.
fn is_searched(field: &Field) -> bool {
    let searched = match field.kind {
        FieldType::Uuid
        | FieldType::Id
        | FieldType::String
        | FieldType::Text
        | FieldType::Email
        | FieldType::Url => true,
        FieldType::Int => field.primary,
        FieldType::Float
        | FieldType::Bool
        | FieldType::Timestamp
        | FieldType::Json
        | FieldType::Blob
        | FieldType::Date
        | FieldType::Select
        | FieldType::RichText
        | FieldType::File => false,
    };
    searched && !field.internal
}
