//! One process that holds one version of one function, and the calls in it.
//!
//! Three tasks serve it: one reads its frames, one writes to it, one waits for its end. A call costs no task of
//! its own. However a call ends, it leaves `pending` exactly once, and its [`Slot`] is given back then.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alyx_core::{RequestId, TraceContext};
use alyx_service::data::SharedData;
use alyx_service::function::{Invocation, LogEntry, Outcome};
use alyx_service::state::Function;
use alyx_service::trace;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use rustix::process::Pid;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::failure::StartError;
use crate::frame::{FrameType, encode_head};
use crate::logs::{CallLog, one_line};
use crate::outbox::Outbox;
use crate::schedule::Slot;
use crate::stem::{Stem, limit_memory};

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The handler returned or threw.
    Done { outcome: Outcome, logs: Vec<LogEntry> },
    /// The process did not live to tell.
    Crashed { reason: Arc<str> },
}

/// A call in the process.
#[derive(Debug)]
pub(crate) struct Pending {
    reply: oneshot::Sender<Ended>,
    pub(crate) log: CallLog,
    pub(crate) data: DataHandle,
    pub(crate) deadline: Instant,
    origin: Origin,
    /// Told to stop; its caller has had its answer or is gone.
    cancelled: bool,
    slot: Slot,
}

/// What a call's lines of the log are found by.
#[derive(Debug, Clone)]
struct Origin {
    request_id: RequestId,
    trace: Option<TraceContext>,
}

/// A [`SharedData`] that can be printed.
#[derive(Clone)]
pub(crate) struct DataHandle(pub(crate) SharedData);

impl std::fmt::Debug for DataHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataHandle")
    }
}

/// One process with one function.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: u64,
    pub(crate) function: Arc<Function>,
    pub(crate) pid: Pid,
    pub(crate) outbox: Outbox,
    /// Most calls at the same time.
    pub(crate) concurrency: usize,
    /// Calls under way. Changed only under the pool's lock.
    pub(crate) in_flight: AtomicUsize,
    /// Calls past their deadline that have not ended; while there are any, no new call is sent here.
    overdue: AtomicUsize,
    /// Has not answered a ping for a whole interval.
    blocked: AtomicBool,
    pings: AtomicU64,
    pongs: AtomicU64,
    streams: AtomicU64,
    /// Takes no new calls and ends after its last. Changed only under the pool's lock.
    pub(crate) retired: AtomicBool,
    /// `ctx.db` calls under way.
    pub(crate) open_calls: AtomicUsize,
    pub(crate) pending: Mutex<FxHashMap<u64, Pending>>,
    pub(crate) idle_since: Mutex<Instant>,
    kill_reason: Mutex<Option<Arc<str>>>,
    pub(crate) killed: CancellationToken,
}

#[derive(Serialize)]
struct LoadMeta<'a> {
    name: &'a str,
    root: &'a std::path::Path,
    entrypoint: &'a std::path::Path,
    env: &'a std::collections::BTreeMap<String, String>,
    max_output: usize,
    memory_mib: u64,
}

/// How one instance is to be loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loading {
    pub(crate) id: u64,
    pub(crate) max_output: usize,
    /// Most calls at the same time; the runtime may bear fewer.
    pub(crate) concurrency: usize,
    pub(crate) within: Duration,
}

/// What an instance says of itself once its code is there.
#[derive(serde::Deserialize)]
struct Ready {
    /// Most calls at the same time that this handler bears.
    concurrency: Option<usize>,
}

/// Puts `function` into `stem` and waits until its code is loaded. What it logs meanwhile goes to the server's log.
pub(crate) async fn load(
    mut stem: Stem,
    function: Arc<Function>,
    how: Loading,
) -> Result<(Arc<Instance>, Stem), StartError> {
    let Loading {
        id,
        max_output,
        concurrency,
        within,
    } = how;
    let meta = serde_json::to_vec(&LoadMeta {
        name: &function.name,
        root: &function.root,
        entrypoint: &function.entrypoint,
        env: &function.env,
        max_output,
        memory_mib: function.memory_mib,
    })
    .map_err(StartError::process)?;
    let mut frame = BytesMut::with_capacity(meta.len() + 64);
    encode_head(&mut frame, FrameType::Load, 0, 0, |out| out.put_slice(&meta));
    limit_memory(stem.pid, function.memory_mib);
    stem.show(crate::sandbox::code(&function)).await?;
    let loading = async {
        tokio::io::AsyncWriteExt::write_all_buf(&mut stem.socket, &mut frame).await?;
        loop {
            match stem.next_frame().await? {
                Some(frame) if frame.kind == FrameType::Ready => {
                    return serde_json::from_slice::<Ready>(&frame.meta)
                        .map(Ok)
                        .map_err(std::io::Error::other);
                }
                Some(frame) if frame.kind == FrameType::Error => return Ok(Err(load_error(&frame.meta))),
                Some(frame) if frame.kind == FrameType::Log => trace_line(&function.name, &frame.body),
                Some(_) => {}
                None => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)),
            }
        }
    };
    match tokio::time::timeout(within, loading).await {
        Ok(Ok(Ok(ready))) => {
            let concurrency = ready.concurrency.unwrap_or(concurrency).min(concurrency).max(1);
            let instance = Instance::new(id, function, stem.pid, concurrency);
            Ok((Arc::new(instance), stem))
        }
        Ok(Ok(Err(words))) => Err(StartError::Code(words)),
        Ok(Err(_)) => Err(StartError::Code(
            stem.last_words("its process ended while it loaded").await,
        )),
        Err(_) => Err(StartError::Code(Arc::from(format!(
            "loading it did not end within {}",
            alyx_core::format_duration(within)
        )))),
    }
}

fn load_error(meta: &[u8]) -> Arc<str> {
    #[derive(serde::Deserialize)]
    struct Words {
        message: String,
        stack: Option<String>,
    }
    match serde_json::from_slice::<Words>(meta) {
        Ok(words) => {
            tracing::warn!(
                message = &*one_line(&words.message),
                stack = words.stack.as_deref().map(one_line).as_deref(),
                "a function's code does not load"
            );
            words.message.into()
        }
        Err(error) => error.to_string().into(),
    }
}

/// Writes a line that belongs to no call to the server's log.
pub(crate) fn trace_line(function: &str, body: &[u8]) {
    if let Some(entry) = crate::logs::parse(body) {
        tracing::info!(
            function,
            level = entry.level,
            message = &*one_line(&entry.message),
            "function log"
        );
    }
}

impl Instance {
    fn new(id: u64, function: Arc<Function>, pid: Pid, concurrency: usize) -> Self {
        Self {
            id,
            function,
            pid,
            outbox: Outbox::default(),
            concurrency,
            in_flight: AtomicUsize::new(0),
            overdue: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            pings: AtomicU64::new(0),
            pongs: AtomicU64::new(0),
            streams: AtomicU64::new(1),
            retired: AtomicBool::new(false),
            open_calls: AtomicUsize::new(0),
            pending: Mutex::default(),
            idle_since: Mutex::new(Instant::now()),
            kill_reason: Mutex::default(),
            killed: CancellationToken::new(),
        }
    }

    /// Whether a new call would get on here.
    pub(crate) fn is_responsive(&self) -> bool {
        self.overdue.load(Ordering::Relaxed) == 0
            && !self.blocked.load(Ordering::Relaxed)
            && !self.killed.is_cancelled()
    }

    /// Sends one call; its end arrives at the receiver.
    pub(crate) fn begin(
        &self,
        invocation: &Invocation,
        slot: Slot,
        deadline: Instant,
    ) -> (u64, oneshot::Receiver<Ended>) {
        let (reply, ended) = oneshot::channel();
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        let pending = Pending {
            reply,
            log: CallLog::default(),
            data: DataHandle(Arc::clone(&invocation.data)),
            deadline,
            origin: Origin {
                request_id: invocation.request_id.clone(),
                trace: invocation.trace,
            },
            cancelled: false,
            slot,
        };
        self.pending.lock().insert(stream, pending);
        if self.killed.is_cancelled() {
            // Its end may have emptied `pending` before this call was in it.
            let reason = self.reason();
            self.finish_all(&reason);
            return (stream, ended);
        }
        self.outbox
            .push(FrameType::Invoke, stream, &invocation.input, |out| {
                out.put_slice(br#"{"request_id":"#);
                write_json_string(out, invocation.request_id.as_str());
                if let Some(trace) = invocation.trace {
                    // Writing to memory does not fail.
                    let _ = write!(out.writer(), r#","traceparent":"{trace}""#);
                }
                if let Some(auth) = &invocation.auth {
                    out.put_slice(br#","auth":"#);
                    out.put_slice(auth);
                }
                out.put_u8(b'}');
            });
        (stream, ended)
    }

    /// Ends one call with the handler's word.
    pub(crate) fn finish(&self, stream: u64, outcome: Outcome) {
        let Some(pending) = self.take(stream) else {
            return;
        };
        let Pending {
            reply,
            log,
            slot,
            origin,
            ..
        } = pending;
        let logs = log.into_entries();
        // The slot first: who gets the answer may call again at once.
        drop(slot);
        if let Err(Ended::Done { logs, .. }) = reply.send(Ended::Done { outcome, logs }) {
            self.trace_log(&origin, logs);
        }
    }

    /// Ends a call that went on past its grace. Nobody waits for it any more.
    pub(crate) fn give_up(&self, stream: u64) {
        if let Some(pending) = self.take(stream) {
            self.trace_log(&pending.origin, pending.log.into_entries());
        }
    }

    /// Writes the lines of a call whose caller does not get them to the server's log.
    fn trace_log(&self, origin: &Origin, logs: Vec<LogEntry>) {
        let request_id = &origin.request_id;
        trace::sync_within(origin.trace, || {
            for LogEntry { level, message, .. } in logs {
                let message = &*one_line(&message);
                tracing::info!(function = self.function.name, %request_id, level, message, "function log");
            }
        });
    }

    /// Tells a call to stop. No new call comes here before it has.
    pub(crate) fn cancel(&self, stream: u64) {
        let mut pending = self.pending.lock();
        if let Some(call) = pending.get_mut(&stream)
            && !call.cancelled
        {
            call.cancelled = true;
            call.deadline = call.deadline.min(Instant::now());
            self.overdue.fetch_add(1, Ordering::Relaxed);
            drop(pending);
            self.outbox.signal(FrameType::Cancel, stream);
            self.ping();
        }
    }

    /// Lets a call go on for whom nobody waits any more, up to its own deadline, and tells it so.
    pub(crate) fn abandon(&self, stream: u64) {
        if self.pending.lock().contains_key(&stream) {
            self.outbox.push(FrameType::Cancel, stream, &Bytes::new(), |out| {
                out.put_slice(br#"{"abandoned":true}"#);
            });
        }
    }

    /// Removes a call.
    fn take(&self, stream: u64) -> Option<Pending> {
        let call = self.pending.lock().remove(&stream)?;
        if call.cancelled {
            self.overdue.fetch_sub(1, Ordering::Relaxed);
        }
        Some(call)
    }

    /// Calls that have gone on for `grace` after they were to end, at `now`.
    pub(crate) fn overdue_calls(&self, now: Instant, grace: Duration) -> Vec<u64> {
        let pending = self.pending.lock();
        pending
            .iter()
            .filter(|(_, call)| call.deadline + grace <= now)
            .map(|(stream, _)| *stream)
            .collect()
    }

    /// Ends all calls: the process is gone.
    pub(crate) fn finish_all(&self, reason: &Arc<str>) {
        let calls = std::mem::take(&mut *self.pending.lock());
        for (_, call) in calls {
            self.trace_log(&call.origin, call.log.into_entries());
            drop(call.slot);
            let _ = call.reply.send(Ended::Crashed {
                reason: Arc::clone(reason),
            });
        }
    }

    /// Ends the process. The first reason given is the one that is told.
    pub(crate) fn kill(&self, reason: &str) {
        self.kill_reason.lock().get_or_insert_with(|| Arc::from(reason));
        self.killed.cancel();
    }

    /// The reason it was killed for.
    pub(crate) fn kill_reason(&self) -> Option<Arc<str>> {
        self.kill_reason.lock().clone()
    }

    fn reason(&self) -> Arc<str> {
        self.kill_reason()
            .unwrap_or_else(|| Arc::from("its process has ended"))
    }

    /// One round of asking whether the event loop turns; a question still open from the round before means no.
    pub(crate) fn check_liveness(&self) {
        if self.is_answering() {
            self.ping();
        } else {
            self.blocked.store(true, Ordering::Relaxed);
        }
    }

    /// Whether every ping was answered.
    pub(crate) fn is_answering(&self) -> bool {
        self.pongs.load(Ordering::Relaxed) == self.pings.load(Ordering::Relaxed)
    }

    /// Whether a ping has been open for a whole round.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    fn ping(&self) {
        let number = self.pings.fetch_add(1, Ordering::Relaxed) + 1;
        self.outbox.signal(FrameType::Ping, number);
    }

    /// Notes an answer; `true` where the instance had been taken for blocked.
    pub(crate) fn pong(&self, number: u64) -> bool {
        self.pongs.fetch_max(number, Ordering::Relaxed);
        self.is_answering() && self.blocked.swap(false, Ordering::Relaxed)
    }
}

/// Appends `text` as a JSON string.
pub(crate) fn write_json_string(out: &mut BytesMut, text: &str) {
    let plain = text
        .bytes()
        .all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if plain {
        out.put_u8(b'"');
        out.put_slice(text.as_bytes());
        out.put_u8(b'"');
    } else if let Ok(escaped) = serde_json::to_vec(text) {
        out.put_slice(&escaped);
    }
}

/// Nothing, as JSON.
pub(crate) const NULL: Bytes = Bytes::from_static(b"null");
