//! The hub's end of its link to the realtime node: sends commands, takes events in runs, joins again when the
//! node is gone.
//!
//! **Invariant:** neither direction waits for the other: events are taken in while commands are held back, so two
//! full channels cannot lock each other up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alyx_core::{Error, ErrorKind};
use alyx_service::realtime::{GroupCommand, GroupEvent, GroupId, RealtimeLink, RealtimeService};
use alyx_service::state::StateWatch;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::group::{Aftermath, Group};
use super::hub::Hub;

/// Most events taken in at a time. What belongs to one group becomes one frame.
const RUN: usize = 512;
/// Shortest and longest wait before the node is asked again.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

enum Parted {
    /// The gateway stops.
    Stopping,
    /// The node is gone.
    Lost,
}

/// Serves the link until the tasks are cancelled, then closes all sockets.
pub(super) async fn run(hub: Arc<Hub>, service: Arc<dyn RealtimeService>, mut state: StateWatch) {
    let cancel = hub.tasks.cancelled();
    let mut wait = RETRY[0];
    loop {
        let link = tokio::select! {
            () = cancel.cancelled() => break,
            link = service.connect() => link,
        };
        match link {
            Ok(link) => {
                wait = RETRY[0];
                hub.joined.store(true, Ordering::Relaxed);
                let parted = serve(&hub, link, &mut state, &cancel).await;
                hub.joined.store(false, Ordering::Relaxed);
                match parted {
                    Parted::Stopping => break,
                    Parted::Lost => tracing::warn!("the realtime node is gone; joining again"),
                }
                // Everything is opened afresh; commands for the old link mean nothing any more.
                reopen_all(&hub, true);
            }
            Err(error) => tracing::warn!(code = error.code(), %error, "cannot join the realtime node yet"),
        }
        tokio::select! {
            () = cancel.cancelled() => break,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY[1]),
        }
    }
    hub.close_all();
}

async fn serve(
    hub: &Arc<Hub>,
    mut link: RealtimeLink,
    state: &mut StateWatch,
    cancel: &CancellationToken,
) -> Parted {
    let mut events = Vec::new();
    let mut schema_known = true;
    loop {
        let waiting = send_commands(hub, &link.commands);
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Parted::Stopping,
            count = link.events.recv_many(&mut events, RUN) => {
                if count == 0 {
                    return Parted::Lost;
                }
                take_in(hub, &mut events);
                hub.wakes.calm().await;
            }
            room = link.commands.reserve(), if waiting => match room {
                Ok(room) => {
                    if let Some(command) = next_command(hub) {
                        room.send(command);
                    }
                }
                Err(_) => return Parted::Lost,
            },
            () = hub.commands_added.notified(), if !waiting => {}
            changed = state.changed(), if schema_known => match changed {
                Ok(()) => follow_schema(hub, state),
                // The last state stays in force.
                Err(_) => schema_known = false,
            },
        }
    }
}

fn next_command(hub: &Hub) -> Option<GroupCommand> {
    hub.index.lock().commands.pop_front()
}

/// Sends what fits; true where something still waits.
fn send_commands(hub: &Hub, commands: &mpsc::Sender<GroupCommand>) -> bool {
    loop {
        let Ok(room) = commands.try_reserve() else {
            return !hub.index.lock().commands.is_empty();
        };
        match next_command(hub) {
            Some(command) => room.send(command),
            None => return false,
        }
    }
}

/// Sorts a run of events by group, each in its order, and hands them over.
fn take_in(hub: &Arc<Hub>, events: &mut Vec<GroupEvent>) {
    let mut order: Vec<(GroupId, Vec<GroupEvent>)> = Vec::new();
    let mut places: FxHashMap<GroupId, usize> = FxHashMap::default();
    for event in events.drain(..) {
        let group = group_of(&event);
        let place = *places.entry(group).or_insert_with(|| {
            order.push((group, Vec::new()));
            order.len() - 1
        });
        order[place].1.push(event);
    }
    let groups: Vec<Option<Arc<Group>>> = {
        let index = hub.index.lock();
        let known = |(id, _): &(GroupId, Vec<GroupEvent>)| index.by_link.get(id).cloned();
        order.iter().map(known).collect()
    };
    for ((id, events), group) in order.into_iter().zip(groups) {
        // Events of a group that was closed meanwhile go nowhere.
        let Some(group) = group else { continue };
        match group.apply(id, events, &hub.means()) {
            Aftermath::Fine => {}
            Aftermath::Failed(error) => {
                log_failure(&group, &error);
                hub.fail(&group, &error);
            }
            Aftermath::Lost(gap) => {
                tracing::error!(
                    subscription_id = %group.public,
                    expected = gap.expected.0,
                    found = gap.found.0,
                    "a live query lost its place; opening it afresh"
                );
                hub.reopen(&mut hub.index.lock(), &group, false);
            }
        }
    }
}

fn group_of(event: &GroupEvent) -> GroupId {
    match event {
        GroupEvent::Opened { group, .. }
        | GroupEvent::Changed { group, .. }
        | GroupEvent::Failed { group, .. } => *group,
    }
}

fn log_failure(group: &Group, error: &Error) {
    if error.kind() == ErrorKind::Internal {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::error!(subscription_id = %group.public, code = error.code(), cause, "a live query failed");
    }
}

fn follow_schema(hub: &Arc<Hub>, state: &mut StateWatch) {
    let schema = state.borrow_and_update().schema_revision;
    let changed = std::mem::replace(&mut hub.index.lock().schema, schema) != schema;
    if changed {
        reopen_all(hub, false);
    }
}

/// Opens all groups again, each on its own so that nobody waits long for the index.
fn reopen_all(hub: &Arc<Hub>, forgotten: bool) {
    let groups: Vec<Arc<Group>> = {
        let mut index = hub.index.lock();
        if forgotten {
            index.commands.clear();
        }
        index.by_link.values().cloned().collect()
    };
    for group in groups {
        hub.reopen(&mut hub.index.lock(), &group, forgotten);
    }
}
