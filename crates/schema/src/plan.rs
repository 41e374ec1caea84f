//! What it takes to get from one schema to another, and what would lose data and is therefore refused.
//!
//! The plan compares two schemas; it does not look at the database. A step is safe only where it works on any
//! data that the first schema allows and keeps all of it.

mod field;
mod remedy;
mod same;

use std::sync::Arc;

use crate::ddl;
use crate::model::{Collection, Index, Schema};

/// The steps from one schema to another.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The steps in order.
    pub steps: Vec<Step>,
    /// Collections whose columns change, as they were: their triggers go first.
    before: Vec<Arc<Collection>>,
    /// Collections whose triggers are created last.
    after: Vec<Arc<Collection>>,
}

/// One difference between two schemas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Dotted path of what changes, such as `collections.posts.fields.title`.
    pub path: String,
    /// What changes, for people.
    pub description: String,
    /// Whether it can be done.
    pub verdict: Verdict,
    /// Its statements; none for what concerns the server only, and for what is refused.
    pub sql: Vec<String>,
}

/// Whether a step can be done without losing anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It can.
    Safe,
    /// It cannot.
    Refused {
        /// What would be lost or break.
        loses: String,
        /// What to do instead.
        remedy: String,
    },
}

impl Plan {
    /// Whether the schemas are the same in everything that matters.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps that cannot be done. Where there is one, the plan must not be carried out.
    pub fn refused(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.verdict != Verdict::Safe)
    }

    /// Every statement in order, for one transaction. Empty where only the server has to know, or where a step
    /// is refused. While it runs, changes to the collections that it alters are not logged (the new columns of
    /// existing rows would look like updates), so readers of the log must begin afresh with a snapshot.
    pub fn statements(&self) -> Vec<String> {
        if self.refused().next().is_some() {
            return Vec::new();
        }
        let drops = self
            .before
            .iter()
            .flat_map(|collection| ddl::drop_triggers(collection));
        let steps = self.steps.iter().flat_map(|step| step.sql.iter().cloned());
        let creates = self.after.iter().flat_map(|collection| ddl::triggers(collection));
        drops.chain(steps).chain(creates).collect()
    }

    fn safe(&mut self, path: impl Into<String>, description: impl Into<String>, sql: Vec<String>) {
        self.steps.push(Step {
            path: path.into(),
            description: description.into(),
            verdict: Verdict::Safe,
            sql,
        });
    }

    fn refuse(
        &mut self,
        path: impl Into<String>,
        description: impl Into<String>,
        loses: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.steps.push(Step {
            path: path.into(),
            description: description.into(),
            verdict: Verdict::Refused {
                loses: loses.into(),
                remedy: remedy.into(),
            },
            sql: Vec::new(),
        });
    }
}

/// The steps from `from`, which the database has, to `to`.
pub fn plan(from: &Schema, to: &Schema) -> Plan {
    let mut plan = Plan::default();
    if from.version != to.version {
        plan.safe(
            "version",
            format!("version {} becomes {}", from.version, to.version),
            Vec::new(),
        );
    }
    for (name, collection) in &from.collections {
        if !to.collections.contains_key(name) {
            drop_collection(&mut plan, collection);
        }
    }
    for (name, collection) in &to.collections {
        match from.collections.get(name) {
            Some(before) => change_collection(&mut plan, from, before, collection),
            None => {
                let description = format!("new collection `{name}`");
                plan.safe(
                    format!("collections.{name}"),
                    description,
                    ddl::create_table(collection),
                );
                plan.after.push(Arc::clone(collection));
            }
        }
    }
    plan
}

fn drop_collection(plan: &mut Plan, collection: &Collection) {
    let name = &collection.name;
    plan.refuse(
        format!("collections.{name}"),
        format!("the collection `{name}` is gone"),
        format!("every document of `{name}`"),
        remedy::dropped_collection(name),
    );
}

fn change_collection(plan: &mut Plan, from: &Schema, before: &Arc<Collection>, after: &Arc<Collection>) {
    let path = format!("collections.{}", after.name);
    let fields_path = format!("{path}.fields");
    let mut columns_change = false;
    for field in &before.fields {
        if after.field(&field.name).is_none() {
            field::dropped(plan, &fields_path, before, field, after);
        }
    }
    let old_indexes = before
        .indexes
        .iter()
        .filter(|index| !has_index(after, before, index));
    for index in old_indexes {
        let description = format!("the index `{}` is dropped", index.name);
        plan.safe(
            format!("{path}.indexes"),
            description,
            vec![ddl::drop_index(&index.name)],
        );
    }
    for field in &after.fields {
        columns_change |= match before.field(&field.name) {
            Some((_, old)) => field::changed(plan, &fields_path, from, (before, old), (after, field)),
            None => field::added(plan, &fields_path, after, field),
        };
    }
    for index in &after.indexes {
        if !has_index(before, after, index) {
            new_index(plan, &path, before, after, index);
        }
    }
    if before.access != after.access {
        plan.safe(format!("{path}.rules"), "who may do what changes", Vec::new());
    }
    if before.description != after.description {
        plan.safe(
            format!("{path}.description"),
            "the description changes",
            Vec::new(),
        );
    }
    if !columns_change && same::reordered(before, after) {
        plan.safe(fields_path, "the fields change places", Vec::new());
    }
    if columns_change {
        plan.before.push(Arc::clone(before));
        plan.after.push(Arc::clone(after));
    }
}

/// Whether `collection` declares the same index as `index` of `other`, over fields of the same names.
fn has_index(collection: &Collection, other: &Collection, index: &Index) -> bool {
    let names = |collection: &Collection, index: &Index| -> Vec<String> {
        let fields = index
            .fields
            .iter()
            .filter_map(|&position| collection.fields.get(position));
        fields.map(|field| field.name.clone()).collect()
    };
    collection.indexes.iter().any(|candidate| {
        candidate.name == index.name
            && candidate.unique == index.unique
            && candidate.order == index.order
            && names(collection, candidate) == names(other, index)
    })
}

fn new_index(plan: &mut Plan, path: &str, before: &Collection, after: &Collection, index: &Index) {
    let name = &index.name;
    let path = format!("{path}.indexes");
    // Nulls are all different, so a column that every old row leaves null cannot clash.
    let starts_null = index
        .fields
        .iter()
        .filter_map(|&position| after.fields.get(position))
        .any(|field| before.field(&field.name).is_none() && field.nullable && field.default.is_none());
    if index.unique && !starts_null {
        plan.refuse(
            path,
            format!("new unique index `{name}` over existing documents"),
            "nothing, but it fails where two documents share the values",
            remedy::unique_index(name),
        );
    } else {
        let description = format!("new index `{name}`");
        plan.safe(path, description, vec![ddl::create_index(after, index)]);
    }
}
