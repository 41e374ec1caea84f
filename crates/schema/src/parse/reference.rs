//! `references` and `onDelete`: foreign keys.

use super::collection::Draft;
use super::field::either;
use super::walk::{Options, Walk, join};
use crate::model::{Field, FieldType, OnDelete, Reference};
use alyx_core::nearest;
use alyx_yaml::Place;

/// A foreign key whose target is not looked up yet.
#[derive(Debug)]
pub(super) struct ReferenceDraft {
    place: Place,
    target: Reference,
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
    match node.text() {
        Some("restrict") => OnDelete::Restrict,
        Some("cascade") => OnDelete::Cascade,
        Some("set null" | "set_null") => {
            if !field.nullable {
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
    for position in 0..drafts.len() {
        for field in 0..drafts[position].fields.len() {
            let draft = &drafts[position].fields[field];
            let Some(reference) = &draft.reference else {
                continue;
            };
            let target = &reference.target;
            let problem = fault(drafts, &draft.field, target);
            if let Some((message, hint)) = problem {
                walk.problem(reference.place, join(&draft.path, "references"), message, hint);
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
    let text = |kind| matches!(kind, FieldType::String | FieldType::Text);
    a == b || (text(a) && text(b))
}
