//! How much of the machine a run gets. Builds and other tests run beside it, so that five seconds by the wall may be
//! one second of work; what must be done within a time is judged by the work that could have been done in it.
//!
//! A thread wants a processor for a moment, again and again, and the kernel says how long it had to wait for one. Each
//! stretch of time counts by the share that the thread got of what it wanted, so that on an idle machine this clock
//! goes as fast as the wall's. Where the kernel does not tell, it always does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Pause between two measurements.
const EVERY: Duration = Duration::from_millis(40);
/// For how long a processor is wanted each time.
const WANTED: Duration = Duration::from_millis(3);
/// However busy the machine is, a second counts for as much as this, so that nothing hangs unnoticed.
const LEAST: f64 = 0.25;

/// The clock. It stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Strain {
    measured: Arc<Measured>,
}

#[derive(Debug)]
struct Measured {
    reading: Mutex<Reading>,
    stop: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    until: Instant,
    /// Time that counted until then.
    counted: Duration,
    /// What counts of the time after it, until that is measured too.
    share: f64,
}

/// A moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    counted: Duration,
}

impl Strain {
    /// Starts measuring.
    pub(crate) fn start() -> Self {
        let reading = Reading {
            until: Instant::now(),
            counted: Duration::ZERO,
            share: 1.0,
        };
        let measured = Arc::new(Measured {
            reading: Mutex::new(reading),
            stop: AtomicBool::new(false),
        });
        let measuring = Arc::clone(&measured);
        std::thread::spawn(move || {
            while !measuring.stop.load(Ordering::Relaxed) {
                let share = share();
                let mut reading = measuring.reading.lock().expect("not poisoned");
                *reading = reading.moved(Instant::now(), share);
            }
        });
        Self { measured }
    }

    pub(crate) fn mark(&self) -> Mark {
        let reading = *self.measured.reading.lock().expect("not poisoned");
        let now = reading.moved(Instant::now(), reading.share);
        Mark { counted: now.counted }
    }

    /// The time since then, as it counts.
    pub(crate) fn since(&self, mark: Mark) -> Duration {
        self.mark().counted.saturating_sub(mark.counted)
    }
}

impl Drop for Strain {
    fn drop(&mut self) {
        self.measured.stop.store(true, Ordering::Relaxed);
    }
}

impl Reading {
    fn moved(self, until: Instant, share: f64) -> Self {
        let passed = until.saturating_duration_since(self.until);
        Self {
            until,
            counted: self.counted + passed.mul_f64(share.clamp(LEAST, 1.0)),
            share,
        }
    }
}

/// Pauses, wants a processor, and returns which share of the time that it wanted one it had one.
fn share() -> f64 {
    let before = waited();
    std::thread::sleep(EVERY);
    let woken = waited();
    let began = Instant::now();
    while began.elapsed() < WANTED {
        std::hint::spin_loop();
    }
    let ran = began.elapsed();
    let after = waited();
    let (Some(before), Some(woken), Some(after)) = (before, woken, after) else {
        return 1.0;
    };
    let had = ran.saturating_sub(after.saturating_sub(woken));
    had.as_secs_f64() / (ran + woken.saturating_sub(before)).as_secs_f64()
}

/// How long this thread has waited for a processor so far: the second number of
/// <https://docs.kernel.org/scheduler/sched-stats.html>, `/proc/<pid>/schedstat`.
fn waited() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_by_the_share_of_the_machine_and_never_stands_still() {
        let began = Instant::now();
        let second = Duration::from_secs(1);
        let start = Reading {
            until: began,
            counted: Duration::ZERO,
            share: 1.0,
        };
        let idle = start.moved(began + second, 1.0);
        assert_eq!(idle.counted, second);
        let busy = idle.moved(began + 2 * second, 0.5);
        assert_eq!(busy.counted, Duration::from_millis(1_500));
        let starved = busy.moved(began + 3 * second, 0.0);
        assert_eq!(starved.counted, Duration::from_millis(1_750));
    }

    #[test]
    fn the_clock_goes_and_not_faster_than_the_wall_s() {
        let (began, strain) = (Instant::now(), Strain::start());
        let mark = strain.mark();
        while strain.since(mark) < Duration::from_millis(200) {
            std::thread::yield_now();
        }
        let wall = began.elapsed();
        assert!(wall >= Duration::from_millis(200), "{wall:?}");
        assert!(wall < Duration::from_secs(5), "{wall:?}");
    }
}
