//! What is disturbed: the embedded server behind a link, or a cluster with a link on every way.

mod audit;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use alyx_store::{EmbeddedOptions, Store};
use alyx_tests::{Cluster, Flow, Form, Link, Links, Part, Project, Server, Shape};
use rustix::process::Signal;
use serde_json::Value;

pub(crate) use self::audit::Lease;

/// The collection of the run.
pub(crate) const COLLECTION: &str = "entries";

const SCHEMA: &str = "
collections:
  entries:
    fields:
      writer: {type: int, index: true}
      content: {type: string}
      rank: {type: int, index: true}
";

/// Writes what its caller would have written itself, through `ctx.db`.
const FUNCTION: &str = "
export default async function (ctx) {
  const { op, id, doc } = ctx.input;
  if (op === 'create') return await ctx.db.entries.create(doc);
  if (op === 'update') return await ctx.db.entries.update(id, doc);
  return await ctx.db.entries.delete(id);
}
";

/// The function of the run.
pub(crate) const FUNCTION_PATH: &str = "/api/functions/enter";

/// Calls end sooner than by default, as callers here have less patience.
const ENV: [(&str, &str); 1] = [("ALYX_FUNCTIONS_TIMEOUT", "4s")];

/// A way that can be disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From clients.
    Public,
    /// From other roles.
    Inbound,
    /// To NATS.
    Nats,
    /// To the libSQL server.
    Database,
    /// To the control plane.
    Control,
}

pub(crate) struct System {
    project: Project,
    running: Running,
    /// Where what processes printed is kept.
    folder: PathBuf,
}

impl Drop for System {
    fn drop(&mut self) {
        self.keep("last", &self.output());
    }
}

enum Running {
    Embedded { server: Option<Server>, link: Link },
    Cluster(Cluster),
}

impl System {
    /// Starts it; what its processes print is kept in `folder`.
    pub(crate) async fn start(form: Form, folder: &Path) -> Self {
        let project = Project::with_schema(SCHEMA);
        project.write("functions/enter.js", FUNCTION);
        let running = match form {
            Form::Embedded => {
                let server = Server::start_with(&project, &["serve"], &ENV).await;
                let link = Link::to(address(&server)).await;
                Running::Embedded {
                    server: Some(server),
                    link,
                }
            }
            Form::Cluster => {
                let shape = Shape {
                    linked: true,
                    ..Shape::default()
                };
                let cluster = Cluster::start_with(&project, shape, &ENV).await;
                audit::begin(&cluster).await;
                Running::Cluster(cluster)
            }
        };
        let folder = folder.to_path_buf();
        Self {
            project,
            running,
            folder,
        }
    }

    /// `http://host:port` of everything that clients may use; these never change.
    pub(crate) fn entrances(&self) -> Vec<String> {
        match &self.running {
            Running::Embedded { link, .. } => vec![format!("http://{}", link.address())],
            Running::Cluster(cluster) => vec![cluster.base(0), cluster.base(1)],
        }
    }

    /// What can be killed and frozen.
    pub(crate) fn parts(&self) -> Vec<(Part, usize)> {
        match &self.running {
            Running::Embedded { .. } => vec![(Part::Gateway, 0)],
            Running::Cluster(_) => vec![
                (Part::ControlPlane, 0),
                (Part::Gateway, 0),
                (Part::Gateway, 1),
                (Part::RealtimeNode, 0),
                (Part::RealtimeNode, 1),
                (Part::FunctionWorker, 0),
                (Part::FunctionWorker, 1),
                (Part::Nats, 0),
                (Part::Database, 0),
            ],
        }
    }

    /// What can be disturbed on the way.
    pub(crate) fn ways(&self) -> Vec<(Part, usize, Way)> {
        let of = |part: Part, ways: &'static [Way]| {
            (0..2).flat_map(move |number| ways.iter().map(move |way| (part, number, *way)))
        };
        match &self.running {
            Running::Embedded { .. } => vec![(Part::Gateway, 0, Way::Public)],
            Running::Cluster(_) => of(
                Part::Gateway,
                &[Way::Public, Way::Inbound, Way::Nats, Way::Database, Way::Control],
            )
            .chain(of(
                Part::RealtimeNode,
                &[Way::Inbound, Way::Nats, Way::Database, Way::Control],
            ))
            .chain(of(Part::FunctionWorker, &[Way::Inbound, Way::Control]))
            .collect(),
        }
    }

    pub(crate) async fn kill(&mut self, part: Part, number: usize) {
        self.keep_output(part, number);
        match &mut self.running {
            Running::Embedded { server, .. } => {
                let server = server.take().expect("it runs");
                server.kill().await;
            }
            Running::Cluster(cluster) if part == Part::Nats => cluster.wipe_nats().await,
            Running::Cluster(cluster) => cluster.kill(part, number).await,
        }
    }

    /// The same in the order of a rolling restart; engines are not part of one.
    pub(crate) fn roles(&self) -> Vec<(Part, usize)> {
        let mut roles = self.parts();
        roles.retain(|(part, _)| !is_engine(*part));
        roles
    }

    pub(crate) async fn terminate(&mut self, part: Part, number: usize) {
        self.keep_output(part, number);
        let code = match &mut self.running {
            Running::Cluster(cluster) if is_engine(part) => return cluster.terminate_engine(part).await,
            Running::Embedded { server, .. } => server.take().expect("it runs").terminate().await,
            Running::Cluster(cluster) => cluster.terminate(part, number).await,
        };
        assert_eq!(code, Some(0), "{part:?} {number} stops in order");
    }

    /// Starts again what was killed or terminated; a role need not serve yet when this returns.
    pub(crate) async fn restart(&mut self, part: Part, number: usize) {
        match &mut self.running {
            Running::Embedded { server, link } => {
                let again = Server::start_with(&self.project, &["serve"], &ENV).await;
                link.aim(address(&again));
                *server = Some(again);
            }
            Running::Cluster(cluster) if is_engine(part) => cluster.restart(part, number).await,
            Running::Cluster(cluster) => cluster.launch_again(part, number).await,
        }
    }

    /// Waits until every role is ready and finds what it needs.
    pub(crate) async fn healthy(&self) {
        if let Running::Cluster(cluster) = &self.running {
            cluster.healthy().await;
        }
    }

    pub(crate) fn pause(&self, part: Part, number: usize) {
        match &self.running {
            Running::Embedded { server, .. } => server.as_ref().expect("it runs").signal(Signal::STOP),
            Running::Cluster(cluster) => cluster.pause(part, number),
        }
    }

    pub(crate) fn resume(&self, part: Part, number: usize) {
        match &self.running {
            Running::Embedded { server, .. } => server.as_ref().expect("it runs").signal(Signal::CONT),
            Running::Cluster(cluster) => cluster.resume(part, number),
        }
    }

    pub(crate) fn set(&self, (part, number, way): (Part, usize, Way), flow: Flow) {
        match &self.running {
            Running::Embedded { link, .. } => link.set(flow),
            Running::Cluster(cluster) => {
                let Links {
                    inbound,
                    nats,
                    database,
                    control,
                    public,
                } = cluster.links(part, number);
                match way {
                    Way::Public => public.set(flow),
                    Way::Inbound => inbound.set(flow),
                    Way::Nats => nats.set(flow),
                    Way::Database => database.set(flow),
                    Way::Control => control.set(flow),
                }
            }
        }
    }

    /// Who may write now; nothing where the database is away, or is the process's own.
    pub(crate) async fn lease(&self) -> Option<Lease> {
        match &self.running {
            Running::Embedded { .. } => None,
            Running::Cluster(cluster) => audit::lease(cluster).await,
        }
    }

    /// Which writers wrote in each epoch of the lease, as the database itself saw it; nothing without a lease.
    pub(crate) async fn epochs(&self) -> Value {
        match &self.running {
            Running::Embedded { .. } => Value::Null,
            Running::Cluster(cluster) => audit::epochs(cluster).await,
        }
    }

    /// NATS messages that were tampered with so far.
    pub(crate) fn disturbed(&self) -> u64 {
        let Running::Cluster(cluster) = &self.running else {
            return 0;
        };
        let ways = self.ways().into_iter().filter(|(_, _, way)| *way == Way::Nats);
        ways.map(|(part, number, _)| cluster.links(part, number).nats.disturbed())
            .sum()
    }

    /// The whole change log, oldest first. The embedded server is stopped for it.
    pub(crate) async fn log(&mut self) -> Vec<Value> {
        match &mut self.running {
            Running::Embedded { server, .. } => {
                let server = server.take().expect("it runs");
                assert_eq!(server.terminate().await, Some(0), "it stops in order");
                let file = self.project.path().join("alyx.db");
                let store =
                    Store::open_embedded(EmbeddedOptions::new(file), |_| {}).expect("the database opens");
                audit::log_of(&store).await
            }
            Running::Cluster(cluster) => audit::log(cluster).await,
        }
    }

    /// What its processes printed since they were last started.
    fn output(&self) -> String {
        match &self.running {
            Running::Embedded { server, .. } => server.as_ref().map(Server::output).unwrap_or_default(),
            Running::Cluster(cluster) => cluster.output(),
        }
    }

    fn keep_output(&self, part: Part, number: usize) {
        match &self.running {
            Running::Embedded { .. } => self.keep("server", &self.output()),
            Running::Cluster(_) if is_engine(part) => {}
            Running::Cluster(cluster) => {
                let name = format!("{}-{number}", part.name());
                self.keep(&name, &cluster.printed(part, number));
            }
        }
    }

    /// Nobody can be told where that fails, and it is only for people.
    fn keep(&self, name: &str, text: &str) {
        let path = self.folder.join(format!("{name}.log"));
        let file = OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(text.as_bytes()));
    }
}

fn is_engine(part: Part) -> bool {
    matches!(part, Part::Nats | Part::Database)
}

fn address(server: &Server) -> std::net::SocketAddr {
    let base = server.base();
    let printed = base.trim_start_matches("http://");
    // The embedded form listens everywhere and prints a name for it.
    let port = printed.rsplit(':').next().and_then(|port| port.parse().ok());
    (std::net::Ipv4Addr::LOCALHOST, port.expect("a port")).into()
}
