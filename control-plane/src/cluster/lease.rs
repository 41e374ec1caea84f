//! Which of several control planes leads: a row of the database that whoever leads renews.
//!
//! Time is the database's, so clocks need not agree.

use std::time::{Duration, Instant};

use alyx_core::{Result, Row, Statement, Value};
use alyx_store::{Expect, Read, ReadCost, Store, Write, WriteStep};

/// How long a leader that is not heard of leads on.
const TIME_TO_LIVE: Duration = Duration::from_secs(5);
/// How often the row is renewed or looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(1500);
/// Longest wait for the database.
const DEADLINE: Duration = Duration::from_secs(3);

const CREATE: &str = "CREATE TABLE IF NOT EXISTS _alyx_leader (name TEXT PRIMARY KEY, holder TEXT NOT NULL, \
                      address TEXT NOT NULL, epoch INTEGER NOT NULL, expires REAL NOT NULL)";
const TAKE: &str = "INSERT INTO _alyx_leader (name, holder, address, epoch, expires) \
                    VALUES ('control-plane', ?1, ?2, 1, unixepoch('subsec') + ?3) \
                    ON CONFLICT (name) DO UPDATE SET holder = ?1, address = ?2, epoch = epoch + (holder <> ?1), \
                    expires = unixepoch('subsec') + ?3 \
                    WHERE holder = ?1 OR expires < unixepoch('subsec') RETURNING epoch";
const LOOK: &str = "SELECT holder, address, expires < unixepoch('subsec') FROM _alyx_leader \
                    WHERE name = 'control-plane'";
const GIVE_UP: &str = "UPDATE _alyx_leader SET expires = 0 WHERE name = 'control-plane' AND holder = ?1";

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leader {
    /// This process; the number grows with each change of the leader.
    Own(i64),
    /// Another one, reached at this `host:port`.
    Other(String),
}

/// This process's part in the election.
pub(super) struct Lease {
    store: Store,
    holder: String,
    address: String,
    has_table: bool,
}

impl Lease {
    pub(super) fn new(store: Store, holder: String, address: String) -> Self {
        Self {
            store,
            holder,
            address,
            has_table: false,
        }
    }

    /// Takes or renews the lease where it is free or held already.
    pub(super) async fn take(&mut self) -> Result<Leader> {
        if !self.has_table {
            self.create().await?;
        }
        if let Some(other) = self.look().await? {
            return Ok(Leader::Other(other));
        }
        let rows = self
            .write(
                TAKE,
                vec![
                    Value::text(self.holder.as_str()),
                    Value::text(self.address.as_str()),
                    Value::Float(TIME_TO_LIVE.as_secs_f64()),
                ],
            )
            .await?;
        match rows.first().and_then(|row| row.first()).and_then(Value::as_int) {
            Some(epoch) => Ok(Leader::Own(epoch)),
            // Between the look and the write another one was quicker.
            None => Ok(Leader::Other(self.look().await?.unwrap_or_default())),
        }
    }

    /// Lets another one lead at once.
    pub(super) async fn give_up(&self) -> Result<()> {
        self.write(GIVE_UP, vec![Value::text(self.holder.as_str())])
            .await
            .map(|_| ())
    }

    /// The address of another one that leads now.
    async fn look(&self) -> Result<Option<String>> {
        let rows = self.read(LOOK).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let text = |at: usize| row.get(at).and_then(Value::as_text);
        let free = row.get(2).and_then(Value::as_int) == Some(1);
        let own = text(0) == Some(self.holder.as_str());
        Ok(text(1).filter(|_| !free && !own).map(str::to_owned))
    }

    async fn create(&mut self) -> Result<()> {
        let there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_alyx_leader'";
        if self.read(there).await?.is_empty() {
            self.store
                .migrate(vec![Statement::new(CREATE, Vec::new())])
                .await?;
        }
        self.has_table = true;
        Ok(())
    }

    async fn read(&self, sql: &str) -> Result<Vec<Row>> {
        let reply = self
            .store
            .read(Read {
                statements: vec![Statement::new(sql, Vec::new())],
                cost: ReadCost::Scan,
                deadline: Instant::now() + DEADLINE,
            })
            .await?;
        Ok(reply
            .results
            .into_iter()
            .next()
            .map(|rows| rows.rows)
            .unwrap_or_default())
    }

    async fn write(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>> {
        let reply = self
            .store
            .write(Write {
                steps: vec![WriteStep {
                    statement: Statement::new(sql, parameters),
                    expect: Expect::Any,
                }],
                deadline: Instant::now() + DEADLINE,
            })
            .await?;
        Ok(reply
            .steps
            .into_iter()
            .next()
            .map(|rows| rows.rows)
            .unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use alyx_store::EmbeddedOptions;

    use super::*;

    #[tokio::test]
    async fn one_leads_until_it_gives_up_or_is_not_heard_of() {
        let dir = tempfile::tempdir().expect("a folder");
        let store =
            Store::open_embedded(EmbeddedOptions::new(dir.path().join("a.db")), |_| {}).expect("opened");
        let lease = |name: &str| Lease::new(store.clone(), name.to_owned(), format!("{name}:1"));
        let (mut one, mut two) = (lease("one"), lease("two"));
        let other = |name: &str| Leader::Other(format!("{name}:1"));
        assert_eq!(one.take().await.expect("taken"), Leader::Own(1));
        assert_eq!(two.take().await.expect("looked"), other("one"));
        assert_eq!(one.take().await.expect("renewed"), Leader::Own(1));
        one.give_up().await.expect("given up");
        assert_eq!(two.take().await.expect("taken"), Leader::Own(2));
        assert_eq!(one.take().await.expect("looked"), other("two"));
        one.give_up().await.expect("nothing to give up");
        assert_eq!(one.take().await.expect("looked"), other("two"));
        let expire = "UPDATE _alyx_leader SET expires = unixepoch('subsec') - 1";
        two.write(expire, Vec::new()).await.expect("expired");
        assert_eq!(one.take().await.expect("taken"), Leader::Own(3));
        assert_eq!(two.take().await.expect("looked"), other("one"));
    }
}
