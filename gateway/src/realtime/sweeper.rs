//! One task that looks after all sockets and groups once a second: pings, dead and stalled peers, groups that
//! nobody listens to, groups that do not open, groups whose rules look at the time. No socket has a timer of its own.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alyx_core::{Error, ErrorKind};
use tokio::time::{MissedTickBehavior, interval};

use super::connection::{Connection, End};
use super::group::Group;
use super::hub::{Hub, Listed};
use super::wire::{CloseCode, PING};

/// Seconds between protocol pings.
const PING_EVERY: u32 = 30;
/// Seconds after which a peer that was not heard is dropped.
const SILENCE: u32 = 60;
/// Seconds without a byte going out, with bytes waiting, after which a peer is too slow.
const STALL: u32 = 10;
/// Seconds of never having everything sent after which a peer is too slow.
const LAG: u32 = 60;
/// Seconds that a peer has to answer a close.
const FAREWELL: u32 = 3;
/// Seconds that a group without subscribers is kept.
const COLD: u32 = 30;
/// Seconds that the node has to open a group.
const OPENING: u32 = 10;

/// Seconds over which the sockets of a drained gateway are closed, so that they do not all come to the others at once.
const LEAVE_OVER: usize = 10;
/// Sockets that are closed each second at least.
const LEAVE_AT_LEAST: usize = 20;

/// Seconds from a connection's start to its first ping.
pub(super) const FIRST_PING: u32 = PING_EVERY;

pub(super) async fn run(hub: Arc<Hub>) {
    let cancel = hub.tasks.cancelled();
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    seconds.tick().await;
    let mut stopping_for = 0;
    let mut leaving: Option<usize> = None;
    loop {
        tokio::select! {
            () = cancel.cancelled(), if stopping_for == 0 => stopping_for = 1,
            _ = seconds.tick() => {
                let now = hub.tick();
                sweep_connections(&hub, now);
                leaving = hub.is_leaving().then(|| leaving.unwrap_or_else(|| pace(&hub)));
                if let Some(pace) = leaving {
                    send_away(&hub, now, pace);
                }
                sweep_groups(&hub, now);
                stopping_for += u32::from(stopping_for > 0);
            }
        }
        // While sockets say goodbye, those that do not answer must still be dropped.
        let all_gone = hub.connections.lock().len() == 0;
        if stopping_for > 0 && (all_gone || stopping_for > FAREWELL + 2) {
            return;
        }
    }
}

fn sweep_connections(hub: &Hub, now: u32) {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = time.unwrap_or_default().as_secs();
    for listed in hub.connections.lock().iter_mut() {
        match verdict(&listed.connection, now).or_else(|| expired(listed, time)) {
            Some(end) => listed.connection.end(end, &hub.wakes),
            None => ping(listed, hub, now),
        }
    }
}

/// How many sockets to close each second.
fn pace(hub: &Hub) -> usize {
    let sockets = hub.connections.lock().len();
    sockets.div_ceil(LEAVE_OVER).max(LEAVE_AT_LEAST)
}

fn send_away(hub: &Hub, now: u32, most: usize) {
    let mut connections = hub.connections.lock();
    let open = connections
        .iter_mut()
        .filter(|listed| listed.connection.ending(now).is_none());
    for listed in open.take(most) {
        let end = End::Close(CloseCode::GOING_AWAY, "this gateway is drained");
        listed.connection.end(end, &hub.wakes);
    }
}

fn verdict(connection: &Connection, now: u32) -> Option<End> {
    if let Some(seconds) = connection.ending(now) {
        return (seconds >= FAREWELL).then_some(End::Drop);
    }
    if now.saturating_sub(connection.heard()) >= SILENCE {
        return Some(End::Drop);
    }
    let (stalled, behind) = connection.waited(now);
    (stalled >= STALL || behind >= LAG).then_some(End::Close(CloseCode::SLOW, "slow"))
}

/// A token's time is over.
fn expired(listed: &Listed, time: u64) -> Option<End> {
    let over = listed.identity.expires.is_some_and(|expires| expires <= time);
    over.then_some(End::Close(CloseCode::SIGNED_OUT, "the token has expired"))
}

fn ping(listed: &mut Listed, hub: &Hub, now: u32) {
    if now >= listed.next_ping {
        listed.next_ping = now + PING_EVERY;
        listed.connection.push(None, PING, &hub.wakes);
    }
}

fn sweep_groups(hub: &Arc<Hub>, now: u32) {
    let groups: Vec<Arc<Group>> = hub.index.lock().by_link.values().cloned().collect();
    for group in groups {
        let (due, rules_due) = {
            let state = group.lock();
            let late = state.opening_for(now).is_some_and(|seconds| seconds >= OPENING);
            let cold = state.cold.is_some_and(|since| now.saturating_sub(since) >= COLD);
            (late || cold, state.are_rules_due(now))
        };
        if due {
            settle(hub, &group, now);
        }
        if rules_due {
            hub.ask_rules_again(&group);
        }
    }
}

/// Does what is due, with the locks in their order.
fn settle(hub: &Hub, group: &Group, now: u32) {
    let mut index = hub.index.lock();
    let mut state = group.lock();
    if state.opening_for(now).is_some_and(|seconds| seconds >= OPENING) {
        let error = Error::new(
            ErrorKind::Unavailable,
            "REALTIME_UNAVAILABLE",
            "the live query could not be opened in time; try again",
        );
        group.fail_waiting(&mut state, &error, &hub.wakes);
    }
    let cold = state.cold.is_some_and(|since| now.saturating_sub(since) >= COLD);
    // A group that nobody has listened to since before it was opened has no window worth keeping.
    let useless = state.is_empty() && (cold || state.opening_for(now).is_some());
    if useless {
        hub.close(&mut index, &mut state);
    }
}
