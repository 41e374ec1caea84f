//! Lists within a transaction: what is outside, with the transaction's own writes laid over it.

use std::time::Instant;

use alyx_core::{Error, ErrorKind, Result, Row, Seq};
use alyx_query::{ListParams, Query};
use alyx_schema::write_json;
use alyx_store::{Read, ReadCost};
use bytes::Bytes;

use super::Engine;
use super::transaction::{Known, MAX_LISTS, Touched, Transaction, key_text, size_of, too_large};

/// Rows that a list within a transaction may go through.
const MAX_ROWS: u64 = 10_000;

impl Transaction {
    /// A page of documents as the transaction sees it: `{docs, total?, limit, offset}`.
    ///
    /// Errors: `INVALID_QUERY` where it lies too far behind, `TRANSACTION_TOO_LARGE`, and what the store says.
    pub(crate) async fn list(
        &mut self,
        engine: &Engine,
        params: &ListParams,
        deadline: Instant,
    ) -> Result<Bytes> {
        supported(params)?;
        let query = &params.query;
        let touched = self.touched.get(&query.collection.name);
        let laid_over: Vec<&Known> = touched.into_iter().flat_map(Touched::written).collect();
        let wider = widened(query, laid_over.len())?;
        let mut statements = vec![wider.select()];
        if params.count {
            statements.push(query.count());
        }
        let read = Read {
            statements,
            cost: ReadCost::Scan,
            deadline,
        };
        let mut reply = engine.store.read(read).await?;
        let counted = reply
            .results
            .get(1)
            .and_then(|rows| rows.rows.first()?.first()?.as_int());
        let rows = reply
            .results
            .first_mut()
            .map(|rows| std::mem::take(&mut rows.rows));
        let rows = laid(query, rows.unwrap_or_default(), &laid_over);
        let total = counted.map(|counted| counted + moved(query, &laid_over));
        self.saw(query, reply.position)?;
        let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
        let page = rows.iter().skip(offset).take(query.limit as usize);
        Ok(encode(query, page, total))
    }

    /// Notes that the list was read.
    fn saw(&mut self, query: &Query, position: Seq) -> Result<()> {
        let same = |seen: &(Query, Seq)| {
            seen.0.collection.name == query.collection.name && seen.0.filter == query.filter
        };
        // The earlier position stands: both must be unchanged, or they did not see the same.
        if self.lists.iter().any(same) {
            return Ok(());
        }
        if self.lists.len() >= MAX_LISTS {
            return Err(too_large(format!("more than {MAX_LISTS} lists")));
        }
        self.take(256)?;
        self.lists.push((query.clone(), position));
        Ok(())
    }
}

/// A list must be decided by rows alone: what it saw is checked against them at the commit.
fn supported(params: &ListParams) -> Result<()> {
    let field = if params.after.is_some() {
        "after"
    } else if !params.expand.is_empty() {
        "expand"
    } else if !params.query.filter.is_local() {
        "filter"
    } else {
        return Ok(());
    };
    let message = format!(
        "a list within a transaction takes no `{field}` that reads other documents: read those on their own, or page \
         by `offset`"
    );
    Err(Error::new(ErrorKind::InvalidInput, "INVALID_QUERY", message).with_field(field))
}

impl Touched {
    fn written(&self) -> impl Iterator<Item = &Known> {
        self.known.values().filter(|known| known.written)
    }
}

/// From the first row on, with room for what the transaction takes away, and every field that places a row.
fn widened(query: &Query, written: usize) -> Result<Query> {
    let written = written as u64;
    let wanted = query.offset.saturating_add(u64::from(query.limit)) + written;
    if wanted > MAX_ROWS {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "INVALID_QUERY",
            format!("within a transaction a page must end within the first {MAX_ROWS} documents"),
        )
        .with_field("offset"));
    }
    Ok(Query {
        limit: u32::try_from(wanted).unwrap_or(u32::MAX),
        offset: 0,
        fields: query.fields.clone(),
        ..query.clone()
    })
}

/// The rows outside with the written ones in their places.
fn laid(query: &Query, rows: Vec<Row>, written: &[&Known]) -> Vec<Row> {
    if written.is_empty() {
        return rows;
    }
    let collection = &query.collection;
    let primary = collection.primary();
    let keys: std::collections::HashSet<_> = written
        .iter()
        .map(|known| key_text(collection, &known.key))
        .collect();
    let mut rows: Vec<Row> = rows
        .into_iter()
        .filter(|row| !keys.contains(&key_text(collection, &row[primary])))
        .collect();
    let own = written.iter().filter_map(|known| known.now.as_ref());
    rows.extend(own.filter(|row| query.filter.matches(row)).cloned());
    rows.sort_by(|a, b| query.compare(a, b));
    rows
}

/// How the transaction's writes move the total.
fn moved(query: &Query, written: &[&Known]) -> i64 {
    let counts = |row: Option<&Row>| i64::from(row.is_some_and(|row| query.filter.matches(row)));
    written
        .iter()
        .map(|known| counts(known.now.as_ref()) - counts(known.base.as_ref()))
        .sum()
}

fn encode<'r>(query: &Query, page: impl Iterator<Item = &'r Row>, total: Option<i64>) -> Bytes {
    let mut out = b"{\"docs\":[".to_vec();
    for (number, row) in page.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.reserve(size_of(row));
        write_json(&query.collection, row, query.fields.as_deref(), &mut out);
    }
    out.push(b']');
    let mut put = |name: &str, number: i128| {
        out.extend_from_slice(format!(",\"{name}\":{number}").as_bytes());
    };
    if let Some(total) = total {
        put("total", i128::from(total.max(0)));
    }
    put("limit", i128::from(query.limit));
    put("offset", i128::from(query.offset));
    out.push(b'}');
    out.into()
}
