//! Joins sockets and the realtime node: finds or opens the group of a query, keeps the books, answers what each
//! socket may still do.
//!
//! **Invariants:** identical queries are one group; everything that grows with clients is bounded by the limits
//! (connections, subscriptions each, groups = subscriptions + [`MAX_COLD`], commands under way). Lock order:
//! index, then group, then connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use alyx_core::{ApiToken, Caller, Error, ErrorKind, Seq};
use alyx_query::Query;
use alyx_service::realtime::{GroupCommand, GroupId, RealtimeService};
use alyx_service::state::StateWatch;
use alyx_service::tasks::{OnEnd, Tasks};
use alyx_service::trace;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::authority::RuleCache;

use super::connection::{Connection, End};
use super::group::{Group, GroupKey, Left, Means, State};
use super::places::Places;
use super::ruled_query::RuledQuery;
use super::stats::{Counters, Stats};
use super::wakes::Wakes;
use super::wire::CloseCode;
use super::{link, sweeper};
use crate::auth::{Gone, Identity};

/// Groups without subscribers that are kept for somebody who comes back.
const MAX_COLD: usize = 1024;
/// Commands that wait for the node.
const MAX_COMMANDS: usize = 16 * 1024;

/// What the operator allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at a time.
    pub(crate) max_connections: usize,
    /// Subscriptions of one connection.
    pub(crate) max_subscriptions_per_client: usize,
    /// Longest message from a client, in bytes.
    pub(crate) max_message_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1000,
            max_subscriptions_per_client: 100,
            max_message_bytes: 512 * 1024,
        }
    }
}

/// What a hub is made of.
pub(crate) struct HubParts {
    /// Evaluates the live queries.
    pub(crate) service: Arc<dyn RealtimeService>,
    /// The schema that queries are read with.
    pub(crate) state: StateWatch,
    /// What the operator allows.
    pub(crate) limits: Limits,
    /// Runs the hub's tasks and those of all its sockets.
    pub(crate) tasks: Tasks,
}

/// All live queries and sockets of this gateway.
pub(crate) struct Hub {
    pub(super) limits: Limits,
    pub(super) tasks: Tasks,
    pub(super) wakes: Wakes,
    pub(super) counters: Counters,
    pub(super) connections: Mutex<Places<Listed>>,
    pub(super) index: Mutex<Index>,
    pub(super) commands_added: Notify,
    pub(super) joined: AtomicBool,
    pub(super) subscriptions: AtomicUsize,
    state: StateWatch,
    rules: RuleCache,
    admitted: AtomicUsize,
    stopping: AtomicBool,
    leaving: AtomicBool,
    last_link: AtomicU64,
    last_public: AtomicU64,
    /// Seconds since start, from 1; moved by the sweeper.
    clock: AtomicU32,
}

/// A connection as the sweeper sees it.
pub(super) struct Listed {
    pub(super) connection: Arc<Connection>,
    pub(super) next_ping: u32,
    /// Who opened it; it is closed when that is no longer so.
    pub(super) identity: Identity,
}

/// Groups by what they mean and by their name on the link, and what the node is still to be told.
pub(super) struct Index {
    /// The schema that all groups were last read with.
    pub(super) schema: u64,
    pub(super) by_key: FxHashMap<GroupKey, (GroupId, Arc<Group>)>,
    pub(super) by_link: FxHashMap<GroupId, Arc<Group>>,
    pub(super) commands: VecDeque<GroupCommand>,
}

/// The right to hold one connection; given back when dropped.
pub(super) struct Permit {
    hub: Arc<Hub>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.hub.admitted.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// Starts the hub's own two tasks: one that talks to the node, one that looks after all sockets.
    pub(crate) fn start(parts: HubParts) -> Arc<Self> {
        let schema = parts.state.borrow().schema_revision;
        let hub = Arc::new(Self {
            limits: parts.limits,
            tasks: parts.tasks,
            wakes: Wakes::default(),
            counters: Counters::default(),
            connections: Mutex::default(),
            index: Mutex::new(Index {
                schema,
                by_key: FxHashMap::default(),
                by_link: FxHashMap::default(),
                commands: VecDeque::new(),
            }),
            commands_added: Notify::new(),
            joined: AtomicBool::new(false),
            subscriptions: AtomicUsize::new(0),
            state: parts.state.clone(),
            rules: RuleCache::default(),
            admitted: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            last_link: AtomicU64::new(0),
            last_public: AtomicU64::new(0),
            clock: AtomicU32::new(1),
        });
        let tasks = hub.tasks.clone();
        let link = link::run(Arc::clone(&hub), parts.service, parts.state);
        tasks.spawn("realtime.link", OnEnd::StopAll, link);
        tasks.spawn("realtime.sweeper", OnEnd::StopAll, sweeper::run(Arc::clone(&hub)));
        hub
    }

    /// The hub at this moment.
    pub(crate) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            connections: self.connections.lock().len(),
            subscriptions: self.subscriptions.load(Ordering::Relaxed),
            groups: self.index.lock().by_link.len(),
            joined: self.joined.load(Ordering::Relaxed),
            frames_sent: read(&self.counters.frames),
            bytes_sent: read(&self.counters.bytes),
            messages_received: read(&self.counters.messages),
            resets: read(&self.counters.resets),
            overflows: self.wakes.overflows.load(Ordering::Relaxed) as u64,
            closes: self.counters.closes(),
        }
    }

    /// Refuses new connections and closes all there are with 1001. Their tasks end once their peers have answered,
    /// at the latest a few seconds later.
    pub(crate) fn close_all(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        for listed in self.connections.lock().iter_mut() {
            let end = End::Close(CloseCode::GOING_AWAY, "server is shutting down");
            listed.connection.end(end, &self.wakes);
        }
    }

    /// Closes the sockets of sessions that are over, or whose account has changed: what they were shown was for somebody
    /// who is no more.
    pub(crate) fn end_sessions(&self, gone: &Gone) {
        let end = End::Close(
            CloseCode::SIGNED_OUT,
            "the session has ended or its account has changed",
        );
        for listed in self.connections.lock().iter_mut() {
            let account = listed.identity.caller.account();
            let over = account.is_some_and(|account| {
                let session = account.session.as_deref().unwrap_or_default();
                gone.is_over(&account.id, session)
            });
            if over {
                listed.connection.end(end, &self.wakes);
            }
        }
    }

    /// Closes the sockets of API tokens that are over.
    pub(crate) fn end_tokens(&self, is_over: impl Fn(&ApiToken) -> bool) {
        let end = End::Close(CloseCode::SIGNED_OUT, "the token was revoked");
        for listed in self.connections.lock().iter_mut() {
            if listed.identity.token.as_ref().is_some_and(|token| is_over(token)) {
                listed.connection.end(end, &self.wakes);
            }
        }
    }

    /// Whether sockets are to go to other gateways. The sweeper closes those that are there, some each second.
    pub(crate) fn set_leaving(&self, leaving: bool) {
        self.leaving.store(leaving, Ordering::Relaxed);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// The right to one more connection.
    ///
    /// Errors: `REALTIME_FULL`, `GATEWAY_DRAINED` and `SHUTTING_DOWN`, all 503 with retry-after.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Permit, Error> {
        let refuse = |code: &'static str, message: String| {
            Error::new(ErrorKind::Unavailable, code, message).with_retry_after(Duration::from_secs(5))
        };
        if self.is_stopping() {
            return Err(refuse("SHUTTING_DOWN", "the server is shutting down".to_owned()));
        }
        if self.is_leaving() {
            let message = "this gateway is drained; connect again, to another one".to_owned();
            return Err(refuse("GATEWAY_DRAINED", message));
        }
        let permit = Permit {
            hub: Arc::clone(self),
        };
        let before = self.admitted.fetch_add(1, Ordering::Relaxed);
        if before >= self.limits.max_connections {
            return Err(refuse(
                "REALTIME_FULL",
                format!(
                    "all {} realtime connections are taken; `realtime.max_connections` sets the limit",
                    self.limits.max_connections
                ),
            ));
        }
        Ok(permit)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Coarse time in seconds, never 0.
    pub(super) fn now(&self) -> u32 {
        self.clock.load(Ordering::Relaxed)
    }

    /// A second has passed.
    pub(super) fn tick(&self) -> u32 {
        self.clock.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn means(&self) -> Means<'_> {
        Means {
            wakes: &self.wakes,
            resets: &self.counters.resets,
        }
    }

    /// The group of a query, opened where there is none. It may be closed by the time that it is joined; then ask
    /// again.
    ///
    /// Errors: as [`RuledQuery::read`], and `REALTIME_BUSY`.
    /// Callers whom the read rule lets see the same share the group.
    pub(super) fn group_of(
        &self,
        caller: &Caller,
        collection: &str,
        asked: &serde_json::Value,
    ) -> Result<Arc<Group>, Error> {
        loop {
            let desired = Arc::clone(&self.state.borrow());
            let rules = self.rules.of(&desired.schema);
            let read = RuledQuery::read(&rules, &desired, caller, (collection, asked))?;
            let key = read.key(desired.schema_revision);
            let mut index = self.index.lock();
            if index.schema > key.schema {
                // The schema has moved on since it was looked at.
                continue;
            }
            if let Some((_, group)) = index.by_key.get(&key) {
                return Ok(Arc::clone(group));
            }
            if index.commands.len() >= MAX_COMMANDS {
                let busy = "too many live queries are being opened; try again soon";
                return Err(Error::new(ErrorKind::Unavailable, "REALTIME_BUSY", busy));
            }
            let (public, link) = (self.fresh_public(), self.fresh_link());
            let group = Group::new(public, asked.clone(), &read, (key.clone(), link), self.now());
            let group = Arc::new(group);
            index.by_key.insert(key, (link, Arc::clone(&group)));
            index.by_link.insert(link, Arc::clone(&group));
            index.commands.push_back(open(link, read.query(), None));
            drop(index);
            self.commands_added.notify_one();
            return Ok(group);
        }
    }

    /// A subscription is given up.
    pub(super) fn leave(&self, group: &Arc<Group>, place: u32, connection: &Arc<Connection>, slot: u32) {
        let left = group.leave(place, connection, slot, self.now());
        let close = match left {
            Left::Others => false,
            Left::Useless => true,
            Left::Cold => {
                let groups = self.index.lock().by_link.len();
                groups > self.subscriptions.load(Ordering::Relaxed) + MAX_COLD
            }
        };
        if close {
            let mut index = self.index.lock();
            let mut state = group.lock();
            if state.is_empty() {
                self.close(&mut index, &mut state);
            }
        }
    }

    /// Takes a group out of the index and tells the node.
    pub(super) fn close(&self, index: &mut Index, state: &mut State) {
        if state.is_closed() {
            return;
        }
        index.forget(state);
        index
            .commands
            .push_back(GroupCommand::Close { group: state.link });
        state.close();
        self.commands_added.notify_one();
    }

    /// Ends a group that cannot be served and tells its subscribers why.
    pub(super) fn fail(&self, group: &Group, error: &Error) {
        let mut index = self.index.lock();
        let mut state = group.lock();
        if !state.is_closed() {
            index.forget(&state);
            group.fail(&mut state, error, &self.wakes);
        }
    }

    /// Opens a group again under a new name, with its query as the schema has it now. Its subscribers get a fresh
    /// snapshot when the node has answered. `forgotten`: the node does not know the old name any more.
    pub(super) fn reopen(&self, index: &mut Index, group: &Arc<Group>, forgotten: bool) {
        let desired = Arc::clone(&self.state.borrow());
        let mut state = group.lock();
        if state.is_closed() {
            return;
        }
        if !forgotten {
            index
                .commands
                .push_back(GroupCommand::Close { group: state.link });
        }
        index.forget(&state);
        match RuledQuery::again(&desired, &state, &group.asked) {
            Ok(_) if state.is_empty() => state.close(),
            Ok(read) => {
                let key = read.key(desired.schema_revision);
                state.reopen(key, read.collection(), self.fresh_link(), self.now());
                index.enter(&state, group);
                index.commands.push_back(open(state.link, read.query(), None));
            }
            Err(error) => group.fail(&mut state, &error, &self.wakes),
        }
        self.commands_added.notify_one();
    }

    /// Asks the rules of a group again that look at the time. Where they say something else now, the group follows that
    /// from here on: its subscribers get the difference, or learn that they may see nothing any more.
    pub(super) fn ask_rules_again(&self, group: &Arc<Group>) {
        let desired = Arc::clone(&self.state.borrow());
        let mut index = self.index.lock();
        let mut state = group.lock();
        let (Some(caller), Some(position)) = (state.ruled.caller.clone(), state.position()) else {
            return;
        };
        // Groups of another schema are opened again as it is, and what does not fit into the queue waits.
        if state.key.schema != desired.schema_revision || index.commands.len() >= MAX_COMMANDS {
            return;
        }
        state.asked_rules(self.now());
        let rules = self.rules.of(&desired.schema);
        let asked = (state.collection.name.as_str(), &group.asked);
        match RuledQuery::read(&rules, &desired, &caller, asked) {
            Ok(read) if read.ruled.filter == state.ruled.filter => return,
            Ok(read) => {
                let close = GroupCommand::Close { group: state.link };
                index.commands.push_back(close);
                index.forget(&state);
                state.follow(read.ruled.clone(), self.fresh_link());
                index.enter(&state, group);
                let open = open(state.link, read.query(), Some(position));
                index.commands.push_back(open);
            }
            Err(error) => {
                let close = GroupCommand::Close { group: state.link };
                index.commands.push_back(close);
                index.forget(&state);
                group.fail(&mut state, &error, &self.wakes);
            }
        }
        self.commands_added.notify_one();
    }

    fn fresh_link(&self) -> GroupId {
        GroupId(self.last_link.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn fresh_public(&self) -> Box<str> {
        let mut number = self.last_public.fetch_add(1, Ordering::Relaxed) + 1;
        let mut digits = Vec::new();
        while number > 0 {
            let digit = u32::try_from(number % 36).unwrap_or(0);
            digits.push(char::from_digit(digit, 36).unwrap_or('0'));
            number /= 36;
        }
        format!("sub_{}", digits.iter().rev().collect::<String>()).into()
    }
}

impl Index {
    /// Notes where a group is found.
    fn enter(&mut self, state: &State, group: &Arc<Group>) {
        self.by_link.insert(state.link, Arc::clone(group));
        let entry = self.by_key.entry(state.key.clone());
        entry.or_insert_with(|| (state.link, Arc::clone(group)));
    }

    fn forget(&mut self, state: &State) {
        self.by_link.remove(&state.link);
        // Two groups may have come to mean the same; the key is the other one's then.
        if self
            .by_key
            .get(&state.key)
            .is_some_and(|(link, _)| *link == state.link)
        {
            self.by_key.remove(&state.key);
        }
    }
}

fn open(group: GroupId, query: Query, have: Option<Seq>) -> GroupCommand {
    GroupCommand::Open {
        trace: trace::current(),
        group,
        query: Arc::new(query),
        have,
    }
}
