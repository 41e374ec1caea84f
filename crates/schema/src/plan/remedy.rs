//! What to do instead of a change that is refused: the migration file that carries it out, ready to paste. Every
//! one must work on the tables that [`crate::ddl`] makes; `control-plane/tests/plane/remedies.rs` pastes them.

use super::convert::{converted, sample};
use crate::ddl::{self, quote};
use crate::model::{Collection, Field, FieldType, Index, Reference};

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

fn operation(sql: &str) -> String {
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
    let value = converted(old.kind, new.kind, &name);
    let storage = ddl::storage_type(new.kind);
    if ddl::storage_type(old.kind) == storage {
        let update = (value != name).then(|| format!("UPDATE {table} SET {name} = {value}"));
        return Remedy::new(slug, update);
    }
    let converted = quote(&format!("{}_new", new.name));
    let statements = [
        format!("ALTER TABLE {table} ADD COLUMN {converted} {storage}"),
        format!("UPDATE {table} SET {converted} = {value}"),
        format!("ALTER TABLE {table} DROP COLUMN {name}"),
        format!("ALTER TABLE {table} RENAME COLUMN {converted} TO {name}"),
    ];
    Remedy::new(slug, statements).note("look at the conversion: what does not convert becomes 0 or null")
}

/// A field that must no longer be null.
pub(super) fn required(collection: &Collection, field: &Field) -> Remedy {
    let name = quote(&field.name);
    let sql = format!(
        "UPDATE {} SET {name} = {} WHERE {name} IS NULL",
        quote(&collection.name),
        sample(field)
    );
    Remedy::new(format!("require_{}_{}", collection.name, field.name), [sql])
        .advice(format!("leave `{}` nullable", field.name))
}

/// A new field that old documents have no value for.
pub(super) fn filled(collection: &Collection, field: &Field, advice: String) -> Remedy {
    let (table, name) = (quote(&collection.name), quote(&field.name));
    let value = match &field.references {
        Some(reference) => any(reference),
        None if field.unique && !is_random(field.kind) => {
            format!("CAST(rowid AS {})", ddl::storage_type(field.kind))
        }
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
    let (table, name) = (quote(&collection.name), quote(&field.name));
    let repeated =
        format!("rowid NOT IN (SELECT min(rowid) FROM {table} GROUP BY {name}) AND {name} IS NOT NULL");
    let text = field.kind.is_free_text();
    let (sql, note) = if field.nullable {
        (
            format!("UPDATE {table} SET {name} = NULL WHERE {repeated}"),
            "of documents that share a value, all but the first lose it",
        )
    } else if text && field.references.is_none() {
        (
            format!("UPDATE {table} SET {name} = {name} || '-' || rowid WHERE {repeated}"),
            "of documents that share a value, all but the first get a number behind it",
        )
    } else {
        (
            format!("DELETE FROM {table} WHERE {repeated}"),
            "of documents that share a value, all but the first are deleted",
        )
    };
    Remedy::new(format!("unique_{}_{}", collection.name, field.name), [sql])
        .advice(format!("take `unique` off `{}`", field.name))
        .note(note)
}

/// A new unique index.
pub(super) fn unique_index(collection: &Collection, index: &Index) -> Remedy {
    let table = quote(&collection.name);
    let fields = index
        .fields
        .iter()
        .filter_map(|&position| collection.fields.get(position));
    let names: Vec<String> = fields.map(|field| quote(&field.name)).collect();
    let sql = format!(
        "DELETE FROM {table} WHERE rowid NOT IN (SELECT min(rowid) FROM {table} GROUP BY {}) AND {} IS NOT NULL",
        names.join(", "),
        names.join(" IS NOT NULL AND ")
    );
    Remedy::new(format!("unique_{}_{}", collection.name, index.name), [sql])
        .advice(format!("take `unique` off the index `{}`", index.name))
        .note("of documents that share the values, all but the first are deleted")
}

/// Another foreign key on a field, or none.
pub(super) fn reference(collection: &Collection, new: &Field) -> Remedy {
    let slug = format!("refer_{}_{}", collection.name, new.name);
    let Some(reference) = &new.references else {
        return Remedy::new(slug, None);
    };
    let (table, name) = (quote(&collection.name), quote(&new.name));
    let dangling = format!(
        "{name} NOT IN (SELECT {} FROM {})",
        quote(&reference.field),
        quote(&reference.collection)
    );
    if new.nullable {
        Remedy::new(
            slug,
            [format!("UPDATE {table} SET {name} = NULL WHERE {dangling}")],
        )
    } else {
        Remedy::new(slug, [format!("DELETE FROM {table} WHERE {dangling}")])
            .note("deletes the documents that refer to nothing")
    }
}

/// A field of a foreign key that may be null from now on: nothing has to be done, it has to be wanted.
pub(super) fn loosened(collection: &Collection, field: &Field) -> Remedy {
    Remedy::new(format!("loosen_{}_{}", collection.name, field.name), None)
}

/// Another primary key: the table is made anew, with everything else that changes in it.
pub(super) fn rebuilt(before: &Collection, after: &Collection) -> Remedy {
    let new = format!("{}_new", after.name);
    let names: Vec<String> = after.fields.iter().map(|field| quote(&field.name)).collect();
    let values: Vec<String> = after.fields.iter().map(|field| value(before, field)).collect();
    let (table, name) = (quote(&after.name), quote(&new));
    let statements = [
        ddl::table(after, &new),
        format!(
            "INSERT INTO {name} ({}) SELECT {} FROM {table}",
            names.join(", "),
            values.join(", ")
        ),
        format!("DROP TABLE {table}"),
        format!("ALTER TABLE {name} RENAME TO {table}"),
    ];
    Remedy::new(format!("rebuild_{}", after.name), statements)
        .note("look at the values in SELECT, and at what refers to the old key")
}

/// What a document has for a field of its rebuilt table.
fn value(before: &Collection, field: &Field) -> String {
    let name = quote(&field.name);
    match before.field(&field.name) {
        Some((_, old)) if old.nullable && !field.nullable => {
            format!(
                "coalesce({}, {})",
                converted(old.kind, field.kind, &name),
                sample(field)
            )
        }
        Some((_, old)) => converted(old.kind, field.kind, &name),
        None if field.primary && field.kind == FieldType::Int => "rowid".to_owned(),
        None if field.primary && !is_random(field.kind) => "CAST(rowid AS TEXT)".to_owned(),
        None if field.nullable && field.default.is_none() => "NULL".to_owned(),
        None => field.references.as_ref().map_or_else(|| sample(field), any),
    }
}

/// Whether the plainest value of the type is another one for every document.
fn is_random(kind: FieldType) -> bool {
    matches!(kind, FieldType::Uuid | FieldType::Id)
}

/// Some document that a required reference can refer to.
fn any(reference: &Reference) -> String {
    format!(
        "(SELECT {} FROM {} LIMIT 1)",
        quote(&reference.field),
        quote(&reference.collection)
    )
}
