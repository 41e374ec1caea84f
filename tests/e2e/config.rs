//! `alyx.yaml`, the environment and flags, as the binary takes them.

use alyx_tests::{Project, Server};

const SCHEMA: &str = "collections: {notes: {fields: {text: {type: text}}}}\n";

#[tokio::test]
async fn every_problem_is_reported_at_once_before_a_port_is_bound() {
    let project = Project::with_schema(SCHEMA);
    let config = "server:
  port: 99999
  cors: {allow_credentials: true}
  prot: 1
realtime:
  max_connections: none
functions:
  timeout: 5 parsecs
  env: {KEY: \"${SURELY_UNSET_VARIABLE}\"}
";
    project.write("alyx.yaml", config);
    let (code, printed) = Server::run(&project, &["dev"], &[]).await;
    assert_eq!(code, Some(64), "{printed}");
    for (line, path) in [
        (2, "server.port"),
        (3, "server.cors.allow"),
        (4, "server.prot"),
        (6, "realtime.max_connections"),
        (8, "functions.timeout"),
        (9, "functions.env.KEY"),
    ] {
        assert!(printed.contains(path), "{path} in\n{printed}");
        assert!(
            printed.contains(&format!("alyx.yaml:{line}")),
            "line {line} in\n{printed}"
        );
    }
    assert!(printed.contains("SURELY_UNSET_VARIABLE"), "{printed}");
    assert!(!printed.contains("http://"), "{printed}");
}

#[tokio::test]
async fn the_demo_documents_own_configuration_is_accepted() {
    let project = Project::chat();
    let config = "realtime:
  enabled: true
  poll_interval: 50ms
  max_connections: 1000
  max_subscriptions_per_client: 100
  change_buffer_size: 1000

functions:
  enabled: true
  path: ./functions
  runtime: docker
  timeout: 30s
  memory_limit: 128
  pools:
    node:
      min_warm: 1
      max_instances: 5
      idle_timeout: 5m
      image: ghcr.io/watzon/alyx-runtime-node:latest
";
    project.write("alyx.yaml", config);
    let server = Server::start(&project).await;
    server.printed("poll_interval").await;
    let call = serde_json::json!({"input": {}});
    assert_eq!(
        server.http().post("/api/functions/getStats", &call).await.status,
        200
    );
}

#[tokio::test]
async fn flags_beat_the_environment_which_beats_the_file() {
    let project = Project::with_schema(SCHEMA);
    project.write(
        "alyx.yaml",
        "server: {max_body_size: 100}\ndocs: {enabled: true}\n",
    );
    let env = [
        ("ALYX_SERVER_MAX_BODY_SIZE", "50"),
        ("ALYX_SERVER_PORT", "1"),
        ("ALYX_DOCS_ENABLED", "false"),
    ];
    let server = Server::start_with(&project, &["dev", "--port", "0"], &env).await;
    let body = format!("{{\"text\": \"{}\"}}", "x".repeat(60));
    let reply = server
        .http()
        .send(http::Method::POST, "/api/collections/notes", &[], body)
        .await;
    assert_eq!(reply.status, 413, "{reply:?}");
    assert_eq!(server.http().get("/docs").await.status, 404);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let project = Project::with_schema(SCHEMA);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let (code, printed) = Server::run(&project, &["dev", "--host", "127.0.0.1", "--port", &port], &[]).await;
    assert_ne!(code, Some(0));
    assert!(printed.contains(&port) && printed.contains("taken"), "{printed}");
}
