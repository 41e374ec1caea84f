//! Roles as processes of their own, joined by gRPC and NATS over a libSQL server.
//!
//! Each role's composition is a file of its own; what they have in common is in `base`.

mod banner;
mod base;
mod control_plane;
mod figures;
mod function_worker;
mod gateway;
mod realtime_node;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_config::{Config, RoleNeeds};
use alyx_core::{Error, ErrorKind};
use alyx_service::cluster::Role;
use async_trait::async_trait;
use tokio::sync::watch;

use crate::args::RoleArgs;
use crate::failure::Failure;
use crate::process::{self, Signals};

use self::banner::Banner;
use self::base::Base;

/// A role that serves.
#[async_trait]
trait Running: Send {
    /// `http://…` of its public listener.
    fn public(&self) -> Option<String> {
        None
    }

    /// Whether the operator wants it to drain; `None` where nobody can ask it to.
    fn drain_requested(&self) -> Option<watch::Receiver<bool>> {
        None
    }

    /// Takes no new work from now on, or does again, and tells the others.
    fn set_draining(&self, _draining: bool) {}

    /// Finishes what it has begun; `false` where something was cut off.
    async fn stop(self: Box<Self>, deadline: Instant) -> bool;
}

/// Runs one role until a signal.
pub(crate) fn run(args: &RoleArgs, role: Role) -> Result<(), Failure> {
    let loaded = process::load(args.config.clone(), args.overrides())?;
    loaded.config.check_role(needs(role)).map_err(Failure::Config)?;
    let runtime = process::prepare(&loaded)?;
    let schema = args
        .schema
        .clone()
        .unwrap_or_else(|| PathBuf::from("schema.yaml"));
    let clean = runtime.block_on(serve(loaded.config, schema, role))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    if !clean {
        tracing::warn!("stopped at the deadline; something was cut off");
    }
    Ok(())
}

fn needs(role: Role) -> RoleNeeds {
    RoleNeeds {
        control_plane: role != Role::ControlPlane,
        data: role != Role::FunctionWorker,
    }
}

async fn serve(config: Config, schema: PathBuf, role: Role) -> Result<bool, Failure> {
    let mut signals = Signals::listen()?;
    let base = Arc::new(Base::bind(config, role).await.map_err(failure)?);
    // A gateway knows its public address only once everything behind it is there.
    if role != Role::Gateway {
        print!("{}", Banner::new(&base, None));
    }
    let running = tokio::select! {
        started = start(role, &base, schema) => started.map_err(failure)?,
        () = signals.next() => {
            tracing::info!("stopped before everything that is needed was there");
            return Ok(base.stop(Instant::now() + process::STOP_WITHIN).await);
        }
    };
    if role == Role::Gateway {
        print!("{}", Banner::new(&base, running.public()));
    }
    base.set_ready(true).await;
    let failed = tokio::select! {
        () = signals.next() => false,
        () = base.failed() => true,
        () = follow_operator(&*running, &base) => false,
    };
    let deadline = Instant::now() + process::STOP_WITHIN;
    tracing::info!("stopping");
    let stopping = async {
        base.set_ready(false).await;
        running.set_draining(true);
        let clean = running.stop(deadline).await;
        base.stop(deadline).await && clean
    };
    let clean = tokio::select! {
        clean = stopping => clean,
        () = signals.next() => {
            tracing::warn!("stopped at once by a second signal");
            std::process::exit(130);
        }
    };
    if failed {
        return Err(Failure::Other(Error::new(
            ErrorKind::Internal,
            "ROLE_FAILED",
            "a part of this process has ended that must not; the log tells which",
        )));
    }
    Ok(clean)
}

async fn start(role: Role, base: &Arc<Base>, schema: PathBuf) -> alyx_core::Result<Box<dyn Running>> {
    match role {
        Role::ControlPlane => control_plane::start(base, schema).await,
        Role::Gateway => gateway::start(base).await,
        Role::RealtimeNode => realtime_node::start(base).await,
        Role::FunctionWorker => function_worker::start(base).await,
    }
}

/// Drains and works again as the operator asks. Never returns.
async fn follow_operator(running: &dyn Running, base: &Base) {
    let Some(mut drain) = running.drain_requested() else {
        return std::future::pending().await;
    };
    // The wish may have come before anybody listened for it.
    if *drain.borrow() {
        drain.mark_changed();
    }
    while drain.changed().await.is_ok() {
        let wanted = *drain.borrow_and_update();
        tracing::info!(
            drain = wanted,
            "the operator asks this node to drain or to work again"
        );
        running.set_draining(wanted);
        base.set_ready(!wanted).await;
    }
    std::future::pending().await
}

/// What the configuration or the project is to blame for is told as such.
pub(crate) fn failure(error: Error) -> Failure {
    match error.code() {
        "SCHEMA_INVALID"
        | "CLUSTER_TLS_INVALID"
        | "CLUSTER_TOKEN_INVALID"
        | "CLUSTER_INSECURE"
        | "ADMIN_TOKEN_INVALID"
        | "ADMIN_TLS_INVALID"
        | "AUTH_KEY_INVALID"
        | "MAIL_INVALID" => Failure::Project(error),
        _ => Failure::Other(error),
    }
}
