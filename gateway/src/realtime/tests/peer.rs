//! A client on the other end of a connection, with the mirror that an application would keep.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) struct Peer<IO = DuplexStream> {
    pub(super) socket: WebSocketStream<IO>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Peer<IO> {
    pub(super) async fn new(io: IO) -> Self {
        Self {
            socket: WebSocketStream::from_raw_socket(io, Role::Client, None).await,
        }
    }

    pub(super) async fn send(&mut self, message: Json) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    pub(super) async fn send_raw(&mut self, message: Message) {
        self.socket.send(message).await.expect("the connection is open");
    }

    /// The next frame of any kind; `None` at the end.
    pub(super) async fn frame(&mut self) -> Option<Message> {
        let next = tokio::time::timeout(PATIENCE, self.socket.next());
        next.await.expect("a frame in time").and_then(Result::ok)
    }

    /// The next message; protocol pings are answered on the way.
    pub(super) async fn message(&mut self) -> Json {
        loop {
            match self.frame().await {
                Some(Message::Text(text)) => return serde_json::from_str(&text).expect("JSON"),
                Some(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("no message but {other:?}"),
            }
        }
    }

    /// Reads until the server closes; its code, if it sent one.
    pub(super) async fn close_code(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some(frame) = self.frame().await {
            if let Message::Close(close) = frame {
                code = close.map(|close| close.code.into());
            }
        }
        code
    }

    pub(super) async fn subscribe(&mut self, id: &str, query: Json) {
        let mut payload = json!({"collection": "notes"});
        for (key, value) in query.as_object().expect("an object") {
            payload[key] = value.clone();
        }
        self.send(json!({"id": id, "type": "subscribe", "payload": payload}))
            .await;
    }

    /// The next message, which is a snapshot.
    pub(super) async fn snapshot(&mut self) -> Json {
        let message = self.message().await;
        assert_eq!(message["type"], "snapshot", "{message}");
        message
    }

    /// The next message, which is a delta.
    pub(super) async fn delta(&mut self) -> Json {
        let message = self.message().await;
        assert_eq!(message["type"], "delta", "{message}");
        message
    }

    /// The code of the next message, which is an error, and its id.
    pub(super) async fn error(&mut self) -> (String, Json) {
        let message = self.message().await;
        assert_eq!(message["type"], "error", "{message}");
        let code = message["payload"]["code"].as_str().expect("a code");
        (code.to_owned(), message["id"].clone())
    }
}

/// A window as a client keeps it: every step is applied only where it fits.
#[derive(Debug, Default, Clone)]
pub(super) struct Window {
    pub(super) rows: Vec<(i64, u64)>,
    pub(super) at: u64,
    pub(super) resets: usize,
}

fn rows(docs: &Json) -> Vec<(i64, u64)> {
    let number = |doc: &Json, key: &str| doc[key].as_u64().expect("a number");
    docs.as_array()
        .expect("a list")
        .iter()
        .map(|doc| {
            (
                i64::try_from(number(doc, "id")).expect("small"),
                number(doc, "version"),
            )
        })
        .collect()
}

impl Window {
    /// Takes in a snapshot or a delta.
    pub(super) fn take(&mut self, message: &Json) {
        let payload = &message["payload"];
        match message["type"].as_str() {
            Some("snapshot") => {
                self.resets += usize::from(payload["reset"] == true);
                self.rows = rows(&payload["docs"]);
                self.at = payload["seq"].as_u64().expect("a position");
            }
            Some("delta") => {
                assert_eq!(payload["from"], self.at, "a step that does not fit: {message}");
                assert_eq!(payload["to"], payload["seq"]);
                self.step(payload);
                self.at = payload["to"].as_u64().expect("a position");
            }
            _ => panic!("neither snapshot nor delta: {message}"),
        }
        assert_eq!(payload["total"], self.rows.len());
    }

    fn step(&mut self, payload: &Json) {
        let changes = &payload["changes"];
        let deletes: Vec<i64> = changes["deletes"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|id| id.as_i64().expect("an id"))
            .collect();
        let placed = |kind: &str| -> Vec<(usize, (i64, u64))> {
            let places = payload["positions"][kind].as_array().expect("a list");
            let places = places.iter().map(|place| place.as_u64().expect("a place"));
            places
                .map(|place| usize::try_from(place).expect("small"))
                .zip(rows(&changes[kind]))
                .collect()
        };
        let (inserts, updates) = (placed("inserts"), placed("updates"));
        let there = |id: i64, rows: &[(i64, u64)]| rows.iter().any(|(known, _)| *known == id);
        assert!(inserts.iter().all(|(_, (id, _))| !there(*id, &self.rows)));
        assert!(updates.iter().all(|(_, (id, _))| there(*id, &self.rows)));
        assert!(deletes.iter().all(|id| there(*id, &self.rows)));
        let leaves = |id: i64| deletes.contains(&id) || updates.iter().any(|(_, (update, _))| *update == id);
        self.rows.retain(|(id, _)| !leaves(*id));
        let mut entering = [inserts, updates].concat();
        entering.sort_unstable();
        for (place, row) in entering {
            self.rows.insert(place, row);
        }
    }
}
