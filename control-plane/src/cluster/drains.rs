//! Which nodes operators want to drain: desired state, kept in the database so that it outlives every process.
//!
//! Written by a way of the control plane's own, since with every gateway drained nobody else writes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result, Statement, Value};
use alyx_store::{Expect, Store, Write, WriteStep};

use crate::revision::query;

/// Most nodes that are drained at a time.
const MAX_DRAINED: usize = 1_000;
/// Longest wait for the database.
const DEADLINE: Duration = Duration::from_secs(5);

const THERE: &str = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_alyx_drained'";
const CREATE: &str = "CREATE TABLE IF NOT EXISTS _alyx_drained (node TEXT PRIMARY KEY, since TEXT NOT NULL)";
const LIST: &str = "SELECT node FROM _alyx_drained";
const ADD: &str = "INSERT INTO _alyx_drained (node, since) VALUES (?1, ?2) ON CONFLICT (node) DO NOTHING";
const REMOVE: &str = "DELETE FROM _alyx_drained WHERE node = ?1";

/// The kept set.
pub(crate) struct Drains {
    store: Store,
}

impl Drains {
    /// Makes the table where it is missing, and reads the set.
    pub(super) async fn open(store: Store) -> Result<(Self, BTreeSet<String>)> {
        if query(&store, THERE).await?.is_empty() {
            store.migrate(vec![Statement::new(CREATE, Vec::new())]).await?;
        }
        let drains = Self { store };
        let drained = drains.list().await?;
        Ok((drains, drained))
    }

    /// Adds a node; the set then.
    ///
    /// # Errors
    /// `CLUSTER_FULL`, and those of the store.
    pub(crate) async fn add(&self, node: &str, since: String) -> Result<BTreeSet<String>> {
        let known = self.list().await?;
        if known.len() >= MAX_DRAINED && !known.contains(node) {
            return Err(Error::new(
                ErrorKind::TooManyRequests,
                "CLUSTER_FULL",
                format!("at most {MAX_DRAINED} nodes are drained at a time; undrain some first"),
            ));
        }
        self.write(vec![step(ADD, vec![Value::text(node), Value::text(since)])])
            .await?;
        self.list().await
    }

    /// Removes nodes; the set then.
    pub(crate) async fn remove(&self, nodes: &[String]) -> Result<BTreeSet<String>> {
        if !nodes.is_empty() {
            let removal = |node: &String| step(REMOVE, vec![Value::text(node.as_str())]);
            self.write(nodes.iter().map(removal).collect()).await?;
        }
        self.list().await
    }

    async fn list(&self) -> Result<BTreeSet<String>> {
        let rows = query(&self.store, LIST).await?;
        Ok(rows
            .iter()
            .filter_map(|row| row.first().and_then(Value::as_text).map(str::to_owned))
            .collect())
    }

    async fn write(&self, steps: Vec<WriteStep>) -> Result<()> {
        let write = Write {
            steps,
            deadline: Instant::now() + DEADLINE,
        };
        self.store.write(write).await.map(|_| ())
    }
}

fn step(sql: &str, parameters: Vec<Value>) -> WriteStep {
    WriteStep {
        statement: Statement::new(sql, parameters),
        expect: Expect::Any,
    }
}

#[cfg(test)]
mod tests {
    use alyx_store::EmbeddedOptions;

    use super::*;

    fn set(nodes: &[&str]) -> BTreeSet<String> {
        nodes.iter().map(|node| (*node).to_owned()).collect()
    }

    #[tokio::test]
    async fn what_is_drained_is_still_so_when_it_is_opened_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let store =
            Store::open_embedded(EmbeddedOptions::new(dir.path().join("a.db")), |_| {}).expect("opened");
        let (drains, drained) = Drains::open(store.clone()).await.expect("opened");
        assert!(drained.is_empty());
        let now = || "2026-01-01T00:00:00Z".to_owned();
        assert_eq!(drains.add("a", now()).await.expect("kept"), set(&["a"]));
        assert_eq!(drains.add("b", now()).await.expect("kept"), set(&["a", "b"]));
        assert_eq!(drains.add("b", now()).await.expect("kept"), set(&["a", "b"]));
        let (drains, drained) = Drains::open(store).await.expect("opened again");
        assert_eq!(drained, set(&["a", "b"]));
        let both = ["b".to_owned(), "nobody".to_owned()];
        assert_eq!(drains.remove(&both).await.expect("removed"), set(&["a"]));
    }
}
