//! Places with workers: found at once, waited for within bounds, given back when dropped.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result, format_duration};
use alyx_service::tasks::Tasks;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::link::Link;
use super::roster::{Grant, Roster, RuntimeOf, Ticket, WorkerKey};

/// When a caller may try again where no worker is there.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Bounds of waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Most calls of one function that wait for a worker.
    pub(super) queue: usize,
    /// How long a call waits while no worker is there at all.
    pub(super) patience: Duration,
}

/// The roster and those who wait for it to change.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) roster: Mutex<Roster<Arc<Link>>>,
    bounds: Bounds,
    tasks: Tasks,
    /// Since when no worker takes calls; `None` while one does.
    deserted: watch::Sender<Option<Instant>>,
}

/// A place with a worker for one call.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    dispatch: &'a Dispatch,
    function: &'a str,
    grant: Grant<Arc<Link>>,
}

impl Lease<'_> {
    pub(super) fn link(&self) -> &Link {
        &self.grant.link
    }

    pub(super) fn worker(&self) -> WorkerKey {
        self.grant.worker
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut roster = self.dispatch.roster.lock();
        roster.release(self.grant.worker, self.function, Instant::now());
    }
}

/// A place in the queue, left when dropped.
struct Place<'a> {
    dispatch: &'a Dispatch,
    function: &'a str,
    ticket: Ticket,
    granted: oneshot::Receiver<Grant<Arc<Link>>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut roster = self.dispatch.roster.lock();
        roster.forget(self.function, self.ticket);
        // It may have been served in the moment in which it gave up.
        if let Ok(grant) = self.granted.try_recv() {
            roster.release(grant.worker, self.function, Instant::now());
        }
    }
}

impl Dispatch {
    pub(super) fn new(bounds: Bounds, runtime_of: RuntimeOf, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self {
            roster: Mutex::new(Roster::new(RandomState::new().hash_one(0_u8), runtime_of)),
            bounds,
            tasks,
            deserted: watch::Sender::new(Some(Instant::now())),
        })
    }

    /// A place with a worker, at `deadline` at the latest.
    ///
    /// Errors: `FUNCTION_OVERLOADED`, `FUNCTION_TIMEOUT`, `FUNCTION_UNAVAILABLE` where no worker is there.
    pub(super) async fn lease<'a>(
        &'a self,
        function: &'a str,
        deadline: Instant,
        excluded: &[WorkerKey],
    ) -> Result<Lease<'a>> {
        let leased = |grant| Lease {
            dispatch: self,
            function,
            grant,
        };
        let mut place = {
            let now = Instant::now();
            let mut roster = self.roster.lock();
            if let Some(grant) = roster.grant(function, excluded, now) {
                drop(roster);
                return Ok(leased(grant));
            }
            let (ticket, granted) = roster
                .wait(function, excluded.to_vec(), deadline, self.bounds.queue)
                .map_err(|waiting| overloaded(function, waiting))?;
            Place {
                dispatch: self,
                function,
                ticket,
                granted,
            }
        };
        let arrived = Instant::now();
        let mut deserted = self.deserted.subscribe();
        loop {
            let since = *deserted.borrow_and_update();
            let impatient = since.map(|since| since.max(arrived) + self.bounds.patience);
            let until = impatient.map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                biased;
                granted = &mut place.granted => {
                    // Without a sender the roster has dropped it, as it does with what is past the deadline.
                    return granted.map(leased).map_err(|_| waited_too_long(function));
                }
                () = tokio::time::sleep_until(until.into()) => {
                    let late = Instant::now() >= deadline;
                    return Err(if late { waited_too_long(function) } else { no_worker(function) });
                }
                // The sender lives as long as `self`.
                _ = deserted.changed() => {}
            }
        }
    }

    /// Changes the roster, and serves those who wait.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Roster<Arc<Link>>) -> T) -> T {
        let now = Instant::now();
        let mut roster = self.roster.lock();
        let changed = change(&mut roster);
        roster.serve_all(now);
        let there = roster.takers(&[]) > 0;
        self.deserted.send_if_modified(|since| {
            let moved = since.is_some() == there;
            if moved {
                *since = (!there).then_some(now);
            }
            moved
        });
        changed
    }

    /// Sends a worker none of `function` for a while, after which those who wait are served again.
    pub(super) fn block(self: &Arc<Self>, worker: WorkerKey, function: &str, pause: Duration) {
        let now = Instant::now();
        if !self.roster.lock().block(worker, function, now, now + pause) {
            return;
        }
        let dispatch = Arc::downgrade(self);
        let function = function.to_owned();
        self.tasks.spawn_detached(async move {
            tokio::time::sleep(pause).await;
            if let Some(dispatch) = dispatch.upgrade() {
                dispatch.roster.lock().serve(&function, Instant::now());
            }
        });
    }
}

fn overloaded(function: &str, waiting: usize) -> Error {
    Error::new(
        ErrorKind::TooManyRequests,
        "FUNCTION_OVERLOADED",
        format!("function `{function}` has {waiting} calls waiting already; try again shortly"),
    )
    .with_retry_after(Duration::from_secs(1))
}

fn waited_too_long(function: &str) -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "FUNCTION_TIMEOUT",
        format!("function `{function}` was not started: no process was free before the deadline"),
    )
}

fn no_worker(function: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "FUNCTION_UNAVAILABLE",
        format!("function `{function}` cannot run: no function worker is connected"),
    )
    .with_retry_after(RETRY_AFTER)
}

/// The gateway knows the function and no worker does: its code has not reached them.
pub(super) fn unknown(function: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "FUNCTION_UNAVAILABLE",
        format!("function `{function}` cannot run: no function worker has its code yet"),
    )
    .with_retry_after(RETRY_AFTER)
}

/// The worker said nothing by the deadline.
pub(super) fn timed_out(function: &str, after: Duration) -> Error {
    let after = Duration::from_millis(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    Error::new(
        ErrorKind::DeadlineExceeded,
        "FUNCTION_TIMEOUT",
        format!(
            "function `{function}` did not finish within {}",
            format_duration(after)
        ),
    )
}

/// The worker was lost while it ran the call.
pub(super) fn lost(function: &str) -> Error {
    Error::new(
        ErrorKind::BadGateway,
        "FUNCTION_CRASHED",
        format!("function `{function}` stopped while it worked: its worker was lost"),
    )
}
