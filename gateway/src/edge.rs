//! Every request enters and leaves here: request id, CORS, metrics, access log, panics and errors are handled
//! once for all routes, in one function instead of a stack of layers.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use alyx_core::{Caller, Error, TraceContext};
use alyx_service::trace;
use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use futures_util::FutureExt;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use tower::Service as _;

use crate::app::AppState;
use crate::cors::Cors;
use crate::envelope::{self, PendingFailure, Reply};
use crate::metrics::ShardId;
use crate::request_id::{RequestTag, X_REQUEST_ID};
use crate::route::{Matched, Route};
use crate::routes::{self, Context};

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Longest plain-text reply of a library that is taken over into the envelope, in bytes.
const MAX_REASON: usize = 4096;

/// What stands between connections and handlers.
pub(crate) struct Edge {
    app: AppState,
    cors: Cors,
    /// Routes whose handlers need `axum`'s extractors.
    router: Router,
}

impl Edge {
    pub(crate) fn new(app: AppState, router: Router) -> Arc<Self> {
        let cors = Cors::new(&app.config.server.cors);
        Arc::new(Self { app, cors, router })
    }

    /// Answers one request of a connection that counts in `shard`, as a part of the caller's trace or of a new one.
    pub(crate) async fn answer(&self, request: Request<Body>, shard: ShardId) -> Reply {
        let told = request.headers().get(TRACEPARENT);
        let trace = told.and_then(|value| TraceContext::parse(value.as_bytes()));
        let trace = trace.unwrap_or_else(TraceContext::new);
        trace::within(Some(trace), self.answer_traced(request, shard)).await
    }

    async fn answer_traced(&self, request: Request<Body>, shard: ShardId) -> Reply {
        let started = Instant::now();
        let _in_flight = self.app.metrics.request_started(shard);
        let tag = RequestTag::of(request.headers());
        let origin = self.cors.origin(request.headers());
        let route = Matched::of(request.uri().path()).route;
        let method = request.method().clone();
        let path = tracing::enabled!(tracing::Level::DEBUG).then(|| request.uri().path().to_owned());

        let answered = AssertUnwindSafe(self.dispatch(route, request, &tag, started));
        let mut reply = match answered.catch_unwind().await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => envelope::failed(&error, &tag),
            Err(panic) => panicked(panic.as_ref(), &tag),
        };
        let headers = reply.headers_mut();
        self.cors.decorate(origin, headers);
        headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        headers.insert(X_REQUEST_ID, tag.header().clone());
        let (status, duration) = (reply.status(), started.elapsed());
        self.app
            .metrics
            .request_ended(shard, (route, &method), status, duration);
        log_access(&tag, &method, route, path.as_deref(), status, duration);
        reply
    }

    async fn dispatch(
        &self,
        route: Route,
        request: Request<Body>,
        tag: &RequestTag,
        started: Instant,
    ) -> Result<Reply, Error> {
        if request.method() == Method::OPTIONS
            && let Some(reply) = self.cors.preflight(&request)
        {
            return Ok(reply);
        }
        if route != Route::Frontend && route != Route::UnknownApi && !route.allows(request.method()) {
            return Ok(envelope::method_not_allowed(route.allow(), tag));
        }
        if request.method() == Method::OPTIONS && route != Route::UnknownApi && route != Route::Frontend {
            let mut reply = envelope::empty(StatusCode::NO_CONTENT);
            reply
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(route.allow()));
            return Ok(reply);
        }
        // Who a request acts for is said by whoever checked its credentials.
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
        let context = Context {
            app: &self.app,
            tag,
            started,
            caller: &caller,
            forwarded: false,
        };
        match route {
            Route::Realtime | Route::OpenApi | Route::Docs | Route::ApiDocs => {
                let Ok(reply) = self.call_router(request).await;
                Ok(in_envelope(reply, tag).await)
            }
            Route::Frontend => self.app.frontend.answer(request, tag).await,
            Route::Collection
            | Route::Document
            | Route::Batch
            | Route::Transactions
            | Route::Aggregate
            | Route::Functions
            | Route::FunctionStats
            | Route::FunctionReload
            | Route::Function
            | Route::Config
            | Route::Health
            | Route::Live
            | Route::Ready
            | Route::Metrics
            | Route::UnknownApi => routes::dispatch(context, request).await,
        }
    }

    async fn call_router(&self, request: Request<Body>) -> Result<Reply, Infallible> {
        self.router
            .clone()
            .call(request)
            .await
            .map(IntoResponse::into_response)
    }
}

/// Turns what an `axum` handler or the router itself refused into the envelope.
async fn in_envelope(mut reply: Response<Body>, tag: &RequestTag) -> Reply {
    if let Some(PendingFailure(error)) = reply.extensions_mut().remove() {
        return envelope::failed(&error, tag);
    }
    let is_json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
    let status = reply.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || reply.headers().get(CONTENT_TYPE).is_some_and(is_json) {
        return reply;
    }
    let (mut parts, body) = reply.into_parts();
    let text = axum::body::to_bytes(body, MAX_REASON).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let code = match status {
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
        StatusCode::UPGRADE_REQUIRED => "UPGRADE_REQUIRED",
        _ if status.is_server_error() => "INTERNAL_ERROR",
        _ => "BAD_REQUEST",
    };
    let message = if text.is_empty() {
        status.canonical_reason().unwrap_or("refused")
    } else {
        &text
    };
    let refused = envelope::refused(status, code, message, tag);
    parts.headers.remove(http::header::CONTENT_LENGTH);
    parts.headers.extend(refused.headers().clone());
    Response::from_parts(parts, refused.into_body())
}

fn panicked(panic: &(dyn Any + Send), tag: &RequestTag) -> Reply {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    envelope::failed(&Error::internal(format!("a handler panicked: {text}")), tag)
}

fn log_access(
    tag: &RequestTag,
    method: &Method,
    route: Route,
    path: Option<&str>,
    status: StatusCode,
    duration: std::time::Duration,
) {
    let request_id = tag.as_str();
    let (status, route) = (status.as_u16(), route.template());
    let duration_ms = duration.as_secs_f64() * 1_000.0;
    if status >= 500 {
        tracing::warn!(request_id, %method, route, status, duration_ms, "request answered");
    } else if let Some(path) = path {
        tracing::debug!(request_id, %method, route, path, status, duration_ms, "request answered");
    }
}
