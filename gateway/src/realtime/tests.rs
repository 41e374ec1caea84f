//! The hub and its sockets against a scripted realtime node.

mod faults;
mod life;
mod limits;
pub(super) mod node;
mod peer;
mod protocol;
mod slow;
mod storm;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alyx_schema::Collection;
use alyx_service::state::DesiredState;
use alyx_service::tasks::Tasks;
use tokio::io::DuplexStream;
use tokio::sync::watch;

use super::hub::{Hub, HubParts, Limits};
use super::session::Session;
use node::{FakeService, NodeSide};
use peer::Peer;

use crate::auth::Identity;

const SCHEMA: &str = "
collections:
  notes:
    fields:
      id: {type: int, primary: true}
      text: {type: string}
      done: {type: bool, default: false}
    rules: {create: true, read: true, update: true, delete: true}
  secrets:
    fields:
      id: {type: int, primary: true}
    rules: {create: false, read: false, update: false, delete: false}
";

fn desired(schema: &str, schema_revision: u64) -> Arc<DesiredState> {
    let parsed = alyx_schema::parse(schema, "schema.yaml").expect("a sound schema");
    Arc::new(DesiredState {
        revision: schema_revision,
        schema_revision,
        schema: Arc::new(parsed.schema),
        functions: Arc::new(BTreeMap::new()),
    })
}

/// The collection that most tests subscribe to.
pub(super) fn notes() -> Arc<Collection> {
    Arc::clone(
        desired(SCHEMA, 1)
            .schema
            .collection("notes")
            .expect("it is in the schema"),
    )
}

/// A hub with a scripted node behind it.
struct House {
    hub: Arc<Hub>,
    tasks: Tasks,
    service: Arc<FakeService>,
    state: watch::Sender<Arc<DesiredState>>,
}

impl House {
    fn new(limits: Limits) -> Self {
        let (state, watch) = watch::channel(desired(SCHEMA, 1));
        let service = Arc::new(FakeService::default());
        let tasks = Tasks::new();
        let hub = Hub::start(HubParts {
            service: Arc::<FakeService>::clone(&service),
            state: watch,
            limits,
            tasks: tasks.clone(),
        });
        Self {
            hub,
            tasks,
            service,
            state,
        }
    }

    /// With a node that has been joined.
    async fn open() -> (Self, NodeSide) {
        let house = Self::new(Limits::default());
        let node = house.service.joined().await;
        (house, node)
    }

    /// A connected client that has read its greeting; `room` is what the connection holds in each direction.
    async fn peer_with(&self, room: usize) -> Peer {
        let (client, server) = tokio::io::duplex(room);
        self.serve(server);
        let mut peer = Peer::new(client).await;
        let greeting = peer.message().await;
        assert_eq!(greeting["type"], "connected");
        assert_eq!(greeting["payload"]["client_id"].as_str().map(str::len), Some(36));
        peer
    }

    async fn peer(&self) -> Peer {
        self.peer_with(1 << 20).await
    }

    fn serve(&self, server: DuplexStream) {
        let permit = self.hub.admit().expect("room for a connection");
        let hub = Arc::clone(&self.hub);
        self.tasks
            .spawn_detached(async move { Session::new(&hub, server, (permit, Identity::default())).await });
    }
}

/// Waits until `condition` holds, letting everybody else run. By the real clock, as tests stop the other one.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::task::yield_now().await;
    }
}
