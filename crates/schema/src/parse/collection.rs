//! One collection: its fields, then what refers to them.

use std::collections::HashMap;

use super::access::Fallback;
use super::field::FieldDraft;
use super::index::IndexDraft;
use super::walk::{Named, Walk, join};
use super::{access, field, index, search};
use crate::model::{Access, Collection, DefaultValue, Field, FieldType, RuleTexts, Validation};
use alyx_yaml::Place;

/// Options of a collection; `name` in the list form only.
pub(crate) const COLLECTION_OPTIONS: [&str; 6] =
    ["name", "description", "fields", "indexes", "search", "rules"];
/// Most fields of one collection.
pub(crate) const MAX_FIELDS: usize = 200;

/// A collection that still has to be checked against the others.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) description: Option<String>,
    pub(super) fields: Vec<FieldDraft>,
    pub(super) indexes: Vec<IndexDraft>,
    pub(super) search: Vec<String>,
    pub(super) access: Access,
    pub(super) rules: RuleTexts,
}

impl Draft {
    /// Position of the primary field.
    pub(super) fn primary(&self) -> Option<usize> {
        self.fields.iter().position(|draft| draft.field.primary)
    }

    /// The collection; `None` only where problems were noted.
    pub(super) fn finish(self) -> Option<Collection> {
        let primary = self.primary()?;
        let fields: Vec<Field> = self.fields.into_iter().map(|draft| draft.field).collect();
        let positions: HashMap<String, usize> = fields
            .iter()
            .enumerate()
            .map(|(position, field)| (field.name.clone(), position))
            .collect();
        let indexes = self
            .indexes
            .into_iter()
            .map(|draft| draft.finish(&positions))
            .collect::<Option<Vec<_>>>()?;
        let search = self.search.iter().map(|name| positions.get(name).copied());
        let search = search.collect::<Option<Vec<_>>>()?;
        Some(Collection {
            name: self.name,
            description: self.description,
            fields,
            indexes,
            search,
            access: self.access,
            rules: self.rules,
            primary,
            positions,
        })
    }
}

pub(super) fn read(walk: &mut Walk, named: &Named<'_>, fallback: &Fallback) -> Draft {
    let mut draft = Draft {
        name: named.name.clone(),
        path: named.path.clone(),
        description: None,
        fields: Vec::new(),
        indexes: Vec::new(),
        search: Vec::new(),
        access: Access::CLOSED,
        rules: RuleTexts::default(),
    };
    let path = &named.path;
    let Some(options) = walk.options(named.node, path, "a collection", &COLLECTION_OPTIONS, &[]) else {
        return draft;
    };
    draft.description = walk.text(&options, "description", path).map(str::to_owned);
    let fields_path = join(path, "fields");
    match options.get("fields") {
        None => {
            let hint = "write `fields: {title: {type: string}}`";
            walk.problem(
                named.place,
                &fields_path,
                "is missing: a collection needs fields",
                hint,
            );
        }
        Some(node) => {
            for named in walk.named(node, &fields_path, "field").unwrap_or_default() {
                draft.fields.push(field::read(walk, &named));
            }
            if draft.fields.len() > MAX_FIELDS {
                let message = format!(
                    "a collection can have {MAX_FIELDS} fields, not {}",
                    draft.fields.len()
                );
                let hint = "keep what belongs together in one `json` field";
                walk.problem(node.place, &fields_path, message, hint);
            }
            settle_primary(walk, &mut draft, node.place);
        }
    }
    if let Some(node) = options.get("indexes") {
        draft.indexes = index::read(walk, node, &join(path, "indexes"), &draft.fields);
    }
    if let Some(node) = options.get("search") {
        draft.search = search::read(walk, node, &join(path, "search"), &draft.fields);
    }
    (draft.access, draft.rules) = access::read(walk, named, &options, fallback);
    draft
}

/// Exactly one primary field: the declared one, or an `id` that is put first.
fn settle_primary(walk: &mut Walk, draft: &mut Draft, place: Place) {
    let mut primaries = draft.fields.iter().filter(|draft| draft.field.primary);
    match (primaries.next(), primaries.next()) {
        (Some(first), Some(second)) => {
            let message = format!(
                "a collection has one primary field, and `{}` is it already",
                first.field.name
            );
            walk.problem(
                second.place,
                join(&second.path, "primary"),
                message,
                "take `primary` off one of them",
            );
        }
        (Some(_), None) => {}
        (None, _) => {
            if let Some(id) = draft.fields.iter().find(|draft| draft.field.name == "id") {
                walk.problem(
                    id.place,
                    &id.path,
                    "there is no primary field, and `id` is taken, so none can be added",
                    "write `id: {type: uuid, primary: true, default: auto}`, or give another field `primary: true`",
                );
            }
            draft
                .fields
                .insert(0, generated_id(join(&draft.path, "fields.id"), place));
        }
    }
}

fn generated_id(path: String, place: Place) -> FieldDraft {
    FieldDraft {
        path,
        place,
        reference: None,
        bucket: None,
        field: Field {
            name: "id".to_owned(),
            description: None,
            kind: FieldType::Uuid,
            primary: true,
            unique: false,
            nullable: false,
            index: false,
            default: Some(DefaultValue::Auto),
            references: None,
            file: None,
            on_update_now: false,
            internal: false,
            validation: Validation::default(),
        },
    }
}
