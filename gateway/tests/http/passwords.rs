//! Passwords: how they are compared, changed and kept.

use std::cell::Cell;
use std::time::{Duration, Instant};

use alyx_core::Value;
use futures_util::future::{join, join_all};
use serde_json::json;

use crate::accounts::{PASSWORD, Tokens, setup};

#[tokio::test]
async fn a_changed_password_ends_the_other_sessions() {
    let site = setup().start().await;
    let (own, other) = (site.register("a@x.io").await, site.sign_in("a@x.io").await);
    let change = async |current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        site.with_token("POST", "/api/auth/password", &own.access, &body)
            .await
    };
    assert_eq!(
        change("wrong horse", "another horse").await.refusal().1,
        "INVALID_CREDENTIALS"
    );
    assert_eq!(change(PASSWORD, "short").await.refusal().1, "PASSWORD_TOO_SHORT");
    assert_eq!(change(PASSWORD, "another horse").await.status, 204);
    assert_eq!(site.me(&own.access).await.status, 200);
    assert_eq!(site.me(&other.access).await.refusal().1, "TOKEN_REVOKED");
    assert_eq!(site.login("a@x.io", PASSWORD).await.status, 401);
    assert_eq!(site.login("a@x.io", "another horse").await.status, 200);
}

#[tokio::test]
async fn a_login_by_the_old_password_does_not_outlive_its_change() {
    let site = setup().start().await;
    let own = site.register("a@x.io").await;
    let changed = Cell::new(false);
    let change = async {
        let body = json!({"current_password": PASSWORD, "new_password": "another horse"});
        let reply = site
            .with_token("POST", "/api/auth/password", &own.access, &body)
            .await;
        changed.set(true);
        reply.status
    };
    let logins = join_all((0..3).map(|_| async {
        let mut let_in = Vec::new();
        while !changed.get() {
            let reply = site.login("a@x.io", PASSWORD).await;
            match reply.status {
                200 => let_in.push(Tokens::of(&reply)),
                status => assert_eq!(status, 401, "{reply:?}"),
            }
        }
        let_in
    }));
    let (status, logins) = join(change, logins).await;
    assert_eq!(status, 204);
    let logins: Vec<Tokens> = logins.into_iter().flatten().collect();
    assert!(!logins.is_empty(), "none was under way");
    for tokens in logins {
        assert_eq!(site.me(&tokens.access).await.refusal().1, "TOKEN_REVOKED");
    }
}

#[tokio::test]
async fn hashes_of_other_systems_are_accepted_and_replaced() {
    let site = setup().start().await;
    let tokens = site.register("a@x.io").await;
    let bcrypt = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    let set = "UPDATE _alyx_users SET password_hash = ?2 WHERE id = ?1";
    let user = Value::text(tokens.user.as_str());
    site.sql(set, vec![user.clone(), Value::text(bcrypt)]).await;
    assert_eq!(site.login("a@x.io", "U*V").await.status, 401);
    assert_eq!(site.login("a@x.io", "U*U").await.status, 200);
    let replaced = "UPDATE _alyx_users SET role = 'user' WHERE id = ?1 AND password_hash LIKE '$argon2id$%'";
    site.sql(replaced, vec![user]).await;
    assert_eq!(site.login("a@x.io", "U*U").await.status, 200);
}

#[tokio::test]
async fn a_storm_of_logins_is_refused_at_once_and_stalls_nobody() {
    let site = setup().start().await;
    site.note("read me", 1).await;
    let storm = (0..250).map(async |number| {
        let began = Instant::now();
        let reply = site.login(&format!("u{number}@x.io"), "wrong horse").await;
        (reply, began.elapsed())
    });
    let reads = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let began = Instant::now();
            assert_eq!(site.get("/api/collections/notes").await.status, 200);
            slowest = slowest.max(began.elapsed());
        }
        slowest
    };
    let (answers, slowest) = join(join_all(storm), reads).await;
    let (busy, looked_at): (Vec<_>, Vec<_>) = answers.iter().partition(|(reply, _)| reply.status == 429);
    assert!(
        !busy.is_empty() && !looked_at.is_empty(),
        "{} refused",
        busy.len()
    );
    for (reply, _) in &busy {
        assert_eq!(reply.refusal().1, "AUTH_BUSY");
        assert_eq!(reply.header("retry-after"), "1");
    }
    assert!(looked_at.iter().all(|(reply, _)| reply.status == 401));
    // The whole storm's hashes take seconds.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // Nobody is locked out by what was not even looked at.
    assert_eq!(site.login("u249@x.io", "wrong horse").await.status, 401);
}
