//! What became of the calls of each function: counts since the worker started, and how long the recent ones took.
//!
//! Bounded by the functions that are served: those that are not any more are forgotten.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind};
use alyx_service::durations::RecentDurations;
use alyx_service::function::FunctionStats;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// The figures of all functions.
#[derive(Debug, Default)]
pub(crate) struct Figures(Mutex<FxHashMap<String, Kept>>);

#[derive(Debug)]
struct Kept {
    invocations: u64,
    cold_starts: u64,
    timeouts: u64,
    crashes: u64,
    durations: RecentDurations,
}

impl Figures {
    /// Counts a call that took `took`, waiting included; `cold` says whether its function had no process. One that was
    /// not taken is none.
    pub(crate) fn note(&self, function: &str, took: Duration, cold: bool, outcome: Result<(), &Error>) {
        let (timed_out, crashed) = match outcome.map_err(Error::kind) {
            Ok(()) => (false, false),
            Err(ErrorKind::DeadlineExceeded) => (true, false),
            Err(ErrorKind::BadGateway) => (false, true),
            Err(_) => return,
        };
        let now = Instant::now();
        let mut all = self.0.lock();
        if !all.contains_key(function) {
            all.insert(function.to_owned(), Kept::new(now));
        }
        let Some(kept) = all.get_mut(function) else {
            return;
        };
        kept.invocations += 1;
        kept.cold_starts += u64::from(cold);
        kept.timeouts += u64::from(timed_out);
        kept.crashes += u64::from(crashed);
        kept.durations.add(took, now);
    }

    /// The figures as they are now, of those functions alone that `is_served`; the others are forgotten.
    pub(crate) fn told(&self, is_served: impl Fn(&str) -> bool) -> BTreeMap<String, FunctionStats> {
        let now = Instant::now();
        let mut all = self.0.lock();
        all.retain(|function, _| is_served(function));
        all.iter_mut()
            .map(|(function, kept)| (function.clone(), kept.told(now)))
            .collect()
    }
}

impl Kept {
    fn new(now: Instant) -> Self {
        Self {
            invocations: 0,
            cold_starts: 0,
            timeouts: 0,
            crashes: 0,
            durations: RecentDurations::new(now),
        }
    }

    fn told(&mut self, now: Instant) -> FunctionStats {
        FunctionStats {
            invocations: self.invocations,
            cold_starts: self.cold_starts,
            timeouts: self.timeouts,
            crashes: self.crashes,
            durations: self.durations.at(now),
            ..FunctionStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_are_gone_are_forgotten() {
        let figures = Figures::default();
        let took = Duration::from_millis(1);
        let error = |kind| Error::new(kind, "X", "x");
        figures.note("a", took, true, Ok(()));
        figures.note("a", took, false, Err(&error(ErrorKind::DeadlineExceeded)));
        figures.note("a", took, false, Err(&error(ErrorKind::TooManyRequests)));
        figures.note("b", took, false, Err(&error(ErrorKind::BadGateway)));
        let told = figures.told(|_| true);
        let a = &told["a"];
        assert_eq!(
            (a.invocations, a.cold_starts, a.timeouts, a.crashes),
            (2, 1, 1, 0)
        );
        assert_eq!(told["b"].crashes, 1);
        let told = figures.told(|name| name == "b");
        assert_eq!(told.len(), 1);
        assert!(!figures.told(|_| true).contains_key("a"));
    }
}
