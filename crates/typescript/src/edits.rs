//! Changes to a text that leave everything else where it was: lines always, columns wherever the change has room.

use std::collections::BTreeMap;
use std::ops::Range;

/// Changes to one text, by byte offsets into it.
#[derive(Debug)]
pub(crate) struct Edits<'s> {
    source: &'s str,
    /// Bytes that spaces take the place of.
    erased: Vec<bool>,
    /// Single characters that take the place of the ones there.
    overwritten: BTreeMap<usize, char>,
    /// Texts before what is at an offset. One that stands where something was erased takes the place of its spaces.
    inserted: BTreeMap<usize, String>,
}

impl<'s> Edits<'s> {
    pub(crate) fn new(source: &'s str) -> Self {
        Self {
            source,
            erased: vec![false; source.len()],
            overwritten: BTreeMap::new(),
            inserted: BTreeMap::new(),
        }
    }

    /// Puts spaces in place of all but the ends of lines.
    pub(crate) fn erase(&mut self, range: Range<usize>) {
        let end = range.end.min(self.source.len());
        if let Some(bytes) = self.erased.get_mut(range.start..end) {
            bytes.fill(true);
        }
    }

    /// Erases a statement or a member of a class; what stood before it ends there.
    pub(crate) fn erase_whole(&mut self, range: Range<usize>) {
        let first = range.start;
        self.erase(range);
        self.overwrite(first, ';');
    }

    /// Puts `with` in place of the character at `at`.
    pub(crate) fn overwrite(&mut self, at: usize, with: char) {
        self.overwritten.insert(at, with);
    }

    /// Adds text before what is at `at`, after what was added there earlier.
    pub(crate) fn insert(&mut self, at: usize, text: &str) {
        self.inserted.entry(at).or_default().push_str(text);
    }

    /// Puts `text` in place of what is there, all of it in the first line.
    pub(crate) fn replace(&mut self, range: Range<usize>, text: &str) {
        self.insert(range.start, text);
        self.erase(range);
    }

    /// The changed text.
    pub(crate) fn finish(self) -> String {
        let mut out = String::with_capacity(self.source.len() + 64);
        // Columns that texts took and that spaces after them give back.
        let mut owed = 0;
        for (at, c) in self.source.char_indices() {
            if let Some(text) = self.inserted.get(&at) {
                out.push_str(text);
                owed += text.chars().map(char::len_utf16).sum::<usize>();
            }
            if let Some(with) = self.overwritten.get(&at) {
                out.push(*with);
                owed = 0;
            } else if !self.erased[at] || is_line_end(c) {
                out.push(c);
                owed = 0;
            } else {
                for _ in 0..c.len_utf16() {
                    if owed == 0 {
                        out.push(' ');
                    } else {
                        owed -= 1;
                    }
                }
            }
        }
        if let Some(text) = self.inserted.get(&self.source.len()) {
            out.push_str(text);
        }
        out
    }
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_stays_where_it_was() {
        let source = "let é: Maß\n  <T> = 1 // 😀";
        let mut edits = Edits::new(source);
        let at = source.find(':').expect("there");
        edits.erase(at..source.find(" =").expect("there"));
        assert_eq!(edits.finish(), "let é     \n      = 1 // 😀");
    }

    #[test]
    fn a_text_takes_the_room_of_what_it_replaces() {
        let check = |text: &str, expected: &str| {
            let mut edits = Edits::new("import a;\nb");
            edits.replace(0..6, text);
            assert_eq!(edits.finish(), expected);
        };
        check("const", "const  a;\nb");
        check("const x,", "const x, a;\nb");
        let mut edits = Edits::new("a\nb");
        edits.erase_whole(0..1);
        edits.insert(3, "c");
        assert_eq!(edits.finish(), ";\nbc");
    }
}
