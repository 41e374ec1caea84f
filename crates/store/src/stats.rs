//! Figures about a store, for `/metrics` and for whoever tunes it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alyx_core::Seq;

/// Upper bounds of the batch-size classes in [`StoreStats::batches`]; the last class is open.
pub const BATCH_BOUNDS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// What a store has done since it was opened, and how it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Writes carried out.
    pub writes: u64,
    /// Writes refused or undone: constraints, deadlines, a full disk.
    pub failed_writes: u64,
    /// Transactions committed on behalf of writes.
    pub commits: u64,
    /// Changes that those wrote to the log.
    pub changes: u64,
    /// Commits by how many writes they carried: up to 1, 2, 4 … 512, and more.
    pub batches: [u64; BATCH_BOUNDS.len() + 1],
    /// Reads on reader threads.
    pub scans: u64,
    /// Reads on callers' threads.
    pub point_reads: u64,
    /// Reads stopped or dropped because their deadline passed.
    pub read_timeouts: u64,
    /// Writes that wait now.
    pub write_queue: usize,
    /// Reads that wait for a thread now.
    pub read_queue: usize,
    /// Reader threads at work now.
    pub readers_busy: usize,
    /// Reader threads.
    pub readers: usize,
    /// Times that the write-ahead log was copied into the database.
    pub checkpoints: u64,
    /// Whether the last group of writes could not be stored (a full disk, a broken one, a lock).
    pub storage_failing: bool,
    /// Size of the database file in bytes.
    pub database_bytes: u64,
    /// Size of the write-ahead log's file in bytes.
    pub wal_bytes: u64,
    /// The log's last position that this process wrote or saw.
    pub head: Seq,
    /// Up to where the log has been cut off.
    pub horizon: Seq,
}

/// The counters behind [`StoreStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) writes: AtomicU64,
    pub(crate) failed_writes: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) batches: [AtomicU64; BATCH_BOUNDS.len() + 1],
    pub(crate) scans: AtomicU64,
    pub(crate) point_reads: AtomicU64,
    pub(crate) read_timeouts: AtomicU64,
    pub(crate) readers_busy: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) storage_failing: AtomicBool,
    /// Taken from the queue by the writer, not yet begun.
    pub(crate) backlog: AtomicU64,
    pub(crate) head: AtomicU64,
    pub(crate) horizon: AtomicU64,
}

impl Counters {
    /// Adds to a counter; counters order nothing.
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets a figure that is not a count.
    pub(crate) fn set(figure: &AtomicU64, value: u64) {
        figure.store(value, Ordering::Relaxed);
    }

    /// Counts a commit of `writes` writes.
    pub(crate) fn commit(&self, writes: usize, changes: usize) {
        let writes = writes as u64;
        let class = BATCH_BOUNDS
            .iter()
            .position(|bound| writes <= *bound)
            .unwrap_or(BATCH_BOUNDS.len());
        Self::add(&self.batches[class], 1);
        Self::add(&self.commits, 1);
        Self::add(&self.writes, writes);
        Self::add(&self.changes, changes as u64);
    }

    /// The figures so far; what only the store knows is left at zero.
    pub(crate) fn snapshot(&self) -> StoreStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStats {
            writes: load(&self.writes),
            failed_writes: load(&self.failed_writes),
            commits: load(&self.commits),
            changes: load(&self.changes),
            batches: std::array::from_fn(|class| load(&self.batches[class])),
            scans: load(&self.scans),
            point_reads: load(&self.point_reads),
            read_timeouts: load(&self.read_timeouts),
            readers_busy: usize::try_from(load(&self.readers_busy)).unwrap_or(usize::MAX),
            checkpoints: load(&self.checkpoints),
            storage_failing: self.storage_failing.load(Ordering::Relaxed),
            head: Seq(load(&self.head)),
            horizon: Seq(load(&self.horizon)),
            ..StoreStats::default()
        }
    }
}
