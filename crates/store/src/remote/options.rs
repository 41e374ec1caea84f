//! How a store on a libSQL server is set up.

use std::fmt;
use std::time::Duration;

/// Settings of a store on a libSQL server. Every queue and wait has its bound here.
#[derive(Clone)]
pub struct RemoteOptions {
    /// `http://`, `https://` or `libsql://` (which means `https://`) and the server's host, with its port.
    pub url: String,
    /// Sent with every call; never shown.
    pub auth_token: Option<String>,
    /// Streams that read (1 to 8): the server slows down with more.
    pub readers: usize,
    /// Writes that may wait for the writer; more are refused with `WRITE_QUEUE_FULL`.
    pub write_queue: usize,
    /// Reads that may wait for a stream; more are refused with `READ_QUEUE_FULL`.
    pub read_queue: usize,
    /// How long a change stays in the log at least, unless there are more than `log_max_rows`.
    pub log_retention: Duration,
    /// Changes that stay in the log at most (a little more while writes come in fast).
    pub log_max_rows: u64,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long one call of the writer may take.
    pub call_timeout: Duration,
    /// How long one step of a migration may take.
    pub migration_timeout: Duration,
    /// How long opening goes on trying while the server is away.
    pub open_timeout: Duration,
    /// How often an idle writer proves that it can write.
    pub probe_interval: Duration,
}

impl RemoteOptions {
    /// The defaults, for the server at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            auth_token: None,
            readers: 8,
            write_queue: 4096,
            read_queue: 1024,
            log_retention: Duration::from_secs(24 * 60 * 60),
            log_max_rows: 250_000,
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(5),
            migration_timeout: Duration::from_secs(10 * 60),
            open_timeout: Duration::from_secs(10),
            probe_interval: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for RemoteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteOptions")
            .field("url", &self.url)
            .field("auth_token", &self.auth_token.as_ref().map(|_| "***"))
            .field("readers", &self.readers)
            .finish_non_exhaustive()
    }
}
