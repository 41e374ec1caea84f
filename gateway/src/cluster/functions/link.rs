//! The streams to one worker. Several, so that calls keep both ends' threads busy and a slow connection holds up a
//! part of them only; each on a connection of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::functions as wire;
use alyx_proto::functions::functions_client::FunctionsClient;
use alyx_proto::functions::worker_message::Body;
use alyx_rpc::{Outbox, Security, connect, from_status};
use alyx_service::tasks::Tasks;
use tonic::Streaming;

use super::convert;
use super::roster::{Size, Sizes};
use super::stream::Stream;

/// Longest time until a worker has said hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// Largest message that is read: a line of a log with all of its data is the largest one that is sent.
const MAX_MESSAGE: usize = 4 << 20;

/// The way to one worker.
#[derive(Debug)]
pub(super) struct Link {
    streams: Vec<Arc<Stream>>,
    next: AtomicUsize,
}

/// A link to be read from.
pub(super) struct Reached {
    pub(super) link: Arc<Link>,
    pub(super) sizes: Sizes,
    pub(super) incoming: Vec<(Arc<Stream>, Streaming<wire::WorkerMessage>)>,
}

impl Link {
    /// The stream for the next call.
    pub(super) fn stream(&self) -> &Arc<Stream> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        &self.streams[turn % self.streams.len()]
    }

    pub(super) fn streams(&self) -> &[Arc<Stream>] {
        &self.streams
    }
}

/// Opens `count` streams to the worker at `address`.
pub(super) async fn reach(
    address: &str,
    count: usize,
    security: &Security,
    tasks: &Tasks,
) -> Result<Reached> {
    let opening = futures_util::future::try_join_all((0..count).map(|_| open(address, security, tasks)));
    let opened = tokio::time::timeout(HELLO_WITHIN, opening).await.map_err(|_| {
        let message = format!("the function worker at {address} did not say hello");
        Error::new(ErrorKind::Unavailable, "WORKER_UNREACHABLE", message)
    })??;
    let mut sizes = Sizes::of_all(Size {
        slots: 1,
        concurrency: 1,
        queue: 0,
    });
    let mut incoming = Vec::with_capacity(count);
    for (stream, messages, hello) in opened {
        sizes = convert::sizes(&hello);
        incoming.push((stream, messages));
    }
    Ok(Reached {
        link: Arc::new(Link {
            streams: incoming.iter().map(|(stream, _)| Arc::clone(stream)).collect(),
            next: AtomicUsize::new(0),
        }),
        sizes,
        incoming,
    })
}

async fn open(
    address: &str,
    security: &Security,
    tasks: &Tasks,
) -> Result<(Arc<Stream>, Streaming<wire::WorkerMessage>, wire::Hello)> {
    let channel = connect(address, security)?;
    let mut client = FunctionsClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let (outbox, outgoing) = Outbox::new(convert::piece);
    let mut messages = client.dispatch(outgoing).await.map_err(from_status)?.into_inner();
    let first = messages.message().await.map_err(from_status)?;
    let Some(Body::Hello(hello)) = first.and_then(|message| message.body) else {
        let message = format!("the function worker at {address} did not say hello first");
        return Err(Error::new(ErrorKind::BadGateway, "PROTOCOL_VIOLATION", message));
    };
    Ok((Stream::new(outbox, tasks.clone()), messages, hello))
}
