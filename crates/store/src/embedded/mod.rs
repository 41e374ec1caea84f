//! The embedded backend: one database file, one thread that writes it, a few that read it.

mod alter;
mod change_log;
mod connection;
mod file;
mod group;
mod migration;
mod options;
mod readers;
mod upkeep;
mod writer;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use alyx_core::{Error, Result, Seq, Statement};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use file::DatabaseFile;
use group::Pending;
pub use options::EmbeddedOptions;
use readers::{PointReaders, Reader, Watchdog, Watched};
use writer::{Migration, OnCommit, Writer};

use crate::alteration::Work;
use crate::failure::{
    aborted, closed, read_queue_full, too_many_statements, write_queue_full, write_timeout,
};
use crate::queue::{Queue, Rejected};
use crate::stats::{Counters, StoreStats};
use crate::{Commit, LogBatch, Read, ReadCost, ReadReply, Write, WriteReply};

/// Steps of one write at most.
const MAX_STEPS: usize = 4096;
/// Statements of one read at most.
const MAX_STATEMENTS: usize = 64;
/// How long reading the log and the position may take.
const LOG_DEADLINE: Duration = Duration::from_secs(10);

/// An open database file. Closed when dropped: what was queued is still carried out.
pub(crate) struct Embedded {
    path: PathBuf,
    writes: Arc<Queue<writer::Job>>,
    reads: Arc<Queue<readers::Job>>,
    points: PointReaders,
    watchdog: Arc<Watchdog>,
    counters: Arc<Counters>,
    readers: usize,
    reader_threads: Mutex<Vec<JoinHandle<()>>>,
    writer_thread: Mutex<Option<JoinHandle<()>>>,
    /// Its senders are held by the threads: it fails once they have all ended.
    running: watch::Receiver<()>,
}

impl Embedded {
    pub(crate) fn open(
        options: &EmbeddedOptions,
        on_commit: impl Fn(Commit) + Send + Sync + 'static,
    ) -> Result<Self> {
        let (file, lock) = DatabaseFile::open(options)?;
        let counters = Arc::new(Counters::default());
        let epoch = Arc::new(AtomicU64::new(0));
        let (alive, running) = watch::channel(());
        let writes = Arc::new(Queue::new(options.write_queue));
        let writer = Writer {
            database: writer::transactor(file.writer()?)?,
            queue: Arc::clone(&writes),
            upkeep: upkeep::Upkeep::new(options, Arc::clone(&counters)),
            on_commit: Box::new(on_commit) as OnCommit,
            epoch: Arc::clone(&epoch),
            counters: Arc::clone(&counters),
            backlog: VecDeque::new(),
            lock,
        };
        let points = (0..options.point_connections.clamp(1, 64))
            .map(|_| file.reader())
            .collect::<Result<_>>()?;
        let mut embedded = Self {
            path: file.path().to_owned(),
            writes,
            reads: Arc::new(Queue::new(options.read_queue)),
            points: PointReaders::new(points, Arc::clone(&epoch), Arc::clone(&counters)),
            watchdog: Arc::new(Watchdog::default()),
            counters,
            readers: options.readers.clamp(1, 64),
            reader_threads: Mutex::default(),
            writer_thread: Mutex::default(),
            running,
        };
        // From here on an error drops `embedded`, which ends the threads that run.
        embedded.start_readers(&file, &epoch, &alive)?;
        let thread = start("alyx-store-writer", alive, move || writer.run())?;
        *embedded.writer_thread.get_mut() = Some(thread);
        Ok(embedded)
    }

    fn start_readers(
        &mut self,
        file: &DatabaseFile,
        epoch: &Arc<AtomicU64>,
        alive: &watch::Sender<()>,
    ) -> Result<()> {
        let mut all = Vec::with_capacity(self.readers);
        for _ in 0..self.readers {
            let connection = file.reader()?;
            let watched = Arc::new(Watched::new(&connection));
            all.push(Arc::clone(&watched));
            let reader = Reader {
                connection,
                queue: Arc::clone(&self.reads),
                watched,
                watchdog: Arc::clone(&self.watchdog),
                epoch: Arc::clone(epoch),
                counters: Arc::clone(&self.counters),
            };
            let thread = start("alyx-store-reader", alive.clone(), move || reader.run())?;
            self.reader_threads.get_mut().push(thread);
        }
        let watchdog = Arc::clone(&self.watchdog);
        let thread = start("alyx-store-watch", alive.clone(), move || watchdog.run(&all))?;
        self.reader_threads.get_mut().push(thread);
        Ok(())
    }

    /// Where the database is, as an absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) async fn write(&self, write: Write) -> Result<WriteReply> {
        if write.steps.len() > MAX_STEPS {
            return Err(too_many_statements(MAX_STEPS, write.steps.len()));
        }
        if write.deadline <= Instant::now() {
            return Err(write_timeout());
        }
        let (reply, answer) = oneshot::channel();
        self.enqueue_write(writer::Job::Write(Pending { write, reply }))?;
        answer.await.unwrap_or_else(|_| Err(aborted()))
    }

    pub(crate) async fn migrate(&self, steps: Vec<Statement>) -> Result<Seq> {
        if steps.len() > MAX_STEPS {
            return Err(too_many_statements(MAX_STEPS, steps.len()));
        }
        let (reply, answer) = oneshot::channel();
        self.enqueue_write(writer::Job::Migrate(Migration { steps, reply }))?;
        answer.await.unwrap_or_else(|_| Err(aborted()))
    }

    pub(crate) async fn alter(&self, work: Work) -> Result<Seq> {
        let (reply, answer) = oneshot::channel();
        self.enqueue_write(writer::Job::Alter(alter::Request { work, reply }))?;
        answer.await.unwrap_or_else(|_| Err(aborted()))
    }

    pub(crate) async fn read(&self, read: Read) -> Result<ReadReply> {
        if read.statements.len() > MAX_STATEMENTS {
            return Err(too_many_statements(MAX_STATEMENTS, read.statements.len()));
        }
        if read.cost == ReadCost::Point
            && let Some(answer) = self.points.read(&read)
        {
            return answer;
        }
        let (reply, answer) = oneshot::channel();
        self.enqueue_read(readers::Job::Read { read, reply })?;
        answer.await.unwrap_or_else(|_| Err(aborted()))
    }

    pub(crate) async fn position(&self) -> Result<Seq> {
        if let Some(head) = self.points.head() {
            return head;
        }
        let read = Read {
            statements: Vec::new(),
            cost: ReadCost::Scan,
            deadline: Instant::now() + LOG_DEADLINE,
        };
        Ok(self.read(read).await?.position)
    }

    pub(crate) async fn read_log(&self, after: Seq, max_changes: usize) -> Result<LogBatch> {
        let (reply, answer) = oneshot::channel();
        self.enqueue_read(readers::Job::Log {
            after,
            max_changes,
            deadline: Instant::now() + LOG_DEADLINE,
            reply,
        })?;
        answer.await.unwrap_or_else(|_| Err(aborted()))
    }

    pub(crate) async fn close(&self) {
        self.stop_taking_work();
        let mut running = self.running.clone();
        // Fails once every thread has ended; nothing is ever sent.
        while running.changed().await.is_ok() {}
    }

    pub(crate) fn storage_failing(&self) -> bool {
        self.counters.storage_failing.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        let backlog = self.counters.backlog.load(Ordering::Relaxed);
        StoreStats {
            write_queue: self.writes.len() + usize::try_from(backlog).unwrap_or(usize::MAX),
            read_queue: self.reads.len(),
            readers: self.readers,
            database_bytes: size(&self.path),
            wal_bytes: size(Path::new(&wal)),
            ..self.counters.snapshot()
        }
    }

    fn enqueue_write(&self, job: writer::Job) -> Result<()> {
        self.writes.push(job).map_err(|rejected| match rejected {
            Rejected::Full(_) => {
                Counters::add(&self.counters.failed_writes, 1);
                write_queue_full()
            }
            Rejected::Closed(_) => closed(),
        })
    }

    fn enqueue_read(&self, job: readers::Job) -> Result<()> {
        self.reads.push(job).map_err(|rejected| match rejected {
            Rejected::Full(_) => read_queue_full(),
            Rejected::Closed(_) => closed(),
        })
    }

    fn stop_taking_work(&self) {
        self.reads.close();
        self.watchdog.close();
        self.points.close();
        self.writes.close();
    }
}

impl Drop for Embedded {
    /// Waits for what is queued, so that whoever opens the file next finds it released and complete.
    fn drop(&mut self) {
        self.stop_taking_work();
        let threads = std::mem::take(self.reader_threads.get_mut());
        let writer = self.writer_thread.get_mut().take();
        for thread in threads.into_iter().chain(writer) {
            // Dropped by a commit's follower on the writer's thread: that one ends by itself.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a database thread ended with a panic");
            }
        }
    }
}

/// Starts a thread that holds `alive` until it ends.
fn start(
    name: &str,
    alive: watch::Sender<()>,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            work();
            drop(alive);
        })
        .map_err(Error::internal)
}
