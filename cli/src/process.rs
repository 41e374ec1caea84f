//! One serving process, from its configuration to its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_config::{Config, LoadOptions, Loaded, process_env};
use alyx_core::Error;
use alyx_service::health::Status;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::ServeArgs;
use crate::banner::Banner;
use crate::failure::Failure;
use crate::roles::Roles;
use crate::telemetry;

/// Longest time for stopping; what is not done by then is cut off.
const STOP_WITHIN: Duration = Duration::from_secs(15);

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
    let loaded = load(args, mode)?;
    telemetry::start(&loaded.config.logging);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("alyx")
        .build()
        .map_err(|error| Failure::Other(Error::internal(error)))?;
    let clean = runtime.block_on(serve(loaded, schema(args), mode, began))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    if !clean {
        tracing::warn!("stopped at the deadline; something was cut off");
    }
    Ok(())
}

async fn serve(loaded: Loaded, schema: PathBuf, mode: Mode, began: Instant) -> Result<bool, Failure> {
    let other = |error: std::io::Error| Failure::Other(Error::internal(error));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
    let config = Arc::new(loaded.config);
    let mut roles = Roles::start(Arc::clone(&config), schema)
        .await
        .map_err(|error| match error.code() {
            "SCHEMA_INVALID" => Failure::Project(error),
            _ => Failure::Other(error),
        })?;
    roles.gateway.serve();
    let state = roles.state.borrow().clone();
    let troubles = troubles(&roles).await;
    let banner = Banner {
        troubles: &troubles,
        config: &config,
        state: &state,
        address: roles.gateway.local_addr(),
        mode,
        began,
    };
    print!("{banner}");
    first(&mut interrupt, &mut terminate).await;
    tracing::info!("stopping");
    tokio::select! {
        clean = roles.stop(STOP_WITHIN) => Ok(clean),
        () = first(&mut interrupt, &mut terminate) => {
            tracing::warn!("stopped at once by a second signal");
            std::process::exit(130);
        }
    }
}

async fn first(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// What does not work from the start, in words.
async fn troubles(roles: &Roles) -> Vec<String> {
    let mut troubles = Vec::new();
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

fn load(args: &ServeArgs, mode: Mode) -> Result<Loaded, Failure> {
    let options = LoadOptions {
        path: args.config.clone(),
        dir: PathBuf::new(),
        env: process_env(),
        overrides: args.overrides(),
    };
    let mut loaded = Config::load(&options).map_err(Failure::Config)?;
    loaded.config.dev.enabled = mode == Mode::Dev;
    Ok(loaded)
}

fn schema(args: &ServeArgs) -> PathBuf {
    args.schema
        .clone()
        .unwrap_or_else(|| PathBuf::from("schema.yaml"))
}
