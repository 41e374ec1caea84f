//! How often somebody may try something: so many times in a window that begins with the first try.
//!
//! **Invariant:** memory is bounded; where more are counted than there is room for, those that tried longest ago are
//! forgotten first. The time is the caller's.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::secret::token_digest;

/// Whom a limiter remembers at most: about 5 MB.
const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// So many tries in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Tries in a window, at least 1.
    pub max: u32,
    /// From the first try on.
    pub window: Duration,
}

/// Counts tries by whoever makes them.
#[derive(Debug)]
pub struct Limiter {
    rule: Rule,
    counts: LruCache<[u8; 16], Count>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Instant,
    tries: u32,
}

impl Limiter {
    /// Nobody has tried yet.
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            counts: LruCache::new(MAX_KEYS),
        }
    }

    /// Counts a try by `key`.
    ///
    /// # Errors
    ///
    /// How long it has to wait, where it has no tries left.
    pub fn take(&mut self, key: &str, now: Instant) -> Result<(), Duration> {
        let rule = self.rule;
        let count = self
            .counts
            .get_or_insert_mut(short(key), || Count { since: now, tries: 0 });
        let age = now.saturating_duration_since(count.since);
        if age >= rule.window {
            *count = Count { since: now, tries: 0 };
        }
        if count.tries >= rule.max {
            return Err(rule.window.saturating_sub(age));
        }
        count.tries += 1;
        Ok(())
    }

    /// Takes back one try by `key`, which did no harm.
    pub fn give_back(&mut self, key: &str) {
        if let Some(count) = self.counts.peek_mut(&short(key)) {
            count.tries = count.tries.saturating_sub(1);
        }
    }

    /// Forgets the tries by `key`.
    pub fn clear(&mut self, key: &str) {
        self.counts.pop(&short(key));
    }
}

/// Keys come from callers: as digests they all have one size, and none collides with another by design.
fn short(key: &str) -> [u8; 16] {
    let digest = token_digest(key);
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        max: 2,
        window: Duration::from_secs(60),
    };

    #[test]
    fn tries_run_out_and_come_back_with_the_window() {
        let (mut limiter, start) = (Limiter::new(RULE), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(limiter.take("a", at(0)), Ok(()));
        assert_eq!(limiter.take("a", at(10)), Ok(()));
        assert_eq!(limiter.take("a", at(20)), Err(Duration::from_secs(40)));
        assert_eq!(
            limiter.take("b", at(20)),
            Ok(()),
            "others have tries of their own"
        );
        assert_eq!(limiter.take("a", at(60)), Ok(()));
        assert_eq!(limiter.take("a", at(61)), Ok(()));
        assert_eq!(limiter.take("a", at(62)), Err(Duration::from_secs(58)));
    }

    #[test]
    fn tries_are_given_back_and_forgotten() {
        let (mut limiter, now) = (Limiter::new(RULE), Instant::now());
        limiter.take("a", now).expect("first");
        limiter.take("a", now).expect("second");
        limiter.give_back("a");
        limiter.take("a", now).expect("given back");
        assert!(limiter.take("a", now).is_err());
        limiter.clear("a");
        limiter.take("a", now).expect("forgotten");
        limiter.give_back("nobody");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut limiter, now) = (Limiter::new(RULE), Instant::now());
        for key in 0..MAX_KEYS.get() + 10 {
            limiter
                .take(&key.to_string(), now)
                .expect("each for the first time");
        }
        assert_eq!(limiter.counts.len(), MAX_KEYS.get());
    }
}
