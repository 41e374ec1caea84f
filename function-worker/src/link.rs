//! Reads what an instance sends: ends of calls, log lines, and what `ctx.db` asks, which is answered over the same
//! socket with the authority of the very call that asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alyx_core::{Detail, Error, ErrorKind};
use alyx_service::data::{DataCall, DataOp};
use alyx_service::function::{Outcome, Thrown};
use alyx_service::tasks::Tasks;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;

use crate::frame::{Frame, FrameType, HEADER, MAX_FRAME, decode};
use crate::instance::{Instance, NULL, trace_line};
use crate::schedule::Shared;

/// Room for one read.
const CHUNK: usize = 64 << 10;
/// Open `ctx.db` calls of one instance; its runtime holds more back.
const MAX_OPEN_CALLS: usize = 512;
/// Between the end of the socket and the end of the process.
const PATIENCE: Duration = Duration::from_millis(200);

/// Serves one instance until its socket ends.
pub(crate) async fn read(
    shared: Arc<Shared>,
    instance: Arc<Instance>,
    mut socket: OwnedReadHalf,
    mut received: BytesMut,
) {
    loop {
        loop {
            match decode(&mut received) {
                Ok(Some(frame)) => take_frame(&shared, &instance, frame),
                Ok(None) => break,
                Err(error) => {
                    instance.kill(&error.to_string());
                    return;
                }
            }
        }
        received.reserve(CHUNK);
        match socket.read_buf(&mut received).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    // The process is ending, or code in it has closed what is not its own.
    if tokio::time::timeout(PATIENCE, instance.killed.cancelled())
        .await
        .is_err()
    {
        instance.kill("it closed its connection to the server");
    }
}

fn take_frame(shared: &Arc<Shared>, instance: &Arc<Instance>, frame: Frame) {
    match frame.kind {
        FrameType::Result => {
            let outcome = if frame.body.len() > shared.options.max_output {
                Outcome::Threw(plain("the return value is larger than the bound"))
            } else {
                Outcome::Returned(frame.body)
            };
            instance.finish(frame.stream, outcome);
        }
        FrameType::Error => instance.finish(frame.stream, Outcome::Threw(thrown(&frame.meta))),
        FrameType::Log => {
            let mut pending = instance.pending.lock();
            match pending.get_mut(&frame.stream) {
                Some(call) => call.log.add(&frame.body),
                None => {
                    drop(pending);
                    trace_line(&instance.function.name, &frame.body);
                }
            }
        }
        FrameType::Call => relay(&shared.tasks, instance, &frame),
        FrameType::Pong => {
            if instance.pong(frame.stream) {
                shared.unblocked(instance);
            }
        }
        FrameType::Drain => shared.retire(instance),
        FrameType::Hello
        | FrameType::Load
        | FrameType::Ready
        | FrameType::Invoke
        | FrameType::CallResult
        | FrameType::Cancel
        | FrameType::Ping => instance.kill(&format!("it sent a frame of type {:?}", frame.kind)),
    }
}

fn plain(message: &str) -> Thrown {
    Thrown {
        code: None,
        status: None,
        message: message.to_owned(),
        extra: serde_json::Map::new(),
    }
}

fn thrown(meta: &[u8]) -> Thrown {
    #[derive(Deserialize)]
    struct Meta {
        code: Option<String>,
        status: Option<u16>,
        message: String,
        #[serde(default)]
        extra: serde_json::Map<String, serde_json::Value>,
    }
    match serde_json::from_slice::<Meta>(meta) {
        Ok(meta) => Thrown {
            code: meta.code,
            status: meta.status.filter(|status| (400..600).contains(status)),
            message: meta.message,
            extra: meta.extra,
        },
        Err(error) => plain(&format!(
            "the handler threw something that cannot be told: {error}"
        )),
    }
}

/// Answers one `ctx.db` call in a task of its own, so that neither it nor the socket waits.
fn relay(tasks: &Tasks, instance: &Arc<Instance>, frame: &Frame) {
    #[derive(Deserialize)]
    struct Meta<'a> {
        id: u64,
        op: &'a str,
        collection: String,
    }
    let Ok(meta) = serde_json::from_slice::<Meta<'_>>(&frame.meta) else {
        instance.kill("it sent a call that cannot be read");
        return;
    };
    let (id, stream) = (meta.id, frame.stream);
    let data = instance.pending.lock().get(&stream).map(|call| call.data.clone());
    let Some(data) = data else {
        let message = "ctx.db was used after its call had ended";
        let error = Error::new(ErrorKind::Conflict, "INVOCATION_ENDED", message);
        answer(instance, stream, id, Err(error));
        return;
    };
    let Some(op) = DataOp::parse(meta.op) else {
        let message = format!("ctx.db has no operation `{}`", meta.op);
        let error = Error::new(ErrorKind::InvalidInput, "UNKNOWN_OPERATION", message);
        answer(instance, stream, id, Err(error));
        return;
    };
    if instance.open_calls.load(Ordering::Relaxed) >= MAX_OPEN_CALLS {
        let message = format!("more than {MAX_OPEN_CALLS} ctx.db calls are open");
        let error = Error::new(ErrorKind::TooManyRequests, "TOO_MANY_CALLS", message);
        answer(instance, stream, id, Err(error));
        return;
    }
    let call = DataCall {
        op,
        collection: meta.collection,
        args: frame.body.clone(),
    };
    let instance = Arc::clone(instance);
    instance.open_calls.fetch_add(1, Ordering::Relaxed);
    tasks.spawn_detached(async move {
        let result = data.0.call(call).await;
        instance.open_calls.fetch_sub(1, Ordering::Relaxed);
        answer(&instance, stream, id, result);
    });
}

#[derive(Serialize)]
struct Answer<'a> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<AnswerError<'a>>,
}

#[derive(Serialize)]
struct AnswerError<'a> {
    code: &'a str,
    status: u16,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Detail]>::is_empty")]
    details: &'a [Detail],
    /// Whole seconds.
    #[serde(rename = "retryAfter", skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

/// Rounded up, and at least one, as in the header `Retry-After`.
fn whole_seconds(after: Duration) -> u64 {
    let rounded = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    rounded.max(1)
}

fn answer(instance: &Instance, stream: u64, id: u64, result: Result<Bytes, Error>) {
    let result = result.and_then(|body| {
        if body.len() > MAX_FRAME - HEADER - 256 {
            let message = "the result is too large; ask for fewer documents or fields";
            return Err(Error::new(ErrorKind::InvalidInput, "RESULT_TOO_LARGE", message));
        }
        Ok(body)
    });
    let (body, error) = match &result {
        Ok(body) => (body, None),
        Err(error) => (&NULL, Some(error)),
    };
    if let Some(error) = error
        && error.kind() == ErrorKind::Internal
    {
        tracing::error!(error = ?error, function = instance.function.name, "a ctx.db call failed");
    }
    let told = Answer {
        id,
        error: error.map(|error| AnswerError {
            code: error.code(),
            status: error.kind().http_status(),
            message: error.message(),
            field: error.field(),
            details: error.details(),
            retry_after: error.retry_after().map(whole_seconds),
        }),
    };
    instance.outbox.push(FrameType::CallResult, stream, body, |out| {
        // Strings and numbers always serialise.
        if let Ok(meta) = serde_json::to_vec(&told) {
            out.put_slice(&meta);
        }
    });
}
