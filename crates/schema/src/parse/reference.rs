//! `references` and `onDelete`: foreign keys.

use super::collection::Draft;
use super::field::either;
use super::relation;
use super::walk::{Options, Walk, join};
use crate::model::{Field, FieldType, OnDelete, Reference};
use alyx_core::nearest;
use alyx_yaml::{Node, Place};

/// A foreign key whose target is not looked up yet.
#[derive(Debug)]
pub(super) struct ReferenceDraft {
    pub(super) place: Place,
    pub(super) target: Reference,
    /// Written as `type: relation`.
    pub(super) is_relation: bool,
}

impl ReferenceDraft {
    /// A relation to a field, or to the primary field where none is named; it has no type yet.
    pub(super) fn relation(
        place: Place,
        collection: String,
        field: Option<String>,
        on_delete: OnDelete,
    ) -> Self {
        Self {
            place,
            target: Reference {
                collection,
                field: field.unwrap_or_default(),
                on_delete,
            },
            is_relation: true,
        }
    }
}

/// Reads the foreign key of a field whose other options are known.
pub(super) fn read(
    walk: &mut Walk,
    options: &Options<'_>,
    field: &Field,
    path: &str,
) -> Option<ReferenceDraft> {
    let on_delete = read_on_delete(walk, options, field, path);
    let node = options.get("references")?;
    let at = join(path, "references");
    let Some(text) = node.text() else {
        let message = format!("must name a field of a collection, not {}", node.describe());
        walk.problem(node.place, at, message, "write `references: users.id`");
        return None;
    };
    let Some((collection, target)) = text.split_once('.') else {
        let message = format!("`{text}` names no field");
        walk.problem(node.place, at, message, format!("write `references: {text}.id`"));
        return None;
    };
    if collection.starts_with("_alyx") {
        walk.problem(
            node.place,
            at,
            format!("`{collection}` cannot be referenced: this version has no accounts"),
            "take `references` off and keep the type, or reference a collection of your own",
        );
        return None;
    }
    Some(ReferenceDraft {
        place: node.place,
        target: Reference {
            collection: collection.to_owned(),
            field: target.to_owned(),
            on_delete,
        },
        is_relation: false,
    })
}

fn read_on_delete(walk: &mut Walk, options: &Options<'_>, field: &Field, path: &str) -> OnDelete {
    let Some((at, node)) = either(walk, options, ["onDelete", "on_delete"], path) else {
        return OnDelete::default();
    };
    if options.get("references").is_none() {
        let hint = "add `references: collection.field`, or take it off";
        walk.problem(node.place, &at, "has no effect without `references`", hint);
    }
    on_delete(walk, node, &at, field.nullable)
}

/// What happens when the referenced document is deleted; another word is noted.
pub(super) fn on_delete(walk: &mut Walk, node: &Node, at: &str, nullable: bool) -> OnDelete {
    match node.text() {
        Some("restrict") => OnDelete::Restrict,
        Some("cascade") => OnDelete::Cascade,
        Some("set null" | "set_null") => {
            if !nullable {
                walk.problem(
                    node.place,
                    at,
                    "`set null` needs a field that can be null",
                    "add `nullable: true`",
                );
            }
            OnDelete::SetNull
        }
        other => {
            let text = other.unwrap_or_default();
            let words = ["restrict", "cascade", "set null"];
            let hint = match nearest(text, words) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("write one of {}", words.join(", ")),
            };
            walk.problem(node.place, at, "must be restrict, cascade or set null", hint);
            OnDelete::default()
        }
    }
}

/// Looks every foreign key's target up and settles it in the field.
pub(super) fn check(walk: &mut Walk, drafts: &mut [Draft]) {
    relation::resolve(walk, drafts);
    for position in 0..drafts.len() {
        for field in 0..drafts[position].fields.len() {
            let draft = &drafts[position].fields[field];
            let Some(reference) = &draft.reference else {
                continue;
            };
            let target = &reference.target;
            let problem = fault(drafts, &draft.field, target);
            if let Some((message, hint)) = problem {
                let option = if reference.is_relation {
                    "relation.field"
                } else {
                    "references"
                };
                walk.problem(reference.place, join(&draft.path, option), message, hint);
            }
            let target = target.clone();
            drafts[position].fields[field].field.references = Some(target);
        }
    }
}

/// What is wrong with a foreign key, and the remedy.
fn fault(drafts: &[Draft], field: &Field, target: &Reference) -> Option<(String, String)> {
    let Reference {
        collection,
        field: name,
        ..
    } = target;
    let Some(draft) = drafts.iter().find(|draft| draft.name == *collection) else {
        let hint = match nearest(collection, drafts.iter().map(|draft| draft.name.as_str())) {
            Some(nearest) => format!("did you mean `{nearest}.{name}`?"),
            None => "add the collection, or take `references` off".to_owned(),
        };
        return Some((format!("there is no collection `{collection}`"), hint));
    };
    let Some(found) = draft.fields.iter().find(|draft| draft.field.name == *name) else {
        let names = draft.fields.iter().map(|draft| draft.field.name.as_str());
        let hint = match (nearest(name, names), draft.primary()) {
            (Some(nearest), _) => format!("did you mean `{collection}.{nearest}`?"),
            (None, Some(primary)) => {
                format!(
                    "its primary field is `{collection}.{}`",
                    draft.fields[primary].field.name
                )
            }
            (None, None) => String::new(),
        };
        return Some((format!("`{collection}` has no field `{name}`"), hint));
    };
    let found = &found.field;
    if !found.primary && !found.unique {
        let message =
            format!("`{collection}.{name}` is neither primary nor unique, so it identifies nothing");
        return Some((
            message,
            format!("reference the primary field, or give `{name}` `unique: true`"),
        ));
    }
    if !comparable(field.kind, found.kind) {
        let message = format!(
            "a field of type {} cannot hold the {} of `{collection}.{name}`",
            field.kind.name(),
            found.kind.name()
        );
        return Some((message, format!("use `type: {}`", found.kind.name())));
    }
    None
}

fn comparable(a: FieldType, b: FieldType) -> bool {
    a == b || (a.is_free_text() && b.is_free_text())
}
