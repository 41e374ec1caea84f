//! Which workers there are, what they hold, and which of them gets which call. Plain data: no clock, no I/O.
//!
//! A call goes to a worker where its function has a free place: to the one with less to do of two taken at random.
//! Where none has it warm, all gateways agree on the worker that starts it (rendezvous hashing), so that a function
//! that is rarely called is warm in one place instead of lukewarm in all. Where it is warm and has no free place, it
//! spreads: two at random of all workers, the one with less to do. Where every worker has as much as it takes, calls
//! wait here, earliest deadline first.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Instant;

use alyx_service::function::{FunctionStats, PoolStats};
use alyx_service::state::Runtime;
use rustc_hash::{FxBuildHasher, FxHashMap};
use tokio::sync::oneshot;

/// Waiters that are passed over, at most, to find one whom a free place suits.
const PASSED_OVER: usize = 32;

/// A worker from its arrival to its leaving; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WorkerKey(u64);

/// What a worker said of one runtime when it was reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Calls of one function that it can run at a time.
    pub(super) slots: usize,
    /// Calls at a time in one process.
    pub(super) concurrency: usize,
    /// Calls of one function that it lets wait.
    pub(super) queue: usize,
}

/// What a worker said of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    by_runtime: [Size; Runtime::ALL.len()],
    /// For functions whose runtime is not known.
    any: Size,
}

impl Sizes {
    /// The same for every runtime.
    pub(super) const fn of_all(size: Size) -> Self {
        Self {
            by_runtime: [size; Runtime::ALL.len()],
            any: size,
        }
    }

    pub(super) fn set(&mut self, runtime: Runtime, size: Size) {
        self.by_runtime[runtime as usize] = size;
    }

    fn of(&self, runtime: Option<Runtime>) -> Size {
        runtime.map_or(self.any, |runtime| self.by_runtime[runtime as usize])
    }
}

/// Tells the runtime of a function.
pub(super) type RuntimeOf = Box<dyn Fn(&str) -> Option<Runtime> + Send + Sync>;

/// How busy a function is on a worker, by all gateways.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) function: String,
    pub(super) idle: usize,
    pub(super) in_flight: usize,
    pub(super) queued: usize,
}

/// A place for one call with a worker.
#[derive(Debug)]
pub(super) struct Grant<L> {
    pub(super) worker: WorkerKey,
    pub(super) link: L,
}

/// Earliest deadline first, then first come.
pub(super) type Ticket = (Instant, u64);

/// All workers, and the calls that wait for one. `L` is the way to a worker.
pub(super) struct Roster<L> {
    runtime_of: RuntimeOf,
    workers: Vec<Worker<L>>,
    queues: FxHashMap<String, BTreeMap<Ticket, Waiter<L>>>,
    keys: u64,
    tickets: u64,
    dice: Dice,
}

#[derive(Debug)]
struct Worker<L> {
    key: WorkerKey,
    node: String,
    link: L,
    sizes: Sizes,
    draining: bool,
    /// Calls of this gateway that are with it.
    outstanding: usize,
    uses: FxHashMap<String, Use>,
    pools: BTreeMap<String, PoolStats>,
    figures: BTreeMap<String, FunctionStats>,
}

/// One function on one worker.
#[derive(Debug, Default)]
struct Use {
    /// Calls of this gateway.
    outstanding: usize,
    /// Calls that can run at a time in the processes that there are; `None` where it has said nothing of them.
    slots: Option<usize>,
    /// Calls of other gateways, as far as it is known.
    others: usize,
    /// It has refused the function and is left alone until then.
    blocked_until: Option<Instant>,
}

#[derive(Debug)]
struct Waiter<L> {
    grant: oneshot::Sender<Grant<L>>,
    excluded: Vec<WorkerKey>,
}

impl<L> std::fmt::Debug for Roster<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster")
            .field("workers", &self.workers.len())
            .field("queues", &self.queues.len())
            .finish_non_exhaustive()
    }
}

impl<L: Clone> Roster<L> {
    /// Without workers; `seed` starts the choices at random.
    pub(super) fn new(seed: u64, runtime_of: RuntimeOf) -> Self {
        Self {
            runtime_of,
            workers: Vec::new(),
            queues: FxHashMap::default(),
            keys: 0,
            tickets: 0,
            dice: Dice(seed | 1),
        }
    }

    /// A worker was reached.
    pub(super) fn join(&mut self, node: String, link: L, sizes: Sizes) -> WorkerKey {
        self.keys += 1;
        let key = WorkerKey(self.keys);
        self.workers.push(Worker {
            key,
            node,
            link,
            sizes,
            draining: false,
            outstanding: 0,
            uses: FxHashMap::default(),
            pools: BTreeMap::new(),
            figures: BTreeMap::new(),
        });
        key
    }

    /// A worker is gone.
    pub(super) fn leave(&mut self, key: WorkerKey) {
        self.workers.retain(|worker| worker.key != key);
    }

    /// A worker takes no new calls.
    pub(super) fn drain(&mut self, key: WorkerKey) {
        if let Some(worker) = self.worker(key) {
            worker.draining = true;
        }
    }

    /// A worker told what it holds.
    pub(super) fn advertise(
        &mut self,
        key: WorkerKey,
        loads: Vec<Load>,
        pools: BTreeMap<String, PoolStats>,
        now: Instant,
    ) {
        let Some(worker) = self.worker(key) else { return };
        worker.pools = pools;
        for known in worker.uses.values_mut() {
            known.slots = None;
            known.others = 0;
        }
        for load in loads {
            let known = worker.uses.entry(load.function).or_default();
            known.slots = Some(load.idle + load.in_flight);
            known.others = (load.in_flight + load.queued).saturating_sub(known.outstanding);
        }
        worker
            .uses
            .retain(|_, known| known.slots.is_some() || known.outstanding > 0 || known.is_blocked(now));
    }

    /// A worker refused `function`: it gets none of it before `until`. `false` where that was known already.
    pub(super) fn block(&mut self, key: WorkerKey, function: &str, now: Instant, until: Instant) -> bool {
        let Some(worker) = self.worker(key) else {
            return false;
        };
        let Some(known) = worker.uses.get_mut(function) else {
            return false;
        };
        if known.is_blocked(now) {
            return false;
        }
        known.blocked_until = Some(until);
        true
    }

    /// Finds a worker for a call now. Not while others wait for the same function, unless `excluded` sets it apart.
    pub(super) fn grant(&mut self, function: &str, excluded: &[WorkerKey], now: Instant) -> Option<Grant<L>> {
        if excluded.is_empty() && self.waiting(function) > 0 {
            return None;
        }
        self.take(function, excluded, now)
    }

    /// Waits for a worker until `deadline`. `Err` holds the number of those who wait where there are too many.
    pub(super) fn wait(
        &mut self,
        function: &str,
        excluded: Vec<WorkerKey>,
        deadline: Instant,
        most: usize,
    ) -> Result<(Ticket, oneshot::Receiver<Grant<L>>), usize> {
        let waiting = self.waiting(function);
        if waiting >= most {
            return Err(waiting);
        }
        self.tickets += 1;
        let ticket = (deadline, self.tickets);
        let (grant, granted) = oneshot::channel();
        let waiter = Waiter { grant, excluded };
        match self.queues.get_mut(function) {
            Some(queue) => queue.insert(ticket, waiter),
            None => self
                .queues
                .entry(function.to_owned())
                .or_default()
                .insert(ticket, waiter),
        };
        Ok((ticket, granted))
    }

    /// Gives up waiting.
    pub(super) fn forget(&mut self, function: &str, ticket: Ticket) {
        if let Some(queue) = self.queues.get_mut(function) {
            queue.remove(&ticket);
            if queue.is_empty() {
                self.queues.remove(function);
            }
        }
    }

    /// Gives a place back.
    pub(super) fn release(&mut self, key: WorkerKey, function: &str, now: Instant) {
        if let Some(worker) = self.worker(key) {
            worker.outstanding -= 1;
            if let Some(known) = worker.uses.get_mut(function) {
                known.outstanding -= 1;
            }
        }
        self.serve(function, now);
    }

    /// Hands free places to those who wait for `function`. Who is past the deadline gets none.
    pub(super) fn serve(&mut self, function: &str, now: Instant) {
        let Some(mut queue) = self.queues.remove(function) else {
            return;
        };
        while queue.first_key_value().is_some_and(|(ticket, _)| ticket.0 <= now) {
            queue.pop_first();
        }
        while let Some((ticket, grant)) = self.match_one(function, &queue, now) {
            let Some(waiter) = queue.remove(&ticket) else {
                break;
            };
            if let Err(grant) = waiter.grant.send(grant) {
                self.undo(grant.worker, function);
            }
        }
        if !queue.is_empty() {
            self.queues.insert(function.to_owned(), queue);
        }
    }

    /// Hands free places to all who wait.
    pub(super) fn serve_all(&mut self, now: Instant) {
        let functions: Vec<String> = self.queues.keys().cloned().collect();
        for function in functions {
            self.serve(&function, now);
        }
    }

    /// Workers that take calls, but for those in `excluded`.
    pub(super) fn takers(&self, excluded: &[WorkerKey]) -> usize {
        let workers = self.workers.iter();
        workers
            .filter(|worker| !worker.draining && !excluded.contains(&worker.key))
            .count()
    }

    /// Figures of all workers together.
    pub(super) fn stats(&self) -> BTreeMap<String, PoolStats> {
        let mut sums: BTreeMap<String, PoolStats> = BTreeMap::new();
        for (runtime, pool) in self.workers.iter().flat_map(|worker| &worker.pools) {
            let sum = sums.entry(runtime.clone()).or_default();
            sum.ready += pool.ready;
            sum.busy += pool.busy;
            sum.total += pool.total;
            sum.queued += pool.queued;
            sum.invocations += pool.invocations;
            sum.started += pool.started;
            sum.timeouts += pool.timeouts;
            sum.crashes += pool.crashes;
            sum.cold_starts += pool.cold_starts;
        }
        sums
    }

    /// A worker told what became of calls.
    pub(super) fn learn(&mut self, key: WorkerKey, figures: Vec<(String, FunctionStats)>, gone: &[String]) {
        let Some(worker) = self.worker(key) else { return };
        worker.figures.extend(figures);
        for function in gone {
            worker.figures.remove(function);
        }
    }

    /// Figures of each function on all workers together, with the calls that wait here.
    pub(super) fn function_stats(&self) -> BTreeMap<String, FunctionStats> {
        let mut sums: BTreeMap<String, FunctionStats> = BTreeMap::new();
        for (function, figures) in self.workers.iter().flat_map(|worker| &worker.figures) {
            sums.entry(function.clone()).or_default().merge(figures);
        }
        for (function, queue) in &self.queues {
            sums.entry(function.clone()).or_default().queued += queue.len();
        }
        sums
    }

    /// Calls that wait for `function` here.
    pub(super) fn waiting(&self, function: &str) -> usize {
        self.queues.get(function).map_or(0, BTreeMap::len)
    }

    fn worker(&mut self, key: WorkerKey) -> Option<&mut Worker<L>> {
        self.workers.iter_mut().find(|worker| worker.key == key)
    }

    fn match_one(
        &mut self,
        function: &str,
        queue: &BTreeMap<Ticket, Waiter<L>>,
        now: Instant,
    ) -> Option<(Ticket, Grant<L>)> {
        for (ticket, waiter) in queue.iter().take(PASSED_OVER) {
            if let Some(grant) = self.take(function, &waiter.excluded, now) {
                return Some((*ticket, grant));
            }
            if waiter.excluded.is_empty() {
                return None;
            }
        }
        None
    }

    fn take(&mut self, function: &str, excluded: &[WorkerKey], now: Instant) -> Option<Grant<L>> {
        let at = self.choose(function, excluded, now)?;
        let worker = &mut self.workers[at];
        worker.outstanding += 1;
        match worker.uses.get_mut(function) {
            Some(known) => known.outstanding += 1,
            None => worker.uses.entry(function.to_owned()).or_default().outstanding = 1,
        }
        Some(Grant {
            worker: worker.key,
            link: worker.link.clone(),
        })
    }

    fn undo(&mut self, key: WorkerKey, function: &str) {
        if let Some(worker) = self.worker(key) {
            worker.outstanding -= 1;
            if let Some(known) = worker.uses.get_mut(function) {
                known.outstanding -= 1;
            }
        }
    }

    fn choose(&mut self, function: &str, excluded: &[WorkerKey], now: Instant) -> Option<usize> {
        let (mut free, mut any) = (TwoOf::default(), TwoOf::default());
        let runtime = (self.runtime_of)(function);
        let mut held = false;
        let mut home: Option<(u64, usize)> = None;
        for (at, worker) in self.workers.iter().enumerate() {
            if worker.draining || excluded.contains(&worker.key) {
                continue;
            }
            let known = worker.uses.get(function);
            let size = worker.sizes.of(runtime);
            if known.is_some_and(|known| !known.has_room(size, now)) {
                continue;
            }
            any.offer(at, &mut self.dice);
            let slots = known.map_or(0, |known| known.slots_of(size));
            held |= slots > 0;
            if known.is_some_and(|known| slots > known.outstanding + known.others) {
                free.offer(at, &mut self.dice);
            } else if free.is_empty() {
                let rank = rank(function, &worker.node);
                if home.is_none_or(|(most, _)| rank > most) {
                    home = Some((rank, at));
                }
            }
        }
        if !free.is_empty() {
            return free.lesser(|at| self.workers[at].busyness());
        }
        if !held {
            return home.map(|(_, at)| at);
        }
        any.lesser(|at| self.workers[at].busyness())
    }
}

impl<L> Worker<L> {
    /// Its calls against what it can run, for comparing.
    fn busyness(&self) -> (usize, usize) {
        (self.outstanding, self.sizes.any.slots.max(1))
    }
}

impl Use {
    fn is_blocked(&self, now: Instant) -> bool {
        self.blocked_until.is_some_and(|until| now < until)
    }

    fn has_room(&self, size: Size, now: Instant) -> bool {
        self.outstanding < size.slots + size.queue && !self.is_blocked(now)
    }

    /// What can run at a time. A worker that has calls and says nothing of the function yet is starting a process.
    fn slots_of(&self, size: Size) -> usize {
        self.slots
            .unwrap_or(if self.outstanding > 0 { size.concurrency } else { 0 })
    }
}

/// Two at random of those that are offered.
#[derive(Debug, Default)]
struct TwoOf {
    offered: u64,
    taken: [Option<usize>; 2],
}

impl TwoOf {
    fn offer(&mut self, at: usize, dice: &mut Dice) {
        let place = if self.offered < 2 {
            self.offered
        } else {
            dice.below(self.offered + 1)
        };
        self.offered += 1;
        match place {
            0 => self.taken[0] = Some(at),
            1 => self.taken[1] = Some(at),
            _ => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.offered == 0
    }

    /// The one of the two with the smaller fraction.
    fn lesser(&self, busyness: impl Fn(usize) -> (usize, usize)) -> Option<usize> {
        match self.taken {
            [Some(one), Some(other)] => {
                let ((calls, slots), (other_calls, other_slots)) = (busyness(one), busyness(other));
                Some(if calls * other_slots <= other_calls * slots {
                    one
                } else {
                    other
                })
            }
            [one, other] => one.or(other),
        }
    }
}

/// How much `node` is the home of `function`, compared with other nodes.
fn rank(function: &str, node: &str) -> u64 {
    let mut hasher = FxBuildHasher.build_hasher();
    hasher.write(function.as_bytes());
    hasher.write_u8(0);
    hasher.write(node.as_bytes());
    // Spreads what the fast hash leaves close together (the finaliser of SplitMix64).
    let mut bits = hasher.finish();
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Numbers at random that need not be secret (xorshift64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % most
    }
}

#[cfg(test)]
mod tests;
