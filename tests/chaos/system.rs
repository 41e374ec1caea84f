//! What is disturbed: the embedded server behind a link, or a cluster with a link on every way.

use alyx_tests::{Cluster, Flow, Form, Link, Links, Part, Project, Server, Shape};
use rustix::process::Signal;

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
}

enum Running {
    Embedded { server: Option<Server>, link: Link },
    Cluster(Cluster),
}

impl System {
    pub(crate) async fn start(form: Form) -> Self {
        let project = Project::with_schema(SCHEMA);
        let running = match form {
            Form::Embedded => {
                let server = Server::start_with(&project, &["serve"], &[]).await;
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
                Running::Cluster(Cluster::start_with(&project, shape, &[]).await)
            }
        };
        Self { project, running }
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
            .collect(),
        }
    }

    pub(crate) async fn kill(&mut self, part: Part, number: usize) {
        match &mut self.running {
            Running::Embedded { server, .. } => {
                let server = server.take().expect("it runs");
                server.kill().await;
            }
            Running::Cluster(cluster) if part == Part::Nats => cluster.wipe_nats().await,
            Running::Cluster(cluster) => cluster.kill(part, number).await,
        }
    }

    pub(crate) async fn terminate(&mut self, part: Part, number: usize) {
        let code = match &mut self.running {
            Running::Embedded { server, .. } => server.take().expect("it runs").terminate().await,
            Running::Cluster(cluster) => cluster.terminate(part, number).await,
        };
        assert_eq!(code, Some(0), "{part:?} {number} stops in order");
    }

    /// Starts again what was killed or terminated.
    pub(crate) async fn restart(&mut self, part: Part, number: usize) {
        match &mut self.running {
            Running::Embedded { server, link } => {
                let again = Server::start_with(&self.project, &["serve"], &[]).await;
                link.aim(address(&again));
                *server = Some(again);
            }
            Running::Cluster(cluster) => cluster.restart(part, number).await,
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

    /// What its processes printed since they were last started.
    pub(crate) fn output(&self) -> String {
        match &self.running {
            Running::Embedded { server, .. } => server.as_ref().map(Server::output).unwrap_or_default(),
            Running::Cluster(cluster) => cluster.output(),
        }
    }
}

fn address(server: &Server) -> std::net::SocketAddr {
    let base = server.base();
    let printed = base.trim_start_matches("http://");
    // The embedded form listens everywhere and prints a name for it.
    let port = printed.rsplit(':').next().and_then(|port| port.parse().ok());
    (std::net::Ipv4Addr::LOCALHOST, port.expect("a port")).into()
}
