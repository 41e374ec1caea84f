//! What is done to the system, by a seed.

use std::time::Duration;

use alyx_tests::{Flow, Mischief, Part, Random, eventually};
use serde_json::{Value, json};

use crate::system::{Lease, System, Way};

/// One fault. It holds for a while and is then undone.
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

impl Fault {
    /// The next fault for that system.
    pub(crate) fn choose(system: &System, random: &mut Random) -> Self {
        let (part, number) = *random.pick(&system.parts());
        let has_cluster = system.parts().len() > 1;
        match random.below(40) {
            0 if has_cluster => Self::RollingRestart,
            1..=2 if has_cluster => Self::Usurp,
            3..=7 if has_cluster => Self::Mischief(Mischief {
                seed: random.number(),
                lost: percent(random),
                doubled: percent(random),
                late: percent(random),
            }),
            0..=12 => Self::Kill(part, number),
            13..=16 => Self::Terminate(part, number),
            17..=22 => Self::Freeze(part, number),
            _ => {
                let way = *random.pick(&system.ways());
                let flow = match random.below(5) {
                    0 | 1 => Flow::Cut,
                    2 => Flow::Freeze,
                    3 => Flow::Delay(random.millis(5, 300)),
                    _ => Flow::Throttle(20_000),
                };
                Self::Link(way, flow)
            }
        }
    }

    /// Does it, holds it, undoes it; what is worth telling of it.
    pub(crate) async fn strike(self, system: &mut System, hold: Duration) -> Value {
        match self {
            Self::Kill(part, number) => {
                system.kill(part, number).await;
                tokio::time::sleep(hold).await;
                system.restart(part, number).await;
            }
            Self::Terminate(part, number) => {
                system.terminate(part, number).await;
                system.restart(part, number).await;
            }
            Self::RollingRestart => {
                for (part, number) in system.roles() {
                    system.terminate(part, number).await;
                    system.restart(part, number).await;
                }
            }
            Self::Freeze(part, number) => {
                system.pause(part, number);
                tokio::time::sleep(hold).await;
                system.resume(part, number);
            }
            Self::Usurp => return usurp(system, hold).await,
            Self::Link(way, flow) => {
                system.set(way, flow);
                tokio::time::sleep(hold).await;
                system.set(way, Flow::Pass);
            }
            Self::Mischief(mischief) => {
                let before = system.disturbed();
                let ways = system.ways().into_iter().filter(|(_, _, way)| *way == Way::Nats);
                let ways: Vec<_> = ways.collect();
                for (number, way) in (0..).zip(&ways) {
                    let seed = mischief.seed.wrapping_add(number);
                    system.set(*way, Flow::Mischief(Mischief { seed, ..mischief }));
                }
                tokio::time::sleep(hold).await;
                ways.into_iter().for_each(|way| system.set(way, Flow::Pass));
                return json!({"disturbed": system.disturbed() - before});
            }
        }
        Value::Null
    }
}

fn percent(random: &mut Random) -> u8 {
    u8::try_from(random.below(33)).expect("it is below a hundred")
}

/// The epochs that were seen.
async fn usurp(system: &System, hold: Duration) -> Value {
    let first = eventually("somebody may write", || async { system.lease().await.ok_or(()) }).await;
    system.pause(Part::Gateway, first.gateway);
    let second = successor(system, first).await;
    system.pause(Part::Gateway, second.gateway);
    system.resume(Part::Gateway, first.gateway);
    let third = successor(system, second).await;
    tokio::time::sleep(hold).await;
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
