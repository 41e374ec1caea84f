//! Keeping this process in the directory of nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::control::{Directive, Heartbeat};
use alyx_rpc::{Backoff, from_status};
use alyx_service::state::StateWatch;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::endpoints::{Chosen, Endpoints};

/// How often a node says that it is there.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// How long a node that says nothing stays in the directory.
pub const LEASE: Duration = Duration::from_secs(5);
/// A control plane that does not answer a heartbeat within this is left for another one.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// What changes between two heartbeats.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    pub(crate) load: AtomicU64,
    pub(crate) draining: AtomicBool,
}

/// Reports one node for as long as it runs.
pub(crate) struct Reporter {
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) node: Heartbeat,
    pub(crate) pulse: Arc<Pulse>,
    /// What this node serves.
    pub(crate) state: StateWatch,
    /// Whether the operator wants this node to drain.
    pub(crate) drain: watch::Sender<bool>,
    /// Changed when the node is to be reported at once.
    pub(crate) beat_now: watch::Receiver<()>,
    /// Cancelled when the node stops.
    pub(crate) leave: CancellationToken,
}

impl Reporter {
    /// Runs until the node leaves, and takes it out of the directory then, if a control plane listens.
    pub(crate) async fn run(mut self) {
        let leave = self.leave.clone();
        let mut backoff = Backoff::default();
        let mut away = false;
        loop {
            let chosen = self.endpoints.choose();
            let (beats, stream) = mpsc::channel(1);
            let opened = tokio::select! {
                opened = open(&chosen, &beats, stream, self.heartbeat()) => opened,
                () = leave.cancelled() => return,
            };
            let ended = match opened {
                Ok(directives) => self.beat(&beats, directives, &mut backoff, &mut away).await,
                Err(error) => Err(error),
            };
            let Err(error) = ended else { return };
            if self.endpoints.failed(&chosen, &error) {
                continue;
            }
            if !std::mem::replace(&mut away, true) {
                tracing::warn!(
                    control_plane = chosen.address,
                    code = error.code(),
                    "this node is not in the directory: {error}"
                );
            }
            tokio::select! {
                () = sleep(backoff.next_wait()) => {}
                () = leave.cancelled() => return,
            }
        }
    }

    /// Sends heartbeats and reads directives until one of the two fails; `Ok` once the node has left.
    async fn beat(
        &mut self,
        beats: &mpsc::Sender<Heartbeat>,
        mut directives: Streaming<Directive>,
        backoff: &mut Backoff,
        away: &mut bool,
    ) -> Result<()> {
        let mut ticks = interval(HEARTBEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first heartbeat is on its way already.
        ticks.tick().await;
        loop {
            let directive = answer(&mut directives).await?;
            backoff.reset();
            if std::mem::take(away) {
                tracing::info!("this node is in the directory again");
            }
            self.drain
                .send_if_modified(|drain| std::mem::replace(drain, directive.drain) != directive.drain);
            let leaving = tokio::select! {
                _ = ticks.tick() => false,
                Ok(()) = self.beat_now.changed() => false,
                () = self.leave.cancelled() => true,
            };
            let heartbeat = Heartbeat {
                leaving,
                ..self.heartbeat()
            };
            beats.send(heartbeat).await.map_err(|_| unanswered())?;
            if leaving {
                // Whether it is heard or not, the node stops.
                let _ = answer(&mut directives).await;
                return Ok(());
            }
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            load: self.pulse.load.load(Ordering::Relaxed),
            draining: self.pulse.draining.load(Ordering::Relaxed),
            schema_revision: self.state.borrow().schema_revision,
            ..self.node.clone()
        }
    }
}

async fn open(
    chosen: &Chosen,
    beats: &mpsc::Sender<Heartbeat>,
    stream: mpsc::Receiver<Heartbeat>,
    first: Heartbeat,
) -> Result<Streaming<Directive>> {
    let mut client = chosen.client.clone();
    beats.send(first).await.map_err(|_| unanswered())?;
    match timeout(ANSWER_WITHIN, client.register(ReceiverStream::new(stream))).await {
        Ok(reply) => Ok(reply.map_err(from_status)?.into_inner()),
        Err(_) => Err(unanswered()),
    }
}

async fn answer(directives: &mut Streaming<Directive>) -> Result<Directive> {
    match timeout(ANSWER_WITHIN, directives.message()).await {
        Ok(message) => message.map_err(from_status)?.ok_or_else(unanswered),
        Err(_) => Err(unanswered()),
    }
}

fn unanswered() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "CONTROL_PLANE_UNAVAILABLE",
        "the control plane does not answer",
    )
}
