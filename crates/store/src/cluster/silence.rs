//! Holders of the lease that this node cannot reach, although they renew it: the way between the two is cut, or the
//! address that the holder advertises is wrong. Clients of this node must not wait for that to end, and the database
//! that both reach keeps the former holder from writing, so this node takes the lease over.
//!
//! Where neither reaches the other, both would take it from each other all the time. So a node takes over seldom, and
//! one that nobody can reach costs the others a moment now and then.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// For how long a holder must not have answered.
const PATIENCE: Duration = Duration::from_secs(1);
/// Least time between two times that this node takes over.
const REST: Duration = Duration::from_secs(10);

/// What came of the tries to reach the holder.
#[derive(Debug, Default)]
pub(super) struct Silence {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The epoch of the holder that does not answer, and when the first try began that it did not answer.
    silent: Option<(i64, Instant)>,
    took_over: Option<Instant>,
}

impl Silence {
    /// The holder answered, whatever it said.
    pub(super) fn ended(&self) {
        self.state.lock().silent = None;
    }

    /// A try that began then did not reach the holder of that epoch.
    pub(super) fn goes_on(&self, epoch: i64, began: Instant) {
        let mut state = self.state.lock();
        match state.silent {
            Some((known, since)) if known == epoch && since <= began => {}
            _ => state.silent = Some((epoch, began)),
        }
    }

    /// Whether the lease is to be taken from the holder of that epoch.
    pub(super) fn is_too_long(&self, epoch: i64, now: Instant) -> bool {
        let state = self.state.lock();
        let is_silent = state
            .silent
            .is_some_and(|(known, since)| known == epoch && now.saturating_duration_since(since) >= PATIENCE);
        let has_rested = state
            .took_over
            .is_none_or(|then| now.saturating_duration_since(then) >= REST);
        is_silent && has_rested
    }

    /// This node has taken the lease from a holder that had it still.
    pub(super) fn took_over(&self, now: Instant) {
        *self.state.lock() = State {
            silent: None,
            took_over: Some(now),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_replaced_that_never_answers_for_a_while_and_not_too_often() {
        let silence = Silence::default();
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert!(!silence.is_too_long(1, at(5_000)), "nobody asked it");
        silence.goes_on(1, at(0));
        silence.goes_on(1, at(900));
        assert!(!silence.is_too_long(1, at(999)));
        assert!(silence.is_too_long(1, at(1_000)));
        assert!(!silence.is_too_long(2, at(1_000)), "another one has it by now");
        silence.ended();
        assert!(!silence.is_too_long(1, at(2_000)), "it answered");
        silence.goes_on(2, at(2_000));
        assert!(silence.is_too_long(2, at(3_000)));
        silence.took_over(at(3_000));
        silence.goes_on(4, at(4_000));
        assert!(!silence.is_too_long(4, at(12_999)), "it took over a moment ago");
        assert!(silence.is_too_long(4, at(13_000)));
    }
}
