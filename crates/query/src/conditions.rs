//! SQL that only checks: one row where something holds, none where it does not.
//!
//! What a transaction has read is checked against the change log: nothing that it saw may have changed since. A
//! document is its key; a list is its filter, which must be false of every image, before and after, that was logged
//! since. Where an image does not hold a value exactly as the table does (floats, blobs), the filter is widened: a
//! change is rather taken for one that matters than overlooked.

use alyx_core::{Seq, Statement, Value};
use alyx_schema::{Collection, Storage};

use crate::ast::{Filter, Query};
use crate::elsewhere::Elsewhere;
use crate::sql::Writer;

/// The condition that begins every check of the log: what is looked for cannot have been cut off.
const LOG_REACHES: &str = "SELECT 1 WHERE (SELECT value FROM _alyx_meta WHERE key = 'horizon') <= ";

/// Whether the document with that key passes the filter.
pub fn passes(collection: &Collection, key: Value, filter: &Filter) -> Statement {
    let mut sql = Writer::new(collection);
    sql.push("SELECT 1 FROM ");
    sql.table();
    sql.push(" AS t WHERE ");
    sql.column(collection.primary());
    sql.push(" = ");
    sql.param(key);
    sql.and(filter);
    sql.finish()
}

/// Whether a filter holds that asks about no row: what it says is about other collections. `collection` is any.
pub fn holds(collection: &Collection, filter: &Filter) -> Statement {
    let mut sql = Writer::new(collection);
    sql.push("SELECT 1 WHERE 1");
    sql.and(filter);
    sql.finish()
}

/// The way from one document to a field of another, over references.
#[derive(Debug, Clone)]
pub struct Way<'w> {
    /// Where it begins.
    pub collection: &'w Collection,
    /// The field that the first document is known by.
    pub target: usize,
    /// What that field has. Never null.
    pub key: Value,
    /// References to follow: the field that refers, and the collection and field that it refers to.
    pub hops: &'w [(usize, &'w Collection, usize)],
    /// The field at the end.
    pub field: usize,
}

/// The value at the end of the way; no row where a document on it is not there.
pub fn value_at(way: &Way<'_>) -> Statement {
    let mut sql = Writer::new(way.collection);
    sql.value_at(way, way.hops, way.field);
    sql.finish()
}

impl Writer<'_> {
    /// The inner `t` of each step hides the outer one, which is not needed there.
    fn value_at(&mut self, way: &Way<'_>, hops: &[(usize, &Collection, usize)], field: usize) {
        let (collection, target) = match hops.last() {
            Some((_, collection, target)) => (*collection, *target),
            None => (way.collection, way.target),
        };
        self.push("SELECT ");
        self.inside(collection, |sql| {
            sql.column(field);
            sql.push(" FROM ");
            sql.table();
            sql.push(" AS t WHERE ");
            sql.column(target);
            sql.push(" = ");
            match hops.split_last() {
                Some(((from, ..), before)) => {
                    sql.push("(");
                    sql.value_at(way, before, *from);
                    sql.push(")");
                }
                None => {
                    sql.param(way.key.clone());
                }
            }
            sql.push(" LIMIT 1");
        });
    }
}

/// Those of the values of the part's field for which it holds: one row of one value for each, or several equal ones. At
/// least one value, none of them null; where the part has no field, one row of null if it holds, whatever the values.
/// It is a part of a filter over `collection` in normal form.
pub fn referring(collection: &Collection, part: Elsewhere<'_>, values: &[Value]) -> Statement {
    let mut sql = Writer::new(collection);
    let Some(field) = part.field() else {
        sql.push("SELECT NULL WHERE ");
        sql.filter(&part.to_filter());
        return sql.finish();
    };
    sql.push("SELECT ");
    sql.column(field);
    sql.push(" FROM (SELECT NULL AS ");
    sql.quoted_field(field);
    sql.push(" WHERE 0 UNION ALL VALUES ");
    // Filled up to a power of two, so that few texts are prepared.
    let fill = values.len().next_power_of_two() - values.len();
    let fill = std::iter::repeat_n(&values[0], fill);
    for (i, value) in values.iter().chain(fill).enumerate() {
        sql.push(if i == 0 { "(" } else { ",(" });
        sql.param(value.clone());
        sql.push(")");
    }
    sql.push(") AS t WHERE ");
    sql.filter(&part.to_filter());
    sql.finish()
}

/// Whether none of these documents has changed since the position that goes with its key. At least one; the statement
/// has two to three parameters for each.
pub fn documents_unchanged(collection: &Collection, reads: &[(Value, Seq)]) -> Statement {
    let positions = || reads.iter().map(|(_, position)| *position);
    let first = positions().min().unwrap_or_default();
    let mut sql = Writer::new(collection);
    sql.push(LOG_REACHES);
    let after = sql.param(position(first));
    sql.push(" AND NOT EXISTS (SELECT 1 FROM _alyx_changes WHERE seq > ");
    sql.param_again(after);
    sql.push(" AND collection = ");
    sql.param(Value::from(collection.name.as_str()));
    // Filled up to a power of two, so that few texts are prepared.
    let fill = reads.len().next_power_of_two() - reads.len();
    let padded = || reads.iter().chain(std::iter::repeat_n(&reads[0], fill));
    sql.push(" AND id IN (");
    let mut numbers = Vec::with_capacity(reads.len() + fill);
    for (i, (key, _)) in padded().enumerate() {
        if i > 0 {
            sql.push(",");
        }
        numbers.push(sql.param(key.clone()));
    }
    sql.push(")");
    if positions().any(|position| position != first) {
        sql.push(" AND CASE id");
        for ((_, since), number) in padded().zip(numbers) {
            sql.push(" WHEN ");
            sql.param_again(number);
            sql.push(" THEN seq > ");
            sql.param(position(*since));
        }
        sql.push(" END");
    }
    sql.push(")");
    sql.finish()
}

/// Whether no document that the query's filter selects, or selected, has changed since `after`. The query's order,
/// limit and offset play no part.
pub fn query_unchanged(query: &Query, after: Seq) -> Statement {
    let collection = &*query.collection;
    let filter = widened(collection, &query.filter, true).normalize();
    let mut sql = Writer::new(collection);
    sql.push(LOG_REACHES);
    let after = sql.param(position(after));
    sql.push(" AND NOT EXISTS (");
    let name = Value::from(collection.name.as_str());
    if filter.is_true() {
        sql.push("SELECT 1 FROM _alyx_changes WHERE seq > ");
        sql.param_again(after);
        sql.push(" AND collection = ");
        sql.param(name);
    } else {
        // What an image does not hold has been left out.
        let fields = filter.fields();
        sql.push("SELECT 1 FROM (");
        images(&mut sql, "old", &fields);
        sql.param_again(after);
        sql.push(" AND collection = ");
        let name = sql.param(name);
        sql.push(" UNION ALL ");
        images(&mut sql, "new", &fields);
        sql.param_again(after);
        sql.push(" AND collection = ");
        sql.param_again(name);
        sql.push(") AS t WHERE ");
        sql.filter(&filter);
    }
    sql.push(")");
    sql.finish()
}

/// The values of some fields in the logged images of one side, up to `seq >`.
fn images(sql: &mut Writer<'_>, side: &str, fields: &[usize]) {
    sql.push("SELECT 1");
    for &field in fields {
        sql.push(", json_extract(");
        sql.push(side);
        // Names are of [a-z0-9_-], so they need no escapes.
        sql.push(",'$.\"");
        sql.push_field(field);
        sql.push("\"') AS ");
        sql.quoted_field(field);
    }
    sql.push(" FROM _alyx_changes WHERE ");
    sql.push(side);
    sql.push(" IS NOT NULL AND seq > ");
}

/// A filter that holds wherever the given one does (`positive`), or nowhere else than it does, in terms of what an
/// image holds exactly.
fn widened(collection: &Collection, filter: &Filter, positive: bool) -> Filter {
    let exact = |field: usize| {
        collection
            .fields
            .get(field)
            .is_some_and(|field| match field.kind.storage() {
                Storage::Real | Storage::Blob => false,
                Storage::Text | Storage::Integer => true,
            })
    };
    let all = |parts: &[Filter]| {
        let parts = parts.iter().map(|part| widened(collection, part, positive));
        parts.collect::<Vec<_>>()
    };
    match filter {
        Filter::And(parts) => Filter::And(all(parts)),
        Filter::Or(parts) => Filter::Or(all(parts)),
        Filter::Not(inner) => Filter::Not(Box::new(widened(collection, inner, !positive))),
        Filter::Untrue(inner) => Filter::Untrue(Box::new(widened(collection, inner, !positive))),
        Filter::Compare { field, .. }
        | Filter::In { field, .. }
        | Filter::Like { field, .. }
        | Filter::Contains { field, .. }
        | Filter::JsonContains { field, .. }
        | Filter::EndsWith { field, .. }
        | Filter::Path { field, .. }
        | Filter::IsNull { field }
            if exact(*field) =>
        {
            filter.clone()
        }
        Filter::Mentions { fields, .. } if fields.iter().all(|&field| exact(field)) => filter.clone(),
        Filter::Compare { .. }
        | Filter::In { .. }
        | Filter::Like { .. }
        | Filter::Contains { .. }
        | Filter::JsonContains { .. }
        | Filter::EndsWith { .. }
        | Filter::Path { .. }
        | Filter::Mentions { .. }
        | Filter::Through(_)
        | Filter::Exists(_)
        | Filter::Found { .. }
        | Filter::IsNull { .. } => {
            if positive {
                Filter::TRUE
            } else {
                Filter::FALSE
            }
        }
    }
}

fn position(position: Seq) -> Value {
    Value::Int(i64::try_from(position.0).unwrap_or(i64::MAX))
}
