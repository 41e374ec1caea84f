//! From text to the tree.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span};

use crate::{Fault, Key, Kind, Node, Place};

/// Most values and keys in one file, those that aliases repeat included.
const MAX_NODES: usize = 200_000;
/// Deepest nesting as it is written.
const MAX_DEPTH: usize = 64;

/// Reads the only document of `source`; an empty one is null. Repeated keys stay in the tree, for walkers that
/// report them with their path.
///
/// # Errors
/// The first thing that cannot be read: invalid syntax, a second document, a key that is no single word, a tag,
/// nesting deeper than 64, more than 200,000 values.
pub fn parse(source: &str) -> Result<Node, Fault> {
    Reader::new(source).document()
}

/// As [`parse`], with unique keys.
///
/// # Errors
/// Every repeated key, and what [`parse`] refuses, last.
pub fn parse_unique(source: &str) -> Result<Node, Vec<Fault>> {
    let mut reader = Reader::new(source);
    match reader.document() {
        Ok(root) if reader.repeated.is_empty() => Ok(root),
        Ok(_) => Err(reader.repeated),
        Err(fault) => {
            reader.repeated.push(fault);
            Err(reader.repeated)
        }
    }
}

struct Reader<'s> {
    parser: Parser<'s, granit_parser::StrInput<'s>>,
    /// Values that aliases may name, with the number of values in each.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    repeated: Vec<Fault>,
}

impl<'s> Reader<'s> {
    fn new(source: &'s str) -> Self {
        let options = granit_parser::options! {
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
            emit_comments: false,
        };
        Self {
            parser: Parser::new_from_str_with_options(source, options),
            anchors: HashMap::new(),
            nodes: 0,
            repeated: Vec::new(),
        }
    }

    fn document(&mut self) -> Result<Node, Fault> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(fault(
                        span,
                        "a second document starts here; the file must hold one, so remove this `---` and what \
                         follows",
                    ));
                }
                Event::DocumentStart(..) => {}
                event => root = Some(self.node(event, span)?),
            }
        }
        Ok(root.unwrap_or_else(|| Node {
            place: Place::START,
            kind: Rc::new(Kind::Scalar {
                text: String::new(),
                plain: true,
            }),
        }))
    }

    fn next(&mut self) -> Result<Option<(Event<'s>, Span)>, Fault> {
        self.parser.next().transpose().map_err(|problem| Fault {
            place: place(*problem.marker()),
            message: format!("this is not valid YAML: {}", problem.info()),
        })
    }

    /// The event that must follow inside a collection.
    fn inside(&mut self, opened: Span) -> Result<(Event<'s>, Span), Fault> {
        self.next()?
            .ok_or_else(|| fault(opened, "what begins here does not end"))
    }

    fn node(&mut self, event: Event<'s>, span: Span) -> Result<Node, Fault> {
        let before = self.nodes;
        self.count(1, span)?;
        let (kind, anchor, tag) = match event {
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let kind = Kind::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain && !is_text,
                };
                (kind, anchor, tag.filter(|_| !is_text))
            }
            Event::SequenceStart(_, anchor, tag) => (self.list(span)?, anchor, tag),
            Event::MappingStart(_, anchor, tag) => (self.map(span)?, anchor, tag),
            _ => return Err(fault(span, "a value is missing here")),
        };
        if tag.is_some() {
            return Err(fault(
                span,
                "YAML tags (`!…`) have no meaning here: leave the tag out",
            ));
        }
        let node = Node {
            place: place(span.start),
            kind: Rc::new(kind),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Node, Fault> {
        let Some((target, size)) = self.anchors.get(&anchor) else {
            return Err(fault(
                span,
                "this alias stands inside the very value that it names",
            ));
        };
        let (kind, size) = (Rc::clone(&target.kind), *size);
        self.count(size, span)?;
        Ok(Node {
            place: place(span.start),
            kind,
        })
    }

    fn list(&mut self, opened: Span) -> Result<Kind, Fault> {
        let mut items = Vec::new();
        loop {
            match self.inside(opened)? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(items)),
                (event, span) => items.push(self.node(event, span)?),
            }
        }
    }

    fn map(&mut self, opened: Span) -> Result<Kind, Fault> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.inside(opened)?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.node(event, span)?;
            let Kind::Scalar { text, plain } = key.kind.as_ref() else {
                return Err(fault(
                    span,
                    "a key must be a single word, not a list or a mapping",
                ));
            };
            let (event, value_span) = self.inside(span)?;
            let value = self.node(event, value_span)?;
            if *plain && text == "<<" {
                merged.push(merge_source(&value, value_span)?);
                continue;
            }
            if let Some(first) = lines.get(text) {
                let message =
                    format!("`{text}` is here a second time (first in line {first}); keep one of them");
                self.repeated.push(fault(span, message));
            } else {
                lines.insert(text.clone(), key.place.line);
            }
            let key = Key {
                text: text.clone(),
                place: key.place,
            };
            entries.push((key, value));
        }
        for entry in merged.into_iter().flatten() {
            if !lines.contains_key(&entry.0.text) {
                lines.insert(entry.0.text.clone(), entry.0.place.line);
                entries.push(entry);
            }
        }
        Ok(Kind::Map(entries))
    }

    fn count(&mut self, more: usize, span: Span) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values; split the file or use fewer aliases");
            return Err(fault(span, message));
        }
        Ok(())
    }
}

/// The entries that a merge key (`<<: *other`) brings in.
fn merge_source(value: &Node, span: Span) -> Result<Vec<(Key, Node)>, Fault> {
    match value.kind.as_ref() {
        Kind::Map(entries) => Ok(entries.clone()),
        Kind::Scalar { .. } | Kind::List(_) => {
            Err(fault(span, "`<<` takes one mapping, such as `<<: *base`"))
        }
    }
}

fn fault(span: Span, message: impl Into<String>) -> Fault {
    Fault {
        place: place(span.start),
        message: message.into(),
    }
}

fn place(marker: Marker) -> Place {
    Place {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}
