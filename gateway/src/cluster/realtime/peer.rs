//! One realtime node as a gateway's link knows it.

use std::sync::Arc;
use std::time::Duration;

use alyx_core::{Error, ErrorKind};
use alyx_proto::realtime as wire;
use alyx_proto::realtime::gateway_frame::Body;
use alyx_proto::realtime::realtime_client::RealtimeClient;
use alyx_rpc::realtime::{Assembler, CREDIT_BYTES, Positions};
use alyx_rpc::{Backoff, MAX_MESSAGE_BYTES, Outbox, Outgoing, Security, from_status};
use alyx_service::cluster::ClusterNode;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Streaming;

/// Longest time until a node has accepted a stream.
const JOIN_WITHIN: Duration = Duration::from_secs(3);
/// Looks, one second apart, without a word from a node after which it is taken for dead.
pub(super) const SILENCE: u32 = 4;
/// Shortest and longest wait before a node is tried again.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// A node, whether or not a stream joins it now.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) node: ClusterNode,
    /// Whether the directory names it still.
    pub(super) listed: bool,
    /// The node itself has asked for its groups to be moved.
    pub(super) asked_to_leave: bool,
    pub(super) phase: Phase,
    backoff: Backoff,
    /// The last stream failed.
    failed: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// No stream; another try at that time.
    Parted { until: Instant },
    /// A stream that the node has not accepted yet. `first`: there is no reason to doubt that it will.
    Joining { stream: Stream, first: bool },
    /// A stream.
    Joined(Stream),
}

/// The gateway's end of a stream. Dropping it ends the stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// Tells its frames from those of the streams before it.
    pub(super) number: u64,
    frames: Arc<Outbox<wire::GatewayFrame>>,
    pub(super) assembler: Assembler,
    pub(super) positions: Positions,
    /// Positions have been asked for.
    pub(super) comparing: bool,
    /// Looks since the node said something.
    pub(super) silent: u32,
    /// Cost of frames dealt with that has not been given back.
    owed: u64,
    /// Ends the other direction.
    _alive: DropGuard,
}

impl Peer {
    pub(super) fn new(node: ClusterNode) -> Self {
        Self {
            node,
            listed: true,
            asked_to_leave: false,
            phase: Phase::Parted {
                until: Instant::now(),
            },
            backoff: Backoff::new(RETRY[0], RETRY[1]),
            failed: false,
        }
    }

    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.phase {
            Phase::Parted { .. } => None,
            Phase::Joining { stream, .. } | Phase::Joined(stream) => Some(stream),
        }
    }

    pub(super) fn is_joined(&self) -> bool {
        matches!(self.phase, Phase::Joined(_))
    }

    /// Whether groups should be opened there.
    pub(super) fn is_wanted(&self) -> bool {
        let reachable = matches!(self.phase, Phase::Joined(_) | Phase::Joining { first: true, .. });
        reachable && self.listed && !self.node.draining && !self.asked_to_leave
    }

    /// Starts a stream; `number` is its own. The future accepts it.
    pub(super) fn join(&mut self, number: u64, security: &Security) -> impl Future<Output = Joined> + use<> {
        let first = !self.failed;
        let (frames, outgoing) = Outbox::new(|_, _| wire::GatewayFrame::default());
        let alive = CancellationToken::new();
        let stream = Stream {
            number,
            frames,
            assembler: Assembler::default(),
            positions: Positions::default(),
            comparing: false,
            silent: 0,
            owed: 0,
            _alive: alive.clone().drop_guard(),
        };
        stream.send(Body::Credit(wire::Credit { bytes: CREDIT_BYTES }));
        self.phase = Phase::Joining { stream, first };
        join(
            Arc::from(self.node.id.as_str()),
            number,
            alive,
            (self.node.address.clone(), security.clone()),
            outgoing,
        )
    }

    /// The node has accepted the stream.
    pub(super) fn accepted(&mut self) {
        self.backoff.reset();
        self.failed = false;
        let parted = Phase::Parted {
            until: Instant::now(),
        };
        self.phase = match std::mem::replace(&mut self.phase, parted) {
            Phase::Joining { stream, .. } => Phase::Joined(stream),
            other => other,
        };
    }

    /// The stream is gone, or never came to be.
    pub(super) fn parted(&mut self) {
        self.asked_to_leave = false;
        self.failed = true;
        let until = Instant::now() + self.backoff.next_wait();
        self.phase = Phase::Parted { until };
    }
}

impl Stream {
    pub(super) fn send(&self, body: Body) {
        self.frames.push(wire::GatewayFrame { body: Some(body) });
    }

    /// A frame of that cost has been dealt with.
    pub(super) fn pay(&mut self, cost: u64) {
        self.owed += cost;
        if self.owed >= CREDIT_BYTES / 8 {
            let bytes = std::mem::take(&mut self.owed);
            self.send(Body::Credit(wire::Credit { bytes }));
        }
    }
}

impl Drop for Stream {
    /// The node learns of the end by that of the frames.
    fn drop(&mut self) {
        self.frames.close();
    }
}

/// What became of a try to join a node.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) peer: Arc<str>,
    pub(super) number: u64,
    pub(super) alive: CancellationToken,
    pub(super) frames: Result<Streaming<wire::NodeFrame>, Error>,
}

async fn join(
    peer: Arc<str>,
    number: u64,
    alive: CancellationToken,
    (address, security): (String, Security),
    outgoing: Outgoing<wire::GatewayFrame>,
) -> Joined {
    let try_it = async {
        let channel = alyx_rpc::connect(&address, &security)?;
        let mut client = RealtimeClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let reply = client.link(outgoing).await.map_err(from_status)?;
        Ok(reply.into_inner())
    };
    let frames = tokio::time::timeout(JOIN_WITHIN, try_it).await;
    let late = || {
        let message = "the realtime node does not answer";
        Error::new(ErrorKind::Unavailable, "PEER_UNAVAILABLE", message)
    };
    Joined {
        peer,
        number,
        alive,
        frames: frames.unwrap_or_else(|_| Err(late())),
    }
}
