//! Reading the tree of the file with a memory for problems.

use std::collections::HashSet;

use crate::problem::Problem;
use alyx_core::nearest;
use alyx_yaml::{Key, Kind, Node, Place};

/// More problems than this are not reported.
const MOST: usize = 200;
/// Longest name, in bytes.
const LONGEST_NAME: usize = 64;

/// What the walk has found so far.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

/// A thing with a name, from either form of the file: an entry of a mapping, or an item of a list with a `name`.
#[derive(Debug)]
pub(super) struct Named<'n> {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) place: Place,
    pub(super) node: &'n Node,
}

/// The known options of a mapping.
#[derive(Debug)]
pub(super) struct Options<'n>(Vec<(&'n Key, &'n Node)>);

impl<'n> Options<'n> {
    /// The value of an option; an option without a value counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        self.entry(name).map(|(_, node)| node)
    }

    /// Key and value of an option.
    pub(super) fn entry(&self, name: &str) -> Option<(&'n Key, &'n Node)> {
        self.0
            .iter()
            .find(|(key, node)| key.text == name && !node.is_null())
            .copied()
    }
}

impl Walk {
    pub(super) fn problem(
        &mut self,
        place: Place,
        path: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.problems.len() < MOST {
            self.problems.push(Problem {
                path: path.into(),
                line: place.line,
                column: place.column,
                message: message.into(),
                hint: hint.into(),
            });
        }
    }

    /// The entries of a mapping; that it is none, and repeated keys, are noted.
    pub(super) fn entries<'n>(
        &mut self,
        node: &'n Node,
        path: &str,
        what: &str,
    ) -> Option<Vec<(&'n Key, &'n Node)>> {
        let Kind::Map(entries) = node.kind.as_ref() else {
            let message = format!("{what} must be a mapping (`key: value`), not {}", node.describe());
            self.problem(node.place, path, message, "");
            return None;
        };
        let mut seen: HashSet<&str> = HashSet::new();
        let mut unique = Vec::new();
        for (key, value) in entries {
            if seen.insert(&key.text) {
                unique.push((key, value));
            } else {
                self.problem(
                    key.place,
                    join(path, &key.text),
                    format!("`{}` is written twice", key.text),
                    "keep one of them",
                );
            }
        }
        Some(unique)
    }

    /// The options of a mapping; keys outside `known` are noted, those of `later` with what to do instead.
    pub(super) fn options<'n>(
        &mut self,
        node: &'n Node,
        path: &str,
        what: &str,
        known: &[&'static str],
        later: &[(&'static str, &'static str)],
    ) -> Option<Options<'n>> {
        let entries = self.entries(node, path, what)?;
        for (key, _) in &entries {
            if known.contains(&key.text.as_str()) {
                continue;
            }
            let at = join(path, &key.text);
            if let Some((name, instead)) = later.iter().find(|(name, _)| *name == key.text) {
                self.problem(key.place, at, format!("this version has no `{name}`"), *instead);
                continue;
            }
            let hint = match nearest(&key.text, known.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("the options here are {}", known.join(", ")),
            };
            self.problem(key.place, at, format!("there is no option `{}`", key.text), hint);
        }
        Some(Options(entries))
    }

    /// The named things of a mapping (`name: {…}`) or of a list (`- name: …`), each with a usable, unused name.
    pub(super) fn named<'n>(&mut self, node: &'n Node, path: &str, what: &str) -> Option<Vec<Named<'n>>> {
        let mut found = Vec::new();
        match node.kind.as_ref() {
            Kind::Map(_) => {
                for (key, value) in self.entries(node, path, path)? {
                    found.push(Named {
                        name: key.text.clone(),
                        path: join(path, &key.text),
                        place: key.place,
                        node: value,
                    });
                }
            }
            Kind::List(items) => {
                for (position, item) in items.iter().enumerate() {
                    found.extend(self.named_item(item, path, position, what));
                }
            }
            Kind::Scalar { .. } => {
                let message = format!("must be a mapping or a list of {what}s, not {}", node.describe());
                let hint = format!("write `name: {{…}}` for every {what}");
                self.problem(node.place, path, message, hint);
                return None;
            }
        }
        let mut names = HashSet::new();
        found.retain(|thing| {
            self.check_name(&thing.name, what, &thing.path, thing.place);
            let fresh = names.insert(thing.name.clone());
            if !fresh {
                let message = format!("there are two {what}s named `{}`", thing.name);
                self.problem(thing.place, &thing.path, message, "rename or remove one of them");
            }
            fresh
        });
        Some(found)
    }

    fn named_item<'n>(
        &mut self,
        item: &'n Node,
        path: &str,
        position: usize,
        what: &str,
    ) -> Option<Named<'n>> {
        let at = format!("{path}[{position}]");
        let name = match item.kind.as_ref() {
            Kind::Map(entries) => entries.iter().find(|(key, _)| key.text == "name"),
            Kind::Scalar { .. } | Kind::List(_) => None,
        };
        let Some((_, node)) = name else {
            let message = format!("a {what} in a list needs a `name`");
            self.problem(
                item.place,
                at,
                message,
                format!("write `- name: my-{what}` first"),
            );
            return None;
        };
        let Some(text) = node.text() else {
            self.problem(node.place, format!("{at}.name"), "must be a name", "");
            return None;
        };
        Some(Named {
            name: text.to_owned(),
            path: join(path, text),
            place: node.place,
            node: item,
        })
    }

    /// Notes a name that breaks the rule for identifiers.
    pub(super) fn check_name(&mut self, name: &str, what: &str, path: &str, place: Place) {
        let rule = "a name begins with a lower-case letter and goes on with a-z, 0-9, _ or -";
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let rest = name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        if name.starts_with("_alyx") || name.starts_with("sqlite_") {
            let message =
                format!("`{name}` cannot be the name of this {what}: `_alyx` and `sqlite_` are reserved");
            self.problem(place, path, message, rule);
        } else if name.len() > LONGEST_NAME {
            let message = format!("the name of this {what} is longer than {LONGEST_NAME} characters");
            self.problem(place, path, message, "choose a shorter one");
        } else if !(first && rest) {
            let message = format!("`{name}` cannot be the name of this {what}: {rule}");
            let hint = usable_name(name).map_or_else(String::new, |name| format!("write `{name}`"));
            self.problem(place, path, message, hint);
        }
    }

    /// A boolean option; anything else is noted.
    pub(super) fn flag(&mut self, options: &Options<'_>, name: &str, path: &str) -> Option<bool> {
        let node = options.get(name)?;
        let truth = match node.plain_text() {
            Some("true" | "True" | "TRUE") => Some(true),
            Some("false" | "False" | "FALSE") => Some(false),
            _ => None,
        };
        if truth.is_none() {
            let message = match node.text() {
                Some(text) => format!("must be true or false, not `{text}`"),
                None => format!("must be true or false, not {}", node.describe()),
            };
            self.problem(
                node.place,
                join(path, name),
                message,
                format!("write `{name}: true`"),
            );
        }
        truth
    }

    /// A text option; anything else is noted.
    pub(super) fn text<'n>(&mut self, options: &Options<'n>, name: &str, path: &str) -> Option<&'n str> {
        let node = options.get(name)?;
        let text = node.text();
        if text.is_none() {
            let message = format!("must be text, not {}", node.describe());
            self.problem(node.place, join(path, name), message, "");
        }
        text
    }

    /// A list of texts, or one text alone; anything else is noted.
    pub(super) fn texts<'n>(&mut self, node: &'n Node, path: &str) -> Vec<(&'n str, Place)> {
        let items = match node.kind.as_ref() {
            Kind::List(items) => items.as_slice(),
            Kind::Scalar { .. } | Kind::Map(_) => std::slice::from_ref(node),
        };
        let mut texts = Vec::new();
        for item in items {
            match item.text() {
                Some(text) => texts.push((text, item.place)),
                None => {
                    let message = format!("must be a list of texts, not one with {}", item.describe());
                    self.problem(item.place, path, message, "write `[one, two]`");
                }
            }
        }
        texts
    }
}

/// A dotted path one step further.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The nearest name that follows the rule.
fn usable_name(name: &str) -> Option<String> {
    let mut usable = String::new();
    let mut lower_before = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && lower_before {
            usable.push('_');
        }
        lower_before = c.is_ascii_lowercase();
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '_' | '-') => usable.push(c),
            ' ' | '.' => usable.push('_'),
            _ => {}
        }
    }
    let usable = usable.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    (!usable.is_empty() && usable != name).then(|| usable.to_owned())
}
