//! Operators and the admin API: `alyx --server … cluster|nodes|schema|functions …`.

use alyx_tests::{Cluster, Project, Server, Shape, eventually};
use serde_json::{Value, json};

use crate::authority::Authority;

/// A schema to which everything may be added.
const NOTES: &str = "collections:\n  notes:\n    fields:\n      id: {type: uuid, primary: true, default: auto}\n      \
                     text: {type: string}\n";
const TAGS: &str = "  tags:\n    fields:\n      id: {type: uuid, primary: true, default: auto}\n      \
                    name: {type: string}\n";
const TOKEN: &str = "operator-0123456789abcdef0123456789abcdef";

fn parsed(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// Where a server's banner says that operators reach it.
fn admin_of(server: &Server) -> String {
    let output = server.output();
    let mut lines = output.lines();
    let line = lines.find(|line| line.contains("Admin")).expect("an admin API");
    line.split_whitespace().last().expect("an address").to_owned()
}

async fn asked(cluster: &Cluster, args: &[&str]) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    let (code, printed) = cluster.operate(&args).await;
    assert_eq!(code, Some(0), "{args:?}: {printed}");
    parsed(&printed)
}

#[tokio::test]
async fn operators_see_the_cluster_its_nodes_and_its_functions() {
    let project = Project::with_schema(NOTES);
    project.write("functions/hello.js", "export default () => 'hello'");
    let cluster = Cluster::start(&project).await;
    let status = asked(&cluster, &["cluster", "status"]).await;
    assert_eq!(status["schema_revision"], 1, "{status}");
    assert_eq!(status["functions"], 1, "{status}");
    let roles: Vec<_> = status["roles"].as_array().expect("roles").iter().collect();
    assert!(roles.iter().all(|role| role["ready"] == 2), "{status}");
    let nodes = asked(&cluster, &["nodes", "list"]).await;
    let names: Vec<_> = nodes["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| &node["name"])
        .collect();
    assert_eq!(names.len(), 6, "{nodes}");
    assert!(names.contains(&&json!("gateway-1")), "{nodes}");
    let (code, table) = cluster.operate(&["nodes", "list"]).await;
    assert_eq!(code, Some(0), "{table}");
    assert!(
        table.starts_with("NAME") && table.contains("realtime-node-0"),
        "{table}"
    );
    let (_, table) = cluster.operate(&["functions", "list"]).await;
    assert!(table.contains("hello") && table.contains("node"), "{table}");
}

#[tokio::test]
async fn operators_change_the_schema_live() {
    let project = Project::with_schema(NOTES);
    let cluster = Cluster::start(&project).await;

    let mut socket = cluster.socket().await;
    socket.subscribe(json!({"collection": "notes"})).await;
    project.write("next.yaml", &format!("{NOTES}{TAGS}"));
    let next = project.path().join("next.yaml");
    let next = next.to_str().expect("a path");
    let (code, planned) = cluster.operate(&["schema", "plan", next]).await;
    assert_eq!(code, Some(0), "{planned}");
    let row: Vec<&str> = planned
        .lines()
        .find(|line| line.contains("collections.tags"))
        .map(|line| line.split_whitespace().take(4).collect())
        .unwrap_or_default();
    assert_eq!(row, ["+", "safe", "-", "collections.tags:"], "{planned}");
    assert_eq!(
        asked(&cluster, &["schema", "history"]).await["revisions"][0]["revision"],
        1
    );

    let applied = asked(&cluster, &["schema", "apply", next]).await;
    assert_eq!(
        (&applied["applied"], &applied["schema_revision"]),
        (&json!(true), &json!(2))
    );
    eventually("all nodes follow", || async {
        let status = asked(&cluster, &["cluster", "status"]).await;
        let behind = status["roles"]
            .as_array()
            .expect("roles")
            .iter()
            .any(|role| role["behind"] != 0);
        if behind { Err(status) } else { Ok(()) }
    })
    .await;
    // Both gateways serve it, both realtime nodes follow it, and the old socket has missed nothing.
    for gateway in [0, 1] {
        let http = cluster.gateway(gateway);
        let mut live = cluster.socket().await;
        live.subscribe(json!({"collection": "tags"})).await;
        let made = http.post("/api/collections/tags", &json!({"name": "new"})).await;
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(live.delta().await["inserts"][0]["name"], "new");
    }
    let made = cluster
        .http()
        .post("/api/collections/notes", &json!({"text": "still"}))
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    let mut seen = false;
    while !seen {
        let frame = socket.receive().await;
        let docs = match frame["type"].as_str() {
            Some("snapshot") => &frame["payload"]["docs"],
            Some("delta") => &frame["payload"]["changes"]["inserts"],
            _ => panic!("{frame}"),
        };
        seen = docs
            .as_array()
            .expect("docs")
            .iter()
            .any(|doc| doc["text"] == "still");
    }

    let (code, source) = cluster.operate(&["schema", "get"]).await;
    assert_eq!((code, source), (Some(0), format!("{NOTES}{TAGS}")));
    let (_, source) = cluster.operate(&["schema", "get", "--revision", "1"]).await;
    assert_eq!(source, NOTES);
    let history = asked(&cluster, &["schema", "history"]).await;
    assert_eq!(history["revisions"][0]["in_force"], true, "{history}");
}

#[tokio::test]
async fn what_would_lose_data_or_is_no_schema_is_refused_with_its_remedy() {
    let project = Project::with_schema(&format!("{NOTES}{TAGS}"));
    let cluster = Cluster::start_with(&project, Shape::ONE_OF_EACH, &[]).await;
    let propose = async |verb: &str, name: &str, schema: &str| {
        project.write(name, schema);
        let path = project.path().join(name);
        let (code, told) = cluster
            .operate(&["schema", verb, path.to_str().expect("a path")])
            .await;
        assert_eq!(code, Some(64), "{told}");
        told
    };
    let tag = cluster
        .http()
        .post("/api/collections/tags", &json!({"name": "x"}))
        .await;
    assert_eq!(tag.status, 201, "{tag:?}");
    for verb in ["plan", "apply"] {
        let refused = propose(verb, "less.yaml", NOTES).await;
        for told in ["collections.tags", "would lose:", "instead:", "migration"] {
            assert!(refused.contains(told), "{told}: {refused}");
        }
        let row = refused.lines().find(|line| line.starts_with('!'));
        let row: Vec<&str> = row.unwrap_or_default().split_whitespace().take(3).collect();
        assert_eq!(
            row,
            ["!", "destructive", "1"],
            "class and documents concerned: {refused}"
        );
    }
    let broken = "collections:\n  notes:\n    fields:\n      id: {type: uid}\n";
    let told = propose("apply", "broken.yaml", broken).await;
    assert!(told.contains("uid") && told.contains("SCHEMA_INVALID"), "{told}");
    let status = asked(&cluster, &["cluster", "status"]).await;
    assert_eq!(status["schema_revision"], 1, "{status}");
}

#[tokio::test]
async fn over_tls_the_servers_certificate_must_be_trusted() {
    let project = Project::with_schema(NOTES);
    let authority = Authority::new(&project, "ca.pem");
    authority.issue(&project, "127.0.0.1", ("server.pem", "server.key"));
    Authority::new(&project, "other.pem");
    let env = [
        ("ALYX_ADMIN_TOKEN", TOKEN),
        ("ALYX_ADMIN_LISTEN", "127.0.0.1:0"),
        ("ALYX_ADMIN_TLS_CERT", "server.pem"),
        ("ALYX_ADMIN_TLS_KEY", "server.key"),
    ];
    let server = Server::start_with(&project, &["serve"], &env).await;
    let admin = admin_of(&server);
    assert!(admin.starts_with("https://"), "{admin}");
    let plain = admin.replacen("https", "http", 1);
    let check = async |args: &[&str], code: i32, told: &str| {
        let args = [args, &["cluster", "status"]].concat();
        let env = [("ALYX_ADMIN_TOKEN", TOKEN)];
        let (ended, printed) = Server::run(&project, &args, &env).await;
        assert_eq!(ended, Some(code), "{args:?}: {printed}");
        assert!(printed.contains(told), "{told}: {printed}");
    };
    check(
        &["--server", &admin, "--ca", "ca.pem"],
        0,
        "all roles in one process",
    )
    .await;
    check(
        &["--server", &admin, "--ca", "other.pem"],
        69,
        "the authority that signed it",
    )
    .await;
    check(&["--server", &admin], 69, "the authority that signed it").await;
    check(&["--server", &plain], 69, "https:// in place of http://").await;
    check(&["--server", &admin, "--ca", "nowhere.pem"], 64, "nowhere.pem").await;
}

#[tokio::test]
async fn a_schema_that_was_applied_outlives_the_control_plane_that_applied_it() {
    let project = Project::with_schema(NOTES);
    let mut cluster = Cluster::start(&project).await;
    project.write("next.yaml", &format!("{NOTES}{TAGS}"));
    let next = project.path().join("next.yaml");
    asked(&cluster, &["schema", "apply", next.to_str().expect("a path")]).await;
    cluster.kill(alyx_tests::Part::ControlPlane, 0).await;
    cluster.restart(alyx_tests::Part::ControlPlane, 0).await;
    let status = asked(&cluster, &["cluster", "status"]).await;
    assert_eq!(
        (&status["schema_revision"], &status["troubles"]),
        (&json!(2), &json!([])),
        "{status}"
    );
    let made = cluster
        .http()
        .post("/api/collections/tags", &json!({"name": "kept"}))
        .await;
    assert_eq!(made.status, 201, "{made:?}");
}

#[tokio::test]
async fn what_goes_wrong_is_told_with_its_remedy_and_an_exit_code() {
    let project = Project::with_schema(NOTES);
    let env = [("ALYX_ADMIN_TOKEN", TOKEN), ("ALYX_ADMIN_LISTEN", "127.0.0.1:0")];
    let server = Server::start_with(&project, &["serve"], &env).await;
    let admin = admin_of(&server);
    let encrypted = admin.replacen("http", "https", 1);
    let public = server.base();
    let check = async |server: &str, token: Option<&str>, code: i32, told: &str| {
        let env: Vec<_> = token
            .map(|token| ("ALYX_ADMIN_TOKEN", token))
            .into_iter()
            .collect();
        let args = ["--server", server, "cluster", "status"];
        let (ended, printed) = Server::run(&project, &args, &env).await;
        assert_eq!(ended, Some(code), "{args:?}: {printed}");
        assert!(printed.contains(told), "{told}: {printed}");
        assert!(!printed.contains(TOKEN), "{printed}");
    };
    check(&admin, Some(TOKEN), 0, "all roles in one process").await;
    check(&admin, None, 64, "ALYX_ADMIN_TOKEN").await;
    check(&admin, Some("short"), 64, "32 characters").await;
    check(&admin, Some(&"x".repeat(40)), 77, "admin.token").await;
    check("localhost:1", Some(TOKEN), 64, "http://host:port").await;
    check("http://127.0.0.1:1", Some(TOKEN), 69, "nothing listens there").await;
    check(&encrypted, Some(TOKEN), 69, "does not speak TLS").await;
    check(&public, Some(TOKEN), 69, "no admin API").await;

    // All roles in one process: schemas are planned and applied all the same, and there are no nodes.
    project.write("next.yaml", &format!("{NOTES}{TAGS}"));
    let env = [("ALYX_ADMIN_TOKEN", TOKEN), ("ALYX_SERVER", admin.as_str())];
    let (code, printed) = Server::run(&project, &["schema", "apply", "next.yaml"], &env).await;
    assert_eq!(code, Some(0), "{printed}");
    let made = server
        .http()
        .post("/api/collections/tags", &json!({"name": "new"}))
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    let (code, printed) = Server::run(&project, &["nodes", "drain", "gateway"], &env).await;
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("one process"), "{printed}");
}

#[tokio::test]
async fn an_admin_api_without_a_sound_secret_does_not_start() {
    let project = Project::with_schema(NOTES);
    let same = "0123456789abcdef0123456789abcdef";
    let check = async |env: &[(&str, &str)], named: &str| {
        let (code, printed) = Server::run(&project, &["serve"], env).await;
        assert_eq!(code, Some(64), "{printed}");
        assert!(printed.contains(named), "{named}: {printed}");
        assert!(!printed.contains(same), "{printed}");
    };
    check(&[("ALYX_ADMIN_TOKEN", "short")], "admin.token").await;
    check(
        &[("ALYX_ADMIN_TOKEN", same), ("ALYX_CLUSTER_TOKEN", same)],
        "the same as `cluster.token`",
    )
    .await;
    check(
        &[
            ("ALYX_ADMIN_TOKEN", same),
            ("ALYX_ADMIN_TLS_CERT", "/nowhere.pem"),
        ],
        "admin.tls.key",
    )
    .await;
    check(
        &[
            ("ALYX_ADMIN_TOKEN", same),
            ("ALYX_ADMIN_TLS_CERT", "/nowhere.pem"),
            ("ALYX_ADMIN_TLS_KEY", "/nowhere.pem"),
        ],
        "admin.tls.cert",
    )
    .await;
}
