//! The store: one interface in front of the backends.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Result, Seq, Statement, Value};

use crate::alteration::Alteration;
use crate::cluster::{Cluster, ClusterOptions, WriterStatus};
use crate::embedded::{Embedded, EmbeddedOptions};
use crate::failure::writer_fenced;
use crate::remote::{Remote, RemoteOptions, WriteId};
use crate::stats::StoreStats;
use crate::{Commit, LogBatch, Read, ReadCost, ReadReply, Write, WriteReply};

/// How long the health check waits for the database.
const PING_DEADLINE: Duration = Duration::from_secs(2);

/// A database. Cheap to clone; all clones are the same database.
///
/// Once the last clone is dropped it is closed: what was queued is carried out, and the dropping thread waits for it.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
}

#[derive(Clone)]
enum Backend {
    Embedded(Arc<Embedded>),
    Remote(Arc<Remote>),
    Cluster(Arc<Cluster>),
}

impl Store {
    /// Opens a database file that this process alone serves, and creates it where there is none.
    ///
    /// `on_commit` is called on the writer's thread, in the order of positions, once for every commit that changed
    /// something in the log. Writers wait while it runs, so it hands over and returns.
    ///
    /// # Errors
    ///
    /// `DATABASE_IN_USE` (another server has it), `DATABASE_UNWRITABLE`, `NOT_A_DATABASE`, `DATABASE_FORMAT_NEWER`,
    /// `DATABASE_UNUSABLE`: the messages say what to do.
    pub fn open_embedded(
        options: EmbeddedOptions,
        on_commit: impl Fn(Commit) + Send + Sync + 'static,
    ) -> Result<Self> {
        let embedded = Embedded::open(&options, on_commit)?;
        Ok(Self {
            backend: Backend::Embedded(Arc::new(embedded)),
        })
    }

    /// Connects to a libSQL server on whose database this process alone writes, and creates the store's tables where
    /// there are none. Dropping the last clone does not wait: close it first.
    ///
    /// `on_commit` is called as for [`Store::open_embedded`].
    ///
    /// # Errors
    ///
    /// `DATABASE_URL_INVALID`, `DATABASE_TOKEN_INVALID`, `DATABASE_UNAVAILABLE`, `DATABASE_UNAUTHORIZED`,
    /// `DATABASE_FORMAT_NEWER`: the messages say what to do.
    pub async fn open_remote(
        options: RemoteOptions,
        on_commit: impl Fn(Commit) + Send + Sync + 'static,
    ) -> Result<Self> {
        let remote = Remote::open(&options, false, on_commit).await?;
        Ok(Self {
            backend: Backend::Remote(Arc::new(remote)),
        })
    }

    /// Connects to a libSQL server whose database several nodes use: whoever holds the writer's lease writes, the others
    /// forward their writes to it. Mount [`crate::WriterService`] at the advertised address.
    ///
    /// `on_commit` is called as for [`Store::open_embedded`], but only while this node holds the lease; after it took
    /// it, also for the commits of the last seconds, which the holder before may not have published.
    ///
    /// # Errors
    ///
    /// As for [`Store::open_remote`].
    pub async fn open_cluster(
        options: ClusterOptions,
        on_commit: impl Fn(Commit) + Send + Sync + 'static,
    ) -> Result<Self> {
        let cluster = Cluster::open(options, on_commit).await?;
        Ok(Self {
            backend: Backend::Cluster(Arc::new(cluster)),
        })
    }

    /// Who writes, as far as this node knows; nothing where the database is this process's own.
    pub fn writer(&self) -> Option<WriterStatus> {
        match &self.backend {
            Backend::Embedded(_) | Backend::Remote(_) => None,
            Backend::Cluster(cluster) => Some(cluster.writer()),
        }
    }

    /// Whether this node may be the writer from now on. One that is gives that up, after the writes that it has begun;
    /// the next ones wait for another node to take it. Without effect where the database is this process's own.
    pub fn set_may_write(&self, may_write: bool) {
        match &self.backend {
            Backend::Embedded(_) | Backend::Remote(_) => {}
            Backend::Cluster(cluster) => cluster.set_may_hold(may_write),
        }
    }

    /// Carries out another node's write, at most once for its id.
    ///
    /// # Errors
    ///
    /// As for [`Store::write`], and `WRITER_FENCED` where this node does not hold the lease.
    pub(crate) async fn accept_write(&self, write: Write, id: WriteId) -> Result<WriteReply> {
        match &self.backend {
            Backend::Embedded(_) | Backend::Remote(_) => Err(writer_fenced()),
            Backend::Cluster(cluster) => cluster.accept(write, id).await,
        }
    }

    /// Where the database is: a path or a URL, for people.
    pub fn location(&self) -> &Path {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.path(),
            Backend::Remote(remote) => remote.location(),
            Backend::Cluster(cluster) => cluster.location(),
        }
    }

    /// Carries out a write: all its steps or none. When it returns, the disk has it.
    ///
    /// A write whose future is dropped before the writer takes it is not carried out; afterwards it is.
    ///
    /// # Errors
    ///
    /// `UNIQUE_VIOLATION`, `FOREIGN_KEY_VIOLATION`, `REQUIRED_FIELD_MISSING`, `CHECK_CONSTRAINT_FAILED`,
    /// `INVALID_TYPE`, `INVALID_TEXT`, `DOCUMENT_NOT_FOUND` (see [`crate::Expect::Row`]), `RESULT_TOO_LARGE`,
    /// `WRITE_TIMEOUT`, `WRITE_QUEUE_FULL`, `STORAGE_FULL`, `DATABASE_BUSY`, `STORE_CLOSED`. On a server also
    /// `DATABASE_UNAVAILABLE` (nothing has happened) and `WRITE_OUTCOME_UNKNOWN`; in a cluster `WRITER_UNAVAILABLE`
    /// (nothing has happened) and `WRITE_REPLY_LOST` (it was carried out before the node that did it was lost, and
    /// what its `RETURNING` gave is gone).
    pub async fn write(&self, write: Write) -> Result<WriteReply> {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.write(write).await,
            Backend::Remote(remote) => remote.write(write, None).await,
            Backend::Cluster(cluster) => cluster.write(write).await,
        }
    }

    /// Runs a read: at most 10,000 rows and 64 MiB (on a server as much as that answers at once, 10 MB by default).
    ///
    /// # Errors
    ///
    /// `QUERY_TIMEOUT`, `RESULT_TOO_LARGE`, `READ_QUEUE_FULL`, `STATEMENT_NOT_READ_ONLY`, `STORE_CLOSED`.
    pub async fn read(&self, read: Read) -> Result<ReadReply> {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.read(read).await,
            Backend::Remote(remote) => remote.read(read).await,
            Backend::Cluster(cluster) => cluster.read(read).await,
        }
    }

    /// Changes the tables: all steps or none, alone in their commit. Foreign keys are checked at the end, over all
    /// tables. A step without parameters may hold several statements; no step may begin or end a transaction.
    /// Returns the log's position afterwards.
    ///
    /// # Errors
    ///
    /// As for [`Store::write`]; a defective statement is an internal error with the database's message as source.
    pub async fn migrate(&self, steps: Vec<Statement>) -> Result<Seq> {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.migrate(steps).await,
            Backend::Remote(remote) => remote.migrate(steps).await,
            Backend::Cluster(cluster) => cluster.migrate(steps).await,
        }
    }

    /// Changes the tables by a function that may look at them between its steps: as [`Store::migrate`], and undone
    /// where the function fails.
    ///
    /// # Errors
    ///
    /// As for [`Store::migrate`], and the function's own.
    pub async fn alter(
        &self,
        work: impl FnOnce(&mut Alteration<'_>) -> Result<()> + Send + 'static,
    ) -> Result<Seq> {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.alter(Box::new(work)).await,
            Backend::Remote(remote) => remote.alter(Box::new(work)).await,
            Backend::Cluster(cluster) => cluster.alter(Box::new(work)).await,
        }
    }

    /// Whether other processes write to the database too.
    pub fn is_shared(&self) -> bool {
        match &self.backend {
            Backend::Embedded(_) | Backend::Remote(_) => false,
            Backend::Cluster(_) => true,
        }
    }

    /// The change log's position now, with what other processes wrote.
    pub async fn position(&self) -> Result<Seq> {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.position().await,
            Backend::Remote(remote) => remote.position().await,
            Backend::Cluster(cluster) => cluster.position().await,
        }
    }

    /// Reads whole commits after `after`: as many as have `max_changes` changes together (at most 10,000), but at
    /// least one. Where `after` lies inside a commit, its rest is the first.
    pub async fn read_log(&self, after: Seq, max_changes: usize) -> Result<LogBatch> {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.read_log(after, max_changes).await,
            Backend::Remote(remote) => remote.read_log(after, max_changes).await,
            Backend::Cluster(cluster) => cluster.read_log(after, max_changes).await,
        }
    }

    /// Takes no more work, carries out what is queued, and releases the file. Other clones get `STORE_CLOSED`.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.close().await,
            Backend::Remote(remote) => remote.close().await,
            Backend::Cluster(cluster) => cluster.close().await,
        }
    }

    /// Asks a reader for nothing and returns how long that took.
    pub async fn ping(&self) -> Result<Duration> {
        let began = Instant::now();
        let read = Read {
            statements: vec![Statement::new("SELECT 1", Vec::<Value>::new())],
            cost: ReadCost::Scan,
            deadline: began + PING_DEADLINE,
        };
        self.read(read).await.map(|_| began.elapsed())
    }

    /// Whether the last group of writes could not be stored.
    pub(crate) fn storage_failing(&self) -> bool {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.storage_failing(),
            Backend::Remote(remote) => remote.storage_failing(),
            Backend::Cluster(cluster) => cluster.storage_failing(),
        }
    }

    /// What it has done and how it stands. Looks at two files' sizes, so not for a request path. On a server the sizes
    /// are not known and `checkpoints` counts the cuts of the change log.
    pub fn stats(&self) -> StoreStats {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.stats(),
            Backend::Remote(remote) => remote.stats(),
            Backend::Cluster(cluster) => cluster.stats(),
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("location", &self.location())
            .finish()
    }
}
