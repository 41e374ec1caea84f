//! Connections to other roles.

use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result};
use alyx_service::repoll::Repoll;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

use crate::security::Security;

/// Longest time for a TCP connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How often a quiet peer is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(2);
/// A peer that does not answer within this is gone.
const PONG_WITHIN: Duration = Duration::from_secs(2);
/// Bytes under way on one stream before its reader must have taken some.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same for a whole connection.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// A connection to one peer that proves who this role is. Cheap to clone; calls share one HTTP/2 connection, which
/// is made at the first call and made anew at the first call after it broke.
pub type Channel = InterceptedService<tonic::transport::Channel, Credentials>;

/// Puts this role's proof on each call.
#[derive(Debug, Clone)]
pub struct Credentials(Option<MetadataValue<Ascii>>);

impl Credentials {
    pub(crate) fn of(proof: Option<MetadataValue<Ascii>>) -> Self {
        Self(proof)
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(proof) = &self.0 {
            request.metadata_mut().insert("authorization", proof.clone());
        }
        Ok(request)
    }
}

/// A channel to `endpoint` (`host:port`). Nothing is connected yet: a call to a peer that is not there fails with
/// `Unavailable` within 2 s, and it is the caller who waits (see [`Backoff`](crate::Backoff)) before it tries again.
/// Must be called inside a tokio runtime.
///
/// # Errors
/// `CLUSTER_ADDRESS_INVALID` where `endpoint` is no `host:port`.
pub fn connect(endpoint: &str, security: &Security) -> Result<Channel> {
    let invalid = |cause: tonic::transport::Error| {
        Error::new(
            ErrorKind::InvalidInput,
            "CLUSTER_ADDRESS_INVALID",
            format!("`{endpoint}` is no address of another role; write `host:port`"),
        )
        .with_source(cause)
    };
    let bare = !endpoint.contains('/') && endpoint.contains(':');
    let uri = if bare {
        format!("{}://{endpoint}", security.scheme())
    } else {
        // Makes the parser below refuse it.
        String::new()
    };
    let endpoint = Endpoint::from_shared(uri)
        .and_then(|endpoint| security.secure_endpoint(endpoint))
        .map_err(invalid)?;
    Ok(InterceptedService::new(
        patient(endpoint).connect_lazy(),
        Credentials(security.authorization()),
    ))
}

/// Finds out by itself when the peer is gone.
pub(crate) fn patient(endpoint: Endpoint) -> Endpoint {
    endpoint
        .executor(Executor)
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .tcp_nodelay(true)
}

/// Runs a channel's connections and the pipes of its calls' bodies, which wake themselves for every frame.
#[derive(Debug, Clone, Copy)]
struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        #[expect(
            clippy::disallowed_methods,
            reason = "tonic's own tasks, which end with their channel"
        )]
        tokio::spawn(Repoll::new(future));
    }
}
