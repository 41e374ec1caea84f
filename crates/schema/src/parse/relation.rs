//! `type: relation`: a foreign key that takes its type from the field it refers to.
//!
//! A relation is no type of its own: once its target is known, the field has the target's type and a
//! [`Reference`](crate::Reference), as if both had been written with `references`. So a change of one spelling into
//! the other changes nothing.

use super::collection::Draft;
use super::field::either;
use super::reference::{ReferenceDraft, on_delete};
use super::walk::{Options, Walk, join};
use crate::model::{FieldType, OnDelete};
use alyx_core::nearest;

/// The word for `type`.
pub(super) const RELATION: &str = "relation";
/// Options under `relation`.
pub(crate) const RELATION_OPTIONS: [&str; 5] =
    ["collection", "field", "onDelete", "on_delete", "displayName"];
const EXAMPLE: &str = "write `relation: {collection: users}`";
/// Options of a field that a relation cannot have, and why.
const FOREIGN: [(&str, &str); 13] = [
    ("primary", "give the collection a key of its own"),
    (
        "default",
        "make it `nullable: true`, or send it with every document",
    ),
    ("references", "keep one of `references` and `relation`"),
    ("onDelete", "write it under `relation`"),
    ("on_delete", "write it under `relation`"),
    ("onUpdate", "take it off"),
    ("on_update", "take it off"),
    ("minLength", "the field it refers to has the checks"),
    ("maxLength", "the field it refers to has the checks"),
    ("validate", "the field it refers to has the checks"),
    ("select", "use `type: select`, or take it off"),
    ("richtext", "use `type: richtext`, or take it off"),
    ("file", "use `type: file`, or take it off"),
];

/// Reads a field of type relation, whose other options are known.
pub(super) fn read(
    walk: &mut Walk,
    options: &Options<'_>,
    nullable: bool,
    path: &str,
) -> Option<ReferenceDraft> {
    for (name, hint) in FOREIGN {
        if let Some((key, _)) = options.entry(name) {
            let message = format!("`{name}` does not fit a field of type relation");
            walk.problem(key.place, join(path, name), message, hint);
        }
    }
    let at = join(path, RELATION);
    let Some(node) = options.get(RELATION) else {
        let place = options.get("type")?.place;
        let message = "is missing: a relation refers to a collection";
        walk.problem(place, at, message, EXAMPLE);
        return None;
    };
    let inner = walk.options(node, &at, "`relation`", &RELATION_OPTIONS, &[])?;
    let action = match either(walk, &inner, ["onDelete", "on_delete"], &at) {
        Some((at, node)) => on_delete(walk, node, &at, nullable),
        None => OnDelete::default(),
    };
    // A hint for user interfaces, of which this version has none.
    walk.text(&inner, "displayName", &at);
    let field = walk.text(&inner, "field", &at).map(str::to_owned);
    let Some(collection) = inner.get("collection") else {
        let message = "is missing: a relation refers to a collection";
        walk.problem(node.place, join(&at, "collection"), message, EXAMPLE);
        return None;
    };
    let name = walk.text(&inner, "collection", &at)?.to_owned();
    let place = inner.get("field").unwrap_or(collection).place;
    Some(ReferenceDraft::relation(place, name, field, action))
}

/// Notes a block on a field of another type.
pub(super) fn refuse(walk: &mut Walk, options: &Options<'_>, kind: FieldType, path: &str) {
    if let Some((key, _)) = options.entry(RELATION) {
        let message = format!("`relation` does not fit a field of type {}", kind.name());
        let hint = "use `type: relation`, or `references: collection.field` and the type of that field";
        walk.problem(key.place, join(path, RELATION), message, hint);
    }
}

/// Gives every relation the field and the type of its target; one without a target is noted and is none any more.
pub(super) fn resolve(walk: &mut Walk, drafts: &mut [Draft]) {
    for position in 0..drafts.len() {
        for field in 0..drafts[position].fields.len() {
            let draft = &drafts[position].fields[field];
            let Some(relation) = draft.reference.as_ref().filter(|draft| draft.is_relation) else {
                continue;
            };
            let found = target(drafts, &relation.target.collection, &relation.target.field);
            let path = join(&draft.path, RELATION);
            let place = relation.place;
            let draft = &mut drafts[position].fields[field];
            match (found, &mut draft.reference) {
                (Ok((name, kind)), Some(reference)) => {
                    reference.target.field = name;
                    draft.field.kind = kind;
                }
                (Ok(_), None) => {}
                (Err((key, message, hint)), _) => {
                    draft.reference = None;
                    walk.problem(place, join(&path, key), message, hint);
                }
            }
        }
    }
}

/// Name and type of the field referred to, where an empty name is the primary field; else the option that is
/// wrong, why, and the remedy.
fn target(
    drafts: &[Draft],
    collection: &str,
    name: &str,
) -> Result<(String, FieldType), (&'static str, String, String)> {
    let Some(draft) = drafts.iter().find(|draft| draft.name == collection) else {
        let hint = match nearest(collection, drafts.iter().map(|draft| draft.name.as_str())) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => {
                "add the collection, or use `type: uuid` for the key of something kept elsewhere".to_owned()
            }
        };
        return Err((
            "collection",
            format!("there is no collection `{collection}`"),
            hint,
        ));
    };
    let found = draft.fields.iter().find(|candidate| {
        if name.is_empty() {
            candidate.field.primary
        } else {
            candidate.field.name == name
        }
    });
    match found {
        None => {
            let names = draft.fields.iter().map(|draft| draft.field.name.as_str());
            let hint = match nearest(name, names) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "leave `field` out for the primary field".to_owned(),
            };
            Err(("field", format!("`{collection}` has no field `{name}`"), hint))
        }
        Some(found) if found.reference.as_ref().is_some_and(|draft| draft.is_relation) => Err((
            "field",
            format!("`{collection}.{name}` is a relation itself"),
            "refer to what it refers to".to_owned(),
        )),
        Some(found) if matches!(found.field.kind, FieldType::Select | FieldType::File) => Err((
            "field",
            format!(
                "`{collection}.{name}` is of type {}, which is no key",
                found.field.kind.name()
            ),
            "leave `field` out for the primary field".to_owned(),
        )),
        Some(found) => Ok((found.field.name.clone(), found.field.kind)),
    }
}
