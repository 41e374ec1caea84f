//! Functions that run in workers of their own, behind the same seam as the worker in one process.
//!
//! - `members` follows the directory of nodes and keeps a `link` of a few `stream`s to each worker.
//! - `roster` decides which worker gets a call, `dispatch` waits for it within bounds.
//!
//! **Invariant:** a call is sent to another worker only while none has accepted it, but for one whose caller said that
//! a second run does no harm.

mod convert;
mod dispatch;
mod link;
mod members;
mod roster;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::Result;
use alyx_proto::functions::NackReason;
use alyx_rpc::Security;
use alyx_service::cluster::NodeWatch;
use alyx_service::function::{Completion, FunctionService, FunctionStats, Invocation, PoolStats};
use alyx_service::health::{HealthCheck, Report, Status};
use alyx_service::state::StateWatch;
use alyx_service::tasks::{OnEnd, Tasks};
use async_trait::async_trait;

use self::dispatch::{Bounds, Dispatch, Lease};
use self::members::Members;
use self::roster::WorkerKey;
use self::stream::{Attempt, Refusal};

/// How much longer than the deadline a worker's own word is waited for: it knows what the call was doing.
const SLACK: Duration = Duration::from_millis(250);
/// How long a worker may say that it does not know a function that this gateway knows.
const LAG: Duration = Duration::from_secs(2);
/// Between two tries at a worker that refused.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Most times that an idempotent call is started again.
const SECOND_RUNS: u32 = 2;

/// What a [`RemoteFunctions`] is started with.
#[derive(Debug, Clone)]
pub struct RemoteFunctionsOptions {
    /// The live nodes, as they change.
    pub nodes: NodeWatch,
    /// The functions, as they change: they say how many calls a worker takes. Without them each counts as one of the
    /// runtime with the most room.
    pub state: Option<StateWatch>,
    /// How to prove who this gateway is.
    pub security: Security,
    /// Streams to each worker, at least 1.
    pub streams: usize,
    /// Most calls of one function that wait for a worker.
    pub queue: usize,
    /// How long a call waits while no worker is there.
    pub patience: Duration,
}

impl RemoteFunctionsOptions {
    /// The defaults: two streams, 1,000 waiting, five seconds.
    pub fn new(nodes: NodeWatch, security: Security) -> Self {
        Self {
            nodes,
            state: None,
            security,
            streams: 2,
            queue: 1000,
            patience: Duration::from_secs(5),
        }
    }
}

/// Calls functions in the workers of the cluster.
#[derive(Debug)]
pub struct RemoteFunctions {
    dispatch: Arc<Dispatch>,
}

impl RemoteFunctions {
    /// Starts to look for workers; returns at once. Must be called inside a tokio runtime.
    pub fn start(options: RemoteFunctionsOptions, tasks: &Tasks) -> Arc<Self> {
        let bounds = Bounds {
            queue: options.queue,
            patience: options.patience,
        };
        let state = options.state;
        let runtime_of = move |function: &str| {
            let state = state.as_ref()?.borrow();
            state.functions.get(function).map(|function| function.runtime)
        };
        let dispatch = Dispatch::new(bounds, Box::new(runtime_of), tasks.clone());
        let members = Members {
            dispatch: Arc::clone(&dispatch),
            security: options.security,
            streams: options.streams.max(1),
            tasks: tasks.clone(),
        };
        tasks.spawn("function workers", OnEnd::StopAll, members.follow(options.nodes));
        Arc::new(Self { dispatch })
    }

    /// Workers that are connected and take calls.
    pub fn workers(&self) -> usize {
        self.dispatch.roster.lock().takers(&[])
    }

    /// Tries one worker.
    async fn attempt(&self, lease: &Lease<'_>, invocation: &Invocation, arrived: Instant) -> Attempt {
        let (_under_way, ended) = lease.link().stream().call(invocation);
        match tokio::time::timeout_at((invocation.deadline + SLACK).into(), ended).await {
            Ok(Ok(attempt)) => attempt,
            // A stream that goes tells its calls; this one cannot know.
            Ok(Err(_)) => Attempt::Lost { accepted: true },
            Err(_) => {
                let within = invocation.deadline.saturating_duration_since(arrived);
                Attempt::Ended(Err(dispatch::timed_out(&invocation.function, within)))
            }
        }
    }

    /// Takes in why a worker refused. `Err` where there is nobody else to ask.
    fn refused(&self, worker: WorkerKey, function: &str, refusal: Refusal, tries: &mut Tries) -> Result<()> {
        match refusal.reason {
            NackReason::Draining => self.dispatch.change(|roster| roster.drain(worker)),
            NackReason::UnknownFunction if tries.unknown_for_long() => {
                return Err(dispatch::unknown(function));
            }
            NackReason::Overloaded | NackReason::UnknownFunction if refusal.retryable => {
                let pause = refusal.error.retry_after().unwrap_or(SHORTEST_PAUSE);
                let pause = pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                self.dispatch.block(worker, function, pause);
            }
            NackReason::Overloaded
            | NackReason::UnknownFunction
            | NackReason::Unavailable
            | NackReason::Unspecified => {
                tries.excluded.push(worker);
                if self.dispatch.roster.lock().takers(&tries.excluded) == 0 {
                    return Err(refusal.error);
                }
            }
        }
        Ok(())
    }
}

/// What one call has been through.
#[derive(Debug, Default)]
struct Tries {
    /// Workers that cannot run it.
    excluded: Vec<WorkerKey>,
    unknown_since: Option<Instant>,
    second_runs: u32,
}

impl Tries {
    fn unknown_for_long(&mut self) -> bool {
        self.unknown_since.get_or_insert_with(Instant::now).elapsed() >= LAG
    }

    /// Whether a call that was lost may run again.
    fn may_run_again(&mut self, invocation: &Invocation) -> bool {
        self.second_runs += 1;
        invocation.idempotent && self.second_runs <= SECOND_RUNS
    }
}

#[async_trait]
impl FunctionService for RemoteFunctions {
    async fn invoke(&self, invocation: Invocation) -> Result<Completion> {
        let arrived = Instant::now();
        let function = &invocation.function;
        let mut tries = Tries::default();
        loop {
            let lease = self
                .dispatch
                .lease(function, invocation.deadline, &tries.excluded)
                .await?;
            match self.attempt(&lease, &invocation, arrived).await {
                Attempt::Ended(result) => return result,
                Attempt::Refused(refusal) => self.refused(lease.worker(), function, refusal, &mut tries)?,
                Attempt::Lost { accepted } => {
                    let worker = lease.worker();
                    self.dispatch.change(|roster| roster.leave(worker));
                    if accepted && !tries.may_run_again(&invocation) {
                        return Err(dispatch::lost(function));
                    }
                }
            }
            tracing::debug!(function, request_id = %invocation.request_id, "a call goes to another worker");
        }
    }

    fn stats(&self) -> BTreeMap<String, PoolStats> {
        self.dispatch.roster.lock().stats()
    }

    fn function_stats(&self) -> BTreeMap<String, FunctionStats> {
        self.dispatch.roster.lock().function_stats()
    }
}

#[async_trait]
impl HealthCheck for RemoteFunctions {
    fn name(&self) -> &'static str {
        "functions"
    }

    async fn check(&self) -> Report {
        if self.workers() > 0 {
            Report::HEALTHY
        } else {
            Report::new(Status::Degraded, "no function worker is connected")
        }
    }
}
