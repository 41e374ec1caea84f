//! One socket as the rest of the hub sees it: a bounded queue of shared frames and the marks that say what is
//! wrong with it.
//!
//! **Invariants:** a push never waits and never fails: where the queue is full, all its deltas are dropped and
//! their subscriptions marked as behind, to be sent afresh once the socket has drained; a frame is queued and
//! taken whole, so nothing can be dropped out of the middle of one; after the close was asked for, nothing is
//! queued any more.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;

use bytes::Bytes;
use parking_lot::Mutex;

use super::wakes::Wakes;
use super::wire::CloseCode;

/// Most frames that wait for a socket.
pub(super) const MAX_FRAMES: usize = 256;
/// Most bytes that wait for a socket; one frame may be longer.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// Most frames and bytes handed to the writer at a time: what can no longer be dropped.
const TAKE_FRAMES: usize = 64;
const TAKE_BYTES: usize = 256 * 1024;

/// A subscription's number on its connection; never used twice there.
pub(super) type Slot = u32;

/// Why and how a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Send a close frame and give the peer a moment to answer.
    Close(CloseCode, &'static str),
    /// Nobody is there: just drop it.
    Drop,
}

/// Part of a frame: shared bytes, or the few bytes in front of them that are one subscriber's own.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) bytes: Bytes,
    /// The frame ends with this segment.
    pub(super) last: bool,
    /// The delta of this subscription, which may be dropped for a fresh snapshot.
    delta: Option<Slot>,
}

impl Segment {
    /// A frame of its own that must arrive.
    pub(super) fn last(bytes: Bytes) -> Self {
        Self {
            bytes,
            last: true,
            delta: None,
        }
    }
}

/// One socket's queue. Pushed to by whoever has news, emptied by the socket's own task.
#[derive(Debug, Default)]
pub(super) struct Connection {
    queue: Mutex<Queue>,
    /// When the peer was last heard (coarse seconds).
    heard: AtomicU32,
    /// Since when the socket takes no bytes; 0 while it does.
    blocked: AtomicU32,
    /// Since when there has always been something left to write; 0 while there is not.
    behind: AtomicU32,
    /// Since when the end is under way; 0 before.
    ending: AtomicU32,
}

#[derive(Debug, Default)]
struct Queue {
    segments: VecDeque<Segment>,
    frames: usize,
    bytes: usize,
    /// Subscriptions whose deltas were dropped.
    dirty: Vec<Slot>,
    /// Subscriptions that the hub has ended.
    ended: Vec<Slot>,
    end: Option<End>,
    /// The task was woken by a push and has not run since.
    scheduled: bool,
    waker: Option<Waker>,
    /// The task is gone.
    gone: bool,
}

/// What a socket's task has to look at when it runs.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) end: Option<End>,
    pub(super) ended: Vec<Slot>,
}

impl Connection {
    pub(super) fn new(now: u32) -> Self {
        let connection = Self::default();
        connection.heard.store(now, Ordering::Relaxed);
        connection
    }

    /// Queues a delta of `slot`: `head` (where the subscriber has one of its own) and then `body`.
    pub(super) fn push_delta(&self, slot: Slot, head: Option<Bytes>, body: Bytes, wakes: &Wakes) {
        let mut queue = self.queue.lock();
        if queue.end.is_some() || queue.gone || queue.dirty.contains(&slot) {
            return;
        }
        let size = body.len() + head.as_ref().map_or(0, Bytes::len);
        if queue.is_full(size) {
            queue.drop_deltas();
            queue.mark_dirty(slot);
            wakes.overflows.fetch_add(1, Ordering::Relaxed);
        } else {
            queue.push(head, body, Some(slot));
        }
        wake(queue, wakes);
    }

    /// Queues a frame that must arrive.
    pub(super) fn push(&self, head: Option<Bytes>, body: Bytes, wakes: &Wakes) {
        let mut queue = self.queue.lock();
        if queue.end.is_none() && !queue.gone {
            queue.push(head, body, None);
            wake(queue, wakes);
        }
    }

    /// Queues the fresh snapshot of a subscription that was behind; the deltas pushed from now on follow it.
    pub(super) fn push_reset(&self, slot: Slot, head: Bytes, body: Bytes) {
        let mut queue = self.queue.lock();
        queue.dirty.retain(|&other| other != slot);
        if queue.end.is_none() {
            queue.push(Some(head), body, None);
        }
    }

    /// What the client has of `slot` is no longer the truth: a fresh snapshot must follow.
    pub(super) fn push_dirty(&self, slot: Slot, wakes: &Wakes) {
        let mut queue = self.queue.lock();
        if queue.end.is_none() && !queue.gone {
            queue.drop_deltas_of(slot);
            queue.mark_dirty(slot);
            wake(queue, wakes);
        }
    }

    /// Tells the task that the hub has ended `slot`, after queueing what the client is to know about it.
    pub(super) fn push_ended(&self, slot: Slot, error: Bytes, wakes: &Wakes) {
        let mut queue = self.queue.lock();
        if queue.end.is_none() && !queue.gone {
            queue.push(None, error, None);
            queue.ended.push(slot);
            wake(queue, wakes);
        }
    }

    /// Forgets what is queued for a subscription that the client has given up.
    pub(super) fn forget(&self, slot: Slot) {
        let mut queue = self.queue.lock();
        queue.drop_deltas_of(slot);
        queue.dirty.retain(|&other| other != slot);
    }

    /// Asks for the end. A drop overrules a close; otherwise the first one counts.
    pub(super) fn end(&self, end: End, wakes: &Wakes) {
        let mut queue = self.queue.lock();
        if queue.gone || (queue.end.is_some() && end != End::Drop) {
            return;
        }
        queue.end = Some(end);
        queue.clear();
        wake(queue, wakes);
    }

    /// The task runs: notes its waker and hands over what it has to look at.
    pub(super) fn begin_poll(&self, waker: &Waker, wakes: &Wakes) -> Orders {
        let mut queue = self.queue.lock();
        if std::mem::take(&mut queue.scheduled) {
            wakes.ran();
        }
        match &mut queue.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        Orders {
            end: queue.end,
            ended: std::mem::take(&mut queue.ended),
        }
    }

    /// Moves whole frames into `into`, which is empty, up to the bound of what the writer may hold. False where
    /// nothing waited.
    pub(super) fn take(&self, into: &mut VecDeque<Segment>) -> bool {
        let mut queue = self.queue.lock();
        if queue.frames <= TAKE_FRAMES && queue.bytes <= TAKE_BYTES {
            std::mem::swap(&mut queue.segments, into);
            (queue.frames, queue.bytes) = (0, 0);
            return !into.is_empty();
        }
        let (mut frames, mut bytes) = (0, 0);
        while frames < TAKE_FRAMES && bytes < TAKE_BYTES {
            // A frame is queued under one lock, so its segments are here together.
            while let Some(segment) = queue.segments.pop_front() {
                let last = segment.last;
                bytes += segment.bytes.len();
                into.push_back(segment);
                if last {
                    break;
                }
            }
            frames += 1;
        }
        queue.frames -= frames;
        queue.bytes -= bytes;
        true
    }

    /// The subscriptions that are behind, if nothing is queued any more.
    pub(super) fn dirty(&self) -> Vec<Slot> {
        let queue = self.queue.lock();
        if queue.segments.is_empty() {
            queue.dirty.clone()
        } else {
            Vec::new()
        }
    }

    /// Whether so much waits that nothing more should be asked for on this socket.
    pub(super) fn is_crowded(&self) -> bool {
        let queue = self.queue.lock();
        queue.frames >= MAX_FRAMES / 2 || queue.bytes >= TAKE_BYTES
    }

    /// The task is gone: nothing is queued any more.
    pub(super) fn gone(&self, wakes: &Wakes) {
        let mut queue = self.queue.lock();
        queue.gone = true;
        queue.clear();
        queue.waker = None;
        if std::mem::take(&mut queue.scheduled) {
            wakes.ran();
        }
    }

    pub(super) fn set_heard(&self, now: u32) {
        self.heard.store(now, Ordering::Relaxed);
    }

    pub(super) fn heard(&self) -> u32 {
        self.heard.load(Ordering::Relaxed)
    }

    /// The socket took some bytes.
    pub(super) fn set_progress(&self) {
        self.blocked.store(0, Ordering::Relaxed);
    }

    /// The socket took no more bytes just now.
    pub(super) fn set_blocked(&self, now: u32) {
        for since in [&self.blocked, &self.behind] {
            if since.load(Ordering::Relaxed) == 0 {
                since.store(now, Ordering::Relaxed);
            }
        }
    }

    /// Everything is written.
    pub(super) fn set_drained(&self) {
        self.blocked.store(0, Ordering::Relaxed);
        self.behind.store(0, Ordering::Relaxed);
    }

    /// The end is under way.
    pub(super) fn set_ending(&self, now: u32) {
        self.ending.store(now, Ordering::Relaxed);
    }

    /// For how long the end has been under way, in seconds, where it is.
    pub(super) fn ending(&self, now: u32) -> Option<u32> {
        match self.ending.load(Ordering::Relaxed) {
            0 => None,
            since => Some(now.saturating_sub(since)),
        }
    }

    /// For how long no byte went out, and for how long there was always something left, in seconds.
    pub(super) fn waited(&self, now: u32) -> (u32, u32) {
        let since = |start: &AtomicU32| match start.load(Ordering::Relaxed) {
            0 => 0,
            start => now.saturating_sub(start),
        };
        (since(&self.blocked), since(&self.behind))
    }
}

impl Queue {
    fn is_full(&self, more: usize) -> bool {
        self.frames >= MAX_FRAMES || (self.bytes + more > MAX_BYTES && !self.segments.is_empty())
    }

    fn push(&mut self, head: Option<Bytes>, body: Bytes, delta: Option<Slot>) {
        self.frames += 1;
        for (bytes, last) in head.map(|head| (head, false)).into_iter().chain([(body, true)]) {
            self.bytes += bytes.len();
            self.segments.push_back(Segment { bytes, last, delta });
        }
    }

    fn mark_dirty(&mut self, slot: Slot) {
        if !self.dirty.contains(&slot) {
            self.dirty.push(slot);
        }
    }

    fn drop_deltas(&mut self) {
        let mut lost: Vec<Slot> = self.segments.iter().filter_map(|segment| segment.delta).collect();
        lost.sort_unstable();
        lost.dedup();
        self.retain(|segment| segment.delta.is_none());
        for slot in lost {
            self.mark_dirty(slot);
        }
    }

    fn drop_deltas_of(&mut self, slot: Slot) {
        self.retain(|segment| segment.delta != Some(slot));
    }

    fn retain(&mut self, keep: impl Fn(&Segment) -> bool) {
        self.segments.retain(keep);
        self.frames = self.segments.iter().filter(|segment| segment.last).count();
        self.bytes = self.segments.iter().map(|segment| segment.bytes.len()).sum();
    }

    fn clear(&mut self) {
        self.segments = VecDeque::new();
        self.dirty = Vec::new();
        self.ended = Vec::new();
        (self.frames, self.bytes) = (0, 0);
    }
}

/// Wakes the task once, however much is pushed before it runs. The lock is let go first, so that the task does
/// not run into it.
fn wake(mut queue: parking_lot::MutexGuard<'_, Queue>, wakes: &Wakes) {
    if !queue.scheduled {
        queue.scheduled = true;
        wakes.woken();
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(connection: &Connection) -> Vec<Bytes> {
        let mut segments = VecDeque::new();
        connection.take(&mut segments);
        segments.into_iter().map(|segment| segment.bytes).collect()
    }

    #[test]
    fn frames_leave_in_the_order_of_their_pushes() {
        let (connection, wakes) = (Connection::new(1), Wakes::default());
        connection.push(Some(Bytes::from("head")), Bytes::from("body"), &wakes);
        connection.push_delta(0, None, Bytes::from("delta"), &wakes);
        assert_eq!(taken(&connection), ["head", "body", "delta"]);
        assert!(taken(&connection).is_empty());
    }

    #[test]
    fn a_full_queue_drops_all_deltas_and_marks_their_subscriptions() {
        let check = |size: usize, fits: usize| {
            let (connection, wakes) = (Connection::new(1), Wakes::default());
            connection.push(None, Bytes::from("snapshot"), &wakes);
            for index in 0..fits {
                let slot = u32::try_from(index % 2).expect("small");
                connection.push_delta(slot, None, Bytes::from(vec![b'x'; size]), &wakes);
            }
            assert!(connection.dirty().is_empty());
            connection.push_delta(7, None, Bytes::from(vec![b'x'; size]), &wakes);
            connection.push_delta(1, None, Bytes::from("late"), &wakes);
            connection.push_delta(9, None, Bytes::from("other"), &wakes);
            assert_eq!(taken(&connection), ["snapshot", "other"]);
            assert_eq!(connection.dirty(), [0, 1, 7]);
            connection.push_reset(1, Bytes::from("fresh "), Bytes::from("one"));
            connection.push_delta(1, None, Bytes::from("next"), &wakes);
            assert_eq!(taken(&connection), ["fresh ", "one", "next"]);
            assert_eq!(connection.dirty(), [0, 7]);
        };
        check(10, MAX_FRAMES - 1);
        check(100_000, 10);
    }

    #[test]
    fn one_frame_may_be_longer_than_the_bound() {
        let (connection, wakes) = (Connection::new(1), Wakes::default());
        connection.push_delta(0, None, Bytes::from(vec![0; 2 * MAX_BYTES]), &wakes);
        assert!(connection.dirty().is_empty());
        assert_eq!(taken(&connection).len(), 1);
    }

    #[test]
    fn a_frame_is_taken_whole() {
        let (connection, wakes) = (Connection::new(1), Wakes::default());
        let long = Bytes::from(vec![0; TAKE_BYTES]);
        connection.push_delta(0, Some(long), Bytes::from("tail"), &wakes);
        connection.push(None, Bytes::from("next"), &wakes);
        assert_eq!(taken(&connection).len(), 2);
        connection.push_dirty(0, &wakes);
        assert_eq!(taken(&connection), ["next"]);
    }

    #[test]
    fn after_the_end_nothing_is_queued_and_only_a_drop_overrules_it() {
        let (connection, wakes) = (Connection::new(1), Wakes::default());
        connection.push(None, Bytes::from("lost"), &wakes);
        connection.end(End::Close(CloseCode::SLOW, "slow"), &wakes);
        connection.end(End::Close(CloseCode::GOING_AWAY, "later"), &wakes);
        connection.push(None, Bytes::from("too late"), &wakes);
        connection.push_delta(0, None, Bytes::from("too late"), &wakes);
        assert!(taken(&connection).is_empty());
        let orders = connection.begin_poll(Waker::noop(), &wakes);
        assert_eq!(orders.end, Some(End::Close(CloseCode::SLOW, "slow")));
        connection.end(End::Drop, &wakes);
        assert_eq!(connection.begin_poll(Waker::noop(), &wakes).end, Some(End::Drop));
    }
}
