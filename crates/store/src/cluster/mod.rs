//! Several processes over one database on a server: one of them writes, the others have it write for them.
//!
//! The writer is whoever holds the lease, a row in the database that must be renewed. The lease is only about who
//! should write: that a former holder cannot write any more is seen to by every batch, which checks the lease's epoch
//! in its own transaction. So a node that cannot reach the holder may take the lease from it.
//!
//! **Invariants:** a forwarded write has an id that is stored with it, so that it is carried out at most once, however
//! often it is sent and to whom; commits are handed to `on_commit` by the holder alone, in the order of positions.

mod convert;
mod forward;
mod keeper;
mod service;
mod silence;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result, Seq, Statement, new_uuid_v7};
use alyx_service::tasks::{OnEnd, Tasks};
use alyx_service::trace;
use async_trait::async_trait;
use tokio::sync::{Notify, watch};

pub use forward::GrpcForwarder;
use keeper::{Keeper, View};
use service::Recent;
pub use service::WriterService;
use silence::Silence;

use crate::alteration::Work;
use crate::failure::{Failure, writer_fenced};
use crate::remote::{Remote, RemoteOptions, Terms, WriteId};
use crate::stats::StoreStats;
use crate::{Commit, LogBatch, Read, ReadReply, Write, WriteReply};

/// How long a lease lasts.
const LEASE: Duration = Duration::from_secs(3);
/// Pauses between two tries to reach the writer.
const PAUSE: Duration = Duration::from_millis(50);
/// A forwarded write that has no answer for so long is a sign that the holder cannot be reached.
const UNANSWERED: Duration = Duration::from_secs(2);
/// How long closing waits for the background.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Takes a write to the node that holds the lease.
#[async_trait]
pub trait WriteForwarder: Send + Sync {
    /// Has the node at `address` carry out the write, at most once for this `id`, and returns its answer.
    ///
    /// # Errors
    ///
    /// As for [`crate::Store::write`]; `WRITER_FENCED` where that node does not hold the lease (nothing has happened);
    /// `Unavailable` or `DeadlineExceeded` of any other code where nobody knows what has happened.
    async fn forward(&self, address: &str, write: Write, id: WriteId) -> Result<WriteReply>;
}

/// How a store in a cluster is set up.
#[derive(Clone)]
pub struct ClusterOptions {
    /// The database.
    pub remote: RemoteOptions,
    /// This node's name, another one after each start.
    pub node_id: String,
    /// `host:port` where the other nodes reach this one's [`WriterService`].
    pub advertise: String,
    /// How long the lease lasts unless renewed; renewed three times as often.
    pub lease: Duration,
    /// Whether this node ever takes the lease. One that does not only forwards.
    pub may_hold: bool,
    /// How writes get to the holder.
    pub forwarder: Arc<dyn WriteForwarder>,
}

impl ClusterOptions {
    /// The defaults: a lease of 3 s, which this node may take.
    pub fn new(
        remote: RemoteOptions,
        node_id: impl Into<String>,
        advertise: impl Into<String>,
        forwarder: Arc<dyn WriteForwarder>,
    ) -> Self {
        Self {
            remote,
            node_id: node_id.into(),
            advertise: advertise.into(),
            lease: LEASE,
            may_hold: true,
            forwarder,
        }
    }
}

/// Who writes, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriterStatus {
    /// Nobody at the moment.
    Nobody,
    /// This node.
    Here {
        /// Counts the holders.
        epoch: i64,
    },
    /// Another one.
    Elsewhere {
        /// Where it is reached.
        address: String,
        /// Counts the holders.
        epoch: i64,
    },
}

/// A database on a server that several processes use.
pub(crate) struct Cluster {
    remote: Arc<Remote>,
    view: watch::Receiver<View>,
    /// Wakes the keeper, to look again who has the lease.
    look: Arc<Notify>,
    may_hold: watch::Sender<bool>,
    forwarder: Arc<dyn WriteForwarder>,
    /// Whether the holder can be reached.
    silence: Arc<Silence>,
    recent: Recent,
    tasks: Tasks,
}

impl Cluster {
    pub(crate) async fn open(
        options: ClusterOptions,
        on_commit: impl Fn(Commit) + Send + Sync + 'static,
    ) -> Result<Self> {
        let remote = Arc::new(Remote::open(&options.remote, true, on_commit).await?);
        let tasks = Tasks::new();
        let look = Arc::new(Notify::new());
        let (sender, view) = watch::channel(View::default());
        let may_hold = watch::Sender::new(options.may_hold);
        let silence = Arc::new(Silence::default());
        let keeper = Keeper {
            remote: Arc::clone(&remote),
            terms: Terms {
                // A node that starts again under its old name is another holder.
                holder: format!("{} {}", options.node_id, new_uuid_v7()),
                address: options.advertise,
                ttl: options.lease,
                from: None,
            },
            may_hold: may_hold.subscribe(),
            view: sender,
            look: Arc::clone(&look),
            silence: Arc::clone(&silence),
        };
        let stop = tasks.cancelled();
        tasks.spawn("store-lease", OnEnd::StopAll, async move {
            stop.run_until_cancelled(keeper.run()).await;
        });
        Ok(Self {
            remote,
            view,
            look,
            may_hold,
            forwarder: options.forwarder,
            silence,
            recent: Recent::default(),
            tasks,
        })
    }

    pub(crate) fn location(&self) -> &Path {
        self.remote.location()
    }

    pub(crate) fn writer(&self) -> WriterStatus {
        self.view.borrow().status.clone()
    }

    pub(crate) fn set_may_hold(&self, may_hold: bool) {
        self.may_hold
            .send_if_modified(|now| std::mem::replace(now, may_hold) != may_hold);
    }

    /// Carries out a write here or has it carried out, for as long as its deadline allows.
    pub(crate) async fn write(&self, write: Write) -> Result<WriteReply> {
        let deadline = write.deadline;
        let mut id: Option<WriteId> = None;
        // Whether a try may have been carried out without our knowledge.
        let mut unsure = false;
        loop {
            let status = self.view.borrow().status.clone();
            let outcome = match status {
                WriterStatus::Nobody => None,
                WriterStatus::Here { .. } => {
                    let outcome = self.remote.write(write.clone(), id.clone()).await;
                    if outcome
                        .as_ref()
                        .is_err_and(|error| error.code() == "STORE_CLOSED")
                    {
                        return outcome;
                    }
                    Some(outcome)
                }
                WriterStatus::Elsewhere { address, epoch } => {
                    let id = id.get_or_insert_with(|| new_uuid_v7().into());
                    let forwarded = self.forward(&address, epoch, write.clone(), Arc::clone(id));
                    Some(forwarded.await)
                }
            };
            match outcome {
                Some(Ok(reply)) => return Ok(reply),
                Some(Err(error)) => match retry(&error, id.is_some()) {
                    Retry::No => return Err(error),
                    Retry::NothingHappened => {}
                    Retry::Unsure => unsure = true,
                },
                None => {}
            }
            self.look.notify_one();
            let mut view = self.view.clone();
            let pause = deadline.min(Instant::now() + PAUSE);
            let _ = tokio::time::timeout_at(pause.into(), view.changed()).await;
            if Instant::now() >= deadline {
                return Err(if unsure {
                    Failure::OutcomeUnknown.into_error()
                } else {
                    writer_unavailable()
                });
            }
        }
    }

    /// Has the holder of that epoch carry it out. One that says nothing is given up once another one is the holder.
    async fn forward(&self, address: &str, epoch: i64, write: Write, id: WriteId) -> Result<WriteReply> {
        let (began, deadline) = (Instant::now(), write.deadline);
        let mut forwarded = pin!(self.forwarder.forward(address, write, id));
        let unknown = || Err(Failure::OutcomeUnknown.into_error());
        let soon = deadline.min(began + UNANSWERED);
        let answer = match tokio::time::timeout_at(soon.into(), forwarded.as_mut()).await {
            Ok(answer) => answer,
            Err(_) => {
                self.silence.goes_on(epoch, began);
                self.look.notify_one();
                tokio::select! {
                    answer = forwarded => answer,
                    () = self.replaced(epoch) => return unknown(),
                    () = tokio::time::sleep_until(deadline.into()) => return unknown(),
                }
            }
        };
        match &answer {
            Err(error) if error.code() == "PEER_UNAVAILABLE" => self.silence.goes_on(epoch, began),
            Ok(_) | Err(_) => self.silence.ended(),
        }
        answer
    }

    /// Waits until the holder of that epoch has it no longer.
    async fn replaced(&self, epoch: i64) {
        let holds =
            |view: &View| matches!(view.status, WriterStatus::Elsewhere { epoch: now, .. } if now == epoch);
        // Fails when the keeper has ended; then there is no other holder to be seen.
        if self.view.clone().wait_for(|view| !holds(view)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Carries out another node's write, where the lease is ours.
    pub(crate) async fn accept(&self, write: Write, id: WriteId) -> Result<WriteReply> {
        if !matches!(self.writer(), WriterStatus::Here { .. }) {
            return Err(writer_fenced());
        }
        let remote = Arc::clone(&self.remote);
        let key = Arc::clone(&id);
        let work = async move { remote.write(write, Some(id)).await };
        // It is carried out by a task of its own.
        let work = trace::within(trace::current(), work);
        self.recent.once(&key, work, &self.tasks).await
    }

    pub(crate) async fn migrate(&self, steps: Vec<Statement>) -> Result<Seq> {
        self.remote.migrate(steps).await
    }

    pub(crate) async fn alter(&self, work: Work) -> Result<Seq> {
        self.remote.alter(work).await
    }

    pub(crate) async fn read(&self, read: Read) -> Result<ReadReply> {
        self.remote.read(read).await
    }

    pub(crate) async fn position(&self) -> Result<Seq> {
        self.remote.position().await
    }

    pub(crate) async fn read_log(&self, after: Seq, max_changes: usize) -> Result<LogBatch> {
        self.remote.read_log(after, max_changes).await
    }

    pub(crate) async fn close(&self) {
        self.tasks.stop(STOP_WITHIN).await;
        self.remote.close().await;
    }

    pub(crate) fn storage_failing(&self) -> bool {
        self.remote.storage_failing()
    }

    pub(crate) fn stats(&self) -> StoreStats {
        self.remote.stats()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.cancelled().cancel();
    }
}

/// What an error says about another try.
enum Retry {
    /// It is the answer.
    No,
    /// Another try may work, and this one did nothing.
    NothingHappened,
    /// Another try may work; this one may have worked, too.
    Unsure,
}

/// Only a write with an id may be sent again after one that may have worked.
fn retry(error: &Error, has_id: bool) -> Retry {
    const FINAL: [&str; 6] = [
        "WRITE_QUEUE_FULL",
        "STORAGE_FULL",
        "DATABASE_BUSY",
        "DATABASE_UNAVAILABLE",
        "DATABASE_UNAUTHORIZED",
        "WRITE_TIMEOUT",
    ];
    match error.kind() {
        _ if FINAL.contains(&error.code()) => Retry::No,
        ErrorKind::Unavailable if matches!(error.code(), "WRITER_FENCED" | "STORE_CLOSED") => {
            Retry::NothingHappened
        }
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded if has_id => Retry::Unsure,
        _ => Retry::No,
    }
}

/// Nobody could be found who writes.
fn writer_unavailable() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "WRITER_UNAVAILABLE",
        "no server of the cluster could take the write at the moment; it was not carried out: try again",
    )
    .with_retry_after(Duration::from_secs(1))
}
