//! A lean HTTP/1.1 client: requests are prepared bytes, replies are read to their end and handed back whole.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One keep-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A reply: status and body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// The bytes of a request. `token` becomes a bearer header.
pub(crate) fn request(method: &str, path: &str, token: Option<&str>, body: Option<&str>) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    if let Some(token) = token {
        text += &format!("Authorization: Bearer {token}\r\n");
    }
    if let Some(body) = body {
        text += &format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
    } else {
        text += "\r\n";
    }
    text.into_bytes()
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket option");
        Self {
            stream,
            buffer: Vec::with_capacity(16 * 1024),
        }
    }

    /// Sends a request and waits for its whole reply.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Reply {
        self.stream
            .write_all(request)
            .await
            .expect("the request is written");
        self.buffer.clear();
        let (head, status, length) = loop {
            self.fill().await;
            let mut headers = [httparse::EMPTY_HEADER; 48];
            let mut parsed = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(head) = parsed.parse(&self.buffer).expect("a sound reply") {
                let length = parsed
                    .headers
                    .iter()
                    .find(|h| h.name.eq_ignore_ascii_case("content-length"));
                let length = length.and_then(|h| std::str::from_utf8(h.value).ok()?.parse::<usize>().ok());
                break (head, parsed.code.unwrap_or(0), length);
            }
        };
        let body = match (status, length) {
            (204, _) => Vec::new(),
            (_, Some(length)) => {
                while self.buffer.len() < head + length {
                    self.fill().await;
                }
                self.buffer[head..head + length].to_vec()
            }
            (_, None) => self.chunked(head).await,
        };
        Reply { status, body }
    }

    /// Sends a request whose reply must have the status.
    pub(crate) async fn expect(&mut self, request: &[u8], status: u16) -> Reply {
        let reply = self.send(request).await;
        assert_eq!(reply.status, status, "{}", String::from_utf8_lossy(&reply.body));
        reply
    }

    async fn chunked(&mut self, mut at: usize) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let (start, size) = loop {
                match httparse::parse_chunk_size(&self.buffer[at..]).expect("a sound chunk") {
                    httparse::Status::Complete((skip, size)) => {
                        break (at + skip, usize::try_from(size).expect("a small chunk"));
                    }
                    httparse::Status::Partial => self.fill().await,
                }
            };
            while self.buffer.len() < start + size + 2 {
                self.fill().await;
            }
            if size == 0 {
                return body;
            }
            body.extend_from_slice(&self.buffer[start..start + size]);
            at = start + size + 2;
        }
    }

    async fn fill(&mut self) {
        let read = self
            .stream
            .read_buf(&mut self.buffer)
            .await
            .expect("the reply can be read");
        assert!(read > 0, "the server closed the connection");
    }
}
