//! The control plane for other processes: gRPC in front of [`ClusterControl`].
//!
//! Handlers decode, call, encode. Only the leader answers; the others send callers on to it.

mod bundles;
mod register;
mod watch;

use std::sync::Arc;

use alyx_proto::control::control_server::{Control, ControlServer};
use alyx_proto::control::{
    BundleChunk, Directive, FetchBundleRequest, Heartbeat, ListNodesRequest, Nodes, ReloadFunctionsReply,
    ReloadFunctionsRequest, Snapshot, WatchRequest,
};
use alyx_rpc::{MAX_MESSAGE_BYTES, to_status};
use alyx_service::state::ControlPlane as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::cluster::ClusterControl;

/// Messages of a stream that wait for its reader.
const QUEUE: usize = 4;

type Reply<T> = Result<Response<T>, Status>;
type Replies<T> = ReceiverStream<Result<T, Status>>;

impl ClusterControl {
    /// Its services: `alyx.control.v1.Control`, and reflection over all services of the product.
    pub fn routes(self: &Arc<Self>) -> Routes {
        let control = ControlServer::new(Service(Arc::clone(self)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        reflected(Routes::new(control))
    }
}

/// With reflection over all services of the product.
pub(crate) fn reflected(routes: Routes) -> Routes {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(alyx_proto::DESCRIPTORS)
        .build_v1()
        .expect("the descriptors were compiled together with the services");
    routes.add_service(reflection)
}

struct Service(Arc<ClusterControl>);

#[tonic::async_trait]
impl Control for Service {
    type RegisterStream = Replies<Directive>;
    type WatchStream = Replies<Snapshot>;
    type FetchBundleStream = Replies<BundleChunk>;

    async fn register(&self, request: Request<Streaming<Heartbeat>>) -> Reply<Self::RegisterStream> {
        let term = self.0.term().map_err(|error| to_status(&error))?;
        let replies = register::begin(&self.0, term, request.into_inner())
            .await
            .map_err(|error| to_status(&error))?;
        Ok(Response::new(replies))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Reply<Self::WatchStream> {
        let request = request.into_inner();
        let replies = watch::begin(&self.0, &request).map_err(|error| to_status(&error))?;
        Ok(Response::new(replies))
    }

    async fn fetch_bundle(&self, request: Request<FetchBundleRequest>) -> Reply<Self::FetchBundleStream> {
        let hash = request.into_inner().hash;
        let replies = bundles::begin(&self.0, &hash).map_err(|error| to_status(&error))?;
        Ok(Response::new(replies))
    }

    async fn reload_functions(&self, _: Request<ReloadFunctionsRequest>) -> Reply<ReloadFunctionsReply> {
        let term = self.0.term().map_err(|error| to_status(&error))?;
        let functions = term
            .plane
            .reload_functions()
            .await
            .map_err(|error| to_status(&error))?;
        Ok(Response::new(ReloadFunctionsReply {
            functions: functions as u64,
        }))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Reply<Nodes> {
        let term = self.0.term().map_err(|error| to_status(&error))?;
        let list = term.registry.now();
        Ok(Response::new(Nodes {
            nodes: list.nodes,
            complete: list.complete,
        }))
    }
}
