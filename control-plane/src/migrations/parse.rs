//! The text of a migration file.

use alyx_yaml::{Key, Kind, Node, Place};

const KEYS: &[&str] = &["version", "name", "description", "operations"];
const SQL_KEYS: &[&str] = &["type", "up", "down"];
const RENAME_KEYS: &[&str] = &["type", "collection", "from", "to"];

/// A migration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Migration {
    /// Its number, from 1.
    pub(crate) version: u32,
    /// Its `name`, or the slug of its file.
    pub(crate) name: String,
    /// Where it is, for messages.
    pub(crate) path: String,
    /// Of its text, whatever the ends of lines are.
    pub(crate) checksum: String,
    pub(crate) operations: Vec<Operation>,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Line and column.
    pub(crate) place: (usize, usize),
    /// What it runs.
    pub(crate) up: String,
    /// What undoes it, where there is such a thing.
    pub(crate) down: Option<String>,
}

/// Reads the text of the file `path`, whose name is `version` and `slug`.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub(super) fn parse(path: &str, version: u32, slug: &str, text: &str) -> Result<Migration, Vec<String>> {
    let mut reader = Reader {
        path,
        problems: Vec::new(),
    };
    let mut migration = Migration {
        version,
        name: slug.to_owned(),
        path: path.to_owned(),
        checksum: blake3::hash(text.replace("\r\n", "\n").as_bytes())
            .to_hex()
            .to_string(),
        operations: Vec::new(),
    };
    match alyx_yaml::parse_unique(text) {
        Ok(root) => reader.root(&root, &mut migration),
        Err(faults) => {
            for fault in faults {
                reader.problem(fault.place, fault.message);
            }
        }
    }
    if reader.problems.is_empty() {
        Ok(migration)
    } else {
        Err(reader.problems)
    }
}

struct Reader<'a> {
    path: &'a str,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn root(&mut self, root: &Node, migration: &mut Migration) {
        let Some(entries) = self.entries(root, "a migration", KEYS) else {
            return;
        };
        match get(entries, "version") {
            None => self.missing(root, "version", &format!("version: {}", migration.version)),
            Some(node) if node.text().and_then(|text| text.parse().ok()) == Some(migration.version) => {}
            Some(node) => self.problem(
                node.place,
                format!(
                    "version: it must be {}, the number of the file's name",
                    migration.version
                ),
            ),
        }
        if let Some(name) = get(entries, "name") {
            migration.name = self.text("name", name).unwrap_or_default();
        }
        if let Some(description) = get(entries, "description") {
            self.text("description", description);
        }
        match get(entries, "operations").map(|node| (node, node.kind.as_ref())) {
            Some((_, Kind::List(items))) => {
                for item in items {
                    migration.operations.extend(self.operation(item));
                }
            }
            Some((node, _)) => self.problem(
                node.place,
                format!("operations: it must be a list, not {}", node.describe()),
            ),
            None => self.missing(root, "operations", "operations: []"),
        }
    }

    fn operation(&mut self, node: &Node) -> Option<Operation> {
        let (up, down) = self.ways(node)?;
        let place = (node.place.line, node.place.column);
        Some(Operation { place, up, down })
    }

    /// The SQL of an operation, there and back.
    fn ways(&mut self, node: &Node) -> Option<(String, Option<String>)> {
        let Kind::Map(entries) = node.kind.as_ref() else {
            let message = format!("an operation is a mapping with a `type`, not {}", node.describe());
            self.problem(node.place, message);
            return None;
        };
        let Some(kind) = get(entries, "type") else {
            self.missing(node, "type", "type: sql");
            return None;
        };
        match self.text("type", kind)?.as_str() {
            "sql" => {
                self.entries(node, "an operation of type sql", SQL_KEYS)?;
                let down = get(entries, "down").and_then(|down| self.text("down", down));
                let down = down.filter(|down| !down.trim().is_empty());
                Some((self.needed(node, entries, "up")?, down))
            }
            "rename_field" => {
                self.entries(node, "an operation of type rename_field", RENAME_KEYS)?;
                let [collection, from, to] =
                    ["collection", "from", "to"].map(|key| self.name(node, entries, key));
                let (collection, from, to) = (collection?, from?, to?);
                let rename =
                    |from: &str, to: &str| format!("ALTER TABLE {collection} RENAME COLUMN {from} TO {to}");
                Some((rename(&from, &to), Some(rename(&to, &from))))
            }
            other => {
                let instead = match other {
                    "add_field" | "drop_field" => "write `type: sql` with ALTER TABLE",
                    _ => "write sql or rename_field",
                };
                self.problem(
                    kind.place,
                    format!("type: there is no operation `{other}`; {instead}"),
                );
                None
            }
        }
    }

    /// A name as an SQL identifier.
    fn name(&mut self, node: &Node, entries: &[(Key, Node)], key: &str) -> Option<String> {
        let name = self.needed(node, entries, key)?;
        if name.to_ascii_lowercase().starts_with("_alyx") {
            let place = get(entries, key).map_or(node.place, |node| node.place);
            self.problem(
                place,
                format!("{key}: names that begin with `_alyx` are the server's own"),
            );
            return None;
        }
        Some(format!("\"{}\"", name.replace('"', "\"\"")))
    }

    fn needed(&mut self, node: &Node, entries: &[(Key, Node)], key: &str) -> Option<String> {
        let Some(value) = get(entries, key) else {
            self.missing(node, key, &format!("{key}: …"));
            return None;
        };
        let text = self.text(key, value)?;
        if text.trim().is_empty() {
            self.problem(value.place, format!("{key}: it is empty"));
            return None;
        }
        Some(text)
    }

    fn text(&mut self, key: &str, node: &Node) -> Option<String> {
        let text = node.text().map(str::to_owned);
        if text.is_none() {
            self.problem(
                node.place,
                format!("{key}: it must be text, not {}", node.describe()),
            );
        }
        text
    }

    /// The entries of a mapping; keys outside `known` are noted.
    fn entries<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<&'n [(Key, Node)]> {
        let Kind::Map(entries) = node.kind.as_ref() else {
            let message = format!(
                "{what} holds keys ({}), not {}",
                known.join(", "),
                node.describe()
            );
            self.problem(node.place, message);
            return None;
        };
        for (key, _) in entries {
            if !known.contains(&key.text.as_str()) {
                let message = format!("{what} has no key `{}`; known: {}", key.text, known.join(", "));
                self.problem(key.place, message);
            }
        }
        Some(entries)
    }

    fn missing(&mut self, node: &Node, key: &str, example: &str) {
        self.problem(node.place, format!("`{key}` is missing; write `{example}`"));
    }

    fn problem(&mut self, place: Place, message: impl std::fmt::Display) {
        self.problems.push(format!(
            "{}:{}:{}: {message}",
            self.path, place.line, place.column
        ));
    }
}

/// The value of a key; a key without a value counts as absent.
fn get<'n>(entries: &'n [(Key, Node)], name: &str) -> Option<&'n Node> {
    entries
        .iter()
        .find(|(key, node)| key.text == name && !node.is_null())
        .map(|(_, node)| node)
}

#[cfg(test)]
mod tests;
