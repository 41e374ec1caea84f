//! One subscriber of the live scenarios: the handshake by hand, then raw bytes, so that a thousand of them cost
//! the load generator as little as possible.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::request;
use crate::server::{Endpoint, Kind};

/// Stands once in every delivered document, for both products.
const MARK: &[u8] = b"\"channel\":";

/// A stream that receives the documents of one channel (or nothing more than a connection), subscribed and past
/// its first answer.
pub(crate) async fn open(server: &Endpoint, channel: Option<&str>) -> TcpStream {
    match server.kind {
        Kind::Alyx => alyx(server, channel).await,
        Kind::PocketBase => pocketbase(server, channel).await,
    }
}

/// Documents in these bytes, and how many bytes at their end may be the beginning of another mark.
pub(crate) fn count_documents(bytes: &[u8]) -> (u64, usize) {
    let mut count = 0;
    let mut at = 0;
    while let Some(found) = memchr::memmem::find(&bytes[at..], MARK) {
        count += 1;
        at += found + MARK.len();
    }
    let rest = (bytes.len() - at).min(MARK.len() - 1);
    (count, rest)
}

async fn alyx(server: &Endpoint, channel: Option<&str>) -> TcpStream {
    let mut stream = connect(server).await;
    let upgrade = "GET /api/realtime HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.expect("written");
    read_until(&mut stream, b"\"connected\"").await;
    let mut payload = json!({"collection": "messages", "sort": ["-created_at"], "limit": 100});
    if let Some(channel) = channel {
        payload["filter"] = json!({"channel": {"$eq": channel}});
    }
    let frame = json!({"id": "s", "type": "subscribe", "payload": payload}).to_string();
    stream.write_all(&masked(&frame)).await.expect("written");
    // The window may hold documents of an earlier run; the total stands behind them.
    read_until(&mut stream, b"\"total\":").await;
    stream
}

/// A client's text frame (RFC 6455 §5.2) with the mask zero, which leaves the payload as it is.
fn masked(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a small frame");
    let mut frame = vec![0x81];
    if length < 126 {
        frame.push(0x80 | u8::try_from(length).expect("below 126"));
    } else {
        frame.push(0x80 | 126);
        frame.extend_from_slice(&length.to_be_bytes());
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

async fn pocketbase(server: &Endpoint, channel: Option<&str>) -> TcpStream {
    let mut stream = connect(server).await;
    let open = request("GET", "/api/realtime", None, None);
    stream.write_all(&open).await.expect("written");
    let seen = read_until(&mut stream, b"\"}\n\n").await;
    let text = String::from_utf8_lossy(&seen);
    let client = text
        .split("\"clientId\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a client id");
    let topic = channel.map_or_else(
        || "messages/*".to_owned(),
        |channel| {
            let options = json!({"query": {"filter": format!("channel='{channel}'")}}).to_string();
            format!("messages/*?options={}", escape(&options))
        },
    );
    let body = json!({"clientId": client, "subscriptions": [topic]}).to_string();
    let subscribe = request("POST", "/api/realtime", None, Some(&body));
    server.connect().await.expect(&subscribe, 204).await;
    stream
}

async fn connect(server: &Endpoint) -> TcpStream {
    let stream = TcpStream::connect(&server.address)
        .await
        .expect("the server listens");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut seen = Vec::new();
    while memchr::memmem::find(&seen, end).is_none() {
        let read = stream.read_buf(&mut seen).await.expect("readable");
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&seen));
    }
    seen
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
