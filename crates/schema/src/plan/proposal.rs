//! One migration for everything that a plan refuses.

use std::collections::BTreeSet;

use super::{Class, Plan, remedy};
use crate::model::{Collection, Field, Reference, Schema};

/// How often documents that refer to nothing are looked for at most, where that takes away what others refer to.
const ROUNDS: usize = 8;

/// The migration that would carry out what a plan refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Its operations, each as a YAML flow mapping.
    pub operations: Vec<String>,
    /// What to look at before it is saved, one line each.
    pub notes: Vec<String>,
}

/// What becomes of the documents of a collection that refer to nothing.
struct Detached {
    collection: String,
    /// Whether the field may be null only now.
    loosens: bool,
    /// Whether it may leave others that refer to nothing.
    spreads: bool,
    sql: String,
}

pub(super) fn of(plan: &Plan) -> Option<Proposal> {
    plan.refused().next()?;
    let mut proposal = Proposal {
        operations: Vec::new(),
        notes: Vec::new(),
    };
    let (from, to) = (&*plan.ends.from, &*plan.ends.to);
    let detached = detached(plan, from, to);
    let names = from.collections.keys().chain(to.collections.keys());
    let names: BTreeSet<&String> = names.collect();
    let mut remade: Vec<(&Collection, &Collection)> = Vec::new();
    for name in names {
        let loosened = detached
            .iter()
            .any(|detached| detached.loosens && detached.collection == *name);
        remade.extend(collection(plan, name, loosened, &mut proposal));
    }
    // What a table refers to must be in its place.
    let pointed = remade
        .iter()
        .flat_map(|(before, after)| remedy::pointed(&plan.ends, before, after));
    let unique = remade
        .iter()
        .flat_map(|(before, after)| remedy::made_unique(before, after));
    for sql in pointed.chain(unique) {
        proposal.operations.push(remedy::operation(&sql));
    }
    let spreads = detached.iter().any(|detached| detached.spreads);
    let mut detached: Vec<String> = detached.into_iter().map(|detached| detached.sql).collect();
    let rounds = if spreads {
        // A chain is no longer than there are references.
        detached.len().min(ROUNDS)
    } else {
        detached.retain(|sql| !proposal.operations.contains(&remedy::operation(sql)));
        1
    };
    for _ in 0..rounds {
        proposal
            .operations
            .extend(detached.iter().map(|sql| remedy::operation(sql)));
    }
    if !detached.is_empty() {
        let note = "at the end: what becomes of documents that refer to nothing any more";
        proposal.notes.push(note.to_owned());
    }
    Some(proposal)
}

/// One refused step is carried out by its own remedy; of several, none knows of the others, so the table is made anew.
/// So it is where fields must be `loosened` before anything can be done about their values.
fn collection<'p>(
    plan: &'p Plan,
    name: &str,
    loosened: bool,
    proposal: &mut Proposal,
) -> Option<(&'p Collection, &'p Collection)> {
    let own = plan
        .proposed
        .remedies
        .iter()
        .filter(|(collection, _)| collection == name);
    let mut own = own.map(|(_, remedy)| remedy);
    let refused = plan
        .refused()
        .filter(|step| step.collection() == Some(name))
        .count();
    let (from, to) = (plan.ends.from.collection(name), plan.ends.to.collection(name));
    let mut add = |remedy: &remedy::Remedy| {
        proposal.operations.extend(remedy.operations.iter().cloned());
        let note = remedy.note.iter().map(|note| format!("{name}: {note}"));
        proposal.notes.extend(note);
    };
    let alone = |own: Option<&remedy::Remedy>, before: &Collection, after: &Collection| {
        let unique = remedy::made_unique(before, after);
        let unique = unique.iter().map(|sql| remedy::operation(sql));
        super::same_key(before, after)
            && unique
                .into_iter()
                .all(|sql| own.is_some_and(|own| own.operations.contains(&sql)))
    };
    match (from, to, own.next(), own.next()) {
        (_, _, None, _) if !loosened => None,
        (Some(before), Some(after), first, second)
            if second.is_some() || refused > 1 || loosened || !alone(first, before, after) =>
        {
            let renames = renames(before, after);
            let renames: Vec<(&str, &str)> = renames.iter().map(|(new, old)| (*new, *old)).collect();
            add(&remedy::remade(before, after, &renames));
            for (new, old) in renames {
                proposal
                    .notes
                    .push(format!("{name}: `{new}` is taken for the renamed `{old}`"));
            }
            Some((before, after))
        }
        (_, _, only, _) => {
            only.into_iter().for_each(add);
            None
        }
    }
}

/// Fields that are gone, each with the first new one of its type: new name, old name.
fn renames<'c>(before: &'c Collection, after: &'c Collection) -> Vec<(&'c str, &'c str)> {
    let mut renames: Vec<(&str, &str)> = Vec::new();
    let gone = before
        .fields
        .iter()
        .filter(|field| after.field(&field.name).is_none());
    for field in gone {
        let new = after.fields.iter().find(|new| {
            new.kind == field.kind
                && before.field(&new.name).is_none()
                && !renames.iter().any(|(taken, _)| *taken == new.name)
        });
        renames.extend(new.map(|new| (new.name.as_str(), field.name.as_str())));
    }
    renames
}

/// What becomes of documents that refer to something that the migration may have taken away.
fn detached(plan: &Plan, from: &Schema, to: &Schema) -> Vec<Detached> {
    let changed = |name: &str| {
        let mut steps = plan.refused().filter(|step| step.collection() == Some(name));
        steps.any(|step| step.class() >= Class::NeedsDecision)
    };
    let mut statements = Vec::new();
    for collection in to.collections.values() {
        let Some(before) = from.collection(&collection.name) else {
            continue;
        };
        for field in &collection.fields {
            let Some(reference) = &field.references else {
                continue;
            };
            let concerned = changed(&collection.name) || changed(&reference.collection);
            let renamed = renames(before, collection)
                .into_iter()
                .find_map(|(new, old)| (new == field.name).then_some(old));
            if concerned && (renamed.is_some() || may_dangle(before, field, reference, to)) {
                let old = before.field(renamed.unwrap_or(&field.name));
                let target = to.collection(&reference.collection);
                let target = target.and_then(|target| target.field(&reference.field));
                statements.push(Detached {
                    spreads: !field.nullable || target.is_some_and(|(_, target)| target.references.is_some()),
                    collection: collection.name.clone(),
                    loosens: field.nullable && old.is_some_and(|(_, old)| !old.nullable),
                    sql: remedy::detached(&plan.ends, collection, field, reference),
                });
            }
        }
    }
    statements
}

/// A new field that is null everywhere refers to nothing.
fn may_dangle(before: &Collection, field: &Field, reference: &Reference, to: &Schema) -> bool {
    let filled = before.field(&field.name).is_some() || !field.nullable || field.default.is_some();
    filled && to.collection(&reference.collection).is_some()
}
