//! Leading, following, and going from one to the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alyx_cluster::node_from_wire;
use alyx_core::{Clock, Error, ErrorKind, Result, with_causes};
use alyx_rpc::Backoff;
use alyx_service::cluster::ClusterNode;
use alyx_service::health::{HealthCheck, Report, SharedCheck, Status};
use alyx_service::state::ControlPlane as _;
use alyx_service::tasks::{OnEnd, Tasks};
use alyx_store::Store;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::drains::Drains;
use super::lease::{LOOK_EVERY, Leader, Lease};
use super::registry::Registry;
use crate::options::Options;
use crate::plane::ControlPlane;

/// Longest time for the tasks of a term to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// What a control plane of a cluster is started with.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Where schema and functions are.
    pub plane: Options,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of this process, another one after each start.
    pub node_id: String,
    /// `host:port` at which other roles reach this process.
    pub address: String,
}

/// One control plane among several.
pub struct ClusterControl {
    options: ClusterOptions,
    store: Store,
    election: Store,
    clock: Arc<dyn Clock>,
    standing: watch::Sender<Standing>,
    trouble: Mutex<Option<Trouble>>,
    stopping: CancellationToken,
    /// Streams under way.
    streams: Tasks,
}

/// What this process is at the moment.
#[derive(Clone)]
pub(crate) enum Standing {
    /// It has not found out yet.
    Starting,
    /// It leads.
    Leads(Arc<Term>),
    /// Another one leads, reached at this `host:port`.
    Follows(String),
}

/// A time of leading.
pub(crate) struct Term {
    pub(crate) plane: Arc<ControlPlane>,
    pub(crate) registry: Registry,
    /// Held while the set of drained nodes changes, so that changes follow one another.
    drains: AsyncMutex<Drains>,
    tasks: Tasks,
}

#[derive(Clone)]
struct Trouble {
    message: String,
    /// No waiting makes it better.
    invalid: bool,
}

impl ClusterControl {
    /// Begins to take part in the election; what comes of it shows in [`Self::settled`].
    ///
    /// `election` is the same database as `store`, by a way that writes while nobody else of the cluster is there yet.
    pub fn start(
        options: ClusterOptions,
        store: Store,
        election: Store,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let control = Arc::new(Self {
            options,
            store,
            election,
            clock,
            standing: watch::Sender::new(Standing::Starting),
            trouble: Mutex::new(None),
            stopping: CancellationToken::new(),
            streams: Tasks::new(),
        });
        let (running, cancelled) = (Arc::clone(&control), tasks.cancelled());
        tasks.spawn("control-plane.election", OnEnd::StopAll, async move {
            tokio::select! {
                () = running.run() => {}
                () = cancelled.cancelled() => {}
                () = running.stopping.cancelled() => cancelled.cancelled().await,
            }
        });
        control
    }

    /// Waits until this process leads or follows.
    ///
    /// # Errors
    /// `SCHEMA_INVALID` with every problem where it should lead and there is no schema to serve. All else (the
    /// database is away) is tried again, and logged.
    pub async fn settled(&self) -> Result<()> {
        let mut standing = self.standing.subscribe();
        loop {
            if let Some(trouble) = self.trouble.lock().clone().filter(|trouble| trouble.invalid) {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "SCHEMA_INVALID",
                    trouble.message,
                ));
            }
            if !matches!(*standing.borrow_and_update(), Standing::Starting) {
                return Ok(());
            }
            // The sender lives in `self`.
            let _ = standing.changed().await;
        }
    }

    /// Whether this process leads now.
    pub fn leads(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Leads(_))
    }

    /// The live nodes, where this process leads.
    pub fn nodes(&self) -> Vec<ClusterNode> {
        match self.term() {
            Ok(term) => term
                .registry
                .now()
                .nodes
                .iter()
                .filter_map(node_from_wire)
                .collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Revision of the schema that is served, where this process leads.
    pub fn schema_revision(&self) -> Option<u64> {
        let term = self.term().ok()?;
        let revision = term.plane.watch().borrow().schema_revision;
        Some(revision)
    }

    /// The parts whose health is known here: `leadership`, `schema`, `function_sources`.
    pub fn health_checks(self: &Arc<Self>) -> Vec<SharedCheck> {
        let part = |part| Arc::new(PartOfTerm(Arc::clone(self), part)) as SharedCheck;
        vec![
            Arc::new(Leadership(Arc::clone(self))),
            part("schema"),
            part("function_sources"),
        ]
    }

    /// Ends all streams, so that nodes go to another control plane, and lets that one lead at once. `false` where
    /// something did not end in time.
    pub async fn stop(&self, within: Duration) -> bool {
        self.stopping.cancel();
        let ended = self.streams.stop(within).await;
        let term = match &*self.standing.borrow() {
            Standing::Leads(term) => Some(Arc::clone(term)),
            Standing::Starting | Standing::Follows(_) => None,
        };
        let Some(term) = term else { return ended };
        let clean = term.tasks.stop(within).await;
        if let Err(error) = self.lease().give_up().await {
            tracing::warn!(code = error.code(), "the lead was not given up: {error}");
        }
        ended && clean
    }

    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    pub(crate) fn streams(&self) -> &Tasks {
        &self.streams
    }

    /// Cancelled when this process stops.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// The term, where this process leads.
    ///
    /// # Errors
    /// `NOT_LEADER` with the leader's address as field, `CONTROL_PLANE_STARTING`.
    pub(crate) fn term(&self) -> Result<Arc<Term>> {
        self.standing.borrow().term()
    }

    /// Where function bundles lie.
    pub(crate) fn bundles(&self) -> PathBuf {
        self.options.plane.state_dir.join("bundles")
    }

    /// Name and `host:port` of this process.
    pub(crate) fn identity(&self) -> (&str, &str) {
        (&self.options.node_id, &self.options.address)
    }

    /// Has the node of that id or name drain, now and after restarts. `false` where it does already.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND`, `NODE_AMBIGUOUS`, `CLUSTER_FULL`, and those of the store.
    pub(crate) async fn drain(&self, term: &Term, node: &str) -> Result<bool> {
        let drains = term.drains.lock().await;
        let key = term.registry.drain_key(node)?;
        if term.registry.drained().contains(&key) {
            return Ok(false);
        }
        let drained = drains.add(&key, self.clock.timestamp()).await?;
        tracing::info!(node = key, "an operator drains a node");
        term.registry.set_drained(drained);
        Ok(true)
    }

    /// Lets the node of that id or name work again. `false` where it does already.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND`, and those of the store.
    pub(crate) async fn undrain(&self, term: &Term, node: &str) -> Result<bool> {
        let drains = term.drains.lock().await;
        let keys = term.registry.undrain_keys(node)?;
        if keys.is_empty() {
            return Ok(false);
        }
        let drained = drains.remove(&keys).await?;
        tracing::info!(node, "an operator lets a node work again");
        term.registry.set_drained(drained);
        Ok(true)
    }

    pub(crate) fn cluster(&self) -> &str {
        &self.options.cluster
    }

    fn lease(&self) -> Lease {
        Lease::new(
            self.election.clone(),
            self.options.node_id.clone(),
            self.options.address.clone(),
        )
    }

    async fn run(&self) {
        let mut lease = self.lease();
        let mut backoff = Backoff::new(Duration::from_millis(200), LOOK_EVERY);
        loop {
            let wait = match lease.take().await {
                Ok(Leader::Own(epoch)) => {
                    if self.leads() {
                        self.clear_trouble();
                        LOOK_EVERY
                    } else if self.lead(epoch).await {
                        backoff.reset();
                        LOOK_EVERY
                    } else {
                        // Perhaps another one can.
                        let _ = lease.give_up().await;
                        backoff.next_wait() + LOOK_EVERY
                    }
                }
                Ok(Leader::Other(address)) => {
                    self.follow(address).await;
                    backoff.reset();
                    LOOK_EVERY
                }
                Err(error) => {
                    self.note(&error, "the database does not tell who leads");
                    backoff.next_wait()
                }
            };
            sleep(wait).await;
        }
    }

    /// Begins a term; `false` where that fails.
    async fn lead(&self, epoch: i64) -> bool {
        let tasks = Tasks::new();
        let starting = async {
            let plane = ControlPlane::start(
                self.options.plane.clone(),
                self.store.clone(),
                Arc::clone(&self.clock),
                &tasks,
            );
            Ok((plane.await?, Drains::open(self.election.clone()).await?))
        };
        let (plane, (drains, drained)) = match starting.await {
            Ok(started) => started,
            Err(error) => {
                self.note(&error, "this control plane cannot lead");
                tasks.stop(END_WITHIN).await;
                return false;
            }
        };
        let term = Arc::new(Term {
            plane,
            registry: Registry::new(self.options.cluster.clone(), drained),
            drains: AsyncMutex::new(drains),
            tasks,
        });
        let (of, cancelled) = (Arc::clone(&term), term.tasks.cancelled());
        term.tasks
            .spawn("control-plane.leases", OnEnd::Ignore, async move {
                tokio::select! {
                    () = of.registry.expire() => {}
                    () = cancelled.cancelled() => {}
                }
            });
        tracing::info!(epoch, "this control plane leads");
        self.clear_trouble();
        self.standing.send_replace(Standing::Leads(term));
        true
    }

    async fn follow(&self, address: String) {
        self.clear_trouble();
        let old = self.standing.borrow().clone();
        match old {
            Standing::Follows(leader) if leader == address => {}
            Standing::Starting | Standing::Follows(_) => {
                tracing::info!(leader = address, "another control plane leads");
                self.standing.send_replace(Standing::Follows(address));
            }
            Standing::Leads(term) => {
                tracing::warn!(leader = address, "another control plane has taken the lead");
                self.standing.send_replace(Standing::Follows(address));
                term.tasks.stop(END_WITHIN).await;
            }
        }
    }

    fn note(&self, error: &Error, what: &str) {
        let message = with_causes(error);
        let known = self.trouble.lock().replace(Trouble {
            message: message.clone(),
            invalid: error.code() == "SCHEMA_INVALID",
        });
        if known.is_none_or(|known| known.message != message) {
            tracing::error!(code = error.code(), "{what}: {message}");
        }
        self.standing.send_modify(|_| {});
    }

    fn clear_trouble(&self) {
        *self.trouble.lock() = None;
    }
}

impl Standing {
    pub(crate) fn term(&self) -> Result<Arc<Term>> {
        match self {
            Self::Leads(term) => Ok(Arc::clone(term)),
            Self::Follows(leader) => {
                let error = Error::new(
                    ErrorKind::Unavailable,
                    "NOT_LEADER",
                    "another control plane leads; ask that one",
                );
                Err(if leader.is_empty() {
                    error
                } else {
                    error.with_field(leader)
                })
            }
            Self::Starting => Err(Error::new(
                ErrorKind::Unavailable,
                "CONTROL_PLANE_STARTING",
                "this control plane has not started yet; try again",
            )
            .with_retry_after(Duration::from_secs(1))),
        }
    }
}

struct Leadership(Arc<ClusterControl>);

#[async_trait]
impl HealthCheck for Leadership {
    fn name(&self) -> &'static str {
        "leadership"
    }

    async fn check(&self) -> Report {
        let trouble = self.0.trouble.lock().clone().map(|trouble| trouble.message);
        match (&*self.0.standing.borrow(), trouble) {
            (Standing::Starting, trouble) => Report::new(
                Status::Unhealthy,
                trouble.unwrap_or_else(|| "starting".to_owned()),
            ),
            (_, Some(trouble)) => Report::new(Status::Degraded, trouble),
            (Standing::Leads(_), None) => Report {
                status: Status::Healthy,
                message: Some("leads".to_owned()),
            },
            (Standing::Follows(leader), None) => Report {
                status: Status::Healthy,
                message: Some(format!("follows {leader}")),
            },
        }
    }
}

/// A part that exists only while this process leads.
struct PartOfTerm(Arc<ClusterControl>, &'static str);

#[async_trait]
impl HealthCheck for PartOfTerm {
    fn name(&self) -> &'static str {
        self.1
    }

    async fn check(&self) -> Report {
        let Ok(term) = self.0.term() else {
            return Report::HEALTHY;
        };
        for check in term.plane.health_checks() {
            if check.name() == self.1 {
                return check.check().await;
            }
        }
        Report::HEALTHY
    }
}
