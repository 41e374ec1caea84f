//! What a gateway asks of a realtime node: one link per pair, groups opened and closed over it, and one
//! ordered stream of events back. A group is one live query with all its subscribers; the gateway fans out.

use std::sync::Arc;

use alyx_core::{Error, Result, Seq, TraceContext, Value};
use alyx_query::Query;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

/// Evaluates live queries.
#[async_trait]
pub trait RealtimeService: Send + Sync {
    /// Joins a gateway. Dropping either half of the link closes all its groups.
    async fn connect(&self) -> Result<RealtimeLink>;
}

/// Both directions of one gateway's link. Both channels are bounded; a full one holds its sender back.
#[derive(Debug)]
pub struct RealtimeLink {
    /// Gateway → node.
    pub commands: mpsc::Sender<GroupCommand>,
    /// Node → gateway. For each group: `Opened`, then `Changed` whose `from` is the `to` of the event before it.
    pub events: mpsc::Receiver<GroupEvent>,
}

/// A group's name on one link, chosen by the gateway, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u64);

/// Gateway → node.
#[derive(Debug, Clone)]
pub enum GroupCommand {
    /// Start a group; answered by `Opened` or `Failed`. `have`: the gateway holds the window as of there and can
    /// only go on with one that is not older, so the answer waits until the node has come that far.
    Open {
        group: GroupId,
        query: Arc<Query>,
        have: Option<Seq>,
        /// The trace in which it was asked for.
        trace: Option<TraceContext>,
    },
    /// End a group. Nothing answers; events under way may still arrive.
    Close { group: GroupId },
}

/// Node → gateway.
#[derive(Debug, Clone)]
pub enum GroupEvent {
    /// The group's window at `at`. Also sent later, when the node had to start the group afresh (the log was cut
    /// off behind it, the schema changed, the link was full): it then replaces everything before it. Where its `at`
    /// is not before the last position told, it is the same result further on, and the difference is a change.
    Opened {
        group: GroupId,
        at: Seq,
        docs: Vec<Document>,
        total: u64,
    },
    /// The window moved from `from` to `to`.
    Changed {
        group: GroupId,
        from: Seq,
        to: Seq,
        change: Arc<WindowChange>,
    },
    /// The group cannot be served (any more); it is closed.
    Failed { group: GroupId, error: Arc<Error> },
}

/// One document as clients see it.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its primary key.
    pub id: Value,
    /// Its JSON object, internal fields left out, only the query's fields.
    pub json: Bytes,
}

/// How a window changed. Apply in this order: `deletes` and the old places of `updates` leave; then `inserts` and
/// `updates`, merged by ascending position, enter at their position in the new window.
#[derive(Debug, Clone, Default)]
pub struct WindowChange {
    /// Documents new in the window, by ascending position.
    pub inserts: Vec<(usize, Document)>,
    /// Documents that stayed and changed, by ascending position.
    pub updates: Vec<(usize, Document)>,
    /// Keys of documents that left the window.
    pub deletes: Vec<Value>,
    /// Rows that match now, inside and outside the window.
    pub total: u64,
}

impl WindowChange {
    /// Whether the visible window is the same as before (only the total may have moved).
    pub fn is_empty(&self) -> bool {
        self.inserts.is_empty() && self.updates.is_empty() && self.deletes.is_empty()
    }
}
