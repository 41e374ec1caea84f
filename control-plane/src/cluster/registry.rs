//! The directory of nodes: who has said lately that it is there. In memory only: a new leader hears of every node
//! within a heartbeat, and says that its directory is not complete before that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alyx_cluster::{LEASE, role_from_wire};
use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::control::{Heartbeat, Node, NodeState};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Most nodes of a cluster.
const MAX_NODES: usize = 1_000;
/// Longest name or address.
const MAX_TEXT: usize = 256;

/// The live nodes by id, and whether all have had the time to be among them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NodeList {
    pub(crate) nodes: Vec<Node>,
    pub(crate) complete: bool,
}

/// The directory.
pub(crate) struct Registry {
    cluster: String,
    entries: Mutex<Entries>,
    list: watch::Sender<Arc<NodeList>>,
    complete_at: Instant,
}

#[derive(Default)]
struct Entries {
    by_id: BTreeMap<String, Entry>,
    streams: u64,
    /// Ids and names of nodes that operators want to drain.
    drained: BTreeSet<String>,
}

struct Entry {
    node: Node,
    expires: Instant,
    /// The stream that reports it; an older one may not take it out.
    stream: u64,
}

/// A node's place in the directory, as one stream of heartbeats has it.
#[derive(Debug)]
pub(crate) struct Registered {
    id: String,
    stream: u64,
}

impl Registry {
    /// Without nodes; those whose id or name is in `drained` are told to drain when they come.
    pub(crate) fn new(cluster: String, drained: BTreeSet<String>) -> Self {
        Self {
            cluster,
            entries: Mutex::new(Entries {
                drained,
                ..Entries::default()
            }),
            list: watch::Sender::default(),
            complete_at: Instant::now() + LEASE,
        }
    }

    /// The directory now, with loads.
    pub(crate) fn now(&self) -> NodeList {
        let entries = self.entries.lock();
        NodeList {
            nodes: entries.by_id.values().map(|entry| entry.node.clone()).collect(),
            complete: Instant::now() >= self.complete_at,
        }
    }

    /// The directory as it changes.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<NodeList>> {
        self.list.subscribe()
    }

    /// Takes a node in, by the first heartbeat of a stream.
    ///
    /// # Errors
    /// `NODE_INVALID`, `CLUSTER_MISMATCH`, `CLUSTER_FULL`.
    pub(crate) fn enter(&self, heartbeat: &Heartbeat) -> Result<Registered> {
        self.check(heartbeat)?;
        let mut entries = self.entries.lock();
        let known = entries.by_id.get(&heartbeat.node_id);
        if known.is_none() && entries.by_id.len() >= MAX_NODES {
            return Err(Error::new(
                ErrorKind::TooManyRequests,
                "CLUSTER_FULL",
                format!("a cluster has at most {MAX_NODES} nodes"),
            ));
        }
        entries.streams += 1;
        let stream = entries.streams;
        let entry = Entry {
            node: node_of(heartbeat, entries.wants_drained(heartbeat)),
            expires: Instant::now() + LEASE,
            stream,
        };
        if entries.by_id.insert(heartbeat.node_id.clone(), entry).is_none() {
            tracing::info!(
                node = heartbeat.node_id,
                role = ?heartbeat.role(),
                address = heartbeat.address,
                "a node is there"
            );
        }
        self.publish(&entries);
        Ok(Registered {
            id: heartbeat.node_id.clone(),
            stream,
        })
    }

    /// Renews a node's lease; whether it is to drain.
    ///
    /// # Errors
    /// `NODE_INVALID` where it has become another node, `NODE_REPLACED` where another stream reports it by now.
    pub(crate) fn renew(&self, registered: &Registered, heartbeat: &Heartbeat) -> Result<bool> {
        self.check(heartbeat)?;
        if heartbeat.node_id != registered.id {
            return Err(invalid("a stream of heartbeats is for one node"));
        }
        let mut entries = self.entries.lock();
        let drain = entries.wants_drained(heartbeat);
        let Some(entry) = entries.by_id.get_mut(&registered.id) else {
            drop(entries);
            // Its lease had run out (it was paused); it is there again.
            return Err(replaced());
        };
        if entry.stream != registered.stream {
            return Err(replaced());
        }
        entry.expires = Instant::now() + LEASE;
        let node = node_of(heartbeat, drain);
        let changed = without_load(&entry.node) != without_load(&node);
        entry.node = node;
        if changed {
            self.publish(&entries);
        }
        Ok(drain)
    }

    /// Takes a node out that has said that it goes.
    pub(crate) fn leave(&self, registered: &Registered) {
        let mut entries = self.entries.lock();
        let own = entries
            .by_id
            .get(&registered.id)
            .is_some_and(|entry| entry.stream == registered.stream);
        if own {
            entries.by_id.remove(&registered.id);
            tracing::info!(node = registered.id, "a node has left");
            self.publish(&entries);
        }
    }

    /// Whether operators want these nodes to drain, each with what it is.
    pub(crate) fn with_wishes(&self) -> (Vec<(Node, bool)>, bool) {
        let entries = self.entries.lock();
        let nodes = entries.by_id.values().map(|entry| {
            let wanted = entries.is_drained(&entry.node.id, &entry.node.name);
            (entry.node.clone(), wanted)
        });
        (nodes.collect(), Instant::now() >= self.complete_at)
    }

    /// What `node`, an id or a name, is to be kept as in the set of drained nodes: its name, which it keeps over
    /// restarts, or its id where others have the same name.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND`; `NODE_AMBIGUOUS` with the ids where it is the name of several.
    pub(crate) fn drain_key(&self, node: &str) -> Result<String> {
        let entries = self.entries.lock();
        let called = |name: &str| {
            let named = entries.by_id.values().filter(|entry| entry.node.name == name);
            named.map(|entry| entry.node.id.as_str()).collect::<Vec<_>>()
        };
        if let Some(entry) = entries.by_id.get(node) {
            let name = &entry.node.name;
            return Ok(if called(name).len() == 1 {
                name
            } else {
                &entry.node.id
            }
            .clone());
        }
        match called(node).as_slice() {
            [] => Err(no_such_node(node)),
            [_] => Ok(node.to_owned()),
            several => Err(Error::new(
                ErrorKind::Conflict,
                "NODE_AMBIGUOUS",
                format!(
                    "several nodes are called `{node}`; name one of them by its id ({}), or give each a \
                     `cluster.node_id` of its own",
                    several.join(", ")
                ),
            )),
        }
    }

    /// What in the set of drained nodes concerns `node`, an id or a name, whether it runs or not.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND` where there is neither such a node nor such a member of the set.
    pub(crate) fn undrain_keys(&self, node: &str) -> Result<Vec<String>> {
        let entries = self.entries.lock();
        let mut known = entries.drained.contains(node);
        let mut keys = BTreeSet::from([node.to_owned()]);
        for entry in entries.by_id.values() {
            if entry.node.id == node || entry.node.name == node {
                known = true;
                keys.extend([entry.node.id.clone(), entry.node.name.clone()]);
            }
        }
        if !known {
            return Err(no_such_node(node));
        }
        keys.retain(|key| entries.drained.contains(key));
        Ok(keys.into_iter().collect())
    }

    /// Members of the set of drained nodes.
    pub(crate) fn drained(&self) -> BTreeSet<String> {
        self.entries.lock().drained.clone()
    }

    /// Nodes that are to drain from now on; all others are to work.
    pub(crate) fn set_drained(&self, drained: BTreeSet<String>) {
        let mut entries = self.entries.lock();
        let Entries {
            by_id, drained: old, ..
        } = &mut *entries;
        *old = drained;
        for entry in by_id.values_mut() {
            // One that is to work again says itself when it does.
            if old.contains(&entry.node.id) || old.contains(&entry.node.name) {
                entry.node.state = NodeState::Draining.into();
            }
        }
        self.publish(&entries);
    }

    /// Takes out the nodes whose lease has run out, as it does. Never returns.
    pub(crate) async fn expire(&self) {
        let mut list = self.follow();
        loop {
            let due = {
                let now = Instant::now();
                let mut entries = self.entries.lock();
                entries.by_id.retain(|id, entry| {
                    if entry.expires <= now {
                        tracing::warn!(node = id, "a node is gone: it has not been heard of");
                    }
                    entry.expires > now
                });
                self.publish(&entries);
                let first = entries.by_id.values().map(|entry| entry.expires).min();
                let complete = (self.complete_at > now).then_some(self.complete_at);
                first.into_iter().chain(complete).min()
            };
            match due {
                Some(due) => sleep_until(due).await,
                // Nobody is there: wait for somebody.
                None => {
                    if list.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn publish(&self, entries: &Entries) {
        let new = NodeList {
            nodes: entries.by_id.values().map(|entry| entry.node.clone()).collect(),
            complete: Instant::now() >= self.complete_at,
        };
        self.list.send_if_modified(|list| {
            let same = list.complete == new.complete
                && list.nodes.len() == new.nodes.len()
                && list
                    .nodes
                    .iter()
                    .zip(&new.nodes)
                    .all(|(old, new)| without_load(old) == without_load(new));
            *list = Arc::new(new);
            !same
        });
    }

    fn check(&self, heartbeat: &Heartbeat) -> Result<()> {
        if heartbeat.cluster != self.cluster {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "CLUSTER_MISMATCH",
                format!(
                    "this is cluster `{}`, the node belongs to `{}`; set the same `cluster.name` for every role",
                    self.cluster, heartbeat.cluster
                ),
            ));
        }
        let text =
            |text: &str| !text.is_empty() && text.len() <= MAX_TEXT && !text.contains(char::is_control);
        if !text(&heartbeat.node_id) || !(heartbeat.name.is_empty() || text(&heartbeat.name)) {
            return Err(invalid("a node needs a name"));
        }
        if !text(&heartbeat.address) || !heartbeat.address.contains(':') {
            return Err(invalid("a node needs a `host:port`"));
        }
        if role_from_wire(heartbeat.role()).is_none() {
            return Err(invalid("a node needs a role that this version knows"));
        }
        Ok(())
    }
}

impl Entries {
    fn is_drained(&self, id: &str, name: &str) -> bool {
        self.drained.contains(id) || self.drained.contains(name)
    }

    fn wants_drained(&self, heartbeat: &Heartbeat) -> bool {
        self.is_drained(&heartbeat.node_id, name_of(heartbeat))
    }
}

/// Nodes of earlier versions tell no name.
fn name_of(heartbeat: &Heartbeat) -> &str {
    if heartbeat.name.is_empty() {
        &heartbeat.node_id
    } else {
        &heartbeat.name
    }
}

fn node_of(heartbeat: &Heartbeat, drain: bool) -> Node {
    let state = if heartbeat.draining || drain {
        NodeState::Draining
    } else {
        NodeState::Ready
    };
    Node {
        id: heartbeat.node_id.clone(),
        role: heartbeat.role,
        address: heartbeat.address.clone(),
        version: heartbeat.version.clone(),
        capacity: heartbeat.capacity,
        state: state.into(),
        load: heartbeat.load,
        name: name_of(heartbeat).to_owned(),
        schema_revision: heartbeat.schema_revision,
    }
}

/// Load and what is served change all the time and are no reason to tell everybody.
fn without_load(node: &Node) -> Node {
    Node {
        load: 0,
        schema_revision: 0,
        ..node.clone()
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "NODE_INVALID", message)
}

fn no_such_node(node: &str) -> Error {
    let shown = &node[..node.floor_char_boundary(MAX_TEXT)];
    Error::new(
        ErrorKind::NotFound,
        "NODE_NOT_FOUND",
        format!(
            "there is no node `{shown}`; `alyx nodes list` shows the names, and the ids, which change with each start"
        ),
    )
}

fn replaced() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "NODE_REPLACED",
        "this stream no longer reports its node; register again",
    )
}

#[cfg(test)]
mod tests;
