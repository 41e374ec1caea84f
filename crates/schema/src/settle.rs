//! From the tables that are there to those of a schema.
//!
//! Migrations are opaque SQL, so what they did is seen in the tables alone. What is lossless is carried out (new
//! tables and columns, constraints, defaults, indexes), by a [rebuild](rebuild) where SQLite cannot alter a table so;
//! what would lose or invent data is for the migrations to do, and is reported where they have not.
//!
//! **Invariant:** what comes out is what [`crate::create_table`] and [`crate::triggers`] make of an empty database,
//! but for the order of the columns of large tables, on which nothing depends.

mod carry_out;
mod collection;
mod rebuild;
mod shape;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use carry_out::{Database, Limits, NotSettled, Progress};
use carry_out::{failed, run};
use collection::Settling;
use rebuild::Rebuild;
pub use shape::{Column, Table, Tables, inspect};

use crate::ddl::{self, quote};
use crate::model::{Collection, Schema};

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

/// The way from one schema to another, with migrations in between or without.
#[derive(Debug, Clone)]
pub struct Transition {
    from: Arc<Schema>,
    to: Arc<Schema>,
    /// Collections whose tables may change.
    touched: BTreeSet<String>,
    /// Whether migrations run in between, of which nobody knows what they do.
    migrations: bool,
}

/// A step towards the tables of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Run(String),
    Rebuild(Rebuild),
}

impl Transition {
    /// From `from`, which the database has, to `to`, with nothing in between.
    pub fn direct(from: Arc<Schema>, to: Arc<Schema>) -> Self {
        let touched = touched(&from, &to, &[]);
        Self {
            from,
            to,
            touched,
            migrations: false,
        }
    }

    /// From `from`, which the database has, to `to`. The collections that may be altered in between are those
    /// that differ and those that `texts`, the SQL of the migrations, mention.
    pub fn new<'t>(from: Arc<Schema>, to: Arc<Schema>, texts: impl IntoIterator<Item = &'t str>) -> Self {
        let texts: Vec<String> = texts.into_iter().map(str::to_ascii_lowercase).collect();
        let touched = touched(&from, &to, &texts);
        Self {
            from,
            to,
            touched,
            migrations: true,
        }
    }

    /// What it runs on a database that is as `from` has it made.
    pub fn statements(&self) -> Vec<String> {
        self.statements_on(shape::of(&self.from))
    }

    fn statements_on(&self, mut now: Tables) -> Vec<String> {
        let Ok(changes) = self.settle(&now, &now) else {
            return Vec::new();
        };
        let mut statements = Vec::new();
        for (collection, changes) in changes {
            let made = changes.iter().any(|change| matches!(change, Change::Rebuild(_)));
            let before = now.remove(&collection.name);
            let after = Table::of(collection);
            let (objects, search) = match before {
                Some(before) if made => (Vec::new(), before.search),
                Some(before) => (before.objects, before.search),
                None => (Vec::new(), None),
            };
            let after = Table {
                objects,
                search,
                ..after
            };
            now.insert(collection.name.clone(), after);
            for change in changes {
                match change {
                    Change::Run(sql) => statements.push(sql),
                    Change::Rebuild(rebuild) => statements.extend(rebuild.statements()),
                }
            }
        }
        statements.extend(self.finish(&now));
        statements
    }

    /// What goes before the migrations: every trigger of the change log, so that nothing they do is logged half, and
    /// of what they may alter, the indexes, which would be in their way.
    fn clear(&self) -> Vec<String> {
        let mut statements = Vec::new();
        for collection in self.from.collections.values().filter(|_| self.migrations) {
            statements.extend(ddl::drop_log_triggers(collection));
            if self.touched.contains(&collection.name) {
                statements.extend(ddl::drop_search(collection));
                let indexes = ddl::indexes(collection).into_iter();
                statements.extend(indexes.map(|index| ddl::drop_index(&index.name)));
            }
        }
        statements
    }

    /// What leads from the tables `now`, after the migrations, to those of the schema. `before` are the tables
    /// before the migrations. Errors are everything that the migrations have left undone.
    fn settle(&self, before: &Tables, now: &Tables) -> Result<Vec<(&Collection, Vec<Change>)>, Vec<Undone>> {
        let mut undone = Vec::new();
        for collection in self.touched(&self.from) {
            let name = &collection.name;
            if !self.to.collections.contains_key(name) && now.contains_key(name) {
                undone.push(Undone {
                    path: format!("collections.{name}"),
                    problem: format!("the schema has no `{name}` any more, and its table is still there"),
                    remedy: format!("add the operation DROP TABLE {}", quote(name)),
                });
            }
        }
        let mut changes = Vec::new();
        for collection in self.touched(&self.to) {
            let name = &collection.name;
            let settling = Settling {
                from: self.from.collection(name).map(Arc::as_ref),
                to: collection,
                before: before.get(name),
                undone: &mut undone,
            };
            changes.push((collection.as_ref(), settling.changes(now.get(name))));
        }
        if undone.is_empty() {
            Ok(changes)
        } else {
            Err(undone)
        }
    }

    /// What brings indexes, triggers and full-text indexes to the tables `now`, which are those of the schema.
    fn finish(&self, now: &Tables) -> Vec<String> {
        let (mut drops, mut creates) = (Vec::new(), Vec::new());
        for collection in self.from.collections.values() {
            if !self.to.collections.contains_key(&collection.name) {
                drops.extend(ddl::drop_search(collection));
            }
        }
        for (name, table) in now {
            let to = self.to.collection(name);
            let from = self.from.collection(name);
            let wanted = to.map(|to| ddl::objects(to)).unwrap_or_default();
            let owned = from.map(|from| ddl::objects(from)).unwrap_or_default();
            for object in &owned {
                if table.object(&object.name).is_some() && !wanted.iter().any(|new| new.name == object.name) {
                    drops.push(drop(&object.name, &object.sql));
                }
            }
            if let Some(to) = to {
                let stale = stale_search(from, to, table);
                if stale {
                    drops.extend(from.into_iter().flat_map(|from| ddl::drop_search(from)));
                    drops.extend(ddl::drop_search(to));
                    creates.extend(ddl::create_search(to));
                    creates.extend(ddl::fill_search(to));
                }
                let of_search = ddl::search_triggers(to);
                for object in wanted {
                    let anew = stale && of_search.contains(&object);
                    let there = table.object(&object.name).filter(|_| !anew);
                    if there != Some(object.sql.as_str()) {
                        drops.extend(there.map(|sql| drop(&object.name, sql)));
                        creates.push(object.sql);
                    }
                }
            }
        }
        drops.extend(creates);
        drops
    }

    fn touched<'s>(&'s self, schema: &'s Schema) -> impl Iterator<Item = &'s Arc<Collection>> {
        schema
            .collections
            .values()
            .filter(|collection| self.touched.contains(&collection.name))
    }
}

/// Collections that are made differently, and those that the texts mention.
fn touched(from: &Schema, to: &Schema, texts: &[String]) -> BTreeSet<String> {
    let made = |schema: &Schema, name: &str| {
        let collection = schema.collection(name)?;
        Some((ddl::create_table(collection), ddl::triggers(collection)))
    };
    let names = from.collections.keys().chain(to.collections.keys());
    names
        .filter(|name| {
            made(from, name) != made(to, name) || texts.iter().any(|text| text.contains(name.as_str()))
        })
        .cloned()
        .collect()
}

/// Whether the full-text index does not hold what it should.
fn stale_search(from: Option<&Arc<Collection>>, to: &Collection, table: &Table) -> bool {
    let kept = from.is_some_and(|from| ddl::search_triggers(from) == ddl::search_triggers(to));
    table.search != ddl::create_search(to) || (table.search.is_some() && !kept)
}

/// The statement that removes an index or a trigger that `sql` created.
fn drop(name: &str, sql: &str) -> String {
    let trigger = sql
        .get(..14)
        .is_some_and(|head| head.eq_ignore_ascii_case("CREATE TRIGGER"));
    let kind = if trigger { "TRIGGER" } else { "INDEX" };
    format!("DROP {kind} IF EXISTS {}", quote(name))
}
