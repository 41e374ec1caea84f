//! The other gateways: a transaction lives in the gateway that began it, and whichever gateway is asked about it hands
//! the request over to that one.
//!
//! Who a node is and where it is reached is looked up in the cluster's directory, never taken from a request.

use std::sync::Arc;
use std::time::Instant;

use alyx_core::{Error, Result};
use alyx_proto::gateway as wire;
use alyx_proto::gateway::gateway_client::GatewayClient;
use alyx_proto::gateway::gateway_server::{Gateway, GatewayServer};
use alyx_rpc::{Call, Channel, MAX_MESSAGE_BYTES, Security, connect, from_status};
use alyx_service::cluster::{NodeWatch, Role};
use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{Request, StatusCode};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tonic::{Response, Status};

use crate::app::AppState;
use crate::edge::identify;
use crate::envelope::{self, Reply};
use crate::request_id::{RequestTag, X_REQUEST_ID};
use crate::route::Matched;
use crate::routes::{self, Context};

/// Headers of a request that its answer depends on.
const HANDED_ON: [HeaderName; 5] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    IF_MATCH,
    IF_NONE_MATCH,
    HeaderName::from_static("idempotency-key"),
];
/// Connections that are kept.
const MAX_CLIENTS: usize = 64;

/// How a gateway knows the others.
pub struct PeersOptions {
    /// This gateway's name in the directory.
    pub node_id: String,
    /// The directory.
    pub nodes: NodeWatch,
    /// How gateways prove who they are.
    pub security: Security,
}

/// The other gateways.
pub(crate) struct Peers {
    options: PeersOptions,
    clients: Mutex<FxHashMap<String, GatewayClient<Channel>>>,
}

impl Peers {
    pub(crate) fn new(options: PeersOptions) -> Self {
        Self {
            options,
            clients: Mutex::default(),
        }
    }

    /// This gateway's name.
    pub(crate) fn node_id(&self) -> &str {
        &self.options.node_id
    }

    /// Has the gateway `node` answer a request; `None` where there is no such gateway.
    ///
    /// Errors: of the link (`PEER_UNAVAILABLE`, `DEADLINE_EXCEEDED`); those of the request are in the reply.
    pub(crate) async fn forward(
        &self,
        node: &str,
        (parts, body): (&Parts, Bytes),
        (tag, deadline): (&RequestTag, Instant),
    ) -> Result<Option<Reply>> {
        let Some(mut client) = self.client(node)? else {
            return Ok(None);
        };
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let mut headers: Vec<wire::Header> = Vec::new();
        for name in &HANDED_ON {
            let values = parts.headers.get_all(name).iter();
            headers.extend(values.map(|value| header_to_wire(name, value)));
        }
        headers.push(header_to_wire(&X_REQUEST_ID, tag.header()));
        let request = wire::ForwardRequest {
            method: parts.method.as_str().to_owned(),
            target: target.to_owned(),
            headers,
            body,
        };
        let call = Call {
            deadline: Some(deadline),
            ..Call::default()
        };
        let call = call.for_request(tag.to_id());
        let reply = client.forward(call.request(request)).await.map_err(from_status)?;
        reply_from_wire(reply.into_inner()).map(Some)
    }

    fn client(&self, node: &str) -> Result<Option<GatewayClient<Channel>>> {
        let address = {
            let nodes = self.options.nodes.borrow();
            let known = nodes
                .iter()
                .find(|known| known.id == node && known.role == Role::Gateway);
            match known {
                Some(known) => known.address.clone(),
                None => return Ok(None),
            }
        };
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(&address) {
            return Ok(Some(client.clone()));
        }
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        let client = GatewayClient::new(connect(&address, &self.options.security)?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        clients.insert(address, client.clone());
        Ok(Some(client))
    }
}

/// The service `alyx.gateway.v1.Gateway`, to be mounted where the other gateways reach this one.
#[derive(Clone)]
pub struct PeerService {
    app: AppState,
}

impl PeerService {
    pub(crate) fn new(app: AppState) -> Self {
        Self { app }
    }

    /// For a server.
    pub fn into_server(self) -> GatewayServer<Self> {
        GatewayServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[async_trait]
impl Gateway for PeerService {
    async fn forward(
        &self,
        request: tonic::Request<wire::ForwardRequest>,
    ) -> std::result::Result<Response<wire::ForwardReply>, Status> {
        let request = request_from_wire(request.into_inner())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let tag = RequestTag::of(request.headers());
        let route = Matched::of(request.uri().path()).route;
        let answered = async {
            let identity = identify(&self.app, route, (request.headers(), request.uri())).await?;
            let context = Context {
                app: &self.app,
                tag: &tag,
                started: Instant::now(),
                forwarded: true,
                identity: &identity,
                peer: None,
            };
            routes::dispatch(context, request).await
        };
        let reply = match answered.await {
            Ok(reply) => reply,
            Err(error) => envelope::failed(&error, &tag),
        };
        let (parts, body) = reply.into_parts();
        let body = axum::body::to_bytes(body, MAX_MESSAGE_BYTES)
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let headers = parts.headers.iter();
        Ok(Response::new(wire::ForwardReply {
            status: parts.status.as_u16().into(),
            headers: headers.map(|(name, value)| header_to_wire(name, value)).collect(),
            body,
        }))
    }
}

fn header_to_wire(name: &HeaderName, value: &HeaderValue) -> wire::Header {
    wire::Header {
        name: name.as_str().to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn request_from_wire(wire: wire::ForwardRequest) -> std::result::Result<Request<Body>, http::Error> {
    let mut request = Request::builder().method(wire.method.as_str()).uri(wire.target);
    for header in wire.headers {
        request = request.header(header.name, header.value.as_ref());
    }
    request.body(Body::from(wire.body))
}

fn reply_from_wire(wire: wire::ForwardReply) -> Result<Reply> {
    let status = u16::try_from(wire.status).map_err(Error::internal)?;
    let mut reply = http::Response::builder().status(StatusCode::from_u16(status).map_err(Error::internal)?);
    for header in wire.headers {
        reply = reply.header(header.name, header.value.as_ref());
    }
    reply.body(Body::from(wire.body)).map_err(Error::internal)
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers")
            .field("node_id", &self.options.node_id)
            .finish_non_exhaustive()
    }
}

/// Shared, where this gateway is one of several.
pub(crate) type SharedPeers = Option<Arc<Peers>>;
