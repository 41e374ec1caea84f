//! Filters in memory, with the three-valued logic of SQL (<https://www.sqlite.org/lang_expr.html>).

use std::cmp::Ordering;

use alyx_core::Value;
use memchr::memmem;

use crate::ast::{CompareOp, Filter, PathTest};
use crate::elsewhere::Elsewhere;
use crate::json_contains::{decoded, json_contains};
use crate::json_number::Needle;
use crate::like::like;

impl Filter {
    /// Whether the row passes. Unknown does not pass.
    pub fn matches(&self, row: &[Value]) -> bool {
        self.eval(row) == Some(true)
    }

    /// True, false, or unknown (`None`). `row` has one value per field of the collection, in order of declaration;
    /// a value that is not there counts as null.
    pub fn eval(&self, row: &[Value]) -> Option<bool> {
        // Other documents are not in the row; see `Filter::is_local`.
        self.eval_with(row, true, &mut |_, _, _| None)
    }

    /// Whether the row passes, where `known` says what is known of other documents: whether the part holds for a value
    /// of its field, which is never null, and null where it has no field. `None` where that depends on something that
    /// is not known. The filter must be in normal form: only there, where nothing negates a filter over a document that
    /// is referred to, unknown is as good as false.
    pub fn judge(
        &self,
        row: &[Value],
        mut known: impl FnMut(Elsewhere<'_>, &Value) -> Option<bool>,
    ) -> Option<bool> {
        // Parts that are not known are taken for what speaks against the row, then for what speaks for it.
        let mut passes = |favourably: bool| {
            let mut ask = |part: Elsewhere<'_>, value: &Value, positive: bool| {
                Some(known(part, value).unwrap_or(positive == favourably))
            };
            self.eval_with(row, true, &mut ask) == Some(true)
        };
        if passes(false) {
            return Some(true);
        }
        if passes(true) { None } else { Some(false) }
    }

    /// `positive`: nothing around it, or an even number of negations. `ask` is told so with each part.
    fn eval_with<F>(&self, row: &[Value], positive: bool, ask: &mut F) -> Option<bool>
    where
        F: FnMut(Elsewhere<'_>, &Value, bool) -> Option<bool>,
    {
        match self {
            Self::And(parts) => fold(parts, row, (false, positive), ask),
            Self::Or(parts) => fold(parts, row, (true, positive), ask),
            Self::Not(inner) => inner.eval_with(row, !positive, ask).map(|truth| !truth),
            Self::Compare { field, op, value } => {
                known(row, *field).map(|found| op.holds(found.sql_cmp(value)))
            }
            // SQL's `x IN ()` is false even where x is null.
            Self::In { values, .. } if values.is_empty() => Some(false),
            Self::In { field, values } => {
                known(row, *field).map(|found| values.binary_search_by(|value| value.sql_cmp(found)).is_ok())
            }
            Self::Like { field, pattern } => known(row, *field)
                .map(|found| bytes(found).is_some_and(|text| like(pattern.as_bytes(), text))),
            Self::Contains { field, needle } => known(row, *field).map(|found| {
                bytes(found).is_some_and(|text| memmem::find(text, needle.as_bytes()).is_some())
            }),
            Self::JsonContains { field, needle } => known(row, *field)
                .map(|found| found.as_text().is_some_and(|text| json_contains(text, needle))),
            Self::EndsWith { field, needle } => known(row, *field)
                .map(|found| bytes(found).is_some_and(|text| text.ends_with(needle.as_bytes()))),
            Self::Path { field, path, test } => {
                let found = known(row, *field).and_then(Value::as_text);
                test.eval(found.and_then(|text| path.find(text)))
            }
            Self::Mentions { fields, text } => {
                let needle = text.to_ascii_lowercase();
                let has = |value: &Value| mentions(value, needle.as_bytes());
                Some(fields.iter().filter_map(|&field| known(row, field)).any(has))
            }
            Self::Found { .. } => None,
            Self::Through(through) => match known(row, through.field) {
                None => through.filter.eval(&[]),
                Some(value) => ask(Elsewhere::Referred(through), value, positive),
            },
            Self::Exists(exists) => match exists.field.map(|field| known(row, field)) {
                Some(None) => Some(false),
                Some(Some(value)) => ask(Elsewhere::Exists(exists), value, positive),
                None => ask(Elsewhere::Exists(exists), &Value::Null, positive),
            },
            Self::Untrue(inner) => Some(inner.eval_with(row, !positive, ask) != Some(true)),
            Self::IsNull { field } => Some(known(row, *field).is_none()),
        }
    }
}

impl PathTest {
    /// The test of a value as it is written, of none where there is none.
    fn eval(&self, raw: Option<&str>) -> Option<bool> {
        if *self == Self::Exists {
            return Some(raw.is_some_and(|raw| raw != "null"));
        }
        let raw = raw.filter(|raw| *raw != "null")?;
        let text = || decoded(raw);
        match self {
            Self::Exists => None,
            Self::Bool(truth) => match raw {
                "true" => Some(*truth),
                "false" => Some(!truth),
                _ => None,
            },
            Self::Number { op, number } => {
                let is_number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
                let found = is_number.then(|| Needle::new(number).compare(raw)).flatten()?;
                Some(op.holds(found))
            }
            Self::Text { op, text: wanted } => Some(op.holds(text()?.as_slice().cmp(wanted.as_bytes()))),
            Self::TextIn(texts) => {
                let found = text()?;
                Some(texts.binary_search_by(|text| text.as_bytes().cmp(&found)).is_ok())
            }
            Self::Like(pattern) => Some(like(pattern.as_bytes(), &text()?)),
            Self::EndsWith(end) => Some(text()?.ends_with(end.as_bytes())),
            Self::Contains(needle) => Some(json_contains(raw, needle)),
            Self::Holds(needle) => raw.starts_with(['[', '{']).then(|| json_contains(raw, needle)),
        }
    }
}

impl CompareOp {
    /// Whether the operator holds where the left side stands so to the right one.
    pub(crate) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Ne => order.is_ne(),
            Self::Gt => order.is_gt(),
            Self::Gte => order.is_ge(),
            Self::Lt => order.is_lt(),
            Self::Lte => order.is_le(),
        }
    }
}

/// `AND` (`decisive` false) and `OR` (true): one decisive part decides, else one unknown makes all unknown.
fn fold<F>(parts: &[Filter], row: &[Value], (decisive, positive): (bool, bool), ask: &mut F) -> Option<bool>
where
    F: FnMut(Elsewhere<'_>, &Value, bool) -> Option<bool>,
{
    let mut result = Some(!decisive);
    for part in parts {
        match part.eval_with(row, positive, ask) {
            Some(truth) if truth == decisive => return Some(decisive),
            Some(_) => {}
            None => result = None,
        }
    }
    result
}

fn mentions(value: &Value, needle: &[u8]) -> bool {
    let found = match value {
        Value::Int(int) => int.to_string().into_bytes(),
        Value::Null | Value::Float(_) => return false,
        Value::Text(text) => text.as_bytes().to_ascii_lowercase(),
        Value::Blob(bytes) => bytes.to_ascii_lowercase(),
    };
    memmem::find(&found, needle).is_some()
}

fn known(row: &[Value], field: usize) -> Option<&Value> {
    row.get(field).filter(|value| !value.is_null())
}

/// What the text operators see. Their columns have text affinity, so a number is never stored there; raw SQL can
/// store a blob, which SQLite then reads as text.
fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Text(text) => Some(text.as_bytes()),
        Value::Blob(bytes) => Some(bytes),
        Value::Null | Value::Int(_) | Value::Float(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_follows_sql() {
        let null = || Filter::Compare {
            field: 0,
            op: CompareOp::Eq,
            value: Value::Int(1),
        };
        let check = |filter: Filter, expected: Option<bool>| {
            assert_eq!(filter.eval(&[Value::Null]), expected, "{filter:?}");
        };
        check(null(), None);
        check(Filter::Not(Box::new(null())), None);
        check(Filter::And(vec![null(), Filter::TRUE]), None);
        check(Filter::And(vec![null(), Filter::FALSE]), Some(false));
        check(Filter::Or(vec![null(), Filter::FALSE]), None);
        check(Filter::Or(vec![null(), Filter::TRUE]), Some(true));
        check(Filter::IsNull { field: 0 }, Some(true));
        check(Filter::IsNull { field: 7 }, Some(true));
        check(
            Filter::In {
                field: 0,
                values: Vec::new(),
            },
            Some(false),
        );
    }
}
