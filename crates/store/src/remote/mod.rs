//! The remote backend: a libSQL server, one stream that writes it, a few that read it.
//!
//! The server does what it is told by many writers at once very slowly, and at worst stops doing anything; so all
//! writes of a process go through one stream, as batches. Every call has a deadline.

mod alter;
mod change_log;
mod group;
mod hrana;
mod http;
mod layout;
mod lease;
mod merge;
mod options;
mod plan;
mod queue;
mod readers;
mod sql;
mod stream;
mod transactor;
mod upkeep;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use alyx_core::{Error, Result, Seq, Statement, TraceContext, Value};
use alyx_service::trace;
use tokio::sync::{oneshot, watch};

use change_log::ChangeReader;
use group::{Pending, Ticket};
pub(crate) use lease::{LeaseRow, Terms};
pub use options::RemoteOptions;
pub use plan::WriteId;
pub(crate) use plan::size_of_value;
use queue::JobQueue;
use readers::Readers;
use transactor::Transactor;
use writer::{Job, OnCommit, Writer};

use crate::alteration::Work;
use crate::failure::{
    Failure, aborted, closed, database_unavailable, too_many_statements, write_queue_full, write_timeout,
};
use crate::queue::Rejected;
use crate::stats::{Counters, StoreStats};
use crate::{Commit, LogBatch, Read, ReadReply, Write, WriteReply};

/// Steps of one write at most.
const MAX_STEPS: usize = 4096;
/// Statements of one read at most.
const MAX_STATEMENTS: usize = 64;
/// How long reading the log and the position may take.
const LOG_DEADLINE: Duration = Duration::from_secs(10);
/// How long looking at the lease may take.
const LEASE_DEADLINE: Duration = Duration::from_secs(2);

/// A database on a server. When dropped, what was queued is still carried out in the background.
pub(crate) struct Remote {
    /// The server's address, for people.
    location: PathBuf,
    queue: Arc<JobQueue<Job>>,
    readers: Readers,
    counters: Arc<Counters>,
    call_timeout: Duration,
    /// The epoch of the lease, while it is ours.
    holding: watch::Receiver<Option<i64>>,
    /// Its sender is held by the writer's thread: it fails once that has ended.
    running: watch::Receiver<()>,
}

impl Remote {
    /// Connects to the server. Where `leased`, nothing is written until the lease is taken.
    pub(crate) async fn open(
        options: &RemoteOptions,
        leased: bool,
        on_commit: impl Fn(Commit) + Send + Sync + 'static,
    ) -> Result<Self> {
        let endpoint = http::Endpoint::new(options)?;
        let location = PathBuf::from(options.url.trim_end_matches('/'));
        let counters = Arc::new(Counters::default());
        let changes = Arc::new(ChangeReader::default());
        let reading = http::Http::new(endpoint.clone())?;
        let readers = Readers::new(
            reading,
            (options.readers, options.read_queue),
            Arc::clone(&changes),
            Arc::clone(&counters),
        )?;
        let queue = Arc::new(JobQueue::new(options.write_queue));
        let (holding, held) = watch::channel(None);
        let (alive, running) = watch::channel(());
        let stream = stream::Stream::new(http::Http::new(endpoint)?);
        let start = Start {
            options: options.clone(),
            database: Transactor::new(stream, changes, options.call_timeout, leased),
            queue: Arc::clone(&queue),
            on_commit: Box::new(on_commit),
            counters: Arc::clone(&counters),
            holding,
        };
        start.spawn(alive).await?;
        Ok(Self {
            location,
            queue,
            readers,
            counters,
            call_timeout: options.call_timeout,
            holding: held,
            running,
        })
    }

    pub(crate) fn location(&self) -> &Path {
        &self.location
    }

    pub(crate) async fn write(&self, write: Write, id: Option<WriteId>) -> Result<WriteReply> {
        if write.steps.len() > MAX_STEPS {
            return Err(too_many_statements(MAX_STEPS, write.steps.len()));
        }
        let deadline = write.deadline;
        if deadline <= Instant::now() {
            return Err(write_timeout());
        }
        let facts = write
            .steps
            .iter()
            .map(|step| sql::facts(&step.statement.sql).map_err(Failure::Refused))
            .collect::<Result<Vec<_>, Failure>>()
            .map_err(Failure::into_error)?;
        for step in &write.steps {
            check_values(&step.statement).map_err(Failure::into_error)?;
        }
        let ticket = Arc::new(Ticket::default());
        let (reply, mut answer) = oneshot::channel();
        self.enqueue(Job::Write(Pending {
            write,
            facts,
            id,
            trace: trace::current().filter(TraceContext::is_sampled),
            ticket: Arc::clone(&ticket),
            reply,
        }))?;
        if let Ok(answer) = tokio::time::timeout_at(deadline.into(), &mut answer).await {
            return answer.unwrap_or_else(|_| Err(aborted()));
        }
        if ticket.abandon() {
            return Err(if self.storage_failing() {
                database_unavailable()
            } else {
                write_timeout()
            });
        }
        // It is on its way, and is not waited for without end: sending it and settling it are bounded.
        let patience = 4 * self.call_timeout;
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(aborted())),
            Err(_) => Err(Failure::OutcomeUnknown.into_error()),
        }
    }

    pub(crate) async fn migrate(&self, steps: Vec<Statement>) -> Result<Seq> {
        if steps.len() > MAX_STEPS {
            return Err(too_many_statements(MAX_STEPS, steps.len()));
        }
        self.alter(Box::new(move |tables| {
            for step in &steps {
                if step.params.is_empty() {
                    tables.run(&step.sql)?;
                } else {
                    tables.query(step)?;
                }
            }
            Ok(())
        }))
        .await
    }

    pub(crate) async fn alter(&self, work: Work) -> Result<Seq> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Job::Alter { work, reply })?;
        answer.await.unwrap_or_else(|_| Err(aborted()))
    }

    pub(crate) async fn read(&self, read: Read) -> Result<ReadReply> {
        if read.statements.len() > MAX_STATEMENTS {
            return Err(too_many_statements(MAX_STATEMENTS, read.statements.len()));
        }
        self.readers.read(read).await
    }

    pub(crate) async fn position(&self) -> Result<Seq> {
        self.readers.head(Instant::now() + LOG_DEADLINE).await
    }

    pub(crate) async fn read_log(&self, after: Seq, max_changes: usize) -> Result<LogBatch> {
        let deadline = Instant::now() + LOG_DEADLINE;
        self.readers.log(after, max_changes, deadline).await
    }

    /// The lease as it is in the database.
    pub(crate) async fn lease(&self) -> Result<Option<LeaseRow>> {
        self.readers.lease(Instant::now() + LEASE_DEADLINE).await
    }

    /// Takes the lease where nobody has it; `false` where somebody has.
    pub(crate) async fn acquire(&self, terms: Terms) -> Result<bool> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Job::Acquire { terms, reply })?;
        answer.await.unwrap_or_else(|_| Err(aborted()))
    }

    /// Gives the lease back, where it is ours, after the writes that were queued before.
    pub(crate) async fn release(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Job::Release { reply })?;
        answer.await.map_err(|_| aborted())
    }

    /// The epoch of the lease, while it is ours.
    pub(crate) fn holding(&self) -> watch::Receiver<Option<i64>> {
        self.holding.clone()
    }

    pub(crate) async fn close(&self) {
        self.queue.close();
        self.readers.close().await;
        let mut running = self.running.clone();
        // Fails once the thread has ended; nothing is ever sent.
        while running.changed().await.is_ok() {}
    }

    pub(crate) fn storage_failing(&self) -> bool {
        self.counters.storage_failing.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> StoreStats {
        StoreStats {
            write_queue: self.queue.len(),
            read_queue: self.readers.waiting(),
            readers_busy: self.readers.busy(),
            readers: self.readers.streams(),
            ..self.counters.snapshot()
        }
    }

    fn enqueue(&self, job: Job) -> Result<()> {
        self.queue.push(job).map_err(|rejected| match rejected {
            Rejected::Full(_) => {
                Counters::add(&self.counters.failed_writes, 1);
                write_queue_full()
            }
            Rejected::Closed(_) => closed(),
        })
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.queue.close();
        self.readers.stop();
    }
}

/// What the protocol cannot carry would spoil the batch of all the others.
fn check_values(statement: &Statement) -> Result<(), Failure> {
    for (index, value) in statement.params.iter().enumerate() {
        match value {
            Value::Text(text) if text.as_bytes().contains(&0) => return Err(Failure::NulInText(index + 1)),
            Value::Float(float) if !float.is_finite() => {
                return Err(Failure::Driver(format!("parameter {} is infinite", index + 1)));
            }
            Value::Null | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Blob(_) => {}
        }
    }
    Ok(())
}

/// What the writer's thread needs.
struct Start {
    options: RemoteOptions,
    database: Transactor,
    queue: Arc<JobQueue<Job>>,
    on_commit: OnCommit,
    counters: Arc<Counters>,
    holding: watch::Sender<Option<i64>>,
}

impl Start {
    /// Starts the thread and waits until it has found the database in order.
    async fn spawn(self, alive: watch::Sender<()>) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::internal)?;
        let (ready, opened) = oneshot::channel();
        thread::Builder::new()
            .name("alyx-store-writer".to_owned())
            .spawn(move || {
                self.run(runtime, ready);
                drop(alive);
            })
            .map_err(Error::internal)?;
        opened.await.unwrap_or_else(|_| Err(aborted()))
    }

    fn run(mut self, runtime: tokio::runtime::Runtime, ready: oneshot::Sender<Result<()>>) {
        let deadline = Instant::now() + self.options.open_timeout;
        let prepared = runtime.block_on(async {
            let shown = self.options.url.as_str();
            layout::prepare(
                &mut self.database.stream,
                shown,
                self.options.call_timeout,
                deadline,
            )
            .await?;
            self.database.find_head().await.map_err(Failure::into_error)
        });
        let failed = prepared.is_err();
        if ready.send(prepared).is_err() || failed {
            return;
        }
        let writer = Writer {
            runtime,
            database: self.database,
            queue: self.queue,
            upkeep: upkeep::Upkeep::new(self.options.log_retention, self.options.log_max_rows),
            on_commit: self.on_commit,
            counters: self.counters,
            holding: self.holding,
            migration_timeout: self.options.migration_timeout,
            probe_interval: self.options.probe_interval,
            proven: Instant::now(),
            rest_until: Instant::now(),
        };
        writer.run();
    }
}
