//! What a worker tells a gateway of itself: once what it can hold, then what is warm, whenever that changes, and each
//! second what became of calls.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alyx_proto::functions as wire;
use alyx_proto::functions::worker_message::Body;
use alyx_service::function::{FunctionService as _, FunctionStats};
use alyx_service::state::Runtime;

use crate::grpc::convert;
use crate::options::WorkerOptions;
use crate::worker::FunctionWorker;

/// Between two looks at how many calls there are; processes that come and go are told at once.
pub(super) const EVERY: Duration = Duration::from_millis(100);
/// Between two messages at least.
pub(super) const AT_LEAST: Duration = Duration::from_millis(10);
/// Between two messages of figures.
const FIGURES_EVERY: Duration = Duration::from_secs(1);
/// Functions in one such message.
const FIGURES_BATCH: usize = 200;
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
        places: Runtime::ALL.map(|runtime| places(options, runtime)).into(),
    })
}

/// What one runtime can hold.
fn places(options: &WorkerOptions, runtime: Runtime) -> wire::Places {
    let slots = options.slots_of(runtime);
    wire::Places {
        runtime: runtime.name().to_owned(),
        slots: convert::saturating(slots),
        concurrency: convert::saturating(options.pool(runtime).concurrency.max(1)),
        queue: convert::saturating(options.queue.min(slots)),
    }
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

/// The figures of functions as one stream has told them.
#[derive(Debug, Default)]
pub(super) struct ToldFigures {
    last: BTreeMap<String, FunctionStats>,
    at: Option<Instant>,
}

impl ToldFigures {
    /// What is new since it was told last, where it is time to tell it.
    pub(super) fn news(&mut self, worker: &FunctionWorker) -> Vec<Body> {
        let now = Instant::now();
        if self.at.is_some_and(|at| now.duration_since(at) < FIGURES_EVERY) {
            return Vec::new();
        }
        self.at = Some(now);
        self.difference(worker.function_stats())
    }

    fn difference(&mut self, figures: BTreeMap<String, FunctionStats>) -> Vec<Body> {
        let last = std::mem::replace(&mut self.last, figures);
        let changed: Vec<_> = self
            .last
            .iter()
            .filter(|(function, stats)| last.get(*function) != Some(*stats))
            .map(|(function, stats)| convert::figures(function.clone(), stats))
            .collect();
        let gone: Vec<String> = last
            .into_keys()
            .filter(|function| !self.last.contains_key(function))
            .collect();
        let changed = changed.chunks(FIGURES_BATCH).map(|functions| wire::Figures {
            functions: functions.to_vec(),
            gone: Vec::new(),
        });
        let gone = gone.chunks(FIGURES_BATCH).map(|gone| wire::Figures {
            functions: Vec::new(),
            gone: gone.to_vec(),
        });
        changed.chain(gone).map(Body::Figures).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(invocations: u64) -> FunctionStats {
        FunctionStats {
            invocations,
            ..FunctionStats::default()
        }
    }

    fn names(told: &[Body]) -> (Vec<&str>, Vec<&str>) {
        let figures = || {
            told.iter().filter_map(|body| match body {
                Body::Figures(figures) => Some(figures),
                _ => None,
            })
        };
        let changed = figures().flat_map(|figures| &figures.functions);
        let gone = figures().flat_map(|figures| &figures.gone);
        (
            changed.map(|one| one.function.as_str()).collect(),
            gone.map(String::as_str).collect(),
        )
    }

    #[test]
    fn only_what_changed_is_told() {
        let mut told = ToldFigures::default();
        let figures = |pairs: &[(&str, u64)]| {
            let pairs = pairs
                .iter()
                .map(|(name, count)| ((*name).to_owned(), stats(*count)));
            pairs.collect::<BTreeMap<_, _>>()
        };
        let first = told.difference(figures(&[("a", 1), ("b", 1)]));
        assert_eq!(names(&first), (vec!["a", "b"], vec![]));
        assert!(told.difference(figures(&[("a", 1), ("b", 1)])).is_empty());
        let next = told.difference(figures(&[("a", 2)]));
        assert_eq!(names(&next), (vec!["a"], vec!["b"]));
        let many: Vec<String> = (0..450).map(|number| number.to_string()).collect();
        let many = many.into_iter().map(|name| (name, stats(1))).collect();
        assert_eq!(
            told.difference(many).len(),
            4,
            "three of changed ones, one of those that are gone"
        );
    }
}
