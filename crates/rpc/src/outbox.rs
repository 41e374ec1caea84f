//! Messages on their way over one stream, taken together by whatever writes it: what is queued between two wake-ups
//! leaves in one write.
//!
//! Queueing never waits, so that a call can be ended from anywhere, also from a drop. It is bounded by the number of
//! calls under way, each with a few small messages and [`AHEAD`] bytes of each of its bodies; a side whose number of
//! calls the other one decides waits for [`Outbox::room`] before it takes in more.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio_stream::Stream;

use crate::body::{AHEAD, BodyKey, PIECE};

/// Queued messages and bytes from which on there is no room.
const FULL_MESSAGES: usize = 4096;
const FULL_BYTES: usize = 32 << 20;

/// The queue of one stream. Anyone may put messages in; the [`Outgoing`] takes them out.
#[derive(Debug)]
pub struct Outbox<M> {
    /// Makes the message that carries the next piece of a body.
    piece: fn(BodyKey, Bytes) -> M,
    queue: Mutex<Queue<M>>,
    emptied: Notify,
}

#[derive(Debug)]
struct Queue<M> {
    messages: VecDeque<(M, usize)>,
    bytes: usize,
    /// What has not been queued yet of bodies under way.
    rests: FxHashMap<BodyKey, Rest>,
    writer: Option<Waker>,
    closed: bool,
    gone: bool,
}

#[derive(Debug)]
struct Rest {
    data: Bytes,
    /// Bytes that may still be queued before the receiver lets more come.
    credit: usize,
}

impl<M> Outbox<M> {
    /// An outbox and its other end. `piece` makes the message that carries the next piece of a body.
    pub fn new(piece: fn(BodyKey, Bytes) -> M) -> (Arc<Self>, Outgoing<M>) {
        let outbox = Arc::new(Self {
            piece,
            queue: Mutex::new(Queue {
                messages: VecDeque::new(),
                bytes: 0,
                rests: FxHashMap::default(),
                writer: None,
                closed: false,
                gone: false,
            }),
            emptied: Notify::new(),
        });
        let outgoing = Outgoing {
            outbox: Arc::clone(&outbox),
        };
        (outbox, outgoing)
    }

    /// Queues a message. Where the stream has ended it is dropped.
    pub fn push(&self, message: M) {
        let mut queue = self.queue.lock();
        queue.put(message, 0);
        wake(queue);
    }

    /// Queues a message with a body: `head` gets the beginning and the whole size.
    pub fn push_with_body(&self, key: BodyKey, mut body: Bytes, head: impl FnOnce(Bytes, u64) -> M) {
        let size = body.len() as u64;
        let first = body.split_to(body.len().min(PIECE));
        let weight = first.len();
        let mut queue = self.queue.lock();
        queue.put(head(first, size), weight);
        if !body.is_empty() && !queue.gone {
            let rest = Rest {
                data: body,
                credit: AHEAD,
            };
            queue.rests.insert(key, rest);
            queue.send_rest(key, self.piece);
        }
        wake(queue);
    }

    /// The receiver of a body has taken in more of it.
    pub fn grant(&self, key: BodyKey, bytes: u64) {
        let mut queue = self.queue.lock();
        if let Some(rest) = queue.rests.get_mut(&key) {
            let bytes = usize::try_from(bytes).unwrap_or(AHEAD);
            rest.credit = (rest.credit + bytes.min(AHEAD)).min(AHEAD);
            queue.send_rest(key, self.piece);
            wake(queue);
        }
    }

    /// Drops what is left of the bodies of an invocation that is over.
    pub fn forget(&self, id: u64) {
        let mut queue = self.queue.lock();
        if !queue.rests.is_empty() {
            queue.rests.retain(|key, _| key.id != id);
        }
    }

    /// Ends the stream once everything queued has been sent.
    pub fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        wake(queue);
    }

    /// Waits until the writer keeps up, or is gone.
    pub async fn room(&self) {
        loop {
            let emptied = self.emptied.notified();
            {
                let queue = self.queue.lock();
                if queue.gone || (queue.messages.len() < FULL_MESSAGES && queue.bytes < FULL_BYTES) {
                    return;
                }
            }
            emptied.await;
        }
    }
}

/// Wakes the writer after the lock is released, so that it does not run into it.
fn wake<M>(mut queue: parking_lot::MutexGuard<'_, Queue<M>>) {
    let writer = queue.writer.take();
    drop(queue);
    if let Some(writer) = writer {
        writer.wake();
    }
}

impl<M> Queue<M> {
    fn put(&mut self, message: M, weight: usize) {
        if !self.gone {
            self.messages.push_back((message, weight));
            self.bytes += weight;
        }
    }

    /// Queues as much of a rest as may be under way.
    fn send_rest(&mut self, key: BodyKey, message: fn(BodyKey, Bytes) -> M) {
        let Some(mut rest) = self.rests.remove(&key) else {
            return;
        };
        while rest.credit > 0 && !rest.data.is_empty() {
            let piece = rest.data.split_to(rest.data.len().min(PIECE).min(rest.credit));
            let weight = piece.len();
            rest.credit -= weight;
            self.put(message(key, piece), weight);
        }
        if !rest.data.is_empty() && !self.gone {
            self.rests.insert(key, rest);
        }
    }

    fn is_done(&self) -> bool {
        self.gone || (self.closed && self.rests.is_empty())
    }
}

/// The messages of an [`Outbox`] in their order. Dropped with the stream; the outbox then takes nothing more.
#[derive(Debug)]
pub struct Outgoing<M> {
    outbox: Arc<Outbox<M>>,
}

impl<M> Stream for Outgoing<M> {
    type Item = M;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<M>> {
        let mut queue = self.outbox.queue.lock();
        let was_full = queue.messages.len() >= FULL_MESSAGES || queue.bytes >= FULL_BYTES;
        let Some((message, weight)) = queue.messages.pop_front() else {
            if queue.is_done() {
                return Poll::Ready(None);
            }
            if !queue
                .writer
                .as_ref()
                .is_some_and(|waker| waker.will_wake(context.waker()))
            {
                queue.writer = Some(context.waker().clone());
            }
            return Poll::Pending;
        };
        queue.bytes -= weight;
        drop(queue);
        if was_full {
            self.outbox.emptied.notify_waiters();
        }
        Poll::Ready(Some(message))
    }
}

impl<M> Drop for Outgoing<M> {
    fn drop(&mut self) {
        let mut queue = self.outbox.queue.lock();
        queue.gone = true;
        queue.rests.clear();
        let left = std::mem::take(&mut queue.messages);
        queue.bytes = 0;
        drop(queue);
        drop(left);
        self.outbox.emptied.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::body::Assembly;

    #[derive(Debug, PartialEq)]
    enum Message {
        Small(u64),
        Head(Bytes, u64),
        More(BodyKey, Bytes),
    }

    #[tokio::test]
    async fn a_large_body_arrives_whole_and_never_runs_far_ahead() {
        let (outbox, mut outgoing) = Outbox::new(Message::More);
        let sent = Bytes::from((0..5_u32 << 20).map(|at| (at % 251) as u8).collect::<Vec<_>>());
        outbox.push_with_body(BodyKey::own(1), sent.clone(), Message::Head);
        outbox.push(Message::Small(2));
        let Some(Message::Head(first, size)) = outgoing.next().await else {
            panic!("the head comes first")
        };
        let mut body = Assembly::begin(first, size, sent.len()).expect("it fits");
        let (mut untold, mut before_small) = (0, None);
        while !body.is_whole() {
            match outgoing.next().await.expect("there is more") {
                Message::More(key, piece) => {
                    assert!(piece.len() <= PIECE);
                    untold += piece.len();
                    assert!(untold <= AHEAD, "{untold} bytes ahead");
                    if let Some(bytes) = body.add(&piece).expect("as announced") {
                        untold -= bytes as usize;
                        outbox.grant(key, bytes);
                    }
                }
                Message::Small(2) => before_small = Some(untold),
                other => panic!("{other:?}"),
            }
        }
        assert!(
            before_small.is_some_and(|bytes| bytes <= AHEAD),
            "the small one waited for a part only"
        );
        assert_eq!(body.into_bytes(), sent);
    }

    #[tokio::test]
    async fn closing_sends_what_is_queued_and_a_forgotten_body_does_not_hold_the_end() {
        let (outbox, mut outgoing) = Outbox::new(Message::More);
        outbox.push_with_body(BodyKey::own(1), vec![0; 1 << 20].into(), Message::Head);
        outbox.push(Message::Small(1));
        outbox.close();
        outbox.forget(1);
        let mut got = 0;
        while let Some(message) = outgoing.next().await {
            got += usize::from(message == Message::Small(1));
        }
        assert_eq!(got, 1);
    }

    #[tokio::test]
    async fn there_is_room_when_the_writer_has_caught_up_or_is_gone() {
        let (outbox, mut outgoing) = Outbox::new(Message::More);
        for number in 0..FULL_MESSAGES as u64 {
            outbox.push(Message::Small(number));
        }
        let waiting = outbox.room();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        outgoing.next().await;
        waiting.await;

        outbox.push(Message::Small(0));
        let waiting = outbox.room();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(outgoing);
        waiting.await;
        outbox.push(Message::Small(0));
        assert!(outbox.queue.lock().messages.is_empty(), "nobody would take it");
    }
}
