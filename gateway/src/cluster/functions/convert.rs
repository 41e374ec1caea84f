//! Messages of the wire ⇄ types of the seam.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alyx_core::Error;
use alyx_proto::functions as wire;
use alyx_proto::functions::gateway_message::Body;
use alyx_rpc::{BodyKey, from_wire};
use alyx_service::function::{FunctionStats, Invocation, LogEntry, PoolStats, Thrown};
use alyx_service::state::Runtime;
use bytes::Bytes;
use serde::Deserialize;

use super::roster::{Load, Size, Sizes};

/// A message to the worker.
pub(super) const fn told(body: Body) -> wire::GatewayMessage {
    wire::GatewayMessage { body: Some(body) }
}

/// The next piece of a body.
pub(super) const fn piece(key: BodyKey, data: Bytes) -> wire::GatewayMessage {
    told(Body::Chunk(wire::Chunk {
        id: key.id,
        call: key.call,
        data,
    }))
}

/// The beginning of a call.
pub(super) fn invoke(
    id: u64,
    invocation: &Invocation,
    input: Bytes,
    input_size: u64,
) -> wire::GatewayMessage {
    let left = invocation.deadline.saturating_duration_since(Instant::now());
    told(Body::Invoke(wire::Invoke {
        id,
        invocation_id: invocation.id.as_str().to_owned(),
        function: invocation.function.clone(),
        // Rounded up: the worker does not give up before the caller does.
        deadline_millis: u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX),
        request_id: invocation.request_id.as_str().to_owned(),
        traceparent: invocation
            .trace
            .map(|trace| trace.to_string())
            .unwrap_or_default(),
        auth: invocation.auth.clone(),
        input,
        input_size,
    }))
}

/// What a worker can hold; one that says nothing useful gets one call at a time.
pub(super) fn sizes(hello: &wire::Hello) -> Sizes {
    let size = |slots: u32, concurrency: u32, queue: u32| Size {
        slots: slots.max(1) as usize,
        concurrency: concurrency.max(1) as usize,
        queue: queue as usize,
    };
    let mut sizes = Sizes::of_all(size(hello.slots, hello.concurrency, hello.queue));
    for places in &hello.places {
        let runtime = Runtime::ALL
            .into_iter()
            .find(|runtime| runtime.name() == places.runtime);
        if let Some(runtime) = runtime {
            sizes.set(runtime, size(places.slots, places.concurrency, places.queue));
        }
    }
    sizes
}

/// What a worker holds.
pub(super) fn capacity(capacity: wire::Capacity) -> (Vec<Load>, BTreeMap<String, PoolStats>) {
    let load = |load: wire::FunctionLoad| Load {
        function: load.function,
        idle: load.idle as usize,
        in_flight: load.in_flight as usize,
        queued: load.queued as usize,
    };
    let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let pool = |pool: wire::Pool| {
        let stats = PoolStats {
            ready: count(pool.ready),
            busy: count(pool.busy),
            total: count(pool.total),
            queued: count(pool.queued),
            invocations: pool.invocations,
            started: pool.started,
            timeouts: pool.timeouts,
            crashes: pool.crashes,
            cold_starts: pool.cold_starts,
        };
        (pool.runtime, stats)
    };
    (
        capacity.functions.into_iter().map(load).collect(),
        capacity.pools.into_iter().map(pool).collect(),
    )
}

/// What became of calls on a worker, and the functions that it does not serve any more.
pub(super) fn figures(figures: wire::Figures) -> (Vec<(String, FunctionStats)>, Vec<String>) {
    let function = |told: wire::FunctionFigures| {
        let mut stats = FunctionStats {
            warm: told.warm as usize,
            busy: told.busy as usize,
            queued: told.queued as usize,
            invocations: told.invocations,
            cold_starts: told.cold_starts,
            timeouts: told.timeouts,
            crashes: told.crashes,
            ..FunctionStats::default()
        };
        for pair in told.durations.chunks_exact(2) {
            stats.durations.add_step(pair[0], pair[1]);
        }
        (told.function, stats)
    };
    (
        figures.functions.into_iter().map(function).collect(),
        figures.gone,
    )
}

/// An error that the worker told.
pub(super) fn error(error: Option<alyx_proto::common::Error>) -> Error {
    error.and_then(from_wire).unwrap_or_else(|| {
        Error::internal("the function worker told an error that this version does not know")
    })
}

/// What a handler threw.
pub(super) fn thrown(body: &[u8]) -> Thrown {
    #[derive(Deserialize)]
    struct Wire {
        message: String,
        code: Option<String>,
        status: Option<u16>,
        #[serde(default)]
        extra: serde_json::Map<String, serde_json::Value>,
    }
    match serde_json::from_slice::<Wire>(body) {
        Ok(wire) => Thrown {
            code: wire.code,
            status: wire.status,
            message: wire.message,
            extra: wire.extra,
        },
        Err(error) => Thrown {
            code: None,
            status: None,
            message: format!("the handler threw something that cannot be told: {error}"),
            extra: serde_json::Map::new(),
        },
    }
}

/// A line that a handler logged, as it was.
pub(super) fn log_entry(entry: wire::LogEntry) -> LogEntry {
    LogEntry {
        level: entry.level,
        message: entry.message,
        data: entry.data.and_then(|data| serde_json::from_slice(&data).ok()),
        timestamp: entry.timestamp,
    }
}

pub(super) const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}
