//! A TCP proxy that can cut, or stand still.

use std::net::SocketAddr;

use alyx_service::tasks::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As if it were not there.
    Pass,
    /// Connections stay and nothing goes through.
    Stall,
    /// Connections end, new ones too.
    Cut,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr, tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mode = watch::Sender::new(Mode::Pass);
        let (watched, spawner) = (mode.subscribe(), tasks.clone());
        tasks.spawn_detached(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *watched.borrow() == Mode::Cut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(target).await else {
                    continue;
                };
                for stream in [&client, &server] {
                    stream.set_nodelay(true).expect("a socket has options");
                }
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                spawner.spawn_detached(pass(from_client, to_server, watched.clone()));
                spawner.spawn_detached(pass(from_server, to_client, watched.clone()));
            }
        });
        Self { address, mode }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            cut = mode.wait_for(|mode| *mode == Mode::Cut) => {
                let _ = cut;
                return;
            }
        };
        let Ok(bytes @ 1..) = read else { return };
        let Ok(now) = mode.wait_for(|mode| *mode != Mode::Stall).await.map(|mode| *mode) else {
            return;
        };
        if now == Mode::Cut || to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}
