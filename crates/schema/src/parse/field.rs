//! One field: its type, then the options against the type.

use super::reference::{self, ReferenceDraft};
use super::walk::{Named, Options, Walk, join};
use super::{choice, default, file, relation, rich, validation};
use crate::model::{Field, FieldType, Validation};
use alyx_core::nearest;
use alyx_yaml::{Kind, Node, Place};

/// Options of a field; `name` in the list form only.
pub(crate) const FIELD_OPTIONS: [&str; 22] = [
    "name",
    "type",
    "description",
    "primary",
    "unique",
    "nullable",
    "required",
    "index",
    "default",
    "references",
    "onDelete",
    "on_delete",
    "onUpdate",
    "on_update",
    "internal",
    "minLength",
    "maxLength",
    "validate",
    "select",
    "relation",
    "richtext",
    "file",
];
/// What other systems call our types.
const SYNONYMS: [(&str, &str); 31] = [
    ("integer", "int"),
    ("bigint", "int"),
    ("int64", "int"),
    ("number", "float"),
    ("double", "float"),
    ("real", "float"),
    ("decimal", "float"),
    ("boolean", "bool"),
    ("datetime", "timestamp"),
    ("date-time", "timestamp"),
    ("time", "timestamp"),
    ("varchar", "string"),
    ("char", "string"),
    ("str", "string"),
    ("longtext", "text"),
    ("object", "json"),
    ("array", "json"),
    ("list", "json"),
    ("jsonb", "json"),
    ("bytes", "blob"),
    ("binary", "blob"),
    ("guid", "uuid"),
    ("uri", "url"),
    ("link", "url"),
    ("enum", "select"),
    ("reference", "relation"),
    ("html", "richtext"),
    ("rich_text", "richtext"),
    ("image", "file"),
    ("attachment", "file"),
    ("upload", "file"),
];

/// A field that still has to be checked against other collections.
#[derive(Debug)]
pub(super) struct FieldDraft {
    pub(super) path: String,
    pub(super) place: Place,
    pub(super) field: Field,
    pub(super) reference: Option<ReferenceDraft>,
    /// Where the bucket of a field of type file is named.
    pub(super) bucket: Option<Place>,
}

pub(super) fn read(walk: &mut Walk, named: &Named<'_>) -> FieldDraft {
    let path = &named.path;
    let mut draft = FieldDraft {
        path: path.clone(),
        place: named.place,
        reference: None,
        bucket: None,
        field: Field {
            name: named.name.clone(),
            description: None,
            kind: FieldType::String,
            primary: false,
            unique: false,
            nullable: false,
            index: false,
            default: None,
            references: None,
            file: None,
            on_update_now: false,
            internal: false,
            validation: Validation::default(),
        },
    };
    if let Kind::Scalar { .. } = named.node.kind.as_ref() {
        let kind = named.node.text().unwrap_or("string");
        let hint = format!("write `{}: {{type: {kind}}}`", named.name);
        walk.problem(named.place, path, "a field must be a mapping with a `type`", hint);
        return draft;
    }
    let Some(options) = walk.options(named.node, path, "a field", &FIELD_OPTIONS, &[]) else {
        return draft;
    };
    let field = &mut draft.field;
    field.description = walk.text(&options, "description", path).map(str::to_owned);
    field.primary = walk.flag(&options, "primary", path).unwrap_or(false);
    field.unique = walk.flag(&options, "unique", path).unwrap_or(false);
    field.index = walk.flag(&options, "index", path).unwrap_or(false);
    field.internal = walk.flag(&options, "internal", path).unwrap_or(false);
    field.nullable = nullable(walk, &options, path);
    if options.get("type").and_then(Node::text) == Some(relation::RELATION) {
        draft.reference = relation::read(walk, &options, field.nullable, path);
        warn_of_index(walk, &draft.field, path);
        return draft;
    }
    let Some(kind) = read_type(walk, &options, named) else {
        return draft;
    };
    field.kind = kind;
    relation::refuse(walk, &options, kind, path);
    check_primary(walk, &options, field, path);
    warn_of_index(walk, field, path);
    field.on_update_now = on_update(walk, &options, field, path);
    field.validation = validation::read(walk, &options, kind, path);
    choice::read(walk, &options, kind, path, &mut field.validation);
    rich::read(walk, &options, kind, path, &mut field.validation);
    if let Some((rule, place)) = file::read(walk, &options, kind, field.nullable, path) {
        field.file = Some(rule);
        draft.bucket = Some(place);
    }
    default::read(walk, &options, field, path);
    draft.reference = reference::read(walk, &options, field, path);
    draft
}

/// Warns of an index that the field has anyway.
fn warn_of_index(walk: &mut Walk, field: &Field, path: &str) {
    if field.primary && (field.unique || field.index) {
        walk.warnings.push(format!(
            "{path}: a primary field is unique and has an index anyway"
        ));
    } else if field.unique && field.index {
        walk.warnings.push(format!(
            "{path}: a unique field has an index anyway, so `index` has no effect"
        ));
    }
}

fn read_type(walk: &mut Walk, options: &Options<'_>, named: &Named<'_>) -> Option<FieldType> {
    let path = join(&named.path, "type");
    let own = FieldType::ALL.into_iter().map(FieldType::name);
    let names: Vec<&str> = own.chain([relation::RELATION]).collect();
    let Some(node) = options.get("type") else {
        let hint = format!("write `type:` with one of {}", names.join(", "));
        walk.problem(named.place, path, "is missing: every field has a type", hint);
        return None;
    };
    let Some(text) = node.text() else {
        let hint = format!("write one of {}", names.join(", "));
        walk.problem(
            node.place,
            path,
            format!("must be the name of a type, not {}", node.describe()),
            hint,
        );
        return None;
    };
    if let Some(kind) = FieldType::ALL.into_iter().find(|kind| kind.name() == text) {
        return Some(kind);
    }
    let synonym = SYNONYMS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, ours)| *ours);
    let hint = match synonym.or_else(|| nearest(text, names.iter().copied())) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the types are {}", names.join(", ")),
    };
    walk.problem(node.place, path, format!("there is no type `{text}`"), hint);
    None
}

/// `nullable` and `required` say the same thing from both sides.
fn nullable(walk: &mut Walk, options: &Options<'_>, path: &str) -> bool {
    let nullable = walk.flag(options, "nullable", path);
    let required = walk.flag(options, "required", path);
    if let (Some(nullable), Some(required), Some(node)) = (nullable, required, options.get("required"))
        && nullable == required
    {
        let message = format!("`required: {required}` contradicts `nullable: {nullable}`");
        walk.problem(
            node.place,
            join(path, "required"),
            message,
            "keep one of the two options",
        );
    }
    nullable.or(required.map(|required| !required)).unwrap_or(false)
}

fn check_primary(walk: &mut Walk, options: &Options<'_>, field: &Field, path: &str) {
    let Some(node) = options.get("primary").filter(|_| field.primary) else {
        return;
    };
    let at = join(path, "primary");
    if field.nullable {
        walk.problem(
            node.place,
            &at,
            "a primary field cannot be nullable",
            "take `nullable` off",
        );
    }
    if field.internal {
        walk.problem(
            node.place,
            &at,
            "a primary field cannot be internal",
            "take `internal` off",
        );
    }
    if !matches!(
        field.kind,
        FieldType::Uuid | FieldType::Id | FieldType::String | FieldType::Text | FieldType::Int
    ) {
        walk.problem(
            node.place,
            &at,
            format!("a field of type {} cannot be primary", field.kind.name()),
            "use uuid, id, int, string or text",
        );
    }
}

/// The value under either spelling of an option that has two.
pub(super) fn either<'n>(
    walk: &mut Walk,
    options: &Options<'n>,
    names: [&str; 2],
    path: &str,
) -> Option<(String, &'n Node)> {
    let [first, second] = names.map(|name| options.entry(name));
    if let (Some(_), Some((key, _))) = (first, second) {
        let message = format!("`{}` and `{}` are the same option", names[0], names[1]);
        walk.problem(key.place, join(path, &key.text), message, "keep one of them");
    }
    first.or(second).map(|(key, node)| (join(path, &key.text), node))
}

fn on_update(walk: &mut Walk, options: &Options<'_>, field: &Field, path: &str) -> bool {
    let Some((at, node)) = either(walk, options, ["onUpdate", "on_update"], path) else {
        return false;
    };
    if node.text() != Some("now") {
        walk.problem(
            node.place,
            at,
            "must be `now`",
            "write `onUpdate: now`, or take the option off",
        );
        return false;
    }
    if field.kind != FieldType::Timestamp {
        let message = format!(
            "only a timestamp can be set on update, and this is a field of type {}",
            field.kind.name()
        );
        walk.problem(node.place, at, message, "use `type: timestamp`");
        return false;
    }
    true
}
