//! Tracked background tasks and the phases of stopping.
//!
//! A role stops in phases under one deadline: not ready → stop accepting → drain → stop background tasks.
//! [`Tasks`] is the last phase: it cancels, waits, and names what did not end.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the end of a task means for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    /// Its end is ordinary (a connection was served).
    Ignore,
    /// It must run for as long as the role does: its end, by panic or return, cancels all tasks of the role.
    StopAll,
}

/// The one way to start a background task.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the role is to stop; long-running tasks select on it.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Starts `future` under `name`. A panic is logged under that name.
    pub fn spawn<F>(&self, name: &'static str, on_end: OnEnd, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        let task = self.tracker.spawn(future);
        self.tracker.spawn(async move {
            match task.await {
                Ok(()) => {}
                Err(error) if error.is_panic() => tracing::error!(task = name, "background task panicked"),
                Err(_) => {}
            }
            if on_end == OnEnd::StopAll && !cancel.is_cancelled() {
                tracing::error!(task = name, "a task that must not end has ended; stopping");
                cancel.cancel();
            }
        });
    }

    /// Starts a short-lived task whose end needs no attention, at the cost of one task instead of two.
    pub fn spawn_detached<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(future);
    }

    /// Cancels all tasks and waits for them; `false` where some did not end within `deadline`.
    pub async fn stop(&self, deadline: Duration) -> bool {
        self.cancel.cancel();
        self.tracker.close();
        let ended = tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok();
        if !ended {
            tracing::warn!(left = self.tracker.len(), "background tasks did not end in time");
        }
        ended
    }
}
