//! Figures over many documents.

use std::time::Instant;

use alyx_core::{Result, Value};
use alyx_query::{Aggregate, Figure, Function, Group, Measure};
use alyx_schema::value_to_json;
use bytes::Bytes;

use super::{Documents, first, no_row, put_number};

impl Documents {
    /// The groups and their figures: `{groups: [{key, …}], limit, offset, more}`. Everything has the name that the
    /// request gives it.
    ///
    /// Errors: what the store says.
    pub(crate) async fn aggregate(&self, asked: &Aggregate, deadline: Instant) -> Result<Bytes> {
        let rows = first(self.scan(vec![asked.select()], deadline).await?)?.rows;
        let most = usize::try_from(asked.limit).unwrap_or(usize::MAX);
        let mut out = Vec::with_capacity(64 + rows.len().min(most) * 64);
        out.extend_from_slice(b"{\"groups\":[");
        for (index, row) in rows.iter().take(most).enumerate() {
            out.extend_from_slice(if index == 0 { b"{\"key\":{" } else { b",{\"key\":{" });
            for (place, (group, value)) in asked.groups.iter().zip(row).enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                put_group(asked, *group, value, &mut out);
            }
            out.push(b'}');
            let figures = asked.figures(row).ok_or_else(|| no_row("figure"))?;
            for (measure, figure) in asked.measures.iter().zip(&figures) {
                out.push(b',');
                put_figure(asked, *measure, figure, &mut out);
            }
            out.push(b'}');
        }
        out.push(b']');
        put_number(&mut out, ",\"limit\":", u64::from(asked.limit));
        put_number(&mut out, ",\"offset\":", asked.offset);
        let more: &[u8] = if rows.len() > most {
            b",\"more\":true}"
        } else {
            b",\"more\":false}"
        };
        out.extend_from_slice(more);
        Ok(Bytes::from(out))
    }
}

/// Names of fields, functions and buckets need no escapes.
fn put_group(asked: &Aggregate, group: Group, value: &Value, out: &mut Vec<u8>) {
    let field = &asked.collection.fields[group.field];
    out.push(b'"');
    out.extend_from_slice(field.name.as_bytes());
    if let Some(bucket) = group.bucket {
        out.push(b':');
        out.extend_from_slice(bucket.name().as_bytes());
    }
    out.extend_from_slice(b"\":");
    value_to_json(field, value, out);
}

fn put_figure(asked: &Aggregate, measure: Measure, figure: &Figure, out: &mut Vec<u8>) {
    let field = measure.field.map(|field| &asked.collection.fields[field]);
    out.push(b'"');
    out.extend_from_slice(measure.function.name().as_bytes());
    if let Some(field) = field {
        out.push(b':');
        out.extend_from_slice(field.name.as_bytes());
    }
    out.extend_from_slice(b"\":");
    match (figure, field) {
        (Figure::Whole(sum), _) => out.extend_from_slice(itoa::Buffer::new().format(*sum).as_bytes()),
        (Figure::Value(Value::Int(count)), _) if measure.function == Function::Count => {
            out.extend_from_slice(itoa::Buffer::new().format(*count).as_bytes());
        }
        (Figure::Value(value), Some(field)) => value_to_json(field, value, out),
        (Figure::Value(_), None) => out.extend_from_slice(b"null"),
    }
}
