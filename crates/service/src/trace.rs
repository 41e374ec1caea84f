//! Which trace the present piece of work belongs to. Set where a request enters a process, and read where something
//! leaves it: a call of another role, a commit, a function's frame, a line of the log.
//!
//! A task that is spawned starts without one; whoever spawns it for a request hands its trace over with [`within`].

use std::future::Future;

use alyx_core::TraceContext;
use tokio::task::futures::TaskLocalFuture;
use tokio::task_local;

task_local! {
    static CURRENT: TraceContext;
}

/// The trace of this task's work, if it has one.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|trace| *trace).ok()
}

/// Work that is a part of a trace.
pub type Scoped<F> = TaskLocalFuture<TraceContext, F>;

/// Makes work a part of that trace.
pub fn scoped<F: Future>(trace: TraceContext, work: F) -> Scoped<F> {
    CURRENT.scope(trace, work)
}

/// Does work as a part of that trace, and as a part of the present one where there is none.
pub async fn within<F: Future>(trace: Option<TraceContext>, work: F) -> F::Output {
    match trace {
        Some(trace) => scoped(trace, work).await,
        None => work.await,
    }
}

/// The same for work that does not wait.
pub fn sync_within<T>(trace: Option<TraceContext>, work: impl FnOnce() -> T) -> T {
    match trace {
        Some(trace) => CURRENT.sync_scope(trace, work),
        None => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_knows_its_trace_and_no_other() {
        let (outer, inner) = (TraceContext::new(), TraceContext::new());
        assert_eq!(current(), None);
        within(Some(outer), async {
            assert_eq!(current(), Some(outer));
            within(Some(inner), async { assert_eq!(current(), Some(inner)) }).await;
            within(None, async { assert_eq!(current(), Some(outer)) }).await;
            assert_eq!(current(), Some(outer));
        })
        .await;
        assert_eq!(current(), None);
        assert_eq!(sync_within(Some(outer), current), Some(outer));
    }
}
