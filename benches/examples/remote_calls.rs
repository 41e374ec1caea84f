//! Measures what it costs to run functions in a worker of its own: warm calls of an empty handler, in this process and
//! through a separate worker process, with 1 and 64 callers, in the same run.
//!
//! With the argument `worker` it is the worker: it prints its address and serves until its input ends.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{InvocationId, RequestId, Result};
use alyx_function_worker::{FunctionWorker, WorkerOptions, WorkerServer};
use alyx_gateway::{RemoteFunctions, RemoteFunctionsOptions};
use alyx_rpc::{Security, bind, serve};
use alyx_service::cluster::{ClusterNode, Role};
use alyx_service::data::{DataCall, DataService};
use alyx_service::function::{Invocation, Outcome, SharedFunctions};
use alyx_service::state::{DesiredState, Function, Runtime, StateWatch};
use alyx_service::tasks::Tasks;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tonic::service::Routes;

const CALLS: usize = 60_000;
const ROUNDS: usize = 3;
const TOKEN: &str = "a token of this measurement, which is no secret";
const SOURCE: &str =
    "export default async (ctx) => ctx.input.db ? ctx.db.any.get('x') : { hello: ctx.input.name }";

type Failure = Box<dyn std::error::Error>;

#[derive(Debug)]
struct NoData;

#[async_trait]
impl DataService for NoData {
    async fn call(&self, _call: DataCall) -> Result<Bytes> {
        Ok(Bytes::from_static(b"null"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("worker"), Some(folder)) => be_worker(Path::new(&folder)).await,
        _ => measure_both().await,
    }
}

fn security() -> Result<Security> {
    Security::new(Some(TOKEN), None)
}

fn state(folder: &Path) -> (watch::Sender<Arc<DesiredState>>, StateWatch) {
    let function = Function {
        name: "hello".to_owned(),
        runtime: Runtime::Node,
        version: "1".to_owned(),
        root: folder.join("code"),
        entrypoint: PathBuf::from("index.js"),
        description: String::new(),
        sample_input: None,
        timeout: Duration::from_secs(30),
        memory_mib: 128,
        env: Arc::default(),
        invoke_rule: None,
    };
    watch::channel(Arc::new(DesiredState {
        revision: 1,
        schema_revision: 1,
        schema: Arc::default(),
        functions: Arc::new(BTreeMap::from([("hello".to_owned(), Arc::new(function))])),
    }))
}

async fn be_worker(folder: &Path) -> Result<(), Failure> {
    let tasks = Tasks::new();
    let (_keep, state) = state(folder);
    let worker = FunctionWorker::start(WorkerOptions::new(state, folder.join("remote")), tasks.clone());
    let served = WorkerServer::new(worker, tasks.clone());
    let listener = bind("127.0.0.1:0").await?;
    let server = serve(listener, &security()?, Routes::new(served.service()), &tasks).await?;
    println!("{}", server.local_addr());
    tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().count()).await?;
    served.drain(Duration::from_secs(5)).await;
    server.stop(Duration::from_secs(5)).await;
    tasks.stop(Duration::from_secs(5)).await;
    Ok(())
}

async fn measure_both() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir_all(folder.path().join("code"))?;
    std::fs::write(folder.path().join("code/index.js"), SOURCE)?;
    let tasks = Tasks::new();
    let (_keep, state) = state(folder.path());
    let direct = FunctionWorker::start(
        WorkerOptions::new(state, folder.path().join("direct")),
        tasks.clone(),
    );

    let mut child = Command::new(std::env::current_exe()?)
        .arg("worker")
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    let output = child.stdout.take().ok_or("the worker has an output")?;
    std::io::BufReader::new(output).read_line(&mut address)?;
    let node = ClusterNode {
        id: "worker".to_owned(),
        role: Role::FunctionWorker,
        address: address.trim().to_owned(),
        draining: false,
    };
    let (_nodes, nodes) = watch::channel(Arc::new(vec![node]));
    let remote = RemoteFunctions::start(RemoteFunctionsOptions::new(nodes, security()?), &tasks);

    let data: Arc<dyn DataService> = Arc::new(NoData);
    for callers in [1, 64] {
        for _ in 0..ROUNDS {
            let ways: [(&str, SharedFunctions); 2] = [("here", direct.clone()), ("worker", remote.clone())];
            for (way, functions) in ways {
                measure(way, &functions, &data, callers, br#"{"name":"Ann"}"#, &tasks).await;
            }
        }
    }
    for (way, functions) in [("here", direct.clone() as SharedFunctions), ("worker", remote)] {
        measure(
            &format!("{way}, ctx.db"),
            &functions,
            &data,
            1,
            br#"{"db":true}"#,
            &tasks,
        )
        .await;
    }
    drop(child.stdin.take());
    child.wait()?;
    direct.drain(Duration::from_secs(5)).await;
    tasks.stop(Duration::from_secs(5)).await;
    Ok(())
}

async fn call(functions: &SharedFunctions, data: &Arc<dyn DataService>, input: &'static [u8]) {
    let completion = functions
        .invoke(Invocation {
            id: InvocationId::from(String::new()),
            request_id: RequestId::new(),
            function: "hello".to_owned(),
            input: Bytes::from_static(input),
            auth: None,
            deadline: Instant::now() + Duration::from_secs(30),
            trace: None,
            idempotent: false,
            data: Arc::clone(data),
        })
        .await;
    match completion.map(|completion| completion.outcome) {
        Ok(Outcome::Returned(_)) => {}
        other => panic!("the handler did not return: {other:?}"),
    }
}

async fn measure(
    way: &str,
    functions: &SharedFunctions,
    data: &Arc<dyn DataService>,
    callers: usize,
    input: &'static [u8],
    tasks: &Tasks,
) {
    let calls = if callers == 1 { CALLS / 6 } else { CALLS };
    for _ in 0..calls / 20 {
        call(functions, data, input).await;
    }
    let began = Instant::now();
    let (done, mut results) = tokio::sync::mpsc::channel(callers);
    for _ in 0..callers {
        let (functions, data, done) = (Arc::clone(functions), Arc::clone(data), done.clone());
        tasks.spawn_detached(async move {
            let mut took = Vec::with_capacity(calls / callers);
            for _ in 0..calls / callers {
                let began = Instant::now();
                call(&functions, &data, input).await;
                took.push(began.elapsed());
            }
            let _ = done.send(took).await;
        });
    }
    drop(done);
    let mut took = Vec::with_capacity(calls);
    while let Some(some) = results.recv().await {
        took.extend(some);
    }
    let seconds = began.elapsed().as_secs_f64();
    took.sort_unstable();
    let micros = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    println!(
        "{callers:>3} callers, {way:<15} {:>7.0} calls/s, p50 {:>5.0} us, p99 {:>5.0} us",
        took.len() as f64 / seconds,
        micros(0.5),
        micros(0.99),
    );
}
