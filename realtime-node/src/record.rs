//! A row on its way to subscribers, and what a window has to know about the rows of its query.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use alyx_core::{Row, Value};
use alyx_query::Query;
use alyx_schema::{Collection, write_json};
use alyx_service::realtime::Document;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::window::Shape;

/// A row, and its JSON for every projection that was asked for. All groups that the row was routed to share it, so
/// that each projection is written once.
#[derive(Debug)]
pub(crate) struct Record {
    row: Row,
    json: Mutex<Vec<(Arc<[usize]>, Bytes)>>,
}

impl Record {
    pub(crate) fn new(row: Row) -> Self {
        Self {
            row,
            json: Mutex::new(Vec::new()),
        }
    }

    /// The values, one per field of the collection.
    pub(crate) fn row(&self) -> &Row {
        &self.row
    }

    fn json(&self, collection: &Collection, fields: &Arc<[usize]>) -> Bytes {
        let mut written = self.json.lock();
        if let Some((_, json)) = written.iter().find(|(known, _)| known == fields) {
            return json.clone();
        }
        let mut out = Vec::with_capacity(256);
        write_json(collection, &self.row, Some(fields), &mut out);
        let json = Bytes::from(out);
        written.push((fields.clone(), json.clone()));
        json
    }
}

/// A primary key that can be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowId(pub(crate) Value);

impl Hash for RowId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_value(&self.0, state);
    }
}

/// Equal values hash alike, be they integer or float.
pub(crate) fn hash_value<H: Hasher>(value: &Value, state: &mut H) {
    match value {
        Value::Null => state.write_u8(0),
        #[expect(
            clippy::cast_precision_loss,
            reason = "integers that become the same float may collide"
        )]
        Value::Int(int) => (*int as f64 + 0.0).to_bits().hash(state),
        // The two zeros are equal; adding one to the other makes it positive.
        Value::Float(float) => (float + 0.0).to_bits().hash(state),
        Value::Text(text) => text.hash(state),
        Value::Blob(bytes) => bytes.hash(state),
    }
}

/// A query as the shape of its window.
#[derive(Debug)]
pub(crate) struct QueryShape {
    query: Arc<Query>,
    /// Positions of the fields that clients see.
    shown: Arc<[usize]>,
}

impl QueryShape {
    pub(crate) fn new(query: Arc<Query>) -> Self {
        let fields = query.collection.fields.iter().enumerate();
        let shown = fields
            .filter(|(position, field)| {
                let asked = query.fields.as_ref();
                !field.internal && asked.is_none_or(|asked| asked.contains(position))
            })
            .map(|(position, _)| position)
            .collect();
        Self { query, shown }
    }

    /// The row as clients see it.
    pub(crate) fn document(&self, record: &Record) -> Document {
        Document {
            id: self.id(record).0,
            json: record.json(&self.query.collection, &self.shown),
        }
    }
}

impl Shape for QueryShape {
    type Row = Record;
    type Id = RowId;

    fn matches(&self, record: &Record) -> bool {
        self.query.filter.matches(&record.row)
    }

    fn compare(&self, a: &Record, b: &Record) -> Ordering {
        self.query.compare(&a.row, &b.row)
    }

    fn id(&self, record: &Record) -> RowId {
        let primary = self.query.collection.primary();
        RowId(record.row.get(primary).cloned().unwrap_or_default())
    }

    fn looks_same(&self, a: &Record, b: &Record) -> bool {
        self.shown
            .iter()
            .all(|&position| a.row.get(position) == b.row.get(position))
    }
}
