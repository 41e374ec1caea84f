//! Connections: broken and chunked requests, stopping, and taken ports.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::site::{Setup, Site};

/// Sends a request without a declared length and returns the raw reply.
pub(crate) async fn send_chunked(site: &Site, path: &str, chunks: &[String]) -> String {
    let mut request =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    for chunk in chunks {
        request.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    request.push_str("0\r\n\r\n");
    exchange(site, &request).await
}

async fn exchange(site: &Site, request: &str) -> String {
    let mut stream = TcpStream::connect(site.address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("a reply");
    reply
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_the_server_goes_on() {
    let site = Site::start().await;
    for request in [
        "\0\u{1}\u{2}\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
    ] {
        let reply = exchange(&site, request).await;
        assert!(reply.starts_with("HTTP/1.1 400 "), "{request:?}: {reply}");
    }
    assert_eq!(site.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn a_connection_that_sends_no_request_is_closed() {
    let mut setup = Setup::default();
    setup.config.server.read_timeout = Duration::from_millis(100);
    setup.config.server.idle_timeout = Duration::from_millis(200);
    let site = setup.start().await;
    for start in ["", "GET / HT"] {
        assert_eq!(exchange(&site, start).await, "", "{start:?}");
    }
}

#[tokio::test]
async fn stopping_answers_what_is_under_way_and_accepts_nothing_more() {
    let Site {
        address,
        gateway,
        gate,
        dir: _dir,
        ..
    } = Site::start().await;
    let mut busy = TcpStream::connect(address).await.expect("a connection");
    busy.write_all(b"POST /api/functions/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .await
        .expect("sent");
    gate.entered.notified().await;
    let mut idle = TcpStream::connect(address).await.expect("a connection");
    let stopped = tokio::spawn(gateway.shutdown(Duration::from_secs(30)));

    let mut nothing = Vec::new();
    idle.read_to_end(&mut nothing).await.expect("closed");
    assert!(nothing.is_empty());
    assert!(TcpStream::connect(address).await.is_err());
    gate.open.notify_one();
    let mut reply = String::new();
    busy.read_to_string(&mut reply).await.expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert!(reply.ends_with("\"done\""), "{reply}");
    assert!(stopped.await.expect("stopped"));
}

#[tokio::test]
async fn what_does_not_end_by_the_deadline_is_cut() {
    let Site {
        address,
        gateway,
        gate,
        dir: _dir,
        ..
    } = Site::start().await;
    let mut busy = TcpStream::connect(address).await.expect("a connection");
    busy.write_all(b"POST /api/functions/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .await
        .expect("sent");
    gate.entered.notified().await;
    assert!(!gateway.shutdown(Duration::from_millis(50)).await);
    let mut reply = String::new();
    // Closed or reset, but not left open.
    let _ = busy.read_to_string(&mut reply).await;
    assert!(reply.is_empty(), "{reply}");
}

#[tokio::test]
async fn readiness_ends_with_serving() {
    let site = Site::start().await;
    assert_eq!(site.get("/health/ready").await.json(), json!({"status": "ready"}));
    assert!(site.stop().await);
}

#[tokio::test]
async fn a_taken_port_is_said_to_be_taken() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut setup = Setup::default();
    setup.config.server.port = listener.local_addr().expect("an address").port();
    let error = setup.try_start().await.err().expect("no gateway");
    assert_eq!(error.code(), "LISTEN_FAILED");
    assert!(error.message().contains("taken"), "{error}");
}

#[tokio::test]
async fn a_name_with_several_addresses_is_served_on_all_of_them() {
    let mut setup = Setup::default();
    setup.config.server.host = "localhost".to_owned();
    let site = setup.start().await;
    let port = site.address.port();
    for address in tokio::net::lookup_host(("localhost", port))
        .await
        .expect("addresses")
    {
        let is_here = std::net::TcpListener::bind((address.ip(), 0)).is_ok();
        assert_eq!(TcpStream::connect(address).await.is_ok(), is_here, "{address}");
    }
}

#[tokio::test]
async fn http_2_is_spoken_too() {
    let site = Site::start().await;
    let stream = TcpStream::connect(site.address).await.expect("a connection");
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .expect("HTTP/2");
    let driver = tokio::spawn(connection);
    let request = site
        .request("GET", "/health/live")
        .body(String::new())
        .expect("a request");
    let reply = sender.send_request(request).await.expect("a reply");
    assert_eq!(
        (reply.status().as_u16(), reply.version()),
        (200, http::Version::HTTP_2)
    );
    driver.abort();
}

#[tokio::test]
async fn sockets_are_closed_with_1001_when_the_gateway_stops() {
    let setup = Setup {
        realtime: true,
        ..Setup::default()
    };
    let site = setup.start().await;
    let url = format!("ws://{}/api/realtime", site.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a socket");
    let first = socket.next().await.expect("a frame").expect("a frame");
    assert!(
        first.to_text().expect("text").contains("\"connected\""),
        "{first}"
    );
    let metrics = site.get("/metrics").await.text;
    assert!(metrics.contains("alyx_realtime_connections 1\n"), "{metrics}");
    let stopped = tokio::spawn(site.stop());
    let close = loop {
        match socket.next().await {
            Some(Ok(Message::Close(close))) => break close,
            Some(Ok(_)) => {}
            other => panic!("not closed but {other:?}"),
        }
    };
    assert_eq!(close.map(|close| u16::from(close.code)), Some(1001));
    while socket.next().await.is_some() {}
    drop(socket);
    assert!(stopped.await.expect("stopped"));
}

#[tokio::test]
async fn a_plain_request_to_the_realtime_endpoint_gets_the_envelope() {
    let on = Setup {
        realtime: true,
        ..Setup::default()
    };
    let check = async |setup: Setup, expected: (u16, &str)| {
        let site = setup.start().await;
        let refusal = site.get("/api/realtime").await.refusal();
        assert_eq!((refusal.0, refusal.1.as_str()), expected);
    };
    check(on, (400, "UPGRADE_REQUIRED")).await;
    check(Setup::default(), (404, "NOT_FOUND")).await;
}
