//! A worker over a folder of functions that the test writes, with a database made of one map.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, InvocationId, RequestId, Result};
use alyx_function_worker::{FunctionWorker, WorkerOptions};
use alyx_schema::Schema;
use alyx_service::data::{DataCall, DataOp, DataService};
use alyx_service::function::{Completion, FunctionService, Invocation, LogEntry, Outcome, PoolStats, Thrown};
use alyx_service::state::{DesiredState, Function, Runtime};
use alyx_service::tasks::Tasks;
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

/// Longer than anything here takes on a slow machine.
pub(crate) const PLENTY: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) worker: Arc<FunctionWorker>,
    pub(crate) data: Arc<Documents>,
    state: watch::Sender<Arc<DesiredState>>,
    tasks: Tasks,
    folder: tempfile::TempDir,
    versions: AtomicU64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(adjust: impl FnOnce(&mut WorkerOptions)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (state, watch) = watch::channel(Arc::new(DesiredState {
            revision: 1,
            schema_revision: 1,
            schema: Arc::new(Schema::default()),
            functions: Arc::default(),
        }));
        let mut options = WorkerOptions::new(watch, folder.path().join("runtime"));
        options.load_timeout = PLENTY;
        adjust(&mut options);
        let tasks = Tasks::new();
        Self {
            worker: FunctionWorker::start(options, tasks.clone()),
            data: Arc::default(),
            state,
            tasks,
            folder,
            versions: AtomicU64::new(1),
        }
    }

    /// Writes a function of one file and serves it.
    pub(crate) fn write(&self, name: &str, source: &str) {
        self.write_as(name, "index.js", source, |_| {});
    }

    /// Writes a Python function of one file and serves it.
    pub(crate) fn python(&self, name: &str, source: &str) {
        self.write_as(name, "index.py", source, |_| {});
    }

    /// Writes a Go function of one file and serves it.
    pub(crate) fn go(&self, name: &str, source: &str) {
        self.write_as(name, "main.go", source, |_| {});
    }

    pub(crate) fn write_as(&self, name: &str, file: &str, source: &str, adjust: impl FnOnce(&mut Function)) {
        let version = self.versions.fetch_add(1, Ordering::Relaxed).to_string();
        let root = self.folder.path().join("code").join(format!("{name}-{version}"));
        std::fs::create_dir_all(&root).expect("a folder");
        std::fs::write(root.join(file), source).expect("writes");
        let mut function = Function {
            name: name.to_owned(),
            runtime: match file.rsplit_once('.') {
                Some((_, "py")) => Runtime::Python,
                Some((_, "go")) => Runtime::Go,
                _ => Runtime::Node,
            },
            version,
            root,
            entrypoint: PathBuf::from(file),
            description: String::new(),
            sample_input: None,
            timeout: PLENTY,
            memory_mib: 128,
            env: Arc::default(),
            invoke_rule: None,
        };
        adjust(&mut function);
        self.change(|functions| {
            functions.insert(name.to_owned(), Arc::new(function));
        });
    }

    /// Where it all is: the runtimes' files in `runtime`, code in `code`.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn remove(&self, name: &str) {
        self.change(|functions| {
            functions.remove(name);
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<Function>>)) {
        self.state.send_modify(|state| {
            let mut functions = (*state.functions).clone();
            change(&mut functions);
            let mut next = (**state).clone();
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
            auth: None,
            deadline: Instant::now() + PLENTY,
            trace: None,
            idempotent: false,
            data: self.data.clone(),
        }
    }

    pub(crate) async fn call(&self, function: &str, input: Value) -> Result<Completion> {
        self.worker.invoke(self.invocation(function, &input)).await
    }

    /// Calls and expects a return value.
    pub(crate) async fn value(&self, function: &str, input: Value) -> Value {
        let completion = self.call(function, input).await;
        returned(&completion.unwrap_or_else(|error| panic!("{function}: {error}")))
    }

    /// Calls and expects the handler to throw.
    pub(crate) async fn thrown(&self, function: &str, input: Value) -> Thrown {
        match self
            .call(function, input)
            .await
            .expect("the call itself works")
            .outcome
        {
            Outcome::Threw(thrown) => thrown,
            Outcome::Returned(body) => panic!("{function} returned {body:?}"),
        }
    }

    /// Calls and expects the platform to refuse or lose it.
    pub(crate) async fn refused(&self, function: &str) -> Error {
        match self.call(function, json!({})).await {
            Err(error) => error,
            Ok(completion) => panic!("{function}: {:?}", completion.outcome),
        }
    }

    /// Of Node's processes.
    pub(crate) fn stats(&self) -> PoolStats {
        self.stats_of("node")
    }

    pub(crate) fn stats_of(&self, runtime: &str) -> PoolStats {
        self.worker
            .stats()
            .remove(runtime)
            .expect("a pool for each runtime")
    }

    pub(crate) async fn stop(self) {
        self.worker.drain(PLENTY).await;
        assert!(self.tasks.stop(PLENTY).await, "every task ends");
    }
}

pub(crate) fn returned(completion: &Completion) -> Value {
    match &completion.outcome {
        Outcome::Returned(body) => serde_json::from_slice(body).expect("a return value is JSON"),
        Outcome::Threw(thrown) => panic!("it threw {thrown:?}"),
    }
}

/// Log lines as (level, message).
pub(crate) fn lines(logs: &[LogEntry]) -> Vec<(&str, &str)> {
    logs.iter()
        .map(|line| (line.level.as_str(), line.message.as_str()))
        .collect()
}

/// Looks again until `probe` answers.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PLENTY;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Documents of all collections by id. `gate.get` waits until the test opens the gate; the ids waited for are
/// counted.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    documents: parking_lot::Mutex<BTreeMap<String, Value>>,
    pub(crate) waiting: AtomicU64,
    pub(crate) gate: Notify,
}

impl Documents {
    /// Opens the gate for all that wait once there are `count`.
    pub(crate) async fn open_gate(&self, count: u64) {
        eventually("calls at the gate", || {
            (self.waiting.load(Ordering::SeqCst) >= count).then_some(())
        })
        .await;
        self.gate.notify_waiters();
    }
}

#[async_trait]
impl DataService for Documents {
    async fn call(&self, call: DataCall) -> Result<Bytes> {
        if call.collection == "gate" {
            let opened = self.gate.notified();
            tokio::pin!(opened);
            opened.as_mut().enable();
            self.waiting.fetch_add(1, Ordering::SeqCst);
            opened.await;
            return Ok(Bytes::from_static(b"null"));
        }
        if call.collection == "away" {
            let error = Error::new(ErrorKind::Unavailable, "DATABASE_UNAVAILABLE", "it is away");
            return Err(error.with_retry_after(Duration::from_millis(1_500)));
        }
        if call.collection != "messages" {
            let message = format!("there is no collection `{}`", call.collection);
            return Err(Error::new(ErrorKind::NotFound, "COLLECTION_NOT_FOUND", message));
        }
        let args: Value = serde_json::from_slice(&call.args).expect("arguments are JSON");
        let id = args["id"].as_str().unwrap_or_default().to_owned();
        let mut documents = self.documents.lock();
        let result = match call.op {
            DataOp::List => {
                let wanted = &args["filter"]["channel"];
                let docs: Vec<_> = documents
                    .values()
                    .filter(|doc| wanted.is_null() || doc["channel"] == *wanted)
                    .take(args["limit"].as_u64().map_or(100, |limit| limit as usize))
                    .cloned()
                    .collect();
                json!({"docs": docs, "total": documents.len()})
            }
            DataOp::Aggregate => json!({"groups": [{"key": {}, "count": documents.len()}]}),
            DataOp::Get => documents.get(&id).cloned().unwrap_or(Value::Null),
            DataOp::Create => {
                let mut doc = args["data"].clone();
                let id = format!("doc-{}", documents.len() + 1);
                doc["id"] = Value::from(id.clone());
                if doc["content"] == "taken" {
                    return Err(Error::new(ErrorKind::Conflict, "UNIQUE_VIOLATION", "it is taken")
                        .with_field("content"));
                }
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
