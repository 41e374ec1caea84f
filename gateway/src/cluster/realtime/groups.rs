//! Where each live query is served, and how it gets from one node to another.
//!
//! **Invariants:** what is passed on about a group comes from one place at a time, each event at or after the one
//! before it, unless the group had to start afresh; a place is left only once the next one has told a window that is
//! not older than what was passed on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Seq, TraceContext};
use alyx_proto::realtime as wire;
use alyx_proto::realtime::gateway_frame::Body;
use alyx_query::Query;
use alyx_rpc::realtime::query_to_wire;
use alyx_service::realtime::{GroupEvent, GroupId};
use tokio::time::Instant;

use super::link::Link;
use super::ring;

/// Groups on their way from one node to another at a time.
const MAX_MOVING: usize = 256;
/// Windows in a row that were too old, after which the old place is left first.
const MAX_TRIES: u32 = 3;
/// Until a group that nobody serves and that could not be opened is tried again, and one that somebody serves.
const PUT_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// How long a node may take to open a group.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// How long a group waits for a node that serves it.
const WAIT: Duration = Duration::from_secs(30);

/// A live query of this gateway.
#[derive(Debug)]
pub(super) struct Group {
    query: Arc<Query>,
    /// What it is placed by.
    key: u64,
    /// The position that was passed on last.
    told: Option<Seq>,
    /// The trace in which it was asked for, until it has been told.
    trace: Option<TraceContext>,
    /// Who tells its changes.
    serving: Option<Place>,
    /// Who is to.
    opening: Option<Opening>,
    /// Windows in a row that were too old.
    tries: u32,
    /// Since when nobody serves it.
    waiting_since: Option<Instant>,
    /// Why not.
    why: Option<Arc<Error>>,
}

/// A group at a node.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) peer: Arc<str>,
    /// Its name on the stream.
    wire: GroupId,
}

#[derive(Debug)]
struct Opening {
    place: Place,
    since: Instant,
}

impl Group {
    pub(super) fn new(query: Arc<Query>, have: Option<Seq>, trace: Option<TraceContext>) -> Self {
        Self {
            key: ring::key(&query),
            query,
            told: have,
            trace,
            serving: None,
            opening: None,
            tries: 0,
            waiting_since: Some(Instant::now()),
            why: None,
        }
    }

    /// Whether a node serves it.
    pub(super) fn is_served(&self) -> bool {
        self.serving.is_some()
    }

    /// Where it is, and where it is being opened.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        let opening = self.opening.as_ref().map(|opening| &opening.place);
        self.serving.iter().chain(opening)
    }

    fn serves(&self, wire: GroupId) -> bool {
        self.serving.as_ref().is_some_and(|place| place.wire == wire)
    }

    fn opens(&self, wire: GroupId) -> bool {
        self.opening
            .as_ref()
            .is_some_and(|opening| opening.place.wire == wire)
    }
}

impl Link {
    /// The hub asks for a group.
    pub(super) fn open(&mut self, id: GroupId, group: Group) {
        self.close(id);
        self.groups.insert(id, group);
        self.place(id);
    }

    /// The hub has given a group up.
    pub(super) fn close(&mut self, id: GroupId) {
        if let Some(group) = self.groups.remove(&id) {
            self.moving.remove(&id);
            let opening = group.opening.map(|opening| opening.place);
            for place in group.serving.into_iter().chain(opening) {
                self.leave(&place);
            }
        }
    }

    /// The node need not serve the group there any more.
    fn leave(&mut self, place: &Place) {
        self.wires.remove(&place.wire);
        self.send(&place.peer, Body::Close(wire::Close { group: place.wire.0 }));
    }

    /// Nodes have come or gone: opens what nobody serves, and moves what belongs elsewhere, some at a time.
    pub(super) fn place_all(&mut self) {
        let (served, unserved): (Vec<_>, Vec<_>) = self
            .groups
            .keys()
            .copied()
            .partition(|id| self.groups[id].is_served());
        for id in unserved {
            self.place(id);
        }
        self.to_move = served.into();
        self.move_some();
    }

    /// Goes on with moving.
    pub(super) fn move_some(&mut self) {
        while self.moving.len() < MAX_MOVING {
            let Some(id) = self.to_move.pop_front() else {
                return;
            };
            self.place(id);
        }
    }

    /// Opens the group where it belongs, unless it is there.
    pub(super) fn place(&mut self, id: GroupId) {
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        if group.is_served() && self.makeshift {
            return;
        }
        let Some(owner) = ring::owner(&self.candidates, group.key).cloned() else {
            return;
        };
        match (&group.serving, &group.opening) {
            (_, Some(opening)) if opening.place.peer == owner => {}
            (Some(serving), opening) if serving.peer == owner => {
                if opening.is_some() {
                    self.stop_opening(id);
                }
            }
            _ => {
                self.stop_opening(id);
                self.open_at(id, owner);
            }
        }
    }

    fn open_at(&mut self, id: GroupId, peer: Arc<str>) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        self.last_wire += 1;
        let wire = GroupId(self.last_wire);
        let open = wire::Open {
            group: wire.0,
            schema_revision: self.parts.state.borrow().schema_revision,
            query: Some(query_to_wire(&group.query)),
            have: group.told.map(|told| told.0),
            trace: group.trace.take().map(|trace| trace.to_bytes().to_vec().into()),
        };
        if group.is_served() {
            self.moving.insert(id);
        }
        self.wires.insert(wire, id);
        self.send(&peer, Body::Open(open));
        if let Some(group) = self.groups.get_mut(&id) {
            let place = Place { peer, wire };
            let since = Instant::now();
            group.opening = Some(Opening { place, since });
        }
    }

    fn stop_opening(&mut self, id: GroupId) {
        self.moving.remove(&id);
        let opening = self.groups.get_mut(&id).and_then(|group| group.opening.take());
        if let Some(opening) = opening {
            self.leave(&opening.place);
        }
    }

    /// Starts the group afresh where it is.
    pub(super) fn resync(&mut self, id: GroupId) {
        let serving = self.groups.get(&id).and_then(|group| group.serving.as_ref());
        if let Some(peer) = serving.map(|place| Arc::clone(&place.peer)) {
            self.parts.standing.resyncs.fetch_add(1, Ordering::Relaxed);
            self.stop_opening(id);
            self.open_at(id, peer);
        }
    }

    /// The groups that a lost node served or was to serve, opened elsewhere if there is anywhere.
    pub(super) fn replace(&mut self, peer: &str) {
        let mut concerned = Vec::new();
        for (id, group) in &mut self.groups {
            let lost = |place: &Place| &*place.peer == peer;
            if group.serving.as_ref().is_some_and(lost) {
                if let Some(place) = group.serving.take() {
                    self.wires.remove(&place.wire);
                }
                group.waiting_since = Some(Instant::now());
                concerned.push(*id);
            }
            if group.opening.as_ref().is_some_and(|opening| lost(&opening.place)) {
                if let Some(opening) = group.opening.take() {
                    self.wires.remove(&opening.place.wire);
                }
                concerned.push(*id);
            }
        }
        for id in concerned {
            self.moving.remove(&id);
            self.place(id);
        }
    }

    /// What a node says about a group, as it is passed on; `None` where it is not.
    pub(super) fn pass_on(&mut self, event: GroupEvent) -> Option<GroupEvent> {
        match event {
            GroupEvent::Opened {
                group: wire,
                at,
                docs,
                total,
            } => {
                let group = self.opened(wire, at)?;
                Some(GroupEvent::Opened {
                    group,
                    at,
                    docs,
                    total,
                })
            }
            GroupEvent::Changed {
                group: wire,
                from,
                to,
                change,
            } => {
                let id = *self.wires.get(&wire)?;
                let group = self.groups.get_mut(&id).filter(|group| group.serves(wire))?;
                if group.told != Some(from) {
                    tracing::error!(expected = ?group.told, found = from.0, "a live query lost its place; opening it afresh");
                    self.resync(id);
                    return None;
                }
                group.told = Some(to);
                Some(GroupEvent::Changed {
                    group: id,
                    from,
                    to,
                    change,
                })
            }
            GroupEvent::Failed { group: wire, error } => self.failed(wire, error),
        }
    }

    /// A window as of `at` has come; the group that it is passed on for.
    fn opened(&mut self, wire: GroupId, at: Seq) -> Option<GroupId> {
        let id = *self.wires.get(&wire)?;
        let group = self.groups.get_mut(&id)?;
        if group.opens(wire) {
            if group.is_served() && group.told > Some(at) {
                self.try_again(id);
                return None;
            }
            let place = group.opening.take().map(|opening| opening.place);
            let old = std::mem::replace(&mut group.serving, place);
            group.tries = 0;
            (group.waiting_since, group.why) = (None, None);
            self.moving.remove(&id);
            if let Some(old) = old {
                self.parts.standing.moves.fetch_add(1, Ordering::Relaxed);
                self.leave(&old);
            }
        }
        self.groups.get_mut(&id)?.told = Some(at);
        Some(id)
    }

    /// The window of the new place is older than what the old one has told meanwhile. After some tries the old one
    /// is left first, so that it tells no more.
    fn try_again(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.tries += 1;
        let enough = group.tries >= MAX_TRIES;
        let Some(opening) = group.opening.take() else {
            return;
        };
        let old = if enough { group.serving.take() } else { None };
        self.leave(&opening.place);
        if let Some(old) = old {
            self.leave(&old);
        }
        self.open_at(id, opening.place.peer);
    }

    /// A node cannot serve the group (any more); what is passed on where that is the end of it.
    fn failed(&mut self, wire: GroupId, error: Arc<Error>) -> Option<GroupEvent> {
        let id = self.wires.remove(&wire)?;
        let group = self.groups.get_mut(&id)?;
        if group.opens(wire) {
            group.opening = None;
            self.moving.remove(&id);
        } else if group.serves(wire) {
            group.serving = None;
            group.waiting_since = Some(Instant::now());
        }
        if group.is_served() || error.kind() == ErrorKind::Unavailable {
            self.put_off(id, error);
            return None;
        }
        if group.opening.is_some() {
            return None;
        }
        self.groups.remove(&id);
        Some(GroupEvent::Failed { group: id, error })
    }

    /// The node has not come as far as the gateway.
    pub(super) fn later(&mut self, wire: GroupId, error: Arc<Error>) {
        let Some(id) = self.wires.remove(&wire) else {
            return;
        };
        if let Some(group) = self.groups.get_mut(&id).filter(|group| group.opens(wire)) {
            group.opening = None;
            self.moving.remove(&id);
            self.put_off(id, error);
        }
    }

    fn put_off(&mut self, id: GroupId, error: Arc<Error>) {
        if let Some(group) = self.groups.get_mut(&id) {
            let wait = PUT_OFF[usize::from(group.is_served())];
            group.why = Some(error);
            self.put_off.insert((Instant::now() + wait, id));
        }
    }

    /// Tries again what was put off until now.
    pub(super) fn try_put_off(&mut self, now: Instant) {
        while let Some((until, id)) = self.put_off.pop_first() {
            if until > now {
                self.put_off.insert((until, id));
                break;
            }
            self.place(id);
        }
        self.move_some();
    }

    /// Looks after groups that are not served; what is passed on about those that have waited long enough.
    pub(super) fn sweep_groups(&mut self, now: Instant) -> Vec<GroupEvent> {
        let (mut stuck, mut over) = (Vec::new(), Vec::new());
        for (id, group) in &mut self.groups {
            let late = |since: Instant, bound: Duration| now.saturating_duration_since(since) >= bound;
            if group.waiting_since.is_some_and(|since| late(since, WAIT)) {
                over.push(*id);
            } else if group
                .opening
                .as_ref()
                .is_some_and(|opening| late(opening.since, OPEN_WITHIN))
            {
                stuck.push(*id);
            }
        }
        for id in stuck {
            self.stop_opening(id);
            if let Some(group) = self.groups.get_mut(&id).filter(|group| !group.is_served()) {
                // It may be a log that ends before what the gateway has: that of a database set back.
                group.told = None;
            }
            self.place(id);
        }
        let failures = over.into_iter().map(|id| {
            let why = self.groups.get_mut(&id).and_then(|group| group.why.take());
            self.close(id);
            let error = why.unwrap_or_else(|| Arc::new(unavailable()));
            GroupEvent::Failed { group: id, error }
        });
        failures.collect()
    }
}

fn unavailable() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "REALTIME_UNAVAILABLE",
        "no realtime node can serve the live query at the moment; try again",
    )
    .with_retry_after(Duration::from_secs(5))
}
