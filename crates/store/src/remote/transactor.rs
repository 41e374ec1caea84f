//! The writer's side of the database on a server: one stream, and a chain of numbered batches.
//!
//! **Invariants:** each batch is one transaction, and checks first that it is the next one of this writer (and, in a
//! cluster, that the lease is still its own). So a batch whose answer was lost can be settled: the writer looks which
//! number is stored, moves the number on, and from then on that batch is either there or never will be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Seq, Value, new_uuid_v7};

use super::change_log::{self, CHANGES, CLOSE_COMMIT, ChangeReader, ENDS, HEAD, integer, position};
use super::hrana::{Batch, BatchReply, When};
use super::stream::{BatchError, Stream, from_server};
use crate::Commit;
use crate::failure::Failure;

/// Changes read back with the commit that made them.
const INLINE_CHANGES: i64 = 1_000;
/// Changes that are read back at most; what is more must be read from the log by those who follow it.
const MAX_READ_BACK: u64 = 50_000;
/// Commits after our last one that are looked for.
const MAX_ENDS: i64 = 10_000;
/// Pauses between two tries to settle a batch.
const PAUSE: Duration = Duration::from_millis(100);
/// What taking up the chain adds to the number; what is below counts the batches that were committed, so that it still
/// tells, after the answer to taking up was lost as well, whether a batch was.
pub(super) const TAKE_UP: i64 = 1 << 40;
/// Takes up the chain.
pub(super) const MOVE_ON: &str = "INSERT INTO _alyx_writers (id, batch, at) VALUES (?1, ?2, unixepoch()) \
     ON CONFLICT (id) DO UPDATE SET batch = batch + excluded.batch, at = excluded.at RETURNING batch";
/// Whether any trigger can leave something behind when it fails.
pub(super) const PARTIAL_TRIGGERS: &str =
    "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND sql LIKE '%FAIL%')";

/// What a committed transaction means for the followers of the log.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// The log's head now.
    pub(super) position: Seq,
    /// Commits to publish, oldest first.
    pub(super) commits: Vec<Commit>,
}

/// A batch that was not committed.
#[derive(Debug)]
pub(super) enum NotCommitted {
    /// One of the batch's own statements is at fault, or the server for good; nothing is there.
    Failed(Failure),
    /// The transaction was begun and ended before the commit; the reply tells by which step.
    Ended(BatchReply),
    /// The connection broke; nothing is there, and a new try may work.
    TryAgain(Failure),
    /// It was committed after all, and its reply is lost. What it changed is to be published.
    ReplyLost(Committed),
}

/// The lease, while it is ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) epoch: i64,
    pub(super) renewed: Instant,
    pub(super) ttl: Duration,
}

/// The writer's stream and its place in the chain.
#[derive(Debug)]
pub(super) struct Transactor {
    pub(super) stream: Stream,
    pub(super) changes: Arc<ChangeReader>,
    pub(super) call_timeout: Duration,
    /// Whether only the holder of the lease may write.
    pub(super) leased: bool,
    pub(super) held: Option<Held>,
    /// Whether some trigger can leave something behind when it fails.
    pub(super) partial_triggers: bool,
    /// Groups that are still carried out write by write, because a write of an earlier one failed.
    pub(super) apart: u32,
    /// The log's head after the last transaction.
    pub(super) head: Seq,
    pub(super) id: Arc<str>,
    /// The number of the last batch that is stored.
    pub(super) number: i64,
    /// Whether it is known what became of the last batch.
    pub(super) settled: bool,
}

/// A batch with the steps that every one begins with.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) batch: Batch,
    begin: Option<usize>,
    fence: usize,
    /// When the lease was renewed in it.
    pub(super) renewed: Option<Instant>,
    /// Whether its changes are read back in the same call.
    inline: bool,
}

/// The steps that every batch ends with.
#[derive(Debug)]
struct Ending {
    close: usize,
    ends: usize,
    changes: Option<usize>,
    commit: usize,
}

impl Transactor {
    pub(super) fn new(
        stream: Stream,
        changes: Arc<ChangeReader>,
        call_timeout: Duration,
        leased: bool,
    ) -> Self {
        Self {
            stream,
            changes,
            call_timeout,
            leased,
            held: None,
            partial_triggers: true,
            apart: 0,
            head: Seq(0),
            id: new_uuid_v7().into(),
            number: 0,
            settled: false,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.call_timeout
    }

    /// Begins a transaction that fails unless we may write.
    pub(super) fn transaction(&self, inline: bool) -> Result<Transaction, Failure> {
        if self.leased && self.held.is_none() {
            return Err(Failure::Fenced);
        }
        let mut batch = Batch::new();
        let begin = batch.run(When::Always, "BEGIN IMMEDIATE", &[])?;
        let fence = self.fence(&mut batch, self.held)?;
        batch.run(When::Undone(begin, fence), "ROLLBACK", &[])?;
        // What somebody else wrote since the last commit is a commit of its own.
        batch.run(When::Open, CLOSE_COMMIT, &[])?;
        Ok(Transaction {
            batch,
            begin: Some(begin),
            fence,
            renewed: None,
            inline,
        })
    }

    /// Goes on with a transaction that is open on the stream, to commit it.
    pub(super) fn last_part(&self) -> Result<Transaction, Failure> {
        let mut batch = Batch::new();
        let open = batch.run(When::Open, "SELECT 1", &[])?;
        let fence = self.fence(&mut batch, None)?;
        batch.run(When::Undone(open, fence), "ROLLBACK", &[])?;
        Ok(Transaction {
            batch,
            begin: None,
            fence,
            renewed: None,
            inline: false,
        })
    }

    /// Fails unless this is the next batch of the chain and, where it depends on the lease, the lease is ours.
    fn fence(&self, batch: &mut Batch, held: Option<Held>) -> Result<usize, Failure> {
        const NEXT: &str = "INSERT INTO _alyx_writers (id, batch, at) VALUES (?1, \
             (SELECT batch + 1 FROM _alyx_writers WHERE id = ?1 AND batch = ?2), unixepoch()) \
             ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, at = excluded.at";
        const NEXT_OF_HOLDER: &str = "INSERT INTO _alyx_writers (id, batch, at) VALUES (?1, \
             (SELECT batch + 1 FROM _alyx_writers WHERE id = ?1 AND batch = ?2 AND EXISTS \
             (SELECT 1 FROM _alyx_lease WHERE name = 'writer' AND epoch = ?3)), unixepoch()) \
             ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, at = excluded.at";
        let me = Value::Text(Arc::clone(&self.id));
        let number = Value::Int(self.number);
        match held {
            None => batch.run(When::Open, NEXT, &[me, number]),
            Some(held) => batch.run(When::Open, NEXT_OF_HOLDER, &[me, number, Value::Int(held.epoch)]),
        }
    }

    fn end(&self, transaction: &mut Transaction) -> Result<Ending, Failure> {
        let batch = &mut transaction.batch;
        let close = batch.run(When::Open, CLOSE_COMMIT, &[])?;
        let params = [integer(self.head), Value::Int(MAX_ENDS)];
        let ends = batch.rows(When::Worked(close), ENDS, &params)?;
        let changes = if transaction.inline {
            let params = [
                integer(self.head),
                Value::Int(i64::MAX),
                Value::Int(INLINE_CHANGES),
            ];
            Some(batch.rows(When::Worked(ends), CHANGES, &params)?)
        } else {
            None
        };
        let commit = batch.run(When::Worked(ends), "COMMIT", &[])?;
        batch.run(When::Open, "ROLLBACK", &[])?;
        Ok(Ending {
            close,
            ends,
            changes,
            commit,
        })
    }

    /// Sends the transaction and, where it is committed, reads back what it changed.
    pub(super) async fn commit(
        &mut self,
        mut transaction: Transaction,
    ) -> Result<(BatchReply, Committed), NotCommitted> {
        let ending = self.end(&mut transaction).map_err(NotCommitted::Failed)?;
        let deadline = self.deadline();
        self.settled = false;
        let reply = match self.stream.run(&transaction.batch, deadline, true).await {
            Ok(reply) => reply,
            Err(error) => return Err(self.settle_failed(error).await),
        };
        if !reply.worked(ending.commit) {
            self.settled = true;
            return Err(self.not_committed(reply, &transaction, &ending).await);
        }
        self.number += 1;
        self.settled = true;
        if let (Some(held), Some(renewed)) = (&mut self.held, transaction.renewed) {
            held.renewed = renewed;
        }
        let ends: Vec<Seq> = reply.ints(ending.ends).map(|end| position(Some(end))).collect();
        let mut reply = reply;
        let inline = ending.changes.and_then(|step| reply.take(step));
        let committed = self.read_back(ends, inline.map(|step| step.rows)).await;
        Ok((reply, committed))
    }

    async fn not_committed(
        &mut self,
        reply: BatchReply,
        transaction: &Transaction,
        ending: &Ending,
    ) -> NotCommitted {
        if let Some(error) = transaction.begin.and_then(|begin| reply.error(begin)) {
            return match from_server(error) {
                busy @ Failure::Sqlite { code: 5, .. } => NotCommitted::TryAgain(busy),
                failure => NotCommitted::Failed(failure),
            };
        }
        if reply.error(transaction.fence).is_some() {
            return self.fenced().await;
        }
        for step in [ending.close, ending.ends, ending.commit] {
            if let Some(error) = reply.error(step) {
                return NotCommitted::Failed(from_server(error));
            }
        }
        NotCommitted::Ended(reply)
    }

    /// What somebody else committed meanwhile, and that we can write at all.
    pub(super) async fn probe(&mut self) -> Result<Vec<Commit>, Failure> {
        self.ready().await?;
        let mut transaction = self.transaction(true)?;
        self.renew(&mut transaction)?;
        let triggers = transaction.batch.rows(When::Open, PARTIAL_TRIGGERS, &[])?;
        match self.commit(transaction).await {
            Ok((reply, committed)) => {
                self.partial_triggers = reply.int(triggers) != Some(0);
                Ok(committed.commits)
            }
            Err(NotCommitted::ReplyLost(committed)) => Ok(committed.commits),
            Err(NotCommitted::Failed(failure) | NotCommitted::TryAgain(failure)) => Err(failure),
            Err(NotCommitted::Ended(_)) => Err(Failure::TransactionLost),
        }
    }

    /// The batch was not the next one: either the lease is gone, or the chain must be taken up again.
    async fn fenced(&mut self) -> NotCommitted {
        self.settled = false;
        match self.take_up().await {
            Ok(()) => NotCommitted::TryAgain(Failure::Fenced),
            Err(failure) => NotCommitted::Failed(failure),
        }
    }

    /// Finds out what became of a batch that has no answer.
    async fn settle_failed(&mut self, error: BatchError) -> NotCommitted {
        let (failure, answered) = match error {
            BatchError::NotRun(failure) => {
                self.settled = true;
                return match failure {
                    Failure::StreamGone => NotCommitted::TryAgain(failure),
                    failure => NotCommitted::Failed(failure),
                };
            }
            BatchError::Refused(failure) => (failure, true),
            BatchError::Unknown(failure) => (failure, false),
        };
        let sent = (self.number + 1) % TAKE_UP;
        if !answered {
            self.stream.forget();
        }
        let until = Instant::now() + self.call_timeout;
        match self.take_up_until(until).await {
            // Also where the lease is gone by now: the batch may have been committed before it was.
            Ok(()) | Err(Failure::Fenced) if self.number % TAKE_UP == sent => {
                let position = self.head;
                match self.news_since(position).await {
                    Ok(committed) => NotCommitted::ReplyLost(committed),
                    Err(_) => NotCommitted::ReplyLost(Committed {
                        position,
                        commits: Vec::new(),
                    }),
                }
            }
            Ok(()) if answered => NotCommitted::Failed(failure),
            Ok(()) => NotCommitted::TryAgain(failure),
            Err(Failure::Fenced) => NotCommitted::Failed(Failure::Fenced),
            Err(_) => NotCommitted::Failed(Failure::OutcomeUnknown),
        }
    }

    /// Takes up the chain where that must be done before the next batch.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        if self.settled {
            return Ok(());
        }
        self.take_up().await
    }

    /// Moves the chain on, so that no earlier batch can be carried out any more. Fails as fenced, having done that,
    /// where the lease is gone.
    async fn take_up(&mut self) -> Result<(), Failure> {
        const EPOCH: &str = "SELECT epoch FROM _alyx_lease WHERE name = 'writer'";
        let me = Value::Text(Arc::clone(&self.id));
        let mut batch = Batch::new();
        let begin = batch.run(When::Always, "BEGIN IMMEDIATE", &[])?;
        let moved = batch.rows(When::Worked(begin), MOVE_ON, &[me, Value::Int(TAKE_UP)])?;
        let epoch = batch.rows(When::Worked(moved), EPOCH, &[])?;
        let triggers = batch.rows(When::Worked(epoch), PARTIAL_TRIGGERS, &[])?;
        let commit = batch.run(When::Worked(triggers), "COMMIT", &[])?;
        batch.run(When::Open, "ROLLBACK", &[])?;
        let deadline = self.deadline();
        let reply = change_log::run(&mut self.stream, &batch, deadline).await?;
        change_log::expect(&reply, &[begin, moved, epoch, triggers, commit])?;
        self.partial_triggers = reply.int(triggers) != Some(0);
        self.number = reply.int(moved).ok_or(Failure::TransactionLost)?;
        self.settled = true;
        if let Some(held) = self.held
            && reply.int(epoch) != Some(held.epoch)
        {
            self.held = None;
            return Err(Failure::Fenced);
        }
        Ok(())
    }

    /// As [`Self::take_up`], again and again until it works or `until` has passed.
    pub(super) async fn take_up_until(&mut self, until: Instant) -> Result<(), Failure> {
        loop {
            match self.ready().await {
                Err(failure)
                    if !failure.is_callers_fault()
                        && !matches!(failure, Failure::Fenced | Failure::Unauthorized) =>
                {
                    if Instant::now() + PAUSE >= until {
                        return Err(failure);
                    }
                }
                other => return other,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The commits after the last one that we know, and moves the head.
    pub(super) async fn news_since(&mut self, after: Seq) -> Result<Committed, Failure> {
        let params = [integer(after), Value::Int(MAX_ENDS)];
        let deadline = self.deadline();
        let step = change_log::rows(&mut self.stream, ENDS, &params, deadline).await?;
        let ends = step
            .rows
            .iter()
            .filter_map(|row| row.first())
            .map(|cell| position(cell.0.as_int()))
            .collect();
        self.head = after;
        Ok(self.read_back(ends, None).await)
    }

    /// The changes of the commits that end at `ends`, as far as they were not read in the same call.
    async fn read_back(&mut self, ends: Vec<Seq>, inline: Option<Vec<Vec<super::hrana::Cell>>>) -> Committed {
        let before = self.head;
        let Some(last) = ends.last().copied() else {
            return Committed {
                position: before,
                commits: Vec::new(),
            };
        };
        self.head = last;
        let mut committed = Committed {
            position: last,
            commits: Vec::new(),
        };
        if last.0 - before.0 > MAX_READ_BACK {
            tracing::warn!(
                changes = last.0 - before.0,
                "so many changes at once are not published; followers read them from the log"
            );
            return committed;
        }
        let read = async {
            let mut changes = inline
                .into_iter()
                .flatten()
                .map(|row| self.changes.change(row))
                .collect::<Result<Vec<_>, Failure>>()?;
            let after = changes.last().map_or(before, |change| change.seq);
            if after < last {
                let deadline = Instant::now() + self.call_timeout;
                let rest = self
                    .changes
                    .read(&mut self.stream, (after, last), deadline)
                    .await?;
                changes.extend(rest);
            }
            Ok::<_, Failure>(changes)
        };
        match read.await {
            Ok(changes) => committed.commits = change_log::commits(changes, &ends),
            Err(failure) => tracing::warn!(
                error = %failure,
                "committed changes could not be read back; followers read them from the log"
            ),
        }
        committed
    }

    /// Learns where the log is.
    pub(super) async fn find_head(&mut self) -> Result<(), Failure> {
        let deadline = self.deadline();
        let step = change_log::rows(&mut self.stream, HEAD, &[], deadline).await?;
        let head = step.rows.first().and_then(|row| row.first());
        self.head = position(head.and_then(|cell| cell.0.as_int()));
        Ok(())
    }
}
