//! A bounded queue from many callers to threads that serve them.
//!
//! A taker gets everything that waits under one lock; a caller wakes a thread only where one is parked.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Why something was not queued. It is handed back.
pub(crate) enum Rejected<T> {
    /// The queue is at its bound.
    Full(T),
    /// The queue takes nothing any more.
    Closed(T),
}

/// What a taker found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken<T> {
    /// Something to do.
    Some(T),
    /// Nothing for as long as the taker wanted to wait.
    Nothing,
    /// Closed, and all that was queued has been taken.
    Closed,
}

/// The queue. At most `bound` items wait in it.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    /// Copy of the length, to look at without the lock.
    length: AtomicUsize,
    bound: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    parked: usize,
    closed: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                parked: 0,
                closed: false,
            }),
            ready: Condvar::new(),
            length: AtomicUsize::new(0),
            bound: bound.max(1),
        }
    }

    /// Queues `item` and wakes a thread where one is parked.
    pub(crate) fn push(&self, item: T) -> Result<(), Rejected<T>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Rejected::Closed(item));
        }
        if state.items.len() >= self.bound {
            return Err(Rejected::Full(item));
        }
        state.items.push_back(item);
        self.length.store(state.items.len(), Ordering::Relaxed);
        let wake = state.parked > 0;
        drop(state);
        if wake {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Takes the oldest item; `patience` of `None` waits for as long as it takes.
    pub(crate) fn take_one(&self, patience: Option<Duration>) -> Taken<T> {
        self.take(patience, VecDeque::pop_front)
    }

    /// Takes all that waits.
    pub(crate) fn take_all(&self, patience: Option<Duration>) -> Taken<VecDeque<T>> {
        self.take(patience, |items| {
            (!items.is_empty()).then(|| std::mem::take(items))
        })
    }

    /// Takes all that waits already.
    pub(crate) fn try_take_all(&self) -> VecDeque<T> {
        if self.len() == 0 {
            return VecDeque::new();
        }
        let mut state = self.state.lock();
        self.length.store(0, Ordering::Relaxed);
        std::mem::take(&mut state.items)
    }

    fn take<R>(
        &self,
        patience: Option<Duration>,
        mut pick: impl FnMut(&mut VecDeque<T>) -> Option<R>,
    ) -> Taken<R> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut state = self.state.lock();
        loop {
            if let Some(picked) = pick(&mut state.items) {
                self.length.store(state.items.len(), Ordering::Relaxed);
                return Taken::Some(picked);
            }
            if state.closed {
                return Taken::Closed;
            }
            state.parked += 1;
            let timed_out = match deadline {
                None => {
                    self.ready.wait(&mut state);
                    false
                }
                Some(deadline) => self.ready.wait_until(&mut state, deadline).timed_out(),
            };
            state.parked -= 1;
            if timed_out && state.items.is_empty() && !state.closed {
                return Taken::Nothing;
            }
        }
    }

    /// How many wait; may be outdated at once.
    pub(crate) fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Takes nothing more in; what is queued can still be taken.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_hands_the_item_back() {
        let queue = Queue::new(2);
        assert!(queue.push(1).is_ok() && queue.push(2).is_ok());
        assert!(matches!(queue.push(3), Err(Rejected::Full(3))));
        assert_eq!(queue.take_one(None), Taken::Some(1));
        assert!(queue.push(3).is_ok());
        assert_eq!(queue.take_all(None), Taken::Some(VecDeque::from([2, 3])));
    }

    #[test]
    fn a_closed_queue_gives_out_what_it_holds_and_ends() {
        let queue = Queue::new(2);
        assert!(queue.push(1).is_ok());
        queue.close();
        assert!(matches!(queue.push(2), Err(Rejected::Closed(2))));
        assert_eq!(queue.take_one(None), Taken::Some(1));
        assert_eq!(queue.take_one(None), Taken::Closed);
    }

    #[test]
    fn a_parked_taker_is_woken() {
        let queue = Queue::new(1);
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| queue.take_one(None));
            assert!(queue.push(7).is_ok());
            assert_eq!(taker.join().expect("the taker ends"), Taken::Some(7));
        });
        assert_eq!(queue.take_one(Some(Duration::ZERO)), Taken::Nothing);
    }
}
