//! The second factor from the outside, at several gateways.

use std::time::{SystemTime, UNIX_EPOCH};

use alyx_tests::{Form, Http, Project, Reply};
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    a_second_factor_is_asked_for_at_every_sign_in_and_its_codes_are_good_once,
}

const PASSWORD: &str = "correct horse";
const PATH: &str = "/api/auth/second-factor";
const SCHEMA: &str = "collections: {notes: {fields: {text: {type: string}}}}";

/// What an app shows so many seconds from now.
pub(crate) fn shown(secret: &str, later: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    alyx_auth::totp_code(secret, now + later).expect("a secret")
}

async fn own(http: &Http, method: Method, path: &str, access: &Value, body: Value) -> Reply {
    let bearer = format!("Bearer {}", access.as_str().expect("a token"));
    http.send(method, path, &[("authorization", &bearer)], body.to_string())
        .await
}

async fn challenge(http: &Http) -> Value {
    let body = json!({"email": "a@x.io", "password": PASSWORD});
    let reply = http.post("/api/auth/login", &body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    reply.json()["challenge"].clone()
}

async fn answer(http: &Http, challenge: &Value, code: &str) -> Reply {
    let body = json!({"challenge": challenge, "code": code});
    http.post(&format!("{PATH}/login"), &body).await
}

async fn a_second_factor_is_asked_for_at_every_sign_in_and_its_codes_are_good_once(form: Form) {
    let project = Project::with_schema(SCHEMA);
    // Uses that come too late count as guesses of this address.
    let env = [
        ("ALYX_AUTH_JWT_SECRET", "a secret of the tests, 32 bytes or more"),
        ("ALYX_AUTH_RATE_LIMIT_LOGIN_MAX", "1000"),
    ];
    let server = form.start_with(&project, &env).await;
    let http = server.http();
    let body = json!({"email": "a@x.io", "password": PASSWORD});
    let registered = http.post("/api/auth/register", &body).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let access = registered.json()["access_token"].clone();
    let enrolled = own(&http, Method::POST, PATH, &access, json!({"password": PASSWORD})).await;
    assert_eq!(enrolled.status, 200, "{enrolled:?}");
    let secret = enrolled.json()["secret"].as_str().expect("a secret").to_owned();
    let confirm = json!({"code": shown(&secret, 0)});
    let confirmed = own(&http, Method::POST, &format!("{PATH}/confirm"), &access, confirm).await;
    assert_eq!(confirmed.status, 200, "{confirmed:?}");

    // Challenges and codes are known to every gateway, and each of them is good once.
    let mut challenges = Vec::new();
    for _ in 0..10 {
        challenges.push(challenge(&http).await);
    }
    let code = shown(&secret, 30);
    let uses = challenges.iter().cycle().take(100);
    let uses = join_all(uses.map(|challenge| answer(&http, challenge, &code))).await;
    let good: Vec<&Reply> = uses.iter().filter(|reply| reply.status == 200).collect();
    assert_eq!(good.len(), 1, "{uses:?}");
    let access = good[0].json()["access_token"].clone();
    let me = own(&http, Method::GET, "/api/auth/me", &access, Value::Null).await;
    assert_eq!(me.json()["email"], "a@x.io");
    let sessions = own(&http, Method::GET, "/api/auth/sessions", &access, Value::Null).await;
    let sessions = sessions.json()["sessions"].as_array().map(Vec::len);
    assert_eq!(sessions, Some(2), "the first one and one more");

    // It goes with the password, and whatever waited for it.
    let removed = own(
        &http,
        Method::DELETE,
        PATH,
        &access,
        json!({"password": PASSWORD}),
    )
    .await;
    assert_eq!(removed.status, 204, "{removed:?}");
    let signed_in = http.post("/api/auth/login", &body).await;
    assert_eq!(signed_in.status, 200, "{signed_in:?}");
    let output = server.output();
    for secret in [secret.as_str(), PASSWORD] {
        assert!(!output.contains(secret), "{secret} is in the log");
    }
}
