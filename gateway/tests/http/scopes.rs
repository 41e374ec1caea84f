//! Which token opens which route: every scope at every method of every route of the route table.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value as Json, json};
use tokio_tungstenite::tungstenite::Message;

use crate::accounts::setup;
use crate::site::{Reply, Site};

/// One of each kind, and of those with names one for something else too.
const SCOPES: [&str; 14] = [
    "read:notes",
    "read:rooms",
    "write:notes",
    "write:rooms",
    "files.read:images",
    "files.read:papers",
    "files.write:images",
    "files.write:papers",
    "functions:echo",
    "functions:db",
    "admin:read",
    "admin:nodes",
    "deploy",
    "admin",
];
/// What no document has.
const NOBODY: &str = "0199c3f2-0000-7000-8000-000000000000";

/// What a token may do with one method of a route.
#[derive(Debug, Clone, Copy)]
enum Opens {
    /// Whoever asks, with whatever token.
    Anybody,
    /// Whoever shows a token that is good.
    AnyToken,
    /// Accounts, which no token is.
    Accounts,
    /// These scopes, and `admin`.
    Scopes(&'static [&'static str]),
}

use Opens::{Accounts, AnyToken, Anybody, Scopes};

/// The template and method of a row, a request for it, and who may send it.
type Row = (&'static str, &'static str, &'static str, Opens);

const ROWS: &[Row] = &[
    (
        "/api/collections/{collection}",
        "GET",
        "/api/collections/notes?expand=room",
        Scopes(&["read:notes"]),
    ),
    (
        "/api/collections/{collection}",
        "POST",
        "/api/collections/notes",
        Scopes(&["write:notes"]),
    ),
    (
        "/api/collections/{collection}/{id}",
        "GET",
        "/api/collections/notes/{id}",
        Scopes(&["read:notes"]),
    ),
    (
        "/api/collections/{collection}/{id}",
        "PATCH",
        "/api/collections/notes/{id}",
        Scopes(&["write:notes"]),
    ),
    (
        "/api/collections/{collection}/{id}",
        "PUT",
        "/api/collections/notes/{id}",
        Scopes(&["write:notes"]),
    ),
    (
        "/api/collections/{collection}/{id}",
        "DELETE",
        "/api/collections/notes/{id}",
        Scopes(&["write:notes"]),
    ),
    ("/api/batch", "POST", "/api/batch", Scopes(&["write:notes"])),
    (
        "/api/transactions/{action}",
        "POST",
        "/api/transactions",
        AnyToken,
    ),
    (
        "/api/aggregate/{collection}",
        "GET",
        "/api/aggregate/notes?count=*",
        Scopes(&["read:notes"]),
    ),
    (
        "/api/files/{bucket}",
        "GET",
        "/api/files/images",
        Scopes(&["files.read:images"]),
    ),
    (
        "/api/files/{bucket}",
        "POST",
        "/api/files/images",
        Scopes(&["files.write:images"]),
    ),
    (
        "/api/files/{bucket}/batch",
        "DELETE",
        "/api/files/images/batch",
        Scopes(&["files.write:images"]),
    ),
    (
        "/api/files/{bucket}/{id}",
        "GET",
        "/api/files/images/{id}",
        Scopes(&["files.read:images"]),
    ),
    (
        "/api/files/{bucket}/{id}",
        "DELETE",
        "/api/files/images/{id}",
        Scopes(&["files.write:images"]),
    ),
    (
        "/api/files/{bucket}/{id}/download",
        "GET",
        "/api/files/images/{id}/download",
        Scopes(&["files.read:images"]),
    ),
    (
        "/api/files/{bucket}/{id}/view",
        "GET",
        "/api/files/images/{id}/view",
        Scopes(&["files.read:images"]),
    ),
    (
        "/api/files/{bucket}/{id}/sign",
        "GET",
        "/api/files/images/{id}/sign",
        Scopes(&["files.read:images"]),
    ),
    ("/api/functions", "GET", "/api/functions", Anybody),
    (
        "/api/functions/stats",
        "GET",
        "/api/functions/stats",
        Scopes(&["admin:read", "admin:nodes", "deploy"]),
    ),
    // The description of a function of that name.
    (
        "/api/functions/reload",
        "GET",
        "/api/functions/reload",
        Scopes(&[]),
    ),
    (
        "/api/functions/reload",
        "POST",
        "/api/functions/reload",
        Scopes(&["deploy"]),
    ),
    (
        "/api/functions/{name}",
        "GET",
        "/api/functions/echo",
        Scopes(&["functions:echo"]),
    ),
    (
        "/api/functions/{name}",
        "POST",
        "/api/functions/echo",
        Scopes(&["functions:echo"]),
    ),
    ("/api/realtime", "GET", "/api/realtime", Scopes(&["read:notes"])),
    ("/api/auth/status", "GET", "/api/auth/status", Anybody),
    ("/api/auth/register", "POST", "/api/auth/register", Anybody),
    ("/api/auth/anonymous", "POST", "/api/auth/anonymous", Anybody),
    (
        "/api/auth/anonymous/upgrade",
        "POST",
        "/api/auth/anonymous/upgrade",
        Accounts,
    ),
    ("/api/auth/login", "POST", "/api/auth/login", Anybody),
    ("/api/auth/refresh", "POST", "/api/auth/refresh", Anybody),
    ("/api/auth/logout", "POST", "/api/auth/logout", Anybody),
    ("/api/auth/me", "GET", "/api/auth/me", Accounts),
    ("/api/auth/me", "DELETE", "/api/auth/me", Accounts),
    ("/api/auth/password", "POST", "/api/auth/password", Accounts),
    ("/api/auth/sessions", "GET", "/api/auth/sessions", Accounts),
    ("/api/auth/sessions", "DELETE", "/api/auth/sessions", Accounts),
    (
        "/api/auth/sessions/{id}",
        "DELETE",
        "/api/auth/sessions/1",
        Accounts,
    ),
    ("/api/auth/jwks.json", "GET", "/api/auth/jwks.json", Anybody),
    ("/api/auth/verify", "POST", "/api/auth/verify", Anybody),
    (
        "/api/auth/verify/request",
        "POST",
        "/api/auth/verify/request",
        Anybody,
    ),
    (
        "/api/auth/password/forgot",
        "POST",
        "/api/auth/password/forgot",
        Anybody,
    ),
    (
        "/api/auth/password/reset",
        "POST",
        "/api/auth/password/reset",
        Anybody,
    ),
    ("/api/auth/magic-link", "POST", "/api/auth/magic-link", Anybody),
    (
        "/api/auth/magic-link/login",
        "POST",
        "/api/auth/magic-link/login",
        Anybody,
    ),
    (
        "/api/auth/second-factor",
        "GET",
        "/api/auth/second-factor",
        Accounts,
    ),
    (
        "/api/auth/second-factor",
        "POST",
        "/api/auth/second-factor",
        Accounts,
    ),
    (
        "/api/auth/second-factor",
        "DELETE",
        "/api/auth/second-factor",
        Accounts,
    ),
    (
        "/api/auth/second-factor/confirm",
        "POST",
        "/api/auth/second-factor/confirm",
        Accounts,
    ),
    (
        "/api/auth/second-factor/recovery-codes",
        "POST",
        "/api/auth/second-factor/recovery-codes",
        Accounts,
    ),
    (
        "/api/auth/second-factor/login",
        "POST",
        "/api/auth/second-factor/login",
        Anybody,
    ),
    ("/api/auth/providers", "GET", "/api/auth/providers", Anybody),
    (
        "/api/auth/oauth/{provider}",
        "GET",
        "/api/auth/oauth/none",
        Anybody,
    ),
    (
        "/api/auth/oauth/{provider}/callback",
        "GET",
        "/api/auth/oauth/none/callback",
        Anybody,
    ),
    (
        "/api/auth/oauth/{provider}/callback",
        "POST",
        "/api/auth/oauth/none/callback",
        Anybody,
    ),
    ("/api/auth/oauth/login", "POST", "/api/auth/oauth/login", Anybody),
    ("/api/auth/identities", "GET", "/api/auth/identities", Accounts),
    ("/api/auth/identities", "POST", "/api/auth/identities", Accounts),
    (
        "/api/auth/identities/{provider}",
        "DELETE",
        "/api/auth/identities/none",
        Accounts,
    ),
    ("/api/admin/login", "POST", "/api/admin/login", Anybody),
    ("/api/admin/logout", "POST", "/api/admin/logout", Scopes(&[])),
    ("/api/admin/operators", "GET", "/api/admin/operators", Scopes(&[])),
    (
        "/api/admin/operators",
        "POST",
        "/api/admin/operators",
        Scopes(&[]),
    ),
    (
        "/api/admin/operators/{who}",
        "DELETE",
        "/api/admin/operators/nobody",
        Scopes(&[]),
    ),
    ("/api/admin/tokens", "GET", "/api/admin/tokens", Scopes(&[])),
    ("/api/admin/tokens", "POST", "/api/admin/tokens", Scopes(&[])),
    (
        "/api/admin/tokens/{name}",
        "DELETE",
        "/api/admin/tokens/nobody",
        Scopes(&[]),
    ),
    (
        "/api/admin/logs",
        "GET",
        "/api/admin/logs",
        Scopes(&["admin:read", "admin:nodes", "deploy"]),
    ),
    (
        "/api/admin/logs/stats",
        "GET",
        "/api/admin/logs/stats",
        Scopes(&["admin:read", "admin:nodes", "deploy"]),
    ),
    (
        "/api/admin/logs/clear",
        "POST",
        "/api/admin/logs/clear",
        Scopes(&["admin"]),
    ),
    (
        "/api/admin/second-factors/{who}",
        "DELETE",
        "/api/admin/second-factors/nobody",
        Scopes(&[]),
    ),
    ("/api/config", "GET", "/api/config", Anybody),
    ("/api/openapi.json", "GET", "/api/openapi.json", Anybody),
    ("/docs", "GET", "/docs", Anybody),
    ("/api/docs", "GET", "/api/docs", Anybody),
    ("/health", "GET", "/health", Anybody),
    ("/health/live", "GET", "/health/live", Anybody),
    ("/health/ready", "GET", "/health/ready", Anybody),
    ("/metrics", "GET", "/metrics", Anybody),
    ("/{file}", "GET", "/index.html", Anybody),
];

/// A body that the route takes.
fn body(template: &str) -> Json {
    match template {
        "/api/batch" => json!({"operations": [
            {"op": "update", "collection": "notes", "id": NOBODY, "data": {"title": "x"}}
        ]}),
        template if template.starts_with("/api/collections/") => json!({"title": "x"}),
        _ => json!({}),
    }
}

/// What says that somebody was not let in.
fn refused(reply: &Reply) -> Option<String> {
    let error = serde_json::from_str::<Json>(&reply.text).ok()?["error"].clone();
    let code = error["code"].as_str()?.to_owned();
    let is_about_access = matches!(code.as_str(), "SCOPE_MISSING" | "UNAUTHORIZED" | "INVALID_TOKEN");
    is_about_access.then_some(code)
}

/// What a socket says to a subscription; the node of these tests answers none that is let through.
async fn subscribe(site: &Site, token: &str) -> Option<String> {
    let url = format!("ws://{}/api/realtime?token={token}", site.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a socket");
    let subscribe = json!({"type": "subscribe", "payload": {"collection": "notes"}});
    for message in [subscribe, json!({"type": "ping"})] {
        let text = Message::text(message.to_string());
        socket.send(text).await.expect("sent");
    }
    let answers = async {
        loop {
            let frame = socket.next().await.expect("a frame").expect("read");
            let Ok(frame) = serde_json::from_str::<Json>(frame.to_text().expect("text")) else {
                continue;
            };
            match frame["type"].as_str() {
                Some("error") => return frame["payload"]["code"].as_str().map(str::to_owned),
                Some("pong") => return None,
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answers)
        .await
        .expect("an answer")
}

async fn attempt(site: &Site, (template, method, path, _): &Row, token: &str) -> Option<String> {
    if *template == "/api/realtime" {
        return subscribe(site, token).await;
    }
    let path = path.replace("{id}", NOBODY);
    let reply = site.with_token(method, &path, token, &body(template)).await;
    refused(&reply)
}

#[tokio::test]
async fn a_token_opens_what_its_scope_says_and_nothing_else() {
    let mut setup = setup();
    setup.realtime = true;
    let site = setup.start().await;
    let mut tokens = Vec::new();
    for (number, scope) in SCOPES.iter().enumerate() {
        tokens.push((*scope, site.token(&format!("t{number}"), scope).await));
    }
    for row in ROWS {
        for (scope, token) in &tokens {
            let expected = match row.3 {
                Anybody | AnyToken => None,
                Accounts => Some("UNAUTHORIZED"),
                Scopes(opens) if opens.contains(scope) || *scope == "admin" => None,
                Scopes(_) => Some("SCOPE_MISSING"),
            };
            let got = attempt(&site, row, token).await;
            assert_eq!(got.as_deref(), expected, "{scope} at {} {}", row.1, row.0);
        }
        let made_up = attempt(&site, row, "alyx_made-up");
        let expected = match row.3 {
            Anybody => None,
            AnyToken | Accounts | Scopes(_) => Some("INVALID_TOKEN"),
        };
        if row.0 != "/api/realtime" {
            assert_eq!(made_up.await.as_deref(), expected, "{} {}", row.1, row.0);
        }
    }
}

#[test]
fn every_method_of_every_route_has_a_row() {
    let mut missing = Vec::new();
    let mut known = 0;
    for (template, methods) in alyx_gateway::routes() {
        let own = methods
            .split(", ")
            .filter(|method| !matches!(*method, "" | "HEAD" | "OPTIONS"));
        for method in own {
            match ROWS
                .iter()
                .filter(|row| (row.0, row.1) == (template, method))
                .count()
            {
                1 => known += 1,
                count => missing.push(format!("{method} {template}: {count} rows")),
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert_eq!(known, ROWS.len(), "a row is about no route");
}

#[tokio::test]
async fn what_operators_do_is_closed_to_accounts_and_to_nobody() {
    let site = setup().start().await;
    let account = site.register("a@x.io").await.access;
    let operators_alone = ROWS.iter().filter(|row| {
        row.0.starts_with("/api/admin/") && row.0 != "/api/admin/login"
            || row.0 == "/api/functions/stats"
            || row.0 == "/api/functions/reload"
    });
    let mut count = 0;
    for (template, method, path, _) in operators_alone {
        let body = body(template);
        let nobody = site.call(method, path, &body).await;
        assert_eq!(
            nobody.refusal(),
            (401, "UNAUTHORIZED".to_owned()),
            "{method} {path}"
        );
        let user = site.with_token(method, path, &account, &body).await;
        assert_eq!(user.refusal(), (403, "FORBIDDEN".to_owned()), "{method} {path}");
        count += 1;
    }
    assert_eq!(count, 14);
}

#[tokio::test]
async fn a_scope_holds_in_transactions_batches_filters_and_expands() {
    let site = setup().start().await;
    let room = site
        .call("POST", "/api/collections/rooms", &json!({"name": "hidden"}))
        .await
        .json();
    let note = json!({"title": "a", "room": room["id"]});
    let made = site.call("POST", "/api/collections/notes", &note).await.json();
    let reader = site.token("reader", "read:notes").await;
    let ask = async |method: &str, path: &str, token: &str, body: &Json| {
        site.with_token(method, path, token, body).await
    };
    let get = async |path: &str| ask("GET", path, &reader, &Json::Null).await;

    // A room is as if it were not there, expanded, filtered through and sorted by.
    let expanded = get("/api/collections/notes?expand=room").await.json();
    assert!(!expanded.to_string().contains("hidden"), "{expanded}");
    for (filter, total) in [("room.name:eq:hidden", 0), ("title:eq:a", 1)] {
        let listed = get(&format!("/api/collections/notes?filter={filter}")).await;
        assert_eq!(listed.json()["total"], total, "{listed:?}");
    }
    let rooms = get("/api/collections/rooms").await;
    assert_eq!(rooms.refusal(), (403, "SCOPE_MISSING".to_owned()));

    // One operation that is out of scope refuses the batch.
    let writer = site.token("writer", "write:notes").await;
    let batch = json!({"operations": [
        {"op": "create", "collection": "notes", "data": {"title": "b"}},
        {"op": "create", "collection": "rooms", "data": {"name": "b"}},
    ]});
    let refused = ask("POST", "/api/batch", &writer, &batch).await;
    assert_eq!(refused.refusal(), (403, "SCOPE_MISSING".to_owned()));
    assert_eq!(site.get("/api/collections/notes").await.json()["total"], 1);

    let begun = ask("POST", "/api/transactions", &writer, &Json::Null)
        .await
        .json();
    let id = begun["transaction_id"].as_str().expect("an id").to_owned();
    let at = |collection: &str| format!("/api/collections/{collection}?tx_id={id}");
    for (method, collection, body, expected) in [
        ("POST", "notes", json!({"title": "c"}), 201),
        ("POST", "rooms", json!({"name": "c"}), 403),
        ("GET", "notes", Json::Null, 403),
    ] {
        let reply = ask(method, &at(collection), &writer, &body).await;
        assert_eq!(reply.status, expected, "{method} {collection} {reply:?}");
    }
    let stolen = ask("POST", &at("notes"), &reader, &json!({"title": "c"})).await;
    assert_eq!(stolen.refusal(), (403, "SCOPE_MISSING".to_owned()));

    // Who may write and not read learns nothing of what is there.
    let path = format!("/api/collections/notes/{}", made["id"].as_str().expect("an id"));
    let changed = ask("PATCH", &path, &writer, &json!({"stars": 3})).await;
    assert_eq!(changed.json(), json!({"id": made["id"]}), "{changed:?}");
    for path in [path, format!("/api/collections/notes/{NOBODY}")] {
        let request = site
            .request("PATCH", &path)
            .header("authorization", format!("Bearer {writer}"))
            .header("if-match", "\"guess\"");
        let guess = site.send(request, json!({"stars": 4}).to_string()).await;
        assert_eq!(guess.refusal(), (404, "DOCUMENT_NOT_FOUND".to_owned()));
    }
}
