//! The full-text index of a collection (<https://www.sqlite.org/fts5.html>).
//!
//! It holds no copy of the text: triggers tell it what a row said before, as FTS5 asks of such indexes. Its columns
//! have names of their own, because FTS5 knows names that a field may have. Rows are found by SQLite's number for
//! them, which a `VACUUM` may change where the key is no `int`: the server never runs one, and the index must be
//! made anew after one by hand.

use super::objects::Object;
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
    let triggers = triggers(collection).into_iter().map(|trigger| trigger.sql);
    let index = table(collection).into_iter().chain(fill(collection));
    index.chain(triggers).collect()
}

/// The statement that creates the index, where the collection has one.
pub(crate) fn table(collection: &Collection) -> Option<String> {
    let index = quote(&search_table(&collection.name));
    let columns = columns(collection);
    (!collection.search.is_empty()).then(|| {
        format!(
            "CREATE VIRTUAL TABLE {index} USING fts5({columns}, content='', \
             tokenize='unicode61 remove_diacritics 2', prefix='2 3')"
        )
    })
}

/// The statement that fills it with the rows that are there.
pub(crate) fn fill(collection: &Collection) -> Option<String> {
    let table = quote(&collection.name);
    let index = quote(&search_table(&collection.name));
    let (number, columns) = (row_number(collection), columns(collection));
    let fields: Vec<String> = fields(collection).collect();
    (!fields.is_empty()).then(|| {
        let fields = fields.join(", ");
        format!("INSERT INTO {index} (rowid, {columns}) SELECT {number}, {fields} FROM {table}")
    })
}

/// The triggers that keep it.
pub(crate) fn triggers(collection: &Collection) -> Vec<Object> {
    if collection.search.is_empty() {
        return Vec::new();
    }
    let table = quote(&collection.name);
    let index = quote(&search_table(&collection.name));
    let (number, columns) = (row_number(collection), columns(collection));
    let of = |row: &str| {
        fields(collection)
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
    let changed: Vec<String> = fields(collection)
        .map(|field| format!("OLD.{field} IS NOT NEW.{field}"))
        .collect();
    let changed = changed.join(" OR ");
    let trigger = |event: &str, when: &str, body: &str| {
        let name = trigger_name(collection, event);
        let quoted = quote(&name);
        let sql = format!("CREATE TRIGGER {quoted} AFTER {event} ON {table} {when}BEGIN {body}; END");
        Object::new(name, sql)
    };
    let when = format!("WHEN OLD.{number} <> NEW.{number} OR {changed} ");
    vec![
        trigger("INSERT", "", &add),
        trigger("UPDATE", &when, &format!("{remove}; {add}")),
        trigger("DELETE", "", &remove),
    ]
}

fn fields(collection: &Collection) -> impl Iterator<Item = String> {
    let fields = collection.search.iter();
    fields.map(|&field| quote(&collection.fields[field].name))
}

fn columns(collection: &Collection) -> String {
    let columns: Vec<String> = (0..collection.search.len())
        .map(|place| format!("c{place}"))
        .collect();
    columns.join(", ")
}

fn trigger_name(collection: &Collection, event: &str) -> String {
    let event = event.to_ascii_lowercase();
    format!("_alyx_search_{}_{event}", collection.name)
}
