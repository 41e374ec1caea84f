//! The worker: the seam's functions, the start of processes, the regular watch, and the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alyx_core::Result;
use alyx_sandbox::Wall;
use alyx_service::function::{Completion, FunctionService, FunctionStats, Invocation, PoolStats};
use alyx_service::health::{HealthCheck, Report, Status};
use alyx_service::state::{Function, Runtime};
use alyx_service::tasks::{OnEnd, Tasks};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::failure::{self, StartError};
use crate::figures::Figures;
use crate::go::{self, Compiler, GO};
use crate::instance::{self, Ended, Instance, Loading};
use crate::interpreter::{Finder, Interpreter, Recipe};
use crate::node::NODE;
use crate::options::WorkerOptions;
use crate::pool::{FunctionLoad, Pool};
use crate::python::PYTHON;
use crate::sandbox::Sandbox;
use crate::schedule::{Admission, Counters, Shared};
use crate::stem::{self, RUNTIME_MIB, Spawner, Stem};
use crate::{link, sandbox, supervise};

/// Between two rounds of the watch.
const ROUND: Duration = Duration::from_millis(100);
/// Rounds between two looks at idle processes and missing stems.
const SLOW: u32 = 10;
/// A health check or a start waits no longer for the search for an interpreter.
const LONGEST_SEARCH: Duration = Duration::from_millis(1500);

/// Runs functions in child processes of this machine.
#[derive(Debug)]
pub struct FunctionWorker {
    options: WorkerOptions,
    /// One for each runtime, in the order of [`Runtime::ALL`].
    engines: [Arc<Shared>; Runtime::ALL.len()],
    moved: Arc<Notify>,
    figures: Figures,
    sandbox: Arc<Sandbox>,
}

fn recipe(runtime: Runtime) -> &'static Recipe {
    match runtime {
        Runtime::Node => &NODE,
        Runtime::Python => &PYTHON,
        Runtime::Go => &GO,
    }
}

impl FunctionWorker {
    /// Starts the worker and its warm processes; returns at once. Where there is no usable interpreter for a function
    /// the worker says so in its health and in every call, and looks again later. Must be called inside a tokio runtime.
    pub fn start(options: WorkerOptions, tasks: Tasks) -> Arc<Self> {
        let spawner = match Spawner::start() {
            Ok(spawner) => Some(Arc::new(spawner)),
            Err(error) => {
                tracing::error!(%error, "functions cannot be started");
                None
            }
        };
        let moved = Arc::new(Notify::new());
        let sandbox = Arc::new(Sandbox::new(options.sandbox.clone(), options.runtime_dir.clone()));
        let engines = Runtime::ALL.map(|runtime| {
            let binary = options.pool(runtime).binary.clone();
            Arc::new(Shared {
                runtime,
                finder: Finder::new(recipe(runtime), binary, options.runtime_dir.clone()),
                compiler: Compiler::new(options.runtime_dir.clone()),
                options: options.clone(),
                tasks: tasks.clone(),
                spawner: spawner.clone(),
                sandbox: Arc::clone(&sandbox),
                pool: Mutex::new(Pool::default()),
                counters: Counters::default(),
                quiet: Notify::new(),
                moved: Arc::clone(&moved),
            })
        });
        for engine in &engines {
            let tasks = &engine.tasks;
            tasks.spawn("function watch", OnEnd::StopAll, watch(Arc::clone(engine)));
            tasks.spawn("function state", OnEnd::Ignore, follow(Arc::clone(engine)));
            if engine.is_used() {
                let (searcher, stopping) = (Arc::clone(engine), tasks.cancelled());
                tasks.spawn_detached(async move {
                    stopping.run_until_cancelled(searcher.finder.find()).await;
                });
            }
        }
        Arc::new(Self {
            options,
            engines,
            moved,
            figures: Figures::default(),
            sandbox,
        })
    }

    /// Finds out what the machine grants of a sandbox, which the log then says: the walls that are missing, `None` where
    /// none are wanted.
    ///
    /// # Errors
    /// `SANDBOX_UNAVAILABLE` where it is too little for strict mode.
    pub async fn sandboxed(&self) -> Result<Option<Vec<Wall>>> {
        self.sandbox.check().await
    }

    /// Waits until it is known whether there is an interpreter for every function, for at most 1.5 seconds.
    pub async fn searched(&self) {
        let all = async {
            for engine in self.used() {
                // What it found is in the health.
                let _ = engine.finder.find().await;
            }
        };
        let _ = tokio::time::timeout(LONGEST_SEARCH, all).await;
    }

    fn used(&self) -> impl Iterator<Item = &Arc<Shared>> {
        self.engines.iter().filter(|engine| engine.is_used())
    }

    /// Refuses new calls, lets those that run or wait finish for at most `within`, then ends all processes.
    /// `true` where every call could finish.
    pub async fn drain(&self, within: Duration) -> bool {
        let finished = async {
            for engine in &self.engines {
                engine.pool.lock().stopping = true;
            }
            for engine in &self.engines {
                engine.until_quiet().await;
            }
        };
        let finished = tokio::time::timeout(within, finished).await.is_ok();
        for engine in &self.engines {
            engine.end_all();
        }
        finished
    }

    /// Runs one invocation. `accepted` is called at the moment from which on its code may have run, and told whether a
    /// process had to be started for it.
    pub(crate) async fn run(
        &self,
        invocation: &Invocation,
        accepted: impl FnOnce(bool) + Send,
    ) -> Result<Completion> {
        let arrived = Instant::now();
        let mut cold = false;
        let ended = self
            .run_from(invocation, arrived, |starts| {
                cold = starts;
                accepted(starts);
            })
            .await;
        let (function, outcome) = (&invocation.function, ended.as_ref().map(drop));
        self.figures.note(function, arrived.elapsed(), cold, outcome);
        ended
    }

    async fn run_from(
        &self,
        invocation: &Invocation,
        arrived: Instant,
        accepted: impl FnOnce(bool) + Send,
    ) -> Result<Completion> {
        let name = &invocation.function;
        let engine = self.engine_of(name).ok_or_else(|| failure::not_found(name))?;
        let counters = &engine.counters;
        let (function, slot, begun, cold) = match engine.admit(name, arrived, invocation.deadline)? {
            Admission::Now(function, slot) => (function, slot, arrived, false),
            Admission::Later(function, place) => {
                let cold = place.is_cold();
                (function, place.wait().await?, Instant::now(), cold)
            }
        };
        counters.invocations.fetch_add(1, Ordering::Relaxed);
        counters.cold_starts.fetch_add(u64::from(cold), Ordering::Relaxed);
        let deadline = begun
            .checked_add(function.timeout)
            .map_or(invocation.deadline, |at| at.min(invocation.deadline));
        accepted(cold);
        let instance = slot.instance();
        let (stream, ended) = instance.begin(invocation, slot, deadline);
        let mut waiting = Waiting {
            instance: &instance,
            stream,
            over: false,
        };
        let ended = tokio::time::timeout_at(deadline.into(), ended).await;
        waiting.over = true;
        match ended {
            Ok(Ok(Ended::Done { outcome, logs })) => Ok(Completion {
                outcome,
                logs,
                duration: arrived.elapsed(),
            }),
            Ok(Ok(Ended::Crashed { reason })) => Err(failure::crashed(name, &reason)),
            Ok(Err(_)) => Err(failure::crashed(name, "its process has ended")),
            Err(_) => {
                counters.timeouts.fetch_add(1, Ordering::Relaxed);
                instance.cancel(stream);
                Err(failure::timed_out(name, deadline - begun))
            }
        }
    }

    /// What runs the function of that name.
    fn engine_of(&self, name: &str) -> Option<&Arc<Shared>> {
        let runtime = self.options.state.borrow().functions.get(name)?.runtime;
        self.engines.iter().find(|engine| engine.runtime == runtime)
    }

    /// What it was started with.
    pub(crate) fn options(&self) -> &WorkerOptions {
        &self.options
    }

    /// How busy each function is that has a process.
    pub(crate) fn loads(&self) -> Vec<FunctionLoad> {
        let loads = self.engines.iter().map(|engine| engine.pool.lock().loads());
        loads.flatten().collect()
    }

    /// Waits until a function has got or lost a process.
    pub(crate) fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }

    /// The runtimes that work here.
    pub(crate) async fn runtimes(&self) -> Vec<Runtime> {
        let mut found = Vec::new();
        for engine in &self.engines {
            if engine.finder.find().await.is_ok() {
                found.push(engine.runtime);
            }
        }
        found
    }
}

/// Tells the process when whoever waits for a call has gone.
struct Waiting<'a> {
    instance: &'a Instance,
    stream: u64,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.instance.abandon(self.stream);
        }
    }
}

#[async_trait]
impl FunctionService for FunctionWorker {
    async fn invoke(&self, invocation: Invocation) -> Result<Completion> {
        self.run(&invocation, |_| {}).await
    }

    fn stats(&self) -> BTreeMap<String, PoolStats> {
        let named = self.engines.iter().map(|engine| {
            let stats = engine.pool.lock().stats(&engine.counters);
            (engine.runtime.name().to_owned(), stats)
        });
        named.collect()
    }

    fn function_stats(&self) -> BTreeMap<String, FunctionStats> {
        let served = Arc::clone(&self.options.state.borrow().functions);
        let mut figures = self.figures.told(|function| served.contains_key(function));
        for engine in &self.engines {
            engine.pool.lock().count_into(&mut figures);
        }
        figures
    }
}

#[async_trait]
impl HealthCheck for FunctionWorker {
    fn name(&self) -> &'static str {
        "functions"
    }

    async fn check(&self) -> Report {
        let mut problems = Vec::new();
        for engine in self.used() {
            // Starting an interpreter to ask its version takes longer than all the rest of a start, and calls wait for it
            // anyway.
            if !engine.finder.has_searched() {
                continue;
            }
            match tokio::time::timeout(LONGEST_SEARCH, engine.finder.find()).await {
                Ok(Ok(_)) => {}
                Ok(Err(words)) => problems.push(words.to_string()),
                Err(_) => problems.push(format!("still looking for {}", recipe(engine.runtime).title)),
            }
        }
        if problems.is_empty() {
            return Report::HEALTHY;
        }
        Report::new(Status::Degraded, problems.join("; "))
    }
}

impl Shared {
    async fn until_quiet(&self) {
        loop {
            let quiet = self.quiet.notified();
            tokio::pin!(quiet);
            quiet.as_mut().enable();
            if self.pool.lock().is_quiet() {
                return;
            }
            quiet.await;
        }
    }

    fn end_all(&self) {
        let mut pool = self.pool.lock();
        pool.stems.clear();
        for instance in pool.instances() {
            instance.kill("the server is stopping");
        }
    }
}

impl Shared {
    /// Starts a process for `function`; the pool is told of the result.
    pub(crate) async fn start_instance(self: Arc<Self>, function: Arc<Function>) {
        let result = self.make_instance(Arc::clone(&function)).await;
        if let Err(error) = &result {
            tracing::warn!(function = function.name, %error, "a function cannot run");
        }
        self.started(&function, result);
        self.add_stem();
    }

    async fn make_instance(self: &Arc<Self>, function: Arc<Function>) -> Result<Arc<Instance>, StartError> {
        let stem = match self.take_stem(function.memory_mib) {
            Some(stem) => stem,
            None => self.make_process(&function).await?,
        };
        let id = self.counters.instances.fetch_add(1, Ordering::Relaxed);
        let loading = Loading {
            id,
            max_output: self.options.max_output,
            concurrency: self.limits().concurrency,
            within: self.options.load_timeout,
        };
        let (instance, mut stem) = instance::load(stem, function, loading).await?;
        self.counters.started.fetch_add(1, Ordering::Relaxed);
        let kept = stem.take_kept();
        let Stem {
            child,
            stdout,
            stderr,
            socket,
            received,
            ..
        } = stem;
        let (reading, writing) = socket.into_split();
        let reader = link::read(Arc::clone(self), Arc::clone(&instance), reading, received);
        let watcher = supervise::supervise(
            Arc::clone(self),
            Arc::clone(&instance),
            child,
            (stdout, stderr),
            kept,
        );
        let writer = Arc::clone(&instance);
        self.tasks.spawn_detached(reader);
        self.tasks.spawn_detached(watcher);
        self.tasks.spawn_detached(async move {
            tokio::select! {
                // The reader and the supervisor see the end too, and know more of it.
                _ = writer.outbox.write_to(writing) => {}
                () = writer.killed.cancelled() => {}
            }
        });
        Ok(instance)
    }

    fn take_stem(&self, memory_mib: u64) -> Option<Stem> {
        if memory_mib != self.options.memory_mib {
            return None;
        }
        let mut pool = self.pool.lock();
        while let Some(mut stem) = pool.stems.pop() {
            if matches!(stem.child.try_wait(), Ok(None)) {
                return Some(stem);
            }
        }
        None
    }

    async fn make_stem(&self, memory_mib: u64) -> Result<Stem, StartError> {
        let interpreter = self.finder.find().await.map_err(StartError::Runtime)?;
        let spawner = self.spawner()?;
        let mut process = stem::interpreted(&interpreter, memory_mib);
        let walls = self.sandbox.walls().await?;
        if walls.as_ref().is_some_and(|walls| !walls.can_show()) {
            process.readable.extend(self.all_code());
        }
        stem::start(spawner, process, walls.as_deref(), self.options.load_timeout).await
    }

    /// A process for that function and no other, with its code not loaded yet.
    async fn make_process(&self, function: &Function) -> Result<Stem, StartError> {
        if self.runtime != Runtime::Go {
            return self.make_stem(function.memory_mib).await;
        }
        let (interpreter, program) = self.compile(function).await?;
        let process = go::process(&interpreter, &program, function);
        let walls = self.sandbox.walls().await?;
        let started = stem::start(
            self.spawner()?,
            process,
            walls.as_deref(),
            self.options.load_timeout,
        )
        .await;
        started.map_err(|error| match error {
            // What it said before it could say hello comes from the function's own `init`.
            StartError::Runtime(words) => StartError::Code(words),
            other => other,
        })
    }

    async fn compile(&self, function: &Function) -> Result<(Arc<Interpreter>, PathBuf), StartError> {
        let interpreter = self.finder.find().await.map_err(StartError::Runtime)?;
        let compiling = self.compiler.program(&interpreter, function);
        match self.tasks.cancelled().run_until_cancelled(compiling).await {
            Some(program) => Ok((interpreter, program?)),
            None => Err(StartError::process("the server is stopping")),
        }
    }

    /// Compiles what is not compiled yet, so that its first call need not wait for that and its author hears at once
    /// what is wrong.
    async fn compile_all(self: Arc<Self>) {
        let functions: Vec<_> = {
            let state = self.options.state.borrow();
            let all = state.functions.values();
            all.filter(|function| function.runtime == self.runtime)
                .cloned()
                .collect()
        };
        for function in functions {
            let wanted = self.function(&function.name);
            if !wanted.is_some_and(|wanted| Arc::ptr_eq(&wanted, &function)) {
                continue;
            }
            if let Err(error) = self.compile(&function).await {
                tracing::warn!(function = function.name, %error, "a function cannot run");
            }
        }
    }

    /// What the functions that there are read, and those that come may read: bundles lie beside each other.
    fn all_code(&self) -> Vec<PathBuf> {
        let functions = Arc::clone(&self.options.state.borrow().functions);
        let mut paths = std::collections::BTreeSet::new();
        for function in functions.values() {
            paths.extend(function.root.parent().map(Path::to_owned));
            paths.extend(sandbox::code(function));
        }
        paths.into_iter().collect()
    }

    fn spawner(&self) -> Result<&Spawner, StartError> {
        let spawner = self.spawner.as_deref();
        spawner.ok_or_else(|| StartError::process("there is no thread for it"))
    }

    /// Starts stems until there are enough.
    fn add_stem(self: &Arc<Self>) {
        if !self.wants_stem() {
            return;
        }
        let shared = Arc::clone(self);
        self.tasks.spawn_detached(async move {
            let made = shared.make_stem(shared.options.memory_mib).await;
            let enough = {
                let mut pool = shared.pool.lock();
                pool.stems_starting -= 1;
                match made {
                    Ok(stem) if !pool.stopping => {
                        pool.stems.push(stem);
                        false
                    }
                    Ok(_) => true,
                    Err(error) => {
                        tracing::debug!(%error, "no warm process");
                        true
                    }
                }
            };
            if !enough {
                shared.add_stem();
            }
        });
    }
}

/// Keeps an eye on everything that runs.
async fn watch(shared: Arc<Shared>) {
    let stopping = shared.tasks.cancelled();
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round = 0_u32;
    loop {
        tokio::select! {
            () = stopping.cancelled() => {
                shared.pool.lock().stems.clear();
                return;
            }
            _ = rounds.tick() => {}
        }
        let now = Instant::now();
        let instances = shared.pool.lock().instances();
        for instance in instances {
            if instance.in_flight.load(Ordering::Relaxed) > 0 {
                end_overdue(&shared, &instance, now);
                check_memory(&instance);
                instance.check_liveness();
            }
        }
        if round.is_multiple_of(SLOW) {
            shared.sweep(now);
            shared.add_stem();
        }
        round = round.wrapping_add(1);
    }
}

/// Calls that did not stop when told to. Where the event loop still turns only they are given up, and the process
/// with them once the others have finished; where it does not, the process is killed.
fn end_overdue(shared: &Arc<Shared>, instance: &Arc<Instance>, now: Instant) {
    let overdue = instance.overdue_calls(now, shared.options.grace);
    if overdue.is_empty() {
        return;
    }
    if instance.is_blocked() {
        instance.kill("a call in it ran past its deadline and could not be stopped");
    } else if instance.is_answering() {
        shared.retire(instance);
        for stream in overdue {
            instance.give_up(stream);
        }
    }
}

fn check_memory(instance: &Instance) {
    let most = (instance.function.memory_mib + RUNTIME_MIB) << 10;
    let path = format!("/proc/{}/status", instance.pid.as_raw_nonzero());
    let Ok(status) = std::fs::read_to_string(path) else {
        return;
    };
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok());
    if resident.is_some_and(|kib| kib > most) {
        instance.kill(&supervise::out_of_memory(instance.function.memory_mib));
    }
}

/// Moves on with the desired state.
async fn follow(shared: Arc<Shared>) {
    let stopping = shared.tasks.cancelled();
    let mut state = shared.options.state.clone();
    loop {
        if shared.runtime == Runtime::Go {
            let compiling = Arc::clone(&shared).compile_all();
            shared.tasks.spawn_detached(compiling);
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = state.changed() => {
                if changed.is_err() {
                    // The control plane is gone; the last state stays in force.
                    return;
                }
            }
        }
        state.borrow_and_update();
        shared.follow_state();
    }
}
