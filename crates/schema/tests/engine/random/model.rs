//! Random schemas, as text that the parser reads.

use std::fmt::Write as _;
use std::sync::Arc;

use alyx_schema::{FieldType, Schema, parse};

use super::chance::Chance;
use super::kinds::{BUCKETS, Kinds, Known};

const COLLECTIONS: [&str; 3] = ["users", "order", "line-items"];
const FIELDS: [&str; 8] = ["title", "group", "n-1", "rowid", "other", "at", "key", "text"];

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
