//! Every path that the gateway answers, in one closed table. Finding the route of a path is a handful of
//! comparisons; metrics, access log, `Allow` headers and dispatch all go by the result, so none of them ever
//! sees an id or a name that a caller chose.

use std::borrow::Cow;

use alyx_core::{Error, ErrorKind, Permission, Result};
use http::Method;
use percent_encoding::percent_decode_str;

use crate::auth::Requirement;

/// A route: a path template and everything that hangs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Route {
    Collection,
    Document,
    Batch,
    Transactions,
    Aggregate,
    Files,
    FileBatch,
    File,
    FileDownload,
    FileView,
    FileSign,
    Functions,
    FunctionStats,
    FunctionReload,
    Function,
    Realtime,
    AuthStatus,
    AuthRegister,
    AuthAnonymous,
    AuthUpgrade,
    AuthLogin,
    AuthRefresh,
    AuthLogout,
    AuthMe,
    AuthPassword,
    AuthSessions,
    AuthSession,
    AuthKeys,
    AuthVerify,
    AuthVerifyRequest,
    AuthPasswordForgot,
    AuthPasswordReset,
    AuthMagicLink,
    AuthMagicLogin,
    AuthSecondFactor,
    AuthSecondFactorConfirm,
    AuthRecoveryCodes,
    AuthSecondFactorLogin,
    AuthProviders,
    AuthOAuth,
    AuthOAuthCallback,
    AuthOAuthLogin,
    AuthIdentities,
    AuthIdentity,
    AdminLogin,
    AdminLogout,
    AdminOperators,
    AdminOperator,
    AdminTokens,
    AdminToken,
    AdminLogs,
    AdminLogStats,
    AdminLogClear,
    AdminSecondFactor,
    Config,
    OpenApi,
    Docs,
    ApiDocs,
    Health,
    Live,
    Ready,
    Metrics,
    /// Anything else under `/api`: always 404.
    UnknownApi,
    /// Everything that is not the API: the frontend, where there is one.
    Frontend,
}

impl Route {
    /// Every route, in the order of the discriminants.
    pub(crate) const ALL: [Self; 64] = [
        Self::Collection,
        Self::Document,
        Self::Batch,
        Self::Transactions,
        Self::Aggregate,
        Self::Files,
        Self::FileBatch,
        Self::File,
        Self::FileDownload,
        Self::FileView,
        Self::FileSign,
        Self::Functions,
        Self::FunctionStats,
        Self::FunctionReload,
        Self::Function,
        Self::Realtime,
        Self::AuthStatus,
        Self::AuthRegister,
        Self::AuthAnonymous,
        Self::AuthUpgrade,
        Self::AuthLogin,
        Self::AuthRefresh,
        Self::AuthLogout,
        Self::AuthMe,
        Self::AuthPassword,
        Self::AuthSessions,
        Self::AuthSession,
        Self::AuthKeys,
        Self::AuthVerify,
        Self::AuthVerifyRequest,
        Self::AuthPasswordForgot,
        Self::AuthPasswordReset,
        Self::AuthMagicLink,
        Self::AuthMagicLogin,
        Self::AuthSecondFactor,
        Self::AuthSecondFactorConfirm,
        Self::AuthRecoveryCodes,
        Self::AuthSecondFactorLogin,
        Self::AuthProviders,
        Self::AuthOAuth,
        Self::AuthOAuthCallback,
        Self::AuthOAuthLogin,
        Self::AuthIdentities,
        Self::AuthIdentity,
        Self::AdminLogin,
        Self::AdminLogout,
        Self::AdminOperators,
        Self::AdminOperator,
        Self::AdminTokens,
        Self::AdminToken,
        Self::AdminLogs,
        Self::AdminLogStats,
        Self::AdminLogClear,
        Self::AdminSecondFactor,
        Self::Config,
        Self::OpenApi,
        Self::Docs,
        Self::ApiDocs,
        Self::Health,
        Self::Live,
        Self::Ready,
        Self::Metrics,
        Self::UnknownApi,
        Self::Frontend,
    ];

    /// The path template, which is the `route` label of metrics.
    pub(crate) const fn template(self) -> &'static str {
        match self {
            Self::Collection => "/api/collections/{collection}",
            Self::Document => "/api/collections/{collection}/{id}",
            Self::Batch => "/api/batch",
            Self::Transactions => "/api/transactions/{action}",
            Self::Aggregate => "/api/aggregate/{collection}",
            Self::Files => "/api/files/{bucket}",
            Self::FileBatch => "/api/files/{bucket}/batch",
            Self::File => "/api/files/{bucket}/{id}",
            Self::FileDownload => "/api/files/{bucket}/{id}/download",
            Self::FileView => "/api/files/{bucket}/{id}/view",
            Self::FileSign => "/api/files/{bucket}/{id}/sign",
            Self::Functions => "/api/functions",
            Self::FunctionStats => "/api/functions/stats",
            Self::FunctionReload => "/api/functions/reload",
            Self::Function => "/api/functions/{name}",
            Self::Realtime => "/api/realtime",
            Self::AuthStatus => "/api/auth/status",
            Self::AuthRegister => "/api/auth/register",
            Self::AuthAnonymous => "/api/auth/anonymous",
            Self::AuthUpgrade => "/api/auth/anonymous/upgrade",
            Self::AuthLogin => "/api/auth/login",
            Self::AuthRefresh => "/api/auth/refresh",
            Self::AuthLogout => "/api/auth/logout",
            Self::AuthMe => "/api/auth/me",
            Self::AuthPassword => "/api/auth/password",
            Self::AuthSessions => "/api/auth/sessions",
            Self::AuthSession => "/api/auth/sessions/{id}",
            Self::AuthKeys => "/api/auth/jwks.json",
            Self::AuthVerify => "/api/auth/verify",
            Self::AuthVerifyRequest => "/api/auth/verify/request",
            Self::AuthPasswordForgot => "/api/auth/password/forgot",
            Self::AuthPasswordReset => "/api/auth/password/reset",
            Self::AuthMagicLink => "/api/auth/magic-link",
            Self::AuthMagicLogin => "/api/auth/magic-link/login",
            Self::AuthSecondFactor => "/api/auth/second-factor",
            Self::AuthSecondFactorConfirm => "/api/auth/second-factor/confirm",
            Self::AuthRecoveryCodes => "/api/auth/second-factor/recovery-codes",
            Self::AuthSecondFactorLogin => "/api/auth/second-factor/login",
            Self::AuthProviders => "/api/auth/providers",
            Self::AuthOAuth => "/api/auth/oauth/{provider}",
            Self::AuthOAuthCallback => "/api/auth/oauth/{provider}/callback",
            Self::AuthOAuthLogin => "/api/auth/oauth/login",
            Self::AuthIdentities => "/api/auth/identities",
            Self::AuthIdentity => "/api/auth/identities/{provider}",
            Self::AdminLogin => "/api/admin/login",
            Self::AdminLogout => "/api/admin/logout",
            Self::AdminOperators => "/api/admin/operators",
            Self::AdminOperator => "/api/admin/operators/{who}",
            Self::AdminTokens => "/api/admin/tokens",
            Self::AdminToken => "/api/admin/tokens/{name}",
            Self::AdminLogs => "/api/admin/logs",
            Self::AdminLogStats => "/api/admin/logs/stats",
            Self::AdminLogClear => "/api/admin/logs/clear",
            Self::AdminSecondFactor => "/api/admin/second-factors/{who}",
            Self::Config => "/api/config",
            Self::OpenApi => "/api/openapi.json",
            Self::Docs => "/docs",
            Self::ApiDocs => "/api/docs",
            Self::Health => "/health",
            Self::Live => "/health/live",
            Self::Ready => "/health/ready",
            Self::Metrics => "/metrics",
            Self::UnknownApi => "/api/{unknown}",
            Self::Frontend => "/{file}",
        }
    }

    /// The methods it has, as `Allow` lists them. `HEAD` goes with `GET`, `OPTIONS` with everything.
    pub(crate) const fn allow(self) -> &'static str {
        match self {
            Self::Collection | Self::Files => "GET, HEAD, POST, OPTIONS",
            Self::Document => "GET, HEAD, PATCH, PUT, DELETE, OPTIONS",
            Self::Batch
            | Self::Transactions
            | Self::AuthRegister
            | Self::AuthAnonymous
            | Self::AuthUpgrade
            | Self::AuthLogin
            | Self::AuthRefresh
            | Self::AuthLogout
            | Self::AuthPassword
            | Self::AuthVerify
            | Self::AuthVerifyRequest
            | Self::AuthPasswordForgot
            | Self::AuthPasswordReset
            | Self::AuthMagicLink
            | Self::AuthMagicLogin
            | Self::AuthSecondFactorConfirm
            | Self::AuthRecoveryCodes
            | Self::AuthSecondFactorLogin
            | Self::AuthOAuthLogin
            | Self::AdminLogin
            | Self::AdminLogout
            | Self::AdminLogClear => "POST, OPTIONS",
            Self::AuthSecondFactor => "GET, HEAD, POST, DELETE, OPTIONS",
            Self::File | Self::AuthMe | Self::AuthSessions => "GET, HEAD, DELETE, OPTIONS",
            Self::AuthOAuthCallback | Self::AuthIdentities | Self::AdminOperators | Self::AdminTokens => {
                "GET, HEAD, POST, OPTIONS"
            }
            Self::FileBatch
            | Self::AuthSession
            | Self::AuthIdentity
            | Self::AdminOperator
            | Self::AdminToken
            | Self::AdminSecondFactor => "DELETE, OPTIONS",
            Self::Function => "GET, HEAD, POST, OPTIONS",
            // `reload` may also be the name of a function, which has a description to read.
            Self::FunctionReload => "GET, HEAD, POST, OPTIONS",
            Self::Aggregate
            | Self::FileDownload
            | Self::FileView
            | Self::FileSign
            | Self::Functions
            | Self::FunctionStats
            | Self::AuthStatus
            | Self::AdminLogs
            | Self::AdminLogStats
            | Self::AuthKeys
            | Self::AuthProviders
            | Self::AuthOAuth
            | Self::Config
            | Self::OpenApi
            | Self::Docs
            | Self::ApiDocs
            | Self::Health
            | Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::Frontend => "GET, HEAD, OPTIONS",
            Self::Realtime => "GET, OPTIONS",
            Self::UnknownApi => "",
        }
    }

    /// Who may use it.
    pub(crate) const fn requirement(self) -> Requirement {
        match self {
            Self::Collection
            | Self::Document
            | Self::Batch
            | Self::Transactions
            | Self::Aggregate
            | Self::Files
            | Self::FileBatch
            | Self::File
            | Self::FileDownload
            | Self::FileView
            | Self::FileSign
            | Self::Function
            | Self::Realtime => Requirement::Rules,
            Self::AuthMe
            | Self::AuthUpgrade
            | Self::AuthPassword
            | Self::AuthSessions
            | Self::AuthSession
            | Self::AuthSecondFactor
            | Self::AuthSecondFactorConfirm
            | Self::AuthRecoveryCodes
            | Self::AuthIdentities
            | Self::AuthIdentity => Requirement::Account,
            // These must also work for somebody whose token has expired.
            Self::AuthStatus
            | Self::AuthRegister
            | Self::AuthAnonymous
            | Self::AuthLogin
            | Self::AuthRefresh
            | Self::AuthLogout
            | Self::AuthVerify
            | Self::AuthVerifyRequest
            | Self::AuthPasswordForgot
            | Self::AuthPasswordReset
            | Self::AuthMagicLink
            | Self::AuthMagicLogin
            | Self::AuthSecondFactorLogin
            | Self::AuthProviders
            | Self::AuthOAuth
            | Self::AuthOAuthCallback
            | Self::AuthOAuthLogin
            | Self::AdminLogin
            | Self::AuthKeys => Requirement::Anybody,
            Self::AdminLogout
            | Self::AdminOperators
            | Self::AdminOperator
            | Self::AdminTokens
            | Self::AdminToken
            | Self::AdminLogClear
            | Self::AdminSecondFactor => Requirement::Operator(Permission::Administer),
            Self::AdminLogs | Self::AdminLogStats => Requirement::Operator(Permission::Observe),
            Self::FunctionStats => Requirement::OperatorOrDev(Permission::Observe),
            Self::FunctionReload => Requirement::OperatorOrDev(Permission::Deploy),
            Self::Functions
            | Self::Config
            | Self::OpenApi
            | Self::Docs
            | Self::ApiDocs
            | Self::Health
            | Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::UnknownApi
            | Self::Frontend => Requirement::Anybody,
        }
    }

    /// Whether it has that method.
    pub(crate) fn allows(self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }
}

/// A path and its route, with the two segments that may be variable, still percent-encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matched<'a> {
    pub(crate) route: Route,
    pub(crate) first: &'a str,
    pub(crate) second: &'a str,
}

impl<'a> Matched<'a> {
    const fn plain(route: Route) -> Self {
        Self {
            route,
            first: "",
            second: "",
        }
    }

    /// The route of `path`. One slash at the end of an API path is ignored.
    pub(crate) fn of(path: &'a str) -> Self {
        match path.strip_prefix("/api") {
            Some("") => Self::plain(Route::UnknownApi),
            Some(rest) if rest.starts_with('/') => Self::of_api(rest),
            Some(_) | None => Self::plain(of_root(path)),
        }
    }

    fn of_api(path: &'a str) -> Self {
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments = path.split('/').skip(1);
        let (kind, first, second) = (segments.next(), segments.next(), segments.next());
        if let Some(fourth) = segments.next() {
            if (kind, first, fourth, segments.next()) == (Some("auth"), Some("oauth"), "callback", None) {
                return Self {
                    route: Route::AuthOAuthCallback,
                    first: "oauth",
                    second: second.unwrap_or_default(),
                };
            }
            let content = match fourth {
                "download" => Some(Route::FileDownload),
                "view" => Some(Route::FileView),
                "sign" => Some(Route::FileSign),
                _ => None,
            };
            if let (Some("files"), Some(bucket), Some(id), Some(route)) = (kind, first, second, content)
                && path.split('/').count() == 5
            {
                return Self {
                    route,
                    first: bucket,
                    second: id,
                };
            }
            let docs = kind == Some("docs");
            return Self::plain(if docs { Route::ApiDocs } else { Route::UnknownApi });
        }
        let route = match (kind, first, second) {
            (Some("collections"), Some(name), None) if !name.is_empty() => Route::Collection,
            (Some("collections"), Some(name), Some(id)) if !name.is_empty() && !id.is_empty() => {
                Route::Document
            }
            (Some("batch"), None, None) => Route::Batch,
            (Some("transactions"), None | Some("begin" | "commit" | "rollback"), None) => Route::Transactions,
            // The older spelling.
            (Some("internal"), Some("transaction"), Some(action @ ("begin" | "commit" | "rollback"))) => {
                return Self {
                    route: Route::Transactions,
                    first: action,
                    second: "",
                };
            }
            (Some("aggregate"), Some(name), None) if !name.is_empty() => Route::Aggregate,
            (Some("files"), Some(bucket), None) if !bucket.is_empty() => Route::Files,
            (Some("files"), Some(bucket), Some("batch")) if !bucket.is_empty() => Route::FileBatch,
            (Some("files"), Some(bucket), Some(id)) if !bucket.is_empty() && !id.is_empty() => Route::File,
            (Some("functions"), None, None) => Route::Functions,
            (Some("functions"), Some("stats"), None) => Route::FunctionStats,
            (Some("functions"), Some("reload"), None) => Route::FunctionReload,
            (Some("functions"), Some(name), None) if !name.is_empty() => Route::Function,
            (Some("realtime"), None, None) => Route::Realtime,
            (Some("auth"), Some(name), None) => of_auth(name),
            (Some("auth"), Some("verify"), Some("request")) => Route::AuthVerifyRequest,
            (Some("auth"), Some("password"), Some("forgot")) => Route::AuthPasswordForgot,
            (Some("auth"), Some("password"), Some("reset")) => Route::AuthPasswordReset,
            (Some("auth"), Some("magic-link"), Some("login")) => Route::AuthMagicLogin,
            (Some("auth"), Some("anonymous"), Some("upgrade")) => Route::AuthUpgrade,
            (Some("auth"), Some("second-factor"), Some("confirm")) => Route::AuthSecondFactorConfirm,
            (Some("auth"), Some("second-factor"), Some("recovery-codes")) => Route::AuthRecoveryCodes,
            (Some("auth"), Some("second-factor"), Some("login")) => Route::AuthSecondFactorLogin,
            (Some("auth"), Some("oauth"), Some("login")) => Route::AuthOAuthLogin,
            (Some("auth"), Some("oauth"), Some(name)) if !name.is_empty() => Route::AuthOAuth,
            (Some("auth"), Some("identities"), Some(name)) if !name.is_empty() => Route::AuthIdentity,
            (Some("auth"), Some("sessions"), Some(id)) if !id.is_empty() => Route::AuthSession,
            (Some("admin"), Some(name), rest) => of_admin(name, rest),
            (Some("config"), None, None) => Route::Config,
            (Some("openapi.json"), None, None) => Route::OpenApi,
            (Some("docs"), _, _) => Route::ApiDocs,
            _ => Route::UnknownApi,
        };
        Self {
            route,
            first: first.unwrap_or_default(),
            second: second.unwrap_or_default(),
        }
    }
}

fn of_admin(name: &str, rest: Option<&str>) -> Route {
    match (name, rest) {
        ("login", None) => Route::AdminLogin,
        ("logout", None) => Route::AdminLogout,
        ("operators", None) => Route::AdminOperators,
        ("operators", Some(who)) if !who.is_empty() => Route::AdminOperator,
        ("tokens", None) => Route::AdminTokens,
        ("tokens", Some(name)) if !name.is_empty() => Route::AdminToken,
        ("logs", None) => Route::AdminLogs,
        ("logs", Some("stats")) => Route::AdminLogStats,
        ("logs", Some("clear")) => Route::AdminLogClear,
        ("second-factors", Some(who)) if !who.is_empty() => Route::AdminSecondFactor,
        _ => Route::UnknownApi,
    }
}

fn of_auth(name: &str) -> Route {
    match name {
        "status" => Route::AuthStatus,
        "register" => Route::AuthRegister,
        "anonymous" => Route::AuthAnonymous,
        "login" => Route::AuthLogin,
        "refresh" => Route::AuthRefresh,
        "logout" => Route::AuthLogout,
        "me" => Route::AuthMe,
        "password" => Route::AuthPassword,
        "sessions" => Route::AuthSessions,
        "jwks.json" => Route::AuthKeys,
        "verify" => Route::AuthVerify,
        "magic-link" => Route::AuthMagicLink,
        "second-factor" => Route::AuthSecondFactor,
        "providers" => Route::AuthProviders,
        "identities" => Route::AuthIdentities,
        _ => Route::UnknownApi,
    }
}

fn of_root(path: &str) -> Route {
    match path {
        "/health" => Route::Health,
        "/health/live" => Route::Live,
        "/health/ready" => Route::Ready,
        "/metrics" => Route::Metrics,
        "/docs" => Route::Docs,
        _ if path.starts_with("/docs/") => Route::Docs,
        _ => Route::Frontend,
    }
}

/// A path segment as the caller meant it.
///
/// Errors: `INVALID_PATH` where it is no UTF-8.
pub(crate) fn decode(segment: &str) -> Result<Cow<'_, str>> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    percent_decode_str(segment).decode_utf8().map_err(|_| {
        Error::new(
            ErrorKind::InvalidInput,
            "INVALID_PATH",
            "the path holds percent-encoded bytes that are not UTF-8",
        )
    })
}

#[cfg(test)]
mod tests;
