//! Collections as SQL: tables, indexes, and the triggers that write the change log.
//!
//! Every identifier is quoted, so keywords and hyphens are names like any other. Tables are `STRICT`: raw SQL
//! cannot put a value of another storage class into a column, which is what makes change images exact. Columns
//! added later stand at the end of the table, so statements must name columns, never rely on their order.

mod image;
mod search;

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
    statements.extend(indexes(collection));
    statements
}

/// The statement that creates the collection's table under a name, without its indexes.
pub(crate) fn table(collection: &Collection, name: &str) -> String {
    let columns: Vec<String> = collection.fields.iter().map(column).collect();
    format!("CREATE TABLE {} ({}) STRICT", quote(name), columns.join(", "))
}

/// Statements that create all indexes of the collection.
pub(crate) fn indexes(collection: &Collection) -> Vec<String> {
    let of_fields = collection.fields.iter();
    let of_fields = of_fields.filter_map(|field| create_field_index(collection, field));
    let declared = collection
        .indexes
        .iter()
        .map(|index| create_index(collection, index));
    of_fields.chain(declared).collect()
}

/// Statements that give a table with the right columns the right constraints: a new one takes its rows, its
/// counter and its name. Foreign keys must not be checked meanwhile; indexes and triggers go with the old one.
pub(crate) fn rebuild(collection: &Collection) -> Vec<String> {
    const REBUILT: &str = "_alyx_rebuilt";
    let (old, new) = (quote(&collection.name), quote(REBUILT));
    let names: Vec<String> = collection.fields.iter().map(|field| quote(&field.name)).collect();
    let names = names.join(", ");
    let mut statements = vec![
        table(collection, REBUILT),
        format!("INSERT INTO {new} ({names}) SELECT {names} FROM {old}"),
    ];
    if counts(collection) {
        let name = text_literal(&collection.name);
        statements.push(format!(
            "UPDATE sqlite_sequence SET seq = max(seq, coalesce((SELECT seq FROM sqlite_sequence WHERE name = {name}), \
             0)) WHERE name = '{REBUILT}'"
        ));
        statements.push(format!(
            "INSERT INTO sqlite_sequence (name, seq) SELECT '{REBUILT}', seq FROM sqlite_sequence \
             WHERE name = {name} AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = '{REBUILT}')"
        ));
    }
    statements.push(format!("DROP TABLE {old}"));
    statements.push(format!("ALTER TABLE {new} RENAME TO {old}"));
    statements
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
    let table = quote(&collection.name);
    let name = text_literal(&collection.name);
    let key = quote(&collection.primary_field().name);
    let old = image::sql(collection, "OLD");
    let new = image::sql(collection, "NEW");
    let one = |event: &str, op: u8, key_of: &str, old: &str, new: &str| {
        format!(
            "CREATE TRIGGER {} AFTER {event} ON {table} BEGIN \
             INSERT INTO \"_alyx_changes\" (\"collection\", \"op\", \"id\", \"old\", \"new\") \
             VALUES ({name}, {op}, {key_of}.{key}, {old}, {new}); END",
            trigger_name(collection, event)
        )
    };
    let mut statements = vec![
        one("INSERT", 1, "NEW", "NULL", &new),
        one("UPDATE", 2, "NEW", &old, &new),
        one("DELETE", 3, "OLD", &old, "NULL"),
    ];
    statements.extend(search::create(collection));
    statements
}

/// Statements that remove what [`triggers`] creates.
pub fn drop_triggers(collection: &Collection) -> Vec<String> {
    let mut statements: Vec<String> = ["INSERT", "UPDATE", "DELETE"]
        .map(|event| format!("DROP TRIGGER IF EXISTS {}", trigger_name(collection, event)))
        .into();
    statements.extend(search::drop(collection));
    statements
}

fn trigger_name(collection: &Collection, event: &str) -> String {
    quote(&format!(
        "_alyx_changes_{}_{}",
        collection.name,
        event.to_ascii_lowercase()
    ))
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

/// Statements that add a column to a table with rows. A field that is filled with times gets the time of the
/// statement in every row that is there already.
pub(crate) fn add_column(collection: &Collection, field: &Field) -> Vec<String> {
    let table = quote(&collection.name);
    let name = quote(&field.name);
    let kind = storage_type(field.kind);
    let required = if field.nullable { "" } else { " NOT NULL" };
    let add = format!("ALTER TABLE {table} ADD COLUMN {name} {kind}{required}");
    match &field.default {
        Some(DefaultValue::Literal(value)) => {
            vec![format!("{add} DEFAULT {}{}", literal(value), references(field))]
        }
        Some(DefaultValue::Now | DefaultValue::Auto) | None => {
            let stamped = field.default == Some(DefaultValue::Now) || !field.nullable;
            // SQLite wants a constant default for a column that cannot be null.
            let constant = if field.nullable {
                ""
            } else if field.kind == FieldType::Date {
                " DEFAULT '1970-01-01'"
            } else {
                " DEFAULT '1970-01-01T00:00:00.000Z'"
            };
            let mut statements = vec![format!("{add}{constant}{}", references(field))];
            if stamped {
                statements.push(format!("UPDATE {table} SET {name} = {}", sql_now(field.kind)));
            }
            statements
        }
    }
}

/// Statements that let a required column be null. SQLite cannot alter a constraint, so a new column takes the
/// old one's values and name.
pub(crate) fn make_nullable(collection: &Collection, field: &Field) -> Vec<String> {
    let table = quote(&collection.name);
    let name = quote(&field.name);
    let replacement = quote("_alyx_replacement");
    let default = match &field.default {
        Some(DefaultValue::Literal(value)) => format!(" DEFAULT {}", literal(value)),
        Some(DefaultValue::Now | DefaultValue::Auto) | None => String::new(),
    };
    vec![
        format!(
            "ALTER TABLE {table} ADD COLUMN {replacement} {}{default}",
            storage_type(field.kind)
        ),
        format!("UPDATE {table} SET {replacement} = {name}"),
        format!("ALTER TABLE {table} DROP COLUMN {name}"),
        format!("ALTER TABLE {table} RENAME COLUMN {replacement} TO {name}"),
    ]
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
