//! Prometheus' text exposition format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::{Display, Write as _};

use super::Family;

/// A page of metrics being written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    name: &'static str,
}

impl Exposition {
    /// `Content-Type` of the page.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family; the samples that follow belong to it.
    pub fn family(&mut self, family: Family) {
        self.name = family.name;
        self.line(format_args!("# HELP {} {}", family.name, family.help));
        self.line(format_args!("# TYPE {} {}", family.name, family.kind.name()));
    }

    /// One sample of the family that was begun last.
    pub fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (index, (name, text)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            for letter in text.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    _ => self.text.push(letter),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.line(format_args!(" {value}"));
    }

    /// A family with one sample and no labels.
    pub fn single(&mut self, family: Family, value: impl Display) {
        self.family(family);
        self.sample("", &[], value);
    }

    /// The page.
    pub fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::families;
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut out = Exposition::new();
        out.family(families::HTTP_CONNECTIONS);
        out.sample("", &[("a", "x\"y\\z\n"), ("b", "")], 1);
        let text = out.finish();
        assert!(
            text.ends_with("alyx_http_connections{a=\"x\\\"y\\\\z\\n\",b=\"\"} 1\n"),
            "{text}"
        );
    }
}
