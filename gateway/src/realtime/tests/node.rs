//! The realtime node as a script: the test sees each command and sends each event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result, Seq, Value};
use alyx_query::Query;
use alyx_service::realtime::{
    Document, GroupCommand, GroupEvent, GroupId, RealtimeLink, RealtimeService, WindowChange,
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Hands one end of every link to the test.
#[derive(Debug)]
pub(super) struct FakeService {
    sides: mpsc::Sender<NodeSide>,
    taken: Mutex<Option<mpsc::Receiver<NodeSide>>>,
    /// Refuse this many times before joining.
    pub(super) refusals: Mutex<u32>,
}

impl Default for FakeService {
    fn default() -> Self {
        let (sides, taken) = mpsc::channel(16);
        Self {
            sides,
            taken: Mutex::new(Some(taken)),
            refusals: Mutex::new(0),
        }
    }
}

#[async_trait]
impl RealtimeService for FakeService {
    async fn connect(&self) -> Result<RealtimeLink> {
        {
            let mut refusals = self.refusals.lock();
            if *refusals > 0 {
                *refusals -= 1;
                return Err(Error::new(ErrorKind::Unavailable, "AWAY", "not yet"));
            }
        }
        let (commands, from_gateway) = mpsc::channel(8);
        let (to_gateway, events) = mpsc::channel(8);
        let side = NodeSide {
            commands: from_gateway,
            events: to_gateway,
        };
        self.sides.send(side).await.expect("the test holds the other end");
        Ok(RealtimeLink { commands, events })
    }
}

impl FakeService {
    /// The node's end of the next link.
    pub(super) async fn joined(&self) -> NodeSide {
        let mut sides = self.taken.lock().take().expect("one at a time");
        let side = sides.recv().await.expect("the service is alive");
        *self.taken.lock() = Some(sides);
        side
    }
}

/// The node's end of a link.
#[derive(Debug)]
pub(super) struct NodeSide {
    pub(super) commands: mpsc::Receiver<GroupCommand>,
    pub(super) events: mpsc::Sender<GroupEvent>,
}

impl NodeSide {
    pub(super) async fn command(&mut self) -> GroupCommand {
        let command = tokio::time::timeout(Duration::from_secs(300), self.commands.recv());
        command
            .await
            .expect("a command in time")
            .expect("the hub is alive")
    }

    /// The next command, which opens a group.
    pub(super) async fn opened(&mut self) -> (GroupId, Arc<Query>) {
        match self.command().await {
            GroupCommand::Open { group, query, .. } => (group, query),
            other => panic!("not an open: {other:?}"),
        }
    }

    /// The next command, which closes a group.
    pub(super) async fn closed(&mut self) -> GroupId {
        match self.command().await {
            GroupCommand::Close { group } => group,
            other => panic!("not a close: {other:?}"),
        }
    }

    pub(super) async fn send(&self, event: GroupEvent) {
        self.events.send(event).await.expect("the hub is alive");
    }

    /// Answers an open with documents of these ids.
    pub(super) async fn answer(&self, group: GroupId, at: u64, ids: &[i64]) {
        let docs = ids.iter().map(|&id| doc(id, 1)).collect();
        let event = GroupEvent::Opened {
            group,
            at: Seq(at),
            docs,
            total: ids.len() as u64,
        };
        self.send(event).await;
    }

    /// Appends one document to a window of `before` documents.
    pub(super) async fn insert(&self, group: GroupId, from: u64, before: usize, id: i64) {
        let change = WindowChange {
            inserts: vec![(before, doc(id, 1))],
            total: before as u64 + 1,
            ..WindowChange::default()
        };
        self.change(group, from, from + 1, change).await;
    }

    pub(super) async fn change(&self, group: GroupId, from: u64, to: u64, change: WindowChange) {
        let event = GroupEvent::Changed {
            group,
            from: Seq(from),
            to: Seq(to),
            change: Arc::new(change),
        };
        self.send(event).await;
    }
}

/// A document of `notes`.
pub(in crate::realtime) fn doc(id: i64, version: u64) -> Document {
    Document {
        id: Value::Int(id),
        json: Bytes::from(format!("{{\"id\":{id},\"version\":{version}}}")),
    }
}

/// A document of about `size` bytes.
pub(super) fn big_doc(id: i64, size: usize) -> Document {
    Document {
        id: Value::Int(id),
        json: Bytes::from(format!("{{\"id\":{id},\"text\":\"{}\"}}", "x".repeat(size))),
    }
}

/// The truth of a window over time, made by random commits.
#[derive(Debug)]
pub(in crate::realtime) struct Truth {
    /// Id and version, in the window's order.
    pub(super) rows: Vec<(i64, u64)>,
    pub(super) at: u64,
    /// The window at every position that it had.
    pub(super) history: BTreeMap<u64, Vec<(i64, u64)>>,
    next_id: i64,
    random: u64,
}

impl Truth {
    pub(in crate::realtime) fn new(size: i64, seed: u64) -> Self {
        let rows: Vec<(i64, u64)> = (0..size).map(|id| (id, 0)).collect();
        Self {
            history: BTreeMap::from([(1, rows.clone())]),
            rows,
            at: 1,
            next_id: size,
            random: seed | 1,
        }
    }

    /// A number below `bound` (xorshift).
    pub(in crate::realtime) fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % bound.max(1) as u64).expect("below a usize")
    }

    pub(in crate::realtime) fn docs(&self) -> Vec<Document> {
        self.rows.iter().map(|&(id, version)| doc(id, version)).collect()
    }

    /// One commit: some rows leave, some change and move, some come.
    pub(in crate::realtime) fn commit(&mut self) -> (u64, u64, WindowChange) {
        let from = self.at;
        self.at += 1 + self.below(3) as u64;
        let mut change = WindowChange::default();
        let mut entering: Vec<(i64, bool)> = Vec::new();
        for _ in 0..self.below(3) {
            if !self.rows.is_empty() {
                let gone = self.below(self.rows.len());
                change.deletes.push(Value::Int(self.rows.remove(gone).0));
            }
        }
        for _ in 0..self.below(3) {
            if !self.rows.is_empty() {
                let moved = self.below(self.rows.len());
                entering.push((self.rows.remove(moved).0, false));
            }
        }
        for _ in 0..self.below(3) {
            entering.push((self.next_id, true));
            self.next_id += 1;
        }
        let new: BTreeMap<i64, bool> = entering.iter().copied().collect();
        for &(id, _) in &entering {
            let place = self.below(self.rows.len() + 1);
            self.rows.insert(place, (id, self.at));
        }
        for (position, &(id, version)) in self.rows.iter().enumerate() {
            match new.get(&id) {
                Some(true) => change.inserts.push((position, doc(id, version))),
                Some(false) => change.updates.push((position, doc(id, version))),
                None => {}
            }
        }
        change.total = self.rows.len() as u64;
        self.history.insert(self.at, self.rows.clone());
        (from, self.at, change)
    }
}
