//! What a gateway asks of a function worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{InvocationId, RequestId, Result, TraceContext};
use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;

use crate::data::SharedData;
use crate::durations::Durations;

/// Runs functions.
#[async_trait]
pub trait FunctionService: Send + Sync {
    /// Runs one invocation to its end. `Err` is the platform's failure (unknown function, queue full, deadline,
    /// crash); what the handler itself returned or threw is an [`Outcome`].
    ///
    /// Errors: `FUNCTION_NOT_FOUND`, `FUNCTION_OVERLOADED` (429 with retry-after), `FUNCTION_TIMEOUT` (504),
    /// `FUNCTION_CRASHED` (502), `FUNCTION_UNAVAILABLE` (503: its code does not load, with the loader's words).
    async fn invoke(&self, invocation: Invocation) -> Result<Completion>;

    /// Pools as they are now, by runtime.
    fn stats(&self) -> BTreeMap<String, PoolStats>;

    /// Functions that are served, or were until a moment ago, and that have been called: by name.
    fn function_stats(&self) -> BTreeMap<String, FunctionStats>;
}

/// A shared [`FunctionService`].
pub type SharedFunctions = Arc<dyn FunctionService>;

/// One call of a function.
#[derive(Clone)]
pub struct Invocation {
    /// This call.
    pub id: InvocationId,
    /// The request that caused it.
    pub request_id: RequestId,
    /// The function's name.
    pub function: String,
    /// The input as JSON text (`null` where there is none). Checked to be JSON by the caller.
    pub input: Bytes,
    /// Who calls, as JSON text for `ctx.auth`; `None` for an anonymous caller.
    pub auth: Option<Bytes>,
    /// When the caller gives up; the function's own timeout may end it earlier.
    pub deadline: Instant,
    /// Its place in a trace.
    pub trace: Option<TraceContext>,
    /// Whether the caller asked for a call that may run a second time after its process or worker was lost.
    pub idempotent: bool,
    /// Answers `ctx.db`.
    pub data: SharedData,
}

/// A finished call.
#[derive(Debug, Clone)]
pub struct Completion {
    /// What the handler did.
    pub outcome: Outcome,
    /// What the handler logged, oldest first, bounded.
    pub logs: Vec<LogEntry>,
    /// Time from the hand-over to the worker until the result.
    pub duration: Duration,
}

/// What the handler did.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It returned: JSON text.
    Returned(Bytes),
    /// It threw, or its input did not pass its own checks.
    Threw(Thrown),
}

/// An error thrown by a handler.
#[derive(Debug, Clone)]
pub struct Thrown {
    /// Its `code`, where it carries one.
    pub code: Option<String>,
    /// Its own `status`, where it carries one between 400 and 599.
    pub status: Option<u16>,
    /// Its message.
    pub message: String,
    /// Its further members as a JSON object (`details`, `field`, …).
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// A line logged by a handler.
#[derive(Debug, Clone, Serialize)]
pub struct LogEntry {
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The message.
    pub message: String,
    /// What was logged beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
    /// When, RFC 3339.
    pub timestamp: String,
}

/// One pool.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PoolStats {
    /// Instances that wait for work.
    pub ready: usize,
    /// Instances at work.
    pub busy: usize,
    /// All instances, starting ones included.
    pub total: usize,
    /// Invocations that wait for an instance.
    pub queued: usize,
    /// Invocations since start.
    pub invocations: u64,
    /// Instances started since start.
    pub started: u64,
    /// Invocations ended by their deadline.
    pub timeouts: u64,
    /// Instances lost while they worked.
    pub crashes: u64,
    /// Invocations whose function had no instance when they came.
    pub cold_starts: u64,
}

/// One function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionStats {
    /// Instances that hold it and have no invocation.
    pub warm: usize,
    /// Instances at work on it.
    pub busy: usize,
    /// Invocations that wait for an instance.
    pub queued: usize,
    /// Invocations since start.
    pub invocations: u64,
    /// Those that found no instance of it.
    pub cold_starts: u64,
    /// Those ended by their deadline.
    pub timeouts: u64,
    /// Those whose instance was lost.
    pub crashes: u64,
    /// How long the recent ones took, waiting included.
    pub durations: Durations,
}

impl FunctionStats {
    /// Adds what another process knows of the same function.
    pub fn merge(&mut self, other: &Self) {
        self.warm += other.warm;
        self.busy += other.busy;
        self.queued += other.queued;
        self.invocations += other.invocations;
        self.cold_starts += other.cold_starts;
        self.timeouts += other.timeouts;
        self.crashes += other.crashes;
        self.durations.merge(&other.durations);
    }
}
