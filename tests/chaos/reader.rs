//! Clients that follow a live query, through however many connections that takes.

use std::time::Duration;

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
    pub(crate) seen: watch::Sender<Option<View>>,
}

impl Reader {
    /// Follows until `stop`.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.transcript.write("query", self.query.clone());
        loop {
            tokio::select! {
                why = self.connection() => {
                    self.transcript.write("gone", json!(why));
                    self.seen.send_replace(None);
                }
                _ = stop.wait_for(|stop| *stop) => return,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One connection to its end; why it ended.
    async fn connection(&mut self) -> String {
        let entrance = self.random.below(self.entrances.len());
        let opening = Socket::open(&self.entrances[entrance]);
        let mut socket = match tokio::time::timeout(PATIENCE, opening).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return error,
            Err(_) => return "the socket does not open".to_owned(),
        };
        self.transcript.write("connected", json!(entrance));
        let subscribe = json!({"id": "s", "type": "subscribe", "payload": self.query});
        if let Err(error) = socket.try_send(&subscribe).await {
            return error;
        }
        let mut view = View::default();
        let mut pings = tokio::time::interval(PING_EVERY);
        let mut heard = tokio::time::Instant::now();
        loop {
            let received = tokio::select! {
                received = socket.try_receive() => received,
                _ = pings.tick() => {
                    let ping = json!({"id": "p", "type": "ping"});
                    if heard.elapsed() > PATIENCE {
                        return "nothing is heard".to_owned();
                    }
                    match tokio::time::timeout(PATIENCE, socket.try_send(&ping)).await {
                        Ok(Ok(())) => continue,
                        Ok(Err(error)) => return error,
                        Err(_) => return "the socket does not take a ping".to_owned(),
                    }
                }
            };
            heard = tokio::time::Instant::now();
            let frame = match received {
                Ok(frame) => frame,
                Err(error) => return error,
            };
            match frame["type"].as_str() {
                Some("pong") => {}
                Some("error") => return frame["payload"].to_string(),
                _ => {
                    let taken = view.take(&frame);
                    self.transcript.write("frame", frame);
                    // The checker finds it in the transcript again; going on would only repeat it.
                    if let Err(error) = taken {
                        return format!("senseless: {error}");
                    }
                    self.seen.send_replace(Some(view.clone()));
                }
            }
        }
    }
}
