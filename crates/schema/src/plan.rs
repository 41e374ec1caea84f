//! What it takes to get from one schema to another, and what would lose data and is therefore refused.
//!
//! The plan compares two schemas; it does not look at the database. A step is safe only where it works on any
//! data that the first schema allows and keeps all of it.

mod bucket;
mod convert;
mod field;
mod remedy;
mod same;

use std::sync::Arc;

use remedy::Remedy;

use crate::ddl;
use crate::model::{Collection, Index, Schema};

pub(crate) use field::obstacle;

/// The steps from one schema to another.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The steps in order.
    pub steps: Vec<Step>,
    /// Collections whose columns change, as they were: their triggers go first.
    before: Vec<Arc<Collection>>,
    /// Collections whose triggers are created last.
    after: Vec<Arc<Collection>>,
    /// What the remedies have proposed so far.
    proposed: Proposed,
}

/// The migrations that the remedies of a plan propose.
#[derive(Debug, Clone, Default)]
struct Proposed {
    /// The number of the next one.
    next: u32,
    /// Where the collection's table must be made anew, that covers all of its refused steps: the migration and,
    /// once it has been proposed, its file.
    rebuild: Option<(Remedy, Option<String>)>,
    /// Fields of the collection that may be renamed ones: new name, old name, file.
    renames: Vec<(String, String, String)>,
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
        /// What to do instead: in most cases the migration file to write, as text of several lines.
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
        remedy: &Remedy,
    ) -> String {
        let (remedy, file) = self.propose(remedy);
        self.refuse_with(path, description, loses, remedy);
        file
    }

    /// The text of a remedy and the file that it proposes.
    fn propose(&mut self, remedy: &Remedy) -> (String, String) {
        let remedy = match &self.proposed.rebuild {
            Some((_, Some(file))) => {
                return (
                    format!("the migration `{file}` carries this out too"),
                    file.clone(),
                );
            }
            Some((rebuild, None)) => rebuild.clone(),
            None => remedy.clone(),
        };
        let (text, file) = remedy.write(self.proposed.next);
        self.proposed.next += 1;
        if let Some((_, proposed)) = &mut self.proposed.rebuild {
            *proposed = Some(file.clone());
        }
        (text, file)
    }

    fn refuse_with(
        &mut self,
        path: impl Into<String>,
        description: impl Into<String>,
        loses: impl Into<String>,
        remedy: String,
    ) {
        self.steps.push(Step {
            path: path.into(),
            description: description.into(),
            verdict: Verdict::Refused {
                loses: loses.into(),
                remedy,
            },
            sql: Vec::new(),
        });
    }
}

/// The steps from `from`, which the database has, to `to`, in a project without migrations.
pub fn plan(from: &Schema, to: &Schema) -> Plan {
    plan_numbered(from, to, 1)
}

/// As [`plan`]; the migrations that it proposes are numbered from `next_migration`.
pub fn plan_numbered(from: &Schema, to: &Schema, next_migration: u32) -> Plan {
    let mut plan = Plan::default();
    plan.proposed.next = next_migration;
    if from.version != to.version {
        plan.safe(
            "version",
            format!("version {} becomes {}", from.version, to.version),
            Vec::new(),
        );
    }
    bucket::compare(&mut plan, from, to);
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
        &remedy::dropped_collection(name),
    );
}

fn change_collection(plan: &mut Plan, from: &Schema, before: &Arc<Collection>, after: &Arc<Collection>) {
    let path = format!("collections.{}", after.name);
    let fields_path = format!("{path}.fields");
    let mut columns_change = false;
    let (old_key, new_key) = (before.primary_field(), after.primary_field());
    let same_key =
        old_key.name == new_key.name && ddl::storage_type(old_key.kind) == ddl::storage_type(new_key.kind);
    plan.proposed.rebuild = (!same_key).then(|| (remedy::rebuilt(before, after), None));
    plan.proposed.renames.clear();
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
    plan.proposed.rebuild = None;
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
    let names = |collection: &Collection| -> Vec<String> {
        let fields = collection.search.iter();
        fields
            .map(|&field| collection.fields[field].name.clone())
            .collect()
    };
    let search_changes = names(before) != names(after);
    if search_changes {
        plan.safe(
            format!("{path}.search"),
            "the full-text index is made anew",
            Vec::new(),
        );
    }
    if columns_change || search_changes {
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
            &remedy::unique_index(after, index),
        );
    } else {
        let description = format!("new index `{name}`");
        plan.safe(path, description, vec![ddl::create_index(after, index)]);
    }
}
