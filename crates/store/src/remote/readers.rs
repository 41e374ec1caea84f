//! Reads: a bounded set of streams, each used by one read at a time, on a runtime of their own, so that a connection
//! outlives the caller that opened it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use alyx_core::{Error, Result, Seq};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};

use super::change_log::{self, ChangeReader, HEAD, position};
use super::hrana::{Batch, When};
use super::http::Http;
use super::lease::{self, LeaseRow};
use super::plan::Budget;
use super::sql;
use super::stream::Stream;
use crate::failure::{Failure, aborted, closed, query_timeout, read_queue_full};
use crate::stats::Counters;
use crate::{LogBatch, Read, ReadCost, ReadReply};

/// How much longer than the caller a call waits.
const GRACE: std::time::Duration = std::time::Duration::from_secs(1);
/// SQLite's result code for a statement that writes where it must not.
const READONLY: i32 = 8;

/// The streams that read.
pub(super) struct Readers {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    http: Http,
    idle: Mutex<Vec<Stream>>,
    permits: Semaphore,
    /// Reads that are served or wait for a stream.
    places: Arc<Semaphore>,
    bounds: Bounds,
    closed: AtomicBool,
    changes: Arc<ChangeReader>,
    counters: Arc<Counters>,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    streams: usize,
    waiting: usize,
}

impl Readers {
    pub(super) fn new(
        http: Http,
        (streams, waiting): (usize, usize),
        changes: Arc<ChangeReader>,
        counters: Arc<Counters>,
    ) -> Result<Self> {
        let bounds = Bounds {
            streams: streams.clamp(1, 8),
            waiting: waiting.max(1),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("alyx-store-reader")
            .enable_all()
            .build()
            .map_err(Error::internal)?;
        Ok(Self {
            shared: Arc::new(Shared {
                http,
                idle: Mutex::new(Vec::with_capacity(bounds.streams)),
                permits: Semaphore::new(bounds.streams),
                places: Arc::new(Semaphore::new(bounds.streams + bounds.waiting)),
                bounds,
                closed: AtomicBool::new(false),
                changes,
                counters,
            }),
            runtime: Some(runtime),
        })
    }

    pub(super) fn streams(&self) -> usize {
        self.shared.bounds.streams
    }

    /// Streams in use now.
    pub(super) fn busy(&self) -> usize {
        self.shared.bounds.streams - self.shared.permits.available_permits()
    }

    /// Reads that wait now.
    pub(super) fn waiting(&self) -> usize {
        let all = self.shared.bounds.streams + self.shared.bounds.waiting;
        (all - self.shared.places.available_permits()).saturating_sub(self.busy())
    }

    pub(super) async fn read(&self, read: Read) -> Result<ReadReply> {
        let counters = &self.shared.counters;
        let counter = match read.cost {
            ReadCost::Scan => &counters.scans,
            ReadCost::Point => &counters.point_reads,
        };
        Counters::add(counter, 1);
        let composed = Composed::new(&read).map_err(Failure::into_error)?;
        let outcome = self
            .with(read.deadline, async move |mut stream, deadline| {
                let outcome = composed.run(&mut stream, deadline).await;
                (stream, outcome)
            })
            .await;
        if outcome
            .as_ref()
            .is_err_and(|error| error.code() == "QUERY_TIMEOUT")
        {
            Counters::add(&counters.read_timeouts, 1);
        }
        outcome
    }

    pub(super) async fn head(&self, deadline: Instant) -> Result<Seq> {
        self.with(deadline, async |mut stream, deadline| {
            let outcome = change_log::rows(&mut stream, HEAD, &[], deadline).await;
            let head = outcome.map(|step| {
                let head = step.rows.first().and_then(|row| row.first());
                position(head.and_then(|cell| cell.0.as_int()))
            });
            (stream, head)
        })
        .await
    }

    pub(super) async fn log(&self, after: Seq, max_changes: usize, deadline: Instant) -> Result<LogBatch> {
        let changes = Arc::clone(&self.shared.changes);
        self.with(deadline, async move |mut stream, deadline| {
            let outcome = changes
                .read_batch(&mut stream, (after, max_changes), deadline)
                .await;
            (stream, outcome)
        })
        .await
    }

    pub(super) async fn lease(&self, deadline: Instant) -> Result<Option<LeaseRow>> {
        self.with(deadline, async |mut stream, deadline| {
            let outcome = lease::look(&mut stream, deadline).await;
            (stream, outcome)
        })
        .await
    }

    /// Does `work` on a stream. What is not done at the deadline is given up together with its stream, which makes
    /// the server stop it.
    async fn with<T, W, F>(&self, deadline: Instant, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(Stream, Instant) -> F + Send + 'static,
        F: Future<Output = (Stream, Result<T, Failure>)> + Send,
    {
        let shared = &self.shared;
        let (Some(runtime), false) = (&self.runtime, shared.closed.load(Ordering::Acquire)) else {
            return Err(closed());
        };
        let place = Arc::clone(&shared.places)
            .try_acquire_owned()
            .map_err(|_| read_queue_full())?;
        let (mut reply, answer) = oneshot::channel();
        let shared = Arc::clone(shared);
        // Ends at the deadline at the latest.
        runtime.spawn(async move {
            let served = async {
                let permit = shared.permits.acquire().await.map_err(|_| closed())?;
                let idle = shared.idle.lock().pop();
                let stream = idle.unwrap_or_else(|| Stream::new(shared.http.clone()));
                // The caller's deadline comes first, so that it is what the caller is told.
                let (stream, outcome) = work(stream, deadline + GRACE).await;
                if stream.is_open() {
                    shared.idle.lock().push(stream);
                }
                drop(permit);
                outcome.map_err(Failure::into_error)
            };
            let answer = tokio::select! {
                answer = tokio::time::timeout_at(deadline.into(), served) => answer,
                () = reply.closed() => return,
            };
            drop(place);
            let _ = reply.send(answer.unwrap_or_else(|_| Err(query_timeout())));
        });
        answer.await.unwrap_or_else(|_| Err(aborted()))
    }

    /// Takes no more reads, and waits for those that run.
    pub(super) async fn close(&self) {
        self.stop();
        let all = u32::try_from(self.shared.bounds.streams).unwrap_or(u32::MAX);
        if let Ok(permits) = self.shared.permits.acquire_many(all).await {
            permits.forget();
            self.shared.permits.close();
        }
    }

    /// Takes no more reads.
    pub(super) fn stop(&self) {
        self.shared.closed.store(true, Ordering::Release);
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not allowed on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// A read as a batch.
struct Composed {
    batch: Batch,
    begin: Option<usize>,
    head: Option<usize>,
    statements: Vec<usize>,
}

impl Composed {
    fn new(read: &Read) -> Result<Self, Failure> {
        for statement in &read.statements {
            let facts = sql::facts(&statement.sql).map_err(Failure::Refused)?;
            if facts.writes {
                return Err(Failure::Sqlite {
                    code: READONLY,
                    message: "attempt to write in a read".to_owned(),
                });
            }
        }
        let positioned = read.cost == ReadCost::Scan;
        let mut batch = Batch::new();
        let begin = (positioned || read.statements.len() > 1)
            .then(|| batch.run(When::Always, "BEGIN", &[]))
            .transpose()?;
        let mut before = begin;
        let head = positioned
            .then(|| batch.rows(before.map_or(When::Always, When::Worked), HEAD, &[]))
            .transpose()?;
        before = head.or(before);
        let mut statements = Vec::with_capacity(read.statements.len());
        for statement in &read.statements {
            let when = before.map_or(When::Always, When::Worked);
            let step = batch.rows(when, &statement.sql, &statement.params)?;
            before = Some(step);
            statements.push(step);
        }
        if begin.is_some() {
            // Nothing was written.
            batch.run(When::Open, "ROLLBACK", &[])?;
        }
        Ok(Self {
            batch,
            begin,
            head,
            statements,
        })
    }

    async fn run(self, stream: &mut Stream, deadline: Instant) -> Result<ReadReply, Failure> {
        let mut reply = change_log::run(stream, &self.batch, deadline).await?;
        let own: Vec<usize> = self.begin.into_iter().chain(self.head).collect();
        change_log::expect(&reply, &own)?;
        change_log::expect(&reply, &self.statements)?;
        let mut budget = Budget::of_request();
        let results: Result<Vec<_>, Failure> = self
            .statements
            .iter()
            .map(|step| budget.rows(reply.take(*step).unwrap_or_default()))
            .collect();
        Ok(ReadReply {
            results: results?,
            position: self.head.map_or(Seq(0), |head| position(reply.int(head))),
        })
    }
}
