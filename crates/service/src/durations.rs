//! How long things took, in counts of bounded size that can be added up over processes.
//!
//! Eight steps for each doubling, so that a quantile is at most 6.25 % off; from 16 µs to 19 hours, what lies outside
//! counts as the nearest step.

use std::time::{Duration, Instant};

/// Steps for each doubling.
const STEPS: usize = 8;
/// Bits of a step.
const STEP_BITS: u32 = 3;
/// Doublings from the shortest to the longest time.
const DOUBLINGS: usize = 32;
/// Shortest time that is told apart, in µs, as a power of two.
const SHORTEST_BITS: u32 = 4;
/// How long a count is recent: between one and two of these.
const RECENT: Duration = Duration::from_secs(300);

/// Counts of durations.
#[derive(Clone, PartialEq, Eq)]
pub struct Durations(Box<[u32; STEPS * DOUBLINGS]>);

impl Durations {
    /// Counts one.
    pub fn add(&mut self, took: Duration) {
        self.add_many(step_of(took), 1);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0.iter()) {
            *count = count.saturating_add(*more);
        }
    }

    /// The steps that count anything, with their counts.
    pub fn steps(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        (0..).zip(self.0.iter().copied()).filter(|(_, count)| *count > 0)
    }

    /// Adds `count` to a step; one that there is not counts as the last one.
    pub fn add_step(&mut self, step: u32, count: u32) {
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        self.add_many(step.min(self.0.len() - 1), count);
    }

    /// The time that `share` of all did not take longer than; `None` where there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.0.iter().copied().map(u64::from).sum();
        if total == 0 {
            return None;
        }
        let rank = ((total as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut sofar = 0;
        for (step, count) in self.steps() {
            sofar += u64::from(count);
            if sofar >= rank {
                return Some(middle_of(step as usize));
            }
        }
        None
    }

    fn add_many(&mut self, step: usize, count: u32) {
        if let Some(counted) = self.0.get_mut(step) {
            *counted = counted.saturating_add(count);
        }
    }
}

impl Default for Durations {
    fn default() -> Self {
        Self(Box::new([0; STEPS * DOUBLINGS]))
    }
}

impl std::fmt::Debug for Durations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.steps()).finish()
    }
}

/// The durations of the last five to ten minutes.
#[derive(Debug, Clone)]
pub struct RecentDurations {
    now: Durations,
    before: Durations,
    since: Instant,
}

impl RecentDurations {
    /// None yet.
    pub fn new(at: Instant) -> Self {
        Self {
            now: Durations::default(),
            before: Durations::default(),
            since: at,
        }
    }

    /// Counts one that ended at `at`.
    pub fn add(&mut self, took: Duration, at: Instant) {
        self.turn(at);
        self.now.add(took);
    }

    /// What is recent at `at`.
    pub fn at(&mut self, at: Instant) -> Durations {
        self.turn(at);
        let mut all = self.before.clone();
        all.merge(&self.now);
        all
    }

    fn turn(&mut self, at: Instant) {
        let passed = at.saturating_duration_since(self.since);
        if passed < RECENT {
            return;
        }
        let last = std::mem::take(&mut self.now);
        self.before = if passed < RECENT * 2 {
            last
        } else {
            Durations::default()
        };
        self.since = at;
    }
}

fn step_of(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros())
        .unwrap_or(u64::MAX)
        .max(1 << SHORTEST_BITS);
    let doubling = micros.ilog2();
    let within = (micros >> (doubling - STEP_BITS)) as usize & (STEPS - 1);
    let step = (doubling - SHORTEST_BITS) as usize * STEPS + within;
    step.min(STEPS * DOUBLINGS - 1)
}

fn middle_of(step: usize) -> Duration {
    let (doubling, within) = (step / STEPS, step % STEPS);
    let unit = 1_u64 << (doubling as u32 + SHORTEST_BITS - STEP_BITS);
    let from = unit * (STEPS + within) as u64;
    Duration::from_nanos(from * 1000 + unit * 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close() {
        let mut durations = Durations::default();
        assert_eq!(durations.quantile(0.5), None);
        for micros in 1..=10_000 {
            durations.add(Duration::from_micros(micros));
        }
        for (share, micros) in [(0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let told = durations.quantile(share).expect("some").as_secs_f64() * 1e6;
            assert!((told / micros - 1.0).abs() < 0.0626, "{share}: {told}");
        }
    }

    #[test]
    fn every_duration_has_a_step_that_it_lies_in() {
        for exponent in 0..40 {
            for micros in [1_u64 << exponent, (1 << exponent) + 1, (1 << exponent) * 3 / 2] {
                let step = step_of(Duration::from_micros(micros));
                let middle = middle_of(step).as_secs_f64() * 1e6;
                let near = micros.clamp(16, 1 << 35) as f64;
                assert!(
                    (middle / near - 1.0).abs() < 0.0626 || micros > 1 << 35,
                    "{micros}: {middle}"
                );
            }
        }
        assert_eq!(step_of(Duration::MAX), STEPS * DOUBLINGS - 1);
    }

    #[test]
    fn counts_can_be_told_step_by_step() {
        let mut one = Durations::default();
        one.add(Duration::from_millis(3));
        one.add(Duration::from_secs(3));
        one.add(Duration::from_secs(3));
        let mut other = Durations::default();
        for (step, count) in one.steps() {
            other.add_step(step, count);
        }
        assert_eq!(one, other);
        other.merge(&one);
        assert_eq!(other.steps().map(|(_, count)| count).sum::<u32>(), 6);
        other.add_step(u32::MAX, 1);
        assert!(other.quantile(1.0).expect("some") > Duration::from_secs(3600));
    }

    #[test]
    fn what_is_long_past_does_not_count() {
        let start = Instant::now();
        let mut recent = RecentDurations::new(start);
        recent.add(Duration::from_secs(1), start);
        let later = |seconds| start + Duration::from_secs(seconds);
        let count = |recent: &mut RecentDurations, at| recent.at(at).steps().count();
        assert_eq!(count(&mut recent, later(299)), 1);
        assert_eq!(count(&mut recent, later(301)), 1);
        recent.add(Duration::from_millis(1), later(400));
        assert_eq!(count(&mut recent, later(599)), 2);
        assert_eq!(count(&mut recent, later(602)), 1);
        assert_eq!(count(&mut recent, later(9_000)), 0);
    }
}
