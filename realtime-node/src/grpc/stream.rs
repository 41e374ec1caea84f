//! One gateway's stream: its commands go to the link, the link's events go out as frames.
//!
//! **Invariants:** while the credit is used up, no event is taken from the link, whose bound then makes the engine
//! remember instead of send; beacons need no credit. After `Closed`, nothing more is said about a group. Frames are
//! noted for the digest in the order in which they are sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use alyx_core::{Error, Seq, TraceContext};
use alyx_proto::realtime as wire;
use alyx_proto::realtime::gateway_frame::Body as Asked;
use alyx_proto::realtime::node_frame::Body;
use alyx_rpc::realtime::{Positions, event_to_wire, query_from_wire, split};
use alyx_rpc::{to_status, to_wire};
use alyx_service::realtime::{GroupCommand, GroupEvent, GroupId, RealtimeLink};
use alyx_service::state::StateWatch;
use alyx_service::trace;
use rustc_hash::FxHashSet;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::node::{RealtimeNode, stopped};

/// How often a gateway hears that the node is there and what it has said.
const BEACON: Duration = Duration::from_secs(1);
/// Frames that wait for the connection before the link is left alone.
const MAX_WAITING: usize = 128;
/// Events taken from the link at a time.
const RUN: usize = 64;
/// Most credit that a gateway can have.
const MAX_CREDIT: i64 = 1 << 30;

/// What a stream is made of.
pub(super) struct StreamParts {
    pub(super) incoming: Streaming<wire::GatewayFrame>,
    pub(super) outgoing: mpsc::Sender<Result<wire::NodeFrame, Status>>,
    pub(super) link: RealtimeLink,
    pub(super) node: Arc<RealtimeNode>,
    pub(super) state: StateWatch,
    pub(super) draining: watch::Receiver<bool>,
    pub(super) cancelled: CancellationToken,
}

/// See the module's documentation.
pub(super) struct Stream {
    parts: StreamParts,
    /// Groups that the gateway has opened and not closed.
    groups: FxHashSet<GroupId>,
    positions: Positions,
    waiting: VecDeque<wire::NodeFrame>,
    /// Bytes that may be sent; below zero by at most one frame.
    credit: i64,
}

/// Whether a stream goes on.
enum Flow {
    On,
    Over,
}

impl Stream {
    pub(super) fn new(parts: StreamParts) -> Self {
        Self {
            parts,
            groups: FxHashSet::default(),
            positions: Positions::default(),
            waiting: VecDeque::new(),
            credit: 0,
        }
    }

    /// Serves the stream to its end, which closes the link.
    pub(super) async fn run(mut self) {
        let mut beacons: Interval = interval(BEACON);
        beacons.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut events = Vec::with_capacity(RUN);
        let mut follows_draining = true;
        self.parts.draining.mark_changed();
        loop {
            let may_take = self.credit > 0 && self.waiting.len() < MAX_WAITING;
            let flow = tokio::select! {
                () = self.parts.cancelled.cancelled() => self.lost(),
                // The room is taken below.
                open = has_room(&self.parts.outgoing), if !self.waiting.is_empty() => {
                    if open { Flow::On } else { Flow::Over }
                }
                () = self.parts.outgoing.closed() => Flow::Over,
                asked = self.parts.incoming.message(), if self.waiting.len() < 2 * MAX_WAITING => match asked {
                    Ok(Some(frame)) => self.take(frame).await,
                    Ok(None) | Err(_) => Flow::Over,
                },
                count = self.parts.link.events.recv_many(&mut events, RUN), if may_take => {
                    let mut flow = if count == 0 { self.lost() } else { Flow::On };
                    for event in events.drain(..) {
                        if let Flow::Over = self.tell(event).await {
                            flow = Flow::Over;
                        }
                    }
                    flow
                }
                _ = beacons.tick() => self.beacon(),
                changed = self.parts.draining.changed(), if follows_draining => {
                    follows_draining = changed.is_ok();
                    if *self.parts.draining.borrow_and_update() {
                        self.queue(Body::Draining(wire::Draining {}));
                    }
                    Flow::On
                }
            };
            self.send_what_fits();
            if let Flow::Over = flow {
                return;
            }
        }
    }

    /// The engine has ended, or is about to.
    fn lost(&self) -> Flow {
        // A gateway that cannot be told finds out by the end of the stream.
        let _ = self.parts.outgoing.try_send(Err(to_status(&stopped())));
        Flow::Over
    }

    fn send_what_fits(&mut self) {
        while !self.waiting.is_empty() {
            let Ok(room) = self.parts.outgoing.try_reserve() else {
                return;
            };
            if let Some(frame) = self.waiting.pop_front() {
                room.send(Ok(frame));
            }
        }
    }

    async fn take(&mut self, frame: wire::GatewayFrame) -> Flow {
        match frame.body {
            Some(Asked::Open(open)) => return self.open(open).await,
            Some(Asked::Close(close)) => {
                let group = GroupId(close.group);
                self.groups.remove(&group);
                self.positions.forget(group);
                self.queue(Body::Closed(wire::Closed { group: group.0 }));
                return self.command(GroupCommand::Close { group }).await;
            }
            Some(Asked::Credit(credit)) => {
                let more = i64::try_from(credit.bytes).unwrap_or(MAX_CREDIT);
                self.credit = self.credit.saturating_add(more).min(MAX_CREDIT);
            }
            Some(Asked::Compare(_)) => {
                let positions = self.positions.iter().map(|(group, at)| wire::Position {
                    group: group.0,
                    at: at.0,
                });
                let positions = positions.collect();
                self.queue(Body::Positions(wire::Positions { positions }));
            }
            // Of a newer gateway; it goes on without.
            None => {}
        }
        Flow::On
    }

    async fn open(&mut self, open: wire::Open) -> Flow {
        let group = GroupId(open.group);
        let (schema, revision) = {
            let state = self.parts.state.borrow();
            (Arc::clone(&state.schema), state.schema_revision)
        };
        match query_from_wire(open.query.unwrap_or_default(), &schema) {
            Ok(query) => {
                self.groups.insert(group);
                let trace = open.trace.as_deref().and_then(TraceContext::from_bytes);
                trace::sync_within(trace, || {
                    tracing::debug!(
                        group = group.0,
                        collection = query.collection.name,
                        "a live query is opened"
                    );
                });
                let open = GroupCommand::Open {
                    group,
                    query: Arc::new(query),
                    have: open.have.map(Seq),
                    trace,
                };
                self.command(open).await
            }
            Err(error) => {
                self.fail(group, &error, open.schema_revision > revision);
                Flow::On
            }
        }
    }

    /// Passes a command on. The link takes them without waiting for events to be taken.
    async fn command(&mut self, command: GroupCommand) -> Flow {
        match self.parts.link.commands.send(command).await {
            Ok(()) => Flow::On,
            Err(_) => self.lost(),
        }
    }

    /// Queues what the link says about a group.
    async fn tell(&mut self, event: GroupEvent) -> Flow {
        let (group, ended) = match &event {
            GroupEvent::Opened { group, .. } | GroupEvent::Changed { group, .. } => (*group, false),
            GroupEvent::Failed { group, .. } => (*group, true),
        };
        let known = if ended {
            self.groups.remove(&group)
        } else {
            self.groups.contains(&group)
        };
        if !known {
            return Flow::On;
        }
        let frame = event_to_wire(&event);
        let cost = frame.cost;
        match split(frame) {
            Ok(frames) => {
                self.positions.note(&event);
                self.credit -= i64::try_from(cost).unwrap_or(MAX_CREDIT);
                self.waiting.extend(frames);
                Flow::On
            }
            Err(error) => {
                self.groups.remove(&group);
                self.fail(group, &error, false);
                self.command(GroupCommand::Close { group }).await
            }
        }
    }

    fn fail(&mut self, group: GroupId, error: &Error, later: bool) {
        self.positions.forget(group);
        self.queue(Body::Failed(wire::Failed {
            group: group.0,
            error: Some(to_wire(error)),
            later,
        }));
    }

    fn beacon(&mut self) -> Flow {
        if self.waiting.len() >= MAX_WAITING {
            // What waits tells the same.
            return Flow::On;
        }
        let applied = self.parts.node.stats().applied;
        self.queue(Body::Beacon(wire::Beacon {
            applied: applied.0,
            digest: self.positions.digest(),
        }));
        Flow::On
    }

    fn queue(&mut self, body: Body) {
        self.waiting.push_back(wire::NodeFrame {
            cost: 0,
            body: Some(body),
        });
    }
}

/// Waits for room; `false` where the connection is gone.
async fn has_room(outgoing: &mpsc::Sender<Result<wire::NodeFrame, Status>>) -> bool {
    outgoing.reserve().await.is_ok()
}
