//! A realtime client that keeps live queries as the server reports them.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const LONGEST: Duration = Duration::from_secs(30);

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    client_id: String,
}

impl Socket {
    pub(crate) async fn connect(base: &str) -> Self {
        let url = format!("{}/api/realtime", base.replacen("http", "ws", 1));
        let (stream, _) = connect_async(url).await.expect("the socket opens");
        let mut socket = Self {
            stream,
            client_id: String::new(),
        };
        let hello = socket.receive().await;
        assert_eq!(hello["type"], "connected", "{hello}");
        hello["payload"]["client_id"]
            .as_str()
            .expect("a client id")
            .clone_into(&mut socket.client_id);
        socket
    }

    /// The id that the server gave.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends text as it is.
    pub async fn send_text(&mut self, text: &str) {
        self.stream
            .send(Message::text(text))
            .await
            .expect("the frame is sent");
    }

    /// The next JSON frame.
    pub async fn receive(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).expect("frames are JSON"),
            other => panic!("not a text frame: {other:?}"),
        }
    }

    /// The close code, after everything that came before it.
    pub async fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.next().await {
                return frame.expect("a close frame has a code").code.into();
            }
        }
    }

    async fn next(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(LONGEST, self.stream.next())
                .await
                .expect("a frame arrives in time")
                .expect("the socket is open")
                .expect("the frame is sound");
            if !matches!(message, Message::Ping(_) | Message::Pong(_)) {
                return message;
            }
        }
    }

    /// Subscribes and returns the snapshot's payload.
    pub async fn subscribe(&mut self, payload: Value) -> Value {
        self.send(json!({"id": "s", "type": "subscribe", "payload": payload}))
            .await;
        let reply = self.receive().await;
        assert_eq!(reply["type"], "snapshot", "{reply}");
        assert_eq!(reply["id"], "s");
        reply["payload"].clone()
    }

    /// The next frame, which must be a delta: its `changes`.
    pub async fn delta(&mut self) -> Value {
        let frame = self.receive().await;
        assert_eq!(frame["type"], "delta", "{frame}");
        frame["payload"]["changes"].clone()
    }
}
