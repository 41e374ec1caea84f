//! The second factor: that it is asked for whoever comes by whichever way, that a code is good once, and how it goes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alyx_auth::totp_code;
use alyx_core::{Statement, Value};
use alyx_store::{Read, ReadCost};
use futures_util::future::join_all;
use serde_json::{Value as Json, json};

use crate::accounts::{PASSWORD, Tokens, setup};
use crate::mails::{Inbox, code, mailing, token};
use crate::site::{Reply, Site};

const PATH: &str = "/api/auth/second-factor";

/// An account with a second factor.
struct Guarded {
    tokens: Tokens,
    secret: String,
    recovery: Vec<String>,
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// What the app shows now, or soon: a code of the step after this one is good already.
fn shown(secret: &str, later: u64) -> String {
    totp_code(secret, now() + later).expect("a secret")
}

impl Site {
    async fn own(&self, method: &str, action: &str, access: &str, body: Json) -> Reply {
        self.with_token(method, &format!("{PATH}{action}"), access, &body)
            .await
    }

    async fn enrol(&self, access: &str) -> String {
        let enrolled = self.own("POST", "", access, json!({"password": PASSWORD})).await;
        assert_eq!(enrolled.status, 200, "{enrolled:?}");
        assert_eq!(enrolled.header("cache-control"), "no-store");
        enrolled.json()["secret"].as_str().expect("a secret").to_owned()
    }

    async fn guard(&self, email: &str) -> Guarded {
        let tokens = self.register(email).await;
        let secret = self.enrol(&tokens.access).await;
        let recovery = self.confirm(&tokens.access, &secret).await;
        Guarded {
            tokens,
            secret,
            recovery,
        }
    }

    async fn confirm(&self, access: &str, secret: &str) -> Vec<String> {
        let body = json!({"code": shown(secret, 0)});
        let confirmed = self.own("POST", "/confirm", access, body).await;
        assert_eq!(confirmed.status, 200, "{confirmed:?}");
        let codes = confirmed.json()["recovery_codes"].clone();
        serde_json::from_value(codes).expect("codes")
    }

    /// Signs in with the password, as far as that goes.
    async fn challenge(&self, email: &str) -> String {
        challenge_of(&self.login(email, PASSWORD).await)
    }

    async fn answer(&self, challenge: &str, code: &str) -> Reply {
        let body = json!({"challenge": challenge, "code": code});
        self.post("second-factor/login", body).await
    }

    /// As if no code had been used yet: tests are quicker than the clock.
    async fn unused(&self) {
        let sql = "UPDATE _alyx_second_factors SET last_step = 0 WHERE last_step >= 0";
        self.sql(sql, Vec::new()).await;
    }

    async fn value(&self, sql: &str) -> Value {
        let read = Read {
            statements: vec![Statement::new(sql, Vec::new())],
            cost: ReadCost::Scan,
            deadline: Instant::now() + Duration::from_secs(10),
        };
        let reply = self.store.read(read).await.expect("read");
        let row = reply.results[0].rows.first().expect("a row");
        row.first().expect("a value").clone()
    }

    async fn sessions(&self) -> i64 {
        let count = self.value("SELECT count(*) FROM _alyx_sessions").await;
        count.as_int().expect("a count")
    }
}

#[track_caller]
fn challenge_of(reply: &Reply) -> String {
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(reply.header("cache-control"), "no-store");
    let body = reply.json();
    let members: Vec<&String> = body.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["second_factor_required", "challenge", "expires_at"]);
    body["challenge"].as_str().expect("a challenge").to_owned()
}

#[tokio::test]
async fn a_second_factor_is_enrolled_confirmed_and_asked_for() {
    let mut setup = setup();
    setup.config.auth.second_factor_issuer = "My app".to_owned();
    let site = setup.start().await;
    let tokens = site.register("a@x.io").await;
    let enrolled = site
        .own("POST", "", &tokens.access, json!({"password": PASSWORD}))
        .await;
    let secret = enrolled.json()["secret"].as_str().expect("a secret").to_owned();
    let uri = format!("otpauth://totp/My%20app:a%40x.io?secret={secret}&issuer=My%20app");
    assert!(
        enrolled.json()["uri"].as_str().expect("a URI").starts_with(&uri),
        "{enrolled:?}"
    );
    // It is asked for once a first code has shown that there is an app.
    site.sign_in("a@x.io").await;
    let off = json!({"enabled": false, "enabled_at": null, "recovery_codes": 0});
    assert_eq!(site.own("GET", "", &tokens.access, Json::Null).await.json(), off);
    let wrong = site
        .own("POST", "/confirm", &tokens.access, json!({"code": "000000"}))
        .await;
    assert_eq!(wrong.refusal(), (401, "INVALID_CODE".to_owned()));
    let recovery = site.confirm(&tokens.access, &secret).await;
    assert_eq!(recovery.len(), 10);
    let again = site
        .own("POST", "", &tokens.access, json!({"password": PASSWORD}))
        .await;
    assert_eq!(again.refusal(), (409, "SECOND_FACTOR_ENABLED".to_owned()));
    assert_eq!(site.me(&tokens.access).await.status, 200, "sessions go on");

    let challenge = site.challenge("a@x.io").await;
    assert_eq!(site.me(&challenge).await.refusal().1, "INVALID_TOKEN");
    let signed_in = site.answer(&challenge, &shown(&secret, 30)).await;
    assert_eq!(signed_in.status, 200, "{signed_in:?}");
    let access = Tokens::of(&signed_in).access;
    let on = site.own("GET", "", &access, Json::Null).await.json();
    assert_eq!(
        (&on["enabled"], &on["recovery_codes"]),
        (&json!(true), &json!(10))
    );
    let typed = recovery[0].to_lowercase().replace('-', " ");
    let challenge = site.challenge("a@x.io").await;
    assert_eq!(site.answer(&challenge, &typed).await.status, 200);
    let left = site.own("GET", "", &access, Json::Null).await;
    assert_eq!(left.json()["recovery_codes"], 9);

    // What is kept tells nobody anything.
    let kept = site.value("SELECT secret FROM _alyx_second_factors").await;
    assert!(!kept.as_text().expect("text").contains(&secret));
    let digest = site.value("SELECT digest FROM _alyx_recovery_codes").await;
    assert!(matches!(digest, Value::Blob(bytes) if bytes.len() == 32));
}

#[tokio::test]
async fn no_way_of_signing_in_passes_by_the_second_factor() {
    let (inbox, port) = Inbox::start().await;
    let site = mailing(port).start().await;
    let guarded = site.guard("a@x.io").await;
    let secret = token(&inbox.mail("a@x.io", "Confirm").await);
    assert_eq!(site.post("verify", json!({"token": secret})).await.status, 204);
    let before = site.sessions().await;
    site.challenge("a@x.io").await;
    site.post("magic-link", json!({"email": "a@x.io"})).await;
    let link = token(&inbox.mail("a@x.io", "Sign in").await);
    challenge_of(&site.post("magic-link/login", json!({"token": link})).await);
    site.post("magic-link", json!({"email": "a@x.io"})).await;
    let code = code(&inbox.mail("a@x.io", "with the code").await);
    let by_code = site
        .post("magic-link/login", json!({"email": "a@x.io", "code": code}))
        .await;
    let challenge = challenge_of(&by_code);
    assert_eq!(site.sessions().await, before, "no session was made");
    assert_eq!(site.answer(&challenge, &guarded.recovery[0]).await.status, 200);
    assert_eq!(site.sessions().await, before + 1);

    // Setting another password is no way around, and nobody's who had the one before.
    let challenge = site.challenge("a@x.io").await;
    site.post("password/forgot", json!({"email": "a@x.io"})).await;
    let secret = token(&inbox.mail("a@x.io", "/auth/reset?token=").await);
    let body = json!({"token": secret, "password": "another horse"});
    assert_eq!(site.post("password/reset", body).await.status, 204);
    let stale = site.answer(&challenge, &guarded.recovery[1]).await;
    assert_eq!(stale.refusal(), (401, "CHALLENGE_INVALID".to_owned()));
    challenge_of(&site.login("a@x.io", "another horse").await);
}

#[tokio::test]
async fn of_a_hundred_uses_of_a_code_one_gets_a_session() {
    let site = setup().start().await;
    for (email, by_app) in [("a@x.io", true), ("b@x.io", false)] {
        let guarded = site.guard(email).await;
        let code = match by_app {
            true => shown(&guarded.secret, 30),
            false => guarded.recovery[0].clone(),
        };
        let mut challenges = Vec::new();
        for _ in 0..20 {
            challenges.push(site.challenge(email).await);
        }
        let before = site.sessions().await;
        let uses = challenges.iter().cycle().take(100);
        let uses = join_all(uses.map(|challenge| site.answer(challenge, &code))).await;
        let good = uses.iter().filter(|reply| reply.status == 200).count();
        assert_eq!((good, site.sessions().await - before), (1, 1), "{email}");
        for refused in uses.iter().filter(|reply| reply.status != 200) {
            let code = refused.refusal().1;
            let expected = ["INVALID_CODE", "CHALLENGE_INVALID", "TOO_MANY_ATTEMPTS"];
            assert!(expected.contains(&code.as_str()), "{code}");
        }
    }
}

#[tokio::test]
async fn a_challenge_is_good_once_whatever_codes_there_are() {
    let site = setup().start().await;
    let guarded = site.guard("a@x.io").await;
    let (challenge, before) = (site.challenge("a@x.io").await, site.sessions().await);
    let codes = &guarded.recovery[..4];
    let uses = join_all(codes.iter().map(|code| site.answer(&challenge, code))).await;
    let good = uses.iter().filter(|reply| reply.status == 200).count();
    assert_eq!((good, site.sessions().await - before), (1, 1), "{uses:?}");
    let again = site.answer(&challenge, &guarded.recovery[4]).await;
    assert_eq!(again.refusal(), (401, "CHALLENGE_INVALID".to_owned()));
    let left = site.value("SELECT count(*) FROM _alyx_recovery_codes").await;
    assert_eq!(left, Value::Int(9), "codes that let nobody in are still good");
    let challenge = site.challenge("a@x.io").await;
    let sql = "UPDATE _alyx_auth_challenges SET expires_at = 1 WHERE expires_at > 1";
    site.sql(sql, Vec::new()).await;
    let old = site.answer(&challenge, &guarded.recovery[4]).await;
    assert_eq!(old.refusal(), (401, "CHALLENGE_INVALID".to_owned()));
}

#[tokio::test]
async fn a_code_of_the_app_is_good_once_whatever_for() {
    let site = setup().start().await;
    let tokens = site.register("a@x.io").await;
    let secret = site.enrol(&tokens.access).await;
    let first = shown(&secret, 0);
    let confirmed = site
        .own("POST", "/confirm", &tokens.access, json!({"code": first}))
        .await;
    assert_eq!(confirmed.status, 200, "{confirmed:?}");
    let challenge = site.challenge("a@x.io").await;
    assert_eq!(
        site.answer(&challenge, &first).await.refusal(),
        (401, "INVALID_CODE".to_owned())
    );
    let next = shown(&secret, 30);
    let renewed = site
        .own("POST", "/recovery-codes", &tokens.access, json!({"code": next}))
        .await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    for used in [&first, &next] {
        assert_eq!(site.answer(&challenge, used).await.refusal().1, "INVALID_CODE");
        let refused = site
            .own("DELETE", "", &tokens.access, json!({"code": used}))
            .await;
        assert_eq!(refused.refusal(), (401, "INVALID_CODE".to_owned()));
    }
    // Those that were replaced are no longer good.
    let old = &confirmed.json()["recovery_codes"][0];
    site.limits_are_forgotten(&tokens, &renewed).await;
    let challenge = site.challenge("a@x.io").await;
    let refused = site.answer(&challenge, old.as_str().expect("a code")).await;
    assert_eq!(refused.refusal(), (401, "INVALID_CODE".to_owned()));
}

impl Site {
    /// Wrong codes no longer count once a right one was shown.
    async fn limits_are_forgotten(&self, tokens: &Tokens, renewed: &Reply) {
        let code = &renewed.json()["recovery_codes"][1];
        let shown = self
            .own("POST", "/recovery-codes", &tokens.access, json!({"code": code}))
            .await;
        assert_eq!(shown.status, 200, "{shown:?}");
    }
}

#[tokio::test]
async fn guesses_run_out_for_a_challenge_and_for_an_account() {
    let site = setup().start().await;
    let guarded = site.guard("a@x.io").await;
    let wrong = async |challenge: &str| site.answer(challenge, "AAAA-AAAA-AAAA-AAAA").await.refusal();
    let (first, second) = (site.challenge("a@x.io").await, site.challenge("a@x.io").await);
    for _ in 0..3 {
        assert_eq!(wrong(&first).await, (401, "INVALID_CODE".to_owned()));
    }
    assert_eq!(site.answer(&second, &guarded.recovery[0]).await.status, 200);
    for _ in 0..2 {
        assert_eq!(wrong(&first).await, (401, "INVALID_CODE".to_owned()));
    }
    let spent = site.answer(&first, &guarded.recovery[1]).await;
    assert_eq!(spent.refusal(), (401, "CHALLENGE_INVALID".to_owned()));

    // Nor does it help to sign in again and again, and all at once.
    let third = site.challenge("a@x.io").await;
    assert_eq!(site.answer(&third, &guarded.recovery[1]).await.status, 200);
    let mut challenges = Vec::new();
    for _ in 0..10 {
        challenges.push(site.challenge("a@x.io").await);
    }
    let mut codes: Vec<String> = join_all(challenges.iter().map(async |challenge| wrong(challenge).await.1))
        .await
        .into_iter()
        .collect();
    codes.sort();
    let expected = [vec!["INVALID_CODE"; 5], vec!["TOO_MANY_ATTEMPTS"; 5]].concat();
    assert_eq!(codes, expected);
    let locked = site.answer(&challenges[0], &guarded.recovery[2]).await;
    assert_eq!(locked.refusal(), (429, "TOO_MANY_ATTEMPTS".to_owned()));
}

#[tokio::test]
async fn it_is_changed_by_whoever_knows_the_password_or_has_a_code_alone() {
    let site = setup().start().await;
    let guarded = site.guard("a@x.io").await;
    let access = &guarded.tokens.access;
    for (body, status, code) in [
        (json!({}), 400, "PASSWORD_REQUIRED"),
        (json!({"password": "wrong horse"}), 401, "INVALID_CREDENTIALS"),
        (json!({"code": "000000"}), 401, "INVALID_CODE"),
        (json!({"code": "AAAA-AAAA-AAAA-AAAA"}), 401, "INVALID_CODE"),
        (
            json!({"password": PASSWORD, "code": "000000"}),
            401,
            "INVALID_CODE",
        ),
    ] {
        let removed = site.own("DELETE", "", access, body.clone()).await;
        assert_eq!(removed.refusal(), (status, code.to_owned()), "{body}");
    }
    let strange = site.register("b@x.io").await;
    for (method, action) in [("DELETE", ""), ("POST", "/recovery-codes"), ("POST", "/confirm")] {
        let body = json!({"password": PASSWORD, "code": guarded.recovery[0]});
        let none = site.own(method, action, &strange.access, body).await;
        assert_eq!(none.refusal(), (404, "SECOND_FACTOR_NOT_FOUND".to_owned()));
    }
    let by_password = site
        .own("POST", "/recovery-codes", access, json!({"password": PASSWORD}))
        .await;
    assert_eq!(by_password.status, 200, "{by_password:?}");
    let waiting = site.challenge("a@x.io").await;
    let code = &by_password.json()["recovery_codes"][0];
    let removed = site.own("DELETE", "", access, json!({"code": code})).await;
    assert_eq!((removed.status, removed.text.as_str()), (204, ""));
    let over = site.answer(&waiting, &shown(&guarded.secret, 30)).await;
    assert_eq!(over.refusal(), (401, "CHALLENGE_INVALID".to_owned()));
    let tokens = site.sign_in("a@x.io").await;
    // A thief of a session enrols nothing either.
    let refused = site.own("POST", "", &tokens.access, json!({})).await;
    assert_eq!(refused.refusal(), (400, "PASSWORD_REQUIRED".to_owned()));
    let secret = site.enrol(&tokens.access).await;
    site.confirm(&tokens.access, &secret).await;
    site.unused().await;
    let challenge = site.challenge("a@x.io").await;
    assert_eq!(
        site.answer(&challenge, &shown(&guarded.secret, 0)).await.status,
        401,
        "the secret of before"
    );
    assert_eq!(site.answer(&challenge, &shown(&secret, 0)).await.status, 200);
}

#[tokio::test]
async fn a_changed_password_ends_sign_ins_that_wait_for_the_second_factor() {
    let site = setup().start().await;
    let guarded = site.guard("a@x.io").await;
    let access = &guarded.tokens.access;
    let waiting = site.challenge("a@x.io").await;
    let body = json!({"current_password": PASSWORD, "new_password": "another horse"});
    let changed = site.with_token("POST", "/api/auth/password", access, &body).await;
    assert_eq!(changed.status, 204, "{changed:?}");
    let late = site.answer(&waiting, &guarded.recovery[0]).await;
    assert_eq!(late.refusal(), (401, "CHALLENGE_INVALID".to_owned()));
    let waiting = challenge_of(&site.login("a@x.io", "another horse").await);
    let ended = site
        .with_token("DELETE", "/api/auth/sessions", access, &Json::Null)
        .await;
    assert_eq!(ended.status, 204, "{ended:?}");
    let late = site.answer(&waiting, &guarded.recovery[0]).await;
    assert_eq!(late.refusal(), (401, "CHALLENGE_INVALID".to_owned()));
}

/// A stranger makes an account with somebody's address and a second factor of their own.
#[tokio::test]
async fn a_strangers_second_factor_keeps_nobody_out_of_their_address() {
    let (inbox, port) = Inbox::start().await;
    let site = mailing(port).start().await;
    for (email, by_link) in [("a@x.io", true), ("b@x.io", false)] {
        let stranger = site.guard(email).await;
        let waiting = site.challenge(email).await;
        if by_link {
            site.post("magic-link", json!({"email": email})).await;
            let secret = token(&inbox.mail(email, "Sign in").await);
            let owner = site.post("magic-link/login", json!({"token": secret})).await;
            assert_eq!(Tokens::of(&owner).user, stranger.tokens.user);
        } else {
            site.post("password/forgot", json!({"email": email})).await;
            let secret = token(&inbox.mail(email, "/auth/reset?token=").await);
            let body = json!({"token": secret, "password": "another horse"});
            assert_eq!(site.post("password/reset", body).await.status, 204);
            let owner = site.login(email, "another horse").await;
            assert_eq!(owner.status, 200, "{owner:?}");
        }
        let late = site.answer(&waiting, &stranger.recovery[0]).await;
        assert_eq!(late.refusal(), (401, "CHALLENGE_INVALID".to_owned()), "{email}");
        assert_eq!(site.me(&stranger.tokens.access).await.status, 401, "{email}");
    }
}

#[tokio::test]
async fn an_operator_takes_it_from_whoever_has_lost_everything() {
    let site = setup().start().await;
    let admin = site.token("ci", "admin").await;
    for by_id in [false, true] {
        let email = if by_id { "a@x.io" } else { "b@x.io" };
        let guarded = site.guard(email).await;
        let who = if by_id { &guarded.tokens.user } else { "B@x.io" };
        let path = format!("/api/admin/second-factors/{who}");
        let removed = site.with_token("DELETE", &path, &admin, &Json::Null).await;
        assert_eq!(removed.status, 204, "{removed:?}");
        site.sign_in(email).await;
        let none = site.with_token("DELETE", &path, &admin, &Json::Null).await;
        assert_eq!(none.refusal(), (404, "SECOND_FACTOR_NOT_FOUND".to_owned()));
    }
}

#[tokio::test]
async fn without_a_password_a_sign_in_of_just_now_stands_for_it() {
    let site = setup().start().await;
    let guarded = site.guard("a@x.io").await;
    let no_password = "UPDATE _alyx_users SET password_hash = NULL WHERE email = 'a@x.io'";
    site.sql(no_password, Vec::new()).await;
    let access = &guarded.tokens.access;
    let renewed = site.own("POST", "/recovery-codes", access, json!({})).await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    let code = renewed.json()["recovery_codes"][0].clone();
    let older = "UPDATE _alyx_sessions SET created_at = '2026-01-01T00:00:00.000Z' WHERE user_id IS NOT NULL";
    site.sql(older, Vec::new()).await;
    // Refreshing is no signing in.
    let refreshed = Tokens::of(&site.refresh(&guarded.tokens.refresh).await).access;
    for (method, action) in [("POST", "/recovery-codes"), ("DELETE", "")] {
        for body in [json!({}), json!({"password": PASSWORD})] {
            let refused = site.own(method, action, &refreshed, body).await;
            assert_eq!(refused.refusal(), (403, "FRESH_SIGN_IN_REQUIRED".to_owned()));
        }
    }
    let removed = site.own("DELETE", "", &refreshed, json!({"code": code})).await;
    assert_eq!(removed.status, 204, "{removed:?}");
    let refused = site.own("POST", "", &refreshed, json!({})).await;
    assert_eq!(refused.refusal(), (403, "FRESH_SIGN_IN_REQUIRED".to_owned()));
}
