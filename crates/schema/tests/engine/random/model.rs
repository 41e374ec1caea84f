//! Random schemas, as text that the parser reads.

use std::fmt::Write as _;
use std::sync::Arc;

use alyx_schema::{FieldType, Schema, parse, read_create};

use super::chance::Chance;
use crate::NOW;

const COLLECTIONS: [&str; 3] = ["users", "order", "line-items"];
const FIELDS: [&str; 8] = ["title", "group", "n-1", "rowid", "other", "at", "key", "text"];
/// Values of which every type takes some.
const VALUES: [&str; 34] = [
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
const BUCKETS: &str = "buckets: {files: {backend: local}}\n";

/// What is to be known of every type to make fields of it.
#[derive(Clone)]
pub(super) struct Kinds(Vec<Known>);

#[derive(Clone)]
pub(super) struct Known {
    pub(super) kind: FieldType,
    needed: &'static str,
    /// JSON values of it.
    pub(super) values: Vec<&'static str>,
    defaults: Vec<&'static str>,
    /// May be covered by a full-text index.
    search: bool,
    /// May be a primary key; may be one that the server makes.
    primary: bool,
    auto: bool,
    stamps: bool,
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

/// A schema, and how it was made.
pub(super) struct Model {
    pub(super) text: String,
    pub(super) schema: Arc<Schema>,
    collections: Vec<Collection>,
}

#[derive(Clone)]
struct Collection {
    name: &'static str,
    settings: String,
    key: Key,
    fields: Vec<Field>,
    indexes: Vec<(String, Vec<usize>, &'static str)>,
    search: bool,
}

#[derive(Clone)]
struct Key {
    name: &'static str,
    kind: FieldType,
    options: &'static str,
}

#[derive(Clone)]
struct Field {
    name: &'static str,
    kind: FieldType,
    nullable: bool,
    unique: bool,
    options: String,
    /// Collection, field, action.
    references: Option<(&'static str, &'static str, &'static str)>,
}

impl Model {
    pub(super) fn random(chance: &mut Chance, kinds: &Kinds) -> Self {
        loop {
            let mut collections: Vec<Collection> = Vec::new();
            for name in COLLECTIONS {
                if chance.percent(65) {
                    collections.push(Collection::random(name, chance, kinds));
                }
            }
            refer(&mut collections, chance);
            if let Some(model) = Self::written(collections, kinds) {
                return model;
            }
        }
    }

    /// Another one, which in most cases has much in common with this one.
    pub(super) fn next(&self, chance: &mut Chance, kinds: &Kinds) -> Self {
        if chance.percent(30) {
            return Self::random(chance, kinds);
        }
        loop {
            let mut collections = self.collections.clone();
            for _ in 0..=chance.below(3) {
                let at = chance.below(collections.len());
                if let Some(collection) = collections.get_mut(at) {
                    collection.mutate(chance, kinds);
                }
            }
            if chance.percent(10) {
                refer(&mut collections, chance);
            }
            if let Some(model) = Self::written(collections, kinds) {
                return model;
            }
        }
    }

    /// `None` where it is no schema.
    fn written(mut collections: Vec<Collection>, kinds: &Kinds) -> Option<Self> {
        // A reference needs something of its type that is unique.
        let targets: Vec<(&str, &str, FieldType)> = targets(&collections);
        for field in collections
            .iter_mut()
            .flat_map(|collection| &mut collection.fields)
        {
            let kind = field.kind;
            field.references = field
                .references
                .filter(|(collection, name, _)| targets.contains(&(*collection, *name, kind)));
        }
        let mut text = format!("{BUCKETS}collections:\n");
        for collection in &collections {
            collection.write(&mut text, kinds);
        }
        let parsed = parse(&text, "schema.yaml").ok()?;
        Some(Self {
            schema: Arc::new(parsed.schema),
            text,
            collections,
        })
    }
}

fn targets(collections: &[Collection]) -> Vec<(&'static str, &'static str, FieldType)> {
    let of = |collection: &Collection| {
        let name = collection.name;
        let unique = collection.fields.iter().filter(|field| field.unique);
        let mut targets: Vec<_> = unique.map(|field| (name, field.name, field.kind)).collect();
        targets.push((name, collection.key.name, collection.key.kind));
        targets
    };
    collections.iter().flat_map(of).collect()
}

/// Makes some fields references.
fn refer(collections: &mut [Collection], chance: &mut Chance) {
    let targets = targets(collections);
    for field in collections
        .iter_mut()
        .flat_map(|collection| &mut collection.fields)
    {
        let fitting: Vec<_> = targets.iter().filter(|target| target.2 == field.kind).collect();
        if !fitting.is_empty() && chance.percent(40) {
            let (collection, name, _) = **chance.pick(&fitting);
            // Required references are rarer: each can only refer to what is there.
            field.nullable |= chance.percent(70);
            let action = match chance.below(3) {
                0 => "restrict",
                1 => "cascade",
                _ if field.nullable => "set null",
                _ => "restrict",
            };
            field.references = Some((collection, name, action));
        }
    }
}

impl Collection {
    fn random(name: &'static str, chance: &mut Chance, kinds: &Kinds) -> Self {
        let mut fields: Vec<Field> = Vec::new();
        for name in FIELDS {
            if chance.percent(40) {
                fields.push(Field::random(name, chance, kinds));
            }
        }
        chance.shuffle(&mut fields);
        let mut this = Self {
            name,
            settings: String::new(),
            key: Key::random(chance, kinds),
            fields,
            indexes: Vec::new(),
            search: chance.percent(30),
        };
        this.set(chance);
        this.index(chance);
        this
    }

    fn set(&mut self, chance: &mut Chance) {
        let rules = *chance.pick(&["", "    rules: {read: true, create: false}\n"]);
        let description = *chance.pick(&["", "    description: what it is for\n"]);
        self.settings = format!("{rules}{description}");
    }

    fn index(&mut self, chance: &mut Chance) {
        self.indexes.clear();
        for number in 0..chance.below(3) {
            if self.fields.is_empty() {
                return;
            }
            let mut fields: Vec<usize> = (0..self.fields.len()).collect();
            chance.shuffle(&mut fields);
            fields.truncate(1 + chance.below(2));
            let options = *chance.pick(&["", ", order: desc", ", unique: true"]);
            self.indexes
                .push((format!("by-{}-{number}", self.name), fields, options));
        }
    }

    fn mutate(&mut self, chance: &mut Chance, kinds: &Kinds) {
        let at = chance.below(self.fields.len());
        match chance.below(12) {
            0 => self.key = Key::random(chance, kinds),
            1 => chance.shuffle(&mut self.fields),
            2 => self.index(chance),
            3 => self.search = !self.search,
            4 => self.set(chance),
            5 if !self.fields.is_empty() => {
                self.fields.remove(at);
                self.indexes.clear();
            }
            6 | 7 => {
                let free = FIELDS
                    .into_iter()
                    .find(|name| self.fields.iter().all(|field| field.name != *name));
                let field = free.map(|name| Field::random(name, chance, kinds));
                let place = chance.below(self.fields.len() + 1);
                if let Some(field) = field {
                    self.fields.insert(place, field);
                    self.indexes.clear();
                }
            }
            8 if !self.fields.is_empty() => {
                let name = self.fields[at].name;
                self.fields[at] = Field::random(name, chance, kinds);
            }
            9 if !self.fields.is_empty() => self.fields[at].references = None,
            _ if !self.fields.is_empty() => self.fields[at].mutate(chance, kinds),
            _ => {}
        }
    }

    fn write(&self, text: &mut String, kinds: &Kinds) {
        let _ = writeln!(
            text,
            "  {}:\n{}    fields:",
            self.name,
            self.settings.trim_end_matches(' ')
        );
        let key = &self.key;
        let _ = writeln!(
            text,
            "      {}: {{type: {}, primary: true{}}}",
            key.name,
            key.kind.name(),
            key.options
        );
        let fields = self.fields.iter().filter(|field| field.name != key.name);
        for field in fields {
            field.write(text, kinds.of(field.kind));
        }
        let names = |fields: &[usize]| -> Vec<&str> {
            let fields = fields.iter().filter_map(|&field| self.fields.get(field));
            let names = fields.map(|field| field.name);
            names.filter(|name| *name != key.name).collect()
        };
        let indexes: Vec<String> = self
            .indexes
            .iter()
            .map(|(name, fields, options)| (name, names(fields), options))
            .filter(|(_, fields, _)| !fields.is_empty())
            .map(|(name, fields, options)| {
                format!("{{name: {name}, fields: [{}]{options}}}", fields.join(", "))
            })
            .collect();
        if !indexes.is_empty() {
            let _ = writeln!(text, "    indexes: [{}]", indexes.join(", "));
        }
        let searched = self
            .fields
            .iter()
            .filter(|field| kinds.of(field.kind).search && field.name != key.name);
        let searched: Vec<&str> = searched.map(|field| field.name).collect();
        if self.search && !searched.is_empty() {
            let _ = writeln!(text, "    search: [{}]", searched.join(", "));
        }
    }
}

impl Key {
    fn random(chance: &mut Chance, kinds: &Kinds) -> Self {
        if chance.percent(50) {
            return Self {
                name: "id",
                kind: FieldType::Uuid,
                options: ", default: auto",
            };
        }
        let fitting: Vec<&Known> = kinds.0.iter().filter(|known| known.primary).collect();
        let known = *chance.pick(&fitting);
        Self {
            name: if chance.percent(75) { "id" } else { "key" },
            kind: known.kind,
            options: if known.auto && chance.percent(50) {
                ", default: auto"
            } else {
                ""
            },
        }
    }
}

impl Field {
    fn random(name: &'static str, chance: &mut Chance, kinds: &Kinds) -> Self {
        let known = chance.pick(&kinds.0);
        let mut this = Self {
            name,
            kind: known.kind,
            nullable: chance.percent(60),
            unique: chance.percent(15),
            options: String::new(),
            references: None,
        };
        this.choose(chance, known);
        this
    }

    fn choose(&mut self, chance: &mut Chance, known: &Known) {
        self.options.clear();
        if chance.percent(15) {
            self.options.push_str(", index: true");
        }
        if chance.percent(25) && !known.defaults.is_empty() {
            let _ = write!(self.options, ", default: {}", chance.pick(&known.defaults));
        } else if known.stamps && chance.percent(40) {
            let stamp = chance.pick(&[
                ", default: now",
                ", onUpdate: now",
                ", default: now, onUpdate: now",
            ]);
            self.options.push_str(stamp);
        }
        if chance.percent(10) {
            self.options.push_str(", internal: true");
        }
        if chance.percent(10) {
            self.options.push_str(", description: of the field");
        }
    }

    fn mutate(&mut self, chance: &mut Chance, kinds: &Kinds) {
        match chance.below(5) {
            0 => self.nullable = !self.nullable,
            1 => self.unique = !self.unique,
            2 => self.choose(chance, kinds.of(self.kind)),
            3 => {
                if let Some((_, _, action)) = &mut self.references {
                    action.clone_from(chance.pick(&["restrict", "cascade"]));
                }
                self.nullable = true;
            }
            _ => {
                let related = [
                    FieldType::Uuid,
                    FieldType::Timestamp,
                    FieldType::String,
                    FieldType::Text,
                    FieldType::Bool,
                    FieldType::Int,
                    FieldType::Float,
                ];
                let at = related.iter().position(|kind| *kind == self.kind);
                let next = at.and_then(|at| related.get(at + 1));
                self.kind = next.copied().unwrap_or(self.kind);
                self.choose(chance, kinds.of(self.kind));
            }
        }
    }

    fn write(&self, text: &mut String, known: &Known) {
        let _ = write!(
            text,
            "      {}: {{type: {}{}{}",
            self.name,
            self.kind.name(),
            known.needed,
            self.options
        );
        let flags = [
            (self.nullable, ", nullable: true"),
            (self.unique, ", unique: true"),
        ];
        for (_, flag) in flags.into_iter().filter(|(set, _)| *set) {
            text.push_str(flag);
        }
        // A type may be a reference by itself.
        if let Some((collection, field, action)) =
            self.references.filter(|_| !known.needed.contains("relation"))
        {
            let _ = write!(text, ", references: {collection}.{field}, onDelete: {action}");
        }
        text.push_str("}\n");
    }
}
