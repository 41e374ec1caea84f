//! What a client may not exceed, and the way in over a real listener.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::any;
use http::Response;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{MaybeTlsStream, connect_async};

use super::peer::Peer;
use super::{House, Limits, eventually};
use crate::realtime::hub::Hub;
use crate::realtime::upgrade::accept;

async fn handler(State(hub): State<Arc<Hub>>, request: Request) -> Response<Body> {
    accept(&hub, request).unwrap_or_else(|error| {
        let mut reply = Response::new(Body::from(error.code().to_owned()));
        *reply.status_mut() = http::StatusCode::from_u16(error.kind().http_status()).expect("a valid status");
        assert_eq!(error.retry_after().is_some(), reply.status() == 503);
        reply
    })
}

/// Serves the hub on a real port and returns its address.
async fn listen(house: &House) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let router = Router::new()
        .route("/api/realtime", any(handler))
        .with_state(Arc::clone(&house.hub));
    house.tasks.spawn_detached(async move {
        // Ends with the runtime.
        let _ = axum::serve(listener, router).await;
    });
    format!("ws://{address}/api/realtime")
}

async fn connect(url: &str) -> Result<Peer<MaybeTlsStream<TcpStream>>, WsError> {
    let (socket, _) = connect_async(url).await?;
    Ok(Peer { socket })
}

#[tokio::test]
async fn one_connection_too_many_is_refused_before_the_upgrade_and_room_is_given_back() {
    let limits = Limits {
        max_connections: 2,
        ..Limits::default()
    };
    let house = House::new(limits);
    let url = listen(&house).await;
    let mut first = connect(&url).await.expect("room for one");
    let mut second = connect(&url).await.expect("room for two");
    for peer in [&mut first, &mut second] {
        assert_eq!(peer.message().await["type"], "connected");
    }
    match connect(&url).await.err() {
        Some(WsError::Http(reply)) => {
            assert_eq!(reply.status(), 503);
            assert_eq!(reply.body().as_deref(), Some(b"REALTIME_FULL".as_slice()));
        }
        other => panic!("{other:?}"),
    }
    drop(first);
    eventually("the place is free again", || house.hub.stats().connections == 1).await;
    let mut third = connect(&url).await.expect("room again");
    assert_eq!(third.message().await["type"], "connected");
}

#[tokio::test]
async fn a_plain_request_is_told_what_the_endpoint_is() {
    let house = House::new(Limits::default());
    let request = Request::builder()
        .uri("/api/realtime")
        .body(Body::empty())
        .expect("a request");
    let error = accept(&house.hub, request).expect_err("no handshake");
    assert_eq!(
        (error.code(), error.kind().http_status()),
        ("UPGRADE_REQUIRED", 400)
    );
}

#[tokio::test]
async fn a_subscription_too_many_is_refused_until_one_is_given_up() {
    let limits = Limits {
        max_subscriptions_per_client: 2,
        ..Limits::default()
    };
    let house = House::new(limits);
    let mut node = house.service.joined().await;
    let mut peer = house.peer().await;
    peer.subscribe("1", json!({"limit": 1})).await;
    peer.subscribe("2", json!({"limit": 2})).await;
    peer.subscribe("3", json!({"limit": 3})).await;
    assert_eq!(
        peer.error().await,
        ("SUBSCRIPTION_LIMIT_REACHED".to_owned(), json!("3"))
    );
    let (group, _) = node.opened().await;
    node.answer(group, 1, &[]).await;
    let id = peer.snapshot().await["payload"]["subscription_id"].clone();
    peer.send(json!({"type": "unsubscribe", "payload": {"subscription_id": id}}))
        .await;
    peer.subscribe("4", json!({"limit": 1})).await;
    assert_eq!(peer.snapshot().await["id"], "4");
}

#[tokio::test]
async fn a_message_over_the_limit_closes_with_1009_and_one_of_the_limit_does_not() {
    let limits = Limits {
        max_message_bytes: 1000,
        ..Limits::default()
    };
    let house = House::new(limits);
    let url = listen(&house).await;
    let mut peer = connect(&url).await.expect("room");
    assert_eq!(peer.message().await["type"], "connected");
    peer.send_raw(Message::text("x".repeat(1000))).await;
    assert_eq!(peer.error().await.0, "INVALID_MESSAGE");
    peer.send_raw(Message::text("x".repeat(1001))).await;
    assert_eq!(peer.close_code().await, Some(1009));
    drop(peer);
    eventually("the connection is forgotten", || {
        house.hub.stats().connections == 0
    })
    .await;
    assert_eq!(house.hub.stats().closes.too_large, 1);
}

#[tokio::test]
async fn a_query_that_would_be_kept_is_bounded_more_tightly_than_a_message() {
    let (house, _node) = House::open().await;
    let mut peer = house.peer().await;
    peer.subscribe("1", json!({"filter": {"text": "x".repeat(70_000)}}))
        .await;
    assert_eq!(peer.error().await, ("INVALID_PAYLOAD".to_owned(), json!("1")));
}

#[tokio::test]
async fn unmasked_frames_close_with_1002() {
    let (house, _node) = House::open().await;
    let (client, server) = tokio::io::duplex(1 << 16);
    house.serve(server);
    let mut peer = Peer::new(client).await;
    peer.message().await;
    tokio::io::AsyncWriteExt::write_all(peer.socket.get_mut(), &[0x81, 0x01, b'x'])
        .await
        .expect("the connection is open");
    assert_eq!(peer.close_code().await, Some(1002));
}
