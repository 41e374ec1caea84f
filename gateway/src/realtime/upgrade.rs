//! The way from an HTTP request to a served socket (RFC 6455, section 4).

use std::sync::Arc;
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result};
use alyx_service::trace;
use axum::body::Body;
use axum::extract::{Request, State};
use base64::Engine as _;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};

use super::hub::Hub;
use super::session::Session;
use crate::app::AppState;
use crate::auth::Identity;
use crate::envelope::Failure;

/// Longest time from the reply to the socket.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What the accept key is made with (RFC 6455, section 1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `GET /api/realtime`.
pub(crate) async fn upgrade(
    State(app): State<AppState>,
    request: Request,
) -> Result<Response<Body>, Failure> {
    let Some(hub) = &app.hub else {
        let off = "realtime is switched off; `realtime.enabled` in alyx.yaml turns it on";
        return Err(Error::new(ErrorKind::NotFound, "REALTIME_DISABLED", off).into());
    };
    Ok(accept(hub, request)?)
}

/// Answers a handshake; the socket is served by a task of its own as soon as the reply is out.
///
/// Errors: `UPGRADE_REQUIRED` where this is no handshake, `REALTIME_FULL`, `GATEWAY_DRAINED` and `SHUTTING_DOWN`
/// (503).
pub(super) fn accept(hub: &Arc<Hub>, mut request: Request) -> Result<Response<Body>> {
    let key = accept_key(request.method(), request.headers())?;
    let socket = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or_else(|| upgrade_required("this connection cannot become a WebSocket; use HTTP/1.1"))?;
    let identity = request.extensions_mut().remove::<Identity>().unwrap_or_default();
    let permit = hub.admit()?;
    let serving = Arc::clone(hub);
    let serving = async move {
        // Where the client leaves before the reply is out there is nothing to serve.
        if let Ok(Ok(socket)) = tokio::time::timeout(HANDSHAKE, socket).await {
            Session::new(&serving, TokioIo::new(socket), (permit, identity)).await;
        }
    };
    // What the socket asks for belongs to the trace of its handshake.
    hub.tasks.spawn_detached(trace::within(trace::current(), serving));
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    Ok(reply)
}

fn upgrade_required(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "UPGRADE_REQUIRED", message)
}

/// Checks the handshake's headers and answers its key.
fn accept_key(method: &Method, headers: &HeaderMap) -> Result<HeaderValue> {
    let has = |name: HeaderName, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    if method != Method::GET || !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") {
        return Err(upgrade_required(
            "this is a WebSocket endpoint; connect to it with the ws:// or wss:// scheme",
        ));
    }
    if !has(SEC_WEBSOCKET_VERSION, "13") {
        return Err(upgrade_required(
            "only version 13 of the WebSocket protocol is spoken here",
        ));
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .filter(|key| !key.is_empty())
        .ok_or_else(|| upgrade_required("the handshake has no Sec-WebSocket-Key"))?;
    let digest = Sha1::new()
        .chain_update(key.as_bytes())
        .chain_update(MAGIC)
        .finalize();
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    Ok(HeaderValue::try_from(accept).expect("base64 is visible ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(without: Option<&str>, with: Option<(&'static str, &'static str)>) -> HeaderMap {
        let usual = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        usual
            .into_iter()
            .filter(|(name, _)| Some(*name) != without)
            .chain(with)
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn the_key_is_answered_as_the_rfc_shows() {
        let key = accept_key(&Method::GET, &headers(None, None)).expect("a handshake");
        assert_eq!(key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_no_handshake_is_told_so() {
        let check = |method: Method, headers: HeaderMap| {
            let error = accept_key(&method, &headers).expect_err("no handshake");
            assert_eq!(error.code(), "UPGRADE_REQUIRED");
        };
        check(Method::POST, headers(None, None));
        for name in [
            "connection",
            "upgrade",
            "sec-websocket-version",
            "sec-websocket-key",
        ] {
            check(Method::GET, headers(Some(name), None));
        }
        check(
            Method::GET,
            headers(
                Some("sec-websocket-version"),
                Some(("sec-websocket-version", "8")),
            ),
        );
        check(Method::GET, headers(Some("upgrade"), Some(("upgrade", "h2c"))));
    }
}
