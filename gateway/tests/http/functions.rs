//! The function routes, over a scripted worker.

use serde_json::{Value as Json, json};

use crate::accounts;
use crate::site::{Setup, Site};

#[tokio::test]
async fn a_wrapped_call_gets_the_envelope_and_a_bare_one_the_value() {
    let site = Site::start().await;
    let check = async |body: &str, expected: Json| {
        let reply = site
            .send(site.request("POST", "/api/functions/echo"), body.to_owned())
            .await;
        assert_eq!((reply.status, reply.json()), (200, expected), "{body}");
    };
    check(
        r#"{"input": {"a": [1, 2.50]}}"#,
        json!({"success": true, "output": {"a": [1, 2.5]}, "duration_ms": 7}),
    )
    .await;
    check(
        r#"{"input": {}}"#,
        json!({"success": true, "output": {}, "duration_ms": 7}),
    )
    .await;
    check(r#"{"a": 1}"#, json!({"a": 1})).await;
    check(r#"{"input": 1, "more": 2}"#, json!({"input": 1, "more": 2})).await;
    check("[1]", json!([1])).await;
    check("", Json::Null).await;
}

#[tokio::test]
async fn failures_have_one_status_in_both_shapes() {
    let site = Site::start().await;
    let check = async |name: &str, status: u16, code: &str| {
        let path = format!("/api/functions/{name}");
        let bare = site.call("POST", &path, &json!({})).await;
        assert_eq!(bare.refusal(), (status, code.to_owned()), "{name}");
        let wrapped = site.call("POST", &path, &json!({"input": {}})).await;
        assert_eq!(wrapped.refusal(), (status, code.to_owned()), "{name}");
        assert_eq!(wrapped.json()["success"], false, "{name}");
        assert!(wrapped.json()["duration_ms"].is_u64(), "{name}");
        (bare, wrapped)
    };
    check("throw", 500, "FUNCTION_ERROR").await;
    check("refuse", 400, "NO_ROOM").await;
    check("crash", 502, "FUNCTION_CRASHED").await;
    check("missing", 404, "FUNCTION_NOT_FOUND").await;
    let (bare, wrapped) = check("full", 429, "FUNCTION_OVERLOADED").await;
    assert_eq!(
        (bare.header("retry-after"), wrapped.header("retry-after")),
        ("1", "1")
    );
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused() {
    let site = Site::start().await;
    let path = "/api/functions/echo";
    let broken = site.send(site.request("POST", path), "{\"input\":").await;
    assert_eq!(broken.refusal(), (400, "INVALID_JSON".to_owned()));
    let form = site
        .request("POST", path)
        .header("content-type", "multipart/form-data; boundary=x");
    assert_eq!(
        site.send(form, "--x--").await.refusal(),
        (415, "UNSUPPORTED_MEDIA_TYPE".to_owned())
    );
    let large = site
        .send(site.request("POST", path), format!("\"{}\"", "x".repeat(5000)))
        .await;
    assert_eq!(large.refusal(), (413, "PAYLOAD_TOO_LARGE".to_owned()));
}

#[tokio::test]
async fn descriptions_tell_neither_environment_nor_paths() {
    let site = Site::start().await;
    let listed = site.get("/api/functions").await.json();
    assert_eq!(listed["count"], 11);
    assert_eq!(
        listed["functions"][0],
        json!({"name": "crash", "runtime": "node"})
    );
    let one = site.get("/api/functions/echo").await;
    let expected = json!({
        "name": "echo", "runtime": "node", "description": "does echo", "sample_input": {"a": 1},
        "enabled": true, "timeout": 30, "memory": 128,
    });
    assert_eq!(one.json(), expected);
    let missing = site.get("/api/functions/missing").await;
    assert_eq!(missing.refusal(), (404, "FUNCTION_NOT_FOUND".to_owned()));
    let closed = site.get("/api/functions/stats").await;
    assert_eq!(closed.refusal(), (401, "UNAUTHORIZED".to_owned()));
    let token = site.token("observer", "admin:read").await;
    let stats = site
        .with_token("GET", "/api/functions/stats", &token, &Json::Null)
        .await;
    let stats = stats.json();
    assert_eq!(stats["pools"]["node"]["ready"], 0);
    let echo = &stats["functions"]["echo"];
    assert_eq!(
        (&echo["runtime"], &echo["warm"], &echo["invocations"]),
        (&json!("node"), &json!(1), &json!(2))
    );
    let near = |figure: &Json, ms: f64| figure.as_f64().is_some_and(|told| (told / ms - 1.0).abs() < 0.07);
    for figures in [echo, &stats["pools"]["node"]] {
        assert!(
            near(&figures["p50_ms"], 4.0) && near(&figures["p99_ms"], 100.0),
            "{figures}"
        );
    }
    assert!(stats["functions"].get("removed").is_none(), "{stats}");
}

#[tokio::test]
async fn logs_are_for_development_and_reload_for_operators_too() {
    let call = json!({"input": 1});
    let site = Site::start().await;
    assert!(
        site.call("POST", "/api/functions/echo", &call)
            .await
            .json()
            .get("logs")
            .is_none()
    );
    let reload = site.call("POST", "/api/functions/reload", &json!({})).await;
    assert_eq!(reload.refusal(), (401, "UNAUTHORIZED".to_owned()));
    let token = site.token("ci", "deploy").await;
    let reload = site
        .with_token("POST", "/api/functions/reload", &token, &json!({}))
        .await;
    assert_eq!(reload.json()["success"], true, "{reload:?}");

    let mut setup = Setup::default();
    setup.config.dev.enabled = true;
    let site = setup.start().await;
    let logged = site.call("POST", "/api/functions/echo", &call).await.json();
    assert_eq!(logged["logs"][0]["message"], "ran");
    let reload = site
        .call("POST", "/api/functions/reload", &json!({}))
        .await
        .json();
    assert_eq!((&reload["success"], &reload["count"]), (&json!(true), &json!(11)));
}

#[tokio::test]
async fn rules_bind_accounts_and_nobody_but_not_tokens() {
    let site = accounts::setup().start().await;
    let forbidden = (403, "FORBIDDEN".to_owned());
    let input = json!({"word": "yes"});
    let member = "/api/functions/member";
    assert_eq!(site.call("POST", member, &input).await.refusal(), forbidden);
    let wrapped = site.call("POST", member, &json!({"input": input})).await;
    assert_eq!(
        (wrapped.refusal(), &wrapped.json()["success"]),
        (forbidden.clone(), &json!(false))
    );
    let account = json!({"email": "a@x.io", "password": "correct horse battery"});
    let account = site.call("POST", "/api/auth/register", &account).await.json();
    let access = account["access_token"].as_str().expect("a token");
    let denied = site.with_token("POST", member, access, &input).await;
    assert_eq!(denied.refusal(), forbidden, "there is no such document");
    let made = site.call("POST", "/api/collections/numbered", &input).await;
    assert_eq!(made.status, 201, "{made:?}");
    let called = site.with_token("POST", member, access, &input).await;
    assert_eq!((called.status, called.json()), (200, input.clone()), "{called:?}");
    // A rule that does not compile lets nobody in whom rules bind.
    let unruly = "/api/functions/unruly";
    assert_eq!(
        site.with_token("POST", unruly, access, &input).await.refusal(),
        forbidden
    );
    let token = site.token("caller", "functions:unruly").await;
    assert_eq!(site.with_token("POST", unruly, &token, &input).await.status, 200);
    let other = site.with_token("POST", member, &token, &input).await;
    assert_eq!(other.refusal(), (403, "SCOPE_MISSING".to_owned()));
}

#[tokio::test]
async fn switched_off_functions_are_not_there() {
    let setup = Setup {
        functions: false,
        ..Setup::default()
    };
    let site = setup.start().await;
    for (method, path) in [("GET", "/api/functions"), ("POST", "/api/functions/echo")] {
        let reply = site.call(method, path, &json!({})).await;
        assert_eq!(
            reply.refusal(),
            (404, "FUNCTIONS_DISABLED".to_owned()),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn functions_reach_documents_whatever_callers_may() {
    let site = Setup {
        edit: |schema| {
            for collection in schema.collections.values_mut() {
                let mut closed = (**collection).clone();
                closed.access = alyx_schema::Access::CLOSED;
                *collection = std::sync::Arc::new(closed);
            }
        },
        ..Setup::default()
    }
    .start()
    .await;
    let calls = json!([
        ["create", "numbered", {"data": {"word": "a"}}],
        ["create", "numbered", {"data": {"word": "b"}}],
        ["get", "numbered", {"id": 1}],
        ["get", "numbered", {"id": "2"}],
        ["get", "numbered", {"id": 9}],
        ["update", "numbered", {"id": 1, "data": {"word": "c"}}],
        ["list", "numbered", {"filter": {"word": {"$gte": "b"}}, "sort": ["-word"], "limit": 1}],
        ["delete", "numbered", {"id": 2}],
        ["delete", "numbered", {"id": 2}],
        ["list", "numbered", {}],
        ["create", "numbered", {"data": {"typo": 1}}],
        ["create", "numbered", {}],
        ["get", "numbered", {"id": {}}],
        ["list", "nothing", {}],
        ["list", "numbered", {"filter": {"typo": 1}}],
        ["update", "numbered", {"id": 9, "data": {"word": "x"}}]
    ]);
    let results = site.call("POST", "/api/functions/db", &calls).await;
    let expected = json!([
        {"id": 1, "word": "a"},
        {"id": 2, "word": "b"},
        {"id": 1, "word": "a"},
        {"id": 2, "word": "b"},
        null,
        {"id": 1, "word": "c"},
        {"docs": [{"id": 1, "word": "c"}], "total": 2, "limit": 1, "offset": 0},
        {"deleted": true},
        {"deleted": false},
        {"docs": [{"id": 1, "word": "c"}], "total": 1, "limit": 100, "offset": 0},
        {"error": "VALIDATION_ERROR"},
        {"error": "INVALID_ARGUMENT"},
        {"error": "INVALID_ARGUMENT"},
        {"error": "COLLECTION_NOT_FOUND"},
        {"error": "INVALID_FILTER"},
        {"error": "DOCUMENT_NOT_FOUND"}
    ]);
    let mut results = results.json();
    let next = results[6].as_object_mut().expect("a page").remove("next");
    assert!(next.is_some_and(|next| next.is_string()));
    assert_eq!(results, expected);
}
