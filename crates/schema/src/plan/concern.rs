//! Queries that count the rows that a step concerns, in the database as it is before the step.

use crate::ddl::quote;
use crate::model::{Collection, Index, Reference};

/// All of them.
pub(super) fn documents(collection: &str) -> String {
    format!("SELECT count(*) FROM {}", quote(collection))
}

/// Those that have a value.
pub(super) fn values(collection: &str, field: &str) -> String {
    format!("SELECT count({}) FROM {}", quote(field), quote(collection))
}

/// Those that have none.
pub(super) fn missing(collection: &str, field: &str) -> String {
    format!("{} WHERE {} IS NULL", documents(collection), quote(field))
}

/// Those that share a value with an earlier one.
pub(super) fn shared(collection: &str, field: &str) -> String {
    let (table, name) = (quote(collection), quote(field));
    format!("SELECT count({name}) - count(DISTINCT {name}) FROM {table}")
}

/// Those that share the values of an index with an earlier one; `None` where a field of it is new.
pub(super) fn repeated(before: &Collection, after: &Collection, index: &Index) -> Option<String> {
    let fields = index.fields.iter().map(|&field| &after.fields[field].name);
    let names: Vec<String> = fields
        .map(|name| before.field(name).map(|_| quote(name)))
        .collect::<Option<_>>()?;
    let table = quote(&after.name);
    let (columns, present) = (names.join(", "), names.join(" IS NOT NULL AND "));
    Some(format!(
        "SELECT count(*) FROM {table} WHERE {present} IS NOT NULL AND _rowid_ NOT IN (SELECT min(_rowid_) \
         FROM {table} GROUP BY {columns})"
    ))
}

/// Those that refer to nothing.
pub(super) fn dangling(collection: &str, field: &str, reference: &Reference) -> String {
    format!(
        "{} WHERE {} NOT IN (SELECT {} FROM {})",
        documents(collection),
        quote(field),
        quote(&reference.field),
        quote(&reference.collection)
    )
}
