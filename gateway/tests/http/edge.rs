//! What every route has in common, and the routes for operators.

use alyx_service::health::Status;
use serde_json::json;

use crate::site::{Setup, Site};

#[tokio::test]
async fn unknown_paths_and_methods_get_the_envelope() {
    let site = Site::start().await;
    let check = async |method: &str, path: &str, expected: (u16, &str), allow: &str| {
        let reply = site.call(method, path, &json!({})).await;
        let refusal = reply.refusal();
        assert_eq!((refusal.0, refusal.1.as_str()), expected, "{method} {path}");
        assert_eq!(reply.header("allow"), allow, "{method} {path}");
    };
    for path in [
        "/",
        "/nothing",
        "/api",
        "/api/",
        "/api/nothing",
        "/api/collections",
        "/favicon.ico",
    ] {
        check("GET", path, (404, "NOT_FOUND"), "").await;
        check("POST", path, (404, "NOT_FOUND"), "").await;
    }
    let refused = (405, "METHOD_NOT_ALLOWED");
    check(
        "DELETE",
        "/api/collections/notes",
        refused,
        "GET, HEAD, POST, OPTIONS",
    )
    .await;
    check(
        "POST",
        "/api/collections/notes/1",
        refused,
        "GET, HEAD, PATCH, PUT, DELETE, OPTIONS",
    )
    .await;
    check("POST", "/health", refused, "GET, HEAD, OPTIONS").await;
    check("POST", "/metrics", refused, "GET, HEAD, OPTIONS").await;
    check("BREW", "/api/functions", refused, "GET, HEAD, OPTIONS").await;
}

#[tokio::test]
async fn a_sane_request_id_is_echoed_and_others_are_replaced() {
    let site = Site::start().await;
    let check = async |sent: &str, echoed: bool| {
        let reply = site
            .send(
                site.request("GET", "/api/nothing").header("x-request-id", sent),
                "",
            )
            .await;
        assert_eq!(reply.header("x-request-id") == sent, echoed, "{sent}");
        assert_eq!(reply.json()["error"]["request_id"], reply.header("x-request-id"));
    };
    check("abc-123", true).await;
    check(&"x".repeat(129), false).await;
    check("two words", false).await;
    let (first, second) = (site.get("/health/live").await, site.get("/health/live").await);
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
}

#[tokio::test]
async fn a_panic_is_a_500_that_tells_nothing() {
    let site = Site::start().await;
    let reply = site.call("POST", "/api/functions/panic", &json!({})).await;
    assert_eq!(reply.refusal(), (500, "INTERNAL_ERROR".to_owned()));
    assert!(!reply.text.contains("hunter2"));
    assert_eq!(site.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn cors_answers_preflights_and_allows_listed_origins_only() {
    let mut setup = Setup::default();
    setup.config.server.cors.allowed_origins = vec!["https://app.example".to_owned()];
    let site = setup.start().await;
    let preflight = async |origin: &str, path: &str| {
        let request = site
            .request("OPTIONS", path)
            .header("origin", origin)
            .header("access-control-request-method", "PATCH");
        site.send(request, "").await
    };
    for path in ["/api/collections/notes", "/api/nothing", "/anything"] {
        let reply = preflight("https://app.example", path).await;
        assert_eq!(reply.status, 204, "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), "https://app.example");
        assert!(reply.header("access-control-allow-methods").contains("PATCH"));
        assert!(
            reply
                .header("access-control-allow-headers")
                .contains("Authorization")
        );
        assert_eq!(reply.header("access-control-max-age"), "43200");
        let stranger = preflight("https://evil.example", path).await;
        assert_eq!(
            (stranger.status, stranger.header("access-control-allow-origin")),
            (204, "")
        );
    }
    for (origin, allowed) in [
        ("https://app.example", "https://app.example"),
        ("https://evil.example", ""),
    ] {
        let reply = site
            .send(
                site.request("GET", "/api/collections/notes")
                    .header("origin", origin),
                "",
            )
            .await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("access-control-allow-origin"), allowed);
        assert!(reply.header("vary").contains("Origin"));
    }
    let failed = site
        .send(
            site.request("GET", "/api/nothing")
                .header("origin", "https://app.example"),
            "",
        )
        .await;
    assert_eq!(
        failed.header("access-control-allow-origin"),
        "https://app.example"
    );
}

#[tokio::test]
async fn options_without_an_origin_lists_the_methods() {
    let site = Site::start().await;
    let reply = site.call("OPTIONS", "/api/collections/notes", &json!(null)).await;
    assert_eq!(
        (reply.status, reply.header("allow")),
        (204, "GET, HEAD, POST, OPTIONS")
    );
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let site = Site::start().await;
    let get = site.get("/api/collections/notes").await;
    let head = site.call("HEAD", "/api/collections/notes", &json!(null)).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), get.header("content-length"));
}

#[tokio::test]
async fn health_tells_components_and_decides_the_status() {
    let check = async |status: Status, expected: (u16, &str, u16)| {
        let setup = Setup {
            health: status,
            ..Setup::default()
        };
        let site = setup.start().await;
        let health = site.get("/health").await;
        let body = health.json();
        assert_eq!(
            (health.status, body["status"].as_str().unwrap()),
            (expected.0, expected.1)
        );
        assert_eq!(body["components"]["database"]["status"], expected.1);
        assert!(body["components"]["database"]["latency"].is_string());
        assert!(body["version"].is_string() && body["uptime"].is_string());
        assert_eq!(site.get("/health/ready").await.status, expected.2);
        assert_eq!(site.get("/health/live").await.status, 200);
    };
    check(Status::Healthy, (200, "healthy", 200)).await;
    check(Status::Degraded, (200, "degraded", 200)).await;
    check(Status::Unhealthy, (503, "unhealthy", 503)).await;
}

#[tokio::test]
async fn config_tells_nothing_secret() {
    let mut setup = Setup::default();
    let secret = alyx_config::Secret::new("hunter2");
    setup.config.functions.env.insert("TOKEN".to_owned(), secret);
    let site = setup.start().await;
    let reply = site.get("/api/config").await;
    assert_eq!(reply.json()["functions"]["enabled"], true);
    for hidden in ["hunter2", "TOKEN", "alyx.db", "path"] {
        assert!(!reply.text.contains(hidden), "{hidden} is in {}", reply.text);
    }
}

#[tokio::test]
async fn metrics_name_routes_and_never_ids() {
    let site = Site::start().await;
    let id = site.note("a", 1).await;
    site.get(&format!("/api/collections/notes/{id}")).await;
    site.get("/api/some/unknown/path").await;
    let reply = site.get("/metrics").await;
    assert!(
        reply
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let line =
        r#"alyx_http_requests_total{method="GET",route="/api/collections/{collection}/{id}",status="200"} 1"#;
    assert!(reply.text.contains(line), "{}", reply.text);
    assert!(
        reply.text.contains("\nalyx_store_changes_total "),
        "{}",
        reply.text
    );
    for hidden in [id.as_str(), "notes", "unknown/path"] {
        assert!(!reply.text.contains(hidden), "{hidden}");
    }
}
