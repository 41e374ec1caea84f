//! All roles in one process, joined by direct calls.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_bus::Bus;
use alyx_config::{Config, FunctionSandbox, process_env};
use alyx_control_plane::{ControlPlane, Options as ControlOptions};
use alyx_core::{Clock, Error, Result, SystemClock};
use alyx_function_worker::{FunctionWorker, PoolOptions, SandboxMode, SandboxOptions, WorkerOptions};
use alyx_gateway::{Gateway, GatewayParts};
use alyx_operators::Operators;
use alyx_realtime_node::{Limits, NodeParts, RealtimeNode};
use alyx_service::function::SharedFunctions;
use alyx_service::health::SharedCheck;
use alyx_service::realtime::RealtimeService;
use alyx_service::state::{self, ControlPlane as _, Runtime, StateWatch};
use alyx_service::tasks::Tasks;
use alyx_store::Store;

use crate::database;

/// Everything that runs.
pub(crate) struct Roles {
    pub(crate) gateway: Gateway,
    pub(crate) state: StateWatch,
    pub(crate) checks: Vec<SharedCheck>,
    pub(crate) control: Arc<ControlPlane>,
    pub(crate) worker: Option<Arc<FunctionWorker>>,
    pub(crate) operators: Arc<Operators>,
    store: Store,
    /// In the order in which they are stopped.
    background: [Tasks; 3],
}

impl Roles {
    /// Starts store, control plane, realtime node and function worker, and binds the gateway, which does not
    /// accept yet.
    pub(crate) async fn start(config: Arc<Config>, schema: PathBuf) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let [for_functions, for_realtime, for_control] = [Tasks::new(), Tasks::new(), Tasks::new()];
        let bus = Bus::in_process(config.realtime.change_buffer_size as usize);
        let publisher = bus.clone();
        let store = database::open(&config, move |commit| publisher.publish(commit)).await?;
        let state_dir = state_dir(&config.database.path)?;
        let options = ControlOptions {
            schema_path: schema,
            functions: Some(config.functions.clone()),
            state_dir: state_dir.clone(),
            watch: config.dev.enabled && config.dev.watch,
            env: process_env(),
        };
        let control = ControlPlane::start(options, store.clone(), Arc::clone(&clock), &for_control).await?;
        let state = control.watch();
        let mut checks: Vec<SharedCheck> = vec![Arc::new(store.clone())];
        checks.extend(control.health_checks());
        let node = config.realtime.enabled.then(|| {
            RealtimeNode::start(NodeParts {
                store: store.clone(),
                bus: bus.clone(),
                state: state.clone(),
                tasks: for_realtime.clone(),
                limits: Limits::default(),
            })
        });
        checks.extend(node.iter().map(|node| Arc::clone(node) as SharedCheck));
        let worker = config.functions.enabled.then(|| {
            let options = worker_options(&config, state.clone(), state_dir.join("runtimes"));
            FunctionWorker::start(options, for_functions.clone())
        });
        if let Some(worker) = &worker {
            if config.functions.sandbox == FunctionSandbox::Strict {
                worker.sandboxed().await?;
            }
            checks.push(Arc::clone(worker) as SharedCheck);
        }
        let operators = Arc::new(Operators::new(store.clone(), Arc::clone(&clock)));
        let gateway = Gateway::bind(GatewayParts {
            config,
            store: store.clone(),
            state: state.clone(),
            control: Arc::clone(&control) as Arc<dyn state::ControlPlane>,
            realtime: node.map(|node| node as Arc<dyn RealtimeService>),
            functions: worker.clone().map(|worker| worker as SharedFunctions),
            checks: checks.clone(),
            peers: None,
            clock,
        })
        .await?;
        Ok(Self {
            gateway,
            state,
            checks,
            control,
            worker,
            operators,
            store,
            background: [for_functions, for_realtime, for_control],
        })
    }

    /// Whether there is an operator; taken for true where that cannot be found out.
    pub(crate) async fn has_operators(&self) -> bool {
        const WITHIN: Duration = Duration::from_secs(5);
        let looked = self.operators.has_operators(Instant::now() + WITHIN).await;
        looked.unwrap_or(true)
    }

    /// Stops in phases under one deadline; `false` where something had to be cut off.
    pub(crate) async fn stop(self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut clean = self.gateway.shutdown(left()).await;
        if let Some(worker) = &self.worker {
            clean &= worker.drain(left()).await;
        }
        for tasks in &self.background {
            clean &= tasks.stop(left()).await;
        }
        self.store.close().await;
        clean
    }
}

pub(crate) fn worker_options(config: &Config, state: StateWatch, runtime_dir: PathBuf) -> WorkerOptions {
    let pool = |runtime: Runtime| {
        let pool = config.functions.pool(runtime.name());
        PoolOptions {
            binary: None,
            min_warm: pool.min_warm as usize,
            max_instances: pool.max_instances as usize,
            idle_timeout: pool.idle_timeout,
            concurrency: pool.concurrency as usize,
        }
    };
    WorkerOptions {
        node: pool(Runtime::Node),
        python: pool(Runtime::Python),
        go: pool(Runtime::Go),
        memory_mib: config.functions.memory_limit,
        sandbox: SandboxOptions {
            mode: match config.functions.sandbox {
                FunctionSandbox::Auto => SandboxMode::Auto,
                FunctionSandbox::Strict => SandboxMode::Strict,
                FunctionSandbox::Off => SandboxMode::Off,
            },
            // This very binary, also where its file has been replaced by a newer one meanwhile.
            launcher: PathBuf::from("/proc/self/exe"),
        },
        ..WorkerOptions::new(state, runtime_dir)
    }
}

/// Where the roles keep files of their own: `.alyx` beside the database. Absolute, because functions run in folders
/// of their own.
pub(crate) fn state_dir(database: &Path) -> Result<PathBuf> {
    let folder = database.parent().unwrap_or(Path::new("")).join(".alyx");
    std::path::absolute(folder).map_err(Error::internal)
}
