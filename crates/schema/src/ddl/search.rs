//! The full-text index of a collection (<https://www.sqlite.org/fts5.html>).
//!
//! It holds no copy of the text: triggers tell it what a row said before, as FTS5 asks of such indexes. Its columns
//! have names of their own, because FTS5 knows names that a field may have. Rows are found by SQLite's number for
//! them, which a `VACUUM` may change where the key is no `int`: the server never runs one, and the index must be
//! made anew after one by hand.

use super::quote;
use crate::model::Collection;

/// Name of the index of a collection.
pub fn search_table(collection: &str) -> String {
    format!("_alyx_search_{collection}")
}

/// SQLite's name for the number of the collection's rows, unlike that of any field.
pub fn row_number(collection: &Collection) -> &'static str {
    let names = ["rowid", "_rowid_", "oid"];
    let free = names.into_iter().find(|name| collection.field(name).is_none());
    free.unwrap_or("rowid")
}

/// Statements that create the index, fill it, and keep it.
pub(super) fn create(collection: &Collection) -> Vec<String> {
    if collection.search.is_empty() {
        return Vec::new();
    }
    let table = quote(&collection.name);
    let index = quote(&search_table(&collection.name));
    let number = row_number(collection);
    let fields = || {
        collection
            .search
            .iter()
            .map(|&field| quote(&collection.fields[field].name))
    };
    let columns: Vec<String> = (0..collection.search.len())
        .map(|place| format!("c{place}"))
        .collect();
    let columns = columns.join(", ");
    let of = |row: &str| {
        fields()
            .map(|field| format!("{row}.{field}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let add = format!(
        "INSERT INTO {index} (rowid, {columns}) VALUES (NEW.{number}, {})",
        of("NEW")
    );
    let remove = format!(
        "INSERT INTO {index} ({index}, rowid, {columns}) VALUES ('delete', OLD.{number}, {})",
        of("OLD")
    );
    let changed: Vec<String> = fields()
        .map(|field| format!("OLD.{field} IS NOT NEW.{field}"))
        .collect();
    let changed = changed.join(" OR ");
    let trigger = |event: &str, when: &str, body: &str| {
        let name = trigger_name(collection, event);
        format!("CREATE TRIGGER {name} AFTER {event} ON {table} {when}BEGIN {body}; END")
    };
    let when = format!("WHEN OLD.{number} <> NEW.{number} OR {changed} ");
    vec![
        format!(
            "CREATE VIRTUAL TABLE {index} USING fts5({columns}, content='', \
             tokenize='unicode61 remove_diacritics 2', prefix='2 3')"
        ),
        format!(
            "INSERT INTO {index} (rowid, {columns}) SELECT {number}, {} FROM {table}",
            fields().collect::<Vec<_>>().join(", ")
        ),
        trigger("INSERT", "", &add),
        trigger("UPDATE", &when, &format!("{remove}; {add}")),
        trigger("DELETE", "", &remove),
    ]
}

/// Statements that remove it, whether it is there or not.
pub(super) fn drop(collection: &Collection) -> Vec<String> {
    if collection.search.is_empty() {
        return Vec::new();
    }
    let triggers = ["INSERT", "UPDATE", "DELETE"]
        .map(|event| format!("DROP TRIGGER IF EXISTS {}", trigger_name(collection, event)));
    let index = quote(&search_table(&collection.name));
    triggers
        .into_iter()
        .chain([format!("DROP TABLE IF EXISTS {index}")])
        .collect()
}

fn trigger_name(collection: &Collection, event: &str) -> String {
    quote(&format!(
        "_alyx_search_{}_{}",
        collection.name,
        event.to_ascii_lowercase()
    ))
}
