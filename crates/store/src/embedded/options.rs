//! How an embedded store is set up.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of an embedded store. Every queue and cache has its bound here.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The database file; missing folders above it are created.
    pub path: PathBuf,
    /// Threads that run [`crate::ReadCost::Scan`] reads (1 to 64).
    pub readers: usize,
    /// Connections for [`crate::ReadCost::Point`] reads on the callers' threads (1 to 64).
    pub point_connections: usize,
    /// Writes that may wait for the writer; more are refused with `WRITE_QUEUE_FULL`.
    pub write_queue: usize,
    /// Reads that may wait for a reader thread; more are refused with `READ_QUEUE_FULL`.
    pub read_queue: usize,
    /// How long a change stays in the log at least, unless there are more than `log_max_rows`.
    pub log_retention: Duration,
    /// Changes that stay in the log at most (a little more while writes come in fast).
    pub log_max_rows: u64,
    /// Page cache of each connection in KiB; memory is taken as it is used.
    pub cache_kib: u32,
    /// Size of the write-ahead log, in bytes, from which it is copied into the database even under load.
    pub wal_bytes: u64,
    /// How long to wait for another process that holds the database's write lock.
    pub busy_timeout: Duration,
}

impl EmbeddedOptions {
    /// The defaults, for the database at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readers: 2,
            point_connections: 4,
            write_queue: 4096,
            read_queue: 1024,
            log_retention: Duration::from_secs(24 * 60 * 60),
            log_max_rows: 250_000,
            cache_kib: 16 * 1024,
            wal_bytes: 16 << 20,
            busy_timeout: Duration::from_secs(5),
        }
    }
}
