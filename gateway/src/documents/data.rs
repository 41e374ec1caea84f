//! `ctx.db`: documents with the authority of a function. Access flags are for callers from outside and do not
//! apply; internal fields stay internal.

use std::time::Instant;

use alyx_core::{Error, ErrorKind, Result, TraceContext};
use alyx_query::{Aggregate, ListParams, OneParams, Reach, Scope};
use alyx_service::data::{DataCall, DataOp, DataService};
use alyx_service::trace;
use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::find;
use super::transactions::OpenTransactions;
use crate::app::AppState;
use crate::authority::Authority;
use crate::transactions::{Id, Kind, Operation, Outcome, Shaped};

/// Answers the `ctx.db` calls of one invocation, until its deadline, as a part of the trace in which it was made.
pub(crate) struct FunctionData {
    app: AppState,
    deadline: Instant,
    trace: Option<TraceContext>,
    transactions: OpenTransactions,
}

impl FunctionData {
    pub(crate) fn new(app: AppState, deadline: Instant) -> Self {
        Self {
            app,
            deadline,
            trace: trace::current(),
            transactions: OpenTransactions::default(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Arguments<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl Arguments<'_> {
    pub(super) fn read(args: &[u8]) -> Result<Arguments<'_>> {
        serde_json::from_slice(args)
            .map_err(|error| invalid(format!("the arguments are no JSON object: {error}")))
    }

    /// A key as a path would have it: text without its quotes, a number as it is written.
    pub(super) fn id(&self) -> Result<String> {
        let raw = self.id.map_or("null", RawValue::get);
        match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw).map_err(|error| invalid(format!("`id`: {error}"))),
            Some(b'-' | b'0'..=b'9') => Ok(raw.to_owned()),
            _ => Err(invalid(format!("`id` must be a text or a number, not {raw}"))),
        }
    }

    pub(super) fn data(&self) -> Result<&[u8]> {
        self.data
            .map(|data| data.get().as_bytes())
            .ok_or_else(|| invalid("`data` is missing: give the document's fields"))
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, "INVALID_ARGUMENT", message)
}

#[async_trait]
impl DataService for FunctionData {
    async fn call(&self, call: DataCall) -> Result<Bytes> {
        trace::within(self.trace, self.answer(call)).await
    }
}

impl FunctionData {
    async fn answer(&self, call: DataCall) -> Result<Bytes> {
        let state = self.app.desired();
        if let DataOp::Begin | DataOp::Commit | DataOp::Rollback | DataOp::Within = call.op {
            let asked = (call.op, call.collection.as_str());
            let transactions = &self.transactions;
            return transactions
                .call((&self.app, &state), asked, &call.args, self.deadline)
                .await;
        }
        let collection = find(&state, &call.collection)?;
        let documents = &self.app.documents;
        if call.op == DataOp::List {
            let scope = Scope::new(&state.schema, collection, Reach::Function);
            let params = ListParams::from_json(scope, &json(&call.args)?)?;
            return documents
                .list(state.schema_revision, &params, self.deadline)
                .await;
        }
        if call.op == DataOp::Aggregate {
            let scope = Scope::new(&state.schema, collection, Reach::Function);
            let asked = Aggregate::from_json(scope, &json(&call.args)?)?;
            return documents.aggregate(&asked, self.deadline).await;
        }
        let arguments = Arguments::read(&call.args)?;
        let system = Authority::system();
        match call.op {
            DataOp::List
            | DataOp::Aggregate
            | DataOp::Get
            | DataOp::Begin
            | DataOp::Commit
            | DataOp::Rollback
            | DataOp::Within => {
                let (id, params) = (arguments.id()?, OneParams::default());
                let found = documents
                    .get(&system, (collection, &id), &params, self.deadline)
                    .await;
                found.or_else(|error| null_if_missing(error, b"null"))
            }
            DataOp::Create => {
                documents
                    .create(&system, collection, arguments.data()?, self.deadline)
                    .await
            }
            DataOp::Update => {
                let (id, data) = (arguments.id()?, arguments.data()?);
                let changed = documents
                    .update(&system, (collection, &id), data, self.deadline)
                    .await;
                changed.map(|changed| changed.json)
            }
            DataOp::Upsert => {
                let data = Bytes::copy_from_slice(arguments.data()?);
                let upsert = Operation::new(Kind::Upsert, collection, (Id::InData, data), system);
                let outcomes = self.app.engine.batch(&[upsert], self.deadline).await;
                let outcomes = outcomes.map_err(Error::without_step)?.into_iter();
                let outcomes: Vec<Outcome> = outcomes.collect();
                Ok(Shaped::single(&outcomes).body)
            }
            DataOp::Delete => {
                let deleted = documents
                    .delete(&system, (collection, &arguments.id()?), self.deadline)
                    .await;
                deleted
                    .map(|()| Bytes::from_static(b"{\"deleted\":true}"))
                    .or_else(|error| null_if_missing(error, b"{\"deleted\":false}"))
            }
        }
    }
}

fn json(args: &[u8]) -> Result<serde_json::Value> {
    serde_json::from_slice(args).map_err(|error| invalid(format!("the query is no JSON: {error}")))
}

pub(super) fn null_if_missing(error: Error, otherwise: &'static [u8]) -> Result<Bytes> {
    if error.code() == "DOCUMENT_NOT_FOUND" {
        return Ok(Bytes::from_static(otherwise));
    }
    Err(error)
}
