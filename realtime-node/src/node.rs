//! A realtime node as the other roles see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alyx_bus::Bus;
use alyx_core::{Error, ErrorKind, Result, Seq};
use alyx_service::health::{HealthCheck, Report, Status};
use alyx_service::realtime::{RealtimeLink, RealtimeService};
use alyx_service::state::StateWatch;
use alyx_service::tasks::{OnEnd, Tasks};
use alyx_store::Store;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use crate::engine::{Engine, EngineParts, Message};
use crate::link::{LinkEnds, LinkId, attend};

/// A node that has been behind the log for longer than this says so.
const BEHIND_TOO_LONG: Duration = Duration::from_secs(3);

/// How often a node that drains looks whether it is done.
const LOOK_UNUSED_EVERY: Duration = Duration::from_millis(20);

/// What a node works with.
#[derive(Debug)]
pub struct NodeParts {
    /// Where snapshots and missed commits are read.
    pub store: Store,
    /// Where commits are heard.
    pub bus: Bus,
    /// The schema that is served.
    pub state: StateWatch,
    /// Runs the node; stopping it stops the node.
    pub tasks: Tasks,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of a node.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Groups that all links together may follow.
    pub max_subscriptions: usize,
    /// Offset and limit of a live query together, in rows (at most 5,000: a read has its bound too).
    pub max_window_rows: u64,
    /// Events that wait for a gateway before its groups are told to start afresh later.
    pub link_events: usize,
    /// Commands and answers that wait for the engine.
    pub queue: usize,
    /// Reads under way at a time.
    pub reads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_subscriptions: 200_000,
            max_window_rows: 2_000,
            link_events: 1_024,
            queue: 1_024,
            reads: 64,
        }
    }
}

/// How a node stands.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// The last change that has been applied.
    pub applied: Seq,
    /// Changes that the node knows of and has not applied.
    pub lag: u64,
    /// Since when something is missing.
    pub behind_since: Option<Instant>,
    /// Gateways.
    pub links: usize,
    /// Distinct live queries.
    pub groups: usize,
    /// Groups followed, over all links.
    pub subscriptions: usize,
    /// Live queries without an equality in their filter, which look at every change of a collection.
    pub residual_groups: usize,
    /// Windows read from the start, ever.
    pub snapshots: u64,
    /// Windows refilled, ever.
    pub refills: u64,
    /// Windows read again because what their rows refer to changed, ever.
    pub rereads: u64,
    /// Transitions let out, each counted once however many links got it.
    pub transitions: u64,
}

/// A running node. Ends with the tasks it was started with.
#[derive(Debug)]
pub struct RealtimeNode {
    engine: mpsc::Sender<Message>,
    tasks: Tasks,
    limits: Limits,
    stats: Arc<Mutex<Stats>>,
    next_link: AtomicU64,
}

impl RealtimeNode {
    /// Starts a node at the log's present end.
    pub fn start(parts: NodeParts) -> Arc<Self> {
        let (engine, inbox) = mpsc::channel(parts.limits.queue.max(1));
        let stats = Arc::new(Mutex::new(Stats::default()));
        let engine_parts = EngineParts {
            store: parts.store,
            follower: parts.bus.follow(),
            state: parts.state,
            tasks: parts.tasks.clone(),
            limits: parts.limits.clone(),
            inbox,
            answers: engine.clone(),
            stats: stats.clone(),
        };
        parts
            .tasks
            .spawn("realtime.engine", OnEnd::StopAll, Engine::run(engine_parts));
        Arc::new(Self {
            engine,
            tasks: parts.tasks,
            limits: parts.limits,
            stats,
            next_link: AtomicU64::new(1),
        })
    }

    /// How the node stands.
    pub fn stats(&self) -> Stats {
        self.stats.lock().clone()
    }

    /// Waits until no gateway follows a group any more; `false` where some still do after `deadline`.
    pub(crate) async fn unused_within(&self, deadline: Duration) -> bool {
        let unused = async {
            let mut looks = tokio::time::interval(LOOK_UNUSED_EVERY);
            while self.stats.lock().subscriptions > 0 {
                looks.tick().await;
            }
        };
        tokio::time::timeout(deadline, unused).await.is_ok()
    }
}

#[async_trait]
impl RealtimeService for RealtimeNode {
    async fn connect(&self) -> Result<RealtimeLink> {
        let link = LinkId(self.next_link.fetch_add(1, Ordering::Relaxed));
        let (commands, received) = mpsc::channel(self.limits.queue.max(1));
        let (events, link_events) = mpsc::channel(self.limits.link_events.max(1));
        let full = Arc::new(Notify::new());
        let join = Message::Join {
            link,
            events: events.clone(),
            full: full.clone(),
        };
        self.engine.send(join).await.map_err(|_| stopped())?;
        let ends = LinkEnds {
            id: link,
            commands: received,
            events,
            full,
            engine: self.engine.clone(),
            cancelled: self.tasks.cancelled(),
        };
        self.tasks.spawn("realtime.link", OnEnd::Ignore, attend(ends));
        Ok(RealtimeLink {
            commands,
            events: link_events,
        })
    }
}

#[async_trait]
impl HealthCheck for RealtimeNode {
    fn name(&self) -> &'static str {
        "realtime"
    }

    async fn check(&self) -> Report {
        if self.engine.is_closed() {
            return Report::new(
                Status::Unhealthy,
                "live queries are not served: the engine has ended",
            );
        }
        let stats = self.stats();
        match stats.behind_since {
            Some(since) if since.elapsed() > BEHIND_TOO_LONG => Report::new(
                Status::Degraded,
                format!("{} changes behind for {} s", stats.lag, since.elapsed().as_secs()),
            ),
            Some(_) | None => Report::HEALTHY,
        }
    }
}

pub(crate) fn stopped() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "REALTIME_UNAVAILABLE",
        "live queries are not served: the server is stopping",
    )
}
