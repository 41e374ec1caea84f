//! What a worker is started with.

use std::path::PathBuf;
use std::time::Duration;

use alyx_service::state::{Runtime, StateWatch};

/// Settings of a [`FunctionWorker`](crate::FunctionWorker).
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The functions to serve, as they change.
    pub state: StateWatch,
    /// Folder for the runtimes' own files; made where it is missing, shared with other processes of this user.
    pub runtime_dir: PathBuf,
    /// Processes of Node.
    pub node: PoolOptions,
    /// Processes of Python.
    pub python: PoolOptions,
    /// Processes of functions written in Go; its binary is the compiler, `min_warm` means nothing.
    pub go: PoolOptions,
    /// Most calls of one function that wait for a process.
    pub queue: usize,
    /// Memory limit in MiB that warm processes are started with: the one most functions have.
    pub memory_mib: u64,
    /// Largest return value in bytes, at most 48 MiB.
    pub max_output: usize,
    /// Longest time from the start of a process, or of loading code, to its end. Compiling has a bound of its own.
    pub load_timeout: Duration,
    /// How long a call may go on after it was told to stop, before it is ended by force.
    pub grace: Duration,
    /// What processes are kept from.
    pub sandbox: SandboxOptions,
}

/// What processes are kept from.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// How much of it there must be.
    pub mode: SandboxMode,
    /// The binary that starts them, whose `main` begins with `alyx_sandbox::entered`.
    pub launcher: PathBuf,
}

/// How much of a sandbox there must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxMode {
    /// None: processes reach whatever this process reaches.
    Off,
    /// What the machine grants.
    Auto,
    /// All that code nobody trusts must be kept from, the network included; nothing runs with less.
    Strict,
}

/// Settings of one runtime's processes.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// The interpreter; `None` takes the runtime's usual name from `PATH`.
    pub binary: Option<PathBuf>,
    /// Processes kept started without a function while any function is of this runtime, so that a first call need not
    /// wait for the interpreter.
    pub min_warm: usize,
    /// Most processes that hold a function, at least 1. The `min_warm` ones come on top.
    pub max_instances: usize,
    /// How long a process without calls keeps its function.
    pub idle_timeout: Duration,
    /// Most calls at the same time in one process, at least 1. A plain Python handler takes one at a time all the same.
    pub concurrency: usize,
}

impl Default for PoolOptions {
    /// One warm process, at most five with a function, five minutes idle, 16 calls in each.
    fn default() -> Self {
        Self {
            binary: None,
            min_warm: 1,
            max_instances: 5,
            idle_timeout: Duration::from_secs(300),
            concurrency: 16,
        }
    }
}

impl WorkerOptions {
    /// The defaults: those of [`PoolOptions`] for every runtime, 1,000 calls waiting, 10 MiB of return value, ten seconds
    /// to load, no sandbox.
    pub fn new(state: StateWatch, runtime_dir: PathBuf) -> Self {
        Self {
            state,
            runtime_dir,
            node: PoolOptions::default(),
            python: PoolOptions::default(),
            go: PoolOptions::default(),
            queue: 1000,
            memory_mib: 128,
            max_output: 10 << 20,
            load_timeout: Duration::from_secs(10),
            grace: Duration::from_millis(250),
            sandbox: SandboxOptions {
                mode: SandboxMode::Off,
                launcher: PathBuf::from("/proc/self/exe"),
            },
        }
    }

    /// The settings of one runtime's processes.
    pub fn pool(&self, runtime: Runtime) -> &PoolOptions {
        match runtime {
            Runtime::Node => &self.node,
            Runtime::Python => &self.python,
            Runtime::Go => &self.go,
        }
    }

    /// Most calls of one function at the same time that gateways send, where the function is of `runtime`.
    pub fn slots_of(&self, runtime: Runtime) -> usize {
        let pool = self.pool(runtime);
        pool.max_instances.max(1).saturating_mul(pool.concurrency.max(1))
    }

    /// What the runtime with the most room takes.
    pub fn slots(&self) -> usize {
        let all = Runtime::ALL.map(|runtime| self.slots_of(runtime));
        all.into_iter().max().unwrap_or(1)
    }
}
