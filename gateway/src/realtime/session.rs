//! One socket's task: reads what the client asks, writes what the hub has queued.
//!
//! Written as a future by hand so that an idle socket costs little: no buffers, no channels, no second task.
//! **Invariants:** everything that waits is flushed before the task rests; nothing is read while the socket's
//! queue is crowded, so a client that asks without reading holds itself back; a broken message is answered and
//! never closes the socket, a broken protocol closes it with its code.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use alyx_core::{Caller, ClientId, Error, ErrorKind};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Connection, End, Segment, Slot};
use super::group::{Asked, Group, Member};
use super::hub::{Hub, Listed, Permit};
use super::message::{self, EchoId, Request};
use super::stats::Ending;
use super::sweeper::FIRST_PING;
use super::wire::{self, CloseCode, FrameReader, Incoming, ReadError};
use crate::auth::Identity;

/// Segments handed to the kernel at a time.
const SLICES: usize = 64;
/// Messages handled before other tasks get their turn.
const TURN: usize = 64;
/// Longest query of a subscription, as JSON text in bytes: it is kept for as long as the subscription.
const MAX_QUERY: usize = 64 * 1024;

/// A socket being served; resolves when it is over.
pub(super) struct Session<IO> {
    io: IO,
    hub: Arc<Hub>,
    connection: Arc<Connection>,
    /// Who it acts for.
    caller: Caller,
    /// In the hub's list.
    place: u32,
    reader: FrameReader,
    writing: VecDeque<Segment>,
    /// Bytes of the first segment that are out.
    written: usize,
    /// The frame that the first segment belongs to has begun to go out.
    mid_frame: bool,
    subscriptions: Vec<Subscription>,
    next_slot: Slot,
    phase: Phase,
    ending: Ending,
    _permit: Permit,
}

struct Subscription {
    slot: Slot,
    group: Arc<Group>,
    /// In the group.
    place: u32,
    alias: Option<Arc<str>>,
}

impl Subscription {
    fn id(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.group.public)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The close frame is queued. `answered`: the client has closed too.
    Closing {
        answered: bool,
    },
    /// All is written; the client's side is to close.
    Lingering,
}

/// Whether to go on after a step.
enum Flow {
    On,
    Over,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Session<IO> {
    /// Takes a socket on and greets it.
    pub(super) fn new(hub: &Arc<Hub>, io: IO, (permit, identity): (Permit, Identity)) -> Self {
        let now = hub.now();
        let connection = Arc::new(Connection::new(now));
        let caller = identity.caller.clone();
        let listed = Listed {
            connection: Arc::clone(&connection),
            next_ping: now + FIRST_PING,
            identity,
        };
        let place = hub.connections.lock().add(listed);
        connection.push(None, message::connected(ClientId::new().as_str()), &hub.wakes);
        if hub.is_stopping() {
            connection.end(
                End::Close(CloseCode::GOING_AWAY, "server is shutting down"),
                &hub.wakes,
            );
        }
        Self {
            io,
            reader: FrameReader::new(hub.limits.max_message_bytes),
            hub: Arc::clone(hub),
            connection,
            caller,
            place,
            writing: VecDeque::new(),
            written: 0,
            mid_frame: false,
            subscriptions: Vec::new(),
            next_slot: 0,
            phase: Phase::Open,
            ending: Ending::Lost,
            _permit: permit,
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        let mut left = TURN;
        loop {
            if let Poll::Ready(Err(_)) = self.poll_write(cx) {
                return Poll::Ready(Flow::Over);
            }
            let before = left;
            if let Flow::Over = self.read(&mut left, cx) {
                return Poll::Ready(Flow::Over);
            }
            if self.phase != Phase::Open {
                return Poll::Ready(Flow::On);
            }
            if left == before {
                return Poll::Pending;
            }
            if left == 0 {
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Handles what has come in, at most `left` messages.
    fn read(&mut self, left: &mut usize, cx: &mut Context<'_>) -> Flow {
        while *left > 0 && self.phase == Phase::Open && !self.connection.is_crowded() {
            match self.reader.poll_next(&mut self.io, cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(message))) => {
                    *left -= 1;
                    self.handle(message);
                }
                Poll::Ready(Some(Err(ReadError::Close(code, reason)))) => self.refuse(code, reason),
                Poll::Ready(Some(Err(ReadError::Io)) | None) => return Flow::Over,
            }
        }
        Flow::On
    }

    /// Writes until nothing waits any more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.writing.is_empty() {
                if self.connection.take(&mut self.writing) {
                    continue;
                }
                if self.phase == Phase::Open && self.send_reset() {
                    continue;
                }
                self.writing = VecDeque::new();
                ready!(Pin::new(&mut self.io).poll_flush(cx))?;
                self.connection.set_drained();
                return Poll::Ready(Ok(()));
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, segment) in slices.iter_mut().zip(&self.writing) {
                let skip = if count == 0 { self.written } else { 0 };
                *slice = IoSlice::new(&segment.bytes[skip..]);
                count += 1;
            }
            match Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(bytes)) => self.advance(bytes),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.connection.set_blocked(self.hub.now());
                    return Poll::Pending;
                }
            }
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.connection.set_progress();
        self.written += bytes;
        let mut frames = 0;
        while let Some(first) = self.writing.front() {
            if self.written < first.bytes.len() {
                break;
            }
            self.written -= first.bytes.len();
            self.mid_frame = !first.last;
            frames += u64::from(first.last);
            self.writing.pop_front();
        }
        let counters = &self.hub.counters;
        counters.frames.fetch_add(frames, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Queues a fresh snapshot for one subscription that is behind; false where there is none to send.
    fn send_reset(&self) -> bool {
        self.connection.dirty().into_iter().any(|slot| {
            let subscription = self.subscriptions.iter().find(|known| known.slot == slot);
            subscription.is_some_and(|known| known.group.reset(known.place, &self.hub.means()))
        })
    }

    fn handle(&mut self, message: Incoming) {
        self.connection.set_heard(self.hub.now());
        match message {
            Incoming::Text(text) => {
                self.hub.counters.messages.fetch_add(1, Ordering::Relaxed);
                let (id, request) = message::parse(&text);
                let done = request.and_then(|request| self.execute(id.as_ref(), request, text.len()));
                if let Err(error) = done {
                    log(&error);
                    self.push(message::error(id.as_ref(), None, &error));
                }
            }
            Incoming::Binary => self.push(message::error(None, None, &message::binary_message())),
            Incoming::Ping(payload) => self.push(wire::pong(&payload)),
            Incoming::Pong => {}
            Incoming::Close(code) => {
                self.ending = Ending::Client;
                self.begin_close(code.unwrap_or(CloseCode::NORMAL), "", true);
            }
        }
    }

    fn push(&self, frame: Bytes) {
        self.connection.push(None, frame, &self.hub.wakes);
    }

    fn execute(&mut self, id: Option<&EchoId>, request: Request, size: usize) -> Result<(), Error> {
        match request {
            Request::Ping => self.push(message::pong(id)),
            Request::Unsubscribe { subscription } => self.unsubscribe(&subscription),
            Request::Subscribe { collection, query } => {
                if size > MAX_QUERY {
                    let bound = format!("a subscription is at most {MAX_QUERY} bytes long");
                    return Err(Error::new(ErrorKind::InvalidInput, "INVALID_PAYLOAD", bound));
                }
                self.subscribe(id, &collection, &query)?;
            }
        }
        Ok(())
    }

    fn subscribe(
        &mut self,
        id: Option<&EchoId>,
        collection: &str,
        query: &serde_json::Value,
    ) -> Result<(), Error> {
        let limit = self.hub.limits.max_subscriptions_per_client;
        if self.subscriptions.len() >= limit {
            return Err(Error::new(
                ErrorKind::TooManyRequests,
                "SUBSCRIPTION_LIMIT_REACHED",
                format!("this connection has its {limit} subscriptions; unsubscribe from one first"),
            ));
        }
        let slot = self.next_slot;
        loop {
            let group = self.hub.group_of(&self.caller, collection, query)?;
            let taken = self
                .subscriptions
                .iter()
                .any(|known| known.id() == &*group.public);
            let alias: Option<Arc<str>> = taken.then(|| format!("{}.{slot}", group.public).into());
            let member = Member {
                connection: Arc::clone(&self.connection),
                slot,
                alias: alias.clone(),
                asked: Asked::Waiting(id.cloned()),
            };
            // A group that was closed between finding and joining it is out of the index: the next one is new.
            if let Some(place) = group.join(member, &self.hub.wakes) {
                self.next_slot += 1;
                self.subscriptions.reserve_exact(1);
                self.subscriptions.push(Subscription {
                    slot,
                    group,
                    place,
                    alias,
                });
                self.hub.subscriptions.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        }
    }

    /// Silent, as the protocol has it; an unknown id is no error.
    fn unsubscribe(&mut self, subscription: &str) {
        let known = self
            .subscriptions
            .iter()
            .position(|known| known.id() == subscription);
        if let Some(index) = known {
            let gone = self.subscriptions.swap_remove(index);
            self.give_up(&gone);
            self.connection.forget(gone.slot);
        }
    }

    /// The hub has ended a subscription.
    fn drop_ended(&mut self, slot: Slot) {
        if let Some(index) = self.subscriptions.iter().position(|known| known.slot == slot) {
            self.subscriptions.swap_remove(index);
            self.hub.subscriptions.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn refuse(&mut self, code: CloseCode, reason: &'static str) {
        self.ending = match code {
            CloseCode::TOO_LARGE => Ending::TooLarge,
            CloseCode::SLOW => Ending::Slow,
            CloseCode::GOING_AWAY => Ending::GoingAway,
            CloseCode::SIGNED_OUT => Ending::SignedOut,
            _ => Ending::Protocol,
        };
        self.begin_close(code, reason, false);
    }

    /// Puts a close frame right after the frame that is half written, and nothing after it.
    fn begin_close(&mut self, code: CloseCode, reason: &'static str, answered: bool) {
        if self.written > 0 || self.mid_frame {
            let rest = self.writing.iter().position(|segment| segment.last);
            self.writing.truncate(rest.map_or(0, |last| last + 1));
        } else {
            self.writing.clear();
        }
        self.writing.push_back(Segment::last(wire::close(code, reason)));
        self.phase = Phase::Closing { answered };
        self.connection.set_ending(self.hub.now());
        self.connection.end(End::Close(code, reason), &self.hub.wakes);
        for gone in std::mem::take(&mut self.subscriptions) {
            self.give_up(&gone);
        }
    }

    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Phase::Closing { answered } = self.phase {
            if ready!(self.poll_write(cx)).is_err() {
                return Poll::Ready(());
            }
            let shut = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
            if answered || shut.is_err() {
                return Poll::Ready(());
            }
            self.phase = Phase::Lingering;
        }
        // What still comes is read and dropped: closing with bytes unread would reset the connection, and the
        // peer might never see the close frame.
        loop {
            let mut scrap = [const { MaybeUninit::uninit() }; 4096];
            let mut scrap = ReadBuf::uninit(&mut scrap);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut scrap)) {
                Ok(()) if !scrap.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Future for Session<IO> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let orders = this.connection.begin_poll(cx.waker(), &this.hub.wakes);
        for slot in orders.ended {
            this.drop_ended(slot);
        }
        match orders.end {
            Some(End::Drop) => {
                if this.phase == Phase::Open {
                    this.ending = Ending::Timeout;
                }
                return Poll::Ready(());
            }
            Some(End::Close(code, reason)) if this.phase == Phase::Open => this.refuse(code, reason),
            Some(End::Close(..)) | None => {}
        }
        if this.phase == Phase::Open
            && let Flow::Over = ready!(this.poll_open(cx))
        {
            return Poll::Ready(());
        }
        this.poll_closing(cx)
    }
}

impl<IO> Session<IO> {
    fn give_up(&self, gone: &Subscription) {
        self.hub.subscriptions.fetch_sub(1, Ordering::Relaxed);
        self.hub
            .leave(&gone.group, gone.place, &self.connection, gone.slot);
    }
}

impl<IO> Drop for Session<IO> {
    fn drop(&mut self) {
        self.connection.gone(&self.hub.wakes);
        self.hub.connections.lock().remove(self.place);
        for gone in std::mem::take(&mut self.subscriptions) {
            self.give_up(&gone);
        }
        self.hub.counters.ended(self.ending);
    }
}

/// What went wrong on our side; what the client did wrong is told to the client alone.
fn log(error: &Error) {
    if error.kind() == ErrorKind::Internal {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::error!(code = error.code(), cause, "a realtime message failed");
    }
}
