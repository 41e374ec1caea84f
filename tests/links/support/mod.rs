//! A database, realtime nodes on it, and gateways that check what they are told.

mod gateway;
mod proxy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_bus::Bus;
use alyx_core::{Statement, Value};
use alyx_gateway::{RemoteRealtime, RemoteRealtimeParts};
use alyx_query::{Query, parse_query_json};
use alyx_realtime_node::{Limits, NodeParts, RealtimeNode, RealtimeRpc};
use alyx_rpc::{Security, Server};
use alyx_schema::{Collection, Schema, write_json};
use alyx_service::cluster::{ClusterNode, Role};
use alyx_service::realtime::RealtimeService as _;
use alyx_service::state::{DesiredState, StateWatch};
use alyx_service::tasks::Tasks;
use alyx_store::{EmbeddedOptions, Expect, Read, ReadCost, Store, Write, WriteStep};
use serde_json::Value as Json;
use tokio::sync::watch;

pub(crate) use gateway::Gateway;
pub(crate) use proxy::{Mode, Proxy};

/// The longest that anything is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const SCHEMA: &str = "
collections:
  tasks:
    fields:
      id: {type: int, primary: true, default: auto}
      room: {type: string}
      rank: {type: int, nullable: true}
      done: {type: bool, default: false}
      title: {type: text, default: ''}
";

pub(crate) fn schema(source: &str) -> Arc<Schema> {
    let checked = alyx_schema::parse(source, "schema.yaml").expect("the schema is right");
    Arc::new(checked.schema)
}

fn desired(revision: u64, schema: Arc<Schema>) -> Arc<DesiredState> {
    Arc::new(DesiredState {
        revision,
        schema_revision: revision,
        schema,
        functions: Arc::default(),
    })
}

pub(crate) fn security() -> Security {
    Security::new(Some("a token that is long enough for tests"), None).expect("a token is enough")
}

/// Everything that nodes and gateways share.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) collection: Arc<Collection>,
    bus: Bus,
    /// What nodes serve, and what gateways do.
    pub(crate) states: [watch::Sender<Arc<DesiredState>>; 2],
    directory: watch::Sender<Arc<Vec<ClusterNode>>>,
    tasks: Tasks,
    _folder: tempfile::TempDir,
}

/// A realtime node with its listener, behind a proxy.
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) node: Arc<RealtimeNode>,
    pub(crate) rpc: RealtimeRpc,
    pub(crate) proxy: Proxy,
    pub(crate) tasks: Tasks,
    _server: Server,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the database");
        let bus = Bus::in_process(4096);
        let publisher = bus.clone();
        let options = EmbeddedOptions::new(folder.path().join("data.db"));
        let store = Store::open_embedded(options, move |commit| publisher.publish(commit));
        let store = store.expect("a database opens");
        let schema = schema(SCHEMA);
        let collection = Arc::clone(schema.collection("tasks").expect("it is declared"));
        let sql = alyx_schema::create_table(&collection)
            .into_iter()
            .chain(alyx_schema::triggers(&collection));
        let steps = sql.map(|sql| Statement::new(sql, Vec::new())).collect();
        store.migrate(steps).await.expect("the migration is right");
        let state = || watch::Sender::new(desired(1, Arc::clone(&schema)));
        Self {
            store,
            collection,
            bus,
            states: [state(), state()],
            directory: watch::Sender::new(Arc::default()),
            tasks: Tasks::new(),
            _folder: folder,
        }
    }

    /// The control plane has migrated to another schema; nodes or gateways hear of it.
    pub(crate) fn serve(&self, side: usize, revision: u64, schema: &Arc<Schema>) {
        self.states[side].send_replace(desired(revision, Arc::clone(schema)));
    }

    /// Starts a node. Nobody knows it before [`World::list`].
    pub(crate) async fn node(&self, id: &str) -> Node {
        self.node_with(id, Limits::default()).await
    }

    pub(crate) async fn node_with(&self, id: &str, limits: Limits) -> Node {
        let tasks = Tasks::new();
        let state: StateWatch = self.states[0].subscribe();
        let node = RealtimeNode::start(NodeParts {
            store: self.store.clone(),
            bus: self.bus.clone(),
            state: state.clone(),
            tasks: tasks.clone(),
            limits,
        });
        let rpc = RealtimeRpc::new(Arc::clone(&node), state, tasks.clone());
        let listener = alyx_rpc::bind("127.0.0.1:0").await.expect("a free port");
        let server = alyx_rpc::serve(listener, &security(), rpc.routes(), &tasks).await;
        let server = server.expect("it listens");
        let proxy = Proxy::start(server.local_addr(), &self.tasks).await;
        Node {
            id: id.to_owned(),
            node,
            rpc,
            proxy,
            tasks,
            _server: server,
        }
    }

    /// The directory names these nodes from now on.
    pub(crate) fn list(&self, nodes: &[&Node]) {
        let nodes = nodes
            .iter()
            .map(|node| (node.id.clone(), node.proxy.address().to_string()));
        self.list_addresses(nodes);
    }

    pub(crate) fn list_addresses(&self, nodes: impl Iterator<Item = (String, String)>) {
        let nodes = nodes.map(|(id, address)| ClusterNode {
            id,
            role: Role::RealtimeNode,
            address,
            draining: false,
        });
        self.directory.send_replace(Arc::new(nodes.collect()));
    }

    /// A gateway's service and its link.
    pub(crate) async fn gateway(&self) -> Gateway {
        let remote = RemoteRealtime::new(RemoteRealtimeParts {
            nodes: self.directory.subscribe(),
            state: self.states[1].subscribe(),
            security: security(),
            tasks: self.tasks.clone(),
        });
        let link = remote.connect().await.expect("a link needs no node");
        Gateway::new(remote, link)
    }

    pub(crate) fn query(&self, json: &Json) -> Arc<Query> {
        Arc::new(parse_query_json(&self.collection, json).expect("the query is right"))
    }

    /// One commit (perhaps together with others that are waiting).
    pub(crate) async fn write(&self, statements: Vec<Statement>) {
        write(&self.store, statements).await;
    }

    /// What the query returns now.
    pub(crate) async fn result(&self, query: &Query) -> (Vec<String>, u64) {
        let read = Read {
            statements: vec![query.select(), query.count()],
            cost: ReadCost::Scan,
            deadline: Instant::now() + PATIENCE,
        };
        let reply = self.store.read(read).await.expect("the query runs");
        let json = |row: &Vec<Value>| {
            let mut out = Vec::new();
            write_json(&query.collection, row, query.fields.as_deref(), &mut out);
            String::from_utf8(out).expect("JSON is text")
        };
        let docs = reply.results[0].rows.iter().map(json).collect();
        let total = reply.results[1].rows[0][0].as_int().expect("a count");
        (docs, u64::try_from(total).expect("a count"))
    }

    /// Writes at random until the guard is dropped.
    pub(crate) fn keep_writing(&self) -> tokio_util::sync::DropGuard {
        let stop = tokio_util::sync::CancellationToken::new();
        let (stopped, store) = (stop.clone(), self.store.clone());
        self.tasks.spawn_detached(async move {
            let mut random = Random(7);
            let mut taken: BTreeMap<i64, ()> = BTreeMap::new();
            while !stopped.is_cancelled() {
                let id = random.below(300);
                let room = ["a", "b", "c", "d"][usize::try_from(random.below(4)).expect("small")];
                let rank = Some(random.below(50)).filter(|rank| *rank > 4);
                let statement = if taken.insert(id, ()).is_none() {
                    insert(id, room, rank)
                } else if random.below(4) == 0 {
                    taken.remove(&id);
                    delete(id)
                } else {
                    set_rank(id, rank)
                };
                write(&store, vec![statement]).await;
            }
        });
        stop.drop_guard()
    }
}

async fn write(store: &Store, statements: Vec<Statement>) {
    let steps = statements.into_iter().map(|statement| WriteStep {
        statement,
        expect: Expect::Any,
    });
    let write = Write {
        steps: steps.collect(),
        deadline: Instant::now() + PATIENCE,
    };
    store.write(write).await.expect("the write is right");
}

/// A fixed sequence that looks random: a linear congruential generator.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((self.0 >> 33) % bound).expect("bounds are small")
    }
}

pub(crate) fn insert(id: i64, room: &str, rank: Option<i64>) -> Statement {
    Statement::new(
        "INSERT INTO tasks (id, room, rank, done, title) VALUES (?1, ?2, ?3, 0, 'new')",
        vec![id.into(), room.into(), rank.into()],
    )
}

pub(crate) fn set_title(id: i64, title: String) -> Statement {
    Statement::new(
        "UPDATE tasks SET title = ?1 WHERE id = ?2",
        vec![title.into(), id.into()],
    )
}

pub(crate) fn set_rank(id: i64, rank: Option<i64>) -> Statement {
    Statement::new(
        "UPDATE tasks SET rank = ?1 WHERE id = ?2",
        vec![rank.into(), id.into()],
    )
}

pub(crate) fn delete(id: i64) -> Statement {
    Statement::new("DELETE FROM tasks WHERE id = ?1", vec![id.into()])
}

/// Waits until `look` finds something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let until = Instant::now() + PATIENCE;
    loop {
        looks.tick().await;
        match look() {
            Ok(found) => return found,
            Err(state) => assert!(Instant::now() < until, "never: {what}; at the end {state}"),
        }
    }
}
