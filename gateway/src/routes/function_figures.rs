//! What `/api/functions/stats` tells of functions and of the pools that they run in.

use std::collections::BTreeMap;

use alyx_service::durations::Durations;
use alyx_service::function::{FunctionStats, PoolStats, SharedFunctions};
use alyx_service::state::DesiredState;
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Figures {
    pools: BTreeMap<String, Pool>,
    functions: BTreeMap<String, Function>,
}

#[derive(Serialize)]
struct Pool {
    #[serde(flatten)]
    stats: PoolStats,
    #[serde(flatten)]
    times: Times,
}

#[derive(Serialize)]
struct Function {
    runtime: &'static str,
    warm: usize,
    busy: usize,
    queued: usize,
    invocations: u64,
    cold_starts: u64,
    timeouts: u64,
    crashes: u64,
    #[serde(flatten)]
    times: Times,
}

/// How long recent calls took, in milliseconds; null where there were none.
#[derive(Serialize)]
struct Times {
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl Figures {
    /// The figures of what is served now.
    pub(super) fn of(service: &SharedFunctions, state: &DesiredState) -> Self {
        let mut told = service.function_stats();
        let mut by_runtime: BTreeMap<&'static str, Durations> = BTreeMap::new();
        let functions = state.functions.values().map(|function| {
            let stats = told.remove(&function.name).unwrap_or_default();
            let runtime = function.runtime.name();
            by_runtime.entry(runtime).or_default().merge(&stats.durations);
            (function.name.clone(), Function::of(runtime, &stats))
        });
        let functions = functions.collect();
        let pools = service.stats().into_iter().map(|(runtime, stats)| {
            let times = by_runtime
                .get(runtime.as_str())
                .map(Times::of)
                .unwrap_or(Times::NONE);
            (runtime, Pool { stats, times })
        });
        Self {
            pools: pools.collect(),
            functions,
        }
    }
}

impl Function {
    fn of(runtime: &'static str, stats: &FunctionStats) -> Self {
        Self {
            runtime,
            warm: stats.warm,
            busy: stats.busy,
            queued: stats.queued,
            invocations: stats.invocations,
            cold_starts: stats.cold_starts,
            timeouts: stats.timeouts,
            crashes: stats.crashes,
            times: Times::of(&stats.durations),
        }
    }
}

impl Times {
    const NONE: Self = Self {
        p50_ms: None,
        p99_ms: None,
    };

    fn of(durations: &Durations) -> Self {
        let ms = |share| {
            let micros = durations.quantile(share)?.as_secs_f64() * 1e6;
            Some(micros.round() / 1e3)
        };
        Self {
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
        }
    }
}
