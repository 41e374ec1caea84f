//! `alyx function-worker`. It knows neither the database nor NATS: what functions ask of their data goes back to the
//! gateway that called.

use std::sync::Arc;
use std::time::Instant;

use alyx_cluster::RemoteControl;
use alyx_config::FunctionSandbox;
use alyx_core::Result;
use alyx_function_worker::{FunctionWorker, WorkerServer};
use alyx_service::health::SharedCheck;
use alyx_service::state::ControlPlane as _;
use alyx_service::tasks::{OnEnd, Tasks};
use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tonic::service::Routes;

use super::base::{Base, left};
use super::{Running, figures};
use crate::operations::Told;
use crate::roles::worker_options;

struct Role {
    base: Arc<Base>,
    control: Arc<RemoteControl>,
    server: Arc<WorkerServer>,
    tasks: Tasks,
}

pub(super) async fn start(base: &Arc<Base>) -> Result<Box<dyn Running>> {
    let config = &base.config;
    let tasks = Tasks::new();
    let control = base.control().await?;
    let options = worker_options(config, control.watch(), base.state_dir.join("runtimes"));
    let capacity = options.slots() as u64;
    let worker = FunctionWorker::start(options, tasks.clone());
    if config.functions.sandbox == FunctionSandbox::Strict {
        worker.sandboxed().await?;
    }
    let server = WorkerServer::new(Arc::clone(&worker), tasks.clone());
    let checks: Vec<SharedCheck> = vec![control.health_check(), Arc::clone(&worker) as SharedCheck];
    base.tell(Told {
        ready: false,
        checks,
        figures: figures::of_function_worker(worker, Arc::clone(&control)),
    });
    base.serve(Routes::new(server.service())).await?;
    base.announce(&control, capacity);
    tasks.spawn(
        "function load",
        OnEnd::Ignore,
        report_load(Arc::clone(&server), Arc::clone(&control), tasks.clone()),
    );
    Ok(Box::new(Role {
        base: Arc::clone(base),
        control,
        server,
        tasks,
    }))
}

/// Tells the directory how many calls there are, as often as it is told anything.
async fn report_load(server: Arc<WorkerServer>, control: Arc<RemoteControl>, tasks: Tasks) {
    let stopping = tasks.cancelled();
    let mut beats = tokio::time::interval(alyx_cluster::HEARTBEAT_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stopping.run_until_cancelled(beats.tick()).await.is_some() {
        control.set_load(server.calls() as u64);
    }
}

#[async_trait]
impl Running for Role {
    fn drain_requested(&self) -> Option<watch::Receiver<bool>> {
        Some(self.control.drain_requested())
    }

    fn set_draining(&self, draining: bool) {
        self.control.set_draining(draining);
    }

    async fn stop(self: Box<Self>, deadline: Instant) -> bool {
        let drained = self.server.drain(left(deadline)).await;
        let served = self.base.stop_serving(deadline).await;
        let ended = self.tasks.stop(left(deadline)).await;
        drained && served && ended
    }
}
