//! YAML as a tree that knows the line and column of every key and value, so that all problems of a file can be
//! reported together, each at its place.
//!
//! Scalars keep their text: what they mean is decided by whoever asks for them, so `version: 1.10` stays `1.10`.
//! Anchors and aliases are resolved under a bound; merge keys and tags (but for `!!str`) have no meaning here.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};

/// Most nodes in one file after aliases are resolved.
const MAX_NODES: usize = 50_000;
/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub content: Content,
    /// Where it starts.
    pub at: Place,
}

/// A line and a column, both counted from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// The kinds of values.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Nothing, `~` or `null`.
    Null,
    /// Any other scalar.
    Scalar {
        /// Its text without quotes and escapes.
        text: String,
        /// Whether it was written in quotes or as a block, and so is text for certain.
        quoted: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file; keys are unique.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Where it starts.
    pub at: Place,
}

/// Something wrong with a file, at a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub at: Place,
    /// What is wrong and how to fix it.
    pub message: String,
}

/// Reads one document. An empty one is [`Content::Null`].
///
/// # Errors
/// Everything that is wrong: the first syntax error, every duplicate or non-scalar key, more than one document,
/// more than 50,000 values.
pub fn parse(source: &str) -> Result<Node, Vec<Fault>> {
    let options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        emit_comments: false,
    };
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(source, options),
        anchors: HashMap::new(),
        nodes: 0,
        faults: Vec::new(),
    };
    match builder.stream() {
        Ok(node) if builder.faults.is_empty() => Ok(node),
        Ok(_) => Err(builder.faults),
        Err(fault) => {
            builder.faults.push(fault);
            Err(builder.faults)
        }
    }
}

impl Node {
    /// The value as JSON, with plain scalars read as YAML's core schema reads them.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.content {
            Content::Null => serde_json::Value::Null,
            Content::Scalar { text, quoted: true } => serde_json::Value::String(text.clone()),
            Content::Scalar { text, quoted: false } => plain_to_json(text),
            Content::List(items) => items.iter().map(Self::to_json).collect(),
            Content::Map(entries) => entries
                .iter()
                .map(|(key, value)| (key.text.clone(), value.to_json()))
                .collect(),
        }
    }

    /// What the value is, for messages.
    pub fn describe(&self) -> &'static str {
        match self.content {
            Content::Null => "nothing",
            Content::Scalar { .. } => "a single value",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }
}

fn plain_to_json(text: &str) -> serde_json::Value {
    match text {
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    if numeric {
        if let Ok(number) = text.parse::<i64>() {
            return number.into();
        }
        if let Some(number) = text.parse::<f64>().ok().and_then(serde_json::Number::from_f64) {
            return number.into();
        }
    }
    text.into()
}

struct Builder<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    faults: Vec<Fault>,
}

impl<'a> Builder<'a> {
    fn stream(&mut self) -> Result<Node, Fault> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => {
                    return Ok(root.unwrap_or(Node {
                        content: Content::Null,
                        at: Place { line: 1, column: 1 },
                    }));
                }
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(Fault {
                        at: place(&span),
                        message:
                            "a second document starts here; the file must hold one, so remove this `---` \
                                  and what follows"
                                .to_owned(),
                    });
                }
                Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_) => {
                    root = Some(self.node(event, span)?)
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(Fault {
                at: Place {
                    line: error.marker().line(),
                    column: error.marker().col() + 1,
                },
                message: format!("this is not valid YAML: {}", error.info()),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Fault> {
        let at = place(&span);
        self.count(1, at)?;
        let (content, anchor) = match event {
            Event::Alias(id) => return self.alias(id, at),
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = !matches!(style, ScalarStyle::Plain)
                    || tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                (scalar(text.into_owned(), quoted), anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.list()?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map()?, anchor),
            _ => {
                return Err(Fault {
                    at,
                    message: "the file ends in the middle of a value".to_owned(),
                });
            }
        };
        let node = Node { content, at };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, at: Place) -> Result<Node, Fault> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            return Err(Fault {
                at,
                message: "this alias is inside the value that it names".to_owned(),
            });
        };
        self.count(size(&node), at)?;
        Ok(Node { at, ..node })
    }

    fn list(&mut self) -> Result<Content, Fault> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Content::List(items));
            }
            items.push(self.node(event, span)?);
        }
    }

    fn map(&mut self) -> Result<Content, Fault> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, Place> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Content::Map(entries));
            }
            let key = self.node(event, span)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span)?;
            let text = match key.content {
                Content::Scalar { text, .. } => text,
                Content::Null => "null".to_owned(),
                Content::List(_) | Content::Map(_) => {
                    self.fault(key.at, "a key must be a single word, not a list or a mapping");
                    continue;
                }
            };
            if let Some(first) = seen.get(&text) {
                let message = format!(
                    "`{text}` is here a second time (first in line {}); keep one of them",
                    first.line
                );
                self.fault(key.at, message);
                continue;
            }
            seen.insert(text.clone(), key.at);
            entries.push((Key { text, at: key.at }, value));
        }
    }

    fn count(&mut self, more: usize, at: Place) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            return Err(Fault {
                at,
                message: format!("more than {MAX_NODES} values; split the file or use fewer aliases"),
            });
        }
        Ok(())
    }

    fn fault(&mut self, at: Place, message: impl Into<String>) {
        self.faults.push(Fault {
            at,
            message: message.into(),
        });
    }
}

fn scalar(text: String, quoted: bool) -> Content {
    if !quoted && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
        return Content::Null;
    }
    Content::Scalar { text, quoted }
}

fn size(node: &Node) -> usize {
    1 + match &node.content {
        Content::Null | Content::Scalar { .. } => 0,
        Content::List(items) => items.iter().map(size).sum(),
        Content::Map(entries) => entries.iter().map(|(_, value)| size(value)).sum(),
    }
}

fn place(span: &Span) -> Place {
    Place {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(source: &str) -> Vec<(usize, usize, String)> {
        parse(source)
            .expect_err(source)
            .into_iter()
            .map(|fault| (fault.at.line, fault.at.column, fault.message))
            .collect()
    }

    #[test]
    fn comments_are_left_out_wherever_they_stand() {
        let with = parse("# head\na: 1 # one\n# between\nb: # list\n  - x # item\n").expect("valid");
        let without = parse("a: 1\nb:\n  - x\n").expect("valid");
        assert_eq!(with.to_json(), without.to_json());
    }

    #[test]
    fn every_key_and_value_knows_its_place() {
        let root = parse("a: 1\nb:\n  - x\n  - {c: 'y'}\n").expect("valid");
        let Content::Map(entries) = &root.content else {
            panic!("{root:?}")
        };
        assert_eq!(entries[0].1.at, Place { line: 1, column: 4 });
        assert_eq!(entries[1].0.at, Place { line: 2, column: 1 });
        let Content::List(items) = &entries[1].1.content else {
            panic!("{root:?}")
        };
        assert_eq!(items[1].at, Place { line: 4, column: 5 });
    }

    #[test]
    fn plain_scalars_become_json_and_quoted_ones_stay_text() {
        let json =
            |source: &str| serde_json::to_string(&parse(source).expect(source).to_json()).expect("JSON");
        assert_eq!(json("[1, -2, 1.5, true, ~, x, 'true', \"1\", 1.2.3, +x]"), {
            r#"[1,-2,1.5,true,null,"x","true","1","1.2.3","+x"]"#
        });
        assert_eq!(json("a: &x {k: 1}\nb: *x"), r#"{"a":{"k":1},"b":{"k":1}}"#);
        assert_eq!(json(""), "null");
        assert_eq!(json("# nothing\n"), "null");
    }

    #[test]
    fn all_duplicate_keys_are_reported() {
        let found = faults("a: 1\nb: 2\na: 3\nb: 4\n");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].0, found[0].1), (3, 1));
        assert!(
            found[0].2.contains("`a`") && found[0].2.contains("line 1"),
            "{found:?}"
        );
        assert_eq!(found[1].0, 4);
    }

    #[test]
    fn broken_files_name_the_place() {
        let check = |source: &str, line: usize, word: &str| {
            let found = faults(source);
            assert_eq!(found[0].0, line, "{source}: {found:?}");
            assert!(found[0].2.contains(word), "{source}: {found:?}");
        };
        check("a: 1\nb: [1, 2\nc: 3\n", 3, "not valid YAML");
        check("a: 1\n---\nb: 2\n", 2, "second document");
        check("? [a]\n: 1\n", 1, "single word");
    }

    #[test]
    fn alias_bombs_and_deep_nesting_end_in_an_error() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let names = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{names}]\n"));
        }
        assert!(faults(&bomb)[0].2.contains("more than"));
        assert!(!faults(&"[".repeat(100_000)).is_empty());
    }
}
