//! The tables of a database, as far as a schema has a say in them.

use std::collections::{BTreeMap, BTreeSet};

use alyx_core::{Row, Statement, Value};

use super::Database;
use crate::ddl;
use crate::model::{Collection, DefaultValue, OnDelete, Schema};
use crate::plan::{new_value, sample};

/// Tables as the database has them, by name.
pub type Tables = BTreeMap<String, Table>;

/// A table as the database has it.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Its columns in their order, hidden ones included.
    pub columns: Vec<Column>,
    /// Its foreign keys of one column: column, table, referenced column, action on deletion.
    pub references: BTreeSet<(String, String, String, String)>,
    /// Whether it is `STRICT`.
    pub strict: bool,
    /// Whether its key counts up without giving a number twice (`AUTOINCREMENT`).
    pub counts: bool,
    /// Name and SQL of its indexes and triggers, oldest first.
    pub objects: Vec<(String, String)>,
    /// The SQL of its full-text index.
    pub search: Option<String>,
}

/// A column as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Declared type.
    pub kind: String,
    /// `NOT NULL`.
    pub required: bool,
    /// Part of the primary key.
    pub primary: bool,
    /// The expression of its `DEFAULT`.
    pub default: Option<String>,
}

impl Table {
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    pub(super) fn object(&self, name: &str) -> Option<&str> {
        let found = self.objects.iter().find(|(known, _)| known == name);
        found.map(|(_, sql)| sql.as_str())
    }

    /// The table of a collection as the schema has it made.
    pub(super) fn of(collection: &Collection) -> Self {
        let columns = collection.fields.iter().map(|field| Column {
            name: field.name.clone(),
            kind: ddl::storage_type(field.kind).to_owned(),
            required: !field.nullable,
            primary: field.primary,
            default: match &field.default {
                Some(DefaultValue::Literal(_)) => Some(new_value(field)),
                Some(DefaultValue::Now) => Some(sample(field)),
                Some(DefaultValue::Auto) | None => None,
            },
        });
        let objects = ddl::objects(collection).into_iter();
        Self {
            columns: columns.collect(),
            references: references(collection).collect(),
            strict: true,
            counts: ddl::counts(collection),
            objects: objects.map(|object| (object.name, object.sql)).collect(),
            search: ddl::create_search(collection),
        }
    }
}

/// The tables of a schema as it has them made.
pub(super) fn of(schema: &Schema) -> Tables {
    let collections = schema.collections.values();
    collections
        .map(|collection| (collection.name.clone(), Table::of(collection)))
        .collect()
}

/// The foreign keys that a collection's table must have.
pub(super) fn references(collection: &Collection) -> impl Iterator<Item = (String, String, String, String)> {
    collection.fields.iter().filter_map(|field| {
        let reference = field.references.as_ref()?;
        let action = match reference.on_delete {
            OnDelete::Restrict => "RESTRICT",
            OnDelete::Cascade => "CASCADE",
            OnDelete::SetNull => "SET NULL",
        };
        Some((
            field.name.clone(),
            reference.collection.clone(),
            reference.field.clone(),
            action.to_owned(),
        ))
    })
}

/// Reads the tables of the database but for those of the server and of SQLite.
///
/// # Errors
/// The database's.
pub fn inspect<D: Database>(database: &mut D) -> Result<Tables, D::Error> {
    const TABLES: &str = "SELECT l.name, l.strict, upper(s.sql) LIKE '%PRIMARY KEY AUTOINCREMENT%', \
         (SELECT f.sql FROM sqlite_schema f WHERE f.type = 'table' AND f.name = '_alyx_search_' || l.name) \
         FROM pragma_table_list l JOIN sqlite_schema s ON s.type = 'table' AND s.name = l.name \
         WHERE l.schema = ?1 AND l.type = 'table' AND l.name NOT LIKE 'sqlite|_%' ESCAPE '|' \
         AND l.name NOT LIKE '|_alyx%' ESCAPE '|'";
    let mut tables = Tables::new();
    for row in database.query(&Statement::new(TABLES, vec!["main".into()]))? {
        let name = text(&row, 0);
        let table = table(database, &name, &row)?;
        tables.insert(name, table);
    }
    Ok(tables)
}

fn table<D: Database>(database: &mut D, name: &str, row: &Row) -> Result<Table, D::Error> {
    const COLUMNS: &str = "SELECT name, type, \"notnull\", pk, dflt_value FROM pragma_table_xinfo(?1)";
    const REFERENCES: &str = "SELECT \"from\", \"table\", \"to\", on_delete FROM pragma_foreign_key_list(?1)";
    const OBJECTS: &str = "SELECT name, sql FROM sqlite_schema WHERE tbl_name = ?1 AND type IN ('index', 'trigger') \
         AND sql IS NOT NULL ORDER BY rowid";
    let mut about = |sql: &str| database.query(&Statement::new(sql, vec![name.into()]));
    Ok(Table {
        columns: about(COLUMNS)?
            .iter()
            .map(|row| Column {
                name: text(row, 0),
                kind: text(row, 1),
                required: truth(row, 2),
                primary: truth(row, 3),
                default: maybe(row, 4),
            })
            .collect(),
        references: about(REFERENCES)?
            .iter()
            .map(|row| (text(row, 0), text(row, 1), text(row, 2), text(row, 3)))
            .collect(),
        strict: truth(row, 1),
        counts: truth(row, 2),
        objects: about(OBJECTS)?
            .iter()
            .map(|row| (text(row, 0), text(row, 1)))
            .collect(),
        search: maybe(row, 3),
    })
}

fn maybe(row: &Row, at: usize) -> Option<String> {
    row.get(at).and_then(Value::as_text).map(str::to_owned)
}

fn text(row: &Row, at: usize) -> String {
    maybe(row, at).unwrap_or_default()
}

fn truth(row: &Row, at: usize) -> bool {
    let value = row.get(at).and_then(Value::as_int);
    value.is_some_and(|value| value != 0)
}
