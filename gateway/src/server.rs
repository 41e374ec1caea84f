//! The listener and its connections, from the first accept to the last reply.
//!
//! Stops in phases: `/health/ready` says no, nothing more is accepted, what is being answered is answered and
//! sockets are told to go, what is left at the deadline is cut.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result};
use alyx_service::repoll::Repoll;
use alyx_service::tasks::{OnEnd, Tasks};
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::app::AppState;
use crate::connection::{Activity, Limits, Standstill, Watched};
use crate::edge::Edge;
use crate::metrics::ShardId;

/// Most connections that are no realtime sockets.
const MAX_PLAIN_CONNECTIONS: usize = 8192;
/// Most requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// Pause after the system refused to accept (out of descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most connections over the bound that are told so at the same time; further ones are just closed.
const MAX_REFUSALS: usize = 256;
/// Longest time that telling them may take.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// What they are told: the end of the connection ends the body.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
Retry-After: 1\r\nConnection: close\r\n\r\n\
{\"error\":{\"code\":\"TOO_MANY_CONNECTIONS\",\"message\":\"the server has no free connection\"}}";

/// Bound listeners that nobody accepts from yet.
pub(crate) struct Listeners {
    all: Vec<TcpListener>,
    address: SocketAddr,
}

/// An HTTP server.
pub(crate) struct Server {
    listeners: Vec<TcpListener>,
    shared: Arc<Shared>,
}

/// What all connections share.
struct Shared {
    app: AppState,
    edge: Arc<Edge>,
    limits: Limits,
    builder: auto::Builder<Executor>,
    permits: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    accepting: Tasks,
    connections: Tasks,
    cut: CancellationToken,
}

impl Listeners {
    /// Binds every address that the host's name stands for.
    ///
    /// Errors: `LISTEN_FAILED`, with what to do about it.
    pub(crate) async fn bind(host: &str, port: u16) -> Result<Self> {
        let all = bind_all(host, port).await?;
        let address = all[0].local_addr().map_err(Error::internal)?;
        Ok(Self { all, address })
    }

    /// The first address, with its real port.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Server {
    pub(crate) fn new(app: AppState, edge: Arc<Edge>, listeners: Listeners) -> Self {
        let sockets = app.config.realtime.max_connections as usize;
        let connections = Tasks::new();
        let mut builder = auto::Builder::new(Executor(connections.clone()));
        builder.http1().max_buf_size(MAX_HEAD).half_close(false);
        builder
            .http2()
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD as u32);
        let shared = Arc::new(Shared {
            edge,
            limits: Limits::new(&app.config.server),
            builder,
            permits: Arc::new(Semaphore::new(MAX_PLAIN_CONNECTIONS + sockets)),
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
            accepting: Tasks::new(),
            connections,
            cut: CancellationToken::new(),
            app,
        });
        Self {
            listeners: listeners.all,
            shared,
        }
    }

    /// Starts accepting.
    pub(crate) fn serve(&mut self) {
        for listener in self.listeners.drain(..) {
            let shared = Arc::clone(&self.shared);
            self.shared
                .accepting
                .spawn("gateway.accept", OnEnd::Ignore, accept(listener, shared));
        }
    }

    /// Gives the listeners back to the system.
    pub(crate) async fn stop_accepting(&mut self, deadline: Duration) {
        self.listeners.clear();
        self.shared.accepting.stop(deadline).await;
    }

    /// Lets requests end and closes their connections; `false` where some had to be cut at the deadline.
    pub(crate) async fn drain(&self, deadline: Duration) -> bool {
        let drained = self.shared.connections.stop(deadline).await;
        self.shared.cut.cancel();
        drained
    }
}

async fn bind_all(host: &str, port: u16) -> Result<Vec<TcpListener>> {
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| listen_failed(host, port, &error))?;
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut missing = None;
    for mut address in addresses {
        // With port 0 the first address picks the port, and the others share it.
        if let Some(first) = listeners.first() {
            address.set_port(first.local_addr().map_err(Error::internal)?.port());
        }
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            // A name may stand for an address that this machine does not have (no IPv6).
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => missing = Some(error),
            Err(error) => return Err(listen_failed(host, address.port(), &error)),
        }
    }
    match (listeners.is_empty(), missing) {
        (false, _) => Ok(listeners),
        (true, Some(error)) => Err(listen_failed(host, port, &error)),
        (true, None) => Err(listen_failed(host, port, &io::ErrorKind::NotFound.into())),
    }
}

fn listen_failed(host: &str, port: u16, error: &io::Error) -> Error {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process has taken the port; stop it, or set server.port (0 takes a free one)".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not take that port; set server.port to one from 1024 up".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; set server.host to one it has".to_owned()
        }
        _ => format!("{error}; check server.host and server.port"),
    };
    Error::new(
        ErrorKind::Unavailable,
        "LISTEN_FAILED",
        format!("cannot listen on {host}:{port}: {why}"),
    )
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let stop = shared.accepting.cancelled();
    let mut troubled = false;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                troubled = false;
                admit(stream, peer.ip(), &shared);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if !troubled {
                    tracing::error!(%error, "cannot accept connections; going on trying");
                }
                troubled = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether an accept failed because the caller was gone again, which says nothing about the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

fn admit(stream: TcpStream, peer: IpAddr, shared: &Arc<Shared>) {
    let Ok(permit) = Arc::clone(&shared.permits).try_acquire_owned() else {
        shared.app.metrics.connection_refused();
        if let Ok(permit) = Arc::clone(&shared.refusals).try_acquire_owned() {
            shared.connections.spawn_detached(refuse(stream, permit));
        }
        return;
    };
    // Only costs latency where it fails.
    let _ = stream.set_nodelay(true);
    let shard = shared.app.metrics.connection_opened();
    let connection = serve_connection(stream, (shard, peer), Arc::clone(shared), permit);
    shared.connections.spawn_detached(Repoll::new(connection));
}

async fn refuse(mut stream: TcpStream, _permit: OwnedSemaphorePermit) {
    let tell = async {
        stream.write_all(REFUSAL).await?;
        stream.shutdown().await
    };
    // Whether the caller hears it or not, the connection ends.
    let _ = tokio::time::timeout(REFUSAL_TIME, tell).await;
}

async fn serve_connection(
    stream: TcpStream,
    from: (ShardId, IpAddr),
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
) {
    let _closed = OnDrop(|| shared.app.metrics.connection_closed());
    let activity = Arc::new(Activity::default());
    let io = Watched::new(TokioIo::new(stream), Arc::clone(&activity));
    let edge = Arc::clone(&shared.edge);
    let of_requests = Arc::clone(&activity);
    let service = service_fn(move |request: Request<Incoming>| {
        let (edge, activity) = (Arc::clone(&edge), Arc::clone(&of_requests));
        async move {
            activity.request_started();
            let _ended = OnDrop(|| activity.request_ended());
            Ok::<_, Infallible>(edge.answer(request.map(Body::new), from).await)
        }
    });
    let mut connection = pin!(shared.builder.serve_connection_with_upgrades(io, service));
    let drain = shared.connections.cancelled();
    let mut draining = pin!(drain.cancelled());
    let mut drained = false;
    let mut tick = pin!(tokio::time::sleep(shared.limits.tick));
    let mut standstill = Standstill::default();
    loop {
        tokio::select! {
            // An error here is the caller's: it broke off, or sent what is no HTTP and was told so.
            _ = connection.as_mut() => return,
            () = tick.as_mut() => {
                if standstill.tick(&activity, &shared.limits) {
                    return;
                }
                tick.as_mut().reset(tokio::time::Instant::now() + shared.limits.tick);
            }
            () = draining.as_mut(), if !drained => {
                drained = true;
                connection.as_mut().graceful_shutdown();
            }
            () = shared.cut.cancelled() => return,
        }
    }
}

/// Runs something when it goes out of scope, also when the future around it is dropped.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Runs what HTTP/2 connections start beside their main future.
#[derive(Clone)]
struct Executor(Tasks);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.spawn_detached(Repoll::new(async move {
            let _ = future.await;
        }));
    }
}
