//! Reading and writing documents: what REST handlers and `ctx.db` have in common. Takes and gives JSON text;
//! rows go straight from the store into the reply.
//!
//! Knows nothing of HTTP; what callers may do is said by an [`Authority`].

mod aggregate;
mod data;
mod expand;
mod list;
mod totals;
mod transactions;

use std::sync::Arc;
use std::time::Instant;

use alyx_core::{Clock, Error, ErrorKind, Result, Row, Statement, Value};
use alyx_query::{Filter, OneParams, insert_returns, passes};
use alyx_rules::Action;
use alyx_schema::{Collection, is_touch, parse_key, read_create, read_update, write_json};
use alyx_service::state::DesiredState;
use alyx_store::{Condition, Expect, Read, ReadCost, ReadReply, Rows, Store, Write, WriteStep};
use bytes::Bytes;

pub(crate) use data::FunctionData;

use crate::authority::{Authority, forbidden};
use crate::metrics::Metrics;
use totals::Totals;

/// Room for one document in a reply, before its size is known.
const DOCUMENT_BYTES: usize = 256;

/// The collection of that name.
///
/// Errors: `COLLECTION_NOT_FOUND`.
pub(crate) fn find<'s>(state: &'s DesiredState, name: &str) -> Result<&'s Arc<Collection>> {
    state.schema.collection(name).ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "COLLECTION_NOT_FOUND",
            format!("there is no collection `{name}`"),
        )
    })
}

/// A document after it was changed.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) json: Bytes,
    /// Whether the caller may read it: otherwise this is nothing but its key.
    pub(crate) whole: bool,
}

/// The service behind REST and `ctx.db`.
#[derive(Debug)]
pub(crate) struct Documents {
    store: Store,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    totals: Totals,
}

impl Documents {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            clock,
            metrics,
            totals: Totals::new(),
        }
    }

    /// One document that the caller may read.
    ///
    /// Errors: `FORBIDDEN` where there is none, `DOCUMENT_NOT_FOUND`, and what the store says.
    pub(crate) async fn get(
        &self,
        authority: &Authority,
        (collection, id): (&Collection, &str),
        params: &OneParams,
        deadline: Instant,
    ) -> Result<Bytes> {
        let rule = authority.read(collection)?;
        let key = key_of(collection, id)?;
        let row = self.row(collection, key, &rule, deadline).await?;
        let row = row.ok_or_else(|| not_found(collection, id))?;
        let fields = params.fields.as_deref();
        if params.expand.is_empty() {
            return Ok(document(collection, &row, fields));
        }
        let joined = self
            .join(&params.expand, std::slice::from_ref(&row), deadline)
            .await?;
        let mut out = Vec::with_capacity(4 * DOCUMENT_BYTES);
        joined.write(collection, &row, fields, &mut out)?;
        Ok(Bytes::from(out))
    }

    /// Stores a new document and returns it.
    ///
    /// Errors: `FORBIDDEN`, `INVALID_JSON`, `VALIDATION_ERROR`, `UNIQUE_VIOLATION`, `FOREIGN_KEY_VIOLATION`, and what
    /// the store says.
    pub(crate) async fn create(
        &self,
        authority: &Authority,
        collection: &Collection,
        body: &[u8],
        deadline: Instant,
    ) -> Result<Bytes> {
        let row = read_create(collection, body, &self.clock.timestamp())?;
        let rule = authority.create(collection, &row)?;
        let made_by_database = insert_returns(collection);
        let known = (!made_by_database).then(|| document(collection, &row, None));
        let mut steps = Vec::with_capacity(2);
        if !rule.is_true() {
            steps.push(WriteStep {
                statement: alyx_query::holds(collection, &rule),
                expect: Expect::Holds(Condition::Precondition),
            });
        }
        steps.push(WriteStep {
            statement: alyx_query::insert(collection, row),
            expect: Expect::Row,
        });
        let write = Write { steps, deadline };
        let mut reply = self
            .store
            .write(write)
            .await
            .map_err(|error| match error.code() {
                "PRECONDITION_FAILED" => forbidden(collection, Action::Create),
                _ => error.without_step(),
            })?;
        if let Some(json) = known {
            return Ok(json);
        }
        let stored = reply.steps.pop().ok_or_else(|| no_row("insert"))?;
        let row = stored.rows.first().ok_or_else(|| no_row("insert"))?;
        Ok(document(collection, row, None))
    }

    /// Changes the fields that `body` names and returns the document, if the caller may read it.
    ///
    /// Errors: as [`Self::create`], and `DOCUMENT_NOT_FOUND`; where a rule refuses, `FORBIDDEN` to whom may know that
    /// there is such a document.
    pub(crate) async fn update(
        &self,
        authority: &Authority,
        (collection, id): (&Collection, &str),
        body: &[u8],
        deadline: Instant,
    ) -> Result<Changed> {
        let key = key_of(collection, id)?;
        let mut changes = read_update(collection, body, &self.clock.timestamp())?;
        if is_touch(collection, &changes) {
            changes.clear();
        }
        let rule = authority.update(collection, &changes, &[])?;
        let visible = authority.visible(collection);
        let changed = if changes.is_empty() {
            let row = self.row(collection, key.clone(), &rule, deadline).await?;
            let seen = match &row {
                Some(row) if visible.is_local() => visible.matches(row),
                Some(_) => self.holds(collection, key.clone(), &visible, deadline).await?,
                None => false,
            };
            row.map(|row| (row, seen))
        } else {
            let statement = alyx_query::update_if(collection, key.clone(), changes, &rule);
            // Who could read it before learns nothing new from seeing it after.
            let before = (!visible.is_local()).then(|| passes(collection, key.clone(), &visible));
            let seen_before = before.is_some();
            let steps = before.into_iter().chain([statement]).map(|statement| WriteStep {
                statement,
                expect: Expect::Any,
            });
            let steps = steps.collect();
            let mut reply = self
                .store
                .write(Write { steps, deadline })
                .await
                .map_err(Error::without_step)?;
            let row = reply.steps.pop().and_then(|mut rows| rows.rows.pop());
            let seen = match (&row, reply.steps.first()) {
                (Some(_), Some(before)) if seen_before => !before.rows.is_empty(),
                (Some(row), _) => visible.matches(row),
                (None, _) => false,
            };
            row.map(|row| (row, seen))
        };
        let Some((row, seen)) = changed else {
            return Err(self
                .refused(authority, (collection, id), Action::Update, &rule, deadline)
                .await);
        };
        let key_only = [collection.primary()];
        let fields = (!seen).then_some(key_only.as_slice());
        Ok(Changed {
            json: document(collection, &row, fields),
            whole: seen,
        })
    }

    /// Deletes a document.
    ///
    /// Errors: `DOCUMENT_NOT_FOUND`, `FORBIDDEN` as for [`Self::update`], `FOREIGN_KEY_VIOLATION`, and what the store
    /// says.
    pub(crate) async fn delete(
        &self,
        authority: &Authority,
        (collection, id): (&Collection, &str),
        deadline: Instant,
    ) -> Result<()> {
        let rule = authority.delete(collection)?;
        let statement = alyx_query::delete_if(collection, key_of(collection, id)?, &rule);
        let done = self.write(statement, Expect::Any, deadline).await?;
        if done.affected == 0 {
            return Err(self
                .refused(authority, (collection, id), Action::Delete, &rule, deadline)
                .await);
        }
        Ok(())
    }

    /// Why a write under a rule met no document.
    async fn refused(
        &self,
        authority: &Authority,
        (collection, id): (&Collection, &str),
        action: Action,
        rule: &Filter,
        deadline: Instant,
    ) -> Error {
        let missing = not_found(collection, id);
        let (false, Some(key)) = (rule.is_true(), parse_key(collection, id)) else {
            return missing;
        };
        let visible = authority.visible(collection);
        match self.holds(collection, key, &visible, deadline).await {
            Ok(true) => forbidden(collection, action),
            Ok(false) => missing,
            Err(error) => error,
        }
    }

    /// Whether there is a document with that key that passes the filter.
    async fn holds(
        &self,
        collection: &Collection,
        key: Value,
        filter: &Filter,
        deadline: Instant,
    ) -> Result<bool> {
        let statements = vec![passes(collection, key, filter)];
        Ok(!first(self.scan(statements, deadline).await?)?.rows.is_empty())
    }

    /// The document with that key, where it passes the filter.
    async fn row(
        &self,
        collection: &Collection,
        key: Value,
        filter: &Filter,
        deadline: Instant,
    ) -> Result<Option<Row>> {
        if !filter.is_local() {
            let statements = vec![alyx_query::get_if(collection, key, filter)];
            return Ok(first(self.scan(statements, deadline).await?)?.rows.pop());
        }
        let read = Read {
            statements: vec![alyx_query::get(collection, key)],
            cost: ReadCost::Point,
            deadline,
        };
        let row = first(self.store.read(read).await?)?.rows.pop();
        Ok(row.filter(|row| filter.matches(row)))
    }

    async fn scan(&self, statements: Vec<Statement>, deadline: Instant) -> Result<ReadReply> {
        let read = Read {
            statements,
            cost: ReadCost::Scan,
            deadline,
        };
        self.store.read(read).await
    }

    async fn write(&self, statement: Statement, expect: Expect, deadline: Instant) -> Result<Rows> {
        let write = Write {
            steps: vec![WriteStep { statement, expect }],
            deadline,
        };
        let mut reply = self.store.write(write).await?;
        reply.steps.pop().ok_or_else(|| no_row("write"))
    }
}

fn key_of(collection: &Collection, id: &str) -> Result<Value> {
    parse_key(collection, id).ok_or_else(|| not_found(collection, id))
}

/// The collection has no document with that key.
pub(crate) fn not_found(collection: &Collection, id: &str) -> Error {
    const LONGEST: usize = 64;
    let shown: String = id.chars().take(LONGEST).collect();
    Error::new(
        ErrorKind::NotFound,
        "DOCUMENT_NOT_FOUND",
        format!("`{}` has no document `{shown}`", collection.name),
    )
}

fn document(collection: &Collection, row: &[Value], fields: Option<&[usize]>) -> Bytes {
    let mut out = Vec::with_capacity(DOCUMENT_BYTES);
    write_json(collection, row, fields, &mut out);
    Bytes::from(out)
}

fn put_number(out: &mut Vec<u8>, before: &str, number: u64) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn first(mut reply: ReadReply) -> Result<Rows> {
    if reply.results.is_empty() {
        return Err(no_row("read"));
    }
    Ok(reply.results.swap_remove(0))
}

fn pair(reply: ReadReply) -> Result<[Rows; 2]> {
    reply.results.try_into().map_err(|_| no_row("read"))
}

/// The store answers every statement; where it has not, it is broken.
fn no_row(what: &'static str) -> Error {
    Error::internal(format!("the store gave no result for a {what}"))
}
