//! A YAML document as a tree that knows where everything stands, so that problems can point at it.
//!
//! Repeated keys stay in the tree: whoever walks it reports them with their path. Aliases share the node they
//! name, so a small file cannot grow in memory. Tags and several documents are refused: no schema needs them.

use std::collections::HashMap;
use std::rc::Rc;

use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle, Span};

/// Where something stands: line and column from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    /// The beginning of the file.
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    fn of(marker: Marker) -> Self {
        Self {
            line: marker.line().max(1),
            column: marker.col() + 1,
        }
    }
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) kind: Rc<Kind>,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Text; `plain` without quotes, so that it can mean a number, a boolean or null.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in order, with repeated keys.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) place: Place,
}

impl Node {
    /// The text of a scalar that is not null.
    pub(crate) fn text(&self) -> Option<&str> {
        match self.kind.as_ref() {
            Kind::Scalar { text, .. } if !self.is_null() => Some(text),
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// The text of a scalar without quotes that is not null.
    pub(crate) fn plain_text(&self) -> Option<&str> {
        match self.kind.as_ref() {
            Kind::Scalar { plain: true, .. } => self.text(),
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// YAML's null: nothing, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.kind.as_ref(), Kind::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match self.kind.as_ref() {
            Kind::Scalar { .. } if self.is_null() => "nothing",
            Kind::Scalar { .. } => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }
}

/// Why the file is no YAML that a schema can be read from.
#[derive(Debug)]
pub(crate) struct YamlError {
    pub(crate) place: Place,
    pub(crate) message: String,
}

/// Reads the only document of `source`; `None` where it is empty.
pub(crate) fn read(source: &str) -> Result<Option<Node>, YamlError> {
    const DEEPEST: usize = 32;
    let options = granit_parser::options! {
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
        emit_comments: false,
    };
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(source, options),
        anchors: HashMap::new(),
    };
    let mut document = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(..) if document.is_some() => {
                return Err(error(
                    span,
                    "a schema file holds one YAML document, and this is a second one",
                ));
            }
            Event::DocumentStart(..) => {}
            event => document = Some(reader.node(event, span)?),
        }
    }
    Ok(document)
}

fn error(span: Span, message: impl Into<String>) -> YamlError {
    YamlError {
        place: Place::of(span.start),
        message: message.into(),
    }
}

struct Reader<'s> {
    parser: Parser<'s, granit_parser::StrInput<'s>>,
    anchors: HashMap<usize, Node>,
}

impl<'s> Reader<'s> {
    fn next(&mut self) -> Result<Option<(Event<'s>, Span)>, YamlError> {
        self.parser.next().transpose().map_err(|problem| YamlError {
            place: Place::of(*problem.marker()),
            message: problem.info(),
        })
    }

    /// The event that must follow inside a collection.
    fn inside(&mut self, opened: Span) -> Result<(Event<'s>, Span), YamlError> {
        self.next()?
            .ok_or_else(|| error(opened, "what begins here does not end"))
    }

    fn node(&mut self, event: Event<'s>, span: Span) -> Result<Node, YamlError> {
        let (kind, anchor, tag) = match event {
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::Scalar(text, style, anchor, tag) => {
                let kind = Kind::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                };
                (kind, anchor, tag)
            }
            Event::SequenceStart(_, anchor, tag) => (self.list(span)?, anchor, tag),
            Event::MappingStart(_, anchor, tag) => (self.map(span)?, anchor, tag),
            _ => return Err(error(span, "a value is missing here")),
        };
        if tag.is_some() {
            return Err(error(
                span,
                "YAML tags (`!…`) have no meaning in a schema: leave the tag out",
            ));
        }
        let node = Node {
            place: Place::of(span.start),
            kind: Rc::new(kind),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&self, anchor: usize, span: Span) -> Result<Node, YamlError> {
        let target = self
            .anchors
            .get(&anchor)
            .ok_or_else(|| error(span, "this alias stands inside the very value that it names"))?;
        Ok(Node {
            place: Place::of(span.start),
            kind: Rc::clone(&target.kind),
        })
    }

    fn list(&mut self, opened: Span) -> Result<Kind, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.inside(opened)? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(items)),
                (event, span) => items.push(self.node(event, span)?),
            }
        }
    }

    fn map(&mut self, opened: Span) -> Result<Kind, YamlError> {
        let mut entries = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.inside(opened)?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.node(event, span)?;
            let Kind::Scalar { text, plain } = key.kind.as_ref() else {
                return Err(error(span, "a key must be a plain name"));
            };
            let (event, value_span) = self.inside(span)?;
            let value = self.node(event, value_span)?;
            if *plain && text == "<<" {
                merged.push(merge_source(&value, value_span)?);
            } else {
                let key = Key {
                    text: text.clone(),
                    place: key.place,
                };
                entries.push((key, value));
            }
        }
        for entry in merged.into_iter().flatten() {
            if !entries.iter().any(|(key, _)| key.text == entry.0.text) {
                entries.push(entry);
            }
        }
        Ok(Kind::Map(entries))
    }
}

/// The entries that a merge key (`<<: *other`) brings in.
fn merge_source(value: &Node, span: Span) -> Result<Vec<(Key, Node)>, YamlError> {
    match value.kind.as_ref() {
        Kind::Map(entries) => Ok(entries.clone()),
        Kind::Scalar { .. } | Kind::List(_) => {
            Err(error(span, "`<<` takes one mapping, such as `<<: *base`"))
        }
    }
}
