//! A running server in either form, as a test uses it.

use rustix::process::Signal;

use crate::process::{Launch, Process, alyx, owned, words};
use crate::{Cluster, Http, Project, Socket, eventually};

/// How the roles run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All in one process, over an embedded database.
    Embedded,
    /// Each in processes of its own: one control plane, two gateways, two realtime nodes, two function workers.
    Cluster,
}

impl Form {
    /// Starts the project in this form and waits until it serves.
    pub async fn start(self, project: &Project) -> Server {
        self.start_with(project, &[]).await
    }

    /// The same with further environment.
    pub async fn start_with(self, project: &Project, env: &[(&str, &str)]) -> Server {
        match self {
            Self::Embedded => Server::start_with(project, &["dev"], env).await,
            Self::Cluster => {
                let cluster = Cluster::start_with(project, crate::Shape::default(), env).await;
                Server {
                    running: Running::Cluster(cluster),
                }
            }
        }
    }
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    running: Running,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it in a test")]
#[derive(Debug)]
enum Running {
    Embedded { process: Process, base: String },
    Cluster(Cluster),
}

impl Server {
    /// Starts `alyx dev --port 0` in the project and waits until it serves.
    pub async fn start(project: &Project) -> Self {
        Self::start_with(project, &["dev"], &[]).await
    }

    /// Starts `alyx <args> --port 0` with further environment and waits until it serves.
    pub async fn start_with(project: &Project, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut process = Process::start(&launch(project, args, env));
        let base = process.find("the server prints its address", address).await;
        let server = Self {
            running: Running::Embedded { process, base },
        };
        let http = server.http();
        eventually("the server is ready", || async {
            let reply = http.try_send(http::Method::GET, "/health/ready", &[], "").await;
            if reply.as_ref().is_ok_and(|reply| reply.status == 200) {
                Ok(())
            } else {
                Err(reply)
            }
        })
        .await;
        server
    }

    /// Runs `alyx <args>` to its end: exit code and everything it printed.
    pub async fn run(project: &Project, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
        Process::start(&launch(project, args, env)).end().await
    }

    /// Runs `alyx <args>` as an operator of this server: in the project's folder, in a cluster with the operators' token.
    /// Exit code and everything it printed.
    pub async fn operate(&self, project: &Project, args: &[&str]) -> (Option<i32>, String) {
        match &self.running {
            Running::Embedded { .. } => Self::run(project, args, &[]).await,
            Running::Cluster(cluster) => cluster.operate(args).await,
        }
    }

    /// An HTTP client for it; in a cluster its requests go to the gateways in turn.
    pub fn http(&self) -> Http {
        match &self.running {
            Running::Embedded { base, .. } => Http::new(base),
            Running::Cluster(cluster) => cluster.http(),
        }
    }

    /// `http://host:port`; in a cluster of its first gateway.
    pub fn base(&self) -> String {
        match &self.running {
            Running::Embedded { base, .. } => base.clone(),
            Running::Cluster(cluster) => cluster.base(0),
        }
    }

    /// A WebSocket to `/api/realtime` that has received `connected`; in a cluster on the next gateway in turn.
    pub async fn socket(&self) -> Socket {
        match &self.running {
            Running::Embedded { base, .. } => Socket::connect(base).await,
            Running::Cluster(cluster) => cluster.socket().await,
        }
    }

    /// Everything printed so far.
    pub fn output(&self) -> String {
        match &self.running {
            Running::Embedded { process, .. } => process.output(),
            Running::Cluster(cluster) => cluster.output(),
        }
    }

    /// Waits until the output has this text.
    pub async fn printed(&self, text: &str) {
        eventually(&format!("the server prints `{text}`"), || async {
            let output = self.output();
            if output.contains(text) {
                Ok(())
            } else {
                Err(output)
            }
        })
        .await;
    }

    /// The process id of the embedded form.
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// `SIGKILL` to all of it, and waits for the end.
    pub async fn kill(self) {
        match self.running {
            Running::Embedded { mut process, .. } => process.kill().await,
            Running::Cluster(mut cluster) => cluster.kill_all().await,
        }
    }

    /// `SIGTERM`, and waits for the end; the exit code. In a cluster the roles end one after the other.
    pub async fn terminate(self) -> Option<i32> {
        match self.running {
            Running::Embedded { mut process, .. } => process.terminate().await,
            Running::Cluster(mut cluster) => cluster.stop().await,
        }
    }

    /// Sends a signal to the process of the embedded form.
    pub fn signal(&self, signal: Signal) {
        self.process().signal(signal);
    }

    fn process(&self) -> &Process {
        match &self.running {
            Running::Embedded { process, .. } => process,
            Running::Cluster(_) => panic!("a cluster is several processes"),
        }
    }
}

fn launch(project: &Project, args: &[&str], env: &[(&str, &str)]) -> Launch {
    let mut args = words(args);
    let serves = args.first().is_some_and(|role| role == "dev" || role == "serve");
    if serves && !args.iter().any(|arg| arg == "--port") {
        args.extend(words(&["--port", "0"]));
    }
    Launch {
        program: alyx(),
        args,
        env: owned(env),
        dir: project.path().to_path_buf(),
    }
}

fn address(printed: &str) -> Option<String> {
    let start = printed.find("http://")?;
    let rest = &printed[start..];
    let end = rest.find(|c: char| c.is_whitespace())?;
    let url = &rest[..end];
    let host_end = url["http://".len()..]
        .find('/')
        .map_or(url.len(), |at| at + "http://".len());
    Some(url[..host_end].to_owned())
}

/// Writes each test twice: `embedded::name` and `cluster::name` call `name(Form)`.
#[macro_export]
macro_rules! in_both_forms {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::Form::Embedded).await;
            })*
        }
        mod cluster {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::Form::Cluster).await;
            })*
        }
    };
}
