//! How long to wait before the next try.

use std::time::Duration;

/// Waits that double from try to try, up to a most, each shortened at random by up to a half, so that many who lost
/// the same peer do not come back at the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// From `first` up to `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            next: first,
        }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.most);
        wait.mul_f64(0.5 + 0.5 * random_fraction())
    }

    /// It worked: the next failure waits as the first one did.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

impl Default for Backoff {
    /// From 100 ms to 2 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(2))
    }
}

/// Between 0 and 1. A fresh hasher's keys are random enough to spread waits.
fn random_fraction() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(0_u8);
    f64::from((random >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_most_and_start_over_after_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(300));
        let mut check = |most: u64| {
            let wait = backoff.next_wait();
            assert!(wait <= ms(most) && wait >= ms(most / 2), "{wait:?} of {most} ms");
        };
        check(100);
        check(200);
        check(300);
        check(300);
        backoff.reset();
        assert!(backoff.next_wait() <= ms(100));
    }
}
