//! Operators and API tokens: signing in, what they may do, and that it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Scopes, SystemClock};
use alyx_operators::{NewOperator, NewToken, Operators, hash_new_password};
use serde_json::{Value as Json, json};

use crate::accounts::{PASSWORD, closed_with, setup};
use crate::site::{Reply, Site};

const EMAIL: &str = "ada@example.com";

impl Site {
    /// What another process would change the rows with.
    pub(crate) fn operators(&self) -> Operators {
        Operators::new(self.store.clone(), Arc::new(SystemClock))
    }

    /// A token with these scopes, with a blank between each two.
    pub(crate) async fn token(&self, name: &str, scopes: &str) -> String {
        let new = NewToken {
            name: name.to_owned(),
            scopes: Scopes::parse(scopes.split(' ')).expect("scopes"),
            expires_in: None,
        };
        let made = self.operators().create_token(new, soon()).await;
        made.expect("made").token
    }

    async fn operator(&self) {
        let new = NewOperator {
            email: EMAIL.to_owned(),
            password_hash: hash_new_password(PASSWORD).expect("a hash"),
        };
        self.operators().create_operator(new, soon()).await.expect("made");
    }

    async fn admin_login(&self, password: &str) -> Reply {
        let body = json!({"email": EMAIL, "password": password});
        self.call("POST", "/api/admin/login", &body).await
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn token_of(reply: &Reply) -> String {
    assert!(matches!(reply.status, 200 | 201), "{reply:?}");
    assert_eq!(reply.header("cache-control"), "no-store");
    reply.json()["token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn an_operator_signs_in_makes_tokens_and_revokes_them() {
    let site = setup().start().await;
    site.operator().await;
    let wrong = site.admin_login("not it at all").await;
    assert_eq!(wrong.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    let operator = token_of(&site.admin_login(PASSWORD).await);
    // An operator is no account, and an account no operator.
    let as_account = site.login(EMAIL, PASSWORD).await;
    assert_eq!(as_account.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    assert_eq!(
        site.me(&operator).await.refusal(),
        (401, "UNAUTHORIZED".to_owned())
    );

    let ask =
        async |method: &str, path: &str, body: &Json| site.with_token(method, path, &operator, body).await;
    let wanted = json!({"name": "ci", "scopes": ["read:notes", "functions:*"], "expires_in": "90d"});
    let made = ask("POST", "/api/admin/tokens", &wanted).await;
    let token = token_of(&made);
    assert_eq!(made.json()["scopes"], json!(["read:notes", "functions:*"]));
    assert!(made.json()["expires_at"].is_string(), "{made:?}");
    let again = ask("POST", "/api/admin/tokens", &wanted).await;
    assert_eq!(again.refusal(), (409, "TOKEN_EXISTS".to_owned()));
    for (body, code) in [
        (json!({"name": "x"}), "INVALID_SCOPE"),
        (json!({"name": "x", "scopes": ["all"]}), "INVALID_SCOPE"),
        (json!({"scopes": ["admin"]}), "INVALID_TOKEN_NAME"),
        (
            json!({"name": "x", "scopes": ["admin"], "expires_in": "soon"}),
            "INVALID_EXPIRY",
        ),
        (json!({"name": "x", "scopes": "admin"}), "INVALID_JSON"),
    ] {
        let refused = ask("POST", "/api/admin/tokens", &body).await;
        assert_eq!(refused.refusal(), (400, code.to_owned()), "{body}");
    }
    let listed = ask("GET", "/api/admin/tokens", &Json::Null).await;
    assert_eq!((listed.status, &listed.json()["total"]), (200, &json!(1)));
    assert_eq!(listed.json()["tokens"][0]["name"], "ci");
    assert!(!listed.text.contains(&token), "it is shown once");

    let notes = "/api/collections/notes";
    assert_eq!(
        site.with_token("GET", notes, &token, &Json::Null).await.status,
        200
    );
    let gone = ask("DELETE", "/api/admin/tokens/ci", &Json::Null).await;
    assert_eq!(gone.status, 204, "{gone:?}");
    let refused = site.with_token("GET", notes, &token, &Json::Null).await;
    assert_eq!(refused.refusal(), (401, "INVALID_TOKEN".to_owned()));

    let other = json!({"email": "bob@example.com", "password": PASSWORD});
    let made = ask("POST", "/api/admin/operators", &other).await;
    assert_eq!(
        (made.status, &made.json()["email"]),
        (201, &json!("bob@example.com"))
    );
    let listed = ask("GET", "/api/admin/operators", &Json::Null).await;
    assert_eq!(listed.json()["total"], 2);
    assert!(!listed.text.contains("argon2"), "{listed:?}");
    let out = ask("POST", "/api/admin/logout", &Json::Null).await;
    assert_eq!(out.status, 204, "{out:?}");
    let over = ask("GET", "/api/admin/tokens", &Json::Null).await;
    assert_eq!(over.refusal(), (401, "INVALID_TOKEN".to_owned()));
}

#[tokio::test]
async fn operators_need_no_key_that_signs_sessions() {
    let site = Site::start().await;
    site.operator().await;
    let operator = token_of(&site.admin_login(PASSWORD).await);
    let listed = site
        .with_token("GET", "/api/admin/operators", &operator, &Json::Null)
        .await;
    assert_eq!(listed.status, 200, "{listed:?}");
}

#[tokio::test]
async fn guesses_of_an_operators_password_are_counted() {
    let site = setup().start().await;
    site.operator().await;
    for _ in 0..5 {
        let wrong = site.admin_login("a wrong guess").await;
        assert_eq!(wrong.status, 401, "{wrong:?}");
    }
    let refused = site.admin_login(PASSWORD).await;
    assert_eq!(refused.refusal(), (429, "TOO_MANY_ATTEMPTS".to_owned()));
}

#[tokio::test]
async fn a_revoked_token_is_over_within_a_second_on_sockets_and_requests() {
    let mut setup = setup();
    setup.realtime = true;
    let site = setup.start().await;
    let token = site.token("live", "read:notes").await;
    let list = async || {
        site.with_token("GET", "/api/collections/notes", &token, &Json::Null)
            .await
    };
    // Often enough that it is remembered.
    for _ in 0..20 {
        assert_eq!(list().await.status, 200);
    }
    let kept = site.token("kept", "read:notes").await;
    // As another process does, which tells this one nothing.
    let revoke = async || {
        site.operators().revoke("live", soon()).await.expect("revoked");
    };
    let (code, after) = closed_with(&site, &token, revoke).await;
    assert_eq!(code, 4401);
    assert!(after < Duration::from_secs(1), "{after:?}");
    assert_eq!(list().await.refusal(), (401, "INVALID_TOKEN".to_owned()));

    site.operator().await;
    let operator = token_of(&site.admin_login(PASSWORD).await);
    let revoke = async || {
        site.operators().revoke(EMAIL, soon()).await.expect("revoked");
    };
    let (code, after) = closed_with(&site, &operator, revoke).await;
    assert_eq!(code, 4401);
    assert!(after < Duration::from_secs(1), "{after:?}");
    let reply = site
        .with_token("GET", "/api/collections/notes", &kept, &Json::Null)
        .await;
    assert_eq!(reply.status, 200, "others go on");
}

#[tokio::test]
async fn a_socket_ends_when_its_token_expires() {
    let mut setup = setup();
    setup.realtime = true;
    let site = setup.start().await;
    let new = NewToken {
        name: "brief".to_owned(),
        scopes: Scopes::parse(["read:*"]).expect("a scope"),
        expires_in: Some(Duration::from_secs(2)),
    };
    let made = site.operators().create_token(new, soon()).await.expect("made");
    let (code, after) = closed_with(&site, &made.token, async || {}).await;
    assert_eq!(code, 4401);
    assert!(after < Duration::from_secs(5), "{after:?}");
}

#[tokio::test]
async fn the_last_use_of_a_token_is_kept() {
    let site = setup().start().await;
    let token = site.token("ci", "read:notes").await;
    let used = async || {
        let listed = site.operators().list(soon()).await.expect("a list");
        listed.tokens[0].used_at.clone()
    };
    assert_eq!(used().await, None);
    let reply = site
        .with_token("GET", "/api/collections/notes", &token, &Json::Null)
        .await;
    assert_eq!(reply.status, 200);
    let until = soon();
    while used().await.is_none() {
        assert!(Instant::now() < until, "it is not noted");
        tokio::task::yield_now().await;
    }
}
