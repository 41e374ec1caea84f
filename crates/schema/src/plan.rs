//! What it takes to get from one schema to another, and what would lose data and is therefore refused.
//!
//! The plan compares two schemas; it does not look at the database. A step is safe only where it works on any
//! data that the first schema allows and keeps all of it. How the tables get there is [`crate::settle`]'s.

mod bucket;
mod concern;
mod convert;
mod field;
mod proposal;
mod remedy;
mod same;

use std::sync::Arc;

use remedy::Remedy;

use crate::model::{Collection, Index, Schema};
use crate::settle::Transition;

pub(crate) use convert::{converted, keeps_values, new_value, sample};
pub(crate) use field::obstacle;
pub use proposal::Proposal;

/// The steps from one schema to another.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The steps in order.
    pub steps: Vec<Step>,
    ends: Ends,
    /// What the remedies have proposed so far.
    proposed: Proposed,
}

/// Where a plan leads from, and where to.
#[derive(Debug, Clone, Default)]
struct Ends {
    from: Arc<Schema>,
    to: Arc<Schema>,
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
    /// The remedy of each refused step that has one of its own, with its collection.
    remedies: Vec<(String, Remedy)>,
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
    /// A query that counts the rows that it concerns, in the database as it is; none for what concerns the server only.
    pub concerned: Option<String>,
    /// Whether the database itself refuses data that does not fit, so that nothing can go wrong unseen.
    checked: bool,
    /// Whether values must not stay as they are, though the database would let them.
    rewrites: bool,
}

impl Step {
    /// Whether only operations can carry it out: a migration without any would leave values that nobody may see as they
    /// are, such as markup that was never cleaned in a field of rich text.
    pub fn needs_operations(&self) -> bool {
        self.rewrites
    }

    /// What kind of step it is.
    pub fn class(&self) -> Class {
        match self.verdict {
            Verdict::Safe => Class::Safe,
            Verdict::Refused { class, .. } => class,
        }
    }

    /// The collection that it is about, if it is about one.
    pub fn collection(&self) -> Option<&str> {
        let path = self.path.strip_prefix("collections.")?;
        path.split('.').next()
    }
}

/// What a step may do to data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It keeps all of it, whatever there is.
    Safe,
    /// It loses none by itself, but there may be documents of which somebody must say what becomes of them.
    NeedsDecision,
    /// It loses some.
    Destructive,
}

impl Class {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::NeedsDecision => "needs-decision",
            Self::Destructive => "destructive",
        }
    }
}

/// Whether a step can be done without losing anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It can.
    Safe,
    /// It cannot.
    Refused {
        /// [`Class::NeedsDecision`] or [`Class::Destructive`].
        class: Class,
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

    /// Every statement in order, for one transaction in which foreign keys are not checked, on a database that is as
    /// the first schema has it made. Empty where only the server has to know, or where a step is refused. What it
    /// does to the rows that are there is not logged, so readers of the log must begin afresh with a snapshot.
    pub fn statements(&self) -> Vec<String> {
        if self.refused().next().is_some() {
            return Vec::new();
        }
        let Ends { from, to } = self.ends.clone();
        Transition::direct(from, to).statements()
    }

    /// The plan beside migrations that say what becomes of the data that some steps are about: those that it refuses are
    /// left out, and what the database itself refuses where the migrations have not seen to it.
    #[must_use]
    pub fn beside_migrations(mut self, covered: impl Fn(&Step) -> bool) -> Self {
        self.steps
            .retain(|step| step.verdict == Verdict::Safe || !(step.checked || covered(step)));
        self
    }

    /// The one migration that would carry out all that is refused; `None` where nothing is.
    pub fn proposal(&self) -> Option<Proposal> {
        proposal::of(self)
    }

    fn safe(&mut self, path: impl Into<String>, description: impl Into<String>, concerned: Option<String>) {
        self.steps.push(Step {
            path: path.into(),
            description: description.into(),
            verdict: Verdict::Safe,
            concerned,
            checked: true,
            rewrites: false,
        });
    }

    /// Refuses a change of a collection. Returns the file that is proposed instead.
    fn refuse(&mut self, collection: &str, refused: Refused, remedy: Remedy) -> String {
        let (text, file) = self.propose(&remedy);
        self.proposed.remedies.push((collection.to_owned(), remedy));
        self.refuse_with(refused, text);
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

    fn refuse_with(&mut self, refused: Refused, remedy: String) {
        self.steps.push(Step {
            path: refused.path,
            description: refused.description,
            verdict: Verdict::Refused {
                class: refused.class,
                loses: refused.loses,
                remedy,
            },
            concerned: refused.concerned,
            checked: refused.checked,
            rewrites: refused.rewrites,
        });
    }
}

/// A change that is refused.
struct Refused {
    path: String,
    description: String,
    class: Class,
    loses: String,
    concerned: Option<String>,
    /// As [`Step::checked`].
    checked: bool,
    /// As [`Step::needs_operations`].
    rewrites: bool,
}

/// The steps from `from`, which the database has, to `to`, in a project without migrations.
pub fn plan(from: &Schema, to: &Schema) -> Plan {
    plan_numbered(from, to, 1)
}

/// As [`plan`]; the migrations that it proposes are numbered from `next_migration`.
pub fn plan_numbered(from: &Schema, to: &Schema, next_migration: u32) -> Plan {
    let mut plan = Plan {
        ends: Ends {
            from: Arc::new(from.clone()),
            to: Arc::new(to.clone()),
        },
        ..Plan::default()
    };
    plan.proposed.next = next_migration;
    if from.version != to.version {
        plan.safe(
            "version",
            format!("version {} becomes {}", from.version, to.version),
            None,
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
            Some(before) => change_collection(&mut plan, before, collection),
            None => plan.safe(
                format!("collections.{name}"),
                format!("new collection `{name}`"),
                None,
            ),
        }
    }
    plan
}

fn drop_collection(plan: &mut Plan, collection: &Collection) {
    let name = &collection.name;
    let refused = Refused {
        path: format!("collections.{name}"),
        description: format!("the collection `{name}` is gone"),
        class: Class::Destructive,
        loses: format!("every document of `{name}`"),
        concerned: Some(concern::documents(name)),
        checked: false,
        rewrites: false,
    };
    plan.refuse(name, refused, remedy::dropped_collection(name));
}

fn change_collection(plan: &mut Plan, before: &Collection, after: &Collection) {
    let path = format!("collections.{}", after.name);
    let fields_path = format!("{path}.fields");
    plan.proposed.rebuild =
        (!same_key(before, after)).then(|| (remedy::rebuilt(&plan.ends, before, after), None));
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
        plan.safe(format!("{path}.indexes"), description, None);
    }
    for field in &after.fields {
        match before.field(&field.name) {
            Some((_, old)) => field::changed(plan, &fields_path, (before, old), (after, field)),
            None => field::added(plan, &fields_path, after, field),
        }
    }
    for index in &after.indexes {
        if !has_index(before, after, index) {
            new_index(plan, &path, before, after, index);
        }
    }
    plan.proposed.rebuild = None;
    change_settings(plan, &path, before, after);
}

/// Whether documents keep their keys.
fn same_key(before: &Collection, after: &Collection) -> bool {
    let (old, new) = (before.primary_field(), after.primary_field());
    old.name == new.name && keeps_values(old.kind, new.kind)
}

/// What is neither a field nor an index.
fn change_settings(plan: &mut Plan, path: &str, before: &Collection, after: &Collection) {
    if before.access != after.access || before.rules != after.rules {
        plan.safe(format!("{path}.rules"), "who may do what changes", None);
    }
    if before.description != after.description {
        plan.safe(format!("{path}.description"), "the description changes", None);
    }
    let documents = Some(concern::documents(&after.name));
    if same::reordered(before, after) {
        plan.safe(
            format!("{path}.fields"),
            "the fields change places",
            documents.clone(),
        );
    }
    let names = |collection: &Collection| -> Vec<String> {
        let fields = collection.search.iter();
        fields
            .map(|&field| collection.fields[field].name.clone())
            .collect()
    };
    if names(before) != names(after) {
        plan.safe(
            format!("{path}.search"),
            "the full-text index is made anew",
            documents,
        );
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
        let refused = Refused {
            path,
            description: format!("new unique index `{name}` over existing documents"),
            class: Class::NeedsDecision,
            loses: "nothing, but it fails where two documents share the values".to_owned(),
            concerned: concern::repeated(before, after, index),
            checked: true,
            rewrites: false,
        };
        plan.refuse(&after.name, refused, remedy::unique_index(before, after, index));
    } else {
        let description = format!("new index `{name}`");
        plan.safe(path, description, Some(concern::documents(&after.name)));
    }
}
