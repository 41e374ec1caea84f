//! What every role of its own has: its name, its proof, a listener for the others, one for operators.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_bus::{Bus, NatsOptions};
use alyx_cluster::{Announcement, RemoteControl, RemoteOptions, advertised, new_node_id, node_name};
use alyx_config::Config;
use alyx_core::{Error, Result};
use alyx_rpc::{Gate, Listener, Security, Server};
use alyx_service::cluster::Role;
use alyx_service::tasks::Tasks;
use alyx_store::{ClusterOptions, GrpcForwarder, Store};
use parking_lot::Mutex;
use tonic::service::Routes;

use crate::database;
use crate::operations::{Operations, Told};
use crate::operators::Operators;

/// Longest wait for the first state where none was kept. An orchestrator starts the process again then.
const FIRST_STATE_WITHIN: Duration = Duration::from_secs(120);

/// What every role of its own has.
pub(super) struct Base {
    pub(super) config: Arc<Config>,
    pub(super) role: Role,
    pub(super) node_id: String,
    /// What this process is called over restarts.
    pub(super) node_name: String,
    pub(super) security: Security,
    /// `host:port` where the others reach this process.
    pub(super) advertise: String,
    /// The real address of the listener for other roles.
    pub(super) rpc: SocketAddr,
    /// Folder of this role's own.
    pub(super) state_dir: PathBuf,
    /// Links to the control plane and to NATS, and the operators' listener: what is stopped last.
    pub(super) background: Tasks,
    /// The listener for operators, of a control plane with `admin.token`.
    pub(super) operators: Option<Operators>,
    operations: Operations,
    listener: Mutex<Option<Listener>>,
    server: Mutex<Option<Arc<Server>>>,
}

impl Base {
    /// Binds both listeners. Nothing is served on the one for other roles before [`Self::serve`].
    pub(super) async fn bind(mut config: Config, role: Role) -> Result<Self> {
        let security = Security::from_config(&config.cluster)?;
        let background = Tasks::new();
        let listener = alyx_rpc::bind(&config.cluster.listen).await?;
        let operators = match role {
            Role::ControlPlane => Operators::bind(&config).await?,
            Role::Gateway | Role::RealtimeNode | Role::FunctionWorker => None,
        };
        let operations = Operations::serve(config.metrics.listen.as_deref(), &background).await?;
        // From here on it is known, and the public listener has no `/metrics`.
        config.metrics.listen = Some(operations.address().to_string());
        let rpc = listener.local_addr();
        let cluster = &config.cluster;
        let advertise = advertised(cluster.advertise.as_deref(), rpc, &cluster.control_plane);
        let node_name = node_name(cluster.node_id.as_deref(), role);
        Ok(Self {
            role,
            node_id: new_node_id(&node_name),
            node_name,
            security,
            advertise,
            rpc,
            state_dir: crate::roles::state_dir(&config.database.path)?.join(role.name()),
            background,
            operators,
            operations,
            listener: Mutex::new(Some(listener)),
            server: Mutex::new(None),
            config: Arc::new(config),
        })
    }

    /// The real address of the listener for operators.
    pub(super) fn metrics(&self) -> SocketAddr {
        self.operations.address()
    }

    /// What operators are told from now on; readiness follows with [`Self::set_ready`].
    pub(super) fn tell(&self, told: Told) {
        self.operations.tell(told);
    }

    /// What gRPC and HTTP health tell.
    pub(super) async fn set_ready(&self, ready: bool) {
        self.operations.set_ready(ready);
        let server = self.server.lock().clone();
        if let Some(server) = server {
            server.set_ready(ready).await;
        }
    }

    /// Serves the other roles. To be called once.
    pub(super) async fn serve(&self, routes: Routes) -> Result<()> {
        let listener = self.listener.lock().take();
        let listener = listener.ok_or_else(|| Error::internal("the listener is served already"))?;
        let server = alyx_rpc::serve(listener, self.gate(), routes, &self.background).await?;
        *self.server.lock() = Some(Arc::new(server));
        Ok(())
    }

    /// Other control planes pass on what operators ask of them.
    fn gate(&self) -> Gate {
        let operators = self.operators.as_ref().map(Operators::security);
        Gate::with_operators(&self.security, operators)
    }

    /// Follows the control plane.
    pub(super) async fn control(&self) -> Result<Arc<RemoteControl>> {
        let options = RemoteOptions {
            endpoints: self.config.cluster.control_plane.clone(),
            security: self.security.clone(),
            cluster: self.config.cluster.name.clone(),
            node_id: self.node_id.clone(),
            node_name: self.node_name.clone(),
            role: self.role,
            state_dir: self.state_dir.clone(),
            first_state_within: FIRST_STATE_WITHIN,
        };
        RemoteControl::connect(options, &self.background).await
    }

    /// Puts this process in the directory.
    pub(super) fn announce(&self, control: &RemoteControl, capacity: u64) {
        let announcement = Announcement {
            address: self.advertise.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capacity,
        };
        control.announce(announcement, &self.background);
    }

    /// Changes, carried by NATS.
    pub(super) fn bus(&self) -> Result<Bus> {
        let cluster = &self.config.cluster;
        let url = cluster.nats.as_ref().map_or("", |url| url.expose());
        let options = NatsOptions {
            follower_buffer: self.config.realtime.change_buffer_size as usize,
            ..NatsOptions::new(url, cluster.name.as_str(), self.node_id.as_str())
        };
        Bus::nats(options, &self.background)
    }

    /// The database of the cluster, as soon as it can be reached; commits go to `bus`.
    pub(super) async fn database(&self, bus: &Bus, may_hold: bool) -> Result<Store> {
        let forwarder = Arc::new(GrpcForwarder::new(self.security.clone()));
        let options = ClusterOptions {
            may_hold,
            ..ClusterOptions::new(
                database::remote_options(&self.config),
                self.node_id.as_str(),
                self.advertise.as_str(),
                forwarder,
            )
        };
        database::patiently(async || {
            let publisher = bus.clone();
            Store::open_cluster(options.clone(), move |commit| publisher.publish(commit)).await
        })
        .await
    }

    /// Waits until a part has ended that must not.
    pub(super) async fn failed(&self) {
        self.background.cancelled().cancelled().await;
    }

    /// Ends the calls of other roles; `false` where some were cut off.
    pub(super) async fn stop_serving(&self, deadline: Instant) -> bool {
        let server = self.server.lock().take();
        match server.and_then(Arc::into_inner) {
            Some(server) => server.stop(left(deadline)).await,
            None => true,
        }
    }

    /// Ends everything; `false` where something was cut off.
    pub(super) async fn stop(&self, deadline: Instant) -> bool {
        let served = self.stop_serving(deadline).await;
        let ended = self.background.stop(left(deadline)).await;
        served && ended
    }
}

/// The time that is left.
pub(super) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
