//! Live queries over the realtime nodes of a cluster, as one service.
//!
//! Each query has one owner among the nodes (see [`ring`]), so that all gateways ask the same node for the same query
//! and it is evaluated once. One stream joins this gateway to each node. When a node comes, drains or dies, the
//! queries concerned are opened at their new owner and only then closed at the old one; whoever follows them sees
//! the next change, or none.

mod groups;
mod link;
mod peer;
mod ring;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use alyx_core::Result;
use alyx_rpc::Security;
use alyx_service::cluster::NodeWatch;
use alyx_service::health::{HealthCheck, Report, Status};
use alyx_service::realtime::{RealtimeLink, RealtimeService};
use alyx_service::state::StateWatch;
use alyx_service::tasks::{OnEnd, Tasks};
use async_trait::async_trait;
use tokio::sync::mpsc;

use link::{Link, LinkParts};

/// Commands and events that wait on a link.
const QUEUE: usize = 1024;

/// What the nodes of a cluster are reached with.
#[derive(Debug, Clone)]
pub struct RemoteRealtimeParts {
    /// Who is there.
    pub nodes: NodeWatch,
    /// The schema that queries are read with.
    pub state: StateWatch,
    /// Proves who this role is.
    pub security: Security,
    /// Runs the links.
    pub tasks: Tasks,
}

/// How the links stand, over all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoteRealtimeStats {
    /// Nodes that are known.
    pub nodes: usize,
    /// Of these, joined by a stream.
    pub joined: usize,
    /// Live queries.
    pub groups: usize,
    /// Of these, without a node that serves them now.
    pub unserved: usize,
    /// Live queries that went from one node to another, ever.
    pub moves: u64,
    /// Live queries started afresh because node and gateway disagreed, ever.
    pub resyncs: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct RemoteRealtime {
    parts: RemoteRealtimeParts,
    standing: Arc<Standing>,
}

/// The figures behind [`RemoteRealtimeStats`].
#[derive(Debug, Default)]
struct Standing {
    nodes: AtomicUsize,
    joined: AtomicUsize,
    groups: AtomicUsize,
    unserved: AtomicUsize,
    moves: AtomicU64,
    resyncs: AtomicU64,
}

impl RemoteRealtime {
    /// Nothing is connected before the first link.
    pub fn new(parts: RemoteRealtimeParts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            standing: Arc::default(),
        })
    }

    /// How the link stands; of several, the one that spoke last.
    pub fn stats(&self) -> RemoteRealtimeStats {
        let standing = &self.standing;
        RemoteRealtimeStats {
            nodes: standing.nodes.load(Ordering::Relaxed),
            joined: standing.joined.load(Ordering::Relaxed),
            groups: standing.groups.load(Ordering::Relaxed),
            unserved: standing.unserved.load(Ordering::Relaxed),
            moves: standing.moves.load(Ordering::Relaxed),
            resyncs: standing.resyncs.load(Ordering::Relaxed),
        }
    }
}

#[async_trait]
impl RealtimeService for RemoteRealtime {
    /// Joins at once: what is asked before a node is there waits for it.
    async fn connect(&self) -> Result<RealtimeLink> {
        let (commands, asked) = mpsc::channel(QUEUE);
        let (told, events) = mpsc::channel(QUEUE);
        let link = Link::new(LinkParts {
            nodes: self.parts.nodes.clone(),
            state: self.parts.state.clone(),
            security: self.parts.security.clone(),
            commands: asked,
            events: told,
            standing: Arc::clone(&self.standing),
        });
        let cancelled = self.parts.tasks.cancelled();
        self.parts
            .tasks
            .spawn("realtime.nodes", OnEnd::Ignore, link.run(cancelled));
        Ok(RealtimeLink { commands, events })
    }
}

#[async_trait]
impl HealthCheck for RemoteRealtime {
    fn name(&self) -> &'static str {
        "realtime"
    }

    async fn check(&self) -> Report {
        let RemoteRealtimeStats {
            nodes,
            joined,
            unserved,
            ..
        } = self.stats();
        match (nodes, joined) {
            (0, _) => Report::new(Status::Degraded, "there is no realtime node: live queries wait"),
            (_, 0) => Report::new(
                Status::Degraded,
                format!("none of {nodes} realtime nodes can be reached: live queries wait"),
            ),
            _ if joined < nodes => Report::new(
                Status::Degraded,
                format!("{joined} of {nodes} realtime nodes can be reached"),
            ),
            _ if unserved > 0 => Report::new(
                Status::Healthy,
                format!("{unserved} live queries are being opened"),
            ),
            _ => Report::HEALTHY,
        }
    }
}
