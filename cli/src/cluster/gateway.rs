//! `alyx gateway`.

use std::sync::Arc;
use std::time::Instant;

use alyx_cluster::RemoteControl;
use alyx_core::{Result, SystemClock};
use alyx_gateway::{
    Drain, Gateway, GatewayParts, PeersOptions, RemoteFunctions, RemoteFunctionsOptions, RemoteRealtime,
    RemoteRealtimeParts,
};
use alyx_service::cluster::Role as NodeRole;
use alyx_service::function::SharedFunctions;
use alyx_service::health::SharedCheck;
use alyx_service::realtime::RealtimeService;
use alyx_service::state::ControlPlane;
use alyx_service::tasks::{OnEnd, Tasks};
use alyx_store::{Store, WriterService};
use async_trait::async_trait;
use tokio::sync::watch;
use tonic::service::Routes;

use super::base::{Base, left};
use super::{Running, figures};
use crate::banner::warn_of_open;
use crate::operations::Told;

struct Role {
    base: Arc<Base>,
    control: Arc<RemoteControl>,
    gateway: Gateway,
    store: Store,
    draining: watch::Sender<bool>,
    /// Links to realtime nodes and workers.
    links: Tasks,
}

pub(super) async fn start(base: &Arc<Base>) -> Result<Box<dyn Running>> {
    let config = &base.config;
    let links = Tasks::new();
    let bus = base.bus()?;
    let (control, store) = tokio::try_join!(base.control(), base.database(&bus, true))?;
    let state = control.watch();
    let mut checks: Vec<SharedCheck> = vec![Arc::new(store.clone()), control.health_check()];
    checks.extend(bus.health_check());
    let realtime = config.realtime.enabled.then(|| {
        RemoteRealtime::new(RemoteRealtimeParts {
            nodes: control.nodes(),
            state: state.clone(),
            security: base.security.clone(),
            tasks: links.clone(),
        })
    });
    checks.extend(
        realtime
            .iter()
            .map(|realtime| Arc::clone(realtime) as SharedCheck),
    );
    let functions = config.functions.enabled.then(|| {
        let mut options = RemoteFunctionsOptions::new(control.nodes(), base.security.clone());
        options.state = Some(state.clone());
        RemoteFunctions::start(options, &links)
    });
    checks.extend(
        functions
            .iter()
            .map(|functions| Arc::clone(functions) as SharedCheck),
    );
    let mut gateway = Gateway::bind(GatewayParts {
        config: Arc::clone(config),
        store: store.clone(),
        state,
        control: Arc::clone(&control) as Arc<dyn ControlPlane>,
        functions: functions.map(|functions| functions as SharedFunctions),
        realtime: realtime.map(|realtime| realtime as Arc<dyn RealtimeService>),
        peers: Some(PeersOptions {
            node_id: base.node_id.clone(),
            nodes: control.nodes(),
            security: base.security.clone(),
        }),
        clock: Arc::new(SystemClock),
        checks: checks.clone(),
    })
    .await?;
    base.tell(Told {
        ready: false,
        checks,
        figures: figures::of_gateway(gateway.figures(), Arc::clone(&control), store.clone()),
    });
    let routes = Routes::new(WriterService::new(store.clone()).into_server());
    base.serve(routes.add_service(gateway.peer_service().into_server()))
        .await?;
    gateway.serve();
    let state = Arc::clone(&control.watch().borrow());
    warn_of_open(&state, config);
    base.announce(&control, u64::from(config.realtime.max_connections));
    let draining = watch::Sender::new(false);
    let relief = Relief {
        control: Arc::clone(&control),
        drain: gateway.drain(),
        store: store.clone(),
        draining: draining.subscribe(),
    };
    let cancelled = links.cancelled();
    links.spawn("gateway.relief", OnEnd::Ignore, async move {
        cancelled.run_until_cancelled(relief.run()).await;
    });
    Ok(Box::new(Role {
        base: Arc::clone(base),
        control,
        gateway,
        store,
        draining,
        links,
    }))
}

/// Gives sockets and the writer's lease away while this gateway drains. As long as no other gateway is ready it keeps
/// both: draining takes nothing down.
struct Relief {
    control: Arc<RemoteControl>,
    drain: Drain,
    store: Store,
    draining: watch::Receiver<bool>,
}

impl Relief {
    async fn run(mut self) {
        let mut nodes = self.control.nodes();
        loop {
            let draining = *self.draining.borrow_and_update();
            let relieved = draining
                && nodes.borrow_and_update().iter().any(|node| {
                    node.role == NodeRole::Gateway && !node.draining && node.id != self.control.node_id()
                });
            self.drain.set_leaving(relieved);
            self.store.set_may_write(!relieved);
            let changed = tokio::select! {
                changed = self.draining.changed() => changed,
                changed = nodes.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }
}

#[async_trait]
impl Running for Role {
    fn public(&self) -> Option<String> {
        let port = self.gateway.local_addr().port();
        Some(crate::banner::base_url(&self.base.config.server.host, port))
    }

    fn drain_requested(&self) -> Option<watch::Receiver<bool>> {
        Some(self.control.drain_requested())
    }

    fn set_draining(&self, draining: bool) {
        self.control.set_draining(draining);
        self.gateway.drain().set_ready(!draining);
        self.draining.send_replace(draining);
    }

    async fn stop(self: Box<Self>, deadline: Instant) -> bool {
        let drained = self.gateway.shutdown(left(deadline)).await;
        let served = self.base.stop_serving(deadline).await;
        let ended = self.links.stop(left(deadline)).await;
        self.store.close().await;
        drained && served && ended
    }
}
