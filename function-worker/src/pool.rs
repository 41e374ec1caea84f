//! Which processes there are, by function and version. Plain data under one lock that is held for moments and
//! never across a wait; `schedule` decides what happens to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alyx_core::Result;
use alyx_service::function::{FunctionStats, PoolStats};
use alyx_service::state::Function;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::failure::{self, StartError};
use crate::frame::FrameType;
use crate::instance::Instance;
use crate::schedule::{Counters, Slot};
use crate::stem::Stem;

const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_MOST: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub(crate) groups: FxHashMap<String, Group>,
    pub(crate) stems: Vec<Stem>,
    pub(crate) stems_starting: usize,
    /// Processes that take no new calls.
    pub(crate) retired: Vec<Arc<Instance>>,
    /// Calls in all queues.
    pub(crate) waiting: usize,
    pub(crate) tickets: u64,
    pub(crate) stopping: bool,
}

/// One function's part of the pool.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) function: Arc<Function>,
    pub(crate) instances: Vec<Arc<Instance>>,
    pub(crate) loading: usize,
    pub(crate) queue: BTreeMap<Ticket, Waiter>,
    /// A look at the queue is due.
    pub(crate) watched: bool,
    pub(crate) failure: Option<Failure>,
}

/// Earliest deadline first, then first come.
pub(crate) type Ticket = (Instant, u64);

#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) since: Instant,
    pub(crate) grant: oneshot::Sender<Result<Slot>>,
}

/// How busy one function is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FunctionLoad {
    pub(crate) function: String,
    /// Calls that could start at once.
    pub(crate) idle: usize,
    pub(crate) in_flight: usize,
    pub(crate) queued: usize,
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: StartError,
    pub(crate) until: Instant,
    pub(crate) attempts: u32,
}

/// Whether two declarations run the same code in the same surroundings.
pub(crate) fn same_code(one: &Arc<Function>, other: &Arc<Function>) -> bool {
    Arc::ptr_eq(one, other)
        || (one.version == other.version
            && one.root == other.root
            && one.entrypoint == other.entrypoint
            && one.memory_mib == other.memory_mib
            && one.env == other.env)
}

impl Group {
    pub(crate) fn new(function: Arc<Function>) -> Self {
        Self {
            function,
            instances: Vec::new(),
            loading: 0,
            queue: BTreeMap::new(),
            watched: false,
            failure: None,
        }
    }

    /// The process with the fewest calls among those that take one more, which is counted in.
    pub(crate) fn pick(&self) -> Option<&Arc<Instance>> {
        let (_, instance) = self
            .instances
            .iter()
            .filter(|instance| instance.is_responsive())
            .map(|instance| (instance.in_flight.load(Ordering::Relaxed), instance))
            .filter(|(calls, instance)| *calls < instance.concurrency)
            .min_by_key(|(calls, _)| *calls)?;
        instance.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(instance)
    }

    /// Notes that its code does not start, and tells those who wait for nothing else. Returns how many.
    pub(crate) fn fail(&mut self, error: StartError) -> usize {
        let attempts = self.failure.as_ref().map_or(0, |failed| failed.attempts);
        let backoff = BACKOFF_FIRST
            .saturating_mul(1 << attempts.min(6))
            .min(BACKOFF_MOST);
        let mut told = 0;
        if self.instances.is_empty() {
            for (_, waiter) in std::mem::take(&mut self.queue) {
                told += 1;
                // Who left the queue needs no answer.
                let _ = waiter
                    .grant
                    .send(Err(failure::unavailable(&self.function.name, &error, backoff)));
            }
        }
        self.failure = Some(Failure {
            error,
            until: Instant::now() + backoff,
            attempts: attempts + 1,
        });
        told
    }

    /// Whether there is anything to remember.
    pub(crate) fn is_used(&self, now: Instant) -> bool {
        let failing = self
            .failure
            .as_ref()
            .is_some_and(|failed| now < failed.until + BACKOFF_MOST);
        failing || self.watched || self.loading > 0 || !self.instances.is_empty() || !self.queue.is_empty()
    }
}

impl Pool {
    /// The group of `function`, moved on to this version of it.
    pub(crate) fn group(&mut self, function: &Arc<Function>) -> &mut Group {
        if !self.groups.contains_key(&function.name) {
            self.groups
                .insert(function.name.clone(), Group::new(Arc::clone(function)));
        }
        self.adopt(function);
        self.groups
            .get_mut(&function.name)
            .expect("inserted above where it was missing")
    }

    /// Retires the processes of an older version.
    pub(crate) fn adopt(&mut self, function: &Arc<Function>) {
        let Some(group) = self.groups.get_mut(&function.name) else {
            return;
        };
        if Arc::ptr_eq(&group.function, function) {
            return;
        }
        let same = same_code(&group.function, function);
        group.function = Arc::clone(function);
        if !same {
            group.failure = None;
            for instance in std::mem::take(&mut group.instances) {
                self.put_aside(instance);
            }
        }
    }

    /// No new calls; ends at once where there are none.
    pub(crate) fn put_aside(&mut self, instance: Arc<Instance>) {
        instance.retired.store(true, Ordering::Relaxed);
        if instance.in_flight.load(Ordering::Relaxed) == 0 {
            *instance.idle_since.lock() = Instant::now();
            instance.outbox.signal(FrameType::Drain, 0);
        }
        self.retired.push(instance);
    }

    pub(crate) fn retire(&mut self, instance: &Arc<Instance>) {
        if let Some(group) = self.groups.get_mut(&instance.function.name)
            && let Some(at) = group.instances.iter().position(|other| other.id == instance.id)
        {
            let instance = group.instances.swap_remove(at);
            self.put_aside(instance);
        }
    }

    /// Whether one more process may be started for `name`, after putting another aside where that helps.
    pub(crate) fn make_room(&mut self, name: &str, most: usize) -> bool {
        let held: usize = self
            .groups
            .values()
            .map(|group| group.instances.len() + group.loading)
            .sum();
        if held + self.retired.len() >= 2 * most {
            return false;
        }
        if held < most {
            return true;
        }
        let has_none = self
            .groups
            .get(name)
            .is_some_and(|group| group.instances.is_empty() && group.loading == 0);
        let victim = self
            .groups
            .iter()
            .filter(|(other, _)| *other != name)
            .flat_map(|(_, group)| {
                group
                    .instances
                    .iter()
                    .map(move |instance| (group.instances.len(), instance))
            })
            .map(|(siblings, instance)| {
                let calls = instance.in_flight.load(Ordering::Relaxed);
                (
                    calls > 0,
                    siblings == 1,
                    calls,
                    *instance.idle_since.lock(),
                    instance,
                )
            })
            .min_by_key(|(busy, alone, calls, since, _)| (*busy, *busy && *alone, *calls, *since));
        match victim {
            Some((busy, .., instance)) if !busy || has_none => {
                let instance = Arc::clone(instance);
                self.retire(&instance);
                true
            }
            _ => false,
        }
    }

    /// All processes that hold a function.
    pub(crate) fn instances(&self) -> Vec<Arc<Instance>> {
        let held = self.groups.values().flat_map(|group| &group.instances);
        held.chain(&self.retired).cloned().collect()
    }

    /// Whether nothing runs and nothing waits.
    pub(crate) fn is_quiet(&self) -> bool {
        self.waiting == 0
            && self
                .instances()
                .iter()
                .all(|instance| instance.in_flight.load(Ordering::Relaxed) == 0)
    }

    /// The functions that have a process.
    pub(crate) fn loads(&self) -> Vec<FunctionLoad> {
        let held = self.groups.values().filter(|group| !group.instances.is_empty());
        held.map(|group| {
            let calls = |instance: &Arc<Instance>| instance.in_flight.load(Ordering::Relaxed);
            let responsive = group.instances.iter().filter(|instance| instance.is_responsive());
            FunctionLoad {
                function: group.function.name.clone(),
                idle: responsive
                    .map(|one| one.concurrency.saturating_sub(calls(one)))
                    .sum(),
                in_flight: group.instances.iter().map(calls).sum(),
                queued: group.queue.len(),
            }
        })
        .collect()
    }

    /// Adds to the figures of each function what it holds now: processes, and calls that wait for one.
    pub(crate) fn count_into(&self, figures: &mut BTreeMap<String, FunctionStats>) {
        for (name, group) in &self.groups {
            let calls = group.instances.iter();
            let busy = calls
                .filter(|instance| instance.in_flight.load(Ordering::Relaxed) > 0)
                .count();
            let (warm, queued) = (group.instances.len() - busy, group.queue.len());
            if warm + busy + queued > 0 || figures.contains_key(name) {
                let figures = figures.entry(name.clone()).or_default();
                (figures.warm, figures.busy, figures.queued) = (warm, busy, queued);
            }
        }
    }

    pub(crate) fn stats(&self, counters: &Counters) -> PoolStats {
        let instances = self.instances();
        let loading: usize = self.groups.values().map(|group| group.loading).sum();
        let busy = instances
            .iter()
            .filter(|one| one.in_flight.load(Ordering::Relaxed) > 0)
            .count();
        PoolStats {
            ready: instances.len() - busy + self.stems.len(),
            busy,
            total: instances.len() + loading + self.stems.len() + self.stems_starting,
            queued: self.waiting,
            invocations: counters.invocations.load(Ordering::Relaxed),
            started: counters.started.load(Ordering::Relaxed),
            timeouts: counters.timeouts.load(Ordering::Relaxed),
            crashes: counters.crashes.load(Ordering::Relaxed),
            cold_starts: counters.cold_starts.load(Ordering::Relaxed),
        }
    }
}
