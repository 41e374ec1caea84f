//! Health, metrics, API document, CORS, frontend, and how the process starts and stops.

use alyx_tests::{Cluster, Form, Part, Project, Server, Shape};
use http::Method;
use serde_json::json;

alyx_tests::in_both_forms! {
    unknown_paths_and_methods_get_the_envelope,
    the_frontend_is_served_beside_the_api,
    the_api_document_is_valid_openapi,
    cross_origin_requests_follow_the_configuration,
    a_request_in_flight_is_finished_when_the_server_stops,
}

#[tokio::test]
async fn the_start_says_in_under_a_screen_what_is_served_where() {
    let project = Project::chat();
    let server = Server::start(&project).await;
    server.printed("Ready").await;
    let printed = server.output();
    for named in [
        "/api",
        "/docs",
        "/api/realtime",
        "process",
        "open to the world",
        "messages",
    ] {
        assert!(printed.contains(named), "{named} in\n{printed}");
    }
    assert!(printed.lines().count() <= 24, "{printed}");
}

#[tokio::test]
async fn in_production_the_log_names_everything_that_is_open_to_the_world() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let open: String = names
        .iter()
        .map(|name| format!("  {name}:\n    fields:\n      text: {{type: string}}\n"))
        .collect();
    let guarded = "  guarded:\n    rules: {read: auth.id != null, create: 'false', update: 'false', delete: 'false'}\n    \
                   fields:\n      text: {type: string}\n";
    let buckets = "buckets:\n  images: {backend: local}\n  papers:\n    backend: local\n    rules: {create: auth.id != null, \
                   read: 'false', delete: 'false', download: 'false'}\n  shown:\n    backend: local\n    rules: {create: \
                   'false', delete: 'false'}\n";
    let project = Project::with_schema(&format!("collections:\n{open}{guarded}{buckets}"));
    for name in ["free", "closed"] {
        project.write(&format!("functions/{name}.js"), "export default () => 1;\n");
    }
    project.write("functions/closed.yaml", "rules: {invoke: auth.id != null}\n");
    let check = |printed: &str| {
        let line = printed
            .lines()
            .find(|line| line.contains("WARN") && line.contains("open to the world"));
        let line = line.unwrap_or_else(|| panic!("{printed}"));
        for name in names {
            assert!(
                line.contains(&format!("{name}: create read update delete")),
                "{name} in {line}"
            );
        }
        for named in [
            "bucket images: create read delete download",
            "bucket shown: read download",
            "functions free: invoke",
        ] {
            assert!(line.contains(named), "{named} in {line}");
        }
        assert!(
            !line.contains("guarded") && !line.contains("papers") && !line.contains("closed"),
            "{line}"
        );
    };
    let server = Server::start_with(&project, &["serve"], &[]).await;
    server.printed("WARN").await;
    check(&server.output());
    let cluster = Cluster::start_with(&project, Shape::ONE_OF_EACH, &[]).await;
    check(&cluster.printed(Part::Gateway, 0));
}

#[tokio::test]
async fn health_metrics_and_request_ids_answer() {
    let project = Project::chat();
    let server = Server::start(&project).await;
    let http = server.http();
    assert_eq!(http.get("/health/live").await.status, 200);
    assert_eq!(http.get("/health/ready").await.status, 200);
    let health = http.get("/health").await;
    assert_eq!(health.status, 200, "{health:?}");
    for component in ["database", "realtime", "functions"] {
        assert!(
            health.json()["components"][component]["status"].is_string(),
            "{health:?}"
        );
    }
    http.get("/api/collections/messages").await;
    let metrics = http.get("/metrics").await;
    assert!(
        metrics.header("content-type").starts_with("text/plain"),
        "{metrics:?}"
    );
    assert!(
        metrics.text.contains("alyx_http_requests_total"),
        "{}",
        metrics.text
    );
    let echoed = http
        .send(Method::GET, "/health/live", &[("x-request-id", "abc-123")], "")
        .await;
    assert_eq!(echoed.header("x-request-id"), "abc-123");
    assert!(!http.get("/health/live").await.header("x-request-id").is_empty());
}

async fn unknown_paths_and_methods_get_the_envelope(form: Form) {
    let project = Project::chat();
    let server = form.start(&project).await;
    let http = server.http();
    let unknown = http.get("/api/nope").await;
    assert_eq!(
        (unknown.status, unknown.code().as_str()),
        (404, "NOT_FOUND"),
        "{unknown:?}"
    );
    let wrong = http.delete("/api/collections/messages").await;
    assert_eq!(
        (wrong.status, wrong.code().as_str()),
        (405, "METHOD_NOT_ALLOWED"),
        "{wrong:?}"
    );
    assert!(wrong.header("allow").contains("POST"), "{wrong:?}");
}

async fn the_frontend_is_served_beside_the_api(form: Form) {
    let project = Project::chat();
    let server = form.start(&project).await;
    let http = server.http();
    let page = http.get("/").await;
    assert!(
        page.header("content-type").starts_with("text/html") && page.text.contains("chat.js"),
        "{page:?}"
    );
    let script = http.get("/chat.js").await;
    assert!(script.header("content-type").contains("javascript"), "{script:?}");
    let fallback = http
        .send(Method::GET, "/rooms/general", &[("accept", "text/html")], "")
        .await;
    assert_eq!((fallback.status, fallback.text), (200, page.text));
    for hidden in [
        "/../schema.yaml",
        "/%2e%2e/schema.yaml",
        "/missing.js",
        "/..%2fschema.yaml",
    ] {
        assert_eq!(http.get(hidden).await.status, 404, "{hidden}");
    }
}

async fn the_api_document_is_valid_openapi(form: Form) {
    let project = Project::chat();
    let server = form.start(&project).await;
    let spec = server.http().get("/api/openapi.json").await;
    assert_eq!(spec.json()["openapi"], "3.1.0");
    assert!(
        spec.json()["paths"]["/api/functions/sendMessage"].is_object(),
        "functions are in it"
    );
    project.write("openapi.json", &spec.text);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the repository");
    let python = root.join(".cache/openapi/bin/python");
    assert!(
        python.exists(),
        "the validator is missing: run scripts/install-test-tools.sh"
    );
    let checked = tokio::process::Command::new(python)
        .args(["-m", "openapi_spec_validator", "openapi.json"])
        .current_dir(project.path())
        .output()
        .await
        .expect("the validator runs");
    let said =
        String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
}

async fn cross_origin_requests_follow_the_configuration(form: Form) {
    let project = Project::chat();
    let config = "server: {cors: {allowed_origins: [\"https://app.example\"]}}\n";
    project.write("alyx.yaml", config);
    let server = form.start(&project).await;
    let preflight = async |origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        server
            .http()
            .send(Method::OPTIONS, "/api/collections/messages", &headers, "")
            .await
    };
    let allowed = preflight("https://app.example").await;
    assert_eq!(allowed.status, 204, "{allowed:?}");
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert!(
        allowed.header("vary").to_lowercase().contains("origin"),
        "{allowed:?}"
    );
    assert_eq!(
        preflight("https://evil.example")
            .await
            .header("access-control-allow-origin"),
        ""
    );
}

async fn a_request_in_flight_is_finished_when_the_server_stops(form: Form) {
    let project = Project::chat();
    project.write(
        "functions/slow.js",
        "export default { async handler(_, ctx) {
            await ctx.db.messages.create({ channel: 'c', author: 'a', content: 'in flight' });
            await new Promise((done) => setTimeout(done, 500));
            return 'finished';
        } };",
    );
    let server = form.start(&project).await;
    let http = server.http();
    let watch = server.http();
    let nothing = json!({});
    let call = http.post("/api/functions/slow", &nothing);
    let stop = async {
        alyx_tests::eventually("the call is in flight", || async {
            let total = watch.get("/api/collections/messages").await.json()["total"].clone();
            if total == 1 { Ok(()) } else { Err(total) }
        })
        .await;
        server.terminate().await
    };
    let (reply, code) = tokio::join!(call, stop);
    assert_eq!((reply.status, reply.text.as_str()), (200, "\"finished\""));
    assert_eq!(code, Some(0));
}
