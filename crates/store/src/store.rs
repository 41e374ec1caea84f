//! The store: one interface in front of the backends.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Result, Seq, Statement, Value};

use crate::embedded::{Alteration, Embedded, EmbeddedOptions};
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

    /// Where the database is: a path, for people.
    pub fn location(&self) -> &Path {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.path(),
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
    /// `WRITE_TIMEOUT`, `WRITE_QUEUE_FULL`, `STORAGE_FULL`, `DATABASE_BUSY`, `STORE_CLOSED`.
    pub async fn write(&self, write: Write) -> Result<WriteReply> {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.write(write).await,
        }
    }

    /// Runs a read: at most 10,000 rows and 64 MiB.
    ///
    /// # Errors
    ///
    /// `QUERY_TIMEOUT`, `RESULT_TOO_LARGE`, `READ_QUEUE_FULL`, `STATEMENT_NOT_READ_ONLY`, `STORE_CLOSED`.
    pub async fn read(&self, read: Read) -> Result<ReadReply> {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.read(read).await,
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
        }
    }

    /// The change log's position now, with what other processes wrote.
    pub async fn position(&self) -> Result<Seq> {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.position().await,
        }
    }

    /// Reads whole commits after `after`: as many as have `max_changes` changes together (at most 10,000), but at
    /// least one. Where `after` lies inside a commit, its rest is the first.
    pub async fn read_log(&self, after: Seq, max_changes: usize) -> Result<LogBatch> {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.read_log(after, max_changes).await,
        }
    }

    /// Takes no more work, carries out what is queued, and releases the file. Other clones get `STORE_CLOSED`.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.close().await,
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
        }
    }

    /// What it has done and how it stands. Looks at two files' sizes, so not for a request path.
    pub fn stats(&self) -> StoreStats {
        match &self.backend {
            Backend::Embedded(embedded) => embedded.stats(),
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
