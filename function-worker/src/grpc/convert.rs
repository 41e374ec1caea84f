//! Messages of the wire ⇄ types of the seam.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, InvocationId, RequestId, Result, TraceContext};
use alyx_proto::functions as wire;
use alyx_proto::functions::worker_message::Body;
use alyx_rpc::{BodyKey, from_wire, to_wire};
use alyx_service::data::DataOp;
use alyx_service::function::{FunctionStats, Invocation, LogEntry, PoolStats, Thrown};
use bytes::Bytes;
use serde::Serialize;

use crate::grpc::data::RemoteData;
use crate::pool::FunctionLoad;

/// Log lines go together up to this many bytes.
const LOG_BATCH: usize = 32 << 10;

/// A message to the gateway.
pub(super) const fn told(body: Body) -> wire::WorkerMessage {
    wire::WorkerMessage { body: Some(body) }
}

/// The next piece of a body.
pub(super) const fn piece(key: BodyKey, data: Bytes) -> wire::WorkerMessage {
    told(Body::Chunk(wire::Chunk {
        id: key.id,
        call: key.call,
        data,
    }))
}

/// The call that `invoke` asks for; its input came with it or after it.
pub(super) fn invocation(
    invoke: wire::Invoke,
    arrived: Instant,
    input: Bytes,
    data: Arc<RemoteData>,
) -> Invocation {
    /// What a caller without an end in mind gets.
    const LONGEST: Duration = Duration::from_hours(24);
    let within = Duration::from_millis(invoke.deadline_millis).min(LONGEST);
    Invocation {
        id: InvocationId::from(invoke.invocation_id),
        request_id: RequestId::from(invoke.request_id),
        function: invoke.function,
        input,
        auth: invoke.auth,
        deadline: arrived + within,
        trace: TraceContext::parse(invoke.traceparent.as_bytes()),
        idempotent: false,
        data,
    }
}

/// A call that was not taken, or one that failed. `accepted` says whether it had started.
pub(super) fn failed(id: u64, error: &Error, accepted: bool, draining: bool, took: Duration) -> Body {
    let reason = match error.kind() {
        _ if accepted => None,
        ErrorKind::Unavailable if draining => Some((wire::NackReason::Draining, false)),
        ErrorKind::Unavailable => Some((wire::NackReason::Unavailable, false)),
        ErrorKind::TooManyRequests => Some((wire::NackReason::Overloaded, true)),
        // The gateway knows the function, so this worker's state lags behind.
        ErrorKind::NotFound => Some((wire::NackReason::UnknownFunction, true)),
        ErrorKind::InvalidInput
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::MethodNotAllowed
        | ErrorKind::Conflict
        | ErrorKind::PreconditionFailed
        | ErrorKind::PayloadTooLarge
        | ErrorKind::UnsupportedMediaType
        | ErrorKind::Internal
        | ErrorKind::BadGateway
        | ErrorKind::DeadlineExceeded => None,
    };
    let told = Some(to_wire(error));
    match reason {
        Some((reason, retryable)) => Body::Nack(wire::Nack {
            id,
            reason: reason.into(),
            error: told,
            retryable,
        }),
        None => Body::Failed(wire::Failed {
            id,
            duration_micros: micros(took),
            error: told,
        }),
    }
}

pub(super) fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// The body of a `Threw`.
pub(super) fn thrown(thrown: &Thrown) -> Bytes {
    #[derive(Serialize)]
    struct Wire<'a> {
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
        extra: &'a serde_json::Map<String, serde_json::Value>,
    }
    let wire = Wire {
        message: &thrown.message,
        code: thrown.code.as_deref(),
        status: thrown.status,
        extra: &thrown.extra,
    };
    // Strings, numbers and JSON values always serialise.
    serde_json::to_vec(&wire).unwrap_or_default().into()
}

/// The lines of a call, in messages of bounded size.
pub(super) fn logs(id: u64, entries: Vec<LogEntry>) -> Vec<Body> {
    let mut batches = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for entry in entries {
        let data = entry.data.map(|data| Bytes::from(data.to_string()));
        bytes += entry.message.len() + data.as_ref().map_or(0, Bytes::len);
        batch.push(wire::LogEntry {
            level: entry.level,
            message: entry.message,
            data,
            timestamp: entry.timestamp,
        });
        if bytes >= LOG_BATCH {
            bytes = 0;
            let entries = std::mem::take(&mut batch);
            batches.push(Body::Logs(wire::Logs { id, entries }));
        }
    }
    if !batch.is_empty() {
        batches.push(Body::Logs(wire::Logs { id, entries: batch }));
    }
    batches
}

/// The name of an operation of `ctx.db`.
pub(super) const fn op_name(op: DataOp) -> &'static str {
    match op {
        DataOp::List => "list",
        DataOp::Aggregate => "aggregate",
        DataOp::Get => "get",
        DataOp::Create => "create",
        DataOp::Update => "update",
        DataOp::Upsert => "upsert",
        DataOp::Delete => "delete",
        DataOp::Begin => "begin",
        DataOp::Commit => "commit",
        DataOp::Rollback => "rollback",
        DataOp::Within => "within",
    }
}

/// What the gateway answered where it refused a call.
pub(super) fn refused(error: alyx_proto::common::Error) -> Error {
    from_wire(error).unwrap_or_else(|| {
        Error::internal("the gateway told an error of a kind that this version does not know")
    })
}

pub(super) fn load(load: FunctionLoad) -> wire::FunctionLoad {
    wire::FunctionLoad {
        function: load.function,
        idle: saturating(load.idle),
        in_flight: saturating(load.in_flight),
        queued: saturating(load.queued),
    }
}

pub(super) fn pool(runtime: String, stats: &PoolStats) -> wire::Pool {
    wire::Pool {
        runtime,
        ready: stats.ready as u64,
        busy: stats.busy as u64,
        total: stats.total as u64,
        queued: stats.queued as u64,
        invocations: stats.invocations,
        started: stats.started,
        timeouts: stats.timeouts,
        crashes: stats.crashes,
        cold_starts: stats.cold_starts,
    }
}

pub(super) fn figures(function: String, stats: &FunctionStats) -> wire::FunctionFigures {
    let steps = stats.durations.steps();
    wire::FunctionFigures {
        function,
        warm: saturating(stats.warm),
        busy: saturating(stats.busy),
        queued: saturating(stats.queued),
        invocations: stats.invocations,
        cold_starts: stats.cold_starts,
        timeouts: stats.timeouts,
        crashes: stats.crashes,
        durations: steps.flat_map(|(step, count)| [step, count]).collect(),
    }
}

pub(super) fn saturating(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The gateway broke the protocol.
pub(super) fn violation(message: &'static str) -> Result<()> {
    Err(Error::new(ErrorKind::BadGateway, "PROTOCOL_VIOLATION", message))
}
