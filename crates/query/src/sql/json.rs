//! What is asked about the inside of json columns. The in-memory side is in `json_contains.rs`, `json_path.rs` and
//! `json_number.rs`; raw SQL can store text that is no JSON, on which SQLite's functions must not be called.

use std::fmt::Write as _;

use alyx_core::Value;

use super::Writer;
use crate::ast::{CompareOp, JsonNeedle, PathTest};
use crate::json_contains::{MAX_BY_VALUE, by_value};
use crate::json_number::Needle;
use crate::json_path::JsonPath;

/// A json column, or what it holds at a path whose parameter has that number.
#[derive(Debug, Clone, Copy)]
struct Subject {
    field: usize,
    path: Option<usize>,
}

impl Writer<'_> {
    pub(super) fn json_contains(&mut self, field: usize, needle: &JsonNeedle) {
        let subject = Subject { field, path: None };
        self.push("CASE WHEN ");
        self.is_null(field);
        self.push(" THEN NULL WHEN NOT (");
        self.readable(field);
        self.push(") THEN 0 ELSE CASE ");
        self.json_type(subject);
        self.held(subject, needle);
        self.part(subject, needle);
        self.push(" ELSE 0 END END");
    }

    pub(super) fn path_test(&mut self, field: usize, path: &JsonPath, test: &PathTest) {
        self.push("CASE WHEN ");
        self.readable(field);
        self.push(" THEN ");
        self.params.push(Value::from(path.sql()));
        let subject = Subject {
            field,
            path: Some(self.params.len()),
        };
        if *test == PathTest::Exists {
            self.push("coalesce(");
            self.json_type(subject);
            return self.push(",'null') <> 'null' ELSE 0 END");
        }
        self.push("CASE ");
        self.json_type(subject);
        match test {
            PathTest::Exists => {}
            PathTest::Bool(truth) => {
                let (if_true, if_false) = if *truth { ("1", "0") } else { ("0", "1") };
                for part in [" WHEN 'true' THEN ", if_true, " WHEN 'false' THEN ", if_false] {
                    self.push(part);
                }
            }
            PathTest::Number { op, number } => self.number(subject, *op, number),
            PathTest::Contains(needle) => {
                self.push(" WHEN 'null' THEN NULL");
                self.held(subject, needle);
                self.part(subject, needle);
                self.push(" WHEN 'true' THEN 0 WHEN 'false' THEN 0 WHEN 'integer' THEN 0 WHEN 'real' THEN 0");
            }
            PathTest::Holds(needle) => self.held(subject, needle),
            PathTest::Text { .. } | PathTest::TextIn(_) | PathTest::Like(_) | PathTest::EndsWith(_) => {
                self.push(" WHEN 'text' THEN ");
                self.text(subject, test);
            }
        }
        // Nothing there, or something of another type: unknown.
        self.push(" END END");
    }

    /// Whether the column's JSON functions can be called.
    fn readable(&mut self, field: usize) {
        self.push("typeof(");
        self.column(field);
        self.push(") = 'text' AND json_valid(");
        self.column(field);
        self.push(")");
    }

    fn json_type(&mut self, subject: Subject) {
        self.call("json_type", subject);
    }

    fn call(&mut self, function: &str, subject: Subject) {
        self.push(function);
        self.push("(");
        self.column(subject.field);
        if let Some(number) = subject.path {
            self.push(",");
            self.param_again(number);
        }
        self.push(")");
    }

    /// The value in SQL: the decoded string, or the number.
    fn value(&mut self, subject: Subject) {
        self.push("(");
        self.column(subject.field);
        self.push(" ->> ");
        match subject.path {
            Some(number) => self.param_again(number),
            None => self.push("'$'"),
        }
        self.push(")");
    }

    /// The value as it is written.
    fn raw(&mut self, subject: Subject) {
        self.push("(");
        self.column(subject.field);
        self.push(" -> ");
        match subject.path {
            Some(number) => self.param_again(number),
            None => self.push("'$'"),
        }
        self.push(")");
    }

    /// The branches of a `CASE` over the subject's type for what has parts.
    fn held(&mut self, subject: Subject, needle: &JsonNeedle) {
        self.push(" WHEN 'array' THEN EXISTS (SELECT 1 FROM ");
        self.call("json_each", subject);
        self.push(" AS e WHERE ");
        match needle {
            JsonNeedle::Bool(truth) => {
                self.push("e.type = ");
                self.param(Value::text(if *truth { "true" } else { "false" }));
            }
            JsonNeedle::Number(number) => self.number_element(subject, number),
            JsonNeedle::Text(text) => {
                self.push("e.type = 'text' AND e.value = ");
                self.param(Value::Text(text.clone()));
                self.push(") WHEN 'object' THEN EXISTS (SELECT 1 FROM ");
                self.call("json_each", subject);
                self.push(" AS e WHERE e.key = ");
                self.param_again(self.params.len());
                return self.push(")");
            }
        }
        self.push(") WHEN 'object' THEN 0");
    }

    /// The branch for text, of which the needle may be a part. Comes right after [`Writer::held`].
    fn part(&mut self, subject: Subject, needle: &JsonNeedle) {
        self.push(" WHEN 'text' THEN ");
        match needle {
            JsonNeedle::Bool(_) | JsonNeedle::Number(_) => self.push("0"),
            JsonNeedle::Text(_) => {
                let number = self.params.len();
                self.push("instr(");
                self.value(subject);
                self.push(",");
                self.param_again(number);
                self.push(") > 0");
            }
        }
    }

    /// `->` yields a number as it is written. `CAST` reads the needle exactly as the element was read.
    fn number_element(&mut self, subject: Subject, number: &str) {
        self.push("e.type IN ('integer','real') AND (");
        self.raw(subject);
        self.push(" -> e.key = ");
        let parameter = self.param(Value::from(number));
        if by_value(number).is_some() {
            self.push(" OR (e.value = CAST(");
            self.param_again(parameter);
            self.push(" AS REAL) AND length(");
            self.raw(subject);
            write!(self.sql, " -> e.key) <= {MAX_BY_VALUE})").expect("writing to a string cannot fail");
        }
        self.push(")");
    }

    /// The same steps as [`Needle::compare`].
    fn number(&mut self, subject: Subject, op: CompareOp, number: &str) {
        let needle = Needle::new(number);
        let truth = |order: std::cmp::Ordering| if op.holds(order) { "1" } else { "0" };
        self.params.push(Value::from(number));
        let text = self.params.len();
        for kind in [" WHEN 'integer' THEN CASE", " WHEN 'real' THEN CASE"] {
            self.push(kind);
            if let Some(whole) = needle.whole.filter(|_| kind.contains("integer")) {
                self.push(" WHEN typeof(");
                self.value(subject);
                self.push(") = 'integer' THEN ");
                self.value(subject);
                self.push(op.sql());
                self.param(Value::Int(whole));
            }
            self.push(" WHEN ");
            self.value(subject);
            self.push(" < ");
            self.param(Value::Float(needle.near.0));
            self.push(" THEN ");
            self.push(truth(std::cmp::Ordering::Less));
            self.push(" WHEN ");
            self.value(subject);
            self.push(" > ");
            self.param(Value::Float(needle.near.1));
            self.push(" THEN ");
            self.push(truth(std::cmp::Ordering::Greater));
            if needle.zero {
                self.push(" ELSE ");
                self.push(truth(std::cmp::Ordering::Equal));
            } else {
                self.push(" WHEN ");
                self.raw(subject);
                self.push(" = ");
                self.param_again(text);
                self.push(" THEN ");
                self.push(truth(std::cmp::Ordering::Equal));
                if needle.by_value.is_some() {
                    self.push(" WHEN length(");
                    self.raw(subject);
                    write!(self.sql, ") <= {MAX_BY_VALUE} THEN ").expect("writing to a string cannot fail");
                    self.value(subject);
                    self.push(op.sql());
                    self.push("CAST(");
                    self.param_again(text);
                    self.push(" AS REAL)");
                }
            }
            self.push(" END");
        }
    }

    fn text(&mut self, subject: Subject, test: &PathTest) {
        match test {
            PathTest::Text { op, text } => {
                self.value(subject);
                self.push(op.sql());
                self.param(Value::Text(text.clone()));
            }
            PathTest::TextIn(texts) => {
                let texts: Vec<Value> = texts.iter().map(|text| Value::Text(text.clone())).collect();
                self.value(subject);
                self.list(&texts);
            }
            PathTest::Like(pattern) => {
                self.value(subject);
                self.push(" LIKE ");
                self.param(Value::Text(pattern.clone()));
            }
            PathTest::EndsWith(end) => self.ends_with(end, |sql| sql.value(subject)),
            PathTest::Exists
            | PathTest::Bool(_)
            | PathTest::Number { .. }
            | PathTest::Contains(_)
            | PathTest::Holds(_) => {}
        }
    }
}
