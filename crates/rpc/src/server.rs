//! Listening for other roles, and for operators.

use std::net::SocketAddr;
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result};
use alyx_service::tasks::{OnEnd, Tasks};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::auth::{Gate, Guard};
use crate::traced::Tracing;

/// Streams of one connection at a time; the next one waits.
const MAX_STREAMS: u32 = 4096;
/// How often a quiet peer is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(5);
/// A peer that does not answer within this is gone.
const PONG_WITHIN: Duration = Duration::from_secs(5);
/// Bytes under way on one stream before its reader must have taken some.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same for a whole connection.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Largest metadata of one call in bytes.
const MAX_HEADERS: u32 = 64 << 10;

/// A bound port that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// The address with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// Binds `listen` (`host:port`, port 0 takes a free one), as `cluster.listen` says.
///
/// # Errors
/// `LISTEN_FAILED`.
pub async fn bind(listen: &str) -> Result<Listener> {
    bind_as("cluster.listen", listen).await
}

/// Binds `listen`, as that key of the configuration says.
///
/// # Errors
/// `LISTEN_FAILED`.
pub async fn bind_as(key: &str, listen: &str) -> Result<Listener> {
    let failed = |error: std::io::Error| {
        Error::new(
            ErrorKind::Unavailable,
            "LISTEN_FAILED",
            format!("cannot listen on {listen} ({key}): {error}; free the address or name another"),
        )
    };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Listener { listener, address })
}

/// A server that accepts. Dropping it does not stop it; its tasks do.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    health: HealthReporter,
    phase: watch::Sender<Phase>,
    ended: watch::Receiver<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    Cut,
}

/// Serves `routes` and gRPC health, all but health behind `gate`, until [`Server::stop`] or until `tasks` are
/// cancelled, which cuts calls off. Health says "not serving" until [`Server::set_ready`].
///
/// # Errors
/// `CLUSTER_TLS_INVALID`, `ADMIN_TLS_INVALID`.
pub async fn serve(
    listener: Listener,
    gate: impl Into<Gate>,
    routes: Routes,
    tasks: &Tasks,
) -> Result<Server> {
    let gate = gate.into();
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", ServingStatus::NotServing).await;
    let (phase, mut phases) = watch::channel(Phase::Serving);
    let (end, ended) = watch::channel(false);
    let server = gate
        .secure_server(tonic::transport::Server::builder())?
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PONG_WITHIN))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .layer(Guard(gate))
        .layer(Tracing)
        .add_routes(routes.add_service(health_service));
    let incoming = TcpIncoming::from(listener.listener).with_nodelay(Some(true));
    let mut drain = phases.clone();
    let cancelled = tasks.cancelled();
    let accepting = async move {
        let drained = async {
            // An error means that the handle is gone; only the tasks can stop the server then.
            if drain.wait_for(|phase| *phase != Phase::Serving).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        server.serve_with_incoming_shutdown(incoming, drained).await
    };
    let cut = async move {
        if phases.wait_for(|phase| *phase == Phase::Cut).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tasks.spawn("rpc.server", OnEnd::Ignore, async move {
        tokio::select! {
            served = accepting => {
                if let Err(error) = served {
                    tracing::error!(%error, "a gRPC listener has failed");
                }
            }
            () = cut => {}
            () = cancelled.cancelled() => {}
        }
        end.send_replace(true);
    });
    Ok(Server {
        address: listener.address,
        health,
        phase,
        ended,
    })
}

impl Server {
    /// The address with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What gRPC health tells for the server as a whole (service name ``).
    pub async fn set_ready(&self, ready: bool) {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.health.set_service_status("", status).await;
    }

    /// Reports "not serving", accepts nothing new, tells peers to go elsewhere, and waits for calls under way;
    /// `false` where some were cut off because they had not ended within `deadline`.
    pub async fn stop(mut self, deadline: Duration) -> bool {
        self.set_ready(false).await;
        self.phase.send_replace(Phase::Draining);
        let drained = tokio::time::timeout(deadline, self.ended.wait_for(|ended| *ended))
            .await
            .is_ok();
        self.phase.send_replace(Phase::Cut);
        drained
    }
}
