//! What is to be known of every type to make fields of it.

use std::sync::Arc;

use alyx_schema::{FieldType, Schema, parse, read_create};

use crate::NOW;

/// Values of which every type takes some.
const VALUES: [&str; 35] = [
    "\"a\"",
    "\"b\"",
    "\"word\"",
    "\"two words\"",
    "\"it's\"",
    "\"\"",
    "0",
    "1",
    "-7",
    "42",
    "9007199254740992",
    "9007199254740993",
    "1.5",
    "-0.25",
    "1e300",
    "true",
    "false",
    "\"2026-01-31T12:00:00.000Z\"",
    "\"1999-12-31T23:59:59.999Z\"",
    "\"2026-01-31\"",
    "\"0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3d\"",
    "\"0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3e\"",
    "\"AQID\"",
    "{\"a\": [1, null]}",
    "[\"a\"]",
    "\"someone@example.org\"",
    "\"other@example.com\"",
    "\"https://example.org/\"",
    "\"https://example.com/a?b=c\"",
    "\"1999-12-31\"",
    "\"0123456789abcde\"",
    "\"ABCDEFGHIJKLMNO\"",
    "\"<b>bold</b> word\"",
    "[\"b\", \"word\"]",
    "null",
];
/// What a type may need besides its name.
const NEEDED: [&str; 4] = [
    "",
    ", select: {values: [a, b, word]}",
    ", select: {values: [a, b, word], maxSelect: 2}",
    ", file: {bucket: files}",
];

/// Where files are kept.
pub(super) const BUCKETS: &str = "buckets: {files: {backend: local}}\n";

/// What is to be known of every type to make fields of it.
#[derive(Clone)]
pub(super) struct Kinds(pub(super) Vec<Known>);

#[derive(Clone)]
pub(super) struct Known {
    pub(super) kind: FieldType,
    pub(super) needed: &'static str,
    /// JSON values of it.
    pub(super) values: Vec<&'static str>,
    pub(super) defaults: Vec<&'static str>,
    /// May be covered by a full-text index.
    pub(super) search: bool,
    /// May be a primary key; may be one that the server makes.
    pub(super) primary: bool,
    pub(super) auto: bool,
    pub(super) stamps: bool,
}

/// The schema of one field.
fn probe(options: &str, collection: &str) -> Option<Schema> {
    let text = format!(
        "{BUCKETS}collections: {{users: {{fields: {{id: {{type: uuid, primary: true}}}}}}, c: {{{collection}fields: {{f: \
         {{{options}}}}}}}}}"
    );
    parse(&text, "probe").ok().map(|parsed| parsed.schema)
}

impl Kinds {
    /// All types that there are.
    pub(super) fn discover() -> Self {
        Self(FieldType::ALL.into_iter().map(Known::discover).collect())
    }

    pub(super) fn of(&self, kind: FieldType) -> &Known {
        self.0
            .iter()
            .find(|known| known.kind == kind)
            .expect("every type is known")
    }
}

impl Known {
    fn discover(kind: FieldType) -> Self {
        let name = kind.name();
        let needed = NEEDED
            .into_iter()
            .find(|needed| probe(&format!("type: {name}{needed}"), "").is_some())
            .unwrap_or_else(|| panic!("say in NEEDED what a field of type {name} needs"));
        let with = |more: &str, collection: &str| probe(&format!("type: {name}{needed}{more}"), collection);
        let schema = with("", "").expect("probed");
        let collection = Arc::clone(&schema.collections["c"]);
        let values: Vec<&str> = VALUES
            .into_iter()
            .filter(|value| {
                let body = format!("{{\"f\": {value}}}");
                *value != "null" && read_create(&collection, body.as_bytes(), NOW).is_ok()
            })
            .collect();
        assert!(
            values.len() > 1,
            "say in VALUES what a field of type {name} may hold"
        );
        let defaults = values
            .iter()
            .filter(|value| with(&format!(", default: {value}"), "").is_some());
        Self {
            kind,
            needed,
            defaults: defaults.copied().collect(),
            search: with("", "search: [f], ").is_some(),
            primary: with(", primary: true", "").is_some(),
            auto: with(", primary: true, default: auto", "").is_some(),
            stamps: with(", onUpdate: now", "").is_some(),
            values,
        }
    }
}
