//! What the route table says, path by path.

use super::*;

#[test]
fn paths_find_their_route() {
    let check = |path: &str, route: Route, first: &str, second: &str| {
        assert_eq!(Matched::of(path), Matched { route, first, second }, "{path}");
    };
    check("/api/collections/notes", Route::Collection, "notes", "");
    check("/api/collections/notes/", Route::Collection, "notes", "");
    check("/api/collections/notes/7", Route::Document, "notes", "7");
    check("/api/collections/notes/a%2Fb", Route::Document, "notes", "a%2Fb");
    check("/api/batch", Route::Batch, "", "");
    check("/api/transactions", Route::Transactions, "", "");
    check("/api/transactions/commit", Route::Transactions, "commit", "");
    check(
        "/api/internal/transaction/begin",
        Route::Transactions,
        "begin",
        "",
    );
    check("/api/aggregate/notes", Route::Aggregate, "notes", "");
    check(
        "/api/collections/notes/aggregate",
        Route::Document,
        "notes",
        "aggregate",
    );
    check("/api/files/images", Route::Files, "images", "");
    check("/api/files/images/batch", Route::FileBatch, "images", "batch");
    check("/api/files/images/7/", Route::File, "images", "7");
    check("/api/files/images/..%2F7", Route::File, "images", "..%2F7");
    check("/api/files/images/7/download", Route::FileDownload, "images", "7");
    check("/api/files/images/7/view", Route::FileView, "images", "7");
    check("/api/files/images/7/sign", Route::FileSign, "images", "7");
    check("/api/auth/login", Route::AuthLogin, "login", "");
    check("/api/auth/sessions/7", Route::AuthSession, "sessions", "7");
    check("/api/functions", Route::Functions, "", "");
    check("/api/functions/stats", Route::FunctionStats, "stats", "");
    check("/api/functions/reload", Route::FunctionReload, "reload", "");
    check("/api/functions/sendMessage", Route::Function, "sendMessage", "");
    check("/api/admin/tokens/ci", Route::AdminToken, "tokens", "ci");
    check(
        "/api/admin/operators/a@x.io",
        Route::AdminOperator,
        "operators",
        "a@x.io",
    );
    for (path, route) in [
        ("/api/admin", Route::UnknownApi),
        ("/api/admin/nothing", Route::UnknownApi),
        ("/api/admin/logs/", Route::AdminLogs),
        ("/api/admin/logs/stats", Route::AdminLogStats),
        ("/api/admin/logs/7", Route::UnknownApi),
        ("/api/collections/notes/7/8", Route::UnknownApi),
        ("/api", Route::UnknownApi),
        ("/api/", Route::UnknownApi),
        ("/api/nothing/here/at/all", Route::UnknownApi),
        ("/api/files", Route::UnknownApi),
        ("/api/files/images/7/steal", Route::UnknownApi),
        ("/api/files/images/7/view/8", Route::UnknownApi),
        ("/api/docs/assets/a/b.js", Route::ApiDocs),
        ("/docs/x.css", Route::Docs),
        ("/docsy", Route::Frontend),
        ("/apix", Route::Frontend),
        ("/", Route::Frontend),
        ("/health", Route::Health),
        ("/healthy", Route::Frontend),
    ] {
        assert_eq!(Matched::of(path).route, route, "{path}");
    }
    for path in [
        "/api/auth",
        "/api/auth/nope",
        "/api/auth/me/7",
        "/api/collections",
        "/api/collections//7",
        "/api/functions/a/b",
    ] {
        assert_eq!(Matched::of(path).route, Route::UnknownApi, "{path}");
    }
}

#[test]
fn the_table_is_in_the_order_of_the_discriminants() {
    for (index, route) in Route::ALL.into_iter().enumerate() {
        assert_eq!(route as usize, index);
    }
}

fn with(requirement: Requirement) -> Vec<&'static str> {
    let routes = Route::ALL
        .into_iter()
        .filter(|route| route.requirement() == requirement);
    routes.map(Route::template).collect()
}

#[test]
fn what_rules_decide_about_is_known() {
    assert_eq!(
        with(Requirement::Rules),
        [
            "/api/collections/{collection}",
            "/api/collections/{collection}/{id}",
            "/api/batch",
            "/api/transactions/{action}",
            "/api/aggregate/{collection}",
            "/api/files/{bucket}",
            "/api/files/{bucket}/batch",
            "/api/files/{bucket}/{id}",
            "/api/files/{bucket}/{id}/download",
            "/api/files/{bucket}/{id}/view",
            "/api/files/{bucket}/{id}/sign",
            "/api/functions/{name}",
            "/api/realtime",
        ]
    );
}

/// The table of authorisation, written out: a route that is new, or open to others than before, shows here.
#[test]
fn every_route_says_who_may_use_it() {
    assert_eq!(
        with(Requirement::Account),
        [
            "/api/auth/anonymous/upgrade",
            "/api/auth/me",
            "/api/auth/password",
            "/api/auth/sessions",
            "/api/auth/sessions/{id}",
            "/api/auth/second-factor",
            "/api/auth/second-factor/confirm",
            "/api/auth/second-factor/recovery-codes",
            "/api/auth/identities",
            "/api/auth/identities/{provider}",
        ]
    );
    assert_eq!(
        with(Requirement::Operator(Permission::Administer)),
        [
            "/api/admin/logout",
            "/api/admin/operators",
            "/api/admin/operators/{who}",
            "/api/admin/tokens",
            "/api/admin/tokens/{name}",
            "/api/admin/logs/clear",
            "/api/admin/second-factors/{who}",
        ]
    );
    assert_eq!(
        with(Requirement::Operator(Permission::Observe)),
        ["/api/admin/logs", "/api/admin/logs/stats"]
    );
    assert_eq!(
        with(Requirement::OperatorOrDev(Permission::Observe)),
        ["/api/functions/stats"]
    );
    assert_eq!(
        with(Requirement::OperatorOrDev(Permission::Deploy)),
        ["/api/functions/reload"]
    );
    assert_eq!(
        with(Requirement::Anybody),
        [
            "/api/functions",
            "/api/auth/status",
            "/api/auth/register",
            "/api/auth/anonymous",
            "/api/auth/login",
            "/api/auth/refresh",
            "/api/auth/logout",
            "/api/auth/jwks.json",
            "/api/auth/verify",
            "/api/auth/verify/request",
            "/api/auth/password/forgot",
            "/api/auth/password/reset",
            "/api/auth/magic-link",
            "/api/auth/magic-link/login",
            "/api/auth/second-factor/login",
            "/api/auth/providers",
            "/api/auth/oauth/{provider}",
            "/api/auth/oauth/{provider}/callback",
            "/api/auth/oauth/login",
            "/api/admin/login",
            "/api/config",
            "/api/openapi.json",
            "/docs",
            "/api/docs",
            "/health",
            "/health/live",
            "/health/ready",
            "/metrics",
            "/api/{unknown}",
            "/{file}",
        ]
    );
}

#[test]
fn segments_are_decoded_once() {
    assert_eq!(decode("plain").expect("plain"), "plain");
    assert_eq!(decode("a%2520b").expect("once"), "a%20b");
    assert_eq!(decode("%ff").expect_err("not UTF-8").code(), "INVALID_PATH");
}

#[test]
fn allow_lists_decide_about_methods() {
    assert!(Route::Document.allows(&Method::PATCH));
    assert!(!Route::Document.allows(&Method::POST));
    assert!(!Route::Document.allows(&Method::from_bytes(b"GE").expect("a token")));
    assert!(!Route::UnknownApi.allows(&Method::GET));
}
