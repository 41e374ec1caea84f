//! Rich text: HTML reduced to the formats that a field allows.
//!
//! The result is built, not filtered: every tag in it is written here, from a known name and from attributes whose
//! values are read, checked and quoted anew; all else is text in which nothing can begin a tag. So it holds nothing but
//! what is allowed, properly nested, however odd the input is and however a browser would have read it. Elements that
//! are not allowed leave their content behind, except those of [`WITHOUT_CONTENT`]. Cleaning twice is cleaning once.
//!
//! Syntax: <https://html.spec.whatwg.org/multipage/parsing.html#tokenization>. What is left out of it is the repair of
//! wrongly nested formatting: `<b><i>x</b>y</i>` becomes `<b><i>x</i></b>y`.

mod attributes;
mod formats;
mod tokens;

pub(crate) use formats::{BASIC, PRESETS};
pub use formats::{RichFormat, RichFormats};

use attributes::{class, link, relations, target};
use tokens::{Attributes, Token, Tokens};

/// Elements within elements; deeper ones leave their content behind.
const MAX_DEPTH: usize = 100;
/// Elements whose content is no text to be read, and goes with them.
const WITHOUT_CONTENT: [&str; 11] = [
    "script", "style", "iframe", "noembed", "noframes", "noscript", "object", "template", "title", "svg",
    "math",
];
const HEADINGS: [&str; 6] = ["h1", "h2", "h3", "h4", "h5", "h6"];
const LISTS: [&str; 2] = ["ul", "ol"];

/// The HTML with nothing in it but what `allowed` lets through.
pub(crate) fn clean(html: &str, allowed: RichFormats) -> String {
    let mut cleaner = Cleaner {
        allowed,
        out: String::with_capacity(html.len()),
        open: Vec::new(),
    };
    let mut tokens = Tokens::new(html);
    while let Some(token) = tokens.next() {
        match token {
            Token::Text(text) => escape_text(text, &mut cleaner.out),
            Token::End(name) => cleaner.end(&name),
            Token::Start(name, attributes) => {
                if WITHOUT_CONTENT.contains(&name.as_str()) {
                    // Only in foreign elements does a slash close a tag.
                    if !(attributes.closed && matches!(name.as_str(), "svg" | "math")) {
                        tokens.skip_content(&name);
                    }
                } else if let Some((name, needs)) = formats::element(&name)
                    && allowed.has_any(needs)
                {
                    cleaner.start(name, &attributes);
                }
            }
        }
    }
    cleaner.close_to(0);
    cleaner.out
}

struct Cleaner {
    allowed: RichFormats,
    out: String,
    /// Elements whose end is not written yet.
    open: Vec<&'static str>,
}

impl Cleaner {
    fn start(&mut self, name: &'static str, attributes: &Attributes<'_>) {
        self.make_room(name);
        if matches!(name, "br" | "hr") {
            self.out.push('<');
            self.out.push_str(name);
            return self.out.push('>');
        }
        let written = match name {
            "a" => match attributes.href.and_then(link) {
                Some(link) => anchor(&link, attributes),
                None => return,
            },
            "pre" | "code" if self.allowed.has_any(&[RichFormat::CodeBlock]) => {
                let class = attributes.class.and_then(class);
                class.map_or_else(String::new, |class| attribute("class", &class))
            }
            _ => String::new(),
        };
        if self.open.len() < MAX_DEPTH {
            self.out.push('<');
            self.out.push_str(name);
            self.out.push_str(&written);
            self.out.push('>');
            self.open.push(name);
        }
    }

    /// Ends what an element of that name cannot stand in.
    fn make_room(&mut self, name: &str) {
        let ended = match name {
            "li" => self.open_item(),
            "a" => self.last(|open| open == "a"),
            _ if HEADINGS.contains(&name) => self.last(|open| HEADINGS.contains(&open)),
            _ => None,
        };
        if let Some(at) = ended {
            self.close_to(at);
        }
        let is_block = matches!(name, "p" | "li" | "blockquote" | "pre" | "ul" | "ol" | "hr")
            || HEADINGS.contains(&name);
        if is_block && let Some(at) = self.last(|open| open == "p") {
            self.close_to(at);
        }
    }

    fn end(&mut self, name: &str) {
        let at = match name {
            "li" => self.open_item(),
            _ => self.last(|open| open == name),
        };
        if let Some(at) = at {
            self.close_to(at);
        }
    }

    /// The item that is open in the innermost list.
    fn open_item(&self) -> Option<usize> {
        let at = self.last(|open| open == "li" || LISTS.contains(&open))?;
        (self.open[at] == "li").then_some(at)
    }

    fn last(&self, fits: impl Fn(&str) -> bool) -> Option<usize> {
        self.open.iter().rposition(|open| fits(open))
    }

    fn close_to(&mut self, depth: usize) {
        for name in self.open.drain(depth..).rev() {
            self.out.push_str("</");
            self.out.push_str(name);
            self.out.push('>');
        }
    }
}

/// The attributes of a link. One that opens a new window must not hand this one to it.
fn anchor(link: &str, attributes: &Attributes<'_>) -> String {
    let mut written = attribute("href", link);
    let target = attributes.target.and_then(target);
    if let Some(target) = target {
        written.push_str(&attribute("target", target));
    }
    let mut relations = relations(attributes.rel.unwrap_or_default());
    if target == Some("_blank") && !relations.iter().any(|relation| relation == "noopener") {
        relations.push("noopener".to_owned());
    }
    if !relations.is_empty() {
        written.push_str(&attribute("rel", &relations.join(" ")));
    }
    written
}

fn attribute(name: &str, value: &str) -> String {
    let mut written = format!(" {name}=\"");
    for c in value.chars() {
        match c {
            '&' => written.push_str("&amp;"),
            '"' => written.push_str("&quot;"),
            '<' => written.push_str("&lt;"),
            '>' => written.push_str("&gt;"),
            c => written.push(c),
        }
    }
    written.push('"');
    written
}

/// Character references stay as they are: in text they stand for characters, never for markup.
fn escape_text(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find(['<', '>', '&']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match rest.as_bytes()[0] {
            b'<' => out.push_str("&lt;"),
            b'>' => out.push_str("&gt;"),
            _ if attributes::reference_length(rest).is_some() => out.push('&'),
            _ => out.push_str("&amp;"),
        }
        rest = &rest[1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests;
