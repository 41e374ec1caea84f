//! What a worker is started with.

use std::path::PathBuf;
use std::time::Duration;

use alyx_service::state::StateWatch;

/// Settings of a [`FunctionWorker`](crate::FunctionWorker).
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The functions to serve, as they change.
    pub state: StateWatch,
    /// Folder for the runtime's own files; made where it is missing, shared with other processes of this user.
    pub runtime_dir: PathBuf,
    /// The Node binary; `None` takes `node` from `PATH`.
    pub node: Option<PathBuf>,
    /// Processes kept started without a function, so that a first call need not wait for Node.
    pub min_warm: usize,
    /// Most processes that hold a function, at least 1. The `min_warm` ones come on top.
    pub max_instances: usize,
    /// How long a process without calls keeps its function.
    pub idle_timeout: Duration,
    /// Most calls at the same time in one process, at least 1.
    pub concurrency: usize,
    /// Most calls of one function that wait for a process.
    pub queue: usize,
    /// Memory limit in MiB that warm processes are started with: the one most functions have.
    pub memory_mib: u64,
    /// Largest return value in bytes, at most 48 MiB.
    pub max_output: usize,
    /// Longest time from the start of a process, or of loading code, to its end.
    pub load_timeout: Duration,
}

impl WorkerOptions {
    /// The defaults: one warm process, at most five with a function, 16 calls in each, 1,000 waiting, 10 MiB of
    /// return value, five minutes idle, ten seconds to load.
    pub fn new(state: StateWatch, runtime_dir: PathBuf) -> Self {
        Self {
            state,
            runtime_dir,
            node: None,
            min_warm: 1,
            max_instances: 5,
            idle_timeout: Duration::from_secs(300),
            concurrency: 16,
            queue: 1000,
            memory_mib: 128,
            max_output: 10 << 20,
            load_timeout: Duration::from_secs(10),
        }
    }
}
