//! From the table that is there to that of a collection.

use std::collections::BTreeSet;

use super::rebuild::Rebuild;
use super::shape::{Column, Table, references};
use super::{Change, Undone};
use crate::ddl::{self, quote};
use crate::model::{Collection, Field, FieldType};
use crate::plan::{converted, keeps_values, new_value, obstacle};

/// One collection: as it was, and as it is to be; its table before the migrations, and now.
pub(super) struct Settling<'s> {
    pub(super) from: Option<&'s Collection>,
    pub(super) to: &'s Collection,
    pub(super) before: Option<&'s Table>,
    pub(super) undone: &'s mut Vec<Undone>,
}

impl Settling<'_> {
    /// What makes the table as it is to be. Nothing where something is undone.
    pub(super) fn changes(mut self, now: Option<&Table>) -> Vec<Change> {
        let name = &self.to.name;
        let Some(now) = now else {
            if self.before.is_some() {
                self.undone(
                    format!("collections.{name}"),
                    format!("the migrations took the table of `{name}` away, and the schema still has it"),
                    "take the collection out of the schema too, or keep its table".to_owned(),
                );
                return Vec::new();
            }
            return vec![Change::Run(ddl::table(self.to, name))];
        };
        let found = self.undone.len();
        self.left_over(now);
        let mut anew = !now.strict || now.counts != ddl::counts(self.to);
        let (mut columns, mut added, mut guards) = (Vec::new(), Vec::new(), Vec::new());
        let wanted = Table::of(self.to);
        for (field, wanted) in self.to.fields.iter().zip(&wanted.columns) {
            let quoted = quote(&field.name);
            if let Some(column) = now.column(&field.name) {
                let storage_differs = self.existing(field, column);
                anew |= storage_differs
                    || column.primary != wanted.primary
                    || column.required != wanted.required
                    || column.default != wanted.default;
                let value = if storage_differs {
                    guards.extend(self.guard(field));
                    self.converted(field)
                } else {
                    quoted.clone()
                };
                columns.push((quoted, value));
            } else {
                self.missing(field);
                let statement = ddl::add_column(self.to, field);
                anew |= statement.is_none();
                added.extend(statement);
                columns.push((quoted, new_value(field)));
            }
        }
        // A column that is added here has its foreign key from the start.
        let expected = references(self.to).filter(|reference| now.column(&reference.0).is_some());
        anew |= expected.collect::<BTreeSet<_>>() != now.references;
        if self.undone.len() > found {
            return Vec::new();
        }
        if !anew && self.in_order(now) {
            return added.into_iter().map(Change::Run).collect();
        }
        let mut rebuild = Rebuild::new(self.to, columns);
        rebuild.guards = guards;
        rebuild.also(self.extras(now));
        rebuild.instead = (!anew).then_some(added);
        vec![Change::Rebuild(rebuild)]
    }

    /// Indexes and triggers that are not the schema's: they go with the old table.
    fn extras(&self, now: &Table) -> Vec<String> {
        let own = self.from.into_iter().chain([self.to]).flat_map(ddl::objects);
        let own: BTreeSet<String> = own.map(|object| object.name).collect();
        let extras = now.objects.iter().filter(|(name, _)| !own.contains(name));
        extras.map(|(_, sql)| sql.clone()).collect()
    }

    /// Columns that the schema does not have.
    fn left_over(&mut self, now: &Table) {
        let name = &self.to.name;
        for column in &now.columns {
            if self.to.field(&column.name).is_none() {
                self.undone(
                    format!("collections.{name}.fields.{}", column.name),
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
    }

    /// Whether the columns stand as the fields do once new ones are put behind them.
    fn in_order(&self, now: &Table) -> bool {
        let names = self.to.fields.iter().map(|field| &field.name);
        let added = names.clone().filter(|name| now.column(name).is_none());
        let there = now.columns.iter().map(|column| &column.name);
        names.eq(there.chain(added))
    }

    /// A field whose column is there. Whether its values have to be converted.
    fn existing(&mut self, field: &Field, column: &Column) -> bool {
        let storage = ddl::storage_type(field.kind);
        if column.kind.eq_ignore_ascii_case(storage) {
            return false;
        }
        let from = self.kind_before(field);
        let converts = from.is_some_and(|from| {
            keeps_values(from, field.kind) && column.kind.eq_ignore_ascii_case(ddl::storage_type(from))
        });
        if !converts {
            self.undone(
                format!("collections.{}.fields.{}", self.to.name, field.name),
                format!(
                    "its column is of type {}, and a field of type {} is stored as {storage}",
                    column.kind,
                    field.kind.name()
                ),
                format!(
                    "make a new column of type {storage} in the migration, copy the values with CAST, drop {column} \
                     from {table} and rename the new one",
                    column = quote(&column.name),
                    table = quote(&self.to.name)
                ),
            );
        }
        true
    }

    fn kind_before(&self, field: &Field) -> Option<FieldType> {
        let (_, before) = self.from?.field(&field.name)?;
        Some(before.kind)
    }

    fn converted(&self, field: &Field) -> String {
        let name = quote(&field.name);
        match self.kind_before(field) {
            Some(from) => converted(from, field.kind, &name),
            None => name,
        }
    }

    /// Not every whole number is a `float`.
    fn guard(&self, field: &Field) -> Option<(String, String)> {
        (field.kind == FieldType::Float).then(|| {
            let (table, name) = (&self.to.name, &field.name);
            let query = format!(
                "SELECT count(*) FROM {} WHERE {} NOT BETWEEN -9007199254740992 AND 9007199254740992",
                quote(table),
                quote(name)
            );
            let problem = format!(
                "documents of `{table}` have a whole number in `{name}` that a float cannot hold exactly (beyond \
                 2^53); say in a migration what is to become of them, with an UPDATE"
            );
            (query, problem)
        })
    }

    fn missing(&mut self, field: &Field) {
        let name = &field.name;
        let path = format!("collections.{}.fields.{name}", self.to.name);
        let existed = self.before.is_some_and(|table| table.column(name).is_some());
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
                    quote(&self.to.name),
                    quote(name),
                    ddl::storage_type(field.kind)
                ),
            );
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
