//! The engine: one task that owns all groups, follows the log, and never waits for anybody.
//!
//! Everything slow happens in other tasks, which answer into the engine's inbox: reads of the database and of the
//! log, and waiting for a full link. Commits are applied one by one; what is due after a run of them is let out as
//! one transition per group.

mod changes;
mod opening;
mod reads;
mod rereads;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_bus::{Delivery, Follower};
use alyx_core::{Result, Seq};
use alyx_schema::Schema;
use alyx_service::realtime::{GroupCommand, GroupEvent};
use alyx_service::state::StateWatch;
use alyx_service::tasks::Tasks;
use alyx_store::{LogBatch, Store};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;

use crate::group::{Answer, Groups};
use crate::link::{Link, LinkId, Links};
use crate::node::{Limits, Stats};
use crate::router::{GroupIndex, Router};
use crate::tail::{Progress, Tail};
use reads::Wanted;

/// How often a node that hears nothing looks at the log.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Messages and commits taken in one turn before others get theirs.
const TURN: usize = 256;

/// Commits applied before their transitions are let out.
const COMMITS_PER_FLUSH: usize = 256;

/// What other tasks tell the engine.
#[derive(Debug)]
pub(crate) enum Message {
    /// A gateway has joined.
    Join {
        link: LinkId,
        events: mpsc::Sender<GroupEvent>,
        full: Arc<Notify>,
    },
    /// A gateway asks for something.
    Command { link: LinkId, command: GroupCommand },
    /// A link that was full has room.
    Room { link: LinkId },
    /// A link is closed.
    Gone { link: LinkId },
    /// A read for a group has ended.
    Answered {
        group: GroupIndex,
        ticket: u64,
        /// Whether it was to read a window again.
        again: bool,
        answer: Result<Answer>,
    },
    /// A read of the log has ended.
    Log(Result<LogBatch>),
}

/// What an engine works with.
#[derive(Debug)]
pub(crate) struct EngineParts {
    pub(crate) store: Store,
    pub(crate) follower: Follower,
    pub(crate) state: StateWatch,
    pub(crate) tasks: Tasks,
    pub(crate) limits: Limits,
    pub(crate) inbox: mpsc::Receiver<Message>,
    /// Handed to tasks that answer.
    pub(crate) answers: mpsc::Sender<Message>,
    pub(crate) stats: Arc<Mutex<Stats>>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Engine {
    store: Store,
    follower: Follower,
    state: StateWatch,
    tasks: Tasks,
    limits: Limits,
    inbox: mpsc::Receiver<Message>,
    answers: mpsc::Sender<Message>,
    shared_stats: Arc<Mutex<Stats>>,

    schema: Arc<Schema>,
    tail: Tail,
    groups: Groups,
    by_key: FxHashMap<Vec<u8>, GroupIndex>,
    router: Router,
    links: Links,
    /// Groups that may have something to let out.
    dirty: Vec<GroupIndex>,
    /// Groups that may have something to let out once that position is applied.
    gated: BTreeMap<Seq, Vec<GroupIndex>>,
    /// Reads that wait for their turn, and how many are under way.
    wanted: VecDeque<Wanted>,
    reads_under_way: usize,
    /// The same for windows that are read again, which come after all others.
    wanted_again: VecDeque<Wanted>,
    rereads_under_way: usize,
    /// Groups whose window is to be read again at that time.
    planned: BTreeMap<Instant, Vec<GroupIndex>>,
    last_ticket: u64,
    /// Whether the bus said anything since the last look at the log.
    heard: bool,
    /// A read of the log failed; the next one waits for the clock.
    log_failed: bool,
    behind_since: Option<Instant>,
    refills: u64,
    rereads: u64,
    snapshots: u64,
    transitions: u64,
}

impl Engine {
    /// Starts from the log's present end; the follower must be older than that. Ends when the role stops.
    pub(crate) async fn run(parts: EngineParts) {
        let cancelled = parts.tasks.cancelled();
        let position = tokio::select! {
            () = cancelled.cancelled() => return,
            position = first_position(&parts.store) => position,
        };
        let mut engine = Self::new(parts, position);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut bus_open, mut state_open) = (true, true);
        loop {
            let planned = engine.planned.keys().next().copied();
            let planned_time = tokio::time::Instant::from_std(planned.unwrap_or_else(Instant::now));
            tokio::select! {
                () = cancelled.cancelled() => return,
                Some(message) = engine.inbox.recv() => engine.take(message),
                delivery = engine.follower.next(), if bus_open => match delivery {
                    Some(delivery) => engine.deliver(delivery),
                    None => bus_open = false,
                },
                changed = engine.state.changed(), if state_open => {
                    state_open = changed.is_ok();
                    engine.follow_schema();
                }
                _ = looks.tick() => engine.look(),
                () = tokio::time::sleep_until(planned_time), if planned.is_some() => {}
            }
            engine.turn();
        }
    }

    fn new(mut parts: EngineParts, position: Seq) -> Self {
        let schema = parts.state.borrow_and_update().schema.clone();
        Self {
            store: parts.store,
            follower: parts.follower,
            state: parts.state,
            tasks: parts.tasks,
            limits: parts.limits,
            inbox: parts.inbox,
            answers: parts.answers,
            shared_stats: parts.stats,
            schema,
            tail: Tail::new(position),
            groups: Groups::default(),
            by_key: FxHashMap::default(),
            router: Router::default(),
            links: Links::default(),
            dirty: Vec::new(),
            gated: BTreeMap::new(),
            wanted: VecDeque::new(),
            reads_under_way: 0,
            wanted_again: VecDeque::new(),
            rereads_under_way: 0,
            planned: BTreeMap::new(),
            last_ticket: 0,
            heard: false,
            log_failed: false,
            behind_since: None,
            refills: 0,
            rereads: 0,
            snapshots: 0,
            transitions: 0,
        }
    }

    /// Takes what else is waiting, then brings everything up to date.
    fn turn(&mut self) {
        for _ in 0..TURN {
            let Some(delivery) = self.follower.try_next() else {
                break;
            };
            self.deliver(delivery);
        }
        for _ in 0..TURN {
            let Ok(message) = self.inbox.try_recv() else {
                break;
            };
            self.take(message);
        }
        self.catch_up();
        self.ask_planned(Instant::now());
        self.read_log_where_needed(false);
        self.start_reads();
        self.publish_stats();
    }

    /// Applies every commit that is ready.
    fn catch_up(&mut self) {
        loop {
            let mut more = false;
            for _ in 0..COMMITS_PER_FLUSH {
                let Some(commit) = self.tail.next() else {
                    break;
                };
                self.apply(&commit);
                more = true;
            }
            self.flush();
            if !more {
                return;
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        self.heard = true;
        match delivery {
            Delivery::Commit(commit) => self.tail.hear(commit),
            Delivery::Lost => self.tail.lose(),
        }
    }

    /// Once a second: a bus that is silent may have lost what it should have said.
    fn look(&mut self) {
        self.log_failed = false;
        let heard = std::mem::take(&mut self.heard);
        self.read_log_where_needed(!heard);
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Join { link, events, full } => self.links.add(link, Link::new(events, full)),
            Message::Command { link, command } => match command {
                GroupCommand::Open {
                    group, query, have, ..
                } => self.open(link, group, query, have),
                GroupCommand::Close { group } => {
                    if let Some(index) = self.links.leave(link, group) {
                        self.forget_member(index, link, group);
                    }
                }
            },
            Message::Room { link } => {
                let (groups, applied) = (&mut self.groups, self.tail.applied());
                self.links.pay(link, |index, id| {
                    let group = groups.get_mut(index)?;
                    group.tell_again(link, id, applied)
                });
            }
            Message::Gone { link } => {
                for (id, index) in self.links.remove(link) {
                    self.forget_member(index, link, id);
                }
            }
            Message::Answered {
                group,
                ticket,
                again,
                answer,
            } => {
                let under_way = if again {
                    &mut self.rereads_under_way
                } else {
                    &mut self.reads_under_way
                };
                *under_way = under_way.saturating_sub(1);
                self.answered(group, ticket, answer);
            }
            Message::Log(Ok(batch)) => {
                if let Progress::PlaceLost(position) = self.tail.read(batch) {
                    tracing::warn!(%position, "the change log is cut off behind the node; every live query starts afresh");
                    self.start_afresh();
                }
            }
            Message::Log(Err(error)) => {
                tracing::warn!(%error, "the change log cannot be read; trying again in a second");
                self.tail.read_failed();
                self.log_failed = true;
            }
        }
    }

    fn publish_stats(&mut self) {
        if self.tail.is_caught_up() && !self.log_failed {
            self.behind_since = None;
        } else {
            self.behind_since.get_or_insert_with(Instant::now);
        }
        *self.shared_stats.lock() = Stats {
            applied: self.tail.applied(),
            lag: self.tail.lag(),
            behind_since: self.behind_since,
            links: self.links.len(),
            groups: self.groups.len(),
            subscriptions: self.links.members(),
            residual_groups: self.router.residual_groups(),
            snapshots: self.snapshots,
            refills: self.refills,
            rereads: self.rereads,
            transitions: self.transitions,
        };
    }
}

/// The log's position, however long it takes to learn it.
async fn first_position(store: &Store) -> Seq {
    loop {
        match store.position().await {
            Ok(position) => return position,
            Err(error) => {
                tracing::warn!(%error, "the change log's position cannot be read; trying again in a second");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}
