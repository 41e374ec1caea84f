//! Functions in one process, and the same functions in workers behind real listeners, over one folder of code and a
//! database made of one map.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alyx_core::{Detail, Error, ErrorKind, InvocationId, RequestId, Result};
use alyx_function_worker::{FunctionWorker, WorkerOptions, WorkerServer};
use alyx_gateway::{RemoteFunctions, RemoteFunctionsOptions};
use alyx_rpc::{Security, bind, serve};
use alyx_schema::Schema;
use alyx_service::cluster::{ClusterNode, Role};
use alyx_service::data::{DataCall, DataOp, DataService};
use alyx_service::function::{Completion, FunctionService, Invocation, Outcome};
use alyx_service::state::{DesiredState, Function, Runtime, StateWatch};
use alyx_service::tasks::Tasks;
use alyx_tests::Link;
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tonic::service::Routes;

/// Longer than anything here takes on a slow machine.
pub(crate) const PLENTY: Duration = Duration::from_secs(60);
pub(crate) const TOKEN: &str = "a token that all roles of this cluster know";

/// The code, the desired state and the data.
pub(crate) struct Project {
    pub(crate) data: Arc<Documents>,
    state: watch::Sender<Arc<DesiredState>>,
    folder: tempfile::TempDir,
    versions: AtomicU64,
}

impl Project {
    pub(crate) fn new() -> Self {
        let (state, _) = watch::channel(Arc::new(DesiredState {
            revision: 1,
            schema_revision: 1,
            schema: Arc::new(Schema::default()),
            functions: Arc::default(),
        }));
        Self {
            data: Arc::default(),
            state,
            folder: tempfile::tempdir().expect("a folder"),
            versions: AtomicU64::new(1),
        }
    }

    pub(crate) fn state(&self) -> StateWatch {
        self.state.subscribe()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a function of one file and serves it.
    pub(crate) fn write(&self, name: &str, source: &str) {
        self.write_as(name, source, |_| {});
    }

    pub(crate) fn write_as(&self, name: &str, source: &str, adjust: impl FnOnce(&mut Function)) {
        let version = self.versions.fetch_add(1, Ordering::Relaxed).to_string();
        let root = self.path("code").join(format!("{name}-{version}"));
        std::fs::create_dir_all(&root).expect("a folder");
        std::fs::write(root.join("index.js"), source).expect("writes");
        let mut function = Function {
            name: name.to_owned(),
            runtime: Runtime::Node,
            version,
            root,
            entrypoint: PathBuf::from("index.js"),
            description: String::new(),
            sample_input: None,
            timeout: PLENTY,
            memory_mib: 128,
            env: Arc::default(),
            invoke_rule: None,
        };
        adjust(&mut function);
        self.state.send_modify(|state| {
            let mut next = (**state).clone();
            let mut functions = (*next.functions).clone();
            functions.insert(name.to_owned(), Arc::new(function));
            next.revision += 1;
            next.functions = Arc::new(functions);
            *state = Arc::new(next);
        });
    }

    pub(crate) fn invocation(&self, function: &str, input: &Value) -> Invocation {
        Invocation {
            id: InvocationId::new(),
            request_id: RequestId::from("req-\"1\"".to_owned()),
            function: function.to_owned(),
            input: Bytes::from(input.to_string()),
            auth: Some(Bytes::from_static(br#"{"id":"ann"}"#)),
            deadline: Instant::now() + PLENTY,
            trace: None,
            idempotent: false,
            data: self.data.clone(),
        }
    }

    /// A worker's options. The files of the runtime are shared, so that stack traces are the same.
    pub(crate) fn options(&self) -> WorkerOptions {
        let mut options = WorkerOptions::new(self.state(), self.path("runtime"));
        options.load_timeout = PLENTY;
        options
    }
}

/// A worker with its listener, reached over a link that can be cut.
pub(crate) struct Worker {
    pub(crate) worker: Arc<FunctionWorker>,
    pub(crate) served: Arc<WorkerServer>,
    pub(crate) link: Link,
    pub(crate) node: ClusterNode,
    server: alyx_rpc::Server,
    tasks: Tasks,
}

impl Worker {
    pub(crate) async fn start(name: &str, options: WorkerOptions) -> Self {
        let tasks = Tasks::new();
        let worker = FunctionWorker::start(options, tasks.clone());
        let served = WorkerServer::new(Arc::clone(&worker), tasks.clone());
        let listener = bind("127.0.0.1:0").await.expect("a port");
        let routes = Routes::new(served.service());
        let server = serve(listener, &security(), routes, &tasks)
            .await
            .expect("it listens");
        server.set_ready(true).await;
        let link = Link::to(server.local_addr()).await;
        let node = ClusterNode {
            id: name.to_owned(),
            role: Role::FunctionWorker,
            address: link.address().to_string(),
            draining: false,
        };
        Self {
            worker,
            served,
            link,
            node,
            server,
            tasks,
        }
    }

    /// Invocations that it has begun.
    pub(crate) fn invocations(&self) -> u64 {
        self.worker.stats()["node"].invocations
    }

    pub(crate) async fn stop(self) {
        assert!(self.served.drain(PLENTY).await, "what has started ends");
        assert!(self.server.stop(PLENTY).await, "streams end by themselves");
        assert!(self.tasks.stop(PLENTY).await, "every task ends");
    }
}

/// A gateway's side, with the directory of nodes in the test's hands.
pub(crate) struct Remote {
    pub(crate) functions: Arc<RemoteFunctions>,
    pub(crate) nodes: watch::Sender<Arc<Vec<ClusterNode>>>,
    tasks: Tasks,
}

impl Remote {
    pub(crate) async fn to(workers: &[&Worker]) -> Self {
        Self::with(workers, |_| {}).await
    }

    /// Returns when all workers are connected.
    pub(crate) async fn with(workers: &[&Worker], adjust: impl FnOnce(&mut RemoteFunctionsOptions)) -> Self {
        let nodes = workers.iter().map(|worker| worker.node.clone()).collect();
        let (nodes, watch) = watch::channel(Arc::new(nodes));
        let mut options = RemoteFunctionsOptions::new(watch, security());
        options.patience = PLENTY;
        adjust(&mut options);
        let tasks = Tasks::new();
        let functions = RemoteFunctions::start(options, &tasks);
        until("the workers are connected", || {
            functions.workers() == workers.len()
        })
        .await;
        Self {
            functions,
            nodes,
            tasks,
        }
    }

    pub(crate) async fn stop(self) {
        assert!(self.tasks.stop(PLENTY).await, "every task ends");
    }
}

pub(crate) fn security() -> Security {
    Security::new(Some(TOKEN), None).expect("a token is enough")
}

pub(crate) fn returned(completion: &Completion) -> Value {
    match &completion.outcome {
        Outcome::Returned(body) => serde_json::from_slice(body).expect("a return value is JSON"),
        Outcome::Threw(thrown) => panic!("it threw {thrown:?}"),
    }
}

/// Calls and expects a return value.
pub(crate) async fn value(functions: &dyn FunctionService, invocation: Invocation) -> Value {
    let function = invocation.function.clone();
    let completion = functions.invoke(invocation).await;
    returned(&completion.unwrap_or_else(|error| panic!("{function}: {} {error}", error.code())))
}

/// Looks again until `probe` holds.
pub(crate) async fn until(what: &str, mut probe: impl FnMut() -> bool) {
    alyx_tests::eventually(what, || {
        let held = probe();
        async move { if held { Ok(()) } else { Err("not yet") } }
    })
    .await;
}

/// Documents of `messages` by id. `gate.get` waits until the test opens the gate; those who wait are counted.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    documents: std::sync::Mutex<BTreeMap<String, Value>>,
    pub(crate) waiting: AtomicU64,
    gate: Notify,
}

impl Documents {
    pub(crate) async fn at_gate(&self, count: u64) {
        until("calls at the gate", || {
            self.waiting.load(Ordering::SeqCst) >= count
        })
        .await;
    }

    pub(crate) fn open_gate(&self) {
        self.gate.notify_waiters();
    }
}

#[async_trait]
impl DataService for Documents {
    async fn call(&self, call: DataCall) -> Result<Bytes> {
        match call.collection.as_str() {
            "gate" => {
                let opened = self.gate.notified();
                self.waiting.fetch_add(1, Ordering::SeqCst);
                opened.await;
                return Ok(Bytes::from_static(b"null"));
            }
            "messages" => {}
            other => {
                let message = format!("there is no collection `{other}`");
                return Err(Error::new(ErrorKind::NotFound, "COLLECTION_NOT_FOUND", message));
            }
        }
        let args: Value = serde_json::from_slice(&call.args).expect("arguments are JSON");
        let id = args["id"].as_str().unwrap_or_default().to_owned();
        let mut documents = self.documents.lock().expect("not poisoned");
        let result = match call.op {
            DataOp::List => json!({"docs": documents.values().collect::<Vec<_>>(), "total": documents.len()}),
            DataOp::Aggregate => json!({"groups": [{"key": {}, "count": documents.len()}]}),
            DataOp::Get => documents.get(&id).cloned().unwrap_or(Value::Null),
            DataOp::Create => {
                let mut doc = args["data"].clone();
                if doc["content"] == "taken" {
                    let detail = Detail {
                        field: "content".to_owned(),
                        code: "taken".to_owned(),
                        message: "choose another".to_owned(),
                    };
                    return Err(Error::new(ErrorKind::Conflict, "UNIQUE_VIOLATION", "it is taken")
                        .with_field("content")
                        .with_details(vec![detail]));
                }
                let id = format!("doc-{}", documents.len() + 1);
                doc["id"] = Value::from(id.clone());
                documents.insert(id, doc.clone());
                doc
            }
            DataOp::Update => {
                let doc = documents.get_mut(&id).expect("tests update what is there");
                for (key, value) in args["data"].as_object().expect("an object") {
                    doc[key] = value.clone();
                }
                doc.clone()
            }
            DataOp::Delete => json!({"deleted": documents.remove(&id).is_some()}),
            other => panic!("these tests do not use {other:?}"),
        };
        Ok(Bytes::from(result.to_string()))
    }
}
