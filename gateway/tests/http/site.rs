//! A gateway on a free port over a real database in a folder of its own, with a scripted function worker.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alyx_config::Config;
use alyx_core::{Error, ErrorKind, Result, Statement, SystemClock};
use alyx_gateway::{Gateway, GatewayParts};
use alyx_schema::Schema;
use alyx_service::data::{DataCall, DataOp};
use alyx_service::function::{
    Completion, FunctionService, FunctionStats, Invocation, LogEntry, Outcome, PoolStats, Thrown,
};
use alyx_service::health::{HealthCheck, Report, Status};
use alyx_service::realtime::{GroupCommand, GroupEvent, RealtimeLink, RealtimeService};
use alyx_service::state::{ControlPlane, DesiredState, Function, Runtime, StateWatch};
use alyx_store::{EmbeddedOptions, Store};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value as Json, json};
use tokio::sync::{Notify, mpsc, watch};

/// Collections and buckets with every kind of access and constraint that the routes tell apart.
const SCHEMA: &str = "
collections:
  rooms:
    fields:
      id: {type: uuid, primary: true, default: auto}
      name: {type: string, unique: true}
  notes:
    fields:
      id: {type: uuid, primary: true, default: auto}
      title: {type: string, validate: {minLength: 1}}
      stars: {type: int, default: 0, index: true}
      room: {type: uuid, nullable: true, references: rooms.id, onDelete: restrict}
      secret: {type: string, nullable: true, internal: true}
      created_at: {type: timestamp, default: now}
  numbered:
    fields:
      id: {type: int, primary: true, default: auto}
      word: {type: string}
buckets:
  images: {backend: local, max_file_size: 1mb, allowed_types: [image/*, text/*]}
  papers: {backend: local}
  tight: {backend: local, max_total_size: 100}
  closed:
    backend: local
    rules: {create: false, read: false, delete: false, download: false}
  lost: {backend: nowhere}
";

/// A running gateway.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    pub(crate) gateway: Gateway,
    pub(crate) gate: Arc<Gate>,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// A complete reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("ASCII"))
    }

    /// Status and `error.code`, having checked that the envelope is complete.
    #[track_caller]
    pub(crate) fn refusal(&self) -> (u16, String) {
        let error = &self.json()["error"];
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty()),
            "{self:?}"
        );
        assert_eq!(error["request_id"], self.header("x-request-id"), "{self:?}");
        (self.status, error["code"].as_str().expect("a code").to_owned())
    }
}

/// Holds back the function `wait` until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    pub(crate) entered: Notify,
    pub(crate) open: Notify,
}

/// What a gateway is to be started with.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) health: Status,
    pub(crate) functions: bool,
    pub(crate) edit: fn(&mut Schema),
    pub(crate) dist_is_the_data_folder: bool,
    pub(crate) realtime: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let mut config = Config::default();
        config.server.host = "127.0.0.1".to_owned();
        config.server.port = 0;
        config.server.max_body_size = 4096;
        Self {
            config,
            health: Status::Healthy,
            functions: true,
            edit: |_| {},
            dist_is_the_data_folder: false,
            realtime: false,
        }
    }
}

impl Setup {
    pub(crate) async fn start(self) -> Site {
        self.try_start().await.expect("a gateway")
    }

    pub(crate) async fn try_start(mut self) -> Result<Site> {
        let dir = tempfile::tempdir().expect("a folder");
        let mut schema = alyx_schema::parse(SCHEMA, "schema.yaml")
            .expect("a schema")
            .schema;
        let store = Store::open_embedded(EmbeddedOptions::new(dir.path().join("data/alyx.db")), |_| {})
            .expect("a store");
        let steps = alyx_schema::plan(&Schema::default(), &schema).statements();
        let steps = steps
            .into_iter()
            .map(|sql| Statement::new(sql, Vec::new()))
            .collect();
        store.migrate(steps).await.expect("tables");
        (self.edit)(&mut schema);
        self.config.database.path = dir.path().join("data/alyx.db");
        self.config.storage.path = dir.path().join("files");
        if self.dist_is_the_data_folder {
            self.config.frontend.dist = Some(dir.path().to_path_buf());
        }
        let (_, state) = watch::channel(Arc::new(DesiredState {
            revision: 1,
            schema_revision: 1,
            schema: Arc::new(schema),
            functions: Arc::new(functions()),
        }));
        let gate = Arc::new(Gate::default());
        let worker = Arc::new(Worker {
            gate: Arc::clone(&gate),
        });
        let mut gateway = Gateway::bind(GatewayParts {
            config: Arc::new(self.config),
            store: store.clone(),
            state: state.clone(),
            control: Arc::new(Control { state }),
            functions: self.functions.then_some(worker as Arc<dyn FunctionService>),
            realtime: self
                .realtime
                .then(|| Arc::new(Node::default()) as Arc<dyn RealtimeService>),
            peers: None,
            clock: Arc::new(SystemClock),
            checks: vec![Arc::new(Check(self.health))],
        })
        .await?;
        gateway.serve();
        Ok(Site {
            address: gateway.local_addr(),
            dir,
            store,
            gateway,
            gate,
            client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
        })
    }
}

impl Site {
    pub(crate) async fn start() -> Self {
        Setup::default().start().await
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
    }

    pub(crate) async fn send(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Reply {
        let request = request.body(Full::new(body.into())).expect("a request");
        let reply = self.client.request(request).await.expect("a reply");
        let (parts, body) = reply.into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes();
        Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).expect("UTF-8"),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(self.request("GET", path), "").await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: &Json) -> Reply {
        self.send(self.request(method, path), body.to_string()).await
    }

    /// Stores a note and returns its id.
    pub(crate) async fn note(&self, title: &str, stars: i64) -> String {
        let reply = self
            .call(
                "POST",
                "/api/collections/notes",
                &json!({"title": title, "stars": stars}),
            )
            .await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn stop(self) -> bool {
        self.gateway.shutdown(Duration::from_secs(30)).await
    }
}

struct Check(Status);

#[async_trait]
impl HealthCheck for Check {
    fn name(&self) -> &'static str {
        "database"
    }

    async fn check(&self) -> Report {
        match self.0 {
            Status::Healthy => Report::HEALTHY,
            status => Report::new(status, "as the test wants it"),
        }
    }
}

/// A realtime node that takes every group and never has news.
#[derive(Default)]
struct Node {
    other_ends: Mutex<Vec<(mpsc::Receiver<GroupCommand>, mpsc::Sender<GroupEvent>)>>,
}

#[async_trait]
impl RealtimeService for Node {
    async fn connect(&self) -> Result<RealtimeLink> {
        let (commands, from_gateway) = mpsc::channel(64);
        let (to_gateway, events) = mpsc::channel(64);
        self.other_ends
            .lock()
            .expect("not poisoned")
            .push((from_gateway, to_gateway));
        Ok(RealtimeLink { commands, events })
    }
}

struct Control {
    state: StateWatch,
}

#[async_trait]
impl ControlPlane for Control {
    fn watch(&self) -> StateWatch {
        self.state.clone()
    }

    async fn reload_functions(&self) -> Result<usize> {
        Ok(self.state.borrow().functions.len())
    }
}

fn functions() -> BTreeMap<String, Arc<Function>> {
    let function = |name: &str| Function {
        name: name.to_owned(),
        runtime: Runtime::Node,
        version: "1".to_owned(),
        root: PathBuf::from("/srv/private/functions"),
        entrypoint: PathBuf::from("handler.js"),
        description: format!("does {name}"),
        sample_input: Some(json!({"a": 1})),
        timeout: Duration::from_secs(30),
        memory_mib: 128,
        env: Arc::new(BTreeMap::from([("TOKEN".to_owned(), "hunter2".to_owned())])),
        invoke_rule: None,
    };
    let names = [
        "echo", "throw", "refuse", "crash", "full", "panic", "wait", "db", "stats",
    ];
    let ruled = |name: &str, rule: &str| Function {
        invoke_rule: Some(rule.into()),
        ..function(name)
    };
    let ruled = [
        ruled(
            "member",
            "auth != null && exists('numbered', {'word': input.word})",
        ),
        ruled("unruly", "auth.typo == 1"),
    ];
    names
        .into_iter()
        .map(function)
        .chain(ruled)
        .map(|function| (function.name.clone(), Arc::new(function)))
        .collect()
}

struct Worker {
    gate: Arc<Gate>,
}

#[async_trait]
impl FunctionService for Worker {
    async fn invoke(&self, invocation: Invocation) -> Result<Completion> {
        let threw = |code: Option<&str>| {
            Outcome::Threw(Thrown {
                code: code.map(str::to_owned),
                status: None,
                message: "it did not work".to_owned(),
                extra: serde_json::Map::new(),
            })
        };
        let outcome = match invocation.function.as_str() {
            "throw" => threw(None),
            "refuse" => threw(Some("NO_ROOM")),
            "crash" => return Err(Error::new(ErrorKind::BadGateway, "FUNCTION_CRASHED", "gone")),
            "full" => {
                let full = Error::new(ErrorKind::TooManyRequests, "FUNCTION_OVERLOADED", "full");
                return Err(full.with_retry_after(Duration::from_secs(1)));
            }
            "panic" => panic!("a defect with the password hunter2 in it"),
            "wait" => {
                self.gate.entered.notify_one();
                self.gate.open.notified().await;
                Outcome::Returned(Bytes::from_static(b"\"done\""))
            }
            "db" => Outcome::Returned(run_data_calls(&invocation).await?),
            _ => Outcome::Returned(invocation.input),
        };
        let line = LogEntry {
            level: "info".to_owned(),
            message: "ran".to_owned(),
            data: None,
            timestamp: "2026-01-01T00:00:00.000Z".to_owned(),
        };
        Ok(Completion {
            outcome,
            logs: vec![line],
            duration: Duration::from_millis(7),
        })
    }

    fn stats(&self) -> BTreeMap<String, PoolStats> {
        BTreeMap::from([("node".to_owned(), PoolStats::default())])
    }

    fn function_stats(&self) -> BTreeMap<String, FunctionStats> {
        let mut stats = FunctionStats {
            warm: 1,
            invocations: 2,
            ..FunctionStats::default()
        };
        stats.durations.add(Duration::from_millis(4));
        stats.durations.add(Duration::from_millis(100));
        BTreeMap::from([("echo".to_owned(), stats.clone()), ("removed".to_owned(), stats)])
    }
}

/// Runs the calls `[[op, collection, args], …]` of the input and returns their results, errors as their codes.
async fn run_data_calls(invocation: &Invocation) -> Result<Bytes> {
    assert!(invocation.deadline > Instant::now());
    let calls: Vec<(String, String, Json)> = serde_json::from_slice(&invocation.input).expect("calls");
    let mut results = Vec::new();
    for (op, collection, args) in calls {
        let call = DataCall {
            op: DataOp::parse(&op).expect("an operation"),
            collection,
            args: Bytes::from(args.to_string()),
        };
        results.push(match invocation.data.call(call).await {
            Ok(json) => serde_json::from_slice(&json).expect("JSON"),
            Err(error) => json!({"error": error.code()}),
        });
    }
    Ok(Bytes::from(Json::from(results).to_string()))
}
