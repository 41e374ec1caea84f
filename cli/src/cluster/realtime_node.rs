//! `alyx realtime-node`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_cluster::RemoteControl;
use alyx_core::Result;
use alyx_realtime_node::{Limits, NodeParts, RealtimeNode, RealtimeRpc};
use alyx_service::health::SharedCheck;
use alyx_service::state::ControlPlane as _;
use alyx_service::tasks::Tasks;
use alyx_store::Store;
use async_trait::async_trait;
use tokio::sync::watch;

use super::base::{Base, left};
use super::{Running, figures};
use crate::operations::Told;

/// Longest wait for gateways to move their live queries to other nodes; there may be none.
const MOVE_WITHIN: Duration = Duration::from_secs(5);

struct Role {
    base: Arc<Base>,
    control: Arc<RemoteControl>,
    rpc: RealtimeRpc,
    store: Store,
    tasks: Tasks,
}

pub(super) async fn start(base: &Arc<Base>) -> Result<Box<dyn Running>> {
    let tasks = Tasks::new();
    let bus = base.bus()?;
    let (control, store) = tokio::try_join!(base.control(), base.database(&bus, false))?;
    let state = control.watch();
    let node = RealtimeNode::start(NodeParts {
        store: store.clone(),
        bus: bus.clone(),
        state: state.clone(),
        tasks: tasks.clone(),
        limits: Limits::default(),
    });
    let rpc = RealtimeRpc::new(Arc::clone(&node), state, tasks.clone());
    let mut checks: Vec<SharedCheck> = vec![
        Arc::new(store.clone()),
        control.health_check(),
        Arc::clone(&node) as SharedCheck,
    ];
    checks.extend(bus.health_check());
    base.tell(Told {
        ready: false,
        checks,
        figures: figures::of_realtime_node(node, Arc::clone(&control)),
    });
    base.serve(rpc.routes()).await?;
    base.announce(&control, 0);
    Ok(Box::new(Role {
        base: Arc::clone(base),
        control,
        rpc,
        store,
        tasks,
    }))
}

#[async_trait]
impl Running for Role {
    fn drain_requested(&self) -> Option<watch::Receiver<bool>> {
        Some(self.control.drain_requested())
    }

    fn set_draining(&self, draining: bool) {
        self.control.set_draining(draining);
        self.rpc.set_draining(draining);
    }

    async fn stop(self: Box<Self>, deadline: Instant) -> bool {
        if !self.rpc.drain(left(deadline).min(MOVE_WITHIN)).await {
            tracing::warn!("live queries had no other node to move to");
        }
        let ended = self.tasks.stop(left(deadline)).await;
        let served = self.base.stop_serving(deadline).await;
        self.store.close().await;
        ended && served
    }
}
