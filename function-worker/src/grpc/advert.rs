//! What a worker tells a gateway of itself: once what it can hold, then what is warm, whenever that changes.

use std::time::Duration;

use alyx_proto::functions as wire;
use alyx_proto::functions::worker_message::Body;
use alyx_service::function::FunctionService as _;
use alyx_service::state::Runtime;

use crate::grpc::convert;
use crate::worker::FunctionWorker;

/// Between two looks at how many calls there are; processes that come and go are told at once.
pub(super) const EVERY: Duration = Duration::from_millis(100);
/// Between two messages at least.
pub(super) const AT_LEAST: Duration = Duration::from_millis(10);
/// Longest look for the runtimes.
const LOOK: Duration = Duration::from_millis(500);

/// The greeting.
pub(super) async fn hello(worker: &FunctionWorker) -> Body {
    let runtimes = tokio::time::timeout(LOOK, worker.runtimes())
        .await
        .unwrap_or_default();
    let options = worker.options();
    let slots = options.slots();
    let pools = Runtime::ALL.map(|runtime| options.pool(runtime).concurrency);
    let concurrency = pools.into_iter().max().unwrap_or(1).max(1);
    Body::Hello(wire::Hello {
        runtimes: runtimes
            .into_iter()
            .map(|runtime| runtime.name().to_owned())
            .collect(),
        slots: convert::saturating(slots),
        concurrency: convert::saturating(concurrency),
        // One batch more than can run: enough that no process waits for the way to the gateway.
        queue: convert::saturating(options.queue.min(slots)),
    })
}

/// What is warm, and how busy the processes are.
pub(super) fn capacity(worker: &FunctionWorker) -> wire::Capacity {
    let mut functions: Vec<_> = worker.loads().into_iter().map(convert::load).collect();
    functions.sort_unstable_by(|one, other| one.function.cmp(&other.function));
    wire::Capacity {
        functions,
        pools: worker
            .stats()
            .into_iter()
            .map(|(runtime, stats)| convert::pool(runtime, &stats))
            .collect(),
    }
}
