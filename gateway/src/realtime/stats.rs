//! What the hub counts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Why connections ended, in a closed set that metrics may use as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client closed.
    Client,
    /// The server stops.
    GoingAway,
    /// The peer did not read fast enough.
    Slow,
    /// The peer sent a message over the limit.
    TooLarge,
    /// The peer broke the WebSocket protocol.
    Protocol,
    /// The peer was not heard for too long.
    Timeout,
    /// The session that it was opened with is over.
    SignedOut,
    /// The connection broke.
    Lost,
}

/// Counters since start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) frames: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) resets: AtomicU64,
    endings: [AtomicU64; 8],
}

impl Counters {
    pub(super) fn ended(&self, ending: Ending) {
        self.endings[ending as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closes(&self) -> Closes {
        let count = |ending: Ending| self.endings[ending as usize].load(Ordering::Relaxed);
        Closes {
            client: count(Ending::Client),
            going_away: count(Ending::GoingAway),
            slow: count(Ending::Slow),
            too_large: count(Ending::TooLarge),
            protocol: count(Ending::Protocol),
            timeout: count(Ending::Timeout),
            signed_out: count(Ending::SignedOut),
            lost: count(Ending::Lost),
        }
    }
}

/// The hub at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Stats {
    /// Open connections.
    pub(crate) connections: usize,
    /// Their subscriptions.
    pub(crate) subscriptions: usize,
    /// Distinct live queries, those nobody listens to just now included.
    pub(crate) groups: usize,
    /// Whether the realtime node answers.
    pub(crate) joined: bool,
    /// Frames sent since start.
    pub(crate) frames_sent: u64,
    /// Bytes sent since start.
    pub(crate) bytes_sent: u64,
    /// Messages received since start.
    pub(crate) messages_received: u64,
    /// Snapshots sent afresh since start, because a socket or the node was behind.
    pub(crate) resets: u64,
    /// Queues that ran over since start.
    pub(crate) overflows: u64,
    /// Connections ended since start, by reason.
    pub(crate) closes: Closes,
}

/// Connections ended since start, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Closes {
    /// The client closed.
    pub(crate) client: u64,
    /// The server stopped (1001).
    pub(crate) going_away: u64,
    /// The client did not read fast enough (3008).
    pub(crate) slow: u64,
    /// The client sent a message over the limit (1009).
    pub(crate) too_large: u64,
    /// The client broke the WebSocket protocol (1002, 1007).
    pub(crate) protocol: u64,
    /// The client was silent for too long.
    pub(crate) timeout: u64,
    /// The session that it was opened with is over (4401).
    pub(crate) signed_out: u64,
    /// The connection broke.
    pub(crate) lost: u64,
}

impl Closes {
    /// Every reason with its count, under the names that metrics use.
    pub(crate) fn by_reason(&self) -> [(&'static str, u64); 8] {
        [
            ("client", self.client),
            ("going_away", self.going_away),
            ("slow", self.slow),
            ("too_large", self.too_large),
            ("protocol", self.protocol),
            ("timeout", self.timeout),
            ("signed_out", self.signed_out),
            ("lost", self.lost),
        ]
    }
}
