//! All roles as processes of their own, over a real NATS server and a real libSQL server.

mod node;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use rustix::process::Signal;
use tempfile::TempDir;

use self::node::Node;
use crate::engines::{Engine, random_bytes};
use crate::process::{Launch, Process, alyx, owned, words};
use crate::{Http, Link, Project, Socket};

/// A role or an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// `alyx control-plane`
    ControlPlane,
    /// `alyx gateway`
    Gateway,
    /// `alyx realtime-node`
    RealtimeNode,
    /// `alyx function-worker`
    FunctionWorker,
    /// The NATS server.
    Nats,
    /// The libSQL server.
    Database,
}

impl Part {
    /// The subcommand, and the name in node ids; engines have none of the first.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Gateway => "gateway",
            Self::RealtimeNode => "realtime-node",
            Self::FunctionWorker => "function-worker",
            Self::Nats => "nats",
            Self::Database => "database",
        }
    }
}

/// How many of each role, and whether links can be disturbed.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Gateways.
    pub gateways: usize,
    /// Realtime nodes.
    pub realtime_nodes: usize,
    /// Function workers.
    pub function_workers: usize,
    /// Every way between two processes leads through a [`Link`], and so do the gateways' public addresses.
    pub linked: bool,
}

impl Shape {
    /// One of each, directly joined.
    pub const ONE_OF_EACH: Self = Self {
        gateways: 1,
        realtime_nodes: 1,
        function_workers: 1,
        linked: false,
    };
}

impl Default for Shape {
    /// Two of each, directly joined.
    fn default() -> Self {
        Self {
            gateways: 2,
            realtime_nodes: 2,
            function_workers: 2,
            linked: false,
        }
    }
}

/// A running cluster; everything is killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    nats: Engine,
    database: Engine,
    /// The way to every control plane, which must keep its address.
    control: Link,
    /// The operators' token.
    operator: String,
    turn: AtomicUsize,
    folders: TempDir,
}

/// The ways into and out of one node.
#[derive(Debug)]
pub struct Links {
    /// Other roles' calls to this one.
    pub inbound: Link,
    /// To NATS.
    pub nats: Link,
    /// To the libSQL server.
    pub database: Link,
    /// To the control plane.
    pub control: Link,
    /// Clients' way to a gateway.
    pub public: Link,
}

impl Links {
    /// All of them.
    pub fn all(&self) -> [&Link; 5] {
        [
            &self.inbound,
            &self.nats,
            &self.database,
            &self.control,
            &self.public,
        ]
    }
}

impl Cluster {
    /// Two of each role on that project, as soon as all of them serve.
    pub async fn start(project: &Project) -> Self {
        Self::start_with(project, Shape::default(), &[]).await
    }

    /// A cluster of that shape with further environment for every role.
    pub async fn start_with(project: &Project, shape: Shape, env: &[(&str, &str)]) -> Self {
        let data = project.path().join(".cluster/database");
        let (nats, database, control) = tokio::join!(Engine::nats(), Engine::database(&data), Link::open());
        let mut cluster = Self {
            nodes: Vec::new(),
            nats,
            database,
            control,
            operator: secret(),
            turn: AtomicUsize::new(0),
            folders: tempfile::tempdir().expect("a temporary folder"),
        };
        cluster.plan(project, &shape, env).await;
        cluster.launch(|node| node.part == Part::ControlPlane).await;
        cluster.launch(|node| node.part != Part::ControlPlane).await;
        cluster.healthy().await;
        cluster
    }

    async fn plan(&mut self, project: &Project, shape: &Shape, env: &[(&str, &str)]) {
        let token = secret();
        for (part, count) in [
            (Part::ControlPlane, 1),
            (Part::Gateway, shape.gateways),
            (Part::RealtimeNode, shape.realtime_nodes),
            (Part::FunctionWorker, shape.function_workers),
        ] {
            for number in 0..count {
                let links = if shape.linked {
                    Some(self.new_links().await)
                } else {
                    None
                };
                let mut launch = Launch {
                    program: alyx(),
                    args: words(&[part.name()]),
                    env: self.env(part, number, &token, links.as_ref()),
                    dir: self.folder(project, part, number),
                };
                if part == Part::ControlPlane {
                    launch.env.extend(owned(&[
                        ("ALYX_ADMIN_TOKEN", &self.operator),
                        ("ALYX_ADMIN_LISTEN", "127.0.0.1:0"),
                    ]));
                }
                launch.env.extend(owned(env));
                self.nodes.push(Node {
                    part,
                    number,
                    launch,
                    process: None,
                    links,
                    public: None,
                    rpc: None,
                    metrics: None,
                    admin: None,
                });
            }
        }
    }

    async fn new_links(&self) -> Links {
        let (inbound, nats, database, control, public) = tokio::join!(
            Link::open(),
            Link::to_nats(self.nats.address()),
            Link::to(self.database.address()),
            Link::to(self.control.address()),
            Link::open()
        );
        Links {
            inbound,
            nats,
            database,
            control,
            public,
        }
    }

    fn env(&self, part: Part, number: usize, token: &str, links: Option<&Links>) -> Vec<(String, String)> {
        let through = |link: fn(&Links) -> &Link, direct: SocketAddr| {
            links.map_or(direct, |links| link(links).address()).to_string()
        };
        let node = format!("{}-{number}", part.name());
        let control = through(|links| &links.control, self.control.address());
        let nats = format!("nats://{}", through(|links| &links.nats, self.nats.address()));
        let database = format!(
            "http://{}",
            through(|links| &links.database, self.database.address())
        );
        let mut env = owned(&[
            ("ALYX_SERVER_HOST", "127.0.0.1"),
            ("ALYX_SERVER_PORT", "0"),
            ("ALYX_CLUSTER_TOKEN", token),
            ("ALYX_CLUSTER_LISTEN", "127.0.0.1:0"),
            ("ALYX_CLUSTER_NODE_ID", &node),
            ("ALYX_CLUSTER_CONTROL_PLANE", &control),
            ("ALYX_CLUSTER_NATS", &nats),
            ("ALYX_METRICS_LISTEN", "127.0.0.1:0"),
            ("ALYX_DATABASE_TURSO_ENABLED", "true"),
            ("ALYX_DATABASE_TURSO_URL", &database),
        ]);
        let advertised = match part {
            Part::ControlPlane => Some(self.control.address()),
            _ => links.map(|links| links.inbound.address()),
        };
        env.extend(advertised.map(|address| ("ALYX_CLUSTER_ADVERTISE".to_owned(), address.to_string())));
        env
    }

    /// Where a node runs. Realtime nodes and workers have a folder of their own with nothing but the configuration,
    /// as on another machine; the control plane needs schema and functions, and gateways the frontend.
    fn folder(&self, project: &Project, part: Part, number: usize) -> PathBuf {
        if matches!(part, Part::ControlPlane | Part::Gateway) {
            return project.path().to_path_buf();
        }
        let folder = self.folders.path().join(format!("{}-{number}", part.name()));
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        let config = project.path().join("alyx.yaml");
        if config.exists() {
            std::fs::copy(config, folder.join("alyx.yaml")).expect("the file can be copied");
        }
        folder
    }

    async fn launch(&mut self, which: impl Fn(&Node) -> bool) {
        let starting = self.nodes.iter_mut().filter(|node| which(node));
        join_all(starting.map(Node::start)).await;
        for node in self.nodes.iter().filter(|node| which(node)) {
            self.aim(node);
        }
    }

    /// Points the ways into a node at its present addresses.
    fn aim(&self, node: &Node) {
        if let (Part::ControlPlane, Some(rpc)) = (node.part, node.rpc) {
            self.control.aim(rpc);
        }
        if let Some(links) = &node.links {
            node.rpc.into_iter().for_each(|rpc| links.inbound.aim(rpc));
            node.public
                .into_iter()
                .for_each(|public| links.public.aim(public));
        }
    }

    /// Waits until every node that runs is ready and every gateway finds all that it needs.
    pub async fn healthy(&self) {
        let running = self.nodes.iter().filter(|node| node.process.is_some());
        join_all(running.map(Node::ready)).await;
    }

    /// A client whose requests go to the gateways in turn.
    pub fn http(&self) -> Http {
        Http::spread(self.gateways().map(Node::base).collect())
    }

    /// A client of one gateway.
    pub fn gateway(&self, number: usize) -> Http {
        Http::new(&self.node(Part::Gateway, number).base())
    }

    /// `http://host:port` of one gateway.
    pub fn base(&self, number: usize) -> String {
        self.node(Part::Gateway, number).base()
    }

    /// A WebSocket to the next gateway in turn.
    pub async fn socket(&self) -> Socket {
        let gateways: Vec<String> = self.gateways().map(Node::base).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Socket::connect(&gateways[turn % gateways.len()]).await
    }

    /// `host:port` for other roles' calls, as the node printed it.
    pub fn rpc(&self, part: Part, number: usize) -> SocketAddr {
        self.node(part, number).rpc.expect("it serves other roles")
    }

    /// Runs `alyx <args>` as an operator of this cluster: exit code and everything it printed.
    pub async fn operate(&self, args: &[&str]) -> (Option<i32>, String) {
        let (server, token) = self.admin();
        let launch = Launch {
            program: alyx(),
            args: words(args),
            env: owned(&[("ALYX_SERVER", &server), ("ALYX_ADMIN_TOKEN", &token)]),
            dir: self.folders.path().to_path_buf(),
        };
        Process::start(&launch).end().await
    }

    /// Runs `alyx <args>` in the project's folder, on this cluster's database: exit code and everything it printed.
    pub async fn run_on_database(&self, project: &Project, args: &[&str]) -> (Option<i32>, String) {
        let database = format!("http://{}", self.database.address());
        let launch = Launch {
            program: alyx(),
            args: words(args),
            env: owned(&[
                ("ALYX_DATABASE_TURSO_ENABLED", "true"),
                ("ALYX_DATABASE_TURSO_URL", &database),
            ]),
            dir: project.path().to_path_buf(),
        };
        Process::start(&launch).end().await
    }

    /// The address of the admin API, and the operators' token.
    pub fn admin(&self) -> (String, String) {
        let address = self.node(Part::ControlPlane, 0).admin;
        let address = address.expect("a control plane has an admin API");
        (format!("http://{address}"), self.operator.clone())
    }

    /// A client of a node's own listener for health and metrics.
    pub fn metrics(&self, part: Part, number: usize) -> Http {
        let address = self.node(part, number).metrics.expect("it has metrics");
        Http::new(&format!("http://{address}"))
    }

    /// How many of that part there are.
    pub fn count(&self, part: Part) -> usize {
        match part {
            Part::Nats | Part::Database => 1,
            _ => self.nodes.iter().filter(|node| node.part == part).count(),
        }
    }

    /// The process id of a part that runs.
    pub fn pid(&self, part: Part, number: usize) -> u32 {
        let process = match part {
            Part::Nats => self.nats.process(),
            Part::Database => self.database.process(),
            _ => self.node(part, number).process.as_ref(),
        };
        process.expect("it runs").pid()
    }

    /// The ways into and out of a node of a linked cluster.
    pub fn links(&self, part: Part, number: usize) -> &Links {
        let links = self.node(part, number).links.as_ref();
        links.expect("the cluster was started with links")
    }

    /// `SIGKILL`, and waits for the end.
    pub async fn kill(&mut self, part: Part, number: usize) {
        match part {
            Part::Nats => self.nats.kill().await,
            Part::Database => self.database.kill().await,
            _ => {
                if let Some(mut process) = self.node_mut(part, number).process.take() {
                    process.kill().await;
                }
            }
        }
    }

    /// `SIGKILL` to the NATS server, and all that it kept is wiped.
    pub async fn wipe_nats(&mut self) {
        self.nats.kill().await;
        self.nats.wipe();
    }

    /// `SIGTERM`, and waits for the end; the exit code.
    pub async fn terminate(&mut self, part: Part, number: usize) -> Option<i32> {
        let process = self.node_mut(part, number).process.take();
        process.expect("it runs").terminate().await
    }

    /// `SIGTERM` to an engine, and waits for its end.
    pub async fn terminate_engine(&mut self, part: Part) {
        match part {
            Part::Nats => self.nats.terminate().await,
            Part::Database => self.database.terminate().await,
            _ => panic!("{part:?} is a role"),
        }
    }

    /// Runs one statement on the libSQL server itself, past every role and link: its rows, each value as text.
    pub async fn sql(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        self.database.sql(sql).await
    }

    /// Starts a part again that was killed or terminated, and waits until it serves. A node of a linked cluster
    /// keeps its advertised address; others register with a new one, as a new machine would.
    pub async fn restart(&mut self, part: Part, number: usize) {
        match part {
            Part::Nats => self.nats.restart().await,
            Part::Database => self.database.restart().await,
            _ => {
                self.launch_again(part, number).await;
                self.node(part, number).ready().await;
            }
        }
    }

    /// The same without waiting for more than its addresses, for when what it needs is away.
    pub async fn launch_again(&mut self, part: Part, number: usize) {
        self.launch(|node| node.part == part && node.number == number)
            .await;
    }

    /// Freezes a process (`SIGSTOP`).
    pub fn pause(&self, part: Part, number: usize) {
        self.signal(part, number, Signal::STOP);
    }

    /// Thaws it (`SIGCONT`).
    pub fn resume(&self, part: Part, number: usize) {
        self.signal(part, number, Signal::CONT);
    }

    fn signal(&self, part: Part, number: usize, signal: Signal) {
        match part {
            Part::Nats => self.nats.signal(signal),
            Part::Database => self.database.signal(signal),
            _ => {
                let process = self.node(part, number).process.as_ref();
                process.expect("it runs").signal(signal);
            }
        }
    }

    /// Stops every role, those that others need last; the first exit code that is not 0, or 0.
    pub async fn stop(&mut self) -> Option<i32> {
        let mut code = Some(0);
        for part in [
            Part::Gateway,
            Part::FunctionWorker,
            Part::RealtimeNode,
            Part::ControlPlane,
        ] {
            let of_part = self.nodes.iter_mut().filter(|node| node.part == part);
            let stopped = join_all(
                of_part
                    .filter_map(|node| node.process.take())
                    .map(async |mut process| process.terminate().await),
            );
            let failed = stopped.await.into_iter().find(|code| *code != Some(0));
            code = failed.unwrap_or(code);
        }
        code
    }

    /// `SIGKILL` to everything, the engines too.
    pub async fn kill_all(&mut self) {
        let running = self.nodes.iter_mut().filter_map(|node| node.process.take());
        join_all(running.map(async |mut process| process.kill().await)).await;
        self.nats.kill().await;
        self.database.kill().await;
    }

    /// Everything that was printed, by node.
    pub fn output(&self) -> String {
        let nodes = self.nodes.iter().map(|node| {
            let printed = node.process.as_ref().map(Process::output).unwrap_or_default();
            format!("== {} {}\n{printed}", node.part.name(), node.number)
        });
        let engines = [("nats", &self.nats), ("database", &self.database)]
            .map(|(name, engine)| format!("== {name}\n{}", engine.output()));
        nodes.chain(engines).collect()
    }

    /// What one node has printed so far.
    pub fn printed(&self, part: Part, number: usize) -> String {
        let process = self.node(part, number).process.as_ref();
        process.map(Process::output).unwrap_or_default()
    }

    fn gateways(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.part == Part::Gateway)
    }

    fn node(&self, part: Part, number: usize) -> &Node {
        let mut nodes = self.nodes.iter();
        nodes
            .find(|node| node.part == part && node.number == number)
            .expect("there is such a node")
    }

    fn node_mut(&mut self, part: Part, number: usize) -> &mut Node {
        let mut nodes = self.nodes.iter_mut();
        nodes
            .find(|node| node.part == part && node.number == number)
            .expect("there is such a node")
    }
}

fn secret() -> String {
    (0..4)
        .map(|_| format!("{:016x}", u64::from_le_bytes(random_bytes())))
        .collect()
}
