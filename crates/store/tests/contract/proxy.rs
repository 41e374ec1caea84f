//! A connection to the server that can be held up and cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::eventually;

/// Forwards to a port on this machine.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    /// One for each open connection: what its client sends is kept back while it is true.
    holds: Mutex<Vec<watch::Sender<bool>>>,
    held: AtomicUsize,
    /// Whether the connection is to be cut at the next answer.
    swallow: AtomicBool,
    /// What is not answered any more: the connection stays open, and the server does what it is told.
    ignored: Mutex<Option<String>>,
    /// Bytes that were sent on to the server and have no answer yet.
    unanswered: AtomicUsize,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        let accepting = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&accepting);
                connections.spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                        join(client, server, &shared).await;
                    }
                });
            }
        });
        Self {
            port,
            shared,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on, what comes over the connections that are open now is kept back.
    pub(crate) fn hold_open_connections(&self) {
        for hold in self.shared.holds.lock().iter() {
            hold.send_replace(true);
        }
    }

    /// Sends on what was kept back, and returns how many bytes that is.
    pub(crate) fn release(&self) -> usize {
        for hold in self.shared.holds.lock().iter() {
            hold.send_replace(false);
        }
        self.shared.held.load(Ordering::SeqCst)
    }

    /// Cuts the next connection on which the server answers, before the answer is through.
    pub(crate) fn swallow_next_answer(&self) {
        self.shared.swallow.store(true, Ordering::SeqCst);
    }

    /// The next request with that text is carried out, and its sender hears nothing more on that connection.
    pub(crate) fn never_answer(&self, text: &str) {
        *self.shared.ignored.lock() = Some(text.to_owned());
    }

    /// Waits until the server has answered everything.
    pub(crate) async fn until_quiet(&self) {
        eventually("the server has answered", || {
            (self.shared.unanswered.load(Ordering::SeqCst) == 0).then_some(())
        })
        .await;
    }
}

async fn join(client: TcpStream, server: TcpStream, shared: &Shared) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (hold, held) = watch::channel(false);
    shared.holds.lock().push(hold);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let ignored = AtomicBool::new(false);
    tokio::join!(
        requests((from_client, to_server), held, &ignored, shared),
        answers((from_server, to_client), &ignored, shared)
    );
}

/// Goes on for the server after the client has gone, as a network does with what is under way.
async fn requests(
    (mut from, mut to): (OwnedReadHalf, OwnedWriteHalf),
    mut held: watch::Receiver<bool>,
    ignored: &AtomicBool,
    shared: &Shared,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        if *held.borrow() {
            shared.held.fetch_add(read, Ordering::SeqCst);
        }
        if held.wait_for(|hold| !hold).await.is_err() {
            break;
        }
        let text = String::from_utf8_lossy(&buffer[..read]);
        if shared
            .ignored
            .lock()
            .take_if(|ignored| text.contains(ignored.as_str()))
            .is_some()
        {
            ignored.store(true, Ordering::SeqCst);
        }
        shared.unanswered.fetch_add(1, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    // The server still answers what it was sent.
    let _ = held.wait_for(|hold| !hold).await;
}

async fn answers((mut from, mut to): (OwnedReadHalf, OwnedWriteHalf), ignored: &AtomicBool, shared: &Shared) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        shared.unanswered.store(0, Ordering::SeqCst);
        if shared.swallow.swap(false, Ordering::SeqCst) {
            break;
        }
        if ignored.load(Ordering::SeqCst) {
            continue;
        }
        // The client may be gone; the server's answer is read all the same.
        let _ = to.write_all(&buffer[..read]).await;
    }
}
