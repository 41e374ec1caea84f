//! HTML taken apart into tags and text. Comments, declarations and tags that have no end are left out, as browsers
//! leave them out. Every character is looked at a bounded number of times.

/// A piece of HTML.
#[derive(Debug)]
pub(super) enum Token<'h> {
    /// Text, with its character references.
    Text(&'h str),
    /// A start tag: its name in lower case.
    Start(String, Attributes<'h>),
    /// An end tag: its name in lower case.
    End(String),
}

/// The attributes of a start tag that some element may keep, as written; of those with the same name, the first.
#[derive(Debug, Default)]
pub(super) struct Attributes<'h> {
    pub(super) href: Option<&'h str>,
    pub(super) target: Option<&'h str>,
    pub(super) rel: Option<&'h str>,
    pub(super) class: Option<&'h str>,
    /// The tag ends in `/>`.
    pub(super) closed: bool,
}

/// The pieces of a text, in order.
#[derive(Debug)]
pub(super) struct Tokens<'h> {
    rest: &'h str,
}

const SPACE: [char; 5] = [' ', '\t', '\n', '\x0C', '\r'];

impl<'h> Tokens<'h> {
    pub(super) fn new(html: &'h str) -> Self {
        Self { rest: html }
    }

    /// Goes on behind the content of an element that has just begun, to its end tag or the end of the text.
    pub(super) fn skip_content(&mut self, name: &str) {
        while let Some(at) = self.rest.find("</") {
            self.rest = &self.rest[at..];
            let found = self.rest.get(2..2 + name.len());
            let behind = self.rest.get(2 + name.len()..).unwrap_or_default();
            if found.is_some_and(|found| found.eq_ignore_ascii_case(name))
                && behind.starts_with(|c| SPACE.contains(&c) || matches!(c, '/' | '>'))
            {
                return;
            }
            self.rest = &self.rest[2..];
        }
        self.rest = "";
    }

    pub(super) fn next(&mut self) -> Option<Token<'h>> {
        loop {
            let first = self.rest.chars().next()?;
            if first != '<' {
                let end = self.rest.find('<').unwrap_or(self.rest.len());
                return Some(Token::Text(self.take(end)));
            }
            let mut after = self.rest[1..].chars();
            match (after.next(), after.next()) {
                (Some(letter), _) if letter.is_ascii_alphabetic() => {
                    self.take(1);
                    let name = self.name();
                    let attributes = self.attributes()?;
                    return Some(Token::Start(name, attributes));
                }
                (Some('/'), Some(letter)) if letter.is_ascii_alphabetic() => {
                    self.take(2);
                    let name = self.name();
                    self.attributes()?;
                    return Some(Token::End(name));
                }
                (Some('!'), _) if self.rest.starts_with("<!--") => self.comment(),
                (Some('/'), Some(_)) | (Some('!' | '?'), _) => self.skip_through(">"),
                _ => return Some(Token::Text(self.take(1))),
            }
        }
    }

    fn take(&mut self, length: usize) -> &'h str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn take_until(&mut self, ends: impl Fn(char) -> bool) -> &'h str {
        self.take(self.rest.find(ends).unwrap_or(self.rest.len()))
    }

    fn skip_through(&mut self, end: &str) {
        self.rest = match self.rest.find(end) {
            Some(at) => &self.rest[at + end.len()..],
            None => "",
        };
    }

    /// `<!-->` and `<!--->` are whole comments, and `--!>` ends one too.
    fn comment(&mut self) {
        self.take("<!--".len());
        for short in [">", "->"] {
            if let Some(rest) = self.rest.strip_prefix(short) {
                self.rest = rest;
                return;
            }
        }
        while let Some(at) = self.rest.find("--") {
            self.rest = &self.rest[at..];
            for end in ["-->", "--!>"] {
                if let Some(rest) = self.rest.strip_prefix(end) {
                    self.rest = rest;
                    return;
                }
            }
            self.rest = &self.rest[1..];
        }
        self.rest = "";
    }

    fn name(&mut self) -> String {
        self.take_until(|c| SPACE.contains(&c) || matches!(c, '/' | '>'))
            .to_ascii_lowercase()
    }

    /// Everything up to the end of the tag; `None` where the text ends first.
    fn attributes(&mut self) -> Option<Attributes<'h>> {
        let mut found = Attributes::default();
        loop {
            let gap = self.take_until(|c| !SPACE.contains(&c) && c != '/');
            if let Some(rest) = self.rest.strip_prefix('>') {
                self.rest = rest;
                found.closed = gap.ends_with('/');
                return Some(found);
            }
            if self.rest.is_empty() {
                return None;
            }
            // A name may begin with `=`.
            let first = self.rest.chars().next().map_or(0, char::len_utf8);
            let length = self.rest[first..]
                .find(|c| SPACE.contains(&c) || matches!(c, '/' | '>' | '='))
                .map_or(self.rest.len(), |at| at + first);
            let name = self.take(length);
            let value = self.value()?;
            let slot = match name.to_ascii_lowercase().as_str() {
                "href" => &mut found.href,
                "target" => &mut found.target,
                "rel" => &mut found.rel,
                "class" => &mut found.class,
                _ => continue,
            };
            slot.get_or_insert(value);
        }
    }

    /// The value behind a name, empty where there is none; `None` where the text ends within it.
    fn value(&mut self) -> Option<&'h str> {
        let before = self.rest;
        self.take_until(|c| !SPACE.contains(&c));
        let Some(rest) = self.rest.strip_prefix('=') else {
            self.rest = before;
            return Some("");
        };
        self.rest = rest;
        self.take_until(|c| !SPACE.contains(&c));
        match self.rest.chars().next()? {
            '>' => Some(""),
            quote @ ('"' | '\'') => {
                self.take(1);
                let end = self.rest.find(quote)?;
                let value = self.take(end);
                self.take(1);
                Some(value)
            }
            _ => Some(self.take_until(|c| SPACE.contains(&c) || c == '>')),
        }
    }
}
