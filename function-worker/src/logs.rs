//! Log lines of one call, bounded again on this side: the instance runs code that is not ours.

use alyx_core::{Clock, SystemClock};
use alyx_service::function::LogEntry;
use serde::Deserialize;
use serde_json::Value;

/// Longest message, bytes.
const MAX_LINE: usize = 64 << 10;
/// Most bytes of one call's log.
const MAX_BYTES: usize = 1 << 20;
/// Most lines of one call, and one that says that more were left out.
const MAX_ENTRIES: usize = 1001;

/// The lines of one call, oldest first.
#[derive(Debug, Default)]
pub(crate) struct CallLog {
    entries: Vec<LogEntry>,
    bytes: usize,
}

#[derive(Deserialize)]
struct Line {
    level: String,
    message: String,
    data: Option<Value>,
    timestamp: String,
}

impl CallLog {
    /// Adds a line in the instance's form; what is not in that form, or too much, is left out.
    pub(crate) fn add(&mut self, body: &[u8]) {
        if self.entries.len() >= MAX_ENTRIES || self.bytes + body.len() > MAX_BYTES + 2 * MAX_LINE {
            return;
        }
        if let Some(entry) = parse(body) {
            self.bytes += body.len();
            self.entries.push(entry);
        }
    }

    /// Adds a line that the process wrote to its standard output or error.
    pub(crate) fn add_raw(&mut self, level: &str, text: String) {
        if self.entries.len() < MAX_ENTRIES && self.bytes + text.len() <= MAX_BYTES {
            self.bytes += text.len();
            self.entries.push(LogEntry {
                level: level.to_owned(),
                message: text,
                data: None,
                timestamp: SystemClock.timestamp(),
            });
        }
    }

    /// The lines.
    pub(crate) fn into_entries(self) -> Vec<LogEntry> {
        self.entries
    }
}

/// Reads one line in the instance's form.
pub(crate) fn parse(body: &[u8]) -> Option<LogEntry> {
    let line: Line = serde_json::from_slice(body).ok()?;
    let level = match line.level.as_str() {
        level @ ("debug" | "info" | "warn" | "error") => level.to_owned(),
        _ => "info".to_owned(),
    };
    let mut message = line.message;
    if message.len() > MAX_LINE {
        message.truncate(message.floor_char_boundary(MAX_LINE));
    }
    Some(LogEntry {
        level,
        message,
        data: line.data,
        timestamp: line.timestamp,
    })
}

/// `text` as one line of the server's own log: what is not to be seen, above all the end of a line, is escaped, so that
/// no function can write what looks like a line of the server's.
pub(crate) fn one_line(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains(|c: char| c.is_control()) {
        return text.into();
    }
    let shown = text.chars().flat_map(|c| {
        let escaped = c.is_control().then(|| c.escape_default());
        let plain = escaped.is_none().then_some(c);
        escaped.into_iter().flatten().chain(plain)
    });
    shown.collect()
}

/// Cuts the bytes that a process writes into lines of bounded length.
#[derive(Debug, Default)]
pub(crate) struct LineCutter {
    held: Vec<u8>,
}

impl LineCutter {
    /// Takes more bytes and hands on the lines that are complete, or at the bound.
    pub(crate) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(String)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE.saturating_sub(self.held.len());
            self.held.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.finish(&mut line);
            }
        }
    }

    /// Hands on what is left.
    pub(crate) fn finish(&mut self, mut line: impl FnMut(String)) {
        let text = String::from_utf8_lossy(&self.held).trim_end().to_owned();
        self.held.clear();
        if !text.is_empty() {
            line(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_bounded() {
        let mut cutter = LineCutter::default();
        let mut lines = Vec::new();
        for piece in ["one\ntw", "o\r\n\n", &"x".repeat(MAX_LINE + 10), "\nlast"] {
            cutter.push(piece.as_bytes(), |line| lines.push(line));
        }
        cutter.finish(|line| lines.push(line));
        assert_eq!(lines.len(), 4);
        assert_eq!(&lines[..2], ["one", "two"]);
        assert_eq!(lines[2].len(), MAX_LINE);
        assert_eq!(lines[3], "last");
    }

    #[test]
    fn no_line_can_be_taken_for_one_of_the_server() {
        for (text, expected) in [
            ("plain, \u{e9} too", "plain, \u{e9} too"),
            (
                "a\n2026-01-01 ERROR alyx: forged",
                "a\\n2026-01-01 ERROR alyx: forged",
            ),
            ("a\r\u{1b}[2Kb\u{85}c", "a\\r\\u{1b}[2Kb\\u{85}c"),
        ] {
            assert_eq!(one_line(text), expected);
        }
    }

    #[test]
    fn a_log_is_bounded_by_lines_and_bytes() {
        let line = |text: &str| {
            serde_json::json!({"level": "info", "message": text, "timestamp": "2026-01-01T00:00:00.000Z"})
                .to_string()
        };
        let mut many = CallLog::default();
        for _ in 0..2000 {
            many.add(line("x").as_bytes());
        }
        assert_eq!(many.into_entries().len(), MAX_ENTRIES);

        let mut large = CallLog::default();
        let body = line(&"y".repeat(100_000));
        for _ in 0..100 {
            large.add(body.as_bytes());
        }
        let entries = large.into_entries();
        assert!(entries.len() < 13, "{}", entries.len());
        assert_eq!(entries[0].message.len(), MAX_LINE);
    }
}
