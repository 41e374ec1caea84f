//! CPU time and memory of another process and its children, from `/proc`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, thread};

/// CPU time of `pid` alone, all its threads, user and system. Resolution: one clock tick (10 ms).
pub(crate) fn cpu(pid: u32) -> Duration {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return Duration::ZERO;
    };
    // The name in parentheses may hold spaces; the fields after it do not.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let ticks: u64 = [11, 12]
        .iter()
        .filter_map(|&at| fields.get(at)?.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// CPU time of the children of `pid`.
pub(crate) fn cpu_of_children(pid: u32) -> Duration {
    children(pid).into_iter().map(cpu).sum()
}

/// Memory that belongs to `pid`'s descendants alone, in bytes: what would be free without them.
pub(crate) fn private_of_descendants(pid: u32) -> u64 {
    children(pid)
        .into_iter()
        .map(|child| private(child) + private_of_descendants(child))
        .sum()
}

fn private(pid: u32) -> u64 {
    let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
        return 0;
    };
    let kilobytes = rollup
        .lines()
        .filter_map(|line| {
            line.strip_prefix("Private_Clean:")
                .or_else(|| line.strip_prefix("Private_Dirty:"))
        })
        .filter_map(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.sum::<u64>() * 1024
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let children = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let numbers = |children: String| -> Vec<u32> {
        let numbers = children.split_whitespace();
        numbers.filter_map(|child| child.parse().ok()).collect()
    };
    children.flat_map(numbers).collect()
}

/// Resident memory of `pid` in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return 0;
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Keeps every processor from being halted, by loops that give way to everything else. A virtual machine's processor
/// takes tens of microseconds to come back, at each hop of a request that is alone: the machine's part of a latency,
/// which says nothing about the programs.
#[derive(Debug)]
pub(crate) struct Awake(Arc<AtomicBool>);

impl Awake {
    pub(crate) fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                // Of this thread alone: Linux has priorities by thread.
                rustix::process::setpriority_process(None, 19).expect("a lower priority");
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(over)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
