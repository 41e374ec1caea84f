//! The hub's link to all realtime nodes: one task that owns the streams, the groups and their places.
//!
//! **Invariants:** commands are taken while events wait for the hub only as far as the hub goes on taking events, which
//! it always does; nothing here waits for a node. Credit is given back once the hub has taken an event off the channel, so
//! a hub that stands still holds every node back, and what it has not taken is bounded in bytes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alyx_core::Seq;
use alyx_proto::realtime as wire;
use alyx_proto::realtime::gateway_frame::Body;
use alyx_rpc::Security;
use alyx_rpc::realtime::{Said, said_from_wire};
use alyx_service::cluster::{ClusterNode, NodeWatch, Role};
use alyx_service::realtime::{GroupCommand, GroupEvent, GroupId};
use alyx_service::state::StateWatch;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures_util::{FutureExt, StreamExt};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Standing;
use super::groups::Group;
use super::peer::{Joined, Peer, Phase, SILENCE};
use super::ring::Candidate;

/// How often things that are due are looked for.
const LOOK: Duration = Duration::from_millis(100);
/// Looks in a second.
const LOOKS: u32 = 10;
/// Frames and commands taken in a row.
const RUN: usize = 64;

/// What a link is made of.
#[derive(Debug)]
pub(super) struct LinkParts {
    pub(super) nodes: NodeWatch,
    pub(super) state: StateWatch,
    pub(super) security: Security,
    pub(super) commands: mpsc::Receiver<GroupCommand>,
    pub(super) events: mpsc::Sender<GroupEvent>,
    pub(super) standing: Arc<Standing>,
}

/// A frame off a stream, or its end.
struct Heard {
    peer: Arc<str>,
    number: u64,
    frame: Option<Result<wire::NodeFrame, Status>>,
}

/// See the module's documentation.
pub(super) struct Link {
    pub(super) parts: LinkParts,
    peers: BTreeMap<Arc<str>, Peer>,
    streams: SelectAll<BoxStream<'static, Heard>>,
    joins: FuturesUnordered<BoxFuture<'static, Joined>>,
    last_stream: u64,
    pub(super) groups: FxHashMap<GroupId, Group>,
    /// Groups by their names on the streams; no name is used twice, on whichever stream.
    pub(super) wires: FxHashMap<GroupId, GroupId>,
    pub(super) last_wire: u64,
    /// Nodes that groups are opened at.
    pub(super) candidates: Vec<Candidate>,
    /// All nodes that can be reached are to be left: what they serve stays, as there is nowhere to go.
    pub(super) makeshift: bool,
    /// Groups that are served and are being opened elsewhere.
    pub(super) moving: FxHashSet<GroupId>,
    pub(super) to_move: VecDeque<GroupId>,
    pub(super) put_off: BTreeSet<(Instant, GroupId)>,
    /// What events on the hub's channel have cost, oldest first.
    unpaid: VecDeque<Cost>,
}

/// What an event took from its node's credit.
struct Cost {
    peer: Arc<str>,
    /// Of the stream.
    number: u64,
    bytes: u64,
}

/// The hub is gone.
struct Over;

impl Link {
    pub(super) fn new(parts: LinkParts) -> Self {
        Self {
            parts,
            peers: BTreeMap::new(),
            streams: SelectAll::new(),
            joins: FuturesUnordered::new(),
            last_stream: 0,
            groups: FxHashMap::default(),
            wires: FxHashMap::default(),
            last_wire: 0,
            candidates: Vec::new(),
            makeshift: false,
            moving: FxHashSet::default(),
            to_move: VecDeque::new(),
            put_off: BTreeSet::new(),
            unpaid: VecDeque::new(),
        }
    }

    /// Serves the hub until it drops its end.
    pub(super) async fn run(mut self, cancelled: CancellationToken) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut look, mut directory) = (0, true);
        self.parts.nodes.mark_changed();
        loop {
            let gone = self.parts.events.clone();
            let done = tokio::select! {
                () = cancelled.cancelled() => return,
                () = gone.closed() => return,
                command = self.parts.commands.recv() => match command {
                    Some(command) => {
                        self.take_commands(command);
                        Ok(())
                    }
                    None => return,
                },
                Some(heard) = self.streams.next(), if !self.streams.is_empty() => self.hear_run(heard).await,
                Some(joined) = self.joins.next(), if !self.joins.is_empty() => {
                    self.joined(joined);
                    Ok(())
                }
                changed = self.parts.nodes.changed(), if directory => {
                    // The last ones known stay.
                    directory = changed.is_ok();
                    self.follow_directory();
                    Ok(())
                }
                _ = looks.tick() => {
                    look = (look + 1) % LOOKS;
                    self.look(look == 0).await
                }
            };
            if let Err(Over) = done {
                return;
            }
        }
    }

    fn take_commands(&mut self, first: GroupCommand) {
        let mut next = Some(first);
        let mut left = RUN;
        while let Some(command) = next {
            match command {
                GroupCommand::Open {
                    group,
                    query,
                    have,
                    trace,
                } => self.open(group, Group::new(query, have, trace)),
                GroupCommand::Close { group } => self.close(group),
            }
            left -= 1;
            next = if left > 0 {
                self.parts.commands.try_recv().ok()
            } else {
                None
            };
        }
    }

    /// Queues a frame for a node, if it is there.
    pub(super) fn send(&mut self, peer: &str, body: Body) {
        if let Some(stream) = self.peers.get_mut(peer).and_then(Peer::stream) {
            stream.send(body);
        }
    }

    /// Takes what has come, a bounded run of it.
    async fn hear_run(&mut self, first: Heard) -> Result<(), Over> {
        let mut next = Some(first);
        let mut left = RUN;
        while let Some(heard) = next {
            self.hear(heard).await?;
            left -= 1;
            next = if left > 0 {
                self.streams.next().now_or_never().flatten()
            } else {
                None
            };
        }
        Ok(())
    }

    async fn hear(&mut self, heard: Heard) -> Result<(), Over> {
        let Heard { peer, number, frame } = heard;
        let Some(stream) = self.peers.get_mut(&peer).and_then(Peer::stream) else {
            return Ok(());
        };
        if stream.number != number {
            return Ok(());
        }
        stream.silent = 0;
        let read = match frame {
            None => Err("it has ended the stream".to_owned()),
            Some(Err(status)) => Err(status.message().to_owned()),
            Some(Ok(frame)) => {
                let frame = stream.assembler.take(frame).and_then(|frame| match frame {
                    Some(frame) => Ok((frame.cost, said_from_wire(frame)?)),
                    None => Ok((0, None)),
                });
                frame.map_err(|error| {
                    std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
                })
            }
        };
        match read {
            Ok((cost, Some(said))) => {
                self.take_in(&peer, said).await?;
                if cost > 0 {
                    self.unpaid.push_back(Cost {
                        peer,
                        number,
                        bytes: cost,
                    });
                    self.pay();
                }
            }
            Ok((_, None)) => {}
            Err(why) => self.lose(&peer, &why),
        }
        Ok(())
    }

    /// Gives credit back for what the hub has taken. What was not passed on is counted with what was passed on after
    /// it.
    fn pay(&mut self) {
        let events = &self.parts.events;
        let waiting = events.max_capacity() - events.capacity();
        while self.unpaid.len() > waiting {
            let Some(cost) = self.unpaid.pop_front() else {
                return;
            };
            let stream = self.peers.get_mut(&cost.peer).and_then(Peer::stream);
            if let Some(stream) = stream.filter(|stream| stream.number == cost.number) {
                stream.pay(cost.bytes);
            }
        }
    }

    async fn take_in(&mut self, peer: &Arc<str>, said: Said) -> Result<(), Over> {
        let Some(stream) = self.peers.get_mut(peer).and_then(Peer::stream) else {
            return Ok(());
        };
        match said {
            Said::Event(event) => {
                stream.positions.note(&event);
                if let Some(event) = self.pass_on(event) {
                    self.parts.events.send(event).await.map_err(|_| Over)?;
                    self.move_some();
                }
            }
            Said::Later(group, error) => {
                stream.positions.forget(group);
                self.later(group, error);
            }
            Said::Closed(group) => stream.positions.forget(group),
            Said::Beacon { digest, .. } => {
                if digest != stream.positions.digest() && !stream.comparing {
                    tracing::error!(node = %peer, "a realtime node and this gateway disagree about live queries; comparing");
                    stream.comparing = true;
                    stream.send(Body::Compare(wire::Compare {}));
                }
            }
            Said::Positions(positions) => self.compare(peer, &positions),
            Said::Draining => {
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.asked_to_leave = true;
                }
                self.find_candidates();
            }
        }
        Ok(())
    }

    /// The node has told where its groups are: those that are elsewhere here start afresh, those that are not known
    /// here are closed there.
    fn compare(&mut self, peer: &Arc<str>, told: &[(GroupId, Seq)]) {
        let Some(stream) = self.peers.get_mut(peer).and_then(Peer::stream) else {
            return;
        };
        stream.comparing = false;
        let theirs: FxHashMap<GroupId, Seq> = told.iter().copied().collect();
        let ours: FxHashMap<GroupId, Seq> = stream.positions.iter().collect();
        stream.positions.set_all(told);
        let unknown = theirs.keys().filter(|wire| !self.wires.contains_key(wire));
        for wire in unknown {
            stream.send(Body::Close(wire::Close { group: wire.0 }));
        }
        let differ = |wire: &&GroupId| theirs.get(wire) != ours.get(wire);
        let differing: FxHashSet<GroupId> =
            ours.keys().chain(theirs.keys()).filter(differ).copied().collect();
        for wire in differing {
            if let Some(id) = self.wires.get(&wire).copied() {
                self.resync(id);
            }
        }
    }

    /// A node is gone, as far as can be told.
    fn lose(&mut self, id: &Arc<str>, why: &str) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        if peer.is_joined() {
            tracing::warn!(node = %id, why, "a realtime node is gone; its live queries go elsewhere");
        }
        peer.parted();
        self.find_candidates();
        self.replace(id);
    }

    /// Something has come of a try to join a node.
    fn joined(&mut self, joined: Joined) {
        let Joined {
            peer: id,
            number,
            alive,
            frames,
        } = joined;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.stream().is_none_or(|stream| stream.number != number) {
            return;
        }
        match frames {
            Ok(frames) => {
                peer.accepted();
                let (on, end) = (Arc::clone(&id), Arc::clone(&id));
                let heard = move |frame| Heard {
                    peer: Arc::clone(&on),
                    number,
                    frame: Some(frame),
                };
                let ended = Heard {
                    peer: end,
                    number,
                    frame: None,
                };
                let ended = futures_util::stream::once(async move { ended });
                let frames = frames.map(heard).chain(ended).take_until(alive.cancelled_owned());
                self.streams.push(frames.boxed());
                tracing::info!(node = %id, "joined a realtime node");
                self.find_candidates();
            }
            Err(error) => {
                tracing::warn!(node = %id, code = error.code(), %error, "a realtime node cannot be joined; trying again");
                self.lose(&id, error.message());
            }
        }
    }

    /// The directory of nodes has changed.
    fn follow_directory(&mut self) {
        let nodes = Arc::clone(&self.parts.nodes.borrow_and_update());
        let listed: Vec<&ClusterNode> = nodes
            .iter()
            .filter(|node| node.role == Role::RealtimeNode)
            .collect();
        for peer in self.peers.values_mut() {
            peer.listed = false;
        }
        let mut moved_away = Vec::new();
        for node in listed {
            let id: Arc<str> = Arc::from(node.id.as_str());
            match self.peers.get_mut(&id) {
                Some(peer) => {
                    if peer.node.address != node.address {
                        moved_away.push(id);
                    }
                    if peer.node.draining && !node.draining {
                        // An operator lets it work again.
                        peer.asked_to_leave = false;
                    }
                    peer.node = node.clone();
                    peer.listed = true;
                }
                None => {
                    self.peers.insert(id, Peer::new(node.clone()));
                }
            }
        }
        for id in moved_away {
            self.lose(&id, "it has another address");
        }
        self.join_due(Instant::now());
        self.find_candidates();
    }

    /// Joins the nodes whose time has come.
    fn join_due(&mut self, now: Instant) {
        self.peers
            .retain(|_, peer| peer.listed || !matches!(peer.phase, Phase::Parted { .. }));
        for peer in self.peers.values_mut() {
            if matches!(peer.phase, Phase::Parted { until } if until <= now) {
                self.last_stream += 1;
                let join = peer.join(self.last_stream, &self.parts.security);
                self.joins.push(join.boxed());
            }
        }
    }

    /// Who groups belong to now; where that has changed, groups are placed anew.
    fn find_candidates(&mut self) {
        let which = |wanted: fn(&Peer) -> bool| -> Vec<Candidate> {
            let peers = self.peers.iter().filter(|(_, peer)| wanted(peer));
            peers.map(|(id, _)| Candidate::new(Arc::clone(id))).collect()
        };
        let wanted = which(Peer::is_wanted);
        let makeshift = wanted.is_empty();
        let candidates = if makeshift { which(Peer::is_joined) } else { wanted };
        let changed = candidates != self.candidates || makeshift != self.makeshift;
        (self.candidates, self.makeshift) = (candidates, makeshift);
        if changed {
            self.place_all();
        }
        self.publish();
    }

    /// Does what is due; once a second also what need not be quick.
    async fn look(&mut self, second: bool) -> Result<(), Over> {
        let now = Instant::now();
        self.pay();
        self.join_due(now);
        self.try_put_off(now);
        if second {
            self.sweep_peers();
            for failure in self.sweep_groups(now) {
                self.parts.events.send(failure).await.map_err(|_| Over)?;
            }
            self.publish();
        }
        Ok(())
    }

    /// Gives up nodes that say nothing, and those that are neither named nor used any more.
    fn sweep_peers(&mut self) {
        let mut silent = Vec::new();
        for (id, peer) in &mut self.peers {
            if let Phase::Joined(stream) = &mut peer.phase {
                stream.silent += 1;
                if stream.silent > SILENCE {
                    silent.push(Arc::clone(id));
                }
            }
        }
        for id in silent {
            self.lose(&id, "it says nothing any more");
        }
        if self.peers.values().any(|peer| !peer.listed) {
            let places = self.groups.values().flat_map(Group::places);
            let used: FxHashSet<Arc<str>> = places.map(|place| Arc::clone(&place.peer)).collect();
            self.peers.retain(|id, peer| peer.listed || used.contains(id));
        }
    }

    fn publish(&self) {
        let standing = &self.parts.standing;
        let listed = self.peers.values().filter(|peer| peer.listed);
        standing.nodes.store(listed.count(), Ordering::Relaxed);
        let joined = self.peers.values().filter(|peer| peer.listed && peer.is_joined());
        standing.joined.store(joined.count(), Ordering::Relaxed);
        standing.groups.store(self.groups.len(), Ordering::Relaxed);
        let unserved = self.groups.values().filter(|group| !group.is_served());
        standing.unserved.store(unserved.count(), Ordering::Relaxed);
    }
}
