//! Accounts from the outside: signing in, what functions see of it, and that every gateway knows of every end.

use std::time::{Duration, Instant};

use alyx_tests::{Cluster, Form, Http, Part, Project, Reply, Server, Shape, Socket, eventually};
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    functions_know_who_calls,
    a_session_that_ends_is_over_everywhere,
    of_many_uses_of_a_refresh_token_one_gets_a_session,
    an_anonymous_account_keeps_its_documents_as_it_becomes_real,
}

const SECRET: &str = "a secret of the tests, 32 bytes or more";
const PASSWORD: &str = "correct horse";
const SCHEMA: &str = "
collections:
  notes:
    fields:
      text: {type: string}
";

async fn start(form: Form, project: &Project) -> Server {
    let env = [
        ("ALYX_AUTH_JWT_SECRET", SECRET),
        ("ALYX_AUTH_RATE_LIMIT_REGISTER_MAX", "1000"),
    ];
    form.start_with(project, &env).await
}

async fn with_token(http: &Http, method: Method, path: &str, token: &str, body: Value) -> Reply {
    let bearer = format!("Bearer {token}");
    http.send(method, path, &[("authorization", &bearer)], body.to_string())
        .await
}

/// Access and refresh token of a new account.
async fn register(http: &Http, email: &str) -> (String, String) {
    let body = json!({"email": email, "password": PASSWORD, "metadata": {"plan": "pro"}});
    let reply = http.post("/api/auth/register", &body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    tokens(&reply)
}

fn tokens(reply: &Reply) -> (String, String) {
    let reply = reply.json();
    let text = |name: &str| reply[name].as_str().expect("a token").to_owned();
    (text("access_token"), text("refresh_token"))
}

async fn functions_know_who_calls(form: Form) {
    let project = Project::with_schema(SCHEMA);
    project.write(
        "functions/who.js",
        "export default async (input, ctx) => ({ auth: ctx.auth });",
    );
    let server = start(form, &project).await;
    let http = server.http();
    let (access, _) = register(&http, "a@x.io").await;
    let call = async |token: Option<&str>, input: Value| {
        let reply = match token {
            Some(token) => with_token(&http, Method::POST, "/api/functions/who", token, input).await,
            None => http.post("/api/functions/who", &input).await,
        };
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["auth"].clone()
    };
    let auth = call(Some(&access), json!({"auth": {"id": "forged"}})).await;
    assert_eq!(auth["email"], "a@x.io");
    assert_eq!(auth["role"], "user");
    assert_eq!(auth["metadata"], json!({"plan": "pro"}));
    assert_eq!(call(None, json!({"auth": {"id": "forged"}})).await, Value::Null);
    let refused = with_token(&http, Method::POST, "/api/functions/who", "nonsense", json!({})).await;
    assert_eq!(
        (refused.status, refused.code()),
        (401, "INVALID_TOKEN".to_owned())
    );
}

async fn a_session_that_ends_is_over_everywhere(form: Form) {
    let project = Project::with_schema(SCHEMA);
    let server = start(form, &project).await;
    let http = server.http();
    let (access, refresh) = register(&http, "a@x.io").await;
    let bearer = format!("Bearer {access}");
    let list = async || with_token(&http, Method::GET, "/api/collections/notes", &access, Value::Null).await;
    // Requests go to the gateways in turn: all of them know the session.
    for _ in 0..4 {
        assert_eq!(list().await.status, 200);
    }
    let mut socket = Socket::open_with(&server.base(), &[("authorization", &bearer)])
        .await
        .expect("a socket");
    let ended = http
        .post("/api/auth/logout", &json!({"refresh_token": refresh}))
        .await;
    assert_eq!(ended.status, 204, "{ended:?}");
    let began = Instant::now();
    let closed = socket.try_receive().await.expect_err("it is closed");
    assert!(closed.contains("4401"), "{closed}");
    let within = began.elapsed();
    eventually("every gateway knows", || async {
        let replies = [list().await, list().await];
        if replies.iter().all(|reply| reply.status == 401) {
            Ok(())
        } else {
            Err(replies)
        }
    })
    .await;
    for _ in 0..4 {
        assert_eq!(list().await.code(), "TOKEN_REVOKED");
    }
    let known = began.elapsed();
    assert!(
        within < Duration::from_secs(10) && known < Duration::from_secs(10),
        "{within:?}, {known:?}"
    );
    let again = Socket::open_with(&server.base(), &[("authorization", &bearer)]).await;
    assert!(again.expect_err("over").contains("401"));
}

async fn of_many_uses_of_a_refresh_token_one_gets_a_session(form: Form) {
    let project = Project::with_schema(SCHEMA);
    let server = start(form, &project).await;
    let http = server.http();
    let (_, refresh) = register(&http, "a@x.io").await;
    let body = json!({"refresh_token": refresh});
    let uses = join_all((0..50).map(|_| http.post("/api/auth/refresh", &body))).await;
    let good: Vec<&Reply> = uses.iter().filter(|reply| reply.status == 200).collect();
    assert_eq!(good.len(), 1);
    let others = uses.iter().filter(|reply| reply.status != 200);
    for reply in others {
        assert_eq!(
            (reply.status, reply.code()),
            (401, "SESSION_NOT_FOUND".to_owned())
        );
    }
    // Whoever came second showed that two have it.
    let (_, next) = tokens(good[0]);
    let refused = http
        .post("/api/auth/refresh", &json!({"refresh_token": next}))
        .await;
    assert_eq!(
        (refused.status, refused.code()),
        (401, "SESSION_NOT_FOUND".to_owned())
    );
}

async fn an_anonymous_account_keeps_its_documents_as_it_becomes_real(form: Form) {
    let project = Project::with_schema(
        "
collections:
  drafts:
    fields:
      owner: {type: string}
      text: {type: string}
    rules:
      create: auth.role != null && data.owner == auth.id
      read: doc.owner == auth.id
  posts:
    fields:
      text: {type: string}
    rules:
      create: auth.role == 'user'
      read: true
",
    );
    let env = [
        ("ALYX_AUTH_JWT_SECRET", SECRET),
        ("ALYX_AUTH_ALLOW_ANONYMOUS", "true"),
        ("ALYX_AUTH_RATE_LIMIT_REGISTER_MAX", "1000"),
    ];
    let server = form.start_with(&project, &env).await;
    let http = server.http();
    let made = http.post("/api/auth/anonymous", &json!({})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let (access, _) = tokens(&made);
    let id = made.json()["user"]["id"].clone();
    let post = async |collection: &str, body: Value| {
        let path = format!("/api/collections/{collection}");
        with_token(&http, Method::POST, &path, &access, body).await
    };
    let draft = post("drafts", json!({"owner": id, "text": "mine"})).await;
    assert_eq!(draft.status, 201, "{draft:?}");
    assert_eq!(post("posts", json!({"text": "a"})).await.status, 403);
    let mut socket = Socket::open_with(&server.base(), &[("authorization", &format!("Bearer {access}"))])
        .await
        .expect("a socket");
    let body = json!({"email": "a@x.io", "password": PASSWORD});
    let path = "/api/auth/anonymous/upgrade";
    let upgraded = with_token(&http, Method::POST, path, &access, body.clone()).await;
    assert_eq!(
        (upgraded.status, &upgraded.json()["id"]),
        (200, &id),
        "{upgraded:?}"
    );
    let closed = socket.try_receive().await.expect_err("it is closed");
    assert!(closed.contains("4401"), "{closed}");
    eventually("every gateway knows", || async {
        let made = [
            post("posts", json!({"text": "a"})).await,
            post("posts", json!({"text": "a"})).await,
        ];
        if made.iter().all(|reply| reply.status == 201) {
            Ok(())
        } else {
            Err(made)
        }
    })
    .await;
    let (access, _) = tokens(&http.post("/api/auth/login", &body).await);
    let drafts = with_token(
        &http,
        Method::GET,
        "/api/collections/drafts",
        &access,
        Value::Null,
    )
    .await;
    assert_eq!(drafts.json()["total"], 1, "{drafts:?}");
}

#[tokio::test]
async fn sessions_outlive_a_restart_of_alyx_dev() {
    let project = Project::with_schema(SCHEMA);
    let server = Server::start(&project).await;
    let (access, _) = register(&server.http(), "a@x.io").await;
    assert!(!server.output().contains(PASSWORD), "{}", server.output());
    assert_eq!(server.terminate().await, Some(0));
    let server = Server::start(&project).await;
    let me = with_token(&server.http(), Method::GET, "/api/auth/me", &access, Value::Null).await;
    assert_eq!((me.status, &me.json()["email"]), (200, &json!("a@x.io")));
}

#[tokio::test]
async fn alyx_dev_shows_mails_in_its_log() {
    let project = Project::with_schema(SCHEMA);
    let server = Server::start(&project).await;
    let http = server.http();
    let (access, _) = register(&http, "a@x.io").await;
    let link = format!("{}/auth/verify?token=", server.base());
    server.printed(&link).await;
    let output = server.output();
    let (_, rest) = output.split_once(&link).expect("the link");
    let token = rest.split_whitespace().next().expect("a token");
    let verified = http.post("/api/auth/verify", &json!({ "token": token })).await;
    assert_eq!(verified.status, 204, "{verified:?}");
    let me = with_token(&http, Method::GET, "/api/auth/me", &access, Value::Null).await;
    assert_eq!(me.json()["verified"], true);
}

#[tokio::test]
async fn alyx_serve_makes_up_no_secret_and_refuses_a_short_one() {
    let project = Project::with_schema(SCHEMA);
    let server = Server::start_with(&project, &["serve"], &[]).await;
    let status = server.http().get("/api/auth/status").await;
    assert_eq!(
        (status.status, status.code()),
        (503, "AUTH_NOT_CONFIGURED".to_owned())
    );
    server.terminate().await;
    let (code, printed) = Server::run(&project, &["serve"], &[("ALYX_AUTH_JWT_SECRET", "hunter2")]).await;
    assert_eq!(code, Some(64), "{printed}");
    assert!(
        printed.contains("auth.jwt.secret") && !printed.contains("hunter2"),
        "{printed}"
    );
    project.write("key.pem", "hunter2");
    let (code, printed) = Server::run(&project, &["serve"], &[("ALYX_AUTH_JWT_KEY_FILE", "key.pem")]).await;
    assert_eq!(code, Some(64), "{printed}");
    assert!(
        printed.contains("auth.jwt.key_file") && !printed.contains("hunter2"),
        "{printed}"
    );
}

#[tokio::test]
async fn addresses_that_nobody_can_verify_are_warned_of() {
    let project = Project::with_schema(SCHEMA);
    project.write(
        "alyx.yaml",
        "auth:\n  require_verification: true\n  jwt: {secret: \"a secret of the tests, 32 bytes or more\"}\n",
    );
    let warned = |printed: &str| {
        let told = |line: &str| {
            ["WARN", "auth.require_verification", "mail.smtp.host"]
                .iter()
                .all(|word| line.contains(word))
        };
        printed.lines().any(told)
    };
    let serving = Server::start_with(&project, &["serve"], &[]).await;
    serving.printed("auth.require_verification").await;
    assert!(warned(&serving.output()), "{}", serving.output());
    let refused = serving
        .http()
        .post("/api/auth/verify/request", &json!({"email": "a@x.io"}))
        .await;
    assert_eq!(
        (refused.status, refused.code()),
        (503, "MAIL_NOT_CONFIGURED".to_owned())
    );
    serving.terminate().await;
    let cluster = Cluster::start_with(&project, Shape::ONE_OF_EACH, &[]).await;
    let printed = cluster.printed(Part::Gateway, 0);
    assert!(warned(&printed), "{printed}");
    // Mails that are sent, or shown in the log.
    let mail = [
        ("ALYX_MAIL_SMTP_HOST", "127.0.0.1"),
        ("ALYX_MAIL_FROM", "no-reply@example.com"),
        ("ALYX_SERVER_PUBLIC_URL", "https://app.example.com"),
    ];
    for (args, env) in [(["serve"], &mail[..]), (["dev"], &[])] {
        let server = Server::start_with(&project, &args, env).await;
        let printed = server.output();
        assert!(!printed.contains("auth.require_verification"), "{printed}");
        server.terminate().await;
    }
}
