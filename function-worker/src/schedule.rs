//! Decides which process runs which call.
//!
//! A call goes to the process of its function with the fewest calls, below the concurrency bound. Where there is
//! none it waits, earliest deadline first, and the pool grows: at once for a function without a process, otherwise
//! when the first in line has waited for a while, so that a burst of short calls is worked off instead of paid for
//! with new processes. At the cap an idle process of another function makes room; a function with no process at all
//! also takes the place of a busy one, which then ends after its calls.
//!
//! Every decision is taken under the pool's lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alyx_core::Result;
use alyx_service::state::{Function, Runtime};
use alyx_service::tasks::Tasks;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::failure::{self, StartError};
use crate::frame::FrameType;
use crate::go::Compiler;
use crate::instance::Instance;
use crate::interpreter::Finder;
use crate::options::{PoolOptions, WorkerOptions};
use crate::pool::{Pool, Ticket, Waiter, same_code};
use crate::sandbox::Sandbox;
use crate::stem::Spawner;

/// How long the first in line waits before its function gets one more process.
const PATIENCE: Duration = Duration::from_millis(10);

/// How long before its deadline a call hears that its function is still being compiled: a gateway elsewhere gives up at
/// the deadline, and would not hear it any more.
const EARLY: Duration = Duration::from_millis(200);

/// What the parts of a worker share that runs the functions of one runtime.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) runtime: Runtime,
    pub(crate) options: WorkerOptions,
    pub(crate) tasks: Tasks,
    pub(crate) finder: Finder,
    pub(crate) compiler: Compiler,
    pub(crate) spawner: Option<Arc<Spawner>>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) pool: Mutex<Pool>,
    pub(crate) counters: Counters,
    /// Told of every call that ends while the worker drains.
    pub(crate) quiet: Notify,
    /// Told of every process that a function of any runtime gets or loses.
    pub(crate) moved: Arc<Notify>,
}

/// Counts since start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) invocations: AtomicU64,
    pub(crate) started: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) crashes: AtomicU64,
    pub(crate) cold_starts: AtomicU64,
    pub(crate) instances: AtomicU64,
}

/// The right to run one call in one process; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    held: Option<(Arc<Shared>, Arc<Instance>)>,
}

impl Slot {
    /// Where the call is to run.
    pub(crate) fn instance(&self) -> Arc<Instance> {
        let (_, instance) = self.held.as_ref().expect("held until dropped");
        Arc::clone(instance)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((shared, instance)) = self.held.take() {
            shared.release(&instance);
        }
    }
}

/// Whether a call can run now.
#[derive(Debug)]
pub(crate) enum Admission {
    Now(Arc<Function>, Slot),
    Later(Arc<Function>, Place),
}

/// A place in a function's queue, left when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    function: String,
    ticket: Ticket,
    cold: bool,
    granted: oneshot::Receiver<Result<Slot>>,
}

impl Place {
    /// Whether the function had no process when the place was taken.
    pub(crate) fn is_cold(&self) -> bool {
        self.cold
    }

    /// Waits for a process until the deadline that the place was taken with.
    pub(crate) async fn wait(mut self) -> Result<Slot> {
        let deadline = self.ticket.0;
        let early = deadline.checked_sub(EARLY).unwrap_or(deadline);
        let mut granted = tokio::time::timeout_at(early.into(), &mut self.granted).await;
        if granted.is_err() {
            if self.shared.compiler.is_at_work_on(&self.function) {
                return Err(failure::compiling(&self.function));
            }
            granted = tokio::time::timeout_at(deadline.into(), &mut self.granted).await;
        }
        match granted {
            Ok(Ok(granted)) => granted,
            Ok(Err(_)) => Err(failure::not_found(&self.function)),
            Err(_) => Err(failure::waited_too_long(&self.function)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut pool = self.shared.pool.lock();
        if let Some(group) = pool.groups.get_mut(&self.function)
            && group.queue.remove(&self.ticket).is_some()
        {
            pool.waiting -= 1;
        }
    }
}

impl Shared {
    pub(crate) fn limits(&self) -> &PoolOptions {
        self.options.pool(self.runtime)
    }

    /// The function of that name as it is now, where it is one of this runtime.
    pub(crate) fn function(&self, name: &str) -> Option<Arc<Function>> {
        let state = self.options.state.borrow();
        let function = state.functions.get(name)?;
        (function.runtime == self.runtime).then(|| Arc::clone(function))
    }

    /// Whether any function is of this runtime.
    pub(crate) fn is_used(&self) -> bool {
        let state = self.options.state.borrow();
        state
            .functions
            .values()
            .any(|function| function.runtime == self.runtime)
    }

    fn slot(self: &Arc<Self>, instance: &Arc<Instance>) -> Slot {
        Slot {
            held: Some((Arc::clone(self), Arc::clone(instance))),
        }
    }

    /// Finds a process for one call of `name`, or a place in its queue until `deadline` at most.
    pub(crate) fn admit(self: &Arc<Self>, name: &str, now: Instant, deadline: Instant) -> Result<Admission> {
        let mut pool = self.pool.lock();
        // Looked up under the lock: an older version can then never follow a newer one.
        let function = self.function(name).ok_or_else(|| failure::not_found(name))?;
        if pool.stopping {
            return Err(failure::stopping(name));
        }
        let group = pool.group(&function);
        if group.queue.is_empty()
            && let Some(instance) = group.pick()
        {
            return Ok(Admission::Now(function, self.slot(instance)));
        }
        if let Some(failed) = &group.failure
            && group.instances.is_empty()
            && group.loading == 0
            && now < failed.until
        {
            return Err(failure::unavailable(name, &failed.error, failed.until - now));
        }
        if group.queue.len() >= self.options.queue {
            return Err(failure::overloaded(name, group.queue.len()));
        }
        let (grant, granted) = oneshot::channel();
        pool.tickets += 1;
        // The function's own timeout is for its run: the start of a process is not held against it.
        let longest = function.timeout.saturating_add(self.options.load_timeout);
        let ticket = (
            now.checked_add(longest).map_or(deadline, |at| at.min(deadline)),
            pool.tickets,
        );
        let group = pool.group(&function);
        let cold = group.instances.is_empty();
        group.queue.insert(ticket, Waiter { since: now, grant });
        pool.waiting += 1;
        self.grow(&mut pool, name, now);
        Ok(Admission::Later(
            function,
            Place {
                shared: Arc::clone(self),
                function: name.to_owned(),
                ticket,
                cold,
                granted,
            },
        ))
    }

    /// Starts a process for a queue that needs one, now or when it has been waited for long enough.
    fn grow(self: &Arc<Self>, pool: &mut Pool, name: &str, now: Instant) {
        let Some(group) = pool.groups.get(name) else {
            return;
        };
        let Some((_, first)) = group.queue.first_key_value() else {
            return;
        };
        let due = group.instances.is_empty() || now.duration_since(first.since) >= PATIENCE;
        if due
            && group.loading == 0
            && pool.make_room(name, self.limits().max_instances)
            && let Some(group) = pool.groups.get_mut(name)
        {
            group.loading += 1;
            let function = Arc::clone(&group.function);
            self.tasks
                .spawn_detached(Arc::clone(self).start_instance(function));
        }
        if let Some(group) = pool.groups.get_mut(name)
            && !group.watched
            && !group.instances.is_empty()
        {
            group.watched = true;
            let shared = Arc::clone(self);
            let name = name.to_owned();
            self.tasks.spawn_detached(async move {
                tokio::time::sleep(PATIENCE).await;
                let mut pool = shared.pool.lock();
                if let Some(group) = pool.groups.get_mut(&name) {
                    group.watched = false;
                }
                shared.grow(&mut pool, &name, Instant::now());
            });
        }
    }

    /// Lets every queue that waits try again.
    fn grow_all(self: &Arc<Self>, pool: &mut Pool) {
        if pool.waiting == 0 {
            return;
        }
        let waiting = pool.groups.iter().filter(|(_, group)| !group.queue.is_empty());
        let names: Vec<String> = waiting.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.serve(pool, &name);
            self.grow(pool, &name, Instant::now());
        }
    }

    /// Hands free places of `name` to those who wait.
    fn serve(self: &Arc<Self>, pool: &mut Pool, name: &str) {
        let Some(group) = pool.groups.get_mut(name) else {
            return;
        };
        while !group.queue.is_empty() {
            let Some(instance) = group.pick().cloned() else {
                return;
            };
            let Some((_, waiter)) = group.queue.pop_first() else {
                return;
            };
            pool.waiting -= 1;
            if let Err(Ok(mut slot)) = waiter.grant.send(Ok(self.slot(&instance))) {
                // Nobody waits any more. Given back by hand: dropping it would take the lock again.
                slot.held = None;
                instance.in_flight.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn release(self: &Arc<Self>, instance: &Arc<Instance>) {
        let mut pool = self.pool.lock();
        let last = instance.in_flight.fetch_sub(1, Ordering::Relaxed) == 1;
        if last {
            *instance.idle_since.lock() = Instant::now();
            if instance.retired.load(Ordering::Relaxed) {
                instance.outbox.signal(FrameType::Drain, 0);
            }
        }
        if pool.waiting > 0 {
            self.serve(&mut pool, &instance.function.name);
            if last {
                self.grow_all(&mut pool);
            }
        }
        if pool.stopping {
            self.quiet.notify_waiters();
        }
    }

    /// Gives no more calls to `instance`; it ends after those it has.
    pub(crate) fn retire(self: &Arc<Self>, instance: &Arc<Instance>) {
        let mut pool = self.pool.lock();
        pool.retire(instance);
        self.grow_all(&mut pool);
        self.moved.notify_waiters();
    }

    /// Its event loop turns again.
    pub(crate) fn unblocked(self: &Arc<Self>, instance: &Arc<Instance>) {
        let mut pool = self.pool.lock();
        self.serve(&mut pool, &instance.function.name);
    }

    /// Forgets a process that has ended and tells its calls.
    pub(crate) fn gone(self: &Arc<Self>, instance: &Arc<Instance>, reason: &Arc<str>) {
        {
            let mut pool = self.pool.lock();
            pool.retire(instance);
            pool.retired.retain(|other| other.id != instance.id);
            self.grow_all(&mut pool);
        }
        self.moved.notify_waiters();
        let lost = instance.pending.lock().len();
        if lost > 0 {
            self.counters.crashes.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                function = instance.function.name,
                lost,
                reason = &**reason,
                "a function's process ended"
            );
        }
        instance.finish_all(reason);
    }

    /// Takes in what became of one start.
    pub(crate) fn started(
        self: &Arc<Self>,
        function: &Arc<Function>,
        result: std::result::Result<Arc<Instance>, StartError>,
    ) {
        let mut guard = self.pool.lock();
        let pool = &mut *guard;
        let group = pool.groups.get_mut(&function.name);
        let wanted = self.function(&function.name).is_some();
        let current = group.filter(|group| wanted && same_code(&group.function, function));
        match (result, current) {
            (Ok(instance), Some(group)) => {
                group.failure = None;
                group.instances.push(instance);
            }
            (Ok(instance), None) => pool.put_aside(instance),
            (Err(error), Some(group)) => pool.waiting -= group.fail(error),
            (Err(_), None) => {}
        }
        if let Some(group) = pool.groups.get_mut(&function.name) {
            group.loading -= 1;
        }
        self.grow_all(pool);
        self.moved.notify_waiters();
    }

    /// Moves on to the state as it is now: older versions finish what they have, removed functions end.
    pub(crate) fn follow_state(self: &Arc<Self>) {
        let mut pool = self.pool.lock();
        let names: Vec<String> = pool.groups.keys().cloned().collect();
        for name in names {
            if let Some(function) = self.function(&name) {
                pool.adopt(&function);
                continue;
            }
            let Some(group) = pool.groups.get_mut(&name) else {
                continue;
            };
            let waiters = std::mem::take(&mut group.queue);
            let instances = std::mem::take(&mut group.instances);
            if group.loading == 0 {
                pool.groups.remove(&name);
            }
            pool.waiting -= waiters.len();
            for (_, waiter) in waiters {
                let _ = waiter.grant.send(Err(failure::not_found(&name)));
            }
            for instance in instances {
                pool.put_aside(instance);
            }
        }
        self.grow_all(&mut pool);
    }

    /// Ends processes that have been idle for too long, and retired ones that do not end by themselves.
    pub(crate) fn sweep(self: &Arc<Self>, now: Instant) {
        const UNWILLING: Duration = Duration::from_secs(1);
        let mut pool = self.pool.lock();
        let idle = |instance: &Arc<Instance>, longest: Duration| {
            instance.in_flight.load(Ordering::Relaxed) == 0
                && now.saturating_duration_since(*instance.idle_since.lock()) >= longest
        };
        for instance in pool.retired.iter().filter(|instance| idle(instance, UNWILLING)) {
            instance.kill("it was to end and did not");
        }
        let held = pool.groups.values().flat_map(|group| &group.instances);
        let unused: Vec<_> = held
            .filter(|one| idle(one, self.limits().idle_timeout))
            .cloned()
            .collect();
        for instance in unused {
            pool.retire(&instance);
        }
        pool.groups.retain(|_, group| group.is_used(now));
        self.grow_all(&mut pool);
    }

    /// Reserves the start of a stem where one is missing and could be used.
    pub(crate) fn wants_stem(&self) -> bool {
        let mut pool = self.pool.lock();
        let held: usize = pool
            .groups
            .values()
            .map(|group| group.instances.len() + group.loading)
            .sum();
        let wanted = self
            .limits()
            .min_warm
            .min(self.limits().max_instances.saturating_sub(held));
        let wants = self.finder.recipe().prepare.is_some()
            && !pool.stopping
            && self.is_used()
            && pool.stems.len() + pool.stems_starting < wanted;
        if wants {
            pool.stems_starting += 1;
        }
        wants
    }
}
