//! Futures that wake themselves while they are polled, polled again at once.
//!
//! Some futures make progress in one poll and wake themselves for the rest: hyper's connection when a handler that
//! runs within it takes a piece of the body, its HTTP/2 pipe when it reserves the window for a frame. The scheduler
//! takes such a wake for work that another thread might do: it puts the task at the end of the queue and wakes an
//! idle thread, which finds nothing. On a server that serves one request at a time that costs more than the poll.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Polls in a row before the scheduler has its turn: a future that only ever wakes itself must not hold its thread.
const IN_A_ROW: usize = 3;

/// Nobody polls: a wake goes to the task.
const IDLE: u8 = 0;
/// A poll is under way, and nothing has woken the future since it began.
const POLLED: u8 = 1;
/// A poll is under way, and something has woken the future since it began.
const WOKEN: u8 = 2;

/// `future`, polled up to three times in a row while it wakes itself. Wakes from elsewhere behave as ever.
#[derive(Debug)]
pub struct Repoll<F> {
    future: Pin<Box<F>>,
    shared: Arc<Shared>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Shared {
    state: AtomicU8,
    task: AtomicWaker,
}

impl<F: Future> Repoll<F> {
    /// Wraps `future`.
    pub fn new(future: F) -> Self {
        let shared = Arc::new(Shared::default());
        Self {
            future: Box::pin(future),
            waker: Waker::from(Arc::clone(&shared)),
            shared,
        }
    }
}

impl<F: Future> Future for Repoll<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.shared.task.register(cx.waker());
        for _ in 0..IN_A_ROW {
            this.shared.state.store(POLLED, Ordering::Release);
            let outcome = this.future.as_mut().poll(&mut Context::from_waker(&this.waker));
            let woken = this.shared.state.swap(IDLE, Ordering::AcqRel) == WOKEN;
            if outcome.is_ready() || !woken {
                return outcome;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noticed = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (state != IDLE).then_some(WOKEN)
            });
        if noticed.is_err() {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    /// Counts what reaches the scheduler.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waking_itself(times: usize) -> impl Future<Output = usize> {
        let mut polls = 0;
        poll_fn(move |cx| {
            polls += 1;
            if polls > times {
                return Poll::Ready(polls);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[test]
    fn a_future_that_wakes_itself_is_polled_again_without_the_scheduler() {
        let count = Arc::new(Count::default());
        let mut future = Repoll::new(waking_itself(2));
        let outcome = Pin::new(&mut future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(&count))));
        assert_eq!(outcome, Poll::Ready(3));
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_that_goes_on_waking_itself_gives_way_and_is_not_forgotten() {
        let count = Arc::new(Count::default());
        let mut future = Repoll::new(waking_itself(IN_A_ROW));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        assert_eq!(Pin::new(&mut future).poll(&mut cx), Poll::Pending);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(Pin::new(&mut future).poll(&mut cx), Poll::Ready(IN_A_ROW + 1));
    }

    /// A wake may come at any moment of a poll, from any thread: none may be lost.
    #[expect(clippy::disallowed_methods, reason = "the test waits for its own tasks")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_from_another_thread_is_lost() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<usize>(1);
        let received = tokio::spawn(Repoll::new(async move {
            let mut sum = 0;
            while let Some(number) = receiver.recv().await {
                sum += number;
            }
            sum
        }));
        let sent = tokio::spawn(Repoll::new(async move {
            for number in 0..100_000 {
                sender.send(number).await.expect("somebody receives");
            }
        }));
        let sum = tokio::time::timeout(Duration::from_secs(60), received).await;
        sent.await.expect("all are sent");
        assert_eq!(sum.expect("no wake is lost").expect("no panic"), 4_999_950_000);
    }
}
