//! One serving process, from its configuration to its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_config::{Config, LoadOptions, Loaded, Override, process_env};
use alyx_control_plane::AdminApi;
use alyx_core::Error;
use alyx_service::health::Status;
use alyx_service::tasks::Tasks;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::ServeArgs;
use crate::banner::{Banner, warn_of_open};
use crate::cluster::failure;
use crate::failure::Failure;
use crate::operations::{Operations, Told};
use crate::operators::Operators;
use crate::roles::Roles;
use crate::secret;
use crate::telemetry;

/// Longest time for stopping; what is not done by then is cut off.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(15);

/// How it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Follows edits, tells more.
    Dev,
    /// In production.
    Serve,
}

/// Serves until a signal.
pub(crate) fn run(args: &ServeArgs, mode: Mode) -> Result<(), Failure> {
    let began = Instant::now();
    let mut loaded = load(args.config.clone(), args.overrides())?;
    loaded.config.dev.enabled = mode == Mode::Dev;
    let runtime = prepare(&loaded)?;
    let clean = runtime.block_on(serve(loaded, schema(args), mode, began))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    if !clean {
        tracing::warn!("stopped at the deadline; something was cut off");
    }
    Ok(())
}

/// Starts logging, says what the configuration holds that has no effect, and makes the runtime.
pub(crate) fn prepare(loaded: &Loaded) -> Result<Runtime, Failure> {
    telemetry::start(&loaded.config.logging);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    raise_open_files();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("alyx")
        .build()
        .map_err(|error| Failure::Other(Error::internal(error)))
}

async fn serve(loaded: Loaded, schema: PathBuf, mode: Mode, began: Instant) -> Result<bool, Failure> {
    let mut signals = Signals::listen()?;
    let mut config = loaded.config;
    if mode == Mode::Dev {
        secret::provide(&mut config).map_err(failure)?;
    }
    let background = Tasks::new();
    let operations = match &config.metrics.listen {
        Some(listen) => Some(
            Operations::serve(Some(listen), &background)
                .await
                .map_err(Failure::Other)?,
        ),
        None => None,
    };
    if let Some(operations) = &operations {
        config.metrics.listen = Some(operations.address().to_string());
    }
    let mut operators = Operators::bind(&config).await.map_err(failure)?;
    let config = Arc::new(config);
    let mut roles = Roles::start(Arc::clone(&config), schema).await.map_err(failure)?;
    roles.gateway.serve();
    // Where the database is a server, `alyx admin` asks that.
    if operators.is_none() && !config.database.turso.enabled {
        let local = Operators::bind_local(&config.database.path).await;
        operators = Some(local.map_err(failure)?);
    }
    if let Some(operators) = &operators {
        let api = AdminApi::of_one_process(Arc::clone(&roles.control), Arc::clone(&roles.operators));
        operators.serve(&api, &background).await.map_err(failure)?;
    }
    if let Some(operations) = &operations {
        let figures = roles.gateway.figures();
        operations.tell(Told {
            ready: true,
            checks: roles.checks.clone(),
            figures: Arc::new(move |_| figures()),
        });
    }
    let ready_after = began.elapsed();
    let state = roles.state.borrow().clone();
    let troubles = troubles(&roles).await;
    let banner = Banner {
        troubles: &troubles,
        config: &config,
        state: &state,
        address: roles.gateway.local_addr(),
        mode,
        ready_after,
        admin: operators
            .as_ref()
            .filter(|operators| operators.is_public())
            .map(Operators::url),
        has_operators: roles.has_operators().await,
    };
    print!("{banner}");
    if mode == Mode::Serve {
        warn_of_open(&state, &config);
    }
    signals.next().await;
    tracing::info!("stopping");
    if let Some(operations) = &operations {
        operations.set_ready(false);
    }
    let stopping = async {
        if let Some(operators) = &operators {
            operators.stop(STOP_WITHIN).await;
        }
        let clean = roles.stop(STOP_WITHIN).await;
        background.stop(Duration::from_secs(1)).await && clean
    };
    tokio::select! {
        clean = stopping => Ok(clean),
        () = signals.next() => {
            tracing::warn!("stopped at once by a second signal");
            std::process::exit(130);
        }
    }
}

/// The signals that ask a process to stop.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on they no longer end the process.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let other = |error: std::io::Error| Failure::Other(Error::internal(error));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(other)?,
            terminate: signal(SignalKind::terminate()).map_err(other)?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What does not work from the start, in words.
async fn troubles(roles: &Roles) -> Vec<String> {
    let mut troubles = Vec::new();
    if let Some(worker) = &roles.worker {
        worker.searched().await;
    }
    for check in &roles.checks {
        let report = check.check().await;
        if report.status != Status::Healthy {
            troubles.push(format!(
                "{}: {}",
                check.name(),
                report.message.unwrap_or_default()
            ));
        }
    }
    troubles
}

/// Every socket is an open file, and the usual soft limit of 1,024 is below what the gateway accepts.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, soft_limit = ?limit.current, "the limit of open files could not be raised");
    }
}

/// The configuration of the file, the environment and the flags.
pub(crate) fn load(path: Option<PathBuf>, overrides: Vec<Override>) -> Result<Loaded, Failure> {
    let options = LoadOptions {
        path,
        dir: PathBuf::new(),
        env: process_env(),
        overrides,
    };
    Config::load(&options).map_err(Failure::Config)
}

fn schema(args: &ServeArgs) -> PathBuf {
    args.schema
        .clone()
        .unwrap_or_else(|| PathBuf::from("schema.yaml"))
}
