//! `indexes`: declared indexes, and the names that all indexes share.

use std::collections::HashMap;

use super::collection::Draft;
use super::field::FieldDraft;
use super::walk::{Walk, join};
use crate::ddl::{field_index_name, unique_index_name};
use crate::model::{Index, SortOrder};
use alyx_core::nearest;
use alyx_yaml::{Kind, Node, Place};

/// Options of an index.
pub(crate) const INDEX_OPTIONS: [&str; 4] = ["name", "fields", "unique", "order"];

/// An index whose fields are still names.
#[derive(Debug)]
pub(super) struct IndexDraft {
    name: String,
    path: String,
    place: Place,
    fields: Vec<String>,
    unique: bool,
    order: SortOrder,
}

impl IndexDraft {
    pub(super) fn finish(self, positions: &HashMap<String, usize>) -> Option<Index> {
        let fields = self.fields.iter().map(|name| positions.get(name).copied());
        Some(Index {
            fields: fields.collect::<Option<Vec<_>>>()?,
            name: self.name,
            unique: self.unique,
            order: self.order,
        })
    }
}

/// Reads the list of indexes of a collection with those fields.
pub(super) fn read(walk: &mut Walk, node: &Node, path: &str, fields: &[FieldDraft]) -> Vec<IndexDraft> {
    let Kind::List(items) = node.kind.as_ref() else {
        let hint = "write `indexes: [{name: by-author, fields: [author, created_at]}]`";
        walk.problem(
            node.place,
            path,
            format!("must be a list, not {}", node.describe()),
            hint,
        );
        return Vec::new();
    };
    let items = items.iter().enumerate();
    items
        .filter_map(|(position, item)| read_one(walk, item, format!("{path}[{position}]"), fields))
        .collect()
}

fn read_one(walk: &mut Walk, node: &Node, path: String, fields: &[FieldDraft]) -> Option<IndexDraft> {
    let options = walk.options(node, &path, "an index", &INDEX_OPTIONS, &[])?;
    let name = match options.get("name") {
        Some(name_node) => {
            let name = walk.text(&options, "name", &path)?.to_owned();
            walk.check_name(&name, "index", &join(&path, "name"), name_node.place);
            name
        }
        None => {
            let hint = "write `name: by-author`, unlike any other index of the schema";
            walk.problem(
                node.place,
                join(&path, "name"),
                "is missing: an index has a name",
                hint,
            );
            return None;
        }
    };
    let unique = walk.flag(&options, "unique", &path).unwrap_or(false);
    let order = match options.get("order").map(|node| (node, node.text())) {
        None | Some((_, Some("asc"))) => SortOrder::Asc,
        Some((_, Some("desc"))) => SortOrder::Desc,
        Some((node, _)) => {
            let hint = "it holds for every field of the index";
            walk.problem(node.place, join(&path, "order"), "must be asc or desc", hint);
            SortOrder::Asc
        }
    };
    Some(IndexDraft {
        place: options.get("name").map_or(node.place, |name| name.place),
        fields: read_fields(
            walk,
            options.get("fields"),
            node.place,
            &join(&path, "fields"),
            fields,
        ),
        name,
        path,
        unique,
        order,
    })
}

fn read_fields(
    walk: &mut Walk,
    node: Option<&Node>,
    place: Place,
    path: &str,
    fields: &[FieldDraft],
) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let before = walk.problems.len();
    let texts = node.map(|node| walk.texts(node, path)).unwrap_or_default();
    for (name, place) in texts {
        if !fields.iter().any(|draft| draft.field.name == name) {
            let known = fields.iter().map(|draft| draft.field.name.as_str());
            let hint = match nearest(name, known) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "name fields of this collection".to_owned(),
            };
            walk.problem(place, path, format!("there is no field `{name}`"), hint);
        } else if names.iter().any(|known| known == name) {
            walk.problem(
                place,
                path,
                format!("`{name}` is in the index already"),
                "keep it once",
            );
        } else {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() && walk.problems.len() == before {
        let place = node.map_or(place, |node| node.place);
        walk.problem(
            place,
            path,
            "an index needs a field",
            "write `fields: [author, created_at]`",
        );
    }
    names
}

/// All indexes and tables of a database share one set of names.
pub(super) fn check_names(walk: &mut Walk, drafts: &[Draft]) {
    let mut taken: HashMap<String, String> = HashMap::new();
    for draft in drafts {
        taken.insert(draft.name.clone(), format!("the collection `{}`", draft.name));
    }
    for draft in drafts {
        for FieldDraft {
            field, path, place, ..
        } in &draft.fields
        {
            let owner = format!("the index of `{}.{}`", draft.name, field.name);
            let mut claim = |name: String| {
                if let Some(other) = taken.insert(name.clone(), owner.clone()) {
                    let message = format!("its index is named `{name}`, and so is {other}");
                    walk.problem(*place, path, message, "rename one of the two");
                }
            };
            if field.unique && !field.primary {
                claim(unique_index_name(&draft.name, &field.name));
            } else if field.index && !field.primary {
                claim(field_index_name(&draft.name, &field.name));
            }
        }
    }
    for draft in drafts {
        for index in &draft.indexes {
            let owner = format!("an index of `{}`", draft.name);
            if let Some(other) = taken.insert(index.name.clone(), owner) {
                let message = format!("the name `{}` belongs to {other} already", index.name);
                walk.problem(
                    index.place,
                    join(&index.path, "name"),
                    message,
                    "choose another name",
                );
            }
        }
    }
}
