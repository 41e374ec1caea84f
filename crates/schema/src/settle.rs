//! From the tables that migrations have left to those of a schema.
//!
//! Migrations are opaque SQL, so what they did is seen in the tables alone. What is lossless is carried out (new
//! tables and columns, constraints, indexes); what would lose or invent data is for the migrations to do, and is
//! reported where they have not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ddl::{self, quote};
use crate::model::{Collection, Field, OnDelete, Schema};
use crate::plan::{obstacle, plan};

/// Tables as the database has them, by name.
pub type Tables = BTreeMap<String, Table>;

/// A table as the database has it.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Its columns, hidden ones included.
    pub columns: Vec<Column>,
    /// Its foreign keys of one column: column, table, referenced column, action on deletion.
    pub references: BTreeSet<(String, String, String, String)>,
    /// Whether it is `STRICT`.
    pub strict: bool,
    /// Whether its key counts up without giving a number twice (`AUTOINCREMENT`).
    pub counts: bool,
    /// The SQL of its indexes and triggers that are not the schema's.
    pub extras: Vec<String>,
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
}

/// Something that the migrations should have done and have not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// Dotted path of what is not as the schema says.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What to add to the migration, or to do instead.
    pub remedy: String,
}

/// The way from one schema to another with migrations in between.
#[derive(Debug, Clone)]
pub struct Transition {
    from: Arc<Schema>,
    to: Arc<Schema>,
    touched: BTreeSet<String>,
}

impl Transition {
    /// From `from`, which the database has, to `to`. The collections that may be altered in between are those
    /// that differ and those that `texts`, the SQL of the migrations, mention.
    pub fn new<'t>(from: Arc<Schema>, to: Arc<Schema>, texts: impl IntoIterator<Item = &'t str>) -> Self {
        let texts: Vec<String> = texts.into_iter().map(str::to_ascii_lowercase).collect();
        let differs = plan(&from, &to);
        let differs: BTreeSet<&str> = differs
            .steps
            .iter()
            .filter_map(|step| step.path.strip_prefix("collections."))
            .filter_map(|path| path.split('.').next())
            .collect();
        let touched = from
            .collections
            .keys()
            .chain(to.collections.keys())
            .filter(|name| differs.contains(name.as_str()) || texts.iter().any(|text| text.contains(*name)))
            .cloned()
            .collect();
        Self { from, to, touched }
    }

    /// What goes before the migrations: every trigger, so that nothing they do is logged half, and the indexes of
    /// what they may alter, which would be in their way.
    pub fn clear(&self) -> Vec<String> {
        let triggers = self.from.collections.values();
        let triggers = triggers.flat_map(|collection| ddl::drop_triggers(collection));
        triggers.chain(self.drop_indexes(&self.from)).collect()
    }

    /// What comes back after the tables are those of the schema.
    pub fn restore(&self) -> Vec<String> {
        let mut statements: Vec<String> = self.drop_indexes(&self.to).collect();
        for collection in self.touched(&self.to) {
            statements.extend(ddl::indexes(collection));
        }
        for collection in self.to.collections.values() {
            statements.extend(ddl::drop_triggers(collection));
            statements.extend(ddl::triggers(collection));
        }
        statements
    }

    /// What leads from the tables `now`, after the migrations, to those of the schema. `before` are the tables
    /// before the migrations.
    ///
    /// # Errors
    /// Everything that the migrations have left undone.
    pub fn settle(&self, before: &Tables, now: &Tables) -> Result<Vec<String>, Vec<Undone>> {
        let mut settling = Settling::default();
        for collection in self.touched(&self.from) {
            let name = &collection.name;
            if !self.to.collections.contains_key(name) && now.contains_key(name) {
                settling.undone(
                    format!("collections.{name}"),
                    format!("the schema has no `{name}` any more, and its table is still there"),
                    format!("add the operation DROP TABLE {}", quote(name)),
                );
            }
        }
        for collection in self.touched(&self.to) {
            settling.collection(
                collection,
                before.get(&collection.name),
                now.get(&collection.name),
            );
        }
        if settling.undone.is_empty() {
            Ok(settling.statements)
        } else {
            Err(settling.undone)
        }
    }

    fn touched<'s>(&'s self, schema: &'s Schema) -> impl Iterator<Item = &'s Arc<Collection>> {
        schema
            .collections
            .values()
            .filter(|collection| self.touched.contains(&collection.name))
    }

    fn drop_indexes<'s>(&'s self, schema: &'s Schema) -> impl Iterator<Item = String> + 's {
        let names = self.touched(schema).flat_map(|collection| {
            let own = collection.indexes.iter().map(|index| index.name.clone());
            let of_fields = collection.fields.iter();
            own.chain(of_fields.filter_map(|field| ddl::field_index(collection, field)))
        });
        names.map(|name| ddl::drop_index(&name))
    }
}

#[derive(Default)]
struct Settling {
    statements: Vec<String>,
    undone: Vec<Undone>,
}

impl Settling {
    fn collection(&mut self, collection: &Collection, before: Option<&Table>, now: Option<&Table>) {
        let name = &collection.name;
        let path = format!("collections.{name}");
        let Some(now) = now else {
            if before.is_some() {
                self.undone(
                    path,
                    format!("the migrations took the table of `{name}` away, and the schema still has it"),
                    "take the collection out of the schema too, or keep its table".to_owned(),
                );
            } else {
                self.statements.push(ddl::table(collection, name));
            }
            return;
        };
        let found = self.undone.len();
        for column in &now.columns {
            if collection.field(&column.name).is_none() {
                self.undone(
                    format!("{path}.fields.{}", column.name),
                    format!(
                        "the schema has no `{}` any more, and its column is still there",
                        column.name
                    ),
                    format!(
                        "add the operation ALTER TABLE {} DROP COLUMN {}",
                        quote(name),
                        quote(&column.name)
                    ),
                );
            }
        }
        let mut rebuild = !now.strict || now.counts != ddl::counts(collection);
        for field in &collection.fields {
            match now.column(&field.name) {
                Some(column) => rebuild |= self.existing(&path, collection, field, column),
                None => self.missing(&path, collection, field, before),
            }
        }
        // A column that is added here has its foreign key from the start.
        let expected = references(collection).filter(|reference| now.column(&reference.0).is_some());
        rebuild |= expected.collect::<BTreeSet<_>>() != now.references;
        if rebuild && self.undone.len() == found {
            self.statements.extend(ddl::rebuild(collection));
            self.statements.extend(now.extras.iter().cloned());
        }
    }

    /// A field whose column is there. Whether the table has to be made anew for its constraints.
    fn existing(&mut self, path: &str, collection: &Collection, field: &Field, column: &Column) -> bool {
        let storage = ddl::storage_type(field.kind);
        if !column.kind.eq_ignore_ascii_case(storage) {
            self.undone(
                format!("{path}.fields.{}", field.name),
                format!(
                    "its column is of type {}, and a field of type {} is stored as {storage}",
                    column.kind,
                    field.kind.name()
                ),
                format!(
                    "make a new column of type {storage} in the migration, copy the values with CAST, drop {column} \
                     from {table} and rename the new one",
                    column = quote(&column.name),
                    table = quote(&collection.name)
                ),
            );
        }
        column.primary != field.primary || column.required == field.nullable
    }

    fn missing(&mut self, path: &str, collection: &Collection, field: &Field, before: Option<&Table>) {
        let name = &field.name;
        let path = format!("{path}.fields.{name}");
        let existed = before.is_some_and(|table| table.column(name).is_some());
        if existed {
            self.undone(
                path,
                format!(
                    "the migrations took the column of `{name}` away, and the schema still has the field"
                ),
                "take the field out of the schema too, or keep its column".to_owned(),
            );
        } else if let Some(loses) = obstacle(field) {
            self.undone(
                path,
                format!("the field has no column yet, and it cannot simply be added: {loses}"),
                format!(
                    "add the column in the migration and fill it: ALTER TABLE {} ADD COLUMN {} {}, then UPDATE",
                    quote(&collection.name),
                    quote(name),
                    ddl::storage_type(field.kind)
                ),
            );
        } else {
            self.statements.extend(ddl::add_column(collection, field));
        }
    }

    fn undone(&mut self, path: String, problem: String, remedy: String) {
        self.undone.push(Undone {
            path,
            problem,
            remedy,
        });
    }
}

impl Table {
    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// The foreign keys that a collection's table must have.
fn references(collection: &Collection) -> impl Iterator<Item = (String, String, String, String)> {
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
