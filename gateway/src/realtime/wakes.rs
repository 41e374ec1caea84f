//! How the hub keeps pace with its sockets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Counts the tasks that were woken and have not run since. While many are, the hub holds back and merges what
/// comes in meanwhile: under load, a socket then gets few frames with many changes. Never waits for a slow
/// peer: a task whose socket is blocked runs like any other.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    pending: AtomicUsize,
    drained: Notify,
    /// Queues that ran over since start.
    pub(super) overflows: AtomicUsize,
}

impl Wakes {
    /// The hub goes on while no more tasks than this are waiting to run.
    const CALM: usize = 64;
    /// Longest wait, in case the runtime is busy with something else altogether.
    const PATIENCE: Duration = Duration::from_millis(100);

    /// A task was woken that was at rest.
    pub(super) fn woken(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// A woken task has run, or will never run again.
    pub(super) fn ran(&self) {
        if self.pending.fetch_sub(1, Ordering::Relaxed) == Self::CALM + 1 {
            self.drained.notify_one();
        }
    }

    /// Waits until most of the woken tasks have run.
    pub(super) async fn calm(&self) {
        if self.pending.load(Ordering::Relaxed) <= Self::CALM {
            return;
        }
        let wait = async {
            while self.pending.load(Ordering::Relaxed) > Self::CALM {
                self.drained.notified().await;
            }
        };
        // Going on early costs a few frames more, nothing else.
        let _ = tokio::time::timeout(Self::PATIENCE, wait).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_hub_waits_for_woken_tasks_until_few_are_left() {
        let wakes = Wakes::default();
        (0..Wakes::CALM + 3).for_each(|_| wakes.woken());
        let mut calm = pin!(wakes.calm());
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(calm.as_mut().poll(&mut cx).is_pending());
            wakes.ran();
        }
        assert!(calm.as_mut().poll(&mut cx).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn the_hub_does_not_wait_for_ever() {
        let wakes = Wakes::default();
        (0..1000).for_each(|_| wakes.woken());
        wakes.calm().await;
        assert_eq!(wakes.pending.load(Ordering::Relaxed), 1000);
    }
}
