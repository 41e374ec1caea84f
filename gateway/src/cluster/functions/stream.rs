//! One stream to a worker and the calls on it. A call costs no task of its own: one task reads the stream and tells
//! each call its end.

use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::functions as wire;
use alyx_proto::functions::gateway_message::Body;
use alyx_proto::functions::worker_message::Body as Told;
use alyx_rpc::{Assembly, BodyKey, Outbox, to_wire};
use alyx_service::data::{DataCall, DataOp, SharedData};
use alyx_service::function::{Completion, Invocation, LogEntry, Outcome};
use alyx_service::tasks::Tasks;
use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, oneshot};

use super::convert::{self, told};

/// Largest return value, or arguments of a `ctx.db` call, in bytes.
const MAX_BODY: usize = 64 << 20;
/// Most lines of one call's log, and most bytes of them.
const MAX_LINES: usize = 1002;
const MAX_LOG: usize = 4 << 20;
/// `ctx.db` calls of one invocation at a time; a worker holds more back.
const MAX_OPEN: usize = 128;

/// How one try to run a call ended.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The call ran, or its deadline passed.
    Ended(Result<Completion>),
    /// The worker did not take it.
    Refused(Refusal),
    /// The stream broke.
    Lost {
        /// The call may have run.
        accepted: bool,
    },
}

/// Why a worker did not take a call.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: wire::NackReason,
    pub(super) error: Error,
    /// Whether to try here again after a while.
    pub(super) retryable: bool,
}

/// What a stream tells of its worker.
#[derive(Debug)]
pub(super) enum News {
    Capacity(wire::Capacity),
    Figures(wire::Figures),
    Draining,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    outbox: Arc<Outbox<wire::GatewayMessage>>,
    calls: Mutex<Calls>,
    tasks: Tasks,
    /// Told when the last call has ended.
    idle: Notify,
}

#[derive(Debug, Default)]
struct Calls {
    over: bool,
    last: u64,
    open: FxHashMap<u64, Pending>,
}

/// A call on the stream.
struct Pending {
    reply: oneshot::Sender<Attempt>,
    accepted: bool,
    data: SharedData,
    logs: Vec<LogEntry>,
    log_bytes: usize,
    /// What has arrived of the end in pieces.
    end: Option<(End, Assembly)>,
    /// What has arrived of `ctx.db` calls in pieces.
    asked: FxHashMap<u64, (wire::Call, Assembly)>,
    /// `ctx.db` calls under way.
    open: usize,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending")
            .field("accepted", &self.accepted)
            .finish_non_exhaustive()
    }
}

/// How a call ends, but for the body.
#[derive(Debug, Clone, Copy)]
struct End {
    threw: bool,
    duration_micros: u64,
}

/// A call under way. Dropped before its end it is cancelled.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    stream: &'a Stream,
    id: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.stream.take(self.id).is_some() {
            self.stream
                .outbox
                .push(told(Body::Cancel(wire::Cancel { id: self.id })));
        }
    }
}

impl Stream {
    pub(super) fn new(outbox: Arc<Outbox<wire::GatewayMessage>>, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self {
            outbox,
            calls: Mutex::default(),
            tasks,
            idle: Notify::new(),
        })
    }

    /// Sends a call; its end arrives at the receiver, unless the first part is dropped.
    pub(super) fn call(&self, invocation: &Invocation) -> (UnderWay<'_>, oneshot::Receiver<Attempt>) {
        let (reply, ended) = oneshot::channel();
        let id = {
            let mut calls = self.calls.lock();
            calls.last += 1;
            let id = calls.last;
            if calls.over {
                let _ = reply.send(Attempt::Lost { accepted: false });
                return (UnderWay { stream: self, id }, ended);
            }
            let pending = Pending {
                reply,
                accepted: false,
                data: Arc::clone(&invocation.data),
                logs: Vec::new(),
                log_bytes: 0,
                end: None,
                asked: FxHashMap::default(),
                open: 0,
            };
            calls.open.insert(id, pending);
            id
        };
        let input = invocation.input.clone();
        self.outbox
            .push_with_body(BodyKey::own(id), input, |first, size| {
                convert::invoke(id, invocation, first, size)
            });
        (UnderWay { stream: self, id }, ended)
    }

    /// Reads the stream to its end; what it tells of the worker goes to `news`.
    pub(super) async fn read(
        self: Arc<Self>,
        mut messages: tonic::Streaming<wire::WorkerMessage>,
        news: impl Fn(News) + Send,
    ) {
        let stopping = self.tasks.cancelled();
        loop {
            let message = tokio::select! {
                message = messages.message() => message,
                () = stopping.cancelled() => break,
            };
            let body = match message {
                Ok(Some(message)) => message.body,
                Ok(None) => break,
                Err(status) => {
                    tracing::debug!(%status, "a stream to a function worker broke");
                    break;
                }
            };
            if let Err(error) = body.map_or(Ok(()), |body| self.take_in(body, &news)) {
                tracing::warn!(%error, "a stream to a function worker is cut off");
                break;
            }
        }
        self.outbox.close();
        let lost = {
            let mut calls = self.calls.lock();
            calls.over = true;
            std::mem::take(&mut calls.open)
        };
        for (id, call) in lost {
            self.outbox.forget(id);
            let accepted = call.accepted;
            let _ = call.reply.send(Attempt::Lost { accepted });
        }
        self.idle.notify_waiters();
    }

    /// Takes no more calls and ends the stream after those it has.
    pub(super) async fn finish(&self) {
        loop {
            let idle = self.idle.notified();
            {
                let mut calls = self.calls.lock();
                // Who still holds a place here is told that the stream is lost, and goes elsewhere.
                calls.over |= calls.open.is_empty();
                if calls.over {
                    break;
                }
            }
            idle.await;
        }
        self.outbox.close();
    }

    /// Removes a call.
    fn take(&self, id: u64) -> Option<Pending> {
        let mut calls = self.calls.lock();
        let call = calls.open.remove(&id)?;
        let last = calls.open.is_empty();
        drop(calls);
        self.outbox.forget(id);
        if last {
            self.idle.notify_waiters();
        }
        Some(call)
    }

    fn end(&self, id: u64, attempt: Attempt) {
        if let Some(call) = self.take(id) {
            let _ = call.reply.send(attempt);
        }
    }

    fn take_in(self: &Arc<Self>, message: Told, news: &impl Fn(News)) -> Result<()> {
        match message {
            Told::Accept(accept) => {
                if let Some(call) = self.calls.lock().open.get_mut(&accept.id) {
                    call.accepted = true;
                }
            }
            Told::Nack(nack) => {
                let refusal = Refusal {
                    reason: nack.reason(),
                    retryable: nack.retryable,
                    error: convert::error(nack.error),
                };
                self.end(nack.id, Attempt::Refused(refusal));
            }
            Told::Failed(failed) => {
                self.end(failed.id, Attempt::Ended(Err(convert::error(failed.error))));
            }
            Told::Result(result) => {
                let end = End {
                    threw: false,
                    duration_micros: result.duration_micros,
                };
                self.begin_end(result.id, end, result.output, result.output_size)?;
            }
            Told::Threw(threw) => {
                let end = End {
                    threw: true,
                    duration_micros: threw.duration_micros,
                };
                self.begin_end(threw.id, end, threw.thrown, threw.thrown_size)?;
            }
            Told::Logs(logs) => {
                if let Some(call) = self.calls.lock().open.get_mut(&logs.id) {
                    call.add_logs(logs.entries);
                }
            }
            Told::Call(call) => self.begin_asked(call)?,
            Told::Chunk(chunk) if chunk.call == 0 => self.add_to_end(chunk.id, &chunk.data)?,
            Told::Chunk(chunk) => self.add_to_asked(&chunk)?,
            Told::Window(window) => {
                let key = BodyKey {
                    id: window.id,
                    call: window.call,
                };
                self.outbox.grant(key, window.bytes);
            }
            Told::Capacity(capacity) => news(News::Capacity(capacity)),
            Told::Figures(figures) => news(News::Figures(figures)),
            Told::Draining(_) => news(News::Draining),
            // Said once, before anything else.
            Told::Hello(_) => {}
        }
        Ok(())
    }

    fn begin_end(&self, id: u64, end: End, first: Bytes, size: u64) -> Result<()> {
        let body = Assembly::begin(first, size, MAX_BODY)?;
        if body.is_whole() {
            self.complete(id, end, &body.into_bytes());
        } else if let Some(call) = self.calls.lock().open.get_mut(&id) {
            call.end = Some((end, body));
        }
        Ok(())
    }

    fn add_to_end(&self, id: u64, piece: &[u8]) -> Result<()> {
        let mut calls = self.calls.lock();
        let Some(call) = calls.open.get_mut(&id) else {
            return Ok(());
        };
        let Some((_, body)) = &mut call.end else {
            return Ok(());
        };
        let more = body.add(piece)?;
        if !body.is_whole() {
            drop(calls);
            self.let_more(id, 0, more);
        } else if let Some((end, body)) = call.end.take() {
            drop(calls);
            self.complete(id, end, &body.into_bytes());
        }
        Ok(())
    }

    /// Ends a call with the handler's word.
    fn complete(&self, id: u64, end: End, body: &Bytes) {
        let Some(call) = self.take(id) else { return };
        let outcome = if end.threw {
            Outcome::Threw(convert::thrown(body))
        } else {
            Outcome::Returned(body.clone())
        };
        let completion = Completion {
            outcome,
            logs: call.logs,
            duration: convert::micros(end.duration_micros),
        };
        let _ = call.reply.send(Attempt::Ended(Ok(completion)));
    }

    fn let_more(&self, id: u64, call: u64, more: Option<u64>) {
        if let Some(bytes) = more {
            self.outbox
                .push(told(Body::Window(wire::Window { id, call, bytes })));
        }
    }

    fn begin_asked(self: &Arc<Self>, mut asked: wire::Call) -> Result<()> {
        let first = std::mem::take(&mut asked.args);
        let body = Assembly::begin(first, asked.args_size, MAX_BODY)?;
        if body.is_whole() {
            self.ask(asked, body.into_bytes());
        } else if let Some(call) = self.calls.lock().open.get_mut(&asked.id)
            && call.asked.len() < MAX_OPEN
        {
            call.asked.insert(asked.call, (asked, body));
        }
        Ok(())
    }

    fn add_to_asked(self: &Arc<Self>, chunk: &wire::Chunk) -> Result<()> {
        let mut calls = self.calls.lock();
        let Some(call) = calls.open.get_mut(&chunk.id) else {
            return Ok(());
        };
        let Some((_, body)) = call.asked.get_mut(&chunk.call) else {
            return Ok(());
        };
        let more = body.add(&chunk.data)?;
        if !body.is_whole() {
            drop(calls);
            self.let_more(chunk.id, chunk.call, more);
        } else if let Some((asked, body)) = call.asked.remove(&chunk.call) {
            drop(calls);
            self.ask(asked, body.into_bytes());
        }
        Ok(())
    }

    /// Runs one `ctx.db` call in a task of its own, so that neither it nor the stream waits.
    fn ask(self: &Arc<Self>, asked: wire::Call, args: Bytes) {
        let (id, number) = (asked.id, asked.call);
        let data = {
            let mut calls = self.calls.lock();
            // A call that is over is not answered: its worker has given up all that it had asked.
            let Some(call) = calls.open.get_mut(&id) else {
                return;
            };
            let refusal = if call.open >= MAX_OPEN {
                Some((
                    "TOO_MANY_CALLS",
                    format!("more than {MAX_OPEN} ctx.db calls are open"),
                ))
            } else {
                None
            };
            if let Some((code, message)) = refusal {
                drop(calls);
                self.answer(
                    id,
                    number,
                    Err(Error::new(ErrorKind::TooManyRequests, code, message)),
                );
                return;
            }
            call.open += 1;
            Arc::clone(&call.data)
        };
        let stream = Arc::clone(self);
        self.tasks.spawn_detached(async move {
            let result = match DataOp::parse(&asked.op) {
                Some(op) => {
                    let collection = asked.collection;
                    data.call(DataCall { op, collection, args }).await
                }
                None => {
                    let message = format!("ctx.db has no operation `{}`", asked.op);
                    Err(Error::new(ErrorKind::InvalidInput, "UNKNOWN_OPERATION", message))
                }
            };
            let waited_for = {
                let mut calls = stream.calls.lock();
                calls.open.get_mut(&id).map(|call| call.open -= 1).is_some()
            };
            if waited_for {
                stream.answer(id, number, result);
            }
        });
    }

    fn answer(&self, id: u64, call: u64, result: Result<Bytes>) {
        match result {
            Ok(result) => self
                .outbox
                .push_with_body(BodyKey { id, call }, result, |result, result_size| {
                    told(Body::CallResult(wire::CallResult {
                        id,
                        call,
                        error: None,
                        result,
                        result_size,
                    }))
                }),
            Err(error) => {
                if error.kind() == ErrorKind::Internal {
                    tracing::error!(error = ?error, "a ctx.db call failed");
                }
                self.outbox.push(told(Body::CallResult(wire::CallResult {
                    id,
                    call,
                    error: Some(to_wire(&error)),
                    result: Bytes::new(),
                    result_size: 0,
                })));
            }
        }
    }
}

impl Pending {
    fn add_logs(&mut self, entries: Vec<wire::LogEntry>) {
        for entry in entries {
            self.log_bytes += entry.message.len() + entry.data.as_ref().map_or(0, Bytes::len);
            if self.logs.len() < MAX_LINES && self.log_bytes <= MAX_LOG {
                self.logs.push(convert::log_entry(entry));
            }
        }
    }
}
