//! All subscriptions with the same query: one window, one serialised frame per step, many sockets.
//!
//! **Invariant:** a member is added, its snapshot queued and every step pushed under the group's one lock, so
//! each member's snapshot is followed by exactly the steps after it. Lock order: index, then group, then
//! connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alyx_core::{Error, Seq};
use alyx_schema::Collection;
use alyx_service::realtime::{Document, GroupEvent, GroupId, WindowChange};
use parking_lot::{Mutex, MutexGuard};

use super::connection::{Connection, Slot};
use super::message::{self, EchoId, Step};
use super::mirror::{Gap, Mirror};
use super::places::Places;
use super::ruled_query::{RULES_EVERY, Ruled, RuledQuery};
use super::wakes::Wakes;

/// A live query with its subscribers.
#[derive(Debug)]
pub(super) struct Group {
    /// The id that clients see.
    pub(super) public: Box<str>,
    /// The query as it was asked for, to be read again when the schema changes.
    pub(super) asked: serde_json::Value,
    state: Mutex<State>,
}

/// A group's place in the index.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    /// The schema that the query was read with.
    pub(super) schema: u64,
    /// What it means; without what rules add where that changes with time.
    pub(super) query: Vec<u8>,
    /// The account that it is for, where rules may say something else to others later; empty for who has none.
    pub(super) caller: Option<String>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) key: GroupKey,
    pub(super) collection: Arc<Collection>,
    /// What rules add for its subscribers.
    pub(super) ruled: Ruled,
    /// When its rules are to be asked again, where they look at the time.
    rules_due: Option<u32>,
    /// Its name on the link now.
    pub(super) link: GroupId,
    phase: Phase,
    members: Places<Member>,
    /// Since when nobody listens.
    pub(super) cold: Option<u32>,
}

#[derive(Debug)]
enum Phase {
    /// The node has been asked, at that time.
    Opening(u32),
    Live(Mirror),
    /// Out of the index; nobody can join any more.
    Closed,
}

/// One subscription of one socket.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) connection: Arc<Connection>,
    pub(super) slot: Slot,
    /// The id under which this socket knows the group, where it already uses the group's own.
    pub(super) alias: Option<Arc<str>>,
    /// The id of the subscribe message, until the first snapshot has answered it.
    pub(super) asked: Asked,
}

/// Whether a subscription still waits for its first snapshot.
#[derive(Debug)]
pub(super) enum Asked {
    Waiting(Option<EchoId>),
    Answered,
}

/// What a run of events did, as far as the hub must act on it.
#[derive(Debug)]
pub(super) enum Aftermath {
    Fine,
    /// Node and gateway have lost each other; start the group afresh.
    Lost(Gap),
    /// The node cannot serve it.
    Failed(Arc<Error>),
}

/// What the hub lends a group for its work.
#[derive(Debug)]
pub(super) struct Means<'a> {
    pub(super) wakes: &'a Wakes,
    pub(super) resets: &'a AtomicU64,
}

impl Group {
    pub(super) fn new(
        public: Box<str>,
        asked: serde_json::Value,
        read: &RuledQuery,
        (key, link): (GroupKey, GroupId),
        now: u32,
    ) -> Self {
        let ruled = read.ruled.clone();
        Self {
            public,
            asked,
            state: Mutex::new(State {
                key,
                collection: read.collection(),
                rules_due: ruled.caller.as_ref().map(|_| now + RULES_EVERY),
                ruled,
                link,
                phase: Phase::Opening(now),
                members: Places::default(),
                cold: None,
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Adds a subscription; where the window is known, its snapshot is queued at once. `None` where the
    /// group has been closed meanwhile.
    pub(super) fn join(&self, mut member: Member, wakes: &Wakes) -> Option<u32> {
        let mut state = self.lock();
        match &mut state.phase {
            Phase::Closed => return None,
            Phase::Opening(_) => {}
            Phase::Live(mirror) => self.answer(mirror, &mut member, wakes),
        }
        state.cold = None;
        Some(state.members.add(member))
    }

    /// Removes a subscription, unless the group has ended it itself.
    pub(super) fn leave(&self, place: u32, connection: &Arc<Connection>, slot: Slot, now: u32) -> Left {
        let mut state = self.lock();
        let is_it = |member: &Member| member.slot == slot && Arc::ptr_eq(&member.connection, connection);
        if !state.members.get(place).is_some_and(is_it) {
            return Left::Others;
        }
        state.members.remove(place);
        if state.members.len() > 0 || matches!(state.phase, Phase::Closed) {
            return Left::Others;
        }
        state.cold = Some(now);
        match state.phase {
            Phase::Live(_) => Left::Cold,
            Phase::Opening(_) | Phase::Closed => Left::Useless,
        }
    }

    /// Sends the first snapshot.
    fn answer(&self, mirror: &mut Mirror, member: &mut Member, wakes: &Wakes) {
        if let Asked::Waiting(id) = std::mem::replace(&mut member.asked, Asked::Answered) {
            let body = mirror.snapshot();
            let head = message::snapshot_head(id.as_ref(), self.id_for(member), false, body.len());
            member.connection.push(Some(head), body, wakes);
        }
    }

    fn id_for<'a>(&'a self, member: &'a Member) -> &'a str {
        member.alias.as_deref().unwrap_or(&self.public)
    }

    /// Sends a fresh snapshot to a member that is behind; false where there is none to send yet.
    pub(super) fn reset(&self, member: u32, means: &Means<'_>) -> bool {
        let mut state = self.lock();
        let State { phase, members, .. } = &mut *state;
        let (Phase::Live(mirror), Some(member)) = (phase, members.get(member)) else {
            return false;
        };
        let body = mirror.snapshot();
        let head = message::snapshot_head(None, self.id_for(member), true, body.len());
        member.connection.push_reset(member.slot, head, body);
        means.resets.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Takes in a run of the node's events, oldest first, and tells the members.
    pub(super) fn apply(&self, link: GroupId, events: Vec<GroupEvent>, means: &Means<'_>) -> Aftermath {
        let mut state = self.lock();
        if state.link != link || matches!(state.phase, Phase::Closed) {
            // Events under way for a name that the group no longer has.
            return Aftermath::Fine;
        }
        let mut run: Vec<(Seq, Seq, Arc<WindowChange>)> = Vec::with_capacity(events.len());
        for event in events {
            match event {
                GroupEvent::Changed { from, to, change, .. } => run.push((from, to, change)),
                GroupEvent::Opened { at, docs, total, .. } => {
                    // It replaces everything before it.
                    run.clear();
                    self.open(&mut state, (docs, total, at), means.wakes);
                }
                GroupEvent::Failed { error, .. } => return Aftermath::Failed(error),
            }
        }
        match self.step(&mut state, &run, means.wakes) {
            Ok(()) => Aftermath::Fine,
            Err(gap) => Aftermath::Lost(gap),
        }
    }

    /// Takes in a whole window. One that goes on from the one that the members have is a step for them; they start
    /// afresh from any other.
    fn open(&self, state: &mut State, (docs, total, at): (Vec<Document>, u64, Seq), wakes: &Wakes) {
        let State {
            phase,
            members,
            collection,
            ..
        } = state;
        if let Phase::Live(mirror) = phase
            && mirror.goes_on_to(at)
        {
            mirror.replace(docs, total, at, |step| {
                self.tell(members, collection, step, wakes)
            });
            return;
        }
        let mut mirror = Mirror::new(docs, total, at);
        for member in members.iter_mut() {
            match member.asked {
                Asked::Waiting(_) => self.answer(&mut mirror, member, wakes),
                Asked::Answered => member.connection.push_dirty(member.slot, wakes),
            }
        }
        *phase = Phase::Live(mirror);
    }

    fn step(
        &self,
        state: &mut State,
        run: &[(Seq, Seq, Arc<WindowChange>)],
        wakes: &Wakes,
    ) -> Result<(), Gap> {
        let State {
            phase,
            members,
            collection,
            ..
        } = state;
        let Phase::Live(mirror) = phase else {
            return match run.first() {
                None => Ok(()),
                Some((from, ..)) => Err(Gap {
                    expected: Seq(0),
                    found: *from,
                }),
            };
        };
        let changes: Vec<_> = run
            .iter()
            .map(|(from, to, change)| (*from, *to, &**change))
            .collect();
        mirror.step(&changes, |step| self.tell(members, collection, step, wakes))
    }

    /// Queues a step for every member, serialised once.
    fn tell(&self, members: &mut Places<Member>, collection: &Collection, step: &Step<'_>, wakes: &Wakes) {
        if members.len() == 0 {
            return;
        }
        let delta = message::delta(collection, &self.public, step);
        for member in members.iter_mut() {
            let Member {
                connection,
                slot,
                alias,
                ..
            } = member;
            match alias {
                None => connection.push_delta(*slot, None, delta.frame.clone(), wakes),
                Some(alias) => {
                    let head = message::delta_head(alias, delta.body.len());
                    connection.push_delta(*slot, Some(head), delta.body.clone(), wakes);
                }
            }
        }
    }

    /// Ends the group and tells every member why.
    pub(super) fn fail(&self, state: &mut State, error: &Error, wakes: &Wakes) {
        for member in std::mem::take(&mut state.members).iter_mut() {
            self.refuse(member, error, wakes);
        }
        state.close();
    }

    /// Ends the subscriptions that have had no snapshot yet.
    pub(super) fn fail_waiting(&self, state: &mut State, error: &Error, wakes: &Wakes) {
        let waiting = |member: &Member| matches!(member.asked, Asked::Waiting(_));
        for member in &state.members.remove_if(waiting) {
            self.refuse(member, error, wakes);
        }
    }

    fn refuse(&self, member: &Member, error: &Error, wakes: &Wakes) {
        let frame = match &member.asked {
            Asked::Waiting(id) => message::error(id.as_ref(), None, error),
            Asked::Answered => message::error(None, Some(self.id_for(member)), error),
        };
        member.connection.push_ended(member.slot, frame, wakes);
    }
}

/// What a leaving subscription leaves behind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    Others,
    /// A window that somebody may come back to.
    Cold,
    /// A group that was never opened.
    Useless,
}

impl State {
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.len() == 0
    }

    /// For how long the node has owed an answer, in seconds.
    pub(super) fn opening_for(&self, now: u32) -> Option<u32> {
        match self.phase {
            Phase::Opening(since) => Some(now.saturating_sub(since)),
            Phase::Live(_) | Phase::Closed => None,
        }
    }

    /// The group is to be opened again, under a new name and as the schema has its collection now.
    pub(super) fn reopen(&mut self, key: GroupKey, collection: Arc<Collection>, link: GroupId, now: u32) {
        self.key = key;
        self.collection = collection;
        self.link = link;
        self.phase = Phase::Opening(now);
    }

    /// Where its window is, once it has one.
    pub(super) fn position(&self) -> Option<Seq> {
        match &self.phase {
            Phase::Live(mirror) => Some(mirror.position()),
            Phase::Opening(_) | Phase::Closed => None,
        }
    }

    /// Whether its rules are to be asked again.
    pub(super) fn are_rules_due(&self, now: u32) -> bool {
        self.rules_due.is_some_and(|due| due <= now) && self.position().is_some()
    }

    /// Its rules have been asked.
    pub(super) fn asked_rules(&mut self, now: u32) {
        self.rules_due = self.rules_due.map(|_| now + RULES_EVERY);
    }

    /// The window is to go on under other rules, by another name; until then it stays as it is.
    pub(super) fn follow(&mut self, ruled: Ruled, link: GroupId) {
        self.ruled = ruled;
        self.link = link;
    }

    pub(super) fn close(&mut self) {
        self.phase = Phase::Closed;
        self.members = Places::default();
    }
}
