//! A bounded queue from many callers to the writer, which waits for it on its own runtime.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::queue::Rejected;

/// What the writer found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Something is queued.
    Some,
    /// Nothing until the moment until which it wanted to wait.
    Nothing,
    /// Closed, and all that was queued has been taken.
    Closed,
}

/// The queue. At most `bound` items wait in it.
#[derive(Debug)]
pub(super) struct JobQueue<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    length: AtomicUsize,
    bound: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> JobQueue<T> {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                closed: false,
            }),
            changed: Notify::new(),
            length: AtomicUsize::new(0),
            bound: bound.max(1),
        }
    }

    pub(super) fn push(&self, item: T) -> Result<(), Rejected<T>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Rejected::Closed(item));
        }
        if state.items.len() >= self.bound {
            return Err(Rejected::Full(item));
        }
        state.items.push_back(item);
        self.length.store(state.items.len(), Ordering::Relaxed);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes the oldest item, where `fits` says so of it.
    pub(super) fn pop_if(&self, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut state = self.state.lock();
        let item = match state.items.front() {
            Some(front) if fits(front) => state.items.pop_front(),
            _ => None,
        };
        self.length.store(state.items.len(), Ordering::Relaxed);
        item
    }

    /// Waits until something is queued.
    pub(super) async fn wait(&self, until: Instant) -> Waited {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.state.lock();
                if !state.items.is_empty() {
                    return Waited::Some;
                }
                if state.closed {
                    return Waited::Closed;
                }
            }
            if tokio::time::timeout_at(until.into(), changed).await.is_err() {
                return Waited::Nothing;
            }
        }
    }

    /// How many wait; may be outdated at once.
    pub(super) fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Takes nothing more in; what is queued can still be taken.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }
}
