//! Anonymous accounts: what they may become, what they never are, and their end.

use std::time::{Duration, Instant};

use alyx_config::RateLimit;
use alyx_core::Value;
use futures_util::future::join_all;
use serde_json::{Value as Json, json};

use crate::accounts::{PASSWORD, Tokens, closed_with, setup};
use crate::site::{Reply, Setup, Site};

fn open() -> Setup {
    let mut setup = setup();
    setup.config.auth.allow_anonymous = true;
    setup
}

impl Site {
    async fn nobody(&self) -> Tokens {
        let reply = self.post("anonymous", json!({})).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        Tokens::of(&reply)
    }

    async fn upgrade(&self, access: &str, email: &str) -> Reply {
        let body = json!({"email": email, "password": PASSWORD});
        self.with_token("POST", "/api/auth/anonymous/upgrade", access, &body)
            .await
    }

    async fn delete_me(&self, access: &str, body: &Json) -> Reply {
        self.with_token("DELETE", "/api/auth/me", access, body).await
    }
}

#[tokio::test]
async fn nobody_has_an_anonymous_account_unless_the_server_is_told_to() {
    let site = setup().start().await;
    let refused = site.post("anonymous", json!({})).await;
    assert_eq!(refused.refusal(), (403, "ANONYMOUS_DISABLED".to_owned()));
    let mut few = open();
    few.config.auth.register_limit = RateLimit {
        max: 2,
        window: Duration::from_secs(600),
    };
    let site = few.start().await;
    let made = join_all((0..4).map(|_| site.post("anonymous", json!({})))).await;
    let mut statuses: Vec<u16> = made.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 201, 429, 429], "they count as registrations");
}

#[tokio::test]
async fn an_anonymous_account_becomes_real_and_stays_the_same() {
    let site = open().start().await;
    let made = site
        .post("anonymous", json!({"metadata": {"theme": "dark"}}))
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    let user = made.json()["user"].clone();
    assert_eq!(
        (&user["role"], &user["email"], &user["verified"]),
        (&json!("anonymous"), &Json::Null, &json!(false))
    );
    let tokens = Tokens::of(&made);
    let other = Tokens::of(&site.refresh(&site.nobody().await.refresh).await);
    assert_eq!(site.me(&tokens.access).await.json(), user);

    site.register("taken@x.io").await;
    let taken = site.upgrade(&tokens.access, "taken@x.io").await;
    assert_eq!(taken.refusal(), (409, "USER_EXISTS".to_owned()));
    let body = json!({"email": "a@x.io", "password": "short"});
    let path = "/api/auth/anonymous/upgrade";
    let short = site.with_token("POST", path, &tokens.access, &body).await;
    assert_eq!(short.refusal(), (400, "PASSWORD_TOO_SHORT".to_owned()));
    let upgraded = site.upgrade(&tokens.access, "A@x.io").await;
    assert_eq!(upgraded.status, 200, "{upgraded:?}");
    let real = upgraded.json();
    assert_eq!((&real["id"], &real["role"]), (&user["id"], &json!("user")));
    assert_eq!(
        (&real["email"], &real["metadata"]["theme"]),
        (&json!("a@x.io"), &json!("dark"))
    );
    assert_eq!(site.sign_in("a@x.io").await.user, tokens.user);
    assert_eq!(site.me(&tokens.access).await.json()["role"], "user");
    let again = site.upgrade(&tokens.access, "b@x.io").await;
    assert_eq!(again.refusal(), (409, "NOT_ANONYMOUS".to_owned()));
    assert_eq!(site.me(&other.access).await.json()["role"], "anonymous");
}

#[tokio::test]
async fn of_many_upgrades_one_succeeds_and_only_its_session_goes_on() {
    let site = open().start().await;
    let tokens = site.nobody().await;
    // A session that somebody else may have got hold of; an anonymous account gets no second one by itself.
    let copy = "INSERT INTO _alyx_sessions (id, user_id, refresh_digest, created_at, used_at, expires_at) \
                SELECT 'stolen', user_id, x'00', created_at, used_at, expires_at FROM _alyx_sessions";
    site.sql(copy, Vec::new()).await;
    let tries =
        join_all((0..10).map(async |number| site.upgrade(&tokens.access, &format!("u{number}@x.io")).await));
    let tries = tries.await;
    let good = tries.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(good, 1, "{tries:?}");
    for refused in tries.iter().filter(|reply| reply.status != 200) {
        assert_eq!(refused.refusal(), (409, "NOT_ANONYMOUS".to_owned()));
    }
    let listed = site
        .with_token("GET", "/api/auth/sessions", &tokens.access, &Json::Null)
        .await;
    assert_eq!(
        listed.json()["sessions"].as_array().map(Vec::len),
        Some(1),
        "{listed:?}"
    );
}

#[tokio::test]
async fn an_open_socket_is_not_anonymous_any_more_within_a_second() {
    let mut setup = open();
    setup.realtime = true;
    let site = setup.start().await;
    let tokens = site.nobody().await;
    let upgrade = async || {
        assert_eq!(site.upgrade(&tokens.access, "a@x.io").await.status, 200);
    };
    let (code, after) = closed_with(&site, &tokens.access, upgrade).await;
    assert_eq!(code, 4401);
    assert!(after < Duration::from_secs(1), "{after:?}");
}

#[tokio::test]
async fn an_anonymous_account_is_never_the_first_one() {
    let mut closed = open();
    closed.config.auth.allow_registration = false;
    let site = closed.start().await;
    let (early, late) = (site.nobody().await, site.nobody().await);
    let status = site.get("/api/auth/status").await.json();
    assert_eq!(status["needs_setup"], true, "{status}");
    site.register("first@x.io").await;
    let status = site.get("/api/auth/status").await.json();
    assert_eq!(status["needs_setup"], false, "{status}");
    for tokens in [early, late] {
        let refused = site.upgrade(&tokens.access, "b@x.io").await;
        assert_eq!(refused.refusal(), (403, "REGISTRATION_CLOSED".to_owned()));
        assert_eq!(site.me(&tokens.access).await.json()["role"], "anonymous");
    }
}

#[tokio::test]
async fn what_nobody_uses_any_more_is_removed_and_nothing_else() {
    let mut setup = open();
    setup.config.auth.anonymous_ttl = Duration::from_secs(3600);
    let site = setup.start().await;
    let (unused, used, real) = (site.nobody().await, site.nobody().await, site.nobody().await);
    assert_eq!(site.upgrade(&real.access, "a@x.io").await.status, 200);
    let age = "UPDATE _alyx_users SET updated_at = '2026-01-01T00:00:00.000Z' WHERE id = ?1";
    for tokens in [&unused, &used, &real] {
        site.sql(age, vec![Value::text(tokens.user.as_str())]).await;
    }
    let used = Tokens::of(&site.refresh(&used.refresh).await);
    site.nobody().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while site.me(&unused.access).await.status != 401 {
        assert!(Instant::now() < deadline, "it is never removed");
    }
    assert_eq!(site.refresh(&unused.refresh).await.status, 401);
    assert_eq!(site.me(&used.access).await.json()["role"], "anonymous");
    assert_eq!(site.me(&real.access).await.json()["email"], "a@x.io");
}

#[tokio::test]
async fn an_account_without_a_password_is_deleted_by_whoever_has_just_signed_in() {
    let site = open().start().await;
    let nobody = site.nobody().await;
    let tokens = site.register("a@x.io").await;
    let user = || vec![Value::text(tokens.user.as_str())];
    let missing = site.delete_me(&tokens.access, &json!({})).await;
    assert_eq!(missing.refusal(), (400, "PASSWORD_REQUIRED".to_owned()));
    site.sql(
        "UPDATE _alyx_users SET password_hash = NULL WHERE id = ?1",
        user(),
    )
    .await;
    let older = "UPDATE _alyx_sessions SET created_at = '2026-01-01T00:00:00.000Z' WHERE user_id IS NOT NULL";
    site.sql(older, Vec::new()).await;
    for body in [json!({}), json!({"password": ""}), json!({"password": PASSWORD})] {
        let refused = site.delete_me(&tokens.access, &body).await;
        assert_eq!(
            refused.refusal(),
            (403, "FRESH_SIGN_IN_REQUIRED".to_owned()),
            "{body}"
        );
    }
    let now =
        "UPDATE _alyx_sessions SET created_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE user_id = ?1";
    site.sql(now, user()).await;
    assert_eq!(site.delete_me(&tokens.access, &json!({})).await.status, 204);
    assert_eq!(site.me(&tokens.access).await.refusal().1, "TOKEN_REVOKED");
    // To an anonymous account nobody can sign in again.
    assert_eq!(site.delete_me(&nobody.access, &json!({})).await.status, 204);
    assert_eq!(site.me(&nobody.access).await.refusal().1, "TOKEN_REVOKED");
}
