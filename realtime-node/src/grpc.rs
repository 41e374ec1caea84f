//! The node as gateways in other processes reach it: one stream each, mapped onto a link.

mod stream;

use std::sync::Arc;
use std::time::Duration;

use alyx_core::Error;
use alyx_proto::realtime as wire;
use alyx_proto::realtime::realtime_server::{Realtime, RealtimeServer};
use alyx_rpc::to_status;
use alyx_service::realtime::RealtimeService;
use alyx_service::state::StateWatch;
use alyx_service::tasks::{OnEnd, Tasks};
use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::node::RealtimeNode;
use stream::{Stream, StreamParts};

/// Longest frame of a gateway, in bytes; a query is at most a small part of it.
const MAX_GATEWAY_FRAME: usize = 4 << 20;
/// Frames between a stream's task and its connection.
const FRAMES: usize = 64;

/// Serves a node's links over gRPC.
#[derive(Debug, Clone)]
pub struct RealtimeRpc {
    node: Arc<RealtimeNode>,
    state: StateWatch,
    tasks: Tasks,
    draining: watch::Sender<bool>,
}

impl RealtimeRpc {
    /// For `node`, which serves the schema of `state`. Streams end with `tasks`.
    pub fn new(node: Arc<RealtimeNode>, state: StateWatch, tasks: Tasks) -> Self {
        Self {
            node,
            state,
            tasks,
            draining: watch::Sender::new(false),
        }
    }

    /// The service, for a server.
    pub fn routes(&self) -> Routes {
        let server = RealtimeServer::new(self.clone()).max_decoding_message_size(MAX_GATEWAY_FRAME);
        Routes::new(server)
    }

    /// Asks all gateways to move their groups to other nodes, or no longer.
    pub fn set_draining(&self, draining: bool) {
        self.draining.send_replace(draining);
    }

    /// Asks all gateways to move their groups to other nodes and waits until they have; `false` where some had
    /// nowhere to go within `deadline`.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.set_draining(true);
        self.node.unused_within(deadline).await
    }
}

#[async_trait]
impl Realtime for RealtimeRpc {
    type LinkStream = ReceiverStream<Result<wire::NodeFrame, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<wire::GatewayFrame>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let link = self
            .node
            .connect()
            .await
            .map_err(|error: Error| to_status(&error))?;
        let (frames, outgoing) = mpsc::channel(FRAMES);
        let stream = Stream::new(StreamParts {
            incoming: request.into_inner(),
            outgoing: frames,
            link,
            node: Arc::clone(&self.node),
            state: self.state.clone(),
            draining: self.draining.subscribe(),
            cancelled: self.tasks.cancelled(),
        });
        self.tasks.spawn("realtime.stream", OnEnd::Ignore, stream.run());
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}
