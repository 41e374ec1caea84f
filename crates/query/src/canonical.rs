//! Keys for identical live queries: queries that mean the same have the same bytes, others have not.
//!
//! Fields are written as positions, so bytes are comparable only within one revision of the schema.

use alyx_core::Value;

use crate::ast::{CompareOp, Filter, JsonNeedle, PathTest, Query};

impl Query {
    /// The query's meaning as bytes: collection, filter in normal form, order, limit, offset and fields.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        put_bytes(&mut out, self.collection.name.as_bytes());
        put_filter(&mut out, &self.filter.clone().normalize());
        put_number(&mut out, self.sort.len() as u64);
        for key in &self.sort {
            put_number(&mut out, key.field as u64);
            out.push(u8::from(key.descending));
        }
        put_number(&mut out, u64::from(self.limit));
        put_number(&mut out, self.offset);
        for position in self.returned() {
            put_number(&mut out, position as u64);
        }
        out
    }

    fn returned(&self) -> Vec<usize> {
        self.fields.clone().unwrap_or_else(|| {
            let fields = self.collection.fields.iter().enumerate();
            fields
                .filter(|(_, field)| !field.internal)
                .map(|(position, _)| position)
                .collect()
        })
    }
}

/// For an index of live queries: a field and the values of which one must be the row's for the filter to hold, if the
/// filter says so at its top level. Of several such fields, the one with the fewest values.
pub fn equality_keys(filter: &Filter) -> Option<(usize, Vec<Value>)> {
    let conjuncts = match filter {
        Filter::And(parts) => parts.as_slice(),
        other => std::slice::from_ref(other),
    };
    conjuncts
        .iter()
        .filter_map(|part| match part {
            Filter::Compare {
                field,
                op: CompareOp::Eq,
                value,
            } => Some((*field, std::slice::from_ref(value))),
            Filter::In { field, values } => Some((*field, values.as_slice())),
            _ => None,
        })
        .min_by_key(|(_, values)| values.len())
        .map(|(field, values)| (field, values.to_vec()))
}

/// One filter as bytes, unambiguous.
pub(crate) fn encoding(filter: &Filter) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    put_filter(&mut out, filter);
    out
}

/// Kind and field come first, so that parts sorted by their bytes make the same SQL text for all values.
fn put_filter(out: &mut Vec<u8>, filter: &Filter) {
    let leaf = |out: &mut Vec<u8>, tag: u8, field: usize| {
        out.push(tag);
        put_number(out, field as u64);
    };
    match filter {
        Filter::And(parts) | Filter::Or(parts) => {
            out.push(if matches!(filter, Filter::And(_)) { 10 } else { 11 });
            put_number(out, parts.len() as u64);
            for part in parts {
                put_filter(out, part);
            }
        }
        Filter::Not(inner) => {
            out.push(9);
            put_filter(out, inner);
        }
        Filter::Compare { field, op, value } => {
            leaf(out, 1, *field);
            out.push(*op as u8);
            put_value(out, value);
        }
        Filter::In { field, values } => {
            leaf(out, 2, *field);
            put_number(out, values.len() as u64);
            for value in values {
                put_value(out, value);
            }
        }
        Filter::Like { field, pattern } => {
            leaf(out, 3, *field);
            put_bytes(out, pattern.as_bytes());
        }
        Filter::Contains { field, needle } => {
            leaf(out, 4, *field);
            put_bytes(out, needle.as_bytes());
        }
        Filter::JsonContains { field, needle } => {
            leaf(out, 5, *field);
            put_needle(out, needle);
        }
        Filter::IsNull { field } => leaf(out, 6, *field),
        Filter::EndsWith { field, needle } => {
            leaf(out, 7, *field);
            put_bytes(out, needle.as_bytes());
        }
        Filter::Path { field, path, test } => {
            leaf(out, 8, *field);
            put_test(out, test);
            put_bytes(out, path.sql().as_bytes());
        }
        Filter::Mentions { fields, text } => {
            out.push(13);
            put_number(out, fields.len() as u64);
            for field in fields {
                put_number(out, *field as u64);
            }
            put_bytes(out, text.as_bytes());
        }
        Filter::Found { expression } => {
            out.push(14);
            put_bytes(out, expression.as_bytes());
        }
        Filter::Untrue(inner) => {
            out.push(15);
            put_filter(out, inner);
        }
        Filter::Exists(exists) => {
            out.push(16);
            put_number(out, exists.field.map_or(0, |field| field as u64 + 1));
            put_bytes(out, exists.collection.name.as_bytes());
            put_number(out, exists.target as u64);
            put_filter(out, &exists.filter);
        }
        Filter::Through(through) => {
            leaf(out, 12, through.field);
            put_bytes(out, through.collection.name.as_bytes());
            put_number(out, through.target as u64);
            put_filter(out, &through.filter);
        }
    }
}

fn put_needle(out: &mut Vec<u8>, needle: &JsonNeedle) {
    let (tag, text) = match needle {
        JsonNeedle::Text(text) => (0, text.as_ref()),
        JsonNeedle::Number(number) => (1, number.as_ref()),
        JsonNeedle::Bool(truth) => (2, if *truth { "true" } else { "false" }),
    };
    out.push(tag);
    put_bytes(out, text.as_bytes());
}

fn put_test(out: &mut Vec<u8>, test: &PathTest) {
    match test {
        PathTest::Exists => out.push(0),
        PathTest::Bool(truth) => out.extend_from_slice(&[1, u8::from(*truth)]),
        PathTest::Number { op, number } => {
            out.extend_from_slice(&[2, *op as u8]);
            put_bytes(out, number.as_bytes());
        }
        PathTest::Text { op, text } => {
            out.extend_from_slice(&[3, *op as u8]);
            put_bytes(out, text.as_bytes());
        }
        PathTest::TextIn(texts) => {
            out.push(4);
            put_number(out, texts.len() as u64);
            for text in texts {
                put_bytes(out, text.as_bytes());
            }
        }
        PathTest::Like(pattern) => {
            out.push(5);
            put_bytes(out, pattern.as_bytes());
        }
        PathTest::EndsWith(end) => {
            out.push(6);
            put_bytes(out, end.as_bytes());
        }
        PathTest::Contains(needle) => {
            out.push(7);
            put_needle(out, needle);
        }
        PathTest::Holds(needle) => {
            out.push(8);
            put_needle(out, needle);
        }
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0),
        Value::Int(int) => {
            out.push(1);
            out.extend_from_slice(&int.to_be_bytes());
        }
        Value::Float(float) => {
            out.push(2);
            // The two zeros are equal; adding one to the other makes it positive.
            out.extend_from_slice(&(float + 0.0).to_bits().to_be_bytes());
        }
        Value::Text(text) => {
            out.push(3);
            put_bytes(out, text.as_bytes());
        }
        Value::Blob(bytes) => {
            out.push(4);
            put_bytes(out, bytes);
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}
