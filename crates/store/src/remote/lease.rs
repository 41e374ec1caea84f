//! The writer's lease: one row that says who writes and until when, by the server's clock.

use std::time::{Duration, Instant};

use alyx_core::{Seq, Value};

use super::change_log::{self, CLOSE_COMMIT, position};
use super::hrana::{Batch, When};
use super::stream::Stream;
use super::transactor::{Held, MOVE_ON, PARTIAL_TRIGGERS, TAKE_UP, Transaction, Transactor};
use crate::Commit;
use crate::failure::Failure;

/// How far back a new holder publishes what the old one may not have published.
const REPUBLISHED: Duration = Duration::from_secs(10);
/// A lease is renewed this many times while it lasts.
const RENEWALS: u32 = 3;

/// What a node asks for.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// Who.
    pub(crate) holder: String,
    /// Where others reach it.
    pub(crate) address: String,
    /// For how long, unless renewed.
    pub(crate) ttl: Duration,
    /// The epoch of a holder from whom it is taken although it has not run out; the epoch then keeps that one from
    /// writing.
    pub(crate) from: Option<i64>,
}

/// The lease as it is in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub(crate) holder: String,
    pub(crate) address: String,
    pub(crate) epoch: i64,
    /// How long it still lasts; zero where it has run out.
    pub(crate) left: Duration,
}

/// Reads the lease. Nothing where nobody has ever had it.
pub(super) async fn look(stream: &mut Stream, deadline: Instant) -> Result<Option<LeaseRow>, Failure> {
    const LOOK: &str = "SELECT holder, address, epoch, \
         max(0, expires_at - CAST(unixepoch('subsec') * 1000 AS INTEGER)) \
         FROM _alyx_lease WHERE name = 'writer'";
    let mut step = change_log::rows(stream, LOOK, &[], deadline).await?;
    let Some(row) = step.rows.pop() else {
        return Ok(None);
    };
    let text = |column: usize| {
        row.get(column)
            .and_then(|cell| cell.0.as_text())
            .unwrap_or_default()
    };
    let int = |column: usize| row.get(column).and_then(|cell| cell.0.as_int()).unwrap_or(0);
    Ok(Some(LeaseRow {
        holder: text(0).to_owned(),
        address: text(1).to_owned(),
        epoch: int(2),
        left: Duration::from_millis(u64::try_from(int(3)).unwrap_or(0)),
    }))
}

impl Held {
    /// When it must be renewed.
    pub(super) fn renew_at(&self) -> Instant {
        self.renewed + self.ttl / RENEWALS
    }
}

impl Transactor {
    /// Renews the lease in this transaction, where it is time to.
    pub(super) fn renew(&self, transaction: &mut Transaction) -> Result<(), Failure> {
        const RENEW: &str = "UPDATE _alyx_lease \
             SET expires_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?1 WHERE name = 'writer' AND epoch = ?2";
        let Some(held) = self.held else { return Ok(()) };
        let now = Instant::now();
        if now < held.renew_at() {
            return Ok(());
        }
        let params = [millis(held.ttl), Value::Int(held.epoch)];
        transaction.batch.run(When::Open, RENEW, &params)?;
        transaction.renewed = Some(now);
        Ok(())
    }

    /// Takes the lease where nobody has it, or whom it is to be taken from. Returns the commits that the holder before may not have published.
    pub(super) async fn acquire(&mut self, terms: &Terms) -> Result<Option<Vec<Commit>>, Failure> {
        const TAKE: &str = "INSERT INTO _alyx_lease (name, holder, address, epoch, expires_at) \
             VALUES ('writer', ?1, ?2, 1, CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?3) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, address = excluded.address, \
             epoch = epoch + 1, expires_at = excluded.expires_at \
             WHERE holder = excluded.holder OR expires_at <= CAST(unixepoch('subsec') * 1000 AS INTEGER) \
             OR epoch = ?4 RETURNING epoch";
        const SINCE: &str = "SELECT coalesce((SELECT max(seq) FROM _alyx_commits \
             WHERE at < CAST(unixepoch('subsec') * 1000 AS INTEGER) - ?1), \
             (SELECT value FROM _alyx_meta WHERE key = 'horizon'), 0)";
        let asked = Instant::now();
        let mut batch = Batch::new();
        let begin = batch.run(When::Always, "BEGIN IMMEDIATE", &[])?;
        let who = [
            terms.holder.as_str().into(),
            terms.address.as_str().into(),
            millis(terms.ttl),
            terms.from.map_or(Value::Null, Value::Int),
        ];
        let take = batch.rows(When::Worked(begin), TAKE, &who)?;
        let me = Value::from(self.id.as_ref());
        let moved = batch.rows(When::Worked(take), MOVE_ON, &[me, Value::Int(TAKE_UP)])?;
        let close = batch.run(When::Worked(moved), CLOSE_COMMIT, &[])?;
        let since = batch.rows(When::Worked(close), SINCE, &[millis(REPUBLISHED)])?;
        let triggers = batch.rows(When::Worked(since), PARTIAL_TRIGGERS, &[])?;
        let commit = batch.run(When::Worked(triggers), "COMMIT", &[])?;
        batch.run(When::Open, "ROLLBACK", &[])?;
        let deadline = self.deadline();
        let reply = change_log::run(&mut self.stream, &batch, deadline).await?;
        change_log::expect(&reply, &[begin, take, moved, close, since, triggers, commit])?;
        let Some(epoch) = reply.int(take) else {
            return Ok(None);
        };
        self.number = reply.int(moved).ok_or(Failure::TransactionLost)?;
        self.settled = true;
        self.partial_triggers = reply.int(triggers) != Some(0);
        self.held = Some(Held {
            epoch,
            renewed: asked,
            ttl: terms.ttl,
        });
        let since: Seq = position(reply.int(since));
        // Followers repair what cannot be read now.
        let news = self.news_since(since).await;
        if news.is_err() {
            self.find_head().await?;
        }
        Ok(Some(news.map(|news| news.commits).unwrap_or_default()))
    }

    /// Gives the lease back, so that another need not wait until it runs out.
    pub(super) async fn release(&mut self) -> Result<(), Failure> {
        const RELEASE: &str = "UPDATE _alyx_lease SET expires_at = 0 WHERE name = 'writer' AND epoch = ?1";
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        let deadline = self.deadline();
        let mut batch = Batch::new();
        let step = batch.run(When::Always, RELEASE, &[Value::Int(held.epoch)])?;
        let reply = change_log::run(&mut self.stream, &batch, deadline).await?;
        change_log::expect(&reply, &[step])
    }
}

fn millis(duration: Duration) -> Value {
    Value::Int(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}
