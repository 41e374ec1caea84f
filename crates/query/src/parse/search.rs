//! `search`: a text anywhere in the text fields of a document.

use alyx_core::Result;
use alyx_schema::{Collection, Field, FieldType};

use super::{MAX_PATTERN, invalid_query};
use crate::ast::Filter;

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
    let fields = collection.fields.iter().enumerate();
    let fields = fields
        .filter(|(_, field)| is_searched(field))
        .map(|(position, _)| position);
    Ok(Some(Filter::Mentions {
        fields: fields.collect(),
        text: text.into(),
    }))
}

/// What people write, and keys: no times, no json, no internal fields.
fn is_searched(field: &Field) -> bool {
    let searched = match field.kind {
        FieldType::Uuid | FieldType::String | FieldType::Text => true,
        FieldType::Int => field.primary,
        FieldType::Float | FieldType::Bool | FieldType::Timestamp | FieldType::Json | FieldType::Blob => {
            false
        }
    };
    searched && !field.internal
}
