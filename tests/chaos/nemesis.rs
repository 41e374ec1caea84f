//! What is done to the system.

mod deck;

use std::time::Duration;

use alyx_tests::{Flow, Mischief, Part, eventually};
use serde_json::{Value, json};

pub(crate) use self::deck::{Blow, Deck};
use crate::strain::{Mark, Strain};
use crate::system::{Lease, System, Way};

/// One fault. It begins, holds for a while and is then undone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// `kill -9` (NATS loses its data too); undone by starting it again.
    Kill(Part, usize),
    /// `SIGTERM`, as in a rolling restart.
    Terminate(Part, usize),
    /// `SIGTERM` to every role, one after the other, each back before the next.
    RollingRestart,
    /// `SIGSTOP`; undone by `SIGCONT`.
    Freeze(Part, usize),
    /// The writer is frozen until another one has taken its lease, and thawed; then that one in its turn. Both have
    /// clients whose writes wait for them.
    Usurp,
    /// Another flow on one way.
    Link((Part, usize, Way), Flow),
    /// NATS messages to everybody are lost, doubled and late.
    Mischief(Mischief),
}

/// What remains to be said of a fault that is undone.
#[derive(Debug)]
pub(crate) struct Undone {
    /// From when on clients may expect to be served again: a role that is only just starting has that time for it.
    pub(crate) at: Mark,
    pub(crate) told: Value,
}

impl Fault {
    /// Does it; what is worth telling of it.
    pub(crate) async fn begin(self, system: &mut System) -> Value {
        match self {
            Self::Kill(part, number) => system.kill(part, number).await,
            Self::Terminate(part, number) => system.terminate(part, number).await,
            Self::RollingRestart => {
                for (part, number) in system.roles() {
                    system.terminate(part, number).await;
                    system.restart(part, number).await;
                    system.healthy().await;
                }
            }
            Self::Freeze(part, number) => system.pause(part, number),
            Self::Usurp => return usurp(system).await,
            Self::Link(way, flow) => system.set(way, flow),
            Self::Mischief(mischief) => {
                for (number, way) in (0..).zip(nats_ways(system)) {
                    let seed = mischief.seed.wrapping_add(number);
                    system.set(way, Flow::Mischief(Mischief { seed, ..mischief }));
                }
            }
        }
        Value::Null
    }

    /// Undoes it.
    pub(crate) async fn end(self, system: &mut System, strain: &Strain) -> Undone {
        let at = strain.mark();
        match self {
            Self::Kill(part, number) | Self::Terminate(part, number) => {
                system.restart(part, number).await;
                if matches!(part, Part::Nats | Part::Database) {
                    // How fast an engine starts is not ours to answer for.
                    let at = strain.mark();
                    return Undone {
                        at,
                        told: Value::Null,
                    };
                }
            }
            Self::RollingRestart | Self::Usurp => {}
            Self::Freeze(part, number) => system.resume(part, number),
            Self::Link(way, _) => system.set(way, Flow::Pass),
            Self::Mischief(_) => {
                for way in nats_ways(system) {
                    system.set(way, Flow::Pass);
                }
                let told = json!({"disturbed": system.disturbed()});
                return Undone { at, told };
            }
        }
        Undone {
            at,
            told: Value::Null,
        }
    }

    /// Undoes both, first what the other one may need to start.
    pub(crate) async fn end_with(self, other: Self, system: &mut System, strain: &Strain) -> Undone {
        let rank = |fault: Self| match fault.place() {
            Some((Part::Database, _)) => 0,
            Some((Part::Nats, _)) => 1,
            Some((Part::ControlPlane, _)) => 2,
            _ => 3,
        };
        let (first, last) = if rank(other) < rank(self) {
            (other, self)
        } else {
            (self, other)
        };
        first.end(system, strain).await;
        last.end(system, strain).await
    }

    /// The entrances at which clients must be served again before long although the fault goes on.
    pub(crate) fn spared(self, system: &System) -> Vec<usize> {
        let all: Vec<usize> = (0..system.entrances().len()).collect();
        let others = |gateway: usize| all.iter().copied().filter(|n| *n != gateway).collect();
        match self {
            Self::Kill(part, number) | Self::Terminate(part, number) | Self::Freeze(part, number) => {
                match part {
                    Part::Gateway => others(number),
                    Part::Database => Vec::new(),
                    Part::ControlPlane | Part::RealtimeNode | Part::FunctionWorker | Part::Nats => all,
                }
            }
            // Slowness goes through to whoever needs that way.
            Self::Link(_, Flow::Delay(_) | Flow::Throttle(_)) => Vec::new(),
            Self::Link((Part::Gateway, number, Way::Public | Way::Database), _) => others(number),
            Self::Link(..) | Self::Mischief(_) => all,
            Self::RollingRestart | Self::Usurp => Vec::new(),
        }
    }

    /// Whether both can be there at once, and be undone one after the other.
    pub(crate) fn goes_with(self, other: Self) -> bool {
        match (self.place(), other.place()) {
            (Some(one), Some(other)) => one != other,
            _ => false,
        }
    }

    /// The process that it is about; nothing where there are several.
    fn place(self) -> Option<(Part, usize)> {
        match self {
            Self::Kill(part, number) | Self::Terminate(part, number) | Self::Freeze(part, number) => {
                Some((part, number))
            }
            Self::Link((part, number, _), _) => Some((part, number)),
            Self::RollingRestart | Self::Usurp | Self::Mischief(_) => None,
        }
    }

    /// Whether nothing can be written as long as it holds.
    pub(crate) fn stops_writes(self) -> bool {
        matches!(
            self,
            Self::Kill(Part::Database, _) | Self::Terminate(Part::Database, _)
        )
    }
}

fn nats_ways(system: &System) -> Vec<(Part, usize, Way)> {
    let mut ways = system.ways();
    ways.retain(|(_, _, way)| *way == Way::Nats);
    ways
}

/// The epochs that were seen.
async fn usurp(system: &System) -> Value {
    /// The last writer has the lease for a while before the one before it is thawed.
    const HOLD: Duration = Duration::from_millis(500);
    let first = eventually("somebody may write", || async { system.lease().await.ok_or(()) }).await;
    system.pause(Part::Gateway, first.gateway);
    let second = successor(system, first).await;
    system.pause(Part::Gateway, second.gateway);
    system.resume(Part::Gateway, first.gateway);
    let third = successor(system, second).await;
    tokio::time::sleep(HOLD).await;
    system.resume(Part::Gateway, second.gateway);
    json!([first.epoch, second.epoch, third.epoch])
}

/// Waits until another gateway than the frozen one has the lease.
async fn successor(system: &System, frozen: Lease) -> Lease {
    let what = format!("the lease of gateway {} is taken", frozen.gateway);
    eventually(&what, || async {
        match system.lease().await {
            Some(lease) if lease.epoch > frozen.epoch && lease.gateway != frozen.gateway => Ok(lease),
            other => Err(other),
        }
    })
    .await
}
