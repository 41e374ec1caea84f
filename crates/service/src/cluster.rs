//! The directory of nodes: which processes of a cluster are alive, and where they are reached.

use std::sync::Arc;

use tokio::sync::watch;

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Desired state and the directory itself.
    ControlPlane,
    /// The public edge.
    Gateway,
    /// Live queries.
    RealtimeNode,
    /// Functions.
    FunctionWorker,
}

impl Role {
    /// The word in configuration, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Gateway => "gateway",
            Self::RealtimeNode => "realtime-node",
            Self::FunctionWorker => "function-worker",
        }
    }
}

/// One live node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its name in the cluster, another one after each start.
    pub id: String,
    /// What it does.
    pub role: Role,
    /// `host:port` where other roles reach it.
    pub address: String,
    /// Takes no new work and finishes what it has.
    pub draining: bool,
}

/// The live nodes as they change, ordered by id. Keeps the last ones known while the control plane is away.
pub type NodeWatch = watch::Receiver<Arc<Vec<ClusterNode>>>;
