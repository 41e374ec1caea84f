//! The directory of nodes: who has said lately that it is there. In memory only: a new leader hears of every node
//! within a heartbeat, and says that its directory is not complete before that.

use std::collections::BTreeMap;
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
}

struct Entry {
    node: Node,
    expires: Instant,
    /// The operator wants it to drain.
    drain: bool,
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
    pub(crate) fn new(cluster: String) -> Self {
        Self {
            cluster,
            entries: Mutex::default(),
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
        let drain = known.is_some_and(|entry| entry.drain);
        entries.streams += 1;
        let stream = entries.streams;
        let entry = Entry {
            node: node_of(heartbeat, drain),
            expires: Instant::now() + LEASE,
            drain,
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
        let Some(entry) = entries.by_id.get_mut(&registered.id) else {
            drop(entries);
            // Its lease had run out (it was paused); it is there again.
            return Err(replaced());
        };
        if entry.stream != registered.stream {
            return Err(replaced());
        }
        entry.expires = Instant::now() + LEASE;
        let drain = entry.drain;
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

    /// Asks a node to drain, or to work again.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND`.
    pub(crate) fn set_drain(&self, id: &str, drain: bool) -> Result<()> {
        let mut entries = self.entries.lock();
        let entry = entries.by_id.get_mut(id).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "NODE_NOT_FOUND",
                "there is no node with that id; ids change with each start",
            )
        })?;
        entry.drain = drain;
        if drain {
            entry.node.state = NodeState::Draining.into();
        }
        self.publish(&entries);
        Ok(())
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
        if !text(&heartbeat.node_id) {
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
    }
}

/// Load changes all the time and is no reason to tell everybody.
fn without_load(node: &Node) -> Node {
    Node {
        load: 0,
        ..node.clone()
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "NODE_INVALID", message)
}

fn replaced() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "NODE_REPLACED",
        "this stream no longer reports its node; register again",
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alyx_proto::control::Role;

    use super::*;

    fn heartbeat(id: &str) -> Heartbeat {
        Heartbeat {
            node_id: id.to_owned(),
            role: Role::Gateway.into(),
            address: "h:1".to_owned(),
            cluster: "c".to_owned(),
            ..Heartbeat::default()
        }
    }

    fn ids(list: &NodeList) -> Vec<&str> {
        list.nodes.iter().map(|node| node.id.as_str()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_says_nothing_is_gone_after_its_lease() {
        let registry = Registry::new("c".to_owned());
        let mut list = registry.follow();
        let silent = registry.enter(&heartbeat("silent")).expect("entered");
        let alive = registry.enter(&heartbeat("alive")).expect("entered");
        assert_eq!(ids(&list.borrow_and_update()), ["alive", "silent"]);
        let beating = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                registry.renew(&alive, &heartbeat("alive")).expect("renewed");
            }
        };
        let gone = async {
            list.wait_for(|list| ids(list) == ["alive"])
                .await
                .expect("the registry lives")
                .complete
        };
        let began = Instant::now();
        let complete = tokio::select! {
            complete = gone => complete,
            () = beating => false,
            () = registry.expire() => false,
        };
        assert!(complete);
        assert!(
            began.elapsed() <= LEASE + Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(
            registry
                .renew(&silent, &heartbeat("silent"))
                .expect_err("gone")
                .code(),
            "NODE_REPLACED"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_directory_is_complete_after_a_lease() {
        let registry = Registry::new("c".to_owned());
        let mut list = registry.follow();
        assert!(!list.borrow().complete);
        tokio::select! {
            complete = list.wait_for(|list| list.complete) => drop(complete),
            () = registry.expire() => {}
        }
        assert!(registry.follow().borrow().complete);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_newest_stream_speaks_for_a_node() {
        let registry = Registry::new("c".to_owned());
        let old = registry.enter(&heartbeat("a")).expect("entered");
        let new = registry.enter(&heartbeat("a")).expect("entered again");
        assert_eq!(
            registry
                .renew(&old, &heartbeat("a"))
                .expect_err("replaced")
                .code(),
            "NODE_REPLACED"
        );
        registry.leave(&old);
        assert_eq!(ids(&registry.follow().borrow()), ["a"]);
        registry.leave(&new);
        assert!(registry.follow().borrow().nodes.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn load_alone_tells_nobody_and_draining_does() {
        let registry = Registry::new("c".to_owned());
        let node = registry.enter(&heartbeat("a")).expect("entered");
        let mut list = registry.follow();
        list.mark_unchanged();
        let mut beat = |change: fn(&mut Heartbeat), told: bool| {
            let mut heartbeat = heartbeat("a");
            change(&mut heartbeat);
            let drain = registry.renew(&node, &heartbeat).expect("renewed");
            assert_eq!(list.has_changed().expect("the registry lives"), told);
            list.mark_unchanged();
            drain
        };
        assert!(!beat(|h| h.load = 7, false));
        assert!(!beat(|h| h.draining = true, true));
        assert!(!beat(|_| (), true));
        registry.set_drain("a", true).expect("there");
        assert!(beat(|_| (), true));
        registry.set_drain("a", false).expect("there");
        assert!(!beat(|_| (), true));
        assert_eq!(
            registry.set_drain("b", true).expect_err("no such node").code(),
            "NODE_NOT_FOUND"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_that_do_not_belong_are_refused() {
        let registry = Registry::new("c".to_owned());
        let check = |change: fn(&mut Heartbeat), code: &str| {
            let mut heartbeat = heartbeat("a");
            change(&mut heartbeat);
            assert_eq!(registry.enter(&heartbeat).expect_err(code).code(), code);
        };
        check(|h| h.cluster = "other".to_owned(), "CLUSTER_MISMATCH");
        check(|h| h.node_id = String::new(), "NODE_INVALID");
        check(|h| h.address = "nowhere".to_owned(), "NODE_INVALID");
        check(|h| h.role = 99, "NODE_INVALID");
        for number in 0..MAX_NODES {
            registry.enter(&heartbeat(&number.to_string())).expect("entered");
        }
        check(|_| (), "CLUSTER_FULL");
    }
}
