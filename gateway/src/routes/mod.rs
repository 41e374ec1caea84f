//! Handlers: decode, make one call, encode.

mod admin;
mod auth;
mod batch;
mod collections;
mod files;
mod function_figures;
mod functions;
mod logs;
mod oauth;
mod ops;
mod second_factor;
mod transactional;
mod transactions;

pub(crate) use auth::client_of;
pub(crate) use ops::figures;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result};
use alyx_service::state::DesiredState;
use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method, Request};

use crate::app::AppState;
use crate::auth::{Identity, Purpose};
use crate::authority::Authority;
use crate::body;
use crate::envelope::Reply;
use crate::request_id::RequestTag;
use crate::route::{Matched, Route};
use crate::transactions::Owner;
use transactional::Handed;

/// Stands for "no limit" where a deadline is needed all the same.
const NO_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// One request as handlers see it, beside the request itself.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) app: &'a AppState,
    pub(crate) tag: &'a RequestTag,
    pub(crate) started: Instant,
    /// Whether another gateway has handed it over.
    pub(crate) forwarded: bool,
    /// Who asks.
    pub(crate) identity: &'a Identity,
    /// Who holds the connection; not known of a request that another gateway has handed over.
    pub(crate) peer: Option<IpAddr>,
}

impl Context<'_> {
    /// What its caller may do.
    fn authority(&self, state: &DesiredState) -> Authority {
        self.app.authority(state, &self.identity.caller)
    }

    /// Whose the transactions and idempotency keys are that it names.
    fn owner(&self, headers: &HeaderMap) -> Owner {
        Owner::of(self.identity, headers)
    }

    /// When the answer must be ready: `server.write_timeout` after now.
    fn deadline(&self) -> Instant {
        after(Instant::now(), self.app.config.server.write_timeout)
    }

    /// A body of `/api/auth`, which is small: it is read before anybody is known.
    async fn small_body(&self, headers: &HeaderMap, body: Body) -> Result<Bytes> {
        const LARGEST: u64 = 64 * 1024;
        refuse_multipart(headers)?;
        let server = &self.app.config.server;
        let deadline = after(self.started, server.read_timeout);
        body::read(headers, body, server.max_body_size.min(LARGEST), deadline).await
    }

    /// The whole body, within `server.max_body_size` and `server.read_timeout`. Forms are refused; any other
    /// type is taken for JSON, which `curl -d` sends as something else.
    async fn body(&self, headers: &HeaderMap, body: Body) -> Result<Bytes> {
        refuse_multipart(headers)?;
        let server = &self.app.config.server;
        body::read(
            headers,
            body,
            server.max_body_size,
            after(self.started, server.read_timeout),
        )
        .await
    }
}

fn refuse_multipart(headers: &HeaderMap) -> Result<()> {
    const MULTIPART: &[u8] = b"multipart/";
    let start = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().get(..MULTIPART.len()));
    if start.is_none_or(|start| !start.eq_ignore_ascii_case(MULTIPART)) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::UnsupportedMediaType,
        "UNSUPPORTED_MEDIA_TYPE",
        "this route takes JSON (Content-Type: application/json), not multipart forms",
    ))
}

fn after(start: Instant, limit: Duration) -> Instant {
    start + if limit.is_zero() { NO_LIMIT } else { limit }
}

/// Whose transaction is another gateway's goes there.
async fn hand_over(context: Context<'_>, parts: &Parts, body: Body) -> Result<Handed> {
    if !parts.uri.query().is_some_and(transactional::names_a_transaction) {
        return Ok(Handed::Here(body));
    }
    transactional::hand_over(context, parts, body).await
}

/// Calls the handler. The route has the method, or is unknown.
#[expect(clippy::too_many_lines, reason = "each route is named once")]
pub(crate) async fn dispatch(context: Context<'_>, request: Request<Body>) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    let body = match hand_over(context, &parts, body).await? {
        Handed::Answered(reply) => return Ok(reply),
        Handed::Here(body) => body,
    };
    let matched = Matched::of(parts.uri.path());
    let method = &parts.method;
    match matched.route {
        Route::Collection if method == Method::POST => {
            collections::create(context, matched.first, &parts, body).await
        }
        Route::Collection => collections::list(context, matched.first, &parts).await,
        Route::Document if *method == Method::PATCH || *method == Method::PUT => {
            collections::update(context, (matched.first, matched.second), &parts, body).await
        }
        Route::Document if *method == Method::DELETE => {
            collections::delete(context, (matched.first, matched.second), &parts).await
        }
        Route::Document => collections::get(context, (matched.first, matched.second), &parts).await,
        Route::Batch => batch::run(context, &parts, body).await,
        Route::Transactions => transactions::act(context, &parts, matched.first).await,
        Route::Aggregate => collections::aggregate(context, matched.first, parts.uri.query()).await,
        Route::Files
        | Route::FileBatch
        | Route::File
        | Route::FileDownload
        | Route::FileView
        | Route::FileSign => files::answer(context, &matched, &parts, body).await,
        Route::Functions => functions::list(context),
        Route::FunctionReload if method == Method::POST => functions::reload(context).await,
        Route::FunctionStats => functions::stats(context),
        Route::Function if method == Method::POST => {
            functions::invoke(context, matched.first, &parts.headers, body).await
        }
        Route::Function | Route::FunctionReload => functions::describe(context, matched.first),
        Route::AuthStatus => auth::status(context).await,
        Route::AuthRegister => auth::register(context, &parts, body).await,
        Route::AuthAnonymous => auth::register_anonymously(context, &parts, body).await,
        Route::AuthUpgrade => auth::upgrade(context, &parts, body).await,
        Route::AuthLogin => auth::login(context, &parts, body).await,
        Route::AuthRefresh => auth::refresh(context, &parts, body).await,
        Route::AuthLogout => auth::logout(context, &parts, body).await,
        Route::AuthMe if method == Method::DELETE => auth::delete_account(context, &parts, body).await,
        Route::AuthMe => auth::me(context).await,
        Route::AuthPassword => auth::change_password(context, &parts, body).await,
        Route::AuthSessions if method == Method::DELETE => auth::end_other_sessions(context).await,
        Route::AuthSessions => auth::sessions(context).await,
        Route::AuthSession => auth::end_session(context, matched.second).await,
        Route::AuthKeys => auth::keys(context),
        Route::AuthVerify => auth::verify(context, &parts, body).await,
        Route::AuthVerifyRequest => auth::ask_for_mail(context, &parts, body, Purpose::Verify).await,
        Route::AuthPasswordForgot => auth::ask_for_mail(context, &parts, body, Purpose::Reset).await,
        Route::AuthPasswordReset => auth::reset_password(context, &parts, body).await,
        Route::AuthMagicLink => auth::ask_for_mail(context, &parts, body, Purpose::Login).await,
        Route::AuthMagicLogin => auth::login_by_mail(context, &parts, body).await,
        Route::AuthSecondFactor if method == Method::POST => {
            second_factor::enrol(context, &parts, body).await
        }
        Route::AuthSecondFactor if method == Method::DELETE => {
            second_factor::disable(context, &parts, body).await
        }
        Route::AuthSecondFactor => second_factor::status(context).await,
        Route::AuthSecondFactorConfirm => second_factor::confirm(context, &parts, body).await,
        Route::AuthRecoveryCodes => second_factor::renew_recovery_codes(context, &parts, body).await,
        Route::AuthSecondFactorLogin => second_factor::answer(context, &parts, body).await,
        Route::AuthProviders => oauth::providers(context),
        Route::AuthOAuth => oauth::begin(context, &parts, matched.second).await,
        Route::AuthOAuthCallback => oauth::finish(context, &parts, body, matched.second).await,
        Route::AuthOAuthLogin => oauth::login(context, &parts, body).await,
        Route::AuthIdentities if method == Method::POST => oauth::link(context, &parts, body).await,
        Route::AuthIdentities => oauth::identities(context).await,
        Route::AuthIdentity => oauth::unlink(context, matched.second).await,
        Route::AdminLogin => admin::login(context, &parts, body).await,
        Route::AdminLogout => admin::logout(context).await,
        Route::AdminOperators => admin::operators(context, &parts, body).await,
        Route::AdminTokens => admin::tokens(context, &parts, body).await,
        Route::AdminSecondFactor => second_factor::disable_by_operator(context, matched.second).await,
        Route::AdminOperator | Route::AdminToken => admin::revoke(context, matched.second).await,
        Route::AdminLogs => logs::list(context, parts.uri.query()),
        Route::AdminLogStats => Ok(logs::stats(context)),
        Route::AdminLogClear => Ok(logs::clear(context)),
        Route::Config => Ok(ops::config(context)),
        Route::Health => Ok(ops::health(context).await),
        Route::Live => Ok(ops::live()),
        Route::Ready => Ok(ops::ready(context).await),
        Route::Metrics if context.app.config.metrics.listen.is_none() => Ok(ops::metrics(context)),
        Route::Realtime
        | Route::OpenApi
        | Route::Docs
        | Route::ApiDocs
        | Route::Frontend
        | Route::Metrics
        | Route::UnknownApi => Err(not_found(parts.uri.path())),
    }
}

/// 404 for a path that nothing is behind.
pub(crate) fn not_found(path: &str) -> Error {
    const LONGEST: usize = 128;
    let shown = path.get(..LONGEST.min(path.len())).unwrap_or(path);
    Error::new(
        ErrorKind::NotFound,
        "NOT_FOUND",
        format!("there is nothing at {shown}"),
    )
}
