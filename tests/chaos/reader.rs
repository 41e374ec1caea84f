//! Clients that follow a live query, through however many connections that takes.

use std::convert::Infallible;
use std::future::Future;
use std::time::{Duration, Instant};

use alyx_tests::{Random, Socket};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::transcript::Transcript;
use crate::view::View;

/// A socket on which nothing was heard for so long, not even the answer to a ping, is given up.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often a client pings while nothing comes.
const PING_EVERY: Duration = Duration::from_millis(500);
/// Pause before the next connection.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Reader {
    /// `http://host:port` of every entrance.
    pub(crate) entrances: Vec<String>,
    /// The subscription's payload.
    pub(crate) query: Value,
    pub(crate) random: Random,
    pub(crate) transcript: Transcript,
    /// What it holds now; `None` while it has no connection.
    pub(crate) seen: watch::Sender<Option<Seen>>,
}

/// A live query as a client holds it, and where from.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) entrance: usize,
    pub(crate) view: View,
}

/// Why a connection ended.
struct Gone {
    entrance: usize,
    /// Milliseconds since the run began when all was still well.
    heard: u64,
    why: String,
}

impl Reader {
    /// Follows until `stop`.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.transcript.write("query", self.query.clone());
        loop {
            tokio::select! {
                gone = self.connection() => {
                    let Gone { entrance, heard, why } = gone;
                    self.transcript.write("gone", json!({"entrance": entrance, "began": heard, "why": why}));
                    self.seen.send_replace(None);
                }
                _ = stop.wait_for(|stop| *stop) => return,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One connection to its end.
    async fn connection(&mut self) -> Gone {
        let entrance = self.random.below(self.entrances.len());
        let mut heard = self.transcript.clock().millis();
        let why = match self.follow(entrance, &mut heard).await {
            Err(why) => why,
            Ok(never) => match never {},
        };
        Gone { entrance, heard, why }
    }

    async fn follow(&mut self, entrance: usize, heard: &mut u64) -> Result<Infallible, String> {
        let mut socket = in_time(Socket::open(&self.entrances[entrance])).await?;
        self.transcript.write("connected", json!(entrance));
        let subscribe = json!({"id": "s", "type": "subscribe", "payload": self.query});
        socket.try_send(&subscribe).await?;
        let mut view = View::default();
        let mut pings = tokio::time::interval(PING_EVERY);
        let mut last = Instant::now();
        loop {
            let frame = tokio::select! {
                received = socket.try_receive() => received?,
                _ = pings.tick() => {
                    if last.elapsed() > PATIENCE {
                        return Err("nothing is heard".to_owned());
                    }
                    in_time(socket.try_send(&json!({"id": "p", "type": "ping"}))).await?;
                    continue;
                }
            };
            last = Instant::now();
            *heard = self.transcript.clock().millis();
            match frame["type"].as_str() {
                Some("pong") => {}
                Some("error") => return Err(frame["payload"].to_string()),
                _ => {
                    let taken = view.take(&frame);
                    self.transcript.write("frame", frame);
                    // The checker finds it in the transcript again; going on would only repeat it.
                    taken.map_err(|error| format!("senseless: {error}"))?;
                    let view = view.clone();
                    self.seen.send_replace(Some(Seen { entrance, view }));
                }
            }
        }
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
}
