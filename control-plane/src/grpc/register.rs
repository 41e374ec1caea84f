//! Streams of heartbeats.

use std::sync::Arc;
use std::time::Duration;

use alyx_cluster::LEASE;
use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::control::{Directive, Heartbeat};
use alyx_rpc::{from_status, to_status};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{QUEUE, Replies};
use crate::cluster::{ClusterControl, Registered, Standing, Term};

/// Longest wait for the first heartbeat.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

/// Takes the node in by its first heartbeat, and follows it from then on.
pub(super) async fn begin(
    control: &Arc<ClusterControl>,
    term: Arc<Term>,
    mut heartbeats: Streaming<Heartbeat>,
) -> Result<Replies<Directive>> {
    let first = timeout(FIRST_WITHIN, heartbeats.message())
        .await
        .map_err(|_| silent())?
        .map_err(from_status)?
        .ok_or_else(silent)?;
    let registered = term.registry.enter(&first)?;
    let drain = term.registry.renew(&registered, &first)?;
    let (replies, stream) = mpsc::channel(QUEUE);
    // The channel is new and has room.
    let _ = replies.send(Ok(directive(drain))).await;
    let (mut standing, stopping) = (control.standing(), control.stopping());
    control.streams().spawn_detached(async move {
        let ended = async {
            let other =
                |standing: &Standing| !matches!(standing, Standing::Leads(now) if Arc::ptr_eq(now, &term));
            match standing.wait_for(other).await {
                Ok(standing) => standing.term().err(),
                Err(_) => None,
            }
        };
        let outcome = tokio::select! {
            outcome = follow(&term, &registered, heartbeats, &replies) => outcome,
            Some(not_leader) = ended => Err(not_leader),
            () = stopping.cancelled() => Err(stops()),
        };
        if let Err(error) = outcome {
            // A node that has gone already hears nothing.
            let _ = replies.try_send(Err(to_status(&error)));
        }
    });
    Ok(ReceiverStream::new(stream))
}

/// Ends well when the node leaves, or when the stream breaks: then its lease decides.
async fn follow(
    term: &Term,
    registered: &Registered,
    mut heartbeats: Streaming<Heartbeat>,
    replies: &mpsc::Sender<std::result::Result<Directive, tonic::Status>>,
) -> Result<()> {
    loop {
        let Ok(Ok(Some(heartbeat))) = timeout(LEASE, heartbeats.message()).await else {
            return Ok(());
        };
        let drain = term.registry.renew(registered, &heartbeat)?;
        if heartbeat.leaving {
            term.registry.leave(registered);
        }
        if replies.send(Ok(directive(drain))).await.is_err() || heartbeat.leaving {
            return Ok(());
        }
    }
}

fn directive(drain: bool) -> Directive {
    Directive {
        drain,
        lease_millis: u32::try_from(LEASE.as_millis()).unwrap_or(u32::MAX),
    }
}

fn silent() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "NODE_INVALID",
        "a stream of heartbeats begins with one",
    )
}

/// This process stops; another control plane may be there.
pub(super) fn stops() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "CONTROL_PLANE_STOPPING",
        "this control plane stops; ask another one",
    )
}
