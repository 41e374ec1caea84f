//! Where passwords are hashed: on a few threads of their own that give way to all others.
//!
//! **Invariant:** what waits is bounded, and what does not fit is refused at once: a storm of logins costs itself time,
//! not those who are signed in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::oneshot;

/// Hashes that wait for each thread; about a second of its time.
const WAITING_PER_THREAD: usize = 32;
/// How much a hashing thread gives way to others (`nice`).
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// The threads. They end when the pool is dropped.
pub(super) struct HashPool {
    jobs: Sender<Job>,
    pub(super) counts: Arc<Counts>,
}

/// What the threads have done since they were started.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Passwords hashed or compared.
    pub(super) done: AtomicU64,
    /// Passwords that there was no room for.
    pub(super) refused: AtomicU64,
}

impl HashPool {
    /// Starts as many threads as half the processors, at least one.
    pub(super) fn start() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2));
        let (jobs, waiting) = bounded::<Job>(threads * WAITING_PER_THREAD);
        for number in 0..threads {
            let waiting = waiting.clone();
            let thread = std::thread::Builder::new().name(format!("alyx-hash-{number}"));
            if let Err(error) = thread.spawn(move || run(&waiting)) {
                tracing::error!(%error, "a thread that hashes passwords could not be started");
            }
        }
        Self {
            jobs,
            counts: Arc::default(),
        }
    }

    /// Runs `work` on one of the threads, unless the caller has gone by the time that it is free.
    ///
    /// Errors: `AUTH_BUSY` where too many wait.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (done, result) = oneshot::channel();
        let counts = Arc::clone(&self.counts);
        let job = Box::new(move || {
            if !done.is_closed() {
                counts.done.fetch_add(1, Ordering::Relaxed);
                // Whether the caller still waits, nobody else does.
                let _ = done.send(work());
            }
        });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                return Err(busy());
            }
            Err(TrySendError::Disconnected(_)) => return Err(Error::internal("no thread hashes passwords")),
        }
        result.await.map_err(Error::internal)
    }
}

fn busy() -> Error {
    Error::new(
        ErrorKind::TooManyRequests,
        "AUTH_BUSY",
        "too many passwords are being checked at this moment; try again",
    )
    .with_retry_after(Duration::from_secs(1))
}

fn run(waiting: &Receiver<Job>) {
    // On Linux this is about the calling thread alone. Where it is refused, hashing competes like everything else.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    while let Ok(job) = waiting.recv() {
        job();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_what_nobody_waits_for_is_left_out() {
        let (jobs, waiting) = bounded::<Job>(2);
        let pool = HashPool {
            jobs,
            counts: Arc::default(),
        };
        let thread = std::thread::spawn(move || run(&waiting));
        let (started, has_started) = oneshot::channel();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let mut holding = Box::pin(pool.run(move || {
            started.send(()).expect("somebody waits for it");
            held.recv().expect("it is released");
        }));
        assert!(holding.as_mut().now_or_never().is_none());
        has_started.await.expect("the thread has taken it");

        let ran = Arc::new(AtomicUsize::new(0));
        let work = || {
            let ran = Arc::clone(&ran);
            Box::pin(pool.run(move || ran.fetch_add(1, Ordering::Relaxed)))
        };
        let (mut first, mut second, mut third) = (work(), work(), work());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        let refused = third.as_mut().now_or_never().expect("at once").expect_err("full");
        assert_eq!(refused.code(), "AUTH_BUSY");
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)));

        drop(first);
        release.send(()).expect("it waits");
        holding.await.expect("it ran");
        second.await.expect("it ran");
        drop(third);
        drop(pool);
        thread.join().expect("it ends with the pool");
        assert_eq!(
            ran.load(Ordering::Relaxed),
            1,
            "nobody waited for the first any more"
        );
    }
}
