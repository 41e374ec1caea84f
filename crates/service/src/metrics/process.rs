//! The process's own figures, under the names that Prometheus' client libraries use. Read from `/proc`; where
//! there is none, the families are left out.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Exposition, families};

/// Kernel ticks per second in `/proc/self/stat`: fixed by the kernel's interface to user space (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;
/// Fields of `/proc/self/stat` after the command's closing bracket (proc(5), counted from `state` = 0).
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const THREADS: usize = 17;

/// Writes version, start, memory, CPU time, threads and open files of this process.
pub fn write_process(out: &mut Exposition, started: SystemTime) {
    out.family(families::BUILD_INFO);
    out.sample("", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    if let Ok(since_epoch) = started.duration_since(UNIX_EPOCH) {
        out.single(families::PROCESS_START, since_epoch.as_secs());
    }
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .collect();
        let field = |index: usize| {
            fields
                .get(index)
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let ticks = field(USER_TICKS) + field(SYSTEM_TICKS);
        let (whole, part) = (ticks / TICKS_PER_SECOND, ticks % TICKS_PER_SECOND);
        out.single(families::PROCESS_CPU, format_args!("{whole}.{part:02}"));
        out.single(families::PROCESS_THREADS, field(THREADS));
    }
    if let Some(bytes) = resident_bytes() {
        out.single(families::PROCESS_RESIDENT, bytes);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        out.single(families::PROCESS_FILES, entries.count());
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let mut out = Exposition::new();
        write_process(&mut out, SystemTime::now());
        let text = out.finish();
        for name in [
            "process_resident_memory_bytes",
            "process_threads",
            "process_open_fds",
        ] {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line
                .and_then(|line| line.rsplit(' ').next())
                .and_then(|v| v.parse::<u64>().ok());
            assert!(value.is_some_and(|value| value > 0), "{name} in\n{text}");
        }
    }
}
