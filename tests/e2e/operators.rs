//! Operators and API tokens from the outside: `alyx admin`, and what the tokens open.

use std::time::{Duration, Instant};

use alyx_tests::{Cluster, Form, Http, Project, Reply, Server, Shape, Socket, eventually};
use http::Method;
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    operators_are_made_beside_a_running_server_and_sign_in,
    a_token_opens_what_its_scopes_say_until_it_is_revoked,
}

const SCHEMA: &str = "
default_access: deny
collections:
  notes:
    fields:
      text: {type: string}
  secrets:
    fields:
      text: {type: string}
";
const PASSWORD: &str = "correct horse";
const NOTES: &str = "/api/collections/notes";

async fn send(http: &Http, method: Method, path: &str, token: &str, body: Value) -> Reply {
    let bearer = format!("Bearer {token}");
    http.send(method, path, &[("authorization", &bearer)], body.to_string())
        .await
}

fn parsed(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// Runs `alyx admin … --json` beside the server.
async fn admin(server: &Server, project: &Project, args: &[&str]) -> Value {
    let args = [&["admin"], args, &["--json"]].concat();
    let (code, printed) = server.operate(project, &args).await;
    assert_eq!(code, Some(0), "{args:?}: {printed}");
    parsed(&printed)
}

async fn token(server: &Server, project: &Project, name: &str, scopes: &str) -> String {
    let made = admin(server, project, &["create-token", name, "--scopes", scopes]).await;
    made["token"].as_str().expect("a token").to_owned()
}

async fn operators_are_made_beside_a_running_server_and_sign_in(form: Form) {
    let project = Project::with_schema(SCHEMA);
    let server = form.start(&project).await;
    let http = server.http();
    let create = ["create", "--email", "Ada@Example.com", "--password", PASSWORD];
    let made = admin(&server, &project, &create).await;
    assert_eq!(made["email"], "ada@example.com");
    let (code, printed) = server
        .operate(&project, &[&["admin"], &create[..]].concat())
        .await;
    assert_eq!(code, Some(1), "{printed}");
    assert!(
        printed.contains("OPERATOR_EXISTS") && !printed.contains(PASSWORD),
        "{printed}"
    );

    let body = json!({"email": "ada@example.com", "password": PASSWORD});
    let signed_in = http.post("/api/admin/login", &body).await;
    assert_eq!(signed_in.status, 200, "{signed_in:?}");
    let operator = signed_in.json()["token"].as_str().expect("a token").to_owned();
    // Rules do not bind an operator; every gateway knows one.
    for _ in 0..2 {
        let made = send(&http, Method::POST, NOTES, &operator, json!({"text": "a"})).await;
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(http.get(NOTES).await.status, 403);
    }
    let listed = admin(&server, &project, &["list"]).await;
    assert_eq!(listed["operators"][0]["email"], "ada@example.com");
    assert_eq!(listed["tokens"], json!([]));

    // Another password ends what the one before has opened, everywhere.
    let other = "another horse";
    let changed = admin(
        &server,
        &project,
        &["passwd", "ADA@example.com", "--password", other],
    )
    .await;
    assert_eq!(changed["id"], made["id"]);
    eventually("the sign-in is over at every gateway", || async {
        let mut replies = Vec::new();
        for _ in 0..2 {
            replies.push(send(&http, Method::GET, NOTES, &operator, Value::Null).await);
        }
        if replies.iter().all(|reply| reply.status == 401) {
            Ok(())
        } else {
            Err(replies)
        }
    })
    .await;
    let refused = http.post("/api/admin/login", &body).await;
    assert_eq!(
        (refused.status, refused.code()),
        (401, "INVALID_CREDENTIALS".to_owned())
    );
    let body = json!({"email": "ada@example.com", "password": other});
    let signed_in = http.post("/api/admin/login", &body).await;
    assert_eq!(signed_in.status, 200, "{signed_in:?}");
    let operator = signed_in.json()["token"].as_str().expect("a token").to_owned();

    let gone = admin(&server, &project, &["revoke", "ada@example.com"]).await;
    assert_eq!(gone["revoked"], "operator");
    eventually("the sign-in is over at every gateway", || async {
        let ask = async || send(&http, Method::GET, NOTES, &operator, Value::Null).await;
        let replies = [ask().await, ask().await];
        if replies.iter().all(|reply| reply.status == 401) {
            Ok(())
        } else {
            Err(replies)
        }
    })
    .await;
    let again = http.post("/api/admin/login", &body).await;
    assert_eq!(
        (again.status, again.code()),
        (401, "INVALID_CREDENTIALS".to_owned())
    );
    assert!(!server.output().contains(PASSWORD), "a password is in the log");
    assert!(!server.output().contains(&operator), "a token is in the log");
}

async fn a_token_opens_what_its_scopes_say_until_it_is_revoked(form: Form) {
    let project = Project::with_schema(SCHEMA);
    project.write(
        "functions/who.js",
        "export default async (input, ctx) => ({ auth: ctx.auth });",
    );
    project.write("functions/other.js", "export default () => 1;");
    let server = form.start(&project).await;
    let http = server.http();
    let token = token(&server, &project, "ci", "read:notes,write:notes,functions:who").await;
    let made = send(&http, Method::POST, NOTES, &token, json!({"text": "a"})).await;
    assert_eq!(made.status, 201, "{made:?}");
    for (method, path, expected) in [
        (Method::GET, NOTES, 200),
        (Method::GET, "/api/collections/secrets", 403),
        (Method::POST, "/api/functions/who", 200),
        (Method::POST, "/api/functions/other", 403),
        (Method::GET, "/api/admin/tokens", 403),
    ] {
        let reply = send(&http, method, path, &token, json!({})).await;
        assert_eq!(reply.status, expected, "{path} {reply:?}");
        if expected == 403 {
            assert_eq!(reply.code(), "SCOPE_MISSING", "{path}");
        }
    }
    let called = send(&http, Method::POST, "/api/functions/who", &token, json!({})).await;
    assert_eq!(called.json()["auth"], Value::Null);

    let bearer = format!("Bearer {token}");
    let mut socket = Socket::open_with(&server.base(), &[("authorization", &bearer)])
        .await
        .expect("a socket");
    socket.subscribe(json!({"collection": "notes"})).await;
    send(&http, Method::POST, NOTES, &token, json!({"text": "live"})).await;
    assert_eq!(socket.delta().await["inserts"][0]["text"], "live");
    eventually("the last use is shown", || async {
        let listed = admin(&server, &project, &["list"]).await;
        if listed["tokens"][0]["used_at"].is_string() {
            Ok(())
        } else {
            Err(listed)
        }
    })
    .await;

    let gone = admin(&server, &project, &["revoke", "ci"]).await;
    let began = Instant::now();
    assert_eq!(gone["revoked"], "token");
    let closed = socket.try_receive().await.expect_err("it is closed");
    assert!(closed.contains("4401"), "{closed}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    eventually("the token is over at every gateway", || async {
        let ask = async || send(&http, Method::GET, NOTES, &token, Value::Null).await;
        let replies = [ask().await, ask().await];
        if replies
            .iter()
            .all(|reply| reply.status == 401 && reply.code() == "INVALID_TOKEN")
        {
            Ok(())
        } else {
            Err(replies)
        }
    })
    .await;
    assert!(!server.output().contains(&token), "a token is in the log");
}

#[tokio::test]
async fn operators_are_made_while_no_server_runs_and_dev_says_how() {
    let project = Project::with_schema(SCHEMA);
    let hint = "alyx admin create --email";
    let server = Server::start(&project).await;
    server.printed(hint).await;
    assert_eq!(server.terminate().await, Some(0));
    assert!(
        !project.path().join(".alyx/admin").exists(),
        "the way is taken away"
    );

    let run = async |args: &[&str]| Server::run(&project, &[&["admin"], args].concat(), &[]).await;
    let (code, printed) = run(&["create", "--email", "a@x.io", "--password", "short"]).await;
    assert_eq!(code, Some(64), "{printed}");
    assert!(printed.contains("PASSWORD_TOO_SHORT"), "{printed}");
    let (code, printed) = run(&["create", "--email", "a@x.io", "--password", PASSWORD]).await;
    assert_eq!(code, Some(0), "{printed}");
    let (code, printed) = run(&["create-token", "ci", "--scopes", "all"]).await;
    assert_eq!(code, Some(64), "{printed}");
    let (code, printed) = run(&[
        "create-token",
        "ci",
        "--scopes",
        "read:*",
        "--expires",
        "90d",
        "--json",
    ])
    .await;
    assert_eq!(code, Some(0), "{printed}");
    let token = parsed(&printed)["token"].as_str().expect("a token").to_owned();
    let (_, printed) = run(&["list"]).await;
    assert!(
        printed.contains("a@x.io") && printed.contains("read:*"),
        "{printed}"
    );
    assert!(!printed.contains(&token), "{printed}");
    let (code, printed) = run(&["revoke", "nobody"]).await;
    assert_eq!(code, Some(1), "{printed}");

    // A server that crashed has left a way behind that leads nowhere.
    project.write(
        ".alyx/admin",
        "http://127.0.0.1:1\n0123456789abcdef0123456789abcdef\n",
    );
    let (code, printed) = run(&["list"]).await;
    assert_eq!(code, Some(0), "{printed}");

    let server = Server::start_with(&project, &["serve"], &[]).await;
    let http = server.http();
    let body = json!({"email": "a@x.io", "password": PASSWORD});
    assert_eq!(http.post("/api/admin/login", &body).await.status, 200);
    assert_eq!(
        send(&http, Method::GET, NOTES, &token, Value::Null).await.status,
        200
    );
    assert!(!server.output().contains(hint), "{}", server.output());
}

#[tokio::test]
async fn an_api_token_opens_the_admin_api_as_far_as_its_scopes_go() {
    let project = Project::with_schema(SCHEMA);
    let cluster = Cluster::start_with(&project, Shape::default(), &[]).await;
    let (server, _) = cluster.admin();
    let made = |name: &'static str, scope: &'static str| {
        let cluster = &cluster;
        async move {
            let args = ["admin", "create-token", name, "--scopes", scope, "--json"];
            let (code, printed) = cluster.operate(&args).await;
            assert_eq!(code, Some(0), "{printed}");
            parsed(&printed)["token"].as_str().expect("a token").to_owned()
        }
    };
    let tokens = [
        ("reader", made("reader", "admin:read").await, 0, 77, 77),
        ("drainer", made("drainer", "admin:nodes").await, 0, 0, 77),
        ("data", made("data", "read:*").await, 77, 77, 77),
        ("all", made("all", "admin").await, 0, 0, 0),
    ];
    for (name, token, status, undrain, list) in &tokens {
        let run = async |args: &[&str]| {
            let env = [
                ("ALYX_SERVER", server.as_str()),
                ("ALYX_ADMIN_TOKEN", token.as_str()),
            ];
            Server::run(&project, args, &env).await
        };
        for (args, expected) in [
            (&["cluster", "status"][..], status),
            (&["nodes", "undrain", "gateway-0"], undrain),
            (&["admin", "list"], list),
        ] {
            let (code, printed) = run(args).await;
            assert_eq!(code, Some(*expected), "{name} {args:?}: {printed}");
            if *expected == 77 {
                assert!(printed.contains("SCOPE_MISSING"), "{name} {args:?}: {printed}");
            }
        }
    }
    let (code, printed) = cluster.operate(&["admin", "revoke", "all"]).await;
    assert_eq!(code, Some(0), "{printed}");
    let env = [
        ("ALYX_SERVER", server.as_str()),
        ("ALYX_ADMIN_TOKEN", tokens[3].1.as_str()),
    ];
    let (code, printed) = Server::run(&project, &["cluster", "status"], &env).await;
    assert_eq!(code, Some(77), "{printed}");
    assert!(printed.contains("ADMIN_UNAUTHENTICATED"), "{printed}");
}
