//! `schema.yaml` to a checked [`Schema`], or to every problem in it.
//!
//! The file is read into a tree with places ([`alyx_yaml`]) and walked; the walk goes on after a problem, so
//! one run reports them all. What this version does not have is refused by name, never ignored: an access rule
//! that nobody evaluates would leave data open.

mod access;
mod bucket;
mod choice;
mod collection;
mod default;
mod field;
mod file;
mod index;
mod reference;
mod relation;
mod rich;
mod search;
mod validation;
mod walk;

use crate::model::Schema;
use crate::problem::{Problem, SchemaErrors};
use alyx_yaml::{Kind, Node, Place};
use walk::Walk;

/// Options of the file as a whole.
pub(crate) const FILE_OPTIONS: [&str; 4] = ["version", "default_access", "collections", "buckets"];
/// Options that other versions have: key, and what to do today.
const LATER_FILE_OPTIONS: [(&str, &str); 1] = [(
    "functions",
    "remove it; functions are found in the functions folder and configured by the files beside them",
)];

/// A schema and what its author should know about it.
#[derive(Debug, Clone)]
pub struct ParsedSchema {
    /// The schema.
    pub schema: Schema,
    /// What works but is probably not meant so, one sentence each.
    pub warnings: Vec<String>,
}

/// Reads the text of a schema file; `file` is its name in messages.
///
/// # Errors
/// Every problem of the file, each with its place and its remedy.
pub fn parse(source: &str, file: &str) -> Result<ParsedSchema, SchemaErrors> {
    let mut walk = Walk::default();
    let schema = read(source, &mut walk);
    if walk.problems.is_empty() {
        Ok(ParsedSchema {
            schema,
            warnings: walk.warnings,
        })
    } else {
        Err(SchemaErrors::new(walk.problems, file, source))
    }
}

fn read(source: &str, walk: &mut Walk) -> Schema {
    const LARGEST: usize = 4 << 20;
    let mut schema = Schema {
        version: 1,
        ..Schema::default()
    };
    if source.len() > LARGEST {
        walk.problem(
            Place::START,
            "",
            "the file is larger than 4 MiB",
            "a schema describes data and does not hold it",
        );
        return schema;
    }
    match alyx_yaml::parse(source) {
        Err(error) => walk.problems.push(Problem {
            path: String::new(),
            line: error.place.line,
            column: error.place.column,
            message: error.message,
            hint: "check the indentation (spaces, not tabs), colons and quotes here and on the line before"
                .to_owned(),
        }),
        Ok(root) if root.is_null() => walk.problem(Place::START, "", "the schema is empty", EXAMPLE),
        Ok(root) => read_file(&root, walk, &mut schema),
    }
    schema
}

const EXAMPLE: &str = "begin with `collections: {posts: {fields: {title: {type: string}}}}`";

fn read_file(root: &Node, walk: &mut Walk, schema: &mut Schema) {
    let Some(options) = walk.options(root, "", "the schema", &FILE_OPTIONS, &LATER_FILE_OPTIONS) else {
        return;
    };
    if let Some(node) = options.get("version") {
        match node.text().and_then(|text| text.parse::<u32>().ok()) {
            Some(version) if version >= 1 => schema.version = version,
            _ => walk.problem(
                node.place,
                "version",
                "must be a whole number from 1",
                "write `version: 1`",
            ),
        }
    }
    let fallback = access::fallback(walk, &options);
    let Some(node) = options.get("collections") else {
        walk.problem(root.place, "collections", "is missing", EXAMPLE);
        return;
    };
    let named = match node.kind.as_ref() {
        Kind::Map(entries) if entries.is_empty() => Vec::new(),
        Kind::List(items) if items.is_empty() => Vec::new(),
        _ => match walk.named(node, "collections", "collection") {
            Some(named) => named,
            None => return,
        },
    };
    if named.is_empty() && walk.problems.is_empty() {
        walk.problem(
            node.place,
            "collections",
            "is empty: a schema needs a collection",
            EXAMPLE,
        );
    }
    let mut drafts = Vec::new();
    for entry in &named {
        drafts.push(collection::read(walk, entry, &fallback));
    }
    let buckets = match options.get("buckets") {
        Some(node) => bucket::read_all(walk, node, fallback.of_buckets()),
        None => Vec::new(),
    };
    reference::check(walk, &mut drafts);
    file::check(walk, &drafts, &buckets);
    index::check_names(walk, &drafts);
    schema.collections = drafts
        .into_iter()
        .filter_map(collection::Draft::finish)
        .map(|collection| (collection.name.clone(), collection.into()))
        .collect();
    schema.buckets = buckets
        .into_iter()
        .map(|bucket| (bucket.name.clone(), bucket.into()))
        .collect();
}

#[cfg(test)]
mod tests {
    use super::{
        FILE_OPTIONS, LATER_FILE_OPTIONS, access, bucket, choice, collection, field, file, index, relation,
        rich, validation,
    };
    use crate::model::FieldType;
    use crate::richtext::{PRESETS, RichFormat};

    #[test]
    fn the_guide_names_every_type_and_option() {
        let guide = include_str!("../../../docs/schema.md");
        let mut names = FieldType::ALL.map(FieldType::name).to_vec();
        names.extend(FILE_OPTIONS);
        names.extend(LATER_FILE_OPTIONS.map(|(name, _)| name));
        names.extend(collection::COLLECTION_OPTIONS);
        names.extend(access::OPERATIONS);
        names.extend(field::FIELD_OPTIONS);
        names.extend(validation::VALIDATE_OPTIONS);
        names.extend(validation::FORMATS.map(|(name, _)| name));
        names.extend(index::INDEX_OPTIONS);
        names.extend(choice::SELECT_OPTIONS);
        names.push(relation::RELATION);
        names.extend(relation::RELATION_OPTIONS);
        names.extend(rich::RICHTEXT_OPTIONS);
        names.extend(PRESETS.map(|(name, _)| name));
        names.extend(RichFormat::ALL.map(RichFormat::name));
        names.extend(file::FILE_OPTIONS);
        names.extend(bucket::BUCKET_OPTIONS);
        names.extend(access::BUCKET_OPERATIONS);
        for name in names {
            assert!(
                guide.contains(&format!("`{name}`")),
                "docs/schema.md does not explain `{name}`"
            );
        }
    }
}
