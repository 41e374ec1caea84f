//! The open transactions of this gateway.
//!
//! A transaction belongs to its [`Owner`], who must have its id, which nobody can guess. It lives in this process: it
//! holds nothing in the database, so one that is forgotten, by its owner or by a crash, is rolled back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result, new_secret_id};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::OwnedMutexGuard;

use super::commit::schema_changed;
use super::owner::Owner;
use super::transaction::Transaction;

/// Bytes of values that all open transactions may hold together (about).
const MAX_BYTES: usize = 256 << 20;
const PREFIX: &str = "tx_";

/// The id of a transaction, as requests name it: `tx_<secret>`, in a cluster `tx_<secret>.<node>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransactionId(String);

impl TransactionId {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The node that has the transaction, where the id names one.
    pub(crate) fn node(&self) -> Option<&str> {
        self.0.strip_prefix(PREFIX)?.split_once('.').map(|(_, node)| node)
    }
}

/// The open transactions.
#[derive(Debug)]
pub(crate) struct Registry {
    open: Mutex<Open>,
    timeout: Duration,
    most: usize,
    /// This node's name in a cluster.
    node: Option<String>,
}

#[derive(Debug, Default)]
struct Open {
    by_id: FxHashMap<String, Entry>,
    /// Oldest first; ids that are gone stay until their time is over.
    order: VecDeque<(Instant, String)>,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    owner: Owner,
    expires: Instant,
    transaction: Arc<tokio::sync::Mutex<Transaction>>,
    /// What it was last known to hold.
    bytes: usize,
}

/// A transaction in use by one request; others wait.
pub(crate) struct InUse<'r> {
    registry: &'r Registry,
    id: &'r TransactionId,
    guard: OwnedMutexGuard<Transaction>,
}

impl std::ops::Deref for InUse<'_> {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.guard
    }
}

impl std::ops::DerefMut for InUse<'_> {
    fn deref_mut(&mut self) -> &mut Transaction {
        &mut self.guard
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.registry.open.lock().note(&self.id.0, self.guard.size());
    }
}

impl Registry {
    pub(crate) fn new(timeout: Duration, most: u32, node: Option<String>) -> Self {
        Self {
            open: Mutex::default(),
            timeout,
            most: most as usize,
            node,
        }
    }

    /// How long a transaction may be open.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Opens a transaction.
    ///
    /// Errors: `TOO_MANY_TRANSACTIONS`.
    pub(crate) fn begin(&self, owner: Owner, transaction: Transaction) -> Result<TransactionId> {
        let now = Instant::now();
        let mut id = format!("{PREFIX}{}", new_secret_id());
        if let Some(node) = &self.node {
            id.push('.');
            id.push_str(node);
        }
        let mut open = self.open.lock();
        open.expire(now);
        if open.by_id.len() >= self.most || open.bytes > MAX_BYTES {
            return Err(Error::new(
                ErrorKind::TooManyRequests,
                "TOO_MANY_TRANSACTIONS",
                format!(
                    "{} transactions are open: commit or roll back some of them",
                    open.by_id.len()
                ),
            )
            .with_retry_after(Duration::from_secs(1)));
        }
        let expires = now + self.timeout;
        open.order.push_back((expires, id.clone()));
        open.by_id.insert(
            id.clone(),
            Entry {
                owner,
                expires,
                transaction: Arc::new(tokio::sync::Mutex::new(transaction)),
                bytes: 0,
            },
        );
        Ok(TransactionId(id))
    }

    /// The transaction, for one request.
    ///
    /// Errors: `INVALID_TRANSACTION`; `TRANSACTION_CONFLICT` where the schema has changed since it began;
    /// `TRANSACTION_IN_USE` where other requests use it until the deadline.
    pub(crate) async fn enter<'r>(
        &'r self,
        id: &'r TransactionId,
        owner: Owner,
        (schema_revision, deadline): (u64, Instant),
    ) -> Result<InUse<'r>> {
        let entry = {
            let open = self.open.lock();
            open.find(id, owner)?.clone()
        };
        let waited =
            tokio::time::timeout_at(deadline.min(entry.expires).into(), entry.transaction.lock_owned());
        let guard = waited.await.map_err(|_| busy())?;
        // It may have been ended meanwhile.
        self.open.lock().find(id, owner)?;
        if guard.schema_revision != schema_revision {
            return Err(schema_changed());
        }
        Ok(InUse {
            registry: self,
            id,
            guard,
        })
    }

    /// Ends the transaction and hands it over, once no request uses it any more.
    ///
    /// Errors: as for [`Self::enter`].
    pub(crate) async fn end(
        &self,
        id: &TransactionId,
        owner: Owner,
        (schema_revision, deadline): (u64, Instant),
    ) -> Result<Transaction> {
        let in_use = self.enter(id, owner, (schema_revision, deadline)).await;
        let mut open = self.open.lock();
        open.find(id, owner)?;
        let mut in_use = match in_use {
            Ok(in_use) => in_use,
            Err(error) => {
                if error.code() == "TRANSACTION_CONFLICT" {
                    open.remove(&id.0);
                }
                return Err(error);
            }
        };
        open.remove(&id.0);
        drop(open);
        let over = Transaction::new(schema_revision);
        Ok(std::mem::replace(&mut *in_use, over))
    }

    /// How many are open.
    #[cfg(test)]
    fn len(&self) -> usize {
        let mut open = self.open.lock();
        open.expire(Instant::now());
        open.by_id.len()
    }
}

impl Open {
    fn find(&self, id: &TransactionId, owner: Owner) -> Result<&Entry> {
        let found = self.by_id.get(&id.0);
        found
            .filter(|entry| entry.owner == owner && entry.expires > Instant::now())
            .ok_or_else(unknown)
    }

    fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(expires, _)| *expires <= now) {
            if let Some((_, id)) = self.order.pop_front() {
                self.remove(&id);
            }
        }
    }

    fn remove(&mut self, id: &str) {
        if let Some(entry) = self.by_id.remove(id) {
            self.bytes -= entry.bytes;
        }
        // Mostly the ones that were begun first end first.
        while self
            .order
            .front()
            .is_some_and(|(_, id)| !self.by_id.contains_key(id))
        {
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.by_id.len() + 64 {
            let by_id = &self.by_id;
            self.order.retain(|(_, id)| by_id.contains_key(id));
        }
    }

    fn note(&mut self, id: &str, bytes: usize) {
        if let Some(entry) = self.by_id.get_mut(id) {
            self.bytes = self.bytes - entry.bytes + bytes;
            entry.bytes = bytes;
        }
    }
}

/// There is no such transaction for this caller.
pub(crate) fn unknown() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "INVALID_TRANSACTION",
        "there is no such open transaction: it was committed, rolled back or timed out, or it is somebody else's",
    )
    .with_field("tx_id")
}

fn busy() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "TRANSACTION_IN_USE",
        "other requests use the transaction: send them one after another",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(number: u8) -> Owner {
        Owner::numbered(number)
    }

    fn soon() -> (u64, Instant) {
        (1, Instant::now() + Duration::from_secs(5))
    }

    #[tokio::test]
    async fn a_transaction_is_its_owners_and_ends_once() {
        let registry = Registry::new(Duration::from_secs(60), 2, Some("gateway-1".to_owned()));
        let id = registry.begin(owner(1), Transaction::new(1)).expect("room");
        assert_eq!(id.node(), Some("gateway-1"));
        let refused = registry
            .enter(&id, owner(2), soon())
            .await
            .err()
            .expect("not theirs");
        assert_eq!(refused.code(), "INVALID_TRANSACTION");
        drop(registry.enter(&id, owner(1), soon()).await.expect("ours"));
        registry.end(&id, owner(1), soon()).await.expect("open");
        let again = registry.end(&id, owner(1), soon()).await.expect_err("over");
        assert_eq!(again.code(), "INVALID_TRANSACTION");
    }

    #[tokio::test]
    async fn there_is_room_again_once_one_has_ended_or_timed_out() {
        let registry = Registry::new(Duration::from_millis(100), 1, None);
        let first = registry.begin(owner(1), Transaction::new(1)).expect("room");
        assert_eq!(first.node(), None);
        let full = registry
            .begin(owner(1), Transaction::new(1))
            .expect_err("no room");
        assert_eq!(full.code(), "TOO_MANY_TRANSACTIONS");
        registry.end(&first, owner(1), soon()).await.expect("open");
        registry.begin(owner(1), Transaction::new(1)).expect("room");
        tokio::time::timeout(Duration::from_secs(10), async {
            while registry.len() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("it times out");
        registry.begin(owner(1), Transaction::new(1)).expect("room");
    }

    #[tokio::test]
    async fn another_schema_is_a_conflict_and_the_end() {
        let registry = Registry::new(Duration::from_secs(60), 2, None);
        let id = registry.begin(owner(1), Transaction::new(1)).expect("room");
        let later = (2, Instant::now() + Duration::from_secs(5));
        let refused = registry
            .end(&id, owner(1), later)
            .await
            .expect_err("another schema");
        assert_eq!(refused.code(), "TRANSACTION_CONFLICT");
        assert_eq!(registry.len(), 0);
    }
}
