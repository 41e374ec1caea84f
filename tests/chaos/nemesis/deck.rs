//! Which faults, and in which order, by a seed. They are dealt like cards: every kind comes once before any comes
//! again, so that a run of a few minutes has met all of them.

use std::time::Duration;

use alyx_tests::{Flow, Mischief, Random};

use super::Fault;
use crate::system::System;

/// Of a hundred faults that clients can be spared, those that go on until clients are served all the same.
const LASTING: usize = 25;
/// Of a hundred of those, the ones that go on for longer than leases and heartbeats do.
const LONG: usize = 30;
/// Of a hundred other faults, those that come with a second one.
const PAIRED: usize = 20;

/// A fault with its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blow {
    pub(crate) fault: Fault,
    /// How long it holds.
    pub(crate) hold: Duration,
    /// Whether it goes on until clients are served all the same, and then still for `hold`.
    pub(crate) lasting: bool,
    /// One that holds at the same time.
    pub(crate) second: Option<Fault>,
}

/// The faults that are still to come.
#[derive(Debug)]
pub(crate) struct Deck {
    random: Random,
    rest: Vec<Blow>,
}

impl Deck {
    pub(crate) fn new(random: Random) -> Self {
        Self {
            random,
            rest: Vec::new(),
        }
    }

    /// The next one for that system.
    pub(crate) fn deal(&mut self, system: &System) -> Blow {
        loop {
            if let Some(blow) = self.rest.pop() {
                return blow;
            }
            let faults = self.faults(system);
            let blows = faults.iter().map(|fault| self.blow(*fault, &faults, system));
            let mut blows: Vec<Blow> = blows.collect();
            shuffle(&mut blows, &mut self.random);
            self.rest = blows;
        }
    }

    /// Each kind once, with what is left to chance.
    fn faults(&mut self, system: &System) -> Vec<Fault> {
        let mut faults = Vec::new();
        let parts = system.parts();
        let is_cluster = parts.len() > 1;
        for &(part, number) in &parts {
            faults.extend([
                Fault::Kill(part, number),
                Fault::Freeze(part, number),
                Fault::Terminate(part, number),
            ]);
        }
        for way in system.ways() {
            let random = &mut self.random;
            let slow = [Flow::Delay(random.millis(5, 300)), Flow::Throttle(20_000)];
            let broken = [Flow::Cut, Flow::Freeze];
            let flows: Vec<Flow> = if is_cluster {
                vec![*random.pick(&broken), *random.pick(&slow)]
            } else {
                broken.into_iter().chain(slow).collect()
            };
            faults.extend(flows.into_iter().map(|flow| Fault::Link(way, flow)));
        }
        if is_cluster {
            faults.extend([Fault::RollingRestart, Fault::Usurp, Fault::Usurp]);
            faults.extend((0..4).map(|_| Fault::Mischief(self.mischief())));
        }
        faults
    }

    fn mischief(&mut self) -> Mischief {
        let mut percent = || u8::try_from(self.random.below(33)).expect("it is below a hundred");
        let (lost, doubled, late) = (percent(), percent(), percent());
        Mischief {
            seed: self.random.number(),
            lost,
            doubled,
            late,
        }
    }

    fn blow(&mut self, fault: Fault, all: &[Fault], system: &System) -> Blow {
        let random = &mut self.random;
        let can_last = fault.stops_writes() || !fault.spared(system).is_empty();
        let lasting = can_last && random.below(100) < LASTING;
        let hold = if lasting && random.below(100) < LONG {
            random.millis(4_000, 7_000)
        } else {
            random.millis(100, 2_000)
        };
        let second = *random.pick(all);
        let paired = !lasting && random.below(100) < PAIRED && fault.goes_with(second);
        Blow {
            fault,
            hold,
            lasting,
            second: paired.then_some(second),
        }
    }
}

/// Fisher and Yates.
fn shuffle<T>(cards: &mut [T], random: &mut Random) {
    for last in (1..cards.len()).rev() {
        cards.swap(last, random.below(last + 1));
    }
}
