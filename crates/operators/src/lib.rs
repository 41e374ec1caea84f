//! Who operates: operators, who sign in with a password, and API tokens, which programs show.
//!
//! Both end in the same thing, a row of `_alyx_api_tokens`: signing in makes one that expires soon and may do
//! everything. **Invariants:** a token is kept as a digest and shown once; a row is there for as long as its token is
//! good or expires; every change that takes something from a token moves [`Operators::changes`], by triggers, whoever
//! makes it.
//!
//! Accounts of the application's users are something else: no account becomes an operator by anything that happens to
//! it.

mod listing;
mod operator;
mod tables;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use alyx_core::{Clock, Error, Result, Statement};
use alyx_store::steps::{must, step, unchanged};
use alyx_store::{Read, ReadCost, Rows, Store, Write, WriteReply, WriteStep};
use tokio::sync::OnceCell;

pub use listing::{Listing, OperatorEntry, Revoked, TokenEntry};
pub use operator::{NewOperator, Operator, hash_new_password};
pub use token::{Known, MadeToken, NewToken, PREFIX, SignIn, is_api_token};

/// Longest wait for the tables to be made.
const TABLES_WITHIN: Duration = Duration::from_secs(10);

/// Operators and API tokens, as the database holds them.
pub struct Operators {
    store: Store,
    clock: Arc<dyn Clock>,
    tables: OnceCell<()>,
}

impl Operators {
    /// Reads and writes nothing yet; tables are made with the first use.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            tables: OnceCell::new(),
        }
    }

    /// Seconds of Unix time.
    fn now(&self) -> u64 {
        let now = self.clock.now().duration_since(UNIX_EPOCH);
        now.unwrap_or_default().as_secs()
    }

    /// The rows of one reading statement.
    async fn query(&self, statement: Statement, cost: ReadCost, deadline: Instant) -> Result<Rows> {
        self.prepare().await?;
        let read = Read {
            statements: vec![statement],
            cost,
            deadline,
        };
        let mut reply = self.store.read(read).await?;
        reply
            .results
            .pop()
            .ok_or_else(|| Error::internal("the store gave no result for a read"))
    }

    /// Carries out all of these or none.
    async fn write(&self, steps: Vec<WriteStep>, deadline: Instant) -> Result<WriteReply> {
        self.prepare().await?;
        self.store.write(Write { steps, deadline }).await
    }

    async fn prepare(&self) -> Result<()> {
        let made = self
            .tables
            .get_or_try_init(|| tables::create(&self.store, Instant::now() + TABLES_WITHIN));
        made.await.map(|_| ())
    }
}

impl std::fmt::Debug for Operators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operators").finish_non_exhaustive()
    }
}
