//! A development server behind this one: requests and WebSockets (hot reload) are passed on to it, so that page
//! and API share an origin. For development mode only.

use std::sync::Arc;
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result};
use alyx_service::tasks::Tasks;
use axum::body::Body;
use http::header::{
    ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Semaphore;

use crate::envelope::{self, Reply};
use crate::request_id::RequestTag;

/// Longest wait for a connection to the development server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the head of its reply; the first build of a page takes a while.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);
/// Idle connections kept to it.
const MAX_IDLE: usize = 16;
/// Most WebSockets passed on at a time.
const MAX_UPGRADES: usize = 256;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The way to a development server.
pub(crate) struct Proxy {
    client: Client<HttpConnector, Body>,
    target: Authority,
    tasks: Tasks,
    upgrades: Arc<Semaphore>,
}

impl Proxy {
    /// Errors: `FRONTEND_INVALID` where `url` is not `http://host:port`.
    pub(crate) fn new(url: &str, tasks: Tasks) -> Result<Self> {
        let invalid = || {
            Error::new(
                ErrorKind::InvalidInput,
                "FRONTEND_INVALID",
                format!("frontend.dev_proxy ({url}) is not a base URL such as http://localhost:5173"),
            )
        };
        let parts = url.parse::<Uri>().map_err(|_| invalid())?.into_parts();
        let is_bare = parts.path_and_query.is_none_or(|path| path == "/");
        let target = parts
            .authority
            .filter(|_| is_bare && parts.scheme == Some(Scheme::HTTP));
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        Ok(Self {
            client: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(MAX_IDLE)
                .build(connector),
            target: target.ok_or_else(invalid)?,
            tasks,
            upgrades: Arc::new(Semaphore::new(MAX_UPGRADES)),
        })
    }

    pub(crate) async fn answer(&self, mut request: Request<Body>, tag: &RequestTag) -> Result<Reply> {
        let wants_html = request
            .headers()
            .get(ACCEPT)
            .is_some_and(|value| value.to_str().is_ok_and(|text| text.contains("text/html")));
        let upgrade = request.headers().get(UPGRADE).cloned();
        let ours = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
        let request = self.readdress(request, upgrade)?;
        let reply = match tokio::time::timeout(REPLY_TIMEOUT, self.client.request(request)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => {
                tracing::debug!(%error, target = %self.target, "the development server did not answer");
                return Ok(self.unreachable(wants_html, tag));
            }
            Err(_) => return Ok(self.unreachable(wants_html, tag)),
        };
        Ok(self.pass_on(reply, ours))
    }

    /// The request as the development server is to see it.
    fn readdress(&self, request: Request<Body>, upgrade: Option<HeaderValue>) -> Result<Request<Body>> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().cloned();
        parts.uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.target.clone())
            .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
            .build()
            .map_err(Error::internal)?;
        parts.version = Version::HTTP_11;
        remove_hop_by_hop(&mut parts.headers);
        if let Some(upgrade) = upgrade {
            parts
                .headers
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, upgrade);
        }
        if let Some(host) = parts.headers.remove(HOST) {
            parts.headers.insert(FORWARDED_HOST, host);
        }
        parts
            .headers
            .insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
        Ok(Request::from_parts(parts, body))
    }

    fn pass_on(&self, mut reply: Response<hyper::body::Incoming>, ours: Option<OnUpgrade>) -> Reply {
        if reply.status() != StatusCode::SWITCHING_PROTOCOLS {
            remove_hop_by_hop(reply.headers_mut());
            return reply.map(Body::new);
        }
        let theirs = hyper::upgrade::on(&mut reply);
        if let (Some(ours), Ok(permit)) = (ours, Arc::clone(&self.upgrades).try_acquire_owned()) {
            let stop = self.tasks.cancelled();
            self.tasks.spawn_detached(async move {
                let _permit = permit;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = join(ours, theirs) => {}
                }
            });
        }
        reply.map(|_| Body::empty())
    }

    fn unreachable(&self, wants_html: bool, tag: &RequestTag) -> Reply {
        let message = format!(
            "the development server at http://{} does not answer; start it, or change frontend.dev_proxy",
            self.target
        );
        if !wants_html {
            return envelope::refused(StatusCode::BAD_GATEWAY, "DEV_SERVER_UNREACHABLE", &message, tag);
        }
        let page = format!(
            "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=2>\
             <title>Waiting for the development server</title>\
             <body style=\"font:16px system-ui;margin:4rem auto;max-width:40rem\">\
             <h1>Waiting for the development server</h1><p>{message}.</p>\
             <p>This page tries again every two seconds. The API is up.</p>"
        );
        let mut reply = Response::new(Body::from(page));
        *reply.status_mut() = StatusCode::BAD_GATEWAY;
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        reply.headers_mut().insert(CONTENT_TYPE, html);
        reply
    }
}

/// Carries bytes between the browser and the development server until either ends. Every way it can fail is
/// the end of the connection, which both sides see.
async fn join(ours: OnUpgrade, theirs: OnUpgrade) {
    let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else {
        return;
    };
    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
}

/// Headers of one connection are not passed on to the next (RFC 9110, section 7.6.1).
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let fixed = [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    for name in named.into_iter().chain(fixed) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_base_urls_are_taken() {
        let check = |url: &str, valid: bool| {
            assert_eq!(Proxy::new(url, Tasks::new()).is_ok(), valid, "{url}");
        };
        check("http://localhost:5173", true);
        check("http://localhost:5173/", true);
        check("http://[::1]:5173", true);
        check("https://localhost:5173", false);
        check("http://localhost:5173/app", false);
        check("localhost", false);
        check("", false);
    }

    #[test]
    fn headers_of_the_connection_stay_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, x-private"),
            ("keep-alive", "timeout=5"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("x-public", "2"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(
            headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["x-public"]
        );
    }
}
