//! Measures warm calls of an empty handler in Node, or in Go with `calls go`: calls per second and latency with 1 and 64
//! callers, and CPU per call of this process and of the runtime. With an argument it serves the same over a bare HTTP loop on that port instead,
//! for a load generator: `calls 8099`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{InvocationId, RequestId, Result};
use alyx_function_worker::{FunctionWorker, WorkerOptions};
use alyx_service::data::{DataCall, DataService};
use alyx_service::function::{FunctionService, Invocation, Outcome};
use alyx_service::state::{DesiredState, Function, Runtime};
use alyx_service::tasks::{OnEnd, Tasks};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CALLS: usize = 100_000;

/// Runtime, file and code of the handler.
const IN_NODE: (Runtime, &str, &str) = (
    Runtime::Node,
    "index.js",
    "export default async (ctx) => ({ hello: ctx.input.name })",
);
const IN_GO: (Runtime, &str, &str) = (
    Runtime::Go,
    "main.go",
    "package main\n\nimport \"github.com/watzon/alyx/pkg/runtime\"\n\nfunc Handler(ctx *runtime.Context) (any, error) {\n\t\
     return map[string]any{\"hello\": ctx.Input[\"name\"]}, nil\n}\n",
);

#[derive(Debug)]
struct NoData;

#[async_trait]
impl DataService for NoData {
    async fn call(&self, _call: DataCall) -> Result<Bytes> {
        Ok(Bytes::from_static(b"null"))
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("code");
    std::fs::create_dir_all(&root)?;
    let in_go = std::env::args().nth(1).is_some_and(|runtime| runtime == "go");
    let (runtime, file, code) = if in_go { IN_GO } else { IN_NODE };
    std::fs::write(root.join(file), code)?;
    let function = Function {
        name: "hello".to_owned(),
        runtime,
        version: "1".to_owned(),
        root,
        entrypoint: PathBuf::from(file),
        description: String::new(),
        sample_input: None,
        timeout: Duration::from_secs(30),
        memory_mib: 128,
        env: Arc::default(),
        invoke_rule: None,
    };
    let (_keep, state) = tokio::sync::watch::channel(Arc::new(DesiredState {
        revision: 1,
        schema_revision: 1,
        schema: Arc::default(),
        functions: Arc::new(BTreeMap::from([("hello".to_owned(), Arc::new(function))])),
    }));
    let tasks = Tasks::new();
    let options = WorkerOptions::new(state, folder.path().join("runtime"));
    let worker = FunctionWorker::start(options, tasks.clone());
    let data: Arc<dyn DataService> = Arc::new(NoData);
    call(&worker, &data).await;
    if let Some(port) = std::env::args().nth(1).and_then(|port| port.parse().ok()) {
        return serve(port, worker, data, tasks).await;
    }
    for callers in [1, 64, 1, 64] {
        measure(&worker, &data, callers, &tasks).await;
    }
    worker.drain(Duration::from_secs(5)).await;
    tasks.stop(Duration::from_secs(5)).await;
    Ok(())
}

async fn call(worker: &FunctionWorker, data: &Arc<dyn DataService>) -> Bytes {
    let completion = worker
        .invoke(Invocation {
            id: InvocationId::from(String::new()),
            request_id: RequestId::new(),
            function: "hello".to_owned(),
            input: Bytes::from_static(br#"{"name":"Ann"}"#),
            auth: None,
            deadline: Instant::now() + Duration::from_secs(30),
            trace: None,
            idempotent: false,
            data: Arc::clone(data),
        })
        .await;
    match completion.map(|completion| completion.outcome) {
        Ok(Outcome::Returned(body)) => body,
        other => panic!("the handler did not return: {other:?}"),
    }
}

async fn measure(worker: &Arc<FunctionWorker>, data: &Arc<dyn DataService>, callers: usize, tasks: &Tasks) {
    let cpu = cpu();
    let began = Instant::now();
    let (done, mut results) = tokio::sync::mpsc::channel(callers);
    for _ in 0..callers {
        let (worker, data, done) = (Arc::clone(worker), Arc::clone(data), done.clone());
        tasks.spawn_detached(async move {
            let mut took = Vec::with_capacity(CALLS / callers);
            for _ in 0..CALLS / callers {
                let began = Instant::now();
                call(&worker, &data).await;
                took.push(began.elapsed());
            }
            let _ = done.send(took).await;
        });
    }
    drop(done);
    let mut took = Vec::with_capacity(CALLS);
    while let Some(some) = results.recv().await {
        took.extend(some);
    }
    let seconds = began.elapsed().as_secs_f64();
    let used = cpu_since(cpu);
    took.sort_unstable();
    let calls = took.len();
    let micros = |part: f64| took[((calls - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    println!(
        "{callers:>3} callers: {:>7.0} calls/s, p50 {:>5.0} us, p99 {:>5.0} us, CPU per call {:>5.1} us here, {:>5.1} us in the runtime, {} processes",
        calls as f64 / seconds,
        micros(0.5),
        micros(0.99),
        used.0 * 1e6 / calls as f64,
        used.1 * 1e6 / calls as f64,
        worker
            .stats()
            .values()
            .map(|pool| pool.busy + pool.ready)
            .sum::<usize>(),
    );
}

/// CPU seconds of this process and of its children that still run.
fn cpu() -> (f64, f64) {
    let ticks = |stat: &str| -> Option<(u32, f64)> {
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let parent = fields.nth(1)?.parse().ok()?;
        let user: f64 = fields.nth(9)?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        Some((parent, (user + system) / 100.0))
    };
    let mine = std::process::id();
    let own = std::fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| ticks(&stat));
    let children = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
            ticks(&stat)
                .filter(|(parent, _)| *parent == mine)
                .map(|(_, cpu)| cpu)
        });
    (own.map_or(0.0, |(_, cpu)| cpu), children.sum())
}

fn cpu_since(before: (f64, f64)) -> (f64, f64) {
    let now = cpu();
    (now.0 - before.0, now.1 - before.1)
}

async fn serve(
    port: u16,
    worker: Arc<FunctionWorker>,
    data: Arc<dyn DataService>,
    tasks: Tasks,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (mut socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (worker, data) = (Arc::clone(&worker), Arc::clone(&data));
        tasks.spawn("connection", OnEnd::Ignore, async move {
            let mut request = [0; 4096];
            while let Ok(1..) = socket.read(&mut request).await {
                let body = call(&worker, &data).await;
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                if socket
                    .write_all(&[head.as_bytes(), &body].concat())
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
    }
}
