//! Control planes and nodes over real sockets, each control plane on a runtime of its own, so that it can be killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alyx_cluster::{Announcement, RemoteControl, RemoteOptions};
use alyx_config::{Config, Secret};
use alyx_control_plane::{AdminApi, ClusterControl, ClusterOptions, Options};
use alyx_core::{Statement, SystemClock, Value};
use alyx_operators::Operators;
use alyx_proto::admin::admin_client::AdminClient;
use alyx_proto::control::ListNodesRequest;
use alyx_proto::control::control_client::ControlClient;
use alyx_rpc::{Channel, Gate, OperatorSecurity, Security, Server, bind, connect, connect_operator, serve};
use alyx_service::cluster::{ClusterNode, Role};
use alyx_service::tasks::Tasks;
use alyx_store::{EmbeddedOptions, Expect, Store, Write, WriteStep};
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub(crate) const CLUSTER: &str = "test";
/// Longest wait for anything; a lease is 5 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const POSTS: &str =
    "collections: {posts: {fields: {id: {type: uuid, primary: true}, title: {type: string}}}}\n";

pub(crate) const NOTES: &str = "collections: {posts: {fields: {id: {type: uuid, primary: true}, title: {type: string}}}, \
                     notes: {fields: {id: {type: uuid, primary: true}, text: {type: string}}}}\n";

pub(crate) fn security() -> Security {
    Security::new(Some("0123456789abcdef0123456789abcdef"), None).expect("a token")
}

pub(crate) const OPERATOR: &str = "operator-0123456789abcdef0123456789abcdef";

/// A project with its database.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    store: Store,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store =
            Store::open_embedded(EmbeddedOptions::new(dir.path().join("alyx.db")), |_| {}).expect("opened");
        let site = Self { dir, store };
        site.write("schema.yaml", POSTS);
        site.write("functions/send.js", "export default () => 1");
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let write = Write {
            steps: vec![WriteStep {
                statement: Statement::new(sql, Vec::<Value>::new()),
                expect: Expect::Row,
            }],
            deadline: std::time::Instant::now() + Duration::from_secs(10),
        };
        self.store.write(write).await.expect(sql);
    }

    /// A control plane on a free port.
    pub(crate) async fn plane(&self, name: &str) -> Plane {
        self.plane_on(name, "127.0.0.1:0").await
    }

    pub(crate) async fn plane_on(&self, name: &str, listen: &str) -> Plane {
        let mut functions = Config::default().functions;
        functions.path = self.path("functions");
        functions.env.insert("KEY".to_owned(), Secret::new("s3cr3t"));
        let plane = Options {
            schema_path: self.path("schema.yaml"),
            functions: Some(functions),
            state_dir: self.path(&format!("{name}.state")),
            watch: false,
            env: BTreeMap::new(),
        };
        let (store, name, listen) = (self.store.clone(), name.to_owned(), listen.to_owned());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let started = runtime.spawn(async move {
            let tasks = Tasks::new();
            let listener = bind(&listen).await.expect("bound");
            let address = listener.local_addr().to_string();
            let options = ClusterOptions {
                plane,
                cluster: CLUSTER.to_owned(),
                node_id: name,
                address: address.clone(),
            };
            let clock = Arc::new(SystemClock);
            let rows = Arc::new(Operators::new(store.clone(), clock.clone()));
            let control = ClusterControl::start(options, store.clone(), store, clock, &tasks);
            let operators = OperatorSecurity::new(OPERATOR, None).expect("a token");
            let api = AdminApi::of_cluster(Arc::clone(&control), rows, security());
            operators.accept(api.tokens());
            let gate = Gate::with_operators(&security(), Some(&operators));
            let server = serve(listener, gate, api.add_to(control.routes()), &tasks)
                .await
                .expect("serves");
            let listener = bind("127.0.0.1:0").await.expect("bound");
            let admin = format!("http://{}", listener.local_addr());
            let admin_server = serve(listener, &operators, api.routes(), &tasks)
                .await
                .expect("serves");
            control.settled().await.expect("settled");
            ((address, admin), control, (server, admin_server), tasks)
        });
        let ((address, admin), control, servers, tasks) = started.await.expect("started");
        Plane {
            address,
            admin,
            control,
            servers: Some(servers),
            tasks,
            runtime: Some(runtime),
        }
    }

    /// A node that follows these control planes.
    pub(crate) async fn node(&self, role: Role, name: &str, planes: &[&str]) -> Node {
        self.try_node(role, name, planes, PATIENCE)
            .await
            .expect("connected")
    }

    /// The same with an id and a name of its own.
    pub(crate) async fn named_node(&self, role: Role, names: (&str, &str), planes: &[&str]) -> Node {
        self.connect(role, names, planes, PATIENCE)
            .await
            .expect("connected")
    }

    pub(crate) async fn try_node(
        &self,
        role: Role,
        name: &str,
        planes: &[&str],
        within: Duration,
    ) -> alyx_core::Result<Node> {
        self.connect(role, (name, name), planes, within).await
    }

    async fn connect(
        &self,
        role: Role,
        (id, name): (&str, &str),
        planes: &[&str],
        within: Duration,
    ) -> alyx_core::Result<Node> {
        let tasks = Tasks::new();
        let options = RemoteOptions {
            endpoints: planes.iter().map(|address| (*address).to_owned()).collect(),
            security: security(),
            cluster: CLUSTER.to_owned(),
            node_id: id.to_owned(),
            node_name: name.to_owned(),
            role,
            state_dir: self.path(&format!("{name}.state")),
            first_state_within: within,
        };
        let control = RemoteControl::connect(options, &tasks).await?;
        Ok(Node { control, tasks })
    }
}

pub(crate) struct Plane {
    pub(crate) address: String,
    /// `http://host:port` for operators.
    pub(crate) admin: String,
    pub(crate) control: Arc<ClusterControl>,
    servers: Option<(Server, Server)>,
    tasks: Tasks,
    runtime: Option<Runtime>,
}

impl Plane {
    /// All of it is gone at once, as by SIGKILL.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Stops in phases.
    pub(crate) async fn stop(mut self) {
        let within = Duration::from_secs(5);
        assert!(
            self.control.stop(within).await,
            "the control plane did not end in time"
        );
        if let Some((server, admin)) = self.servers.take() {
            assert!(admin.stop(within).await, "operators' calls were cut off");
            assert!(server.stop(within).await, "calls were cut off");
        }
        assert!(self.tasks.stop(within).await, "tasks did not end in time");
    }

    pub(crate) fn client(&self) -> ControlClient<Channel> {
        ControlClient::new(connect(&self.address, &security()).expect("an address"))
    }

    pub(crate) fn operator(&self) -> AdminClient<Channel> {
        AdminClient::new(connect_operator(&self.admin, OPERATOR, None).expect("an address"))
    }

    /// Waits until the directory says that it is complete, and returns it.
    pub(crate) async fn complete(&self) -> Vec<alyx_proto::control::Node> {
        let mut client = self.client();
        loop {
            let nodes = client
                .list_nodes(ListNodesRequest {})
                .await
                .expect("listed")
                .into_inner();
            if nodes.complete {
                return nodes.nodes;
            }
            tokio::task::yield_now().await;
        }
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) struct Node {
    pub(crate) control: Arc<RemoteControl>,
    pub(crate) tasks: Tasks,
}

impl Node {
    pub(crate) fn announce(&self, address: &str) {
        let announcement = Announcement {
            address: address.to_owned(),
            version: "0.0.0".to_owned(),
            capacity: 10,
        };
        self.control.announce(announcement, &self.tasks);
    }

    /// Ends, and leaves the directory.
    pub(crate) async fn stop(self) {
        assert!(
            self.tasks.stop(Duration::from_secs(5)).await,
            "tasks did not end in time"
        );
    }

    /// Waits until the directory holds exactly these, as (name, draining).
    pub(crate) async fn sees(&self, expected: &[(&str, bool)]) {
        eventually(self.control.nodes(), |nodes| summary(nodes) == expected).await;
    }
}

pub(crate) fn summary(nodes: &[ClusterNode]) -> Vec<(&str, bool)> {
    nodes
        .iter()
        .map(|node| (node.id.as_str(), node.draining))
        .collect()
}

/// Waits until the value is as it should be, and prints the last one where it never is.
pub(crate) async fn eventually<T: Clone + std::fmt::Debug>(
    mut value: watch::Receiver<T>,
    condition: impl Fn(&T) -> bool,
) -> T {
    let waiting = tokio::time::timeout(PATIENCE, value.wait_for(|value| condition(value)));
    if let Ok(Ok(value)) = waiting.await {
        return value.clone();
    }
    panic!("still {:?}", value.borrow());
}
