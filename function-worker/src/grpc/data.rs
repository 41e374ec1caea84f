//! `ctx.db` of a call that came over a stream: asked of the gateway over the same stream, answered with the authority
//! of that very call, over when the call is.

use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::functions as wire;
use alyx_proto::functions::worker_message::Body;
use alyx_rpc::{Assembly, BodyKey, Outbox};
use alyx_service::data::{DataCall, DataService};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{Semaphore, oneshot};

use crate::frame::MAX_FRAME;
use crate::grpc::convert::{op_name, refused, told};

/// Calls of one invocation that may be with the gateway at a time; further ones wait.
const MAX_OPEN: usize = 64;
/// Longest name that is sent on; no collection has a longer one.
const MAX_NAME: usize = 256;

/// The data of one call.
#[derive(Debug)]
pub(super) struct RemoteData {
    id: u64,
    outbox: Arc<Outbox<wire::WorkerMessage>>,
    room: Semaphore,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    over: bool,
    last: u64,
    open: FxHashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    reply: oneshot::Sender<Result<Bytes>>,
    /// What has arrived of an answer in pieces.
    result: Option<Assembly>,
}

impl RemoteData {
    pub(super) fn new(id: u64, outbox: Arc<Outbox<wire::WorkerMessage>>) -> Arc<Self> {
        Arc::new(Self {
            id,
            outbox,
            room: Semaphore::new(MAX_OPEN),
            calls: Mutex::default(),
        })
    }

    /// Takes in an answer, or its beginning. One that nobody waits for is dropped.
    pub(super) fn answer(&self, answer: wire::CallResult) {
        let mut calls = self.calls.lock();
        let Some(mut open) = calls.open.remove(&answer.call) else {
            return;
        };
        let result = match answer.error {
            Some(error) => Err(refused(error)),
            None => match Assembly::begin(answer.result, answer.result_size, MAX_FRAME) {
                Ok(body) if !body.is_whole() => {
                    open.result = Some(body);
                    calls.open.insert(answer.call, open);
                    return;
                }
                body => body.map(Assembly::into_bytes),
            },
        };
        drop(calls);
        let _ = open.reply.send(result);
    }

    /// Takes in the next piece of an answer. `Some(bytes)` where the gateway may send so many more.
    pub(super) fn add(&self, call: u64, piece: &[u8]) -> Option<u64> {
        let mut calls = self.calls.lock();
        let mut open = calls.open.remove(&call)?;
        let mut body = open.result.take()?;
        let result = match body.add(piece) {
            Ok(more) if !body.is_whole() => {
                open.result = Some(body);
                calls.open.insert(call, open);
                return more;
            }
            Ok(_) => Ok(body.into_bytes()),
            Err(error) => Err(error),
        };
        drop(calls);
        let _ = open.reply.send(result);
        None
    }

    /// Ends what is open and refuses all further calls.
    pub(super) fn end(&self) {
        self.room.close();
        let open = {
            let mut calls = self.calls.lock();
            calls.over = true;
            std::mem::take(&mut calls.open)
        };
        if !open.is_empty() {
            self.outbox.forget(self.id);
        }
    }

    /// A number for the next call, and where its answer arrives.
    fn open(&self) -> Result<(Asked<'_>, oneshot::Receiver<Result<Bytes>>)> {
        let mut calls = self.calls.lock();
        if calls.over {
            return Err(ended());
        }
        calls.last += 1;
        let number = calls.last;
        let (reply, answered) = oneshot::channel();
        calls.open.insert(number, Open { reply, result: None });
        Ok((Asked { data: self, number }, answered))
    }
}

/// A call whose answer somebody waits for.
struct Asked<'a> {
    data: &'a RemoteData,
    number: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.data.calls.lock().open.remove(&self.number);
    }
}

#[async_trait]
impl DataService for RemoteData {
    async fn call(&self, call: DataCall) -> Result<Bytes> {
        if call.collection.len() > MAX_NAME {
            let message = format!("a collection's name has at most {MAX_NAME} characters");
            return Err(Error::new(ErrorKind::NotFound, "COLLECTION_NOT_FOUND", message));
        }
        let _room = self.room.acquire().await.map_err(|_| ended())?;
        let (asked, answered) = self.open()?;
        let key = BodyKey {
            id: self.id,
            call: asked.number,
        };
        self.outbox.push_with_body(key, call.args, |args, args_size| {
            told(Body::Call(wire::Call {
                id: key.id,
                call: key.call,
                op: op_name(call.op).to_owned(),
                collection: call.collection,
                args,
                args_size,
            }))
        });
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> Error {
    let message = "ctx.db was used after its call had ended";
    Error::new(ErrorKind::Conflict, "INVOCATION_ENDED", message)
}
