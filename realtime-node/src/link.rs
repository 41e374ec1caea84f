//! Links to gateways. A link that is full never holds the others up: what it misses is remembered per group, and
//! once there is room each such group starts afresh with its whole window.

use std::sync::Arc;

use alyx_core::Error;
use alyx_service::realtime::{GroupCommand, GroupEvent, GroupId};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

use crate::engine::Message;
use crate::router::GroupIndex;

/// A link's name inside the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LinkId(pub(crate) u64);

/// The engine's half of a link.
#[derive(Debug)]
pub(crate) struct Link {
    events: mpsc::Sender<GroupEvent>,
    /// Tells the link's task that the link is full.
    full: Arc<Notify>,
    groups: FxHashMap<GroupId, GroupIndex>,
    owed: FxHashMap<GroupId, Owed>,
}

/// What a full link still has to be told about a group.
#[derive(Debug)]
pub(crate) enum Owed {
    /// Its window.
    Window,
    /// That it has ended.
    Failed(Arc<Error>),
}

impl Link {
    pub(crate) fn new(events: mpsc::Sender<GroupEvent>, full: Arc<Notify>) -> Self {
        Self {
            events,
            full,
            groups: FxHashMap::default(),
            owed: FxHashMap::default(),
        }
    }

    fn send(&mut self, event: GroupEvent) {
        let id = group_of(&event);
        if let Some(owed) = self.owed.get_mut(&id) {
            if let GroupEvent::Failed { error, .. } = event {
                *owed = Owed::Failed(error);
            }
            return;
        }
        // A closed link is taken down by its task.
        let Err(TrySendError::Full(event)) = self.events.try_send(event) else {
            return;
        };
        if self.owed.is_empty() {
            self.full.notify_one();
        }
        let owed = match event {
            GroupEvent::Failed { error, .. } => Owed::Failed(error),
            GroupEvent::Opened { .. } | GroupEvent::Changed { .. } => Owed::Window,
        };
        self.owed.insert(id, owed);
    }
}

fn group_of(event: &GroupEvent) -> GroupId {
    match event {
        GroupEvent::Opened { group, .. }
        | GroupEvent::Changed { group, .. }
        | GroupEvent::Failed { group, .. } => *group,
    }
}

/// All links.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: FxHashMap<LinkId, Link>,
    members: usize,
}

impl Links {
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// Groups joined, over all links.
    pub(crate) fn members(&self) -> usize {
        self.members
    }

    pub(crate) fn add(&mut self, id: LinkId, link: Link) {
        self.links.insert(id, link);
    }

    /// Takes a link down; the groups that it was a member of.
    pub(crate) fn remove(&mut self, id: LinkId) -> Vec<(GroupId, GroupIndex)> {
        let link = self.links.remove(&id);
        let groups: Vec<_> = link.into_iter().flat_map(|link| link.groups).collect();
        self.members -= groups.len();
        groups
    }

    /// Notes that a link follows a group; `false` where the link is gone.
    pub(crate) fn join(&mut self, link: LinkId, id: GroupId, group: GroupIndex) -> bool {
        let Some(link) = self.links.get_mut(&link) else {
            return false;
        };
        link.groups.insert(id, group);
        self.members += 1;
        true
    }

    /// The link no longer follows the group of that name; the group, if it did.
    pub(crate) fn leave(&mut self, link: LinkId, id: GroupId) -> Option<GroupIndex> {
        let link = self.links.get_mut(&link)?;
        link.owed.remove(&id);
        let group = link.groups.remove(&id)?;
        self.members -= 1;
        Some(group)
    }

    /// The group has failed: tells the link, which no longer follows it.
    pub(crate) fn fail(&mut self, link: LinkId, id: GroupId, error: Arc<Error>) {
        self.leave(link, id);
        self.send(link, GroupEvent::Failed { group: id, error });
    }

    /// Sends an event, or remembers that the group's window is owed. Never waits.
    pub(crate) fn send(&mut self, link: LinkId, event: GroupEvent) {
        if let Some(link) = self.links.get_mut(&link) {
            link.send(event);
        }
    }

    /// There is room on the link again: `window` makes the event that starts a group afresh, `None` where the
    /// group will do so by itself.
    pub(crate) fn pay(
        &mut self,
        id: LinkId,
        mut window: impl FnMut(GroupIndex, GroupId) -> Option<GroupEvent>,
    ) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        for (group, owed) in std::mem::take(&mut link.owed) {
            let event = match owed {
                Owed::Failed(error) => Some(GroupEvent::Failed { group, error }),
                Owed::Window => link.groups.get(&group).and_then(|&index| window(index, group)),
            };
            if let Some(event) = event {
                link.send(event);
            }
        }
    }
}

/// The ends of a link that its task holds.
#[derive(Debug)]
pub(crate) struct LinkEnds {
    pub(crate) id: LinkId,
    pub(crate) commands: mpsc::Receiver<GroupCommand>,
    pub(crate) events: mpsc::Sender<GroupEvent>,
    pub(crate) full: Arc<Notify>,
    pub(crate) engine: mpsc::Sender<Message>,
    pub(crate) cancelled: CancellationToken,
}

/// Passes a link's commands to the engine, tells it when a full link has room again, and when the link is gone.
pub(crate) async fn attend(mut ends: LinkEnds) {
    let half = (ends.events.max_capacity() / 2).max(1);
    let mut waits_for_room = false;
    let id = ends.id;
    loop {
        let message = tokio::select! {
            () = ends.cancelled.cancelled() => return,
            () = ends.events.closed() => break,
            command = ends.commands.recv() => match command {
                Some(command) => Message::Command { link: id, command },
                None => break,
            },
            () = ends.full.notified(), if !waits_for_room => {
                waits_for_room = true;
                continue;
            }
            room = ends.events.reserve_many(half), if waits_for_room => {
                if room.is_err() {
                    break;
                }
                waits_for_room = false;
                Message::Room { link: id }
            }
        };
        if ends.engine.send(message).await.is_err() {
            return;
        }
    }
    // An engine that has ended has no links to take down.
    let _ = ends.engine.send(Message::Gone { link: id }).await;
}
