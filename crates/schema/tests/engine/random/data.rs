//! Documents in a database, such as its schema allows.

use std::collections::HashMap;
use std::sync::Arc;

use alyx_core::Value;
use alyx_schema::{Collection, DefaultValue, FieldType, Schema, read_create};

use super::chance::Chance;
use super::kinds::Kinds;
use super::memory::{Memory, now};
use crate::NOW;

/// Documents that a collection gets each time.
const DOCUMENTS: usize = 4;
/// Most documents of a collection; beyond, it gets no more.
const ENOUGH: i64 = 12;

/// Adds documents, and takes away those that refer to nothing.
pub(super) fn fill(database: &mut Memory, schema: &Arc<Schema>, chance: &mut Chance, kinds: &Kinds) {
    database.script("BEGIN");
    let mut made: HashMap<(String, String), Vec<String>> = HashMap::new();
    for collection in schema.collections.values() {
        let count = format!("SELECT count(*) FROM \"{}\"", collection.name);
        if now(database.rows(&count))[0][0].as_int() >= Some(ENOUGH) {
            continue;
        }
        for _ in 0..DOCUMENTS {
            insert(database, collection, &mut made, (chance, kinds));
        }
    }
    loop {
        let dangling = now(database.rows("PRAGMA foreign_key_check"));
        if dangling.is_empty() {
            break;
        }
        for row in dangling {
            let (table, number) = (
                row[0].as_text().expect("a table"),
                row[1].as_int().expect("a number"),
            );
            database.script(&format!("DELETE FROM \"{table}\" WHERE _rowid_ = {number}"));
        }
    }
    database.script("COMMIT");
}

fn insert(
    database: &Memory,
    collection: &Collection,
    made: &mut HashMap<(String, String), Vec<String>>,
    (chance, kinds): (&mut Chance, &Kinds),
) {
    let mut members = Vec::new();
    for field in &collection.fields {
        if field.on_update_now || field.default == Some(DefaultValue::Auto) || field.internal {
            continue;
        }
        let target = field.references.as_ref();
        let targets = target.and_then(|target| made.get(&(target.collection.clone(), target.field.clone())));
        let value = match targets {
            _ if field.nullable && chance.percent(25) => "null".to_owned(),
            Some(values) if !values.is_empty() => chance.pick(values).clone(),
            _ => json(field.kind, chance, kinds),
        };
        members.push(format!("\"{}\": {value}", field.name));
        let own = (collection.name.clone(), field.name.clone());
        if value != "null" {
            made.entry(own).or_default().push(value);
        }
    }
    let body = format!("{{{}}}", members.join(", "));
    // What its checks do not let pass is left out.
    let Ok(mut row) = read_create(collection, body.as_bytes(), NOW) else {
        return;
    };
    for (value, field) in row.iter_mut().zip(&collection.fields) {
        // The server makes others every time.
        if field.default == Some(DefaultValue::Auto) && matches!(value, Value::Text(_)) {
            *value = Value::text(own_key(field.kind, chance));
        }
    }
    let key = collection.primary_field();
    if let (Value::Text(text), FieldType::Uuid) = (&row[collection.primary()], key.kind) {
        let own = (collection.name.clone(), key.name.clone());
        made.entry(own).or_default().push(format!("\"{text}\""));
    }
    let names: Vec<String> = collection
        .fields
        .iter()
        .map(|field| format!("\"{}\"", field.name))
        .collect();
    let marks: Vec<String> = (1..=row.len()).map(|mark| format!("?{mark}")).collect();
    let sql = format!(
        "INSERT OR IGNORE INTO \"{}\" ({}) VALUES ({})",
        collection.name,
        names.join(", "),
        marks.join(", ")
    );
    if let Err(error) = now(database.try_rows(&sql, row)) {
        panic!("{error}: {sql}");
    }
}

fn own_key(kind: FieldType, chance: &mut Chance) -> String {
    let number = chance.below(1_000_000);
    match kind {
        FieldType::Uuid => format!("0190a6c4-7e1b-7c3a-9d52-{number:012}"),
        _ => format!("{number:015}"),
    }
}

/// A value of a type, in most cases one that no other document has.
fn json(kind: FieldType, chance: &mut Chance, kinds: &Kinds) -> String {
    let number = chance.below(1_000_000);
    match kind {
        FieldType::String | FieldType::Text if chance.percent(70) => format!("\"w{number}\""),
        FieldType::Int if chance.percent(70) => format!("{number}"),
        FieldType::Float if chance.percent(70) => format!("{number}.5"),
        FieldType::Uuid => format!("\"0190a6c4-7e1b-7c3a-9d52-{number:012}\""),
        _ => (*chance.pick(&kinds.of(kind).values)).to_owned(),
    }
}
