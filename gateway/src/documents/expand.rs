//! Documents in place of their keys: for each level of references one read with one statement for each reference,
//! whatever the number of documents.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Instant;

use alyx_core::{Error, ErrorKind, Result, Row, Value};
use alyx_query::Expand;
use alyx_schema::{Collection, write_json_with};

use super::{Documents, no_row};

/// Bytes of a reply with expanded documents at most: a large one may stand in it a thousand times.
const MAX_REPLY: usize = 32 * 1024 * 1024;

/// What rows refer to.
#[derive(Default)]
pub(super) struct Joined {
    references: Vec<Reference>,
}

struct Reference {
    field: usize,
    collection: Arc<Collection>,
    target: usize,
    /// Sorted by the target.
    rows: Vec<Row>,
    inner: Joined,
}

impl Documents {
    /// Reads what the rows refer to, level by level.
    ///
    /// Errors: what the store says.
    pub(super) async fn join(&self, expand: &[Expand], rows: &[Row], deadline: Instant) -> Result<Joined> {
        let wanted: Vec<(&Expand, Vec<Value>)> = expand
            .iter()
            .map(|expand| (expand, keys(rows, expand.field)))
            .filter(|(_, keys)| !keys.is_empty())
            .collect();
        if wanted.is_empty() {
            return Ok(Joined::default());
        }
        let statements = wanted.iter().map(|(expand, keys)| expand.select(keys));
        let reply = self.scan(statements.collect(), deadline).await?;
        if reply.results.len() != wanted.len() {
            return Err(no_row("reference"));
        }
        let mut references = Vec::with_capacity(wanted.len());
        for ((expand, _), found) in wanted.into_iter().zip(reply.results) {
            let mut rows = found.rows;
            rows.sort_by(|a, b| order(a.get(expand.target), b.get(expand.target)));
            // As deep as the request says, which is bounded where it is read.
            let inner = Box::pin(self.join(&expand.inner, &rows, deadline)).await?;
            references.push(Reference {
                field: expand.field,
                collection: Arc::clone(&expand.collection),
                target: expand.target,
                rows,
                inner,
            });
        }
        Ok(Joined { references })
    }
}

/// The keys in a field, each once.
fn keys(rows: &[Row], field: usize) -> Vec<Value> {
    let values = rows.iter().filter_map(|row| row.get(field));
    let mut keys: Vec<Value> = values.filter(|value| !value.is_null()).cloned().collect();
    keys.sort_by(Value::sql_cmp);
    keys.dedup();
    keys
}

fn order(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.sql_cmp(b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

impl Joined {
    /// Appends the document with what it refers to in place of the keys. A key that refers to nothing stays.
    ///
    /// Errors: `RESULT_TOO_LARGE`.
    pub(super) fn write(
        &self,
        collection: &Collection,
        row: &[Value],
        fields: Option<&[usize]>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.put(collection, row, fields, out);
        if out.len() > MAX_REPLY {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "RESULT_TOO_LARGE",
                format!(
                    "the reply with its expanded documents has more than {} MiB: ask for fewer documents",
                    MAX_REPLY / 1024 / 1024
                ),
            ));
        }
        Ok(())
    }

    fn put(&self, collection: &Collection, row: &[Value], fields: Option<&[usize]>, out: &mut Vec<u8>) {
        write_json_with(collection, row, fields, out, |position, value, out| {
            let reference = self
                .references
                .iter()
                .find(|reference| reference.field == position);
            let found = reference.and_then(|reference| Some((reference, reference.find(value)?)));
            let Some((reference, document)) = found else {
                return false;
            };
            reference.inner.put(&reference.collection, document, None, out);
            true
        });
    }
}

impl Reference {
    fn find(&self, key: &Value) -> Option<&Row> {
        let place = self
            .rows
            .binary_search_by(|row| order(row.get(self.target), Some(key)));
        place.ok().and_then(|place| self.rows.get(place))
    }
}
