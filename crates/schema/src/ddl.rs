//! Collections as SQL: tables, indexes, and the triggers that write the change log.
//!
//! Every identifier is quoted, so keywords and hyphens are names like any other. Tables are `STRICT`: raw SQL
//! cannot put a value of another storage class into a column, which is what makes change images exact. Columns
//! added later stand at the end of the table, so statements must name columns, never rely on their order.

mod image;
mod objects;
mod search;

pub(crate) use objects::{indexes, log_triggers, objects};
pub(crate) use search::{fill as fill_search, table as create_search, triggers as search_triggers};
pub use search::{row_number, search_table};

use alyx_core::Value;

use crate::model::{Collection, DefaultValue, Field, FieldType, Index, OnDelete, SortOrder, Storage};

/// The time of the statement in the form of a timestamp, or, for a date, its day in UTC.
pub(crate) fn sql_now(kind: FieldType) -> &'static str {
    if kind == FieldType::Date {
        "strftime('%Y-%m-%d', 'now')"
    } else {
        "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    }
}

/// Statements that create the collection's table and all its indexes. Triggers are apart, see [`triggers`].
pub fn create_table(collection: &Collection) -> Vec<String> {
    let mut statements = vec![table(collection, &collection.name)];
    statements.extend(indexes(collection).into_iter().map(|index| index.sql));
    statements
}

/// The statement that creates the collection's table under a name, without its indexes.
pub(crate) fn table(collection: &Collection, name: &str) -> String {
    let columns: Vec<String> = collection.fields.iter().map(column).collect();
    format!("CREATE TABLE {} ({}) STRICT", quote(name), columns.join(", "))
}

/// Whether the table's key counts up without giving a number twice.
pub(crate) fn counts(collection: &Collection) -> bool {
    let primary = collection.primary_field();
    primary.kind == FieldType::Int && primary.default == Some(DefaultValue::Auto)
}

/// Statements that create the triggers by which every insert, update and delete of the collection, whatever
/// causes it, writes one row into `_alyx_changes` (`op` 1, 2, 3) with images of the row before and after, which
/// [`crate::row_from_image`] reads. `REPLACE` conflict handling deletes rows unseen unless the connection has
/// `PRAGMA recursive_triggers = ON`. With them goes the full-text index, where the collection has one: it is made
/// of the rows that are there, and kept by triggers of its own.
pub fn triggers(collection: &Collection) -> Vec<String> {
    let log = log_triggers(collection).into_iter();
    let mut statements: Vec<String> = log.map(|trigger| trigger.sql).collect();
    statements.extend(search::create(collection));
    statements
}

/// Statements that remove what [`triggers`] creates.
pub fn drop_triggers(collection: &Collection) -> Vec<String> {
    let mut statements = drop_log_triggers(collection);
    statements.extend(drop_search(collection));
    statements
}

/// Statements that remove the triggers of the change log alone.
pub(crate) fn drop_log_triggers(collection: &Collection) -> Vec<String> {
    ["INSERT", "UPDATE", "DELETE"]
        .map(|event| {
            format!(
                "DROP TRIGGER IF EXISTS {}",
                quote(&trigger_name(collection, event))
            )
        })
        .into()
}

/// Statements that remove the full-text index with its triggers, whether it is there or not.
pub(crate) fn drop_search(collection: &Collection) -> Vec<String> {
    let triggers = search::triggers(collection).into_iter();
    let triggers = triggers.map(|trigger| format!("DROP TRIGGER IF EXISTS {}", quote(&trigger.name)));
    let index = (!collection.search.is_empty()).then(|| search_table(&collection.name));
    triggers
        .chain(index.map(|name| format!("DROP TABLE IF EXISTS {}", quote(&name))))
        .collect()
}

fn trigger_name(collection: &Collection, event: &str) -> String {
    let event = event.to_ascii_lowercase();
    format!("_alyx_changes_{}_{event}", collection.name)
}

/// An identifier in quotes.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in quotes.
pub(crate) fn text_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Name of the index of a field with `index: true`.
pub(crate) fn field_index_name(collection: &str, field: &str) -> String {
    format!("idx_{collection}_{field}")
}

/// Name of the index that keeps a field with `unique: true` unique.
pub(crate) fn unique_index_name(collection: &str, field: &str) -> String {
    format!("idx_{collection}_{field}_unique")
}

/// The index of one field, where it has one. The primary field is in it, so that `ORDER BY field, primary` is one
/// walk along it. A unique field needs no other index than the one that keeps it unique, which is an index of
/// its own and no table constraint, so that it can be dropped.
pub(crate) fn create_field_index(collection: &Collection, field: &Field) -> Option<String> {
    let table = quote(&collection.name);
    let column = quote(&field.name);
    if field.primary {
        None
    } else if field.unique {
        let name = quote(&unique_index_name(&collection.name, &field.name));
        Some(format!("CREATE UNIQUE INDEX {name} ON {table} ({column})"))
    } else if field.index {
        let name = quote(&field_index_name(&collection.name, &field.name));
        let key = quote(&collection.primary_field().name);
        Some(format!("CREATE INDEX {name} ON {table} ({column}, {key})"))
    } else {
        None
    }
}

/// The name of the index that [`create_field_index`] creates.
pub(crate) fn field_index(collection: &Collection, field: &Field) -> Option<String> {
    if field.primary {
        None
    } else if field.unique {
        Some(unique_index_name(&collection.name, &field.name))
    } else if field.index {
        Some(field_index_name(&collection.name, &field.name))
    } else {
        None
    }
}

/// A declared index.
pub(crate) fn create_index(collection: &Collection, index: &Index) -> String {
    let order = match index.order {
        SortOrder::Asc => "ASC",
        SortOrder::Desc => "DESC",
    };
    let columns: Vec<String> = index
        .fields
        .iter()
        .filter_map(|&position| collection.fields.get(position))
        .map(|field| format!("{} {order}", quote(&field.name)))
        .collect();
    format!(
        "CREATE {}INDEX {} ON {} ({})",
        if index.unique { "UNIQUE " } else { "" },
        quote(&index.name),
        quote(&collection.name),
        columns.join(", ")
    )
}

/// Removes an index of that name.
pub(crate) fn drop_index(name: &str) -> String {
    format!("DROP INDEX IF EXISTS {}", quote(name))
}

/// The definition of a column in `CREATE TABLE`.
fn column(field: &Field) -> String {
    let mut sql = format!("{} {}", quote(&field.name), storage_type(field.kind));
    if field.primary {
        sql.push_str(" PRIMARY KEY");
        if field.kind == FieldType::Int && field.default == Some(DefaultValue::Auto) {
            sql.push_str(" AUTOINCREMENT");
        }
    }
    if !field.nullable {
        sql.push_str(" NOT NULL");
    }
    match &field.default {
        Some(DefaultValue::Now) => {
            sql.push_str(&format!(" DEFAULT ({})", sql_now(field.kind)));
        }
        Some(DefaultValue::Literal(value)) => {
            sql.push_str(&format!(" DEFAULT {}", literal(value)));
        }
        Some(DefaultValue::Auto) | None => {}
    }
    sql.push_str(&references(field));
    sql
}

/// The statement that adds a column to a table with rows; `None` where the table has to be made anew, because the
/// column could not be as in [`table`].
pub(crate) fn add_column(collection: &Collection, field: &Field) -> Option<String> {
    let constant = match &field.default {
        Some(DefaultValue::Literal(_)) => true,
        Some(DefaultValue::Now | DefaultValue::Auto) => false,
        None => field.nullable,
    };
    let table = quote(&collection.name);
    constant.then(|| format!("ALTER TABLE {table} ADD COLUMN {}", column(field)))
}

fn references(field: &Field) -> String {
    let Some(reference) = &field.references else {
        return String::new();
    };
    let action = match reference.on_delete {
        OnDelete::Restrict => "RESTRICT",
        OnDelete::Cascade => "CASCADE",
        OnDelete::SetNull => "SET NULL",
    };
    format!(
        " REFERENCES {} ({}) ON DELETE {action}",
        quote(&reference.collection),
        quote(&reference.field)
    )
}

/// The column type of a field type.
pub(crate) fn storage_type(kind: FieldType) -> &'static str {
    match kind.storage() {
        Storage::Text => "TEXT",
        Storage::Integer => "INTEGER",
        Storage::Real => "REAL",
        Storage::Blob => "BLOB",
    }
}

pub(crate) fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Int(int) => int.to_string(),
        // Debug writes a point or an exponent, so that SQLite reads a float.
        Value::Float(float) => format!("{float:?}"),
        Value::Text(text) => text_literal(text),
        Value::Blob(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("X'{digits}'")
        }
    }
}
