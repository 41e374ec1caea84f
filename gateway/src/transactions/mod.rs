//! Several operations as one: batches, conditional requests, requests that must not be carried out twice, and
//! transactions over several requests.
//!
//! Two ways lead to the database. A batch whose operations depend on nothing that was read goes straight into one
//! write ([`direct`]). Everything else runs as a [`Transaction`]: it reads, buffers its writes, and commits where
//! nothing has changed of what it read; a request that holds the whole transaction is tried again where it has.

mod commit;
mod direct;
mod etag;
mod idempotency;
mod operation;
mod outcome;
mod owner;
mod page;
mod reference;
mod registry;
mod run;
mod transaction;

use std::sync::Arc;
use std::time::Instant;

use alyx_core::{Clock, Error, Result, Value};
use alyx_query::reserve_keys;
use alyx_schema::Collection;
use alyx_store::{Expect, Store, Write, WriteStep};

pub(crate) use commit::schema_changed;
pub(crate) use etag::{Preconditions, header_of, tag_of};
pub(crate) use idempotency::{IdempotencyKey, Kept};
pub(crate) use operation::{Id, Kind, Operation, read_batch};
pub(crate) use outcome::{Outcome, Shaped};
pub(crate) use owner::Owner;
pub(crate) use registry::{Registry, TransactionId, unknown};
pub(crate) use run::Job;
pub(crate) use transaction::Transaction;

/// What runs operations.
pub(crate) struct Engine {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Engine {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// A transaction that has done nothing so far.
    pub(crate) fn begin(&self, schema_revision: u64) -> Transaction {
        Transaction::new(schema_revision)
    }

    fn now(&self) -> String {
        self.clock.timestamp()
    }

    /// A key that nobody else gets, of a collection whose keys the database makes.
    async fn reserve_key(&self, collection: &Collection, deadline: Instant) -> Result<Value> {
        let last = self.reserve_keys(collection, 1, deadline).await?;
        Ok(Value::Int(last))
    }

    /// The last one of `count` such keys.
    async fn reserve_keys(&self, collection: &Collection, count: usize, deadline: Instant) -> Result<i64> {
        let steps = reserve_keys(collection, count).map(|statement| WriteStep {
            statement,
            expect: Expect::Any,
        });
        let write = Write {
            steps: steps.into(),
            deadline,
        };
        let reply = self.store.write(write).await?;
        let last = reply
            .steps
            .last()
            .and_then(|rows| rows.rows.first()?.first()?.as_int());
        last.ok_or_else(|| Error::internal("the database made no keys"))
    }
}

/// Of several parts, so that no two lists of parts have the same.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
