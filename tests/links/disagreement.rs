//! A scripted node that loses what it should have said: beacons reveal it.

use std::sync::Arc;
use std::time::Duration;

use alyx_core::{Seq, Value};
use alyx_proto::realtime as wire;
use alyx_proto::realtime::gateway_frame::Body as Asked;
use alyx_proto::realtime::node_frame::Body;
use alyx_proto::realtime::realtime_server::{Realtime, RealtimeServer};
use alyx_rpc::realtime::{Positions, event_to_wire};
use alyx_service::realtime::{Document, GroupEvent, GroupId};
use alyx_service::tasks::Tasks;
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::support::{PATIENCE, World, security};

/// Hands the ends of its first stream to the test.
struct Scripted(mpsc::Sender<Ends>);

struct Ends {
    asked: Streaming<wire::GatewayFrame>,
    say: mpsc::Sender<Result<wire::NodeFrame, Status>>,
}

#[async_trait]
impl Realtime for Scripted {
    type LinkStream = ReceiverStream<Result<wire::NodeFrame, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<wire::GatewayFrame>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (say, said) = mpsc::channel(64);
        let asked = request.into_inner();
        self.0
            .send(Ends { asked, say })
            .await
            .expect("the test waits for it");
        Ok(Response::new(ReceiverStream::new(said)))
    }
}

impl Ends {
    /// The next frame that is no credit.
    async fn asked(&mut self) -> Asked {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.asked.message()).await;
            let frame = frame
                .expect("in time")
                .expect("the stream is there")
                .expect("it goes on");
            match frame.body.expect("it says something") {
                Asked::Credit(credit) => assert!(credit.bytes > 0),
                other => return other,
            }
        }
    }

    async fn opened(&mut self) -> wire::Open {
        match self.asked().await {
            Asked::Open(open) => open,
            other => panic!("not an open: {other:?}"),
        }
    }

    async fn say(&self, frame: wire::NodeFrame) {
        self.say.send(Ok(frame)).await.expect("the gateway is there");
    }

    async fn beacon(&self, digest: u64) {
        let beacon = wire::Beacon { applied: 1, digest };
        let body = Some(Body::Beacon(beacon));
        self.say(wire::NodeFrame { cost: 0, body }).await;
    }
}

fn window(group: u64, at: u64, ids: &[i64]) -> GroupEvent {
    let docs = ids.iter().map(|&id| Document {
        id: Value::Int(id),
        json: Bytes::from(format!("{{\"id\":{id}}}")),
    });
    GroupEvent::Opened {
        group: GroupId(group),
        at: Seq(at),
        docs: docs.collect(),
        total: ids.len() as u64,
    }
}

async fn scripted(world: &World, tasks: &Tasks) -> (mpsc::Receiver<Ends>, alyx_rpc::Server) {
    let (ends, streams) = mpsc::channel(4);
    let listener = alyx_rpc::bind("127.0.0.1:0").await.expect("a free port");
    let routes = Routes::new(RealtimeServer::new(Scripted(ends)));
    let server = alyx_rpc::serve(listener, &security(), routes, tasks)
        .await
        .expect("it listens");
    let address = server.local_addr().to_string();
    world.list_addresses([("scripted".to_owned(), address)].into_iter());
    (streams, server)
}

#[tokio::test]
async fn a_change_that_got_lost_is_found_by_the_next_beacon() {
    let world = World::new().await;
    let tasks = Tasks::new();
    let (mut streams, _server) = scripted(&world, &tasks).await;
    let mut gateway = world.gateway().await;
    gateway.open(1, &world.query(&json!({}))).await;
    gateway.open(2, &world.query(&json!({"limit": 5}))).await;
    let mut node = streams.recv().await.expect("a stream");
    // What waited for a node is asked in no certain order.
    let mut asked = [node.opened().await, node.opened().await];
    asked.sort_by_key(|open| open.query.as_ref().is_some_and(|query| query.limit == 5));
    let [one, two] = asked.map(|open| open.group);
    let mut positions = Positions::default();
    for event in [window(one, 10, &[1]), window(two, 10, &[1])] {
        positions.note(&event);
        node.say(event_to_wire(&event)).await;
    }
    node.beacon(positions.digest()).await;
    // This one never reaches the gateway.
    positions.note(&window(one, 17, &[1, 2]));
    node.beacon(positions.digest()).await;
    assert!(matches!(node.asked().await, Asked::Compare(_)));
    let body = wire::Positions {
        positions: positions
            .iter()
            .map(|(group, at)| wire::Position {
                group: group.0,
                at: at.0,
            })
            .collect(),
    };
    let body = Some(Body::Positions(body));
    node.say(wire::NodeFrame { cost: 0, body }).await;
    let again = node.opened().await;
    assert_eq!(
        again.have,
        Some(10),
        "only what differs is opened again, from where it is"
    );
    let event = window(again.group, 18, &[1, 2]);
    node.say(event_to_wire(&event)).await;
    match node.asked().await {
        Asked::Close(close) => assert_eq!(close.group, one),
        other => panic!("not a close: {other:?}"),
    }
    gateway
        .until("it has what was lost", |gateway| {
            gateway.mirror(1).docs.len() == 2
        })
        .await;
    assert_eq!((gateway.mirror(1).at, gateway.mirror(2).opened), (Seq(18), 1));
    assert_eq!(gateway.remote.stats().resyncs, 1);
    assert!(tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_window_that_is_older_than_what_was_told_is_asked_for_again() {
    let world = World::new().await;
    let tasks = Tasks::new();
    let (mut streams, _server) = scripted(&world, &tasks).await;
    let mut gateway = world.gateway().await;
    gateway.open(1, &world.query(&json!({}))).await;
    let mut node = streams.recv().await.expect("a stream");
    let first = node.opened().await;
    assert_eq!(first.have, None);
    node.say(event_to_wire(&window(first.group, 10, &[1]))).await;
    // A change from elsewhere than the gateway is.
    let change = Arc::default();
    let changed = GroupEvent::Changed {
        group: GroupId(first.group),
        from: Seq(12),
        to: Seq(13),
        change,
    };
    node.say(event_to_wire(&changed)).await;
    let second = node.opened().await;
    assert_eq!(second.have, Some(10));
    node.say(event_to_wire(&window(second.group, 9, &[]))).await;
    assert!(matches!(node.asked().await, Asked::Close(close) if close.group == second.group));
    let third = node.opened().await;
    node.say(event_to_wire(&window(third.group, 14, &[1, 2]))).await;
    assert!(matches!(node.asked().await, Asked::Close(close) if close.group == first.group));
    gateway
        .until("it goes on", |gateway| gateway.mirror(1).at == Seq(14))
        .await;
    assert_eq!((gateway.mirror(1).opened, gateway.mirror(1).went_back), (2, 0));
    assert!(tasks.stop(Duration::from_secs(10)).await);
}
