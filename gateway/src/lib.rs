//! The public edge: REST over documents and functions, live queries over WebSocket, the API's documentation, a
//! frontend beside it, and what operators ask.
//!
//! Stateless but for its sockets: everything it serves comes from the store, from the desired state that the
//! control plane publishes, and from the roles behind the seams of `alyx-service`.

#![allow(
    clippy::result_large_err,
    reason = "errors are rare and made once per request; `alyx_core::Error` is what crosses the seams"
)]

mod app;
mod auth;
mod authority;
mod body;
mod cluster;
mod connection;
mod cors;
mod documents;
mod edge;
mod envelope;
mod files;
mod frontend;
mod invocation;
mod metrics;
mod openapi;
mod operators;
mod realtime;
mod request_id;
mod request_log;
mod route;
mod routes;
mod server;
mod transactions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alyx_config::Config;
use alyx_core::{Clock, Result};
use alyx_service::function::SharedFunctions;
use alyx_service::health::SharedCheck;
use alyx_service::realtime::RealtimeService;
use alyx_service::state::{ControlPlane, StateWatch};
use alyx_service::tasks::{OnEnd, Tasks};
use alyx_store::Store;
use axum::Router;
use axum::routing::get;

pub use crate::cluster::functions::{RemoteFunctions, RemoteFunctionsOptions};
pub use crate::cluster::peers::{PeerService, PeersOptions};
pub use crate::cluster::realtime::{RemoteRealtime, RemoteRealtimeParts, RemoteRealtimeStats};

use crate::app::{App, AppState};
use crate::auth::Auth;
use crate::authority::{InvokeRules, RuleCache};
use crate::cluster::peers::Peers;
use crate::documents::Documents;
use crate::edge::Edge;
use crate::files::Files;
use crate::frontend::Frontend;
use crate::metrics::Metrics;
use crate::operators::Tokens;
use crate::realtime::{Hub, HubParts, Limits};
use crate::request_log::RequestLog;
use crate::route::Route;
use crate::server::{Listeners, Server};
use crate::transactions::{Engine, Registry};

/// What a gateway is made of.
pub struct GatewayParts {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// The database.
    pub store: Store,
    /// Desired state as it changes.
    pub state: StateWatch,
    /// The control plane.
    pub control: Arc<dyn ControlPlane>,
    /// The function worker; `None` where functions are switched off.
    pub functions: Option<SharedFunctions>,
    /// The realtime node; `None` where realtime is switched off.
    pub realtime: Option<Arc<dyn RealtimeService>>,
    /// The other gateways; `None` where this is the only one.
    pub peers: Option<PeersOptions>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// What `/health` and `/health/ready` ask.
    pub checks: Vec<SharedCheck>,
}

/// A bound gateway.
pub struct Gateway {
    app: AppState,
    address: SocketAddr,
    server: Server,
    tasks: Tasks,
}

impl Gateway {
    /// Binds the listener. Nothing is served before [`Self::serve`].
    ///
    /// # Errors
    ///
    /// `LISTEN_FAILED` (the port is taken, or not allowed), `FRONTEND_INVALID`, `AUTH_KEY_INVALID`, `MAIL_INVALID`,
    /// `OAUTH_INVALID`: the messages say what to do.
    pub async fn bind(parts: GatewayParts) -> Result<Self> {
        let server = &parts.config.server;
        let listeners = Listeners::bind(&server.host, server.port).await?;
        let tasks = Tasks::new();
        let metrics = Arc::new(Metrics::new());
        let documents = Documents::new(
            parts.store.clone(),
            Arc::clone(&parts.clock),
            Arc::clone(&metrics),
        );
        let auth = Auth::new(
            &parts.config,
            parts.store.clone(),
            Arc::clone(&parts.clock),
            &format!("http://{}:{}", server.host, listeners.local_addr().port()),
        )?;
        let auth = Arc::new(auth);
        let files = Arc::new(Files::new(
            &parts.config,
            parts.store.clone(),
            Arc::clone(&parts.clock),
        ));
        follow_files(&tasks, &files, &parts.state);
        let tokens = Arc::new(Tokens::new(parts.store.clone(), Arc::clone(&parts.clock)));
        let engine = Engine::new(parts.store.clone(), Arc::clone(&parts.clock));
        let open = &parts.config.transactions;
        let peers = parts.peers.map(|options| Arc::new(Peers::new(options)));
        let node = peers.as_ref().map(|peers| peers.node_id().to_owned());
        let transactions = Registry::new(open.timeout, open.max_open, node);
        let frontend = Frontend::new(&parts.config, &tasks)?;
        let hub = parts.realtime.map(|service| {
            let realtime = &parts.config.realtime;
            Hub::start(HubParts {
                service,
                state: parts.state.clone(),
                limits: Limits {
                    max_connections: realtime.max_connections as usize,
                    max_subscriptions_per_client: realtime.max_subscriptions_per_client as usize,
                    max_message_bytes: usize::try_from(realtime.max_frame_size).unwrap_or(usize::MAX),
                },
                tasks: tasks.clone(),
            })
        });
        follow_identities(&tasks, &auth, &tokens, hub.as_ref());
        let app = AppState::new(App {
            auth,
            tokens,
            config: parts.config,
            store: parts.store,
            state: parts.state,
            control: parts.control,
            functions: parts.functions,
            hub,
            clock: parts.clock,
            checks: parts.checks,
            metrics,
            started: Instant::now(),
            accepting: AtomicBool::new(true),
            documents,
            files,
            engine,
            peers,
            rules: RuleCache::default(),
            invoke_rules: InvokeRules::default(),
            requests: RequestLog::default(),
            transactions,
            frontend,
        });
        let edge = Edge::new(app.clone(), router(&app));
        let address = listeners.local_addr();
        let server = Server::new(app.clone(), edge, listeners);
        Ok(Self {
            app,
            address,
            server,
            tasks,
        })
    }

    /// The first address that is listened on, with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Its figures as a scraper reads them, for a listener that is not public. With `metrics.listen` set, the public
    /// one has no `/metrics`.
    pub fn figures(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let app = self.app.clone();
        move || routes::figures(&app)
    }

    /// What an operator's wish to drain it acts on.
    pub fn drain(&self) -> Drain {
        Drain(self.app.clone())
    }

    /// What the other gateways ask of this one, for the listener where they reach it.
    pub fn peer_service(&self) -> PeerService {
        PeerService::new(self.app.clone())
    }

    /// Starts accepting connections.
    pub fn serve(&mut self) {
        self.server.serve();
    }

    /// Stops in phases within `deadline`: not ready, nothing accepted, requests answered and sockets closed
    /// (1001), tasks ended. `false` where something had to be cut.
    pub async fn shutdown(mut self, deadline: Duration) -> bool {
        let began = Instant::now();
        let left = || deadline.saturating_sub(began.elapsed());
        self.app.accepting.store(false, Ordering::Relaxed);
        self.server.stop_accepting(left()).await;
        if let Some(hub) = &self.app.hub {
            hub.close_all();
        }
        let drained = self.server.drain(left()).await;
        let ended = self.tasks.stop(left()).await;
        drained && ended
    }
}

/// Starts what keeps sockets and what is remembered true to who people are.
fn follow_identities(tasks: &Tasks, auth: &Arc<Auth>, tokens: &Arc<Tokens>, hub: Option<&Arc<Hub>>) {
    let following = operators::follow(Arc::clone(tokens), hub.cloned());
    let cancelled = tasks.cancelled();
    tasks.spawn("operators.tokens", OnEnd::StopAll, async move {
        cancelled.run_until_cancelled(following).await;
    });
    if auth.is_on() {
        let (following, cancelled) = (auth::follow(Arc::clone(auth), hub.cloned()), tasks.cancelled());
        tasks.spawn("auth.events", OnEnd::StopAll, async move {
            cancelled.run_until_cancelled(following).await;
        });
        let (sending, cancelled) = (auth::send_mails(Arc::clone(auth)), tasks.cancelled());
        tasks.spawn("auth.mails", OnEnd::StopAll, async move {
            cancelled.run_until_cancelled(sending).await;
        });
    }
}

/// Starts what takes the bytes of files away.
fn follow_files(tasks: &Tasks, files: &Arc<Files>, state: &StateWatch) {
    let following = files::follow(Arc::clone(files), state.clone());
    let cancelled = tasks.cancelled();
    tasks.spawn("files.sweep", OnEnd::StopAll, async move {
        cancelled.run_until_cancelled(following).await;
    });
}

/// Every path that a gateway answers, as a template, with its methods as an `Allow` header lists them.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    Route::ALL
        .into_iter()
        .map(|route| (route.template(), route.allow()))
}

/// Takes a gateway out of service while it runs, and puts it back. Cheap to clone.
#[derive(Clone)]
pub struct Drain(AppState);

impl Drain {
    /// What `/health/ready` tells. Requests that come all the same are answered.
    pub fn set_ready(&self, ready: bool) {
        self.0.accepting.store(ready, Ordering::Relaxed);
    }

    /// Sends sockets elsewhere: refuses new ones and closes those that are there with 1001, some each second. `false`
    /// accepts them again.
    pub fn set_leaving(&self, leaving: bool) {
        if let Some(hub) = &self.0.hub {
            hub.set_leaving(leaving);
        }
    }
}

/// The routes that use `axum`'s extractors; all others are dispatched by [`routes`].
fn router(app: &AppState) -> Router {
    let mut router = Router::new();
    if app.config.docs.enabled {
        router = router.merge(openapi::router());
    }
    if app.hub.is_some() {
        router = router.route(Route::Realtime.template(), get(realtime::upgrade));
    }
    router.with_state(app.clone())
}
