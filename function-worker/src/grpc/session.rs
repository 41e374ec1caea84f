//! One stream of a gateway and the calls on it.
//!
//! One task reads the stream, one tells of the worker's load, and each call has one that waits for its end. The end of
//! the stream ends its calls: nobody could be told of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::functions as wire;
use alyx_proto::functions::gateway_message::Body as Asked;
use alyx_proto::functions::worker_message::Body;
use alyx_rpc::{Assembly, BodyKey, Outbox, Outgoing};
use alyx_service::function::{Completion, Invocation, Outcome};
use alyx_service::tasks::OnEnd;
use alyx_service::trace;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::failure;
use crate::frame::MAX_FRAME;
use crate::grpc::convert::{self, told, violation};
use crate::grpc::data::RemoteData;
use crate::grpc::{Served, advert};

/// Most calls of one stream at a time.
const MAX_CALLS: usize = 8192;
/// Largest input; what goes to a process with it must fit into one frame.
const MAX_INPUT: usize = MAX_FRAME - (1 << 20);

/// One stream.
#[derive(Debug)]
pub(super) struct Session {
    served: Arc<Served>,
    outbox: Arc<Outbox<wire::WorkerMessage>>,
    calls: Mutex<FxHashMap<u64, Call>>,
    over: CancellationToken,
}

/// A call of the stream.
#[derive(Debug)]
enum Call {
    /// Its input is still arriving.
    Arriving {
        invoke: Box<wire::Invoke>,
        input: Assembly,
        since: Instant,
    },
    /// It waits or runs, until this is dropped.
    UnderWay {
        data: Arc<RemoteData>,
        _stop: oneshot::Sender<()>,
    },
}

impl Session {
    /// Greets the gateway and starts to read.
    pub(super) async fn start(
        served: Arc<Served>,
        messages: Streaming<wire::GatewayMessage>,
    ) -> (Arc<Self>, Outgoing<wire::WorkerMessage>) {
        let (outbox, outgoing) = Outbox::new(convert::piece);
        outbox.push(told(advert::hello(&served.worker).await));
        let session = Arc::new(Self {
            served,
            outbox,
            calls: Mutex::default(),
            over: CancellationToken::new(),
        });
        let tasks = &session.served.tasks;
        tasks.spawn(
            "function stream",
            OnEnd::Ignore,
            Arc::clone(&session).read(messages),
        );
        tasks.spawn("function load", OnEnd::Ignore, Arc::clone(&session).tell_load());
        (session, outgoing)
    }

    /// Tells the gateway to go elsewhere.
    pub(super) fn announce_drain(&self) {
        self.outbox.push(told(Body::Draining(wire::Draining {})));
    }

    /// Ends the stream when all that is queued has been sent.
    pub(super) fn close(&self) {
        self.over.cancel();
        self.outbox.close();
    }

    async fn read(self: Arc<Self>, mut messages: Streaming<wire::GatewayMessage>) {
        let stopping = self.served.tasks.cancelled();
        loop {
            let message = tokio::select! {
                message = messages.message() => message,
                () = stopping.cancelled() => break,
            };
            let Ok(Some(message)) = message else { break };
            if let Err(error) = message.body.map_or(Ok(()), |body| self.take(body)) {
                tracing::warn!(%error, "a gateway's stream is cut off");
                break;
            }
            self.outbox.room().await;
        }
        let calls = std::mem::take(&mut *self.calls.lock());
        for id in calls.keys() {
            self.outbox.forget(*id);
        }
        drop(calls);
        self.close();
    }

    async fn tell_load(self: Arc<Self>) {
        let mut last = None;
        let mut figures = advert::ToldFigures::default();
        loop {
            let moved = self.served.worker.moved();
            let now = advert::capacity(&self.served.worker);
            if last.as_ref() != Some(&now) {
                self.outbox.push(told(Body::Capacity(now.clone())));
                last = Some(now);
            }
            for news in figures.news(&self.served.worker) {
                self.outbox.push(told(news));
            }
            let next = async {
                tokio::time::sleep(advert::AT_LEAST).await;
                let _ = tokio::time::timeout(advert::EVERY, moved).await;
            };
            tokio::select! {
                () = next => {}
                () = self.over.cancelled() => return,
            }
        }
    }

    /// Takes in one message.
    fn take(self: &Arc<Self>, message: Asked) -> Result<()> {
        match message {
            Asked::Invoke(invoke) => self.invoke(invoke),
            Asked::Cancel(wire::Cancel { id }) => {
                self.calls.lock().remove(&id);
                self.outbox.forget(id);
                Ok(())
            }
            Asked::CallResult(answer) => {
                if let Some(data) = self.data(answer.id) {
                    data.answer(answer);
                }
                Ok(())
            }
            Asked::Chunk(chunk) if chunk.call == 0 => self.add_input(chunk.id, &chunk.data),
            Asked::Chunk(chunk) => {
                let more = self
                    .data(chunk.id)
                    .and_then(|data| data.add(chunk.call, &chunk.data));
                self.let_more(chunk.id, chunk.call, more);
                Ok(())
            }
            Asked::Window(window) => {
                let key = BodyKey {
                    id: window.id,
                    call: window.call,
                };
                self.outbox.grant(key, window.bytes);
                Ok(())
            }
        }
    }

    fn data(&self, id: u64) -> Option<Arc<RemoteData>> {
        match self.calls.lock().get(&id) {
            Some(Call::UnderWay { data, .. }) => Some(Arc::clone(data)),
            Some(Call::Arriving { .. }) | None => None,
        }
    }

    fn let_more(&self, id: u64, call: u64, more: Option<u64>) {
        if let Some(bytes) = more {
            self.outbox
                .push(told(Body::Window(wire::Window { id, call, bytes })));
        }
    }

    fn invoke(self: &Arc<Self>, mut invoke: wire::Invoke) -> Result<()> {
        let (id, since) = (invoke.id, Instant::now());
        let mut calls = self.calls.lock();
        if calls.contains_key(&id) {
            return violation("a gateway used the name of a call twice");
        }
        let refused = if self.served.draining.is_cancelled() {
            Some(failure::stopping(&invoke.function))
        } else if calls.len() >= MAX_CALLS {
            Some(failure::overloaded(&invoke.function, calls.len()))
        } else {
            None
        };
        let input = Assembly::begin(std::mem::take(&mut invoke.input), invoke.input_size, MAX_INPUT);
        match (refused, input) {
            (Some(error), _) | (None, Err(error)) => {
                drop(calls);
                self.fail(id, &error, false, since);
            }
            (None, Ok(input)) if input.is_whole() => {
                drop(calls);
                self.begin(invoke, input, since);
            }
            (None, Ok(input)) => {
                let invoke = Box::new(invoke);
                calls.insert(id, Call::Arriving { invoke, input, since });
            }
        }
        Ok(())
    }

    fn add_input(self: &Arc<Self>, id: u64, piece: &[u8]) -> Result<()> {
        let mut calls = self.calls.lock();
        let Some(Call::Arriving { input, .. }) = calls.get_mut(&id) else {
            // It was refused or has been cancelled.
            return Ok(());
        };
        let more = input.add(piece)?;
        if !input.is_whole() {
            drop(calls);
            self.let_more(id, 0, more);
            return Ok(());
        }
        if let Some(Call::Arriving { invoke, input, since }) = calls.remove(&id) {
            drop(calls);
            self.begin(*invoke, input, since);
        }
        Ok(())
    }

    /// Starts a call whose input is there.
    fn begin(self: &Arc<Self>, invoke: wire::Invoke, input: Assembly, since: Instant) {
        let id = invoke.id;
        let data = RemoteData::new(id, Arc::clone(&self.outbox));
        let invocation = convert::invocation(invoke, since, input.into_bytes(), Arc::clone(&data));
        let (stop, stopped) = oneshot::channel();
        self.served.calls.fetch_add(1, Ordering::SeqCst);
        let call = Call::UnderWay {
            data: Arc::clone(&data),
            _stop: stop,
        };
        self.calls.lock().insert(id, call);
        let session = Arc::clone(self);
        let trace = invocation.trace;
        self.served.tasks.spawn_detached(async move {
            let running = session.run(id, invocation, data, stopped);
            trace::within(trace, running).await;
            if session.served.calls.fetch_sub(1, Ordering::SeqCst) == 1 {
                session.served.quiet.notify_waiters();
            }
        });
    }

    /// Runs one call and tells its end, unless nobody waits for it any more.
    async fn run(
        &self,
        id: u64,
        invocation: Invocation,
        data: Arc<RemoteData>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let began = Instant::now();
        let (function, request_id) = (&invocation.function, &invocation.request_id);
        tracing::debug!(function, %request_id, "a gateway calls a function");
        let accepted = AtomicBool::new(false);
        let ended = {
            let call = self.served.worker.run(&invocation, |cold| {
                accepted.store(true, Ordering::Relaxed);
                self.outbox.push(told(Body::Accept(wire::Accept { id, cold })));
            });
            tokio::pin!(call);
            tokio::select! {
                biased;
                ended = &mut call => Some(ended),
                _ = &mut stopped => None,
                () = self.served.draining.cancelled() => {
                    if accepted.load(Ordering::Relaxed) {
                        tokio::select! {
                            ended = &mut call => Some(ended),
                            _ = &mut stopped => None,
                        }
                    } else {
                        Some(Err(failure::stopping(&invocation.function)))
                    }
                }
            }
        };
        data.end();
        if self.calls.lock().remove(&id).is_none() {
            return;
        }
        match ended {
            Some(Ok(completion)) => self.finish(id, completion),
            Some(Err(error)) => self.fail(id, &error, accepted.into_inner(), began),
            None => {}
        }
    }

    fn finish(&self, id: u64, completion: Completion) {
        for lines in convert::logs(id, completion.logs) {
            self.outbox.push(told(lines));
        }
        let key = BodyKey::own(id);
        let duration_micros = convert::micros(completion.duration);
        match completion.outcome {
            Outcome::Returned(output) => self.outbox.push_with_body(key, output, |output, output_size| {
                told(Body::Result(wire::Result {
                    id,
                    duration_micros,
                    output,
                    output_size,
                }))
            }),
            Outcome::Threw(thrown) => {
                let thrown = convert::thrown(&thrown);
                self.outbox.push_with_body(key, thrown, |thrown, thrown_size| {
                    told(Body::Threw(wire::Threw {
                        id,
                        duration_micros,
                        thrown,
                        thrown_size,
                    }))
                });
            }
        }
    }

    fn fail(&self, id: u64, error: &Error, accepted: bool, since: Instant) {
        if error.kind() == ErrorKind::Internal {
            tracing::error!(error = ?error, "a function's call failed");
        }
        if !accepted {
            self.served.refused.fetch_add(1, Ordering::Relaxed);
        }
        let draining = self.served.draining.is_cancelled();
        self.outbox.push(told(convert::failed(
            id,
            error,
            accepted,
            draining,
            since.elapsed(),
        )));
    }
}
