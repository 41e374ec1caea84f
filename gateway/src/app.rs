//! What every request handler shares. Made once when the gateway is bound; everything in it is cheap to reach
//! from any thread.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use alyx_config::Config;
use alyx_core::{Caller, Clock};
use alyx_service::function::SharedFunctions;
use alyx_service::health::SharedCheck;
use alyx_service::state::{ControlPlane, DesiredState, StateWatch};
use alyx_store::Store;

use crate::auth::Auth;
use crate::authority::{Authority, InvokeRules, RuleCache};
use crate::cluster::peers::SharedPeers;
use crate::documents::Documents;
use crate::files::Files;
use crate::frontend::Frontend;
use crate::metrics::Metrics;
use crate::operators::Tokens;
use crate::realtime::Hub;
use crate::request_log::RequestLog;
use crate::transactions::{Engine, Registry};

/// The gateway's shared state; a clone is one reference count.
#[derive(Clone)]
pub(crate) struct AppState {
    app: Arc<App>,
}

impl AppState {
    pub(crate) fn new(app: App) -> Self {
        Self { app: Arc::new(app) }
    }
}

impl Deref for AppState {
    type Target = App;

    fn deref(&self) -> &App {
        &self.app
    }
}

/// The fields behind [`AppState`].
pub(crate) struct App {
    /// The checked configuration.
    pub(crate) config: Arc<Config>,
    /// The database.
    pub(crate) store: Store,
    /// Desired state as it changes; read it with [`App::desired`].
    pub(crate) state: StateWatch,
    /// The control plane.
    pub(crate) control: Arc<dyn ControlPlane>,
    /// The function worker; `None` where functions are switched off.
    pub(crate) functions: Option<SharedFunctions>,
    /// The realtime hub; `None` where realtime is switched off.
    pub(crate) hub: Option<Arc<Hub>>,
    /// The time of day.
    pub(crate) clock: Arc<dyn Clock>,
    /// What `/health` asks.
    pub(crate) checks: Vec<SharedCheck>,
    /// Counters behind `/metrics`.
    pub(crate) metrics: Arc<Metrics>,
    /// When the gateway was bound.
    pub(crate) started: Instant,
    /// Cleared as the first phase of stopping, and while it is drained; `/health/ready` answers from it.
    pub(crate) accepting: AtomicBool,
    /// Accounts, sessions, and who a token is.
    pub(crate) auth: Arc<Auth>,
    /// API tokens and operators.
    pub(crate) tokens: Arc<Tokens>,
    /// Reads and writes of documents.
    pub(crate) documents: Documents,
    /// Files in buckets.
    pub(crate) files: Arc<Files>,
    /// Batches, conditional requests and transactions.
    pub(crate) engine: Engine,
    /// The access rules of the schema that is served.
    pub(crate) rules: RuleCache,
    /// The access rules of the functions that are served.
    pub(crate) invoke_rules: InvokeRules,
    /// The last requests.
    pub(crate) requests: RequestLog,
    /// The other gateways of a cluster.
    pub(crate) peers: SharedPeers,
    /// Open transactions.
    pub(crate) transactions: Registry,
    /// What is served beside the API.
    pub(crate) frontend: Frontend,
}

impl App {
    /// The snapshot that is served now.
    pub(crate) fn desired(&self) -> Arc<DesiredState> {
        Arc::clone(&self.state.borrow())
    }

    /// What the caller may do now under the rules of that snapshot.
    pub(crate) fn authority(&self, state: &DesiredState, caller: &Caller) -> Authority {
        Authority::of(self.rules.of(&state.schema), caller, self.clock.now())
    }
}
