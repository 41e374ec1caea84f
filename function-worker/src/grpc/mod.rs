//! The worker behind gRPC: calls from gateways in other processes, over the streams that
//! `alyx/functions/v1/functions.proto` describes.
//!
//! - `session` is one stream and the calls on it; `data` carries their `ctx.db` back to the gateway; `advert` tells
//!   gateways what is warm; `convert` turns messages into the seam's types and back.
//!
//! **Invariant:** a call that was not accepted has not run: it was refused, and its caller may send it elsewhere.

mod advert;
mod convert;
mod data;
mod session;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use alyx_proto::functions::functions_server::{Functions, FunctionsServer};
use alyx_proto::functions::{GatewayMessage, WorkerMessage};
use alyx_rpc::Outgoing;
use alyx_service::tasks::Tasks;
use futures_util::StreamExt as _;
use futures_util::stream::Map;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::grpc::session::Session;
use crate::worker::FunctionWorker;

/// Largest message that is read: a line of a log with all of its data is the largest one that is sent.
const MAX_MESSAGE: usize = 4 << 20;

/// Lets gateways in other processes call a [`FunctionWorker`].
#[derive(Debug)]
pub struct WorkerServer {
    served: Arc<Served>,
    sessions: Mutex<Vec<Weak<Session>>>,
}

/// What all streams share.
#[derive(Debug)]
struct Served {
    worker: Arc<FunctionWorker>,
    tasks: Tasks,
    draining: CancellationToken,
    /// Calls on all streams.
    calls: AtomicUsize,
    /// Calls that were not taken, since start.
    refused: AtomicU64,
    /// Told when the last one ends.
    quiet: Notify,
}

impl WorkerServer {
    /// Serves `worker`; its streams run in `tasks`.
    pub fn new(worker: Arc<FunctionWorker>, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self {
            served: Arc::new(Served {
                worker,
                tasks,
                draining: CancellationToken::new(),
                calls: AtomicUsize::new(0),
                refused: AtomicU64::new(0),
                quiet: Notify::new(),
            }),
            sessions: Mutex::default(),
        })
    }

    /// The service to add to a gRPC server.
    pub fn service(self: &Arc<Self>) -> FunctionsServer<Dispatcher> {
        FunctionsServer::new(Dispatcher(Arc::clone(self))).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Calls that gateways have here now, waiting ones included.
    pub fn calls(&self) -> usize {
        self.served.calls.load(Ordering::Relaxed)
    }

    /// Calls that were not taken, since start: too many, not known, not startable, or stopping.
    pub fn refused(&self) -> u64 {
        self.served.refused.load(Ordering::Relaxed)
    }

    /// Tells gateways to go elsewhere, hands back what has not started, lets the rest finish for at most `within`, and
    /// ends the streams and all processes. `true` where everything that had started could finish.
    pub async fn drain(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        self.served.draining.cancel();
        let sessions: Vec<Arc<Session>> = self.sessions.lock().iter().filter_map(Weak::upgrade).collect();
        for session in &sessions {
            session.announce_drain();
        }
        let finished = self.served.worker.drain(left()).await;
        let told = tokio::time::timeout(left(), self.served.no_calls()).await.is_ok();
        for session in sessions {
            session.close();
        }
        finished && told
    }

    fn keep(&self, session: &Arc<Session>) {
        let mut sessions = self.sessions.lock();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(session));
    }
}

impl Served {
    /// Waits until every call has ended and its end is queued.
    async fn no_calls(&self) {
        loop {
            let quiet = self.quiet.notified();
            if self.calls.load(Ordering::SeqCst) == 0 {
                return;
            }
            quiet.await;
        }
    }
}

/// Takes in the streams of gateways.
#[derive(Debug)]
pub struct Dispatcher(Arc<WorkerServer>);

type Told = fn(WorkerMessage) -> Result<WorkerMessage, Status>;

#[tonic::async_trait]
impl Functions for Dispatcher {
    type DispatchStream = Map<Outgoing<WorkerMessage>, Told>;

    async fn dispatch(
        &self,
        request: Request<Streaming<GatewayMessage>>,
    ) -> Result<Response<Self::DispatchStream>, Status> {
        let Self(server) = self;
        if server.served.draining.is_cancelled() {
            return Err(Status::unavailable("this worker is stopping"));
        }
        let (session, outgoing) = Session::start(Arc::clone(&server.served), request.into_inner()).await;
        server.keep(&session);
        if server.served.draining.is_cancelled() {
            session.announce_drain();
        }
        Ok(Response::new(outgoing.map(Ok as Told)))
    }
}
