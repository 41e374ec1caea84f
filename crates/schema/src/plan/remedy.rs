//! What to do instead of a change that is refused: the migration file that carries it out, ready to paste. Every
//! one must work on the tables that [`crate::ddl`] makes; `control-plane/tests/plane/remedies.rs` pastes them.

use super::Ends;
use super::convert::{converted, is_lossless, keeps_values, sample};
use crate::ddl::{self, quote};
use crate::model::{Collection, DefaultValue, Field, FieldType, Index, Reference, Schema};

/// What a migration does without a word where the same change alone is refused.
const ROUNDED: &str = "whole numbers beyond 2^53 are rounded to the nearest float";

fn is_rounded(old: &Field, new: &Field) -> bool {
    old.kind == FieldType::Int && new.kind == FieldType::Float
}

/// The way to carry out one refused step.
#[derive(Debug, Clone, Default)]
pub(super) struct Remedy {
    /// What else could be done, without a migration.
    pub(super) advice: Option<String>,
    /// What the migration does, for its file name.
    pub(super) slug: String,
    /// Its operations, each as a YAML flow mapping.
    pub(super) operations: Vec<String>,
    /// What to look at before it is saved.
    pub(super) note: Option<String>,
}

impl Remedy {
    fn new(slug: String, statements: impl IntoIterator<Item = String>) -> Self {
        Self {
            slug,
            operations: statements.into_iter().map(|sql| operation(&sql)).collect(),
            ..Self::default()
        }
    }

    fn advice(self, advice: String) -> Self {
        Self {
            advice: Some(advice),
            ..self
        }
    }

    fn note(self, note: impl Into<String>) -> Self {
        Self {
            note: Some(note.into()),
            ..self
        }
    }

    /// Values can be taken away only once the field may be null, for which the table is made anew.
    pub(super) fn after_loosening(
        mut self,
        ends: &Ends,
        (before, old): (&Collection, &Field),
        (after, new): (&Collection, &Field),
    ) -> Self {
        if new.nullable && !old.nullable {
            let rebuilt = rebuilt(ends, before, after);
            self.operations.splice(0..0, rebuilt.operations);
        }
        self
    }

    /// The whole remedy as text, and the path of its file.
    pub(super) fn write(&self, number: u32) -> (String, String) {
        let path = format!("migrations/{number:03}_{}.yaml", self.slug);
        let mut text = match &self.advice {
            Some(advice) => format!("{advice}; or write the migration `{path}`"),
            None => format!("write the migration `{path}`"),
        };
        text.push_str(&format!(":\n      version: {number}\n      operations:"));
        if self.operations.is_empty() {
            text.push_str(" []");
        }
        for operation in &self.operations {
            text.push_str(&format!("\n        - {operation}"));
        }
        if let Some(note) = &self.note {
            text.push_str(&format!("\n      # {note}"));
        }
        (text, path)
    }
}

pub(super) fn operation(sql: &str) -> String {
    format!("{{type: sql, up: '{}'}}", sql.replace('\'', "''"))
}

/// A collection that is no longer declared.
pub(super) fn dropped_collection(name: &str) -> Remedy {
    Remedy::new(format!("drop_{name}"), [format!("DROP TABLE {}", quote(name))])
        .note("the collection is only renamed? then: ALTER TABLE … RENAME TO …")
}

/// A field that is no longer declared.
pub(super) fn dropped_field(collection: &str, name: &str) -> Remedy {
    let sql = format!("ALTER TABLE {} DROP COLUMN {}", quote(collection), quote(name));
    Remedy::new(format!("drop_{collection}_{name}"), [sql])
}

/// A field that is no longer declared while `new`, of the same type, is.
pub(super) fn renamed_field(collection: &str, name: &str, new: &str) -> Remedy {
    let drop = dropped_field(collection, name).operations.concat();
    Remedy {
        slug: format!("rename_{collection}_{name}"),
        operations: vec![format!(
            "{{type: rename_field, collection: {collection}, from: {name}, to: {new}}}"
        )],
        note: Some(format!("`{name}` was not renamed? then: {drop}")),
        advice: None,
    }
}

/// A field whose values must be converted.
pub(super) fn converted_field(collection: &Collection, old: &Field, new: &Field) -> Remedy {
    let slug = format!("convert_{}_{}", collection.name, new.name);
    let (table, name) = (quote(&collection.name), quote(&new.name));
    let mut value = converted(old.kind, new.kind, &name);
    let may_be_null = old.nullable && new.nullable;
    if !may_be_null && !is_lossless(old.kind, new.kind) {
        value = format!("coalesce({value}, {})", sample(new));
    }
    let note = "look at the conversion, and at what becomes of values that do not convert";
    let storage = ddl::storage_type(new.kind);
    if ddl::storage_type(old.kind) == storage {
        let update = (value != name).then(|| format!("UPDATE {table} SET {name} = {value}"));
        return Remedy::new(slug, update).note(note);
    }
    let converted = quote(&format!("{}_new", new.name));
    let statements = [
        format!("ALTER TABLE {table} ADD COLUMN {converted} {storage}"),
        format!("UPDATE {table} SET {converted} = {value}"),
        format!("ALTER TABLE {table} DROP COLUMN {name}"),
        format!("ALTER TABLE {table} RENAME COLUMN {converted} TO {name}"),
    ];
    Remedy::new(slug, statements).note(note)
}

/// A field that must no longer be null.
pub(super) fn required(collection: &Collection, old: &Field, field: &Field) -> Remedy {
    let (table, name, value) = (quote(&collection.name), quote(&field.name), sample(field));
    let storage = ddl::storage_type(field.kind);
    // What does not keep its values has been converted by an operation before this one.
    let is_converted_later = ddl::storage_type(old.kind) != storage && keeps_values(old.kind, field.kind);
    let statements = if !is_converted_later {
        vec![format!(
            "UPDATE {table} SET {name} = {value} WHERE {name} IS NULL"
        )]
    } else {
        // The value need not fit into the column as it is.
        let filled = quote(&format!("{}_new", field.name));
        vec![
            format!("ALTER TABLE {table} ADD COLUMN {filled} {storage}"),
            format!("UPDATE {table} SET {filled} = coalesce({name}, {value})"),
            format!("ALTER TABLE {table} DROP COLUMN {name}"),
            format!("ALTER TABLE {table} RENAME COLUMN {filled} TO {name}"),
        ]
    };
    let remedy = Remedy::new(format!("require_{}_{}", collection.name, field.name), statements)
        .advice(format!("leave `{}` nullable", field.name));
    if is_rounded(old, field) {
        remedy.note(ROUNDED)
    } else {
        remedy
    }
}

/// A new field that old documents have no value for.
pub(super) fn filled(ends: &Ends, collection: &Collection, field: &Field, advice: String) -> Remedy {
    let (table, name) = (quote(&collection.name), quote(&field.name));
    let value = match &field.references {
        Some(reference) if has_target(ends, reference) => any(ends, reference, field),
        Some(_) => sample(field),
        None if field.unique => numbered(field),
        None => sample(field),
    };
    let statements = [
        format!(
            "ALTER TABLE {table} ADD COLUMN {name} {}",
            ddl::storage_type(field.kind)
        ),
        format!("UPDATE {table} SET {name} = {value}"),
    ];
    Remedy::new(format!("add_{}_{}", collection.name, field.name), statements)
        .advice(advice)
        .note("put in the value that old documents are to have")
}

/// A new field that is a renamed old one, whose migration is in `path`.
pub(super) fn brought(path: &str, old: &str, name: &str) -> String {
    format!(
        "`{path}` brings it, if it is the renamed `{old}`; else give `{name}` a `default`, or make it `nullable: true`"
    )
}

/// A field that must become unique.
pub(super) fn unique_field(collection: &Collection, field: &Field) -> Remedy {
    let (sql, note) = deduplicated(collection, field);
    Remedy::new(format!("unique_{}_{}", collection.name, field.name), [sql])
        .advice(format!("take `unique` off `{}`", field.name))
        .note(note)
}

/// What becomes of documents that share a value with an earlier one, and that in words.
fn deduplicated(collection: &Collection, field: &Field) -> (String, &'static str) {
    let (table, name) = (quote(&collection.name), quote(&field.name));
    let repeated =
        format!("_rowid_ NOT IN (SELECT min(_rowid_) FROM {table} GROUP BY {name}) AND {name} IS NOT NULL");
    let text = field.kind.is_free_text();
    if field.nullable {
        (
            format!("UPDATE {table} SET {name} = NULL WHERE {repeated}"),
            "of documents that share a value, all but the first lose it",
        )
    } else if text && field.references.is_none() {
        (
            format!("UPDATE {table} SET {name} = {name} || '-' || _rowid_ WHERE {repeated}"),
            "of documents that share a value, all but the first get a number behind it",
        )
    } else {
        (
            format!("DELETE FROM {table} WHERE {repeated}"),
            "of documents that share a value, all but the first are deleted",
        )
    }
}

/// What makes the fields and indexes unique that were not before, or whose values are others now.
pub(super) fn made_unique(before: &Collection, after: &Collection) -> Vec<String> {
    let changed = |field: &Field| {
        before
            .field(&field.name)
            .is_none_or(|(_, old)| !keeps_values(old.kind, field.kind) || (old.nullable && !field.nullable))
    };
    let fields = after.fields.iter().filter(|field| {
        let old = before
            .field(&field.name)
            .is_some_and(|(_, old)| old.unique || old.primary);
        field.unique && !field.primary && (!old || changed(field))
    });
    let fields = fields.map(|field| deduplicated(after, field).0);
    let indexes = after.indexes.iter().filter(|index| {
        let new = !super::has_index(before, after, index);
        index.unique && (new || index.fields.iter().any(|&field| changed(&after.fields[field])))
    });
    let indexes = indexes.map(|index| unrepeated(before, after, index));
    fields.chain(indexes).collect()
}

/// A new unique index.
pub(super) fn unique_index(before: &Collection, collection: &Collection, index: &Index) -> Remedy {
    Remedy::new(
        format!("unique_{}_{}", collection.name, index.name),
        [unrepeated(before, collection, index)],
    )
    .advice(format!("take `unique` off the index `{}`", index.name))
    .note("of documents that share the values, all but the first are deleted")
}

/// What leaves one document of those that share the values of an index. A field that is new and has a default is added
/// afterwards, with one value for all documents: its name would mean something else here, such as SQLite's `rowid`.
fn unrepeated(before: &Collection, collection: &Collection, index: &Index) -> String {
    let added = |field: &Field| {
        let default = matches!(field.default, Some(DefaultValue::Literal(_) | DefaultValue::Now));
        (default || field.on_update_now) && before.field(&field.name).is_none()
    };
    let table = quote(&collection.name);
    let fields = index
        .fields
        .iter()
        .filter_map(|&position| collection.fields.get(position))
        .filter(|field| !added(field));
    let names: Vec<String> = fields.map(|field| quote(&field.name)).collect();
    if names.is_empty() {
        return format!("DELETE FROM {table} WHERE _rowid_ NOT IN (SELECT min(_rowid_) FROM {table})");
    }
    format!(
        "DELETE FROM {table} WHERE _rowid_ NOT IN (SELECT min(_rowid_) FROM {table} GROUP BY {}) AND {} IS NOT NULL",
        names.join(", "),
        names.join(" IS NOT NULL AND ")
    )
}

/// A foreign key to something else than before.
pub(super) fn reference(ends: &Ends, collection: &Collection, new: &Field) -> Remedy {
    let slug = format!("refer_{}_{}", collection.name, new.name);
    let sql = new
        .references
        .as_ref()
        .map(|reference| detached(ends, collection, new, reference));
    let remedy = Remedy::new(slug, sql);
    if new.nullable {
        remedy
    } else {
        remedy.note("deletes the documents that refer to nothing")
    }
}

/// Whether there can be anything yet that a reference refers to.
pub(super) fn has_target(ends: &Ends, reference: &Reference) -> bool {
    let field = |schema: &Schema| {
        let (_, field) = schema
            .collection(&reference.collection)?
            .field(&reference.field)?;
        Some(field.nullable)
    };
    let there = ends.from.collection(&reference.collection).is_some();
    there && (field(&ends.from).is_some() || field(&ends.to) == Some(false))
}

/// What becomes of documents that refer to nothing.
pub(super) fn detached(ends: &Ends, collection: &Collection, field: &Field, reference: &Reference) -> String {
    let (table, name) = (quote(&collection.name), quote(&field.name));
    let dangling = if has_target(ends, reference) {
        let (key, target) = (quote(&reference.field), quote(&reference.collection));
        let outside = format!("{name} NOT IN (SELECT {key} FROM {target} WHERE {key} IS NOT NULL)");
        if field.nullable {
            outside
        } else {
            // There may have been nothing to refer to.
            format!("({name} IS NULL OR {outside})")
        }
    } else {
        format!("{name} IS NOT NULL")
    };
    if field.nullable {
        format!("UPDATE {table} SET {name} = NULL WHERE {dangling}")
    } else if reference.collection == collection.name {
        // With those that refer to them, and so on.
        let key = quote(&reference.field);
        format!(
            "DELETE FROM {table} WHERE _rowid_ IN (WITH RECURSIVE gone (n, k) AS (SELECT _rowid_, {key} FROM {table} \
             WHERE {dangling} UNION SELECT t._rowid_, t.{key} FROM {table} t JOIN gone ON t.{name} = gone.k) \
             SELECT n FROM gone)"
        )
    } else {
        format!("DELETE FROM {table} WHERE {dangling}")
    }
}

/// Another primary key, or several changes at once: the table is made anew, with everything that changes in it.
pub(super) fn rebuilt(ends: &Ends, before: &Collection, after: &Collection) -> Remedy {
    let mut remedy = remade(before, after, &[]);
    let pointed = pointed(ends, before, after);
    remedy.operations.extend(pointed.iter().map(|sql| operation(sql)));
    remedy
}

/// The part of [`rebuilt`] that concerns this table alone. `renames` are new fields that may be old ones: new name, old
/// name.
pub(super) fn remade(before: &Collection, after: &Collection, renames: &[(&str, &str)]) -> Remedy {
    let new = format!("{}_new", after.name);
    let names: Vec<String> = after.fields.iter().map(|field| quote(&field.name)).collect();
    let values: Vec<String> = after
        .fields
        .iter()
        .map(|field| value(before, field, renames))
        .collect();
    let (table, name) = (quote(&after.name), quote(&new));
    // Only values that were a key already are sure to be one now.
    let key = after.primary_field();
    let old_key = old_field(before, key, renames);
    let sure = old_key.is_none_or(|old| old.primary || !is_lossless(old.kind, key.kind));
    let statements = [
        ddl::table(after, &new),
        format!(
            "INSERT {}INTO {name} ({}) SELECT {} FROM {table}",
            if sure { "" } else { "OR IGNORE " },
            names.join(", "),
            values.join(", ")
        ),
        format!("DROP TABLE {table}"),
        format!("ALTER TABLE {name} RENAME TO {table}"),
    ];
    let mut note = if sure {
        "look at the values in SELECT, and at what refers to the old key".to_owned()
    } else {
        "look at the values in SELECT; of documents that would share a key, all but the first are left out"
            .to_owned()
    };
    let mut fields = after.fields.iter();
    if fields.any(|field| old_field(before, field, renames).is_some_and(|old| is_rounded(old, field))) {
        note = format!("{note}; {ROUNDED}");
    }
    Remedy::new(format!("rebuild_{}", after.name), statements).note(note)
}

/// New references that a document must have refer to something that there is.
pub(super) fn pointed(ends: &Ends, before: &Collection, after: &Collection) -> Vec<String> {
    let new = after.fields.iter().filter(|field| {
        let old = before.field(&field.name).map(|(_, old)| old);
        let whole = old.is_some_and(|old| !old.nullable && keeps_values(old.kind, field.kind));
        !field.nullable && !whole
    });
    new.filter_map(|field| {
        let reference = field.references.as_ref().filter(|reference| has_target(ends, reference))?;
        let (table, name) = (quote(&after.name), quote(&field.name));
        let (key, target) = (quote(&reference.field), quote(&reference.collection));
        Some(format!(
            "UPDATE {table} SET {name} = coalesce((SELECT {key} FROM {target} WHERE {key} IS NOT NULL LIMIT 1), \
             {name}) WHERE {name} NOT IN (SELECT {key} FROM {target} WHERE {key} IS NOT NULL)"
        ))
    })
    .collect()
}

/// The field whose values a field has.
fn old_field<'b>(before: &'b Collection, field: &Field, renames: &[(&str, &str)]) -> Option<&'b Field> {
    let renamed = renames.iter().find(|(new, _)| *new == field.name);
    let name = renamed.map_or(field.name.as_str(), |(_, old)| *old);
    before.field(name).map(|(_, old)| old)
}

/// What a document has for a field of its rebuilt table.
fn value(before: &Collection, field: &Field, renames: &[(&str, &str)]) -> String {
    let old = old_field(before, field, renames);
    let old = old.filter(|old| !field.primary || is_lossless(old.kind, field.kind));
    let Some(old) = old else {
        return match &field.references {
            _ if field.primary && field.kind == FieldType::Int => "_rowid_".to_owned(),
            _ if field.primary && !is_random(field.kind) => "CAST(_rowid_ AS TEXT)".to_owned(),
            _ if field.nullable && field.default.is_none() => "NULL".to_owned(),
            Some(_) if field.nullable => "NULL".to_owned(),
            _ if field.unique => numbered(field),
            _ => sample(field),
        };
    };
    let name = quote(&old.name);
    let value = converted(old.kind, field.kind, &name);
    let complete = !old.nullable && keeps_values(old.kind, field.kind);
    if field.nullable || complete || field.primary {
        return value;
    }
    let instead = if field.unique {
        numbered(field)
    } else {
        sample(field)
    };
    format!("coalesce({value}, {instead})")
}

/// A value that no other document has.
fn numbered(field: &Field) -> String {
    match field.kind {
        kind if is_random(kind) => sample(field),
        kind => format!("CAST(_rowid_ AS {})", ddl::storage_type(kind)),
    }
}

/// Whether the plainest value of the type is another one for every document.
fn is_random(kind: FieldType) -> bool {
    matches!(kind, FieldType::Uuid | FieldType::Id)
}

/// Some document that `field` can refer to. Where the keys are still to be converted it is made to fit at least, for what
/// points every reference at something afterwards.
fn any(ends: &Ends, reference: &Reference, field: &Field) -> String {
    let (name, target) = (quote(&reference.field), quote(&reference.collection));
    let one = format!("(SELECT {name} FROM {target} WHERE {name} IS NOT NULL LIMIT 1)");
    let storage = ddl::storage_type(field.kind);
    let key = ends
        .from
        .collection(&reference.collection)
        .and_then(|target| target.field(&reference.field));
    if key.is_some_and(|(_, key)| ddl::storage_type(key.kind) != storage) {
        return format!("CAST({one} AS {storage})");
    }
    one
}
