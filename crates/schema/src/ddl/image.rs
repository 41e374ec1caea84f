//! The image of a row in the change log, as SQL that a trigger evaluates.
//!
//! A JSON object, field → storage value. What JSON in SQLite would spoil is text: a blob is hexadecimal, a float
//! is decimal text that reads back to the very same bits. [`crate::row_from_image`] is the other half.

use super::text_literal;
use crate::ddl::quote;
use crate::model::{Collection, Field, Storage};

/// SQL for the JSON image of the row `OLD` or `NEW`. A function takes at most 127 arguments, so wide rows are
/// several objects whose texts are joined.
pub(super) fn sql(collection: &Collection, row: &str) -> String {
    const FIELDS_AT_ONCE: usize = 60;
    let parts: Vec<String> = collection
        .fields
        .chunks(FIELDS_AT_ONCE)
        .map(|fields| {
            let members: Vec<String> = fields.iter().map(|field| member(field, row)).collect();
            format!("json_object({})", members.join(", "))
        })
        .collect();
    let last = parts.len().saturating_sub(1);
    let joined: Vec<String> = parts
        .into_iter()
        .enumerate()
        .map(|(position, part)| match (position == 0, position == last) {
            (true, true) => part,
            (true, false) => format!("rtrim({part}, '}}')"),
            (false, true) => format!("substr({part}, 2)"),
            (false, false) => format!("trim({part}, '{{}}')"),
        })
        .collect();
    joined.join(" || ',' || ")
}

fn member(field: &Field, row: &str) -> String {
    let column = format!("{row}.{}", quote(&field.name));
    let value = match field.kind.storage() {
        // A value that comes from a JSON function would be embedded as JSON; joined text never is.
        Storage::Text if row == "NEW" => format!("{column} || ''"),
        Storage::Text | Storage::Integer => column,
        Storage::Real => float(&column),
        // `hex` makes empty text of NULL.
        Storage::Blob => format!("CASE WHEN {column} IS NULL THEN NULL ELSE hex({column}) END"),
    };
    format!("{}, {value}", text_literal(&field.name))
}

/// `json_object` writes 15 digits, too few for a float, and `printf` writes 17 that are exact for middling
/// exponents only. So others are first scaled by a power of two, which loses nothing, and the text ends in that
/// power: `1.5p300` is 1.5 × 2³⁰⁰.
fn float(column: &str) -> String {
    let scaled = |power: usize, operator: char| {
        let factor = format!("{operator}(1<<60)").repeat(power / 60);
        let sign = if operator == '*' { "-" } else { "" };
        format!("printf('%!.17gp{sign}{power}', {column}{factor})")
    };
    format!(
        "CASE WHEN {column} IS NULL THEN NULL \
         WHEN abs({column}) BETWEEN 1e-60 AND 1e60 OR {column} = 0 THEN printf('%!.17g', {column}) \
         WHEN abs({column}) > 1e240 THEN {} WHEN abs({column}) > 1e150 THEN {} WHEN abs({column}) > 1e60 THEN {} \
         WHEN abs({column}) < 1e-240 THEN {} WHEN abs({column}) < 1e-150 THEN {} ELSE {} END",
        scaled(900, '/'),
        scaled(600, '/'),
        scaled(300, '/'),
        scaled(900, '*'),
        scaled(600, '*'),
        scaled(300, '*'),
    )
}
