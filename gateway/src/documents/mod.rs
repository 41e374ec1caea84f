//! Reading and writing documents: what REST handlers and `ctx.db` have in common. Takes and gives JSON text;
//! rows go straight from the store into the reply.
//!
//! Knows nothing of HTTP and asks nobody whether the caller may: [`permit`] is for those whose callers have to.

mod aggregate;
mod data;
mod expand;
mod list;
mod totals;
mod transactions;

use std::sync::Arc;
use std::time::Instant;

use alyx_core::{Clock, Error, ErrorKind, Result, Row, Statement, Value};
use alyx_query::{OneParams, insert_returns};
use alyx_schema::{Collection, parse_key, read_create, read_update, write_json};
use alyx_service::state::DesiredState;
use alyx_store::{Expect, Read, ReadCost, ReadReply, Rows, Store, Write, WriteStep};
use bytes::Bytes;

pub(crate) use data::FunctionData;

use crate::metrics::Metrics;
use totals::Totals;

/// Room for one document in a reply, before its size is known.
const DOCUMENT_BYTES: usize = 256;

/// What is done to documents, as `access` in the schema grants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Read,
    Update,
    Delete,
}

impl Action {
    const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

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

/// Whether callers from outside may do that.
///
/// Errors: `FORBIDDEN`. Said before anything is looked up, so it tells nothing about single documents.
pub(crate) fn permit(collection: &Collection, action: Action) -> Result<()> {
    let access = collection.access;
    let open = match action {
        Action::Create => access.create,
        Action::Read => access.read,
        Action::Update => access.update,
        Action::Delete => access.delete,
    };
    if open {
        return Ok(());
    }
    let message = format!(
        "the schema does not let callers {} documents of `{}`",
        action.word(),
        collection.name
    );
    Err(Error::new(ErrorKind::Forbidden, "FORBIDDEN", message))
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

    /// One document.
    ///
    /// Errors: `DOCUMENT_NOT_FOUND`, and what the store says.
    pub(crate) async fn get(
        &self,
        collection: &Collection,
        id: &str,
        params: &OneParams,
        deadline: Instant,
    ) -> Result<Bytes> {
        let key = key_of(collection, id)?;
        let row = self.row(collection, key, deadline).await?;
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
    /// Errors: `INVALID_JSON`, `VALIDATION_ERROR`, `UNIQUE_VIOLATION`, `FOREIGN_KEY_VIOLATION`, and what the
    /// store says.
    pub(crate) async fn create(
        &self,
        collection: &Collection,
        body: &[u8],
        deadline: Instant,
    ) -> Result<Bytes> {
        let row = read_create(collection, body, &self.clock.timestamp())?;
        if insert_returns(collection) {
            let statement = alyx_query::insert(collection, row);
            let stored = self.write(statement, Expect::Row, deadline).await?;
            let row = stored.rows.first().ok_or_else(|| no_row("insert"))?;
            return Ok(document(collection, row, None));
        }
        let json = document(collection, &row, None);
        self.write(alyx_query::insert(collection, row), Expect::Row, deadline)
            .await?;
        Ok(json)
    }

    /// Changes the fields that `body` names and returns the document; of its fields only `fields` (`None`: all).
    ///
    /// Errors: as [`Self::create`], and `DOCUMENT_NOT_FOUND`.
    pub(crate) async fn update(
        &self,
        collection: &Collection,
        (id, body): (&str, &[u8]),
        fields: Option<&[usize]>,
        deadline: Instant,
    ) -> Result<Bytes> {
        let key = key_of(collection, id)?;
        let changes = read_update(collection, body, &self.clock.timestamp())?;
        if changes.is_empty() {
            let row = self.row(collection, key, deadline).await?;
            let row = row.ok_or_else(|| not_found(collection, id))?;
            return Ok(document(collection, &row, fields));
        }
        let statement = alyx_query::update(collection, key, changes);
        let stored = self.write(statement, Expect::Any, deadline).await?;
        let row = stored.rows.first().ok_or_else(|| not_found(collection, id))?;
        Ok(document(collection, row, fields))
    }

    /// Deletes a document.
    ///
    /// Errors: `DOCUMENT_NOT_FOUND`, `FOREIGN_KEY_VIOLATION`, and what the store says.
    pub(crate) async fn delete(&self, collection: &Collection, id: &str, deadline: Instant) -> Result<()> {
        let statement = alyx_query::delete(collection, key_of(collection, id)?);
        let done = self.write(statement, Expect::Any, deadline).await?;
        if done.affected == 0 {
            return Err(not_found(collection, id));
        }
        Ok(())
    }

    async fn row(&self, collection: &Collection, key: Value, deadline: Instant) -> Result<Option<Row>> {
        let read = Read {
            statements: vec![alyx_query::get(collection, key)],
            cost: ReadCost::Point,
            deadline,
        };
        Ok(first(self.store.read(read).await?)?.rows.pop())
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
