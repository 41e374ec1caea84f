//! `search`: the fields of the full-text index.

use super::field::FieldDraft;
use super::walk::Walk;
use crate::model::FieldType;
use alyx_core::nearest;
use alyx_yaml::{Kind, Node};

/// Names of SQLite for a row's number, of which the index needs one.
const ROW_NUMBERS: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// Reads the list of fields, each once.
pub(super) fn read(walk: &mut Walk, node: &Node, path: &str, fields: &[FieldDraft]) -> Vec<String> {
    let hint = "write `search: [title, body]`";
    if !matches!(node.kind.as_ref(), Kind::List(_)) {
        let message = format!("must be a list of fields, not {}", node.describe());
        walk.problem(node.place, path, message, hint);
        return Vec::new();
    }
    let mut names: Vec<String> = Vec::new();
    for (name, place) in walk.texts(node, path) {
        let found = fields.iter().find(|draft| draft.field.name == name);
        let Some(draft) = found else {
            let known = fields.iter().map(|draft| draft.field.name.as_str());
            let hint = nearest(name, known)
                .map_or_else(|| hint.to_owned(), |near| format!("did you mean `{near}`?"));
            walk.problem(place, path, format!("there is no field `{name}`"), hint);
            continue;
        };
        // The type of a relation is not known yet, and it is a key whatever it is.
        let is_relation = draft.reference.as_ref().is_some_and(|draft| draft.is_relation);
        let fits = matches!(draft.field.kind, FieldType::String | FieldType::Text) && !is_relation;
        if !fits || draft.field.internal {
            let message = format!("`{name}` cannot be searched");
            walk.problem(
                place,
                path,
                message,
                "name fields of type `string` or `text` that are not internal",
            );
            continue;
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    let taken = |number: &str| fields.iter().any(|draft| draft.field.name == number);
    if ROW_NUMBERS.into_iter().all(taken) {
        let message = "fields take all of SQLite's names for a row's number";
        walk.problem(node.place, path, message, "rename the field `rowid`");
    }
    names
}
