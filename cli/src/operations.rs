//! A listener for operators: health and figures, apart from what the public reaches.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use alyx_core::{Error, ErrorKind, Result, format_timestamp};
use alyx_service::health::{Report, SharedCheck, Status};
use alyx_service::metrics::{Exposition, write_process};
use alyx_service::tasks::{OnEnd, Tasks};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Longest wait for one part's report.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

/// Writes a page of figures; told when the process was started.
pub(crate) type Figures = Arc<dyn Fn(SystemTime) -> String + Send + Sync>;

/// What the listener tells.
#[derive(Clone)]
pub(crate) struct Told {
    /// Nothing is served before, and no longer once it stops.
    pub(crate) ready: bool,
    /// What is looked at.
    pub(crate) checks: Vec<SharedCheck>,
    /// What `/metrics` answers.
    pub(crate) figures: Figures,
}

/// A bound listener; it answers until its tasks are stopped.
#[derive(Clone)]
pub(crate) struct Operations {
    address: SocketAddr,
    told: watch::Sender<Told>,
}

struct Served {
    told: watch::Receiver<Told>,
    started: Instant,
    started_at: SystemTime,
}

impl Operations {
    /// Binds `listen`, a free port of this machine where there is none, and answers "not ready" until it is told more.
    ///
    /// # Errors
    /// `LISTEN_FAILED`.
    pub(crate) async fn serve(listen: Option<&str>, tasks: &Tasks) -> Result<Self> {
        let listen = listen.unwrap_or("127.0.0.1:0");
        let failed = |error: std::io::Error| {
            Error::new(
                ErrorKind::Unavailable,
                "LISTEN_FAILED",
                format!(
                    "cannot listen on {listen} (metrics.listen): {error}; free the address or name another"
                ),
            )
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (told, read) = watch::channel(Told {
            ready: false,
            checks: Vec::new(),
            figures: Arc::new(|started| {
                let mut out = Exposition::new();
                write_process(&mut out, started);
                out.finish()
            }),
        });
        let served = Arc::new(Served {
            told: read,
            started: Instant::now(),
            started_at: SystemTime::now(),
        });
        let router = Router::new()
            .route("/health", get(health))
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .route("/metrics", get(metrics))
            .with_state(served);
        let cancelled = tasks.cancelled();
        tasks.spawn("operations", OnEnd::StopAll, async move {
            tokio::select! {
                served = axum::serve(listener, router) => {
                    if let Err(error) = served {
                        tracing::error!(%error, "the listener for health and metrics has failed");
                    }
                }
                () = cancelled.cancelled() => {}
            }
        });
        Ok(Self { address, told })
    }

    /// The address with its real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is told from now on.
    pub(crate) fn tell(&self, told: Told) {
        self.told.send_replace(told);
    }

    /// Readiness alone.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.told.send_modify(|told| told.ready = ready);
    }
}

#[derive(Serialize)]
struct Health {
    status: Status,
    version: &'static str,
    uptime_seconds: u64,
    timestamp: String,
    components: BTreeMap<&'static str, Report>,
}

async fn health(State(served): State<Arc<Served>>) -> Response {
    let told = served.told.borrow().clone();
    let components = look_at_all(&told.checks).await;
    let worst = components.values().map(|report| report.status).max();
    let status = if told.ready {
        worst.unwrap_or(Status::Healthy)
    } else {
        Status::Unhealthy
    };
    let code = match status {
        Status::Healthy | Status::Degraded => StatusCode::OK,
        Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    let health = Health {
        status,
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: served.started.elapsed().as_secs(),
        timestamp: format_timestamp(SystemTime::now()),
        components,
    };
    uncached(code, Json(health))
}

async fn live() -> Response {
    uncached(StatusCode::OK, Json(json!({"status": "ok"})))
}

async fn ready(State(served): State<Arc<Served>>) -> Response {
    let told = served.told.borrow().clone();
    let reason = if told.ready {
        look_at_all(&told.checks)
            .await
            .into_iter()
            .find(|(_, report)| report.status == Status::Unhealthy)
            .map(|(name, _)| format!("{name} unavailable"))
    } else {
        Some("starting or stopping".to_owned())
    };
    match reason {
        None => uncached(StatusCode::OK, Json(json!({"status": "ready"}))),
        Some(reason) => uncached(
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "not ready", "reason": reason})),
        ),
    }
}

async fn metrics(State(served): State<Arc<Served>>) -> Response {
    let figures = Arc::clone(&served.told.borrow().figures);
    let page = figures(served.started_at);
    ([(header::CONTENT_TYPE, Exposition::CONTENT_TYPE)], page).into_response()
}

async fn look_at_all(checks: &[SharedCheck]) -> BTreeMap<&'static str, Report> {
    let looks = checks.iter().map(async |check| {
        let report = tokio::time::timeout(CHECK_WITHIN, check.check())
            .await
            .unwrap_or_else(|_| Report::new(Status::Unhealthy, "does not answer"));
        (check.name(), report)
    });
    futures_util::future::join_all(looks).await.into_iter().collect()
}

fn uncached(code: StatusCode, body: impl IntoResponse) -> Response {
    (code, [(header::CACHE_CONTROL, "no-store")], body).into_response()
}
