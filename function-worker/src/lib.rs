//! Runs functions: pools of processes, one function version in each, many calls at the same time in one process.
//!
//! - `stem` starts processes without a function, ahead of need; `interpreter` finds what runs them,
//!   `node` and `python` say how; `go` compiles functions into programs of their own.
//! - `instance` is a process with its function; `link`, `outbox` and `supervise` are its reader, writer and guard.
//! - `pool` holds the processes, `schedule` decides which of them runs which call; `worker` is the seam and the
//!   regular watch.
//! - `figures` counts what became of the calls of each function.
//! - `sandbox` says what processes are kept from, and finds out what the machine grants of that.
//! - `grpc` serves gateways in other processes.
//!
//! **Invariants.** A process loads once and is never used for another function or version. A call ends exactly
//! once, and whatever ends it gives its place back. The code of a function holds no credential: what it asks of
//! `ctx.db` is answered with the authority of the call it asks in.

mod failure;
mod figures;
mod frame;
mod go;
mod grpc;
mod instance;
mod interpreter;
mod link;
mod logs;
mod node;
mod options;
mod outbox;
mod pool;
mod python;
mod sandbox;
mod schedule;
mod stem;
mod supervise;
mod worker;

pub use alyx_sandbox::Wall;
pub use grpc::{Dispatcher, WorkerServer};
pub use options::{PoolOptions, SandboxMode, SandboxOptions, WorkerOptions};
pub use worker::FunctionWorker;
