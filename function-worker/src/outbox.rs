//! Frames on their way to an instance: what is queued between two wake-ups of the writer leaves in one system
//! call.
//!
//! Bounded by the number of calls in flight, each with one input, and of open `ctx.db` calls, each with one
//! result.

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::frame::{FrameType, encode_head};

/// Bodies from this size are queued as they are instead of being copied.
const SHARED_FROM: usize = 16 << 10;
/// A buffer that has grown beyond this is given back.
const KEPT: usize = 256 << 10;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// Finished chunks, before `tail`.
    chunks: Vec<Bytes>,
    tail: BytesMut,
}

impl Outbox {
    /// Queues one frame.
    pub(crate) fn push(&self, kind: FrameType, stream: u64, body: &Bytes, meta: impl FnOnce(&mut BytesMut)) {
        let mut queue = self.queue.lock();
        let was_empty = queue.tail.is_empty() && queue.chunks.is_empty();
        encode_head(&mut queue.tail, kind, stream, body.len(), meta);
        if body.len() < SHARED_FROM {
            queue.tail.extend_from_slice(body);
        } else {
            let head = queue.tail.split().freeze();
            queue.chunks.push(head);
            queue.chunks.push(body.clone());
        }
        drop(queue);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Queues a frame that is its type alone.
    pub(crate) fn signal(&self, kind: FrameType, stream: u64) {
        self.push(kind, stream, &Bytes::new(), |_| {});
    }

    /// Writes what is queued, for ever, until the socket breaks.
    pub(crate) async fn write_to(&self, mut socket: impl AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut spare = BytesMut::new();
        loop {
            self.filled.notified().await;
            let chunks = {
                let mut queue = self.queue.lock();
                std::mem::swap(&mut queue.tail, &mut spare);
                std::mem::take(&mut queue.chunks)
            };
            for mut chunk in chunks {
                socket.write_all_buf(&mut chunk).await?;
            }
            socket.write_all(&spare).await?;
            spare.clear();
            if spare.capacity() > KEPT {
                spare = BytesMut::new();
            }
        }
    }
}
