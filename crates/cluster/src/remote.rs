//! The control plane behind a network.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::control::{Heartbeat, ReloadFunctionsRequest};
use alyx_rpc::{Call, Security, from_status};
use alyx_service::cluster::{NodeWatch, Role};
use alyx_service::health::{HealthCheck, Report, SharedCheck, Status};
use alyx_service::state::{ControlPlane, DesiredState, StateWatch};
use alyx_service::tasks::{OnEnd, Tasks};
use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::bundle::BundleCache;
use crate::convert::role_to_wire;
use crate::endpoints::Endpoints;
use crate::follow::{Follower, Trouble, watch_request};
use crate::heartbeat::{Pulse, Reporter};

/// How long a start waits for something newer than the kept snapshot.
const NEWER_WITHIN: Duration = Duration::from_secs(2);
/// Longest time for a call.
const CALL_WITHIN: Duration = Duration::from_secs(30);

/// What a [`RemoteControl`] is started with.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// `host:port` of each control plane.
    pub endpoints: Vec<String>,
    /// How this process proves who it is.
    pub security: Security,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of this process, another one after each start, see [`new_node_id`](crate::new_node_id).
    pub node_id: String,
    /// What it is called over restarts, see [`node_name`](crate::node_name).
    pub node_name: String,
    /// What this process does. Workers get the functions' code and settings.
    pub role: Role,
    /// Folder of this role's own for the kept snapshot and bundles; made where it is missing.
    pub state_dir: PathBuf,
    /// Longest wait for the first state where none was kept.
    pub first_state_within: Duration,
}

/// What a node tells about itself.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// `host:port` where other roles reach it, see [`advertised`](crate::advertised).
    pub address: String,
    /// Version of the product.
    pub version: String,
    /// Most pieces of work at a time, 0 where it does not say.
    pub capacity: u64,
}

/// The control plane of a cluster, as a process that is not it sees it.
pub struct RemoteControl {
    options: RemoteOptions,
    endpoints: Arc<Endpoints>,
    state: watch::Sender<Arc<DesiredState>>,
    nodes: watch::Sender<NodeList>,
    drain: watch::Sender<bool>,
    pulse: Arc<Pulse>,
    beat_now: watch::Sender<()>,
    trouble: Trouble,
    leave: CancellationToken,
}

type NodeList = Arc<Vec<alyx_service::cluster::ClusterNode>>;

impl RemoteControl {
    /// Loads the kept snapshot, or waits for the first one, and follows the desired state from then on.
    ///
    /// # Errors
    /// `CONTROL_PLANE_UNAVAILABLE` where there is no state within the time, `CONTROL_PLANE_UNKNOWN`,
    /// `CLUSTER_ADDRESS_INVALID`.
    pub async fn connect(options: RemoteOptions, tasks: &Tasks) -> Result<Arc<Self>> {
        let endpoints = Arc::new(Endpoints::new(&options.endpoints, options.security.clone())?);
        let bundles = (options.role == Role::FunctionWorker)
            .then(|| BundleCache::new(options.state_dir.join("bundles")));
        let mut follower = Follower::new(
            Arc::clone(&endpoints),
            watch_request(&options.node_id, options.role, &options.cluster),
            bundles,
            options.state_dir.join("snapshot"),
        );
        let (state, nodes) = first(&mut follower, options.first_state_within).await?;
        let remote = Arc::new(Self {
            options,
            endpoints,
            state: watch::Sender::new(state),
            nodes: watch::Sender::new(nodes),
            drain: watch::Sender::new(false),
            pulse: Arc::default(),
            beat_now: watch::Sender::new(()),
            trouble: follower.trouble(),
            leave: tasks.cancelled().child_token(),
        });
        let (following, cancelled) = (Arc::clone(&remote), tasks.cancelled());
        tasks.spawn("cluster.follow", OnEnd::StopAll, async move {
            tokio::select! {
                () = following.follow(follower) => {}
                () = cancelled.cancelled() => {}
            }
        });
        Ok(remote)
    }

    /// Puts this process in the directory and keeps it there, until [`Self::leave`] or the tasks' end. To be called
    /// once, when it serves.
    pub fn announce(&self, announcement: Announcement, tasks: &Tasks) {
        let reporter = Reporter {
            endpoints: Arc::clone(&self.endpoints),
            node: Heartbeat {
                node_id: self.options.node_id.clone(),
                role: role_to_wire(self.options.role).into(),
                address: announcement.address,
                version: announcement.version,
                capacity: announcement.capacity,
                load: 0,
                draining: false,
                cluster: self.options.cluster.clone(),
                leaving: false,
                name: self.options.node_name.clone(),
                schema_revision: 0,
            },
            state: self.state.subscribe(),
            pulse: Arc::clone(&self.pulse),
            drain: self.drain.clone(),
            beat_now: self.beat_now.subscribe(),
            leave: self.leave.clone(),
        };
        tasks.spawn("cluster.report", OnEnd::Ignore, reporter.run());
    }

    /// The live nodes as they change, this one among them once the control plane has it.
    pub fn nodes(&self) -> NodeWatch {
        self.nodes.subscribe()
    }

    /// Name of this process in the directory.
    pub fn node_id(&self) -> &str {
        &self.options.node_id
    }

    /// Whether the operator wants this node to drain.
    pub fn drain_requested(&self) -> watch::Receiver<bool> {
        self.drain.subscribe()
    }

    /// Pieces of work at the moment, told with the next heartbeat.
    pub fn set_load(&self, load: u64) {
        self.pulse.load.store(load, Ordering::Relaxed);
    }

    /// Tells that this node takes no new work, or does again. Told at once.
    pub fn set_draining(&self, draining: bool) {
        self.pulse.draining.store(draining, Ordering::Relaxed);
        self.beat_now.send_replace(());
    }

    /// Takes this process out of the directory.
    pub fn leave(&self) {
        self.leave.cancel();
    }

    /// Whether the control plane is heard and all that it told is in force.
    pub fn is_heard(&self) -> bool {
        self.trouble.lock().is_none()
    }

    /// Whether the control plane is heard (`control_plane`). Degraded at worst: the last state is served.
    pub fn health_check(&self) -> SharedCheck {
        Arc::new(Heard(Arc::clone(&self.trouble)))
    }

    async fn follow(&self, mut follower: Follower) {
        loop {
            let update = follower.next().await;
            if let Some(nodes) = update.nodes {
                self.nodes.send_replace(nodes);
            }
            if let Some(state) = update.state {
                self.state.send_replace(state);
                // Operators wait for all nodes to follow.
                self.beat_now.send_replace(());
            }
        }
    }
}

#[async_trait]
impl ControlPlane for RemoteControl {
    fn watch(&self) -> StateWatch {
        self.state.subscribe()
    }

    async fn reload_functions(&self) -> Result<usize> {
        let mut chosen = self.endpoints.choose();
        let request = Call::within(CALL_WITHIN).request(ReloadFunctionsRequest {});
        let reply = chosen
            .client
            .reload_functions(request)
            .await
            .map_err(from_status)?;
        Ok(usize::try_from(reply.into_inner().functions).unwrap_or(usize::MAX))
    }
}

/// The state to begin with: a fresh one if it comes in time, else the kept one.
async fn first(follower: &mut Follower, within: Duration) -> Result<(Arc<DesiredState>, NodeList)> {
    let kept = follower.load_kept().await;
    let (mut state, mut nodes) = (kept.state, kept.nodes.unwrap_or_default());
    let patience = if state.is_some() { NEWER_WITHIN } else { within };
    let fresh = timeout(patience, async {
        loop {
            let update = follower.next().await;
            if let Some(told) = update.nodes {
                nodes = told;
            }
            if let Some(told) = update.state {
                return told;
            }
        }
    })
    .await;
    if let Ok(fresh) = fresh {
        state = Some(fresh);
    }
    match state {
        Some(state) => Ok((state, nodes)),
        None => Err(Error::new(
            ErrorKind::Unavailable,
            "CONTROL_PLANE_UNAVAILABLE",
            format!(
                "no control plane has told what to serve within {} s, and no earlier state is kept{}; start one, or \
                 correct `cluster.control_plane`",
                within.as_secs(),
                follower
                    .trouble()
                    .lock()
                    .as_ref()
                    .map_or_else(String::new, |trouble| format!(" ({trouble})"))
            ),
        )),
    }
}

struct Heard(Trouble);

#[async_trait]
impl HealthCheck for Heard {
    fn name(&self) -> &'static str {
        "control_plane"
    }

    async fn check(&self) -> Report {
        match &*self.0.lock() {
            None => Report::HEALTHY,
            Some(trouble) => Report::new(Status::Degraded, trouble.clone()),
        }
    }
}
