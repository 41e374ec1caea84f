//! What is done to the system, by a seed.

use std::time::Duration;

use alyx_tests::{Flow, Part};

use crate::random::Random;
use crate::system::{System, Way};

/// One fault. It holds for a while and is then undone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// `kill -9` (NATS loses its data too); undone by starting it again.
    Kill(Part, usize),
    /// `SIGTERM`, as in a rolling restart.
    Terminate(Part, usize),
    /// `SIGSTOP`; undone by `SIGCONT`.
    Freeze(Part, usize),
    /// Another flow on one way.
    Link((Part, usize, Way), Flow),
}

impl Fault {
    /// The next fault for that system.
    pub(crate) fn choose(system: &System, random: &mut Random) -> Self {
        let (part, number) = *random.pick(&system.parts());
        match random.below(8) {
            0 | 1 => Self::Kill(part, number),
            2 if !matches!(part, Part::Nats | Part::Database) => Self::Terminate(part, number),
            2 | 3 => Self::Freeze(part, number),
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

    /// Does it, holds it, undoes it.
    pub(crate) async fn strike(self, system: &mut System, hold: Duration) {
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
            Self::Freeze(part, number) => {
                system.pause(part, number);
                tokio::time::sleep(hold).await;
                system.resume(part, number);
            }
            Self::Link(way, flow) => {
                system.set(way, flow);
                tokio::time::sleep(hold).await;
                system.set(way, Flow::Pass);
            }
        }
    }
}
