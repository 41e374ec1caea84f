//! Every request enters and leaves here: request id, CORS, metrics, access log, panics and errors are handled
//! once for all routes, in one function instead of a stack of layers.

use std::any::Any;
use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use alyx_core::{Error, TraceContext};
use alyx_operators::is_api_token;
use alyx_service::trace;
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::response::IntoResponse;
use futures_util::FutureExt;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use tower::Service as _;

use crate::app::AppState;
use crate::auth::{Identity, Requirement, bearer};
use crate::cors::Cors;
use crate::envelope::{self, PendingFailure, Reply};
use crate::metrics::ShardId;
use crate::request_id::{RequestTag, X_REQUEST_ID};
use crate::request_log::{Answered, Noted, Who};
use crate::route::{Matched, Route};
use crate::routes::{self, Context};

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Longest plain-text reply of a library that is taken over into the envelope, in bytes.
const MAX_REASON: usize = 4096;

/// Longest time for looking up a session.
const IDENTIFY_WITHIN: Duration = Duration::from_secs(5);

/// How a request came in.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    tag: &'a RequestTag,
    started: Instant,
    /// Who holds the connection.
    peer: IpAddr,
    /// Filled in once it is known who asks.
    who: &'a OnceLock<Who>,
}

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

    /// Answers one request of a connection that counts in `shard` and comes from `peer`, as a part of the caller's trace
    /// or of a new one.
    pub(crate) async fn answer(&self, request: Request<Body>, (shard, peer): (ShardId, IpAddr)) -> Reply {
        let told = request.headers().get(TRACEPARENT);
        let trace = told.and_then(|value| TraceContext::parse(value.as_bytes()));
        let trace = trace.unwrap_or_else(TraceContext::new);
        trace::within(Some(trace), self.answer_traced(request, (shard, peer))).await
    }

    async fn answer_traced(&self, request: Request<Body>, (shard, peer): (ShardId, IpAddr)) -> Reply {
        let started = Instant::now();
        let _in_flight = self.app.metrics.request_started(shard);
        let tag = RequestTag::of(request.headers());
        let origin = self.cors.origin(request.headers());
        let route = Matched::of(request.uri().path()).route;
        let method = request.method().clone();
        let path = tracing::enabled!(tracing::Level::DEBUG).then(|| request.uri().path().to_owned());

        let noted = self.note(route, &request, peer);
        let who = OnceLock::new();
        let arrival = Arrival {
            tag: &tag,
            started,
            peer,
            who: &who,
        };
        let answered = AssertUnwindSafe(self.dispatch(route, request, arrival));
        let (mut reply, error) = match answered.catch_unwind().await {
            Ok(Ok(reply)) => (reply, None),
            Ok(Err(error)) => (envelope::failed(&error, &tag), Some(error)),
            Err(panic) => {
                let error = panicked(panic.as_ref());
                (envelope::failed(&error, &tag), Some(error))
            }
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
        if let Some(noted) = noted {
            let answered = Answered {
                id: tag.as_str(),
                status,
                duration,
                bytes_out: reply.body().size_hint().exact(),
                who: who.get(),
                error_code: error.as_ref().map(Error::code),
            };
            self.app.requests.push(noted, &answered);
        }
        reply
    }

    /// What operators may look up of the request afterwards.
    fn note(&self, route: Route, request: &Request<Body>, peer: IpAddr) -> Option<Noted> {
        let client = routes::client_of(&self.app, request.headers(), peer);
        Noted::of(route, request, self.app.clock.now(), client)
    }

    /// The reply to what no handler has to see: preflights, and methods that the route does not have.
    fn without_handler(&self, route: Route, request: &Request<Body>, tag: &RequestTag) -> Option<Reply> {
        if request.method() == Method::OPTIONS
            && let Some(reply) = self.cors.preflight(request)
        {
            return Some(reply);
        }
        if matches!(route, Route::Frontend | Route::UnknownApi) {
            return None;
        }
        if !route.allows(request.method()) {
            return Some(envelope::method_not_allowed(route.allow(), tag));
        }
        if request.method() != Method::OPTIONS {
            return None;
        }
        let mut reply = envelope::empty(StatusCode::NO_CONTENT);
        reply
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(route.allow()));
        Some(reply)
    }

    #[expect(clippy::too_many_lines, reason = "each route is named once")]
    async fn dispatch(
        &self,
        route: Route,
        mut request: Request<Body>,
        arrival: Arrival<'_>,
    ) -> Result<Reply, Error> {
        let tag = arrival.tag;
        if let Some(reply) = self.without_handler(route, &request, tag) {
            return Ok(reply);
        }
        let identity = identify(&self.app, route, (request.headers(), request.uri())).await?;
        if let Some(who) = Who::of(&identity) {
            let _ = arrival.who.set(who);
        }
        let context = Context {
            app: &self.app,
            tag,
            started: arrival.started,
            forwarded: false,
            identity: &identity,
            peer: Some(arrival.peer),
        };
        match route {
            Route::Realtime | Route::OpenApi | Route::Docs | Route::ApiDocs => {
                request.extensions_mut().insert(identity);
                let Ok(reply) = self.call_router(request).await;
                Ok(in_envelope(reply, tag).await)
            }
            Route::Frontend => self.app.frontend.answer(request, tag).await,
            Route::Collection
            | Route::Document
            | Route::Batch
            | Route::Transactions
            | Route::Aggregate
            | Route::Files
            | Route::FileBatch
            | Route::File
            | Route::FileDownload
            | Route::FileView
            | Route::FileSign
            | Route::Functions
            | Route::FunctionStats
            | Route::FunctionReload
            | Route::Function
            | Route::AuthStatus
            | Route::AuthRegister
            | Route::AuthAnonymous
            | Route::AuthUpgrade
            | Route::AuthLogin
            | Route::AuthRefresh
            | Route::AuthLogout
            | Route::AuthMe
            | Route::AuthPassword
            | Route::AuthSessions
            | Route::AuthSession
            | Route::AuthKeys
            | Route::AuthVerify
            | Route::AuthVerifyRequest
            | Route::AuthPasswordForgot
            | Route::AuthPasswordReset
            | Route::AuthMagicLink
            | Route::AuthMagicLogin
            | Route::AuthSecondFactor
            | Route::AuthSecondFactorConfirm
            | Route::AuthRecoveryCodes
            | Route::AuthSecondFactorLogin
            | Route::AuthProviders
            | Route::AuthOAuth
            | Route::AuthOAuthCallback
            | Route::AuthOAuthLogin
            | Route::AuthIdentities
            | Route::AuthIdentity
            | Route::AdminLogin
            | Route::AdminLogout
            | Route::AdminOperators
            | Route::AdminOperator
            | Route::AdminTokens
            | Route::AdminToken
            | Route::AdminLogs
            | Route::AdminLogStats
            | Route::AdminLogClear
            | Route::AdminSecondFactor
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

/// Who asks, where the route wants to know: the one place where a token is looked at.
///
/// Errors: `INVALID_TOKEN`, `TOKEN_EXPIRED`, `TOKEN_REVOKED`; `UNAUTHORIZED`, `FORBIDDEN`, `SCOPE_MISSING` where the
/// route is for accounts or operators alone.
pub(crate) async fn identify(
    app: &AppState,
    route: Route,
    (headers, uri): (&HeaderMap, &Uri),
) -> Result<Identity, Error> {
    let requirement = route.requirement();
    if requirement == Requirement::Anybody {
        return Ok(Identity::default());
    }
    let mut token = bearer(headers)?;
    // A browser cannot set headers of a WebSocket.
    if token.is_none() && route == Route::Realtime {
        token = uri.query().and_then(token_in_query);
    }
    let deadline = Instant::now() + IDENTIFY_WITHIN;
    let identity = match token {
        Some(token) if is_api_token(token) => app.tokens.identify(token, deadline).await?,
        Some(token) => app.auth.identify(token, deadline).await?,
        None => Identity::default(),
    };
    match requirement {
        Requirement::Anybody | Requirement::Rules => {}
        Requirement::Account => identity.account().map(|_| ())?,
        Requirement::OperatorOrDev(_) if app.config.dev.enabled => {}
        Requirement::Operator(permission) | Requirement::OperatorOrDev(permission) => {
            identity.permit(permission)?;
        }
    }
    Ok(identity)
}

fn token_in_query(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("token="))
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

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Error::internal(format!("a handler panicked: {text}"))
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
