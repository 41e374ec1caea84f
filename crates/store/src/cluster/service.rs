//! The holder's side of forwarding: the gRPC service, and the replies of the last writes, for those who ask twice.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::Result;
use alyx_proto::writer as wire;
use alyx_proto::writer::writer_server::{Writer, WriterServer};
use alyx_rpc::{Call, MAX_MESSAGE_BYTES, to_status};
use alyx_service::tasks::Tasks;
use async_trait::async_trait;
use lru::LruCache;
use parking_lot::Mutex;
use tonic::{Request, Response, Status};

use super::convert::{reply_to_wire, write_from_wire};
use crate::failure::aborted;
use crate::remote::WriteId;
use crate::{Store, WriteReply};

/// Writes whose replies are kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(2048).expect("not zero");
/// Largest reply that is kept, in bytes of its values (about).
const LARGEST_KEPT: usize = 16 << 10;
/// How long a write waits whose sender names no deadline.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// The service `alyx.writer.v1.Writer` of a store in a cluster; others forward their writes to it.
#[derive(Debug, Clone)]
pub struct WriterService {
    store: Store,
}

impl WriterService {
    /// The service of `store`, which refuses all writes where that is not a store in a cluster.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// To be mounted on the listener that the node advertises.
    pub fn into_server(self) -> WriterServer<Self> {
        WriterServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[async_trait]
impl Writer for WriterService {
    async fn write(
        &self,
        request: Request<wire::WriteRequest>,
    ) -> std::result::Result<Response<wire::WriteReply>, Status> {
        let deadline = Call::of(request.metadata())
            .deadline
            .unwrap_or_else(|| Instant::now() + DEFAULT_DEADLINE);
        let (write, id) =
            write_from_wire(request.into_inner(), deadline).map_err(|error| to_status(&error))?;
        tracing::debug!(steps = write.steps.len(), "another node's write is carried out");
        let reply = self.store.accept_write(write, id).await;
        reply
            .map(|reply| Response::new(reply_to_wire(reply)))
            .map_err(|error| to_status(&error))
    }
}

/// The last forwarded writes: one that comes again while the first is under way waits for it, and one that comes
/// again afterwards gets its reply.
#[derive(Debug)]
pub(super) struct Recent {
    slots: Mutex<LruCache<WriteId, Slot>>,
}

/// Locked while the write is under way.
type Slot = Arc<tokio::sync::Mutex<Option<WriteReply>>>;

impl Default for Recent {
    fn default() -> Self {
        Self {
            slots: Mutex::new(LruCache::new(KEPT)),
        }
    }
}

impl Recent {
    /// Does `work`, unless it has been done for this id. It is done to its end, even where the sender goes away.
    pub(super) async fn once(
        &self,
        id: &WriteId,
        work: impl Future<Output = Result<WriteReply>> + Send + 'static,
        tasks: &Tasks,
    ) -> Result<WriteReply> {
        let slot = Arc::clone(self.slots.lock().get_or_insert(Arc::clone(id), Slot::default));
        let mut kept = slot.lock_owned().await;
        if let Some(reply) = kept.as_ref() {
            return Ok(reply.clone());
        }
        let (send, answer) = tokio::sync::oneshot::channel();
        tasks.spawn_detached(async move {
            let outcome = work.await;
            if let Ok(reply) = &outcome
                && size(reply) <= LARGEST_KEPT
            {
                *kept = Some(reply.clone());
            }
            drop(kept);
            let _ = send.send(outcome);
        });
        answer.await.unwrap_or_else(|_| Err(aborted()))
    }
}

fn size(reply: &WriteReply) -> usize {
    let rows = reply.steps.iter().flat_map(|rows| &rows.rows).flatten();
    rows.map(crate::remote::size_of_value).sum()
}
