//! A TCP link between two processes that can be cut, frozen, delayed and throttled, and whose NATS messages can be
//! tampered with: a proxy on the loopback.

mod messages;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use self::messages::Messages;

/// Bytes that are read at once.
const CHUNK: usize = 16 << 10;
/// Chunks under way in one direction of one connection.
const UNDER_WAY: usize = 64;

/// How a link carries bytes, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// As it should.
    Pass,
    /// Connections are ended, and new ones end at once.
    Cut,
    /// Connections stay and nothing moves on them, as if the cable were out.
    Freeze,
    /// Every byte arrives this much later.
    Delay(Duration),
    /// At most this many bytes a second, for each direction of a connection.
    Throttle(u32),
    /// Messages from a NATS server are lost, doubled and late; on a link to anything else as [`Flow::Pass`].
    Mischief(Mischief),
}

/// What happens to NATS messages, as a seed chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mischief {
    /// Repeats the choices.
    pub seed: u64,
    /// Of a hundred messages, those that never arrive.
    pub lost: u8,
    /// Those that arrive twice.
    pub doubled: u8,
    /// Those that others overtake. The three together are at most 100.
    pub late: u8,
}

/// The link; everything on it ends when it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<Option<SocketAddr>>,
    flow: watch::Sender<Flow>,
    connections: AtomicUsize,
    carried: AtomicU64,
    disturbed: AtomicU64,
    /// A NATS server is at the other end.
    nats: AtomicBool,
}

impl Link {
    /// A link that leads nowhere yet: connections end at once until [`Link::aim`].
    #[expect(
        clippy::disallowed_methods,
        reason = "the harness is no role and has no task tracker"
    )]
    pub async fn open() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            target: Mutex::new(None),
            flow: watch::Sender::new(Flow::Pass),
            connections: AtomicUsize::new(0),
            carried: AtomicU64::new(0),
            disturbed: AtomicU64::new(0),
            nats: AtomicBool::new(false),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// A link to that address.
    pub async fn to(target: SocketAddr) -> Self {
        let link = Self::open().await;
        link.aim(target);
        link
    }

    /// A link to the NATS server at that address, which knows its messages.
    pub async fn to_nats(target: SocketAddr) -> Self {
        let link = Self::open().await;
        link.shared.nats.store(true, Ordering::Release);
        link.aim(target);
        link
    }

    /// Where it is entered.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections lead.
    pub fn aim(&self, target: SocketAddr) {
        *self.shared.target.lock().expect("not poisoned") = Some(target);
    }

    /// Changes how it carries bytes, at once and for open connections too.
    pub fn set(&self, flow: Flow) {
        self.shared.flow.send_replace(flow);
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Bytes carried so far, both directions together.
    pub fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::Acquire)
    }

    /// NATS messages that were tampered with so far.
    pub fn disturbed(&self) -> u64 {
        self.shared.disturbed.load(Ordering::Acquire)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let _open = Open::new(&shared);
                    // However a connection ends, both sides see its end.
                    let _ = carry(client, &shared).await;
                });
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts a connection for as long as it is there.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.connections.fetch_add(1, Ordering::AcqRel);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn carry(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut flow = shared.flow.subscribe();
    let target = *shared.target.lock().expect("not poisoned");
    let Some(target) = target.filter(|_| *flow.borrow() != Flow::Cut) else {
        return Ok(());
    };
    let both = async {
        let server = TcpStream::connect(target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let messages = shared.nats.load(Ordering::Acquire).then(Messages::default);
        tokio::try_join!(
            direction((from_client, to_server), None, shared),
            direction((from_server, to_client), messages, shared)
        )?;
        Ok(())
    };
    tokio::select! {
        ended = both => ended,
        _ = flow.wait_for(|flow| *flow == Flow::Cut) => Ok(()),
    }
}

/// Carries one direction to its end, which is passed on.
async fn direction(
    (mut from, mut to): (OwnedReadHalf, OwnedWriteHalf),
    mut messages: Option<Messages>,
    shared: &Shared,
) -> io::Result<()> {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Bytes)>(UNDER_WAY);
    let read = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let length = from.read(&mut buffer).await?;
            let chunk = Bytes::copy_from_slice(&buffer[..length]);
            if length == 0 || sender.send((Instant::now(), chunk)).await.is_err() {
                drop(sender);
                return io::Result::Ok(());
            }
        }
    };
    let write = async {
        let mut flow = shared.flow.subscribe();
        while let Some((read_at, chunk)) = under_way.recv().await {
            leave(&mut flow, read_at, chunk.len()).await;
            match &mut messages {
                None => to.write_all(&chunk).await?,
                Some(messages) => {
                    let mischief = match *flow.borrow() {
                        Flow::Mischief(mischief) => Some(mischief),
                        _ => None,
                    };
                    let passed = messages.pass(&chunk, mischief);
                    shared.disturbed.fetch_add(passed.disturbed, Ordering::AcqRel);
                    to.write_all(&passed.bytes).await?;
                }
            }
            shared.carried.fetch_add(chunk.len() as u64, Ordering::AcqRel);
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(drop)
}

/// Waits until a chunk may go on, under whatever flow there is meanwhile.
async fn leave(flow: &mut watch::Receiver<Flow>, read_at: Instant, length: usize) {
    let taken_up = Instant::now();
    loop {
        let until = match *flow.borrow_and_update() {
            Flow::Pass | Flow::Mischief(_) => return,
            Flow::Cut | Flow::Freeze => None,
            Flow::Delay(delay) => Some(read_at + delay),
            Flow::Throttle(rate) => {
                let length = u32::try_from(length).expect("a chunk is small");
                Some(taken_up + Duration::from_secs(1) * length / rate.max(1))
            }
        };
        tokio::select! {
            changed = flow.changed() => if changed.is_err() { return },
            () = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            } => return,
        }
    }
}

#[cfg(test)]
mod tests;
