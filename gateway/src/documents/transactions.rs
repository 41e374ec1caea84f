//! `ctx.db.transaction`: the open transactions of one invocation, which end with it.

use std::sync::Arc;
use std::time::Instant;

use alyx_core::{Error, ErrorKind, Result};
use alyx_query::ListParams;
use alyx_service::data::DataOp;
use alyx_service::state::DesiredState;
use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::data::{Arguments, invalid, null_if_missing};
use super::find;
use crate::app::AppState;
use crate::authority::Authority;
use crate::transactions::{Id, Kind, Operation, Shaped, Transaction, unknown};

/// Transactions that one invocation may have open at a time.
const MAX_OPEN: usize = 16;

/// The open transactions of an invocation, by the numbers that its function knows.
#[derive(Debug, Default)]
pub(super) struct OpenTransactions {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    by_number: FxHashMap<u64, Slot>,
}

/// Empty once the transaction has ended.
type Slot = Arc<tokio::sync::Mutex<Option<Transaction>>>;

#[derive(Deserialize)]
struct Named {
    tx: u64,
}

#[derive(Deserialize)]
struct Within<'a> {
    tx: u64,
    op: &'a str,
    #[serde(borrow)]
    args: &'a RawValue,
}

impl OpenTransactions {
    /// Begin, commit, roll back, or one call within.
    pub(super) async fn call(
        &self,
        (app, state): (&AppState, &DesiredState),
        (op, collection): (DataOp, &str),
        args: &[u8],
        deadline: Instant,
    ) -> Result<Bytes> {
        if op == DataOp::Begin {
            let number = self.begin(app.engine.begin(state.schema_revision))?;
            return Ok(format!("{{\"tx\":{number}}}").into());
        }
        if op == DataOp::Within {
            let within: Within<'_> = serde_json::from_slice(args).map_err(malformed)?;
            let slot = self.slot(within.tx)?;
            let mut transaction = slot.lock().await;
            let transaction = transaction.as_mut().ok_or_else(unknown)?;
            return run(transaction, (app, state), (collection, &within), deadline).await;
        }
        let Named { tx } = serde_json::from_slice(args).map_err(malformed)?;
        let slot = self.open.lock().by_number.remove(&tx).ok_or_else(unknown)?;
        let transaction = slot.lock().await.take().ok_or_else(unknown)?;
        if op == DataOp::Commit {
            if transaction.schema_revision() != state.schema_revision {
                return Err(crate::transactions::schema_changed());
            }
            transaction.commit(&app.engine, Vec::new(), deadline).await?;
        }
        Ok(Bytes::from_static(b"{}"))
    }

    fn begin(&self, transaction: Transaction) -> Result<u64> {
        let mut open = self.open.lock();
        if open.by_number.len() >= MAX_OPEN {
            return Err(Error::new(
                ErrorKind::TooManyRequests,
                "TOO_MANY_TRANSACTIONS",
                format!("a call may have {MAX_OPEN} transactions open: await some of them first"),
            ));
        }
        open.last += 1;
        let number = open.last;
        let slot = Arc::new(tokio::sync::Mutex::new(Some(transaction)));
        open.by_number.insert(number, slot);
        Ok(number)
    }

    fn slot(&self, number: u64) -> Result<Slot> {
        self.open
            .lock()
            .by_number
            .get(&number)
            .cloned()
            .ok_or_else(unknown)
    }
}

async fn run(
    transaction: &mut Transaction,
    (app, state): (&AppState, &DesiredState),
    (collection, within): (&str, &Within<'_>),
    deadline: Instant,
) -> Result<Bytes> {
    let collection = find(state, collection)?;
    let args = within.args.get().as_bytes();
    let op = DataOp::parse(within.op).ok_or_else(|| invalid("there is no such operation"))?;
    if op == DataOp::List {
        let json = serde_json::from_slice(args).map_err(malformed)?;
        let params = ListParams::from_json(collection.into(), &json)?;
        return transaction.list(&app.engine, &params, deadline).await;
    }
    let kind = match op {
        DataOp::Get => Kind::Get,
        DataOp::Create => Kind::Create,
        DataOp::Update => Kind::Update,
        DataOp::Upsert => Kind::Upsert,
        DataOp::Delete => Kind::Delete,
        DataOp::Aggregate => {
            return Err(invalid(
                "figures are not to be had within a transaction: ask before it, or list",
            ));
        }
        DataOp::List | DataOp::Begin | DataOp::Commit | DataOp::Rollback | DataOp::Within => {
            return Err(invalid("a transaction has no transactions of its own"));
        }
    };
    let arguments = Arguments::read(args)?;
    let id = match kind {
        Kind::Create | Kind::Upsert => None,
        Kind::Get | Kind::Update | Kind::Delete => Some(arguments.id()?),
    };
    let data = match kind {
        Kind::Create | Kind::Update | Kind::Upsert => arguments.data()?,
        Kind::Get | Kind::Delete => b"{}",
    };
    let operation = Operation::new(kind, collection, (Id::InData, Bytes::new()), Authority::system());
    let applied = transaction
        .apply(&app.engine, &operation, (id.as_deref(), data), deadline)
        .await;
    let shaped = applied.map(|outcome| Shaped::single(&[outcome]).body);
    match kind {
        Kind::Get => shaped.or_else(|error| null_if_missing(error, b"null")),
        Kind::Delete => shaped
            .map(|_| Bytes::from_static(b"{\"deleted\":true}"))
            .or_else(|error| null_if_missing(error, b"{\"deleted\":false}")),
        Kind::Create | Kind::Update | Kind::Upsert => shaped,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn malformed(error: serde_json::Error) -> Error {
    invalid(format!("the arguments cannot be read: {error}"))
}
