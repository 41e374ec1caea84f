//! Pages of documents.

use std::time::Instant;

use alyx_core::{Result, Row, Statement, Value};
use alyx_query::{ListParams, Query};
use alyx_schema::write_json;
use alyx_store::Rows;
use bytes::Bytes;

use super::totals::Question;
use super::{DOCUMENT_BYTES, Documents, first, no_row, pair, put_number};

impl Documents {
    /// A page of documents: `{docs, total?, limit, offset, next?}`.
    ///
    /// Errors: what the store says.
    pub(crate) async fn list(
        &self,
        schema_revision: u64,
        params: &ListParams,
        deadline: Instant,
    ) -> Result<Bytes> {
        let query = &params.query;
        let (rows, total) = self.page(schema_revision, params, deadline).await?;
        let joined = if params.expand.is_empty() {
            None
        } else {
            Some(self.join(&params.expand, &rows.rows, deadline).await?)
        };
        let mut out = Vec::with_capacity(64 + rows.rows.len() * DOCUMENT_BYTES);
        out.extend_from_slice(b"{\"docs\":[");
        for (index, row) in rows.rows.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let fields = query.fields.as_deref();
            match &joined {
                None => write_json(&query.collection, row, fields, &mut out),
                Some(joined) => joined.write(&query.collection, row, fields, &mut out)?,
            }
        }
        out.push(b']');
        if let Some(total) = total {
            put_number(&mut out, ",\"total\":", total);
        }
        put_number(&mut out, ",\"limit\":", u64::from(query.limit));
        put_number(&mut out, ",\"offset\":", query.offset);
        put_next(params, &rows.rows, total, &mut out);
        out.push(b'}');
        Ok(Bytes::from(out))
    }

    /// The page, and its total where that is asked for. Nulls at the end of an order are read only for the pages that
    /// reach them, and then all of the page is of one state of the database.
    async fn page(
        &self,
        schema_revision: u64,
        params: &ListParams,
        deadline: Instant,
    ) -> Result<(Rows, Option<u64>)> {
        if let Some(stretch) = params.select_before_nulls() {
            let (rows, total) = self.select(stretch, schema_revision, params, deadline).await?;
            if is_full(&params.query, &rows.rows) {
                return Ok((rows, total));
            }
        }
        self.select(params.select(), schema_revision, params, deadline)
            .await
    }

    async fn select(
        &self,
        page: Statement,
        schema_revision: u64,
        params: &ListParams,
        deadline: Instant,
    ) -> Result<(Rows, Option<u64>)> {
        if params.count {
            let counted = self.page_with_total(page, schema_revision, &params.query, deadline);
            let (rows, total) = counted.await?;
            return Ok((rows, Some(total)));
        }
        let reply = self.scan(vec![page], deadline).await?;
        Ok((first(reply)?, None))
    }

    /// The page and its total, both of the same state of the database. Where a total is known from before, the
    /// changes since then are read beside the page instead of counting again.
    async fn page_with_total(
        &self,
        page: Statement,
        schema_revision: u64,
        query: &Query,
        deadline: Instant,
    ) -> Result<(Rows, u64)> {
        if !query.filter.is_local() {
            // Changes of other collections move this total, so it is counted afresh.
            let reply = self.scan(vec![page, query.count()], deadline).await?;
            let [rows, count] = pair(reply)?;
            self.metrics.list_total(false);
            return Ok((rows, counted(&count)?));
        }
        let question = Question::new(schema_revision, query);
        if let Some(known) = self.totals.known(&question) {
            let statements = vec![page.clone(), known.changes_since(query)];
            let reply = self.scan(statements, deadline).await?;
            let position = reply.position;
            let [rows, changes] = pair(reply)?;
            if let Some(total) = known.advance(query, &changes.rows, position) {
                self.totals.learn(question, total, position);
                self.metrics.list_total(true);
                return Ok((rows, total));
            }
        }
        let reply = self.scan(vec![page, query.count()], deadline).await?;
        let position = reply.position;
        let [rows, count] = pair(reply)?;
        let total = counted(&count)?;
        self.totals.learn(question, total, position);
        self.metrics.list_total(false);
        Ok((rows, total))
    }
}

fn counted(count: &Rows) -> Result<u64> {
    let total = count.rows.first().and_then(|row| row.first());
    let total = total.and_then(Value::as_int);
    total
        .and_then(|total| u64::try_from(total).ok())
        .ok_or_else(|| no_row("count"))
}

fn is_full(query: &Query, rows: &[Row]) -> bool {
    u32::try_from(rows.len()).is_ok_and(|count| count >= query.limit)
}

/// The cursor of the next page, where there may be one: this one is full, and not known to be the last.
fn put_next(params: &ListParams, rows: &[Row], total: Option<u64>, out: &mut Vec<u8>) {
    let query = &params.query;
    let full = is_full(query, rows);
    let seen = query.offset.saturating_add(u64::from(query.limit));
    let ends = params.after.is_none() && total.is_some_and(|total| total <= seen);
    let last = rows.last().filter(|_| full && !ends);
    let cursor = last.and_then(|last| query.cursor(last));
    // Base64 needs no escapes.
    if let Some(cursor) = cursor {
        out.extend_from_slice(b",\"next\":\"");
        out.extend_from_slice(cursor.as_bytes());
        out.push(b'"');
    }
}
