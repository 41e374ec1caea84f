//! A realtime client that keeps live queries as the server reports them.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
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
        tokio::time::timeout(LONGEST, Self::open(base))
            .await
            .expect("the socket opens in time")
            .expect("the socket opens")
    }

    /// A socket to the server at `http://host:port` that has received `connected`; an error where that fails.
    pub async fn open(base: &str) -> Result<Self, String> {
        Self::open_with(base, &[]).await
    }

    /// The same with further headers of the handshake.
    pub async fn open_with(base: &str, headers: &[(&'static str, &str)]) -> Result<Self, String> {
        let url = format!("{}/api/realtime", base.replacen("http", "ws", 1));
        let mut request = url.into_client_request().map_err(|error| error.to_string())?;
        for (name, value) in headers {
            let value = value.parse().map_err(|_| format!("no header value: {value}"))?;
            request.headers_mut().insert(*name, value);
        }
        let (stream, _) = connect_async(request).await.map_err(|error| error.to_string())?;
        let mut socket = Self {
            stream,
            client_id: String::new(),
        };
        let hello = socket.try_receive().await?;
        if hello["type"] != "connected" {
            return Err(format!("not a greeting: {hello}"));
        }
        hello["payload"]["client_id"]
            .as_str()
            .ok_or("no client id")?
            .clone_into(&mut socket.client_id);
        Ok(socket)
    }

    /// Sends a frame where the socket may be gone.
    pub async fn try_send(&mut self, frame: &Value) -> Result<(), String> {
        let sent = self.stream.send(Message::text(frame.to_string())).await;
        sent.map_err(|error| error.to_string())
    }

    /// The next JSON frame, however long that takes, where the socket may be gone. Cancel-safe.
    pub async fn try_receive(&mut self) -> Result<Value, String> {
        loop {
            let message = self.stream.next().await.ok_or("the socket ended")?;
            match message.map_err(|error| error.to_string())? {
                Message::Text(text) => return serde_json::from_str(&text).map_err(|error| error.to_string()),
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(frame) => return Err(format!("closed: {frame:?}")),
                other => return Err(format!("not a text frame: {other:?}")),
            }
        }
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
