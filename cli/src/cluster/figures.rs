//! Figures of the roles that have no public listener.

use std::sync::Arc;

use alyx_cluster::RemoteControl;
use alyx_control_plane::ClusterControl;
use alyx_function_worker::FunctionWorker;
use alyx_realtime_node::RealtimeNode;
use alyx_service::cluster::{ClusterNode, Role};
use alyx_service::function::{FunctionService, PoolStats};
use alyx_service::metrics::{Exposition, Family, families, write_process};
use alyx_service::state::ControlPlane as _;
use alyx_store::{Store, WriterStatus};

use crate::operations::Figures;

const ROLES: [Role; 4] = [
    Role::ControlPlane,
    Role::Gateway,
    Role::RealtimeNode,
    Role::FunctionWorker,
];

/// Figures of a control plane.
pub(super) fn of_control_plane(control: Arc<ClusterControl>) -> Figures {
    page(move |out| {
        out.single(families::CONTROL_LEADS, u8::from(control.leads()));
        write_nodes(out, &control.nodes());
        if let Some(revision) = control.schema_revision() {
            out.single(families::CLUSTER_SCHEMA, revision);
        }
    })
}

/// Figures of a realtime node.
pub(super) fn of_realtime_node(node: Arc<RealtimeNode>, control: Arc<RemoteControl>) -> Figures {
    page(move |out| {
        write_followed(out, &control);
        let stats = node.stats();
        out.single(families::NODE_LAG, stats.lag);
        out.single(families::NODE_LINKS, stats.links);
        out.single(families::NODE_GROUPS, stats.groups);
        out.single(families::NODE_SNAPSHOTS, stats.snapshots);
        out.single(families::NODE_REFILLS, stats.refills);
        out.single(families::NODE_REREADS, stats.rereads);
        out.single(families::NODE_TRANSITIONS, stats.transitions);
    })
}

/// Figures of a function worker.
pub(super) fn of_function_worker(worker: Arc<FunctionWorker>, control: Arc<RemoteControl>) -> Figures {
    page(move |out| {
        write_followed(out, &control);
        write_pools(out, &worker);
    })
}

/// Figures of a gateway: its own, and how it stands to the control plane.
pub(super) fn of_gateway(
    own: impl Fn() -> String + Send + Sync + 'static,
    control: Arc<RemoteControl>,
    store: Store,
) -> Figures {
    Arc::new(move |_| {
        let mut out = Exposition::new();
        write_followed(&mut out, &control);
        let writes = matches!(store.writer(), Some(WriterStatus::Here { .. }));
        out.single(families::CLUSTER_WRITER, u8::from(writes));
        out.finish() + &own()
    })
}

fn page(write: impl Fn(&mut Exposition) + Send + Sync + 'static) -> Figures {
    Arc::new(move |started| {
        let mut out = Exposition::new();
        write(&mut out);
        write_process(&mut out, started);
        out.finish()
    })
}

fn write_followed(out: &mut Exposition, control: &RemoteControl) {
    out.single(families::CLUSTER_FOLLOWS, u8::from(control.is_heard()));
    write_nodes(out, &control.nodes().borrow());
    out.single(families::CLUSTER_SCHEMA, control.watch().borrow().schema_revision);
}

fn write_nodes(out: &mut Exposition, nodes: &[ClusterNode]) {
    out.family(families::CLUSTER_NODES);
    for role in ROLES {
        let count = nodes.iter().filter(|node| node.role == role).count();
        out.sample("", &[("role", role.name())], count);
    }
}

fn write_pools(out: &mut Exposition, worker: &FunctionWorker) {
    let pools = worker.stats();
    out.family(families::FUNCTIONS_INSTANCES);
    for (runtime, pool) in &pools {
        let starting = pool.total.saturating_sub(pool.ready + pool.busy);
        for (state, count) in [("busy", pool.busy), ("ready", pool.ready), ("starting", starting)] {
            out.sample("", &[("runtime", runtime), ("state", state)], count);
        }
    }
    let mut each = |family: Family, figure: fn(&PoolStats) -> u64| {
        out.family(family);
        for (runtime, pool) in &pools {
            out.sample("", &[("runtime", runtime)], figure(pool));
        }
    };
    each(families::FUNCTIONS_QUEUED, |pool| pool.queued as u64);
    each(families::FUNCTIONS_INVOCATIONS, |pool| pool.invocations);
    each(families::FUNCTIONS_STARTED, |pool| pool.started);
    each(families::FUNCTIONS_TIMEOUTS, |pool| pool.timeouts);
    each(families::FUNCTIONS_CRASHES, |pool| pool.crashes);
}
