//! Accounts and sessions: what they answer, and what must not work.

use std::time::{Duration, Instant};

use alyx_config::{RateLimit, Secret};
use alyx_core::{Statement, Value};
use alyx_store::{Expect, Write, WriteStep};
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value as Json, json};
use tokio_tungstenite::tungstenite::Message;

use crate::site::{Reply, Setup, Site};

pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) fn setup() -> Setup {
    let mut setup = Setup::default();
    let auth = &mut setup.config.auth;
    auth.jwt.secret = Some(Secret::new("a secret of the test, of 32 bytes"));
    let plenty = RateLimit {
        max: 100_000,
        window: Duration::from_secs(60),
    };
    auth.login_limit = plenty;
    auth.register_limit = plenty;
    setup
}

async fn start() -> Site {
    setup().start().await
}

impl Site {
    pub(crate) async fn post(&self, action: &str, body: Json) -> Reply {
        self.call("POST", &format!("/api/auth/{action}"), &body).await
    }

    pub(crate) async fn login(&self, email: &str, password: &str) -> Reply {
        self.post("login", json!({"email": email, "password": password}))
            .await
    }

    pub(crate) async fn register(&self, email: &str) -> Tokens {
        let reply = self
            .post("register", json!({"email": email, "password": PASSWORD}))
            .await;
        assert_eq!(reply.status, 201, "{reply:?}");
        Tokens::of(&reply)
    }

    pub(crate) async fn sign_in(&self, email: &str) -> Tokens {
        let reply = self.login(email, PASSWORD).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        Tokens::of(&reply)
    }

    pub(crate) async fn refresh(&self, token: &str) -> Reply {
        self.post("refresh", json!({"refresh_token": token})).await
    }

    pub(crate) async fn with_token(&self, method: &str, path: &str, token: &str, body: &Json) -> Reply {
        let request = self
            .request(method, path)
            .header("authorization", format!("Bearer {token}"));
        self.send(request, body.to_string()).await
    }

    pub(crate) async fn me(&self, token: &str) -> Reply {
        self.with_token("GET", "/api/auth/me", token, &Json::Null).await
    }

    pub(crate) async fn sql(&self, sql: &str, params: Vec<Value>) {
        let write = Write {
            steps: vec![WriteStep {
                statement: Statement::new(sql, params),
                expect: Expect::Row,
            }],
            deadline: Instant::now() + Duration::from_secs(10),
        };
        self.store.write(write).await.expect("written");
    }
}

pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) user: String,
}

impl Tokens {
    pub(crate) fn of(reply: &Reply) -> Self {
        let body = reply.json();
        let text = |json: &Json| json.as_str().expect("text").to_owned();
        assert_eq!(body["tokens"]["token_type"], "Bearer");
        for key in ["access_token", "refresh_token", "expires_at", "token_type"] {
            assert_eq!(body[key], body["tokens"][key], "{key}");
        }
        assert_eq!(reply.header("cache-control"), "no-store");
        Self {
            access: text(&body["access_token"]),
            refresh: text(&body["refresh_token"]),
            user: text(&body["user"]["id"]),
        }
    }
}

#[tokio::test]
async fn an_account_lives_from_registration_to_deletion() {
    let site = start().await;
    let status = site.get("/api/auth/status").await.json();
    assert_eq!(status, json!({"needs_setup": true, "allow_registration": true}));
    let body = json!({"email": " Bob@X.io ", "password": PASSWORD, "metadata": {"plan": "pro"}});
    let made = site.post("register", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let user = made.json()["user"].clone();
    assert_eq!(user["email"], "bob@x.io");
    assert_eq!(
        (&user["role"], &user["verified"]),
        (&json!("user"), &json!(false))
    );
    assert_eq!(user["metadata"], json!({"plan": "pro"}));
    assert!(user.get("password_hash").is_none(), "{user}");
    assert_eq!(site.get("/api/auth/status").await.json()["needs_setup"], false);

    let first = Tokens::of(&made);
    assert_eq!(site.me(&first.access).await.json(), user);
    let second = Tokens::of(&site.login("BOB@x.io", PASSWORD).await);
    let listed = site
        .with_token("GET", "/api/auth/sessions", &second.access, &Json::Null)
        .await;
    let sessions = listed.json()["sessions"].as_array().expect("a list").clone();
    assert_eq!(sessions.len(), 2);
    let current: Vec<&Json> = sessions.iter().map(|session| &session["current"]).collect();
    assert!(
        current.contains(&&json!(true)) && current.contains(&&json!(false)),
        "{sessions:?}"
    );
    assert_eq!(sessions[0]["ip_address"], "127.0.0.1");

    let deleted = json!({"password": PASSWORD});
    let wrong = json!({"password": "wrong horse"});
    let refused = site
        .with_token("DELETE", "/api/auth/me", &first.access, &wrong)
        .await;
    assert_eq!(refused.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    let gone = site
        .with_token("DELETE", "/api/auth/me", &first.access, &deleted)
        .await;
    assert_eq!(gone.status, 204, "{gone:?}");
    let after = site.login("bob@x.io", PASSWORD).await;
    assert_eq!(after.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    assert_eq!(
        site.refresh(&second.refresh).await.refusal().1,
        "SESSION_NOT_FOUND"
    );
}

#[tokio::test]
async fn unusable_registrations_are_refused_by_name() {
    let mut setup = setup();
    setup.config.server.max_body_size = 1 << 20;
    let site = setup.start().await;
    site.register("taken@x.io").await;
    let check = async |body: Json, status: u16, code: &str| {
        let reply = site.post("register", body).await;
        assert_eq!(reply.refusal(), (status, code.to_owned()));
        assert!(!reply.text.contains(PASSWORD), "{reply:?}");
    };
    check(json!({"password": PASSWORD}), 400, "EMAIL_REQUIRED").await;
    check(json!({"email": "a@x.io"}), 400, "PASSWORD_REQUIRED").await;
    check(
        json!({"email": "no address", "password": PASSWORD}),
        400,
        "INVALID_EMAIL",
    )
    .await;
    check(
        json!({"email": "a@x.io", "password": "short"}),
        400,
        "PASSWORD_TOO_SHORT",
    )
    .await;
    check(
        json!({"email": "TAKEN@x.io", "password": PASSWORD}),
        409,
        "USER_EXISTS",
    )
    .await;
    check(json!([1]), 400, "INVALID_JSON").await;
    check(
        json!({"email": "a@x.io", "password": {"$ne": 1}}),
        400,
        "INVALID_JSON",
    )
    .await;
    let large = json!({"email": "a@x.io", "password": PASSWORD, "metadata": {"a": "b".repeat(20_000)}});
    check(large, 400, "INVALID_METADATA").await;
    let larger = json!({"email": "a@x.io", "password": "p".repeat(70_000)});
    check(larger, 413, "PAYLOAD_TOO_LARGE").await;
    // Nothing that is deep is unfolded before anybody is known.
    let deep = format!("{{\"email\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let reply = site.send(site.request("POST", "/api/auth/login"), deep).await;
    assert_eq!(reply.refusal(), (400, "INVALID_JSON".to_owned()));
}

#[tokio::test]
async fn a_closed_registration_lets_the_first_account_in_and_no_other() {
    let mut setup = setup();
    setup.config.auth.allow_registration = false;
    let site = setup.start().await;
    let first = site.register("first@x.io").await;
    assert_eq!(site.me(&first.access).await.json()["role"], "user");
    let second = site
        .post("register", json!({"email": "b@x.io", "password": PASSWORD}))
        .await;
    assert_eq!(second.refusal(), (403, "REGISTRATION_CLOSED".to_owned()));
}

#[tokio::test]
async fn where_addresses_must_be_verified_nobody_gets_tokens_before() {
    let mut setup = setup();
    setup.config.auth.require_verification = true;
    let site = setup.start().await;
    let made = site
        .post("register", json!({"email": "a@x.io", "password": PASSWORD}))
        .await;
    assert_eq!(made.status, 202, "{made:?}");
    assert_eq!(made.json(), json!({"email": "a@x.io"}));
    let again = site
        .post(
            "register",
            json!({"email": "A@x.io", "password": "another horse"}),
        )
        .await;
    assert_eq!(
        (again.status, again.text),
        (made.status, made.text),
        "nobody learns who is registered"
    );
    let refused = site.login("a@x.io", PASSWORD).await;
    assert_eq!(refused.refusal(), (403, "EMAIL_NOT_VERIFIED".to_owned()));
    let unknown = site.login("a@x.io", "wrong horse").await;
    assert_eq!(
        unknown.refusal(),
        (401, "INVALID_CREDENTIALS".to_owned()),
        "only its owner is told"
    );
    site.sql(
        "UPDATE _alyx_users SET verified = 1 WHERE email = 'a@x.io'",
        Vec::new(),
    )
    .await;
    assert_eq!(site.login("a@x.io", PASSWORD).await.status, 200);
}

/// Passwords that were hashed or compared so far.
async fn hashes(site: &Site) -> u64 {
    let text = site.get("/metrics").await.text;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("alyx_auth_hashes_total "));
    line.expect("a count").parse().expect("a number")
}

#[tokio::test]
async fn unknown_accounts_and_wrong_passwords_are_answered_alike_and_cost_the_same() {
    let site = start().await;
    site.register("known@x.io").await;
    let mut answers = Vec::new();
    for email in ["known@x.io", "unknown@x.io"] {
        let before = hashes(&site).await;
        let reply = site.login(email, "wrong horse").await;
        let mut error = reply.json()["error"].clone();
        error.as_object_mut().expect("an object").remove("request_id");
        answers.push((reply.status, error, hashes(&site).await - before));
    }
    assert_eq!((answers[0].0, answers[0].2), (401, 1));
    assert_eq!(answers[0], answers[1]);
    // Not only counted but computed: what is left out takes a hundredth of the time, whatever else the machine does.
    let quickest = async |email: &str| {
        let mut quickest = Duration::MAX;
        for _ in 0..3 {
            let started = Instant::now();
            assert_eq!(site.login(email, "wrong horse").await.status, 401);
            quickest = quickest.min(started.elapsed());
        }
        quickest
    };
    let (known, unknown) = (quickest("known@x.io").await, quickest("unknown@x.io").await);
    assert!(
        unknown * 5 > known && known * 5 > unknown,
        "{known:?} {unknown:?}"
    );
}

#[tokio::test]
async fn the_sixth_guess_has_to_wait_whether_the_account_exists_or_not() {
    let site = start().await;
    site.register("known@x.io").await;
    for email in ["known@x.io", "unknown@x.io"] {
        // All at once: none slips through between the count and the comparison.
        let guesses = (0..10).map(|_| site.login(email, "wrong horse"));
        let mut statuses: Vec<u16> = join_all(guesses).await.iter().map(|reply| reply.status).collect();
        statuses.sort_unstable();
        assert_eq!(
            statuses,
            [401, 401, 401, 401, 401, 429, 429, 429, 429, 429],
            "{email}"
        );
        let other_case = site.login(&email.to_uppercase(), PASSWORD).await;
        assert_eq!(other_case.refusal(), (429, "TOO_MANY_ATTEMPTS".to_owned()));
        let wait: u64 = other_case.header("retry-after").parse().expect("seconds");
        assert!((1..=900).contains(&wait), "{wait}");
    }
    site.register("other@x.io").await;
    for _ in 0..3 {
        for _ in 0..4 {
            assert_eq!(site.login("other@x.io", "wrong horse").await.status, 401);
        }
        assert_eq!(
            site.login("other@x.io", PASSWORD).await.status,
            200,
            "success clears"
        );
    }
}

#[tokio::test]
async fn addresses_are_counted_and_headers_of_strangers_do_not_count() {
    let limit = RateLimit {
        max: 3,
        window: Duration::from_secs(600),
    };
    let register = async |site: &Site, number: usize, forwarded: &str| {
        let request = site
            .request("POST", "/api/auth/register")
            .header("x-forwarded-for", forwarded);
        let body = json!({"email": format!("u{number}@x.io"), "password": PASSWORD});
        site.send(request, body.to_string()).await.status
    };
    let mut strange = setup();
    strange.config.auth.register_limit = limit;
    let site = strange.start().await;
    let mut statuses = Vec::new();
    for number in 0..4 {
        statuses.push(register(&site, number, &format!("203.0.113.{number}")).await);
    }
    assert_eq!(statuses, [201, 201, 201, 429]);

    let mut trusted = setup();
    trusted.config.auth.register_limit = limit;
    trusted.config.server.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    let site = trusted.start().await;
    let mut statuses = Vec::new();
    for number in 0..5 {
        let client = if number < 4 { "203.0.113.1" } else { "203.0.113.2" };
        // What the client itself has sent stands before what the proxy adds.
        statuses.push(register(&site, number, &format!("198.51.100.{number}, {client}")).await);
    }
    assert_eq!(statuses, [201, 201, 201, 429, 201]);
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_reuse_ends_the_session() {
    let site = start().await;
    let first = site.register("a@x.io").await;
    let other = site.sign_in("a@x.io").await;
    let second = Tokens::of(&site.refresh(&first.refresh).await);
    assert_ne!(second.refresh, first.refresh);
    assert_eq!(site.me(&second.access).await.status, 200);
    assert_eq!(
        site.refresh(&first.refresh).await.refusal(),
        (401, "SESSION_NOT_FOUND".to_owned())
    );
    assert_eq!(
        site.refresh(&second.refresh).await.refusal(),
        (401, "SESSION_NOT_FOUND".to_owned()),
        "the thief's and the owner's"
    );
    assert_eq!(
        site.me(&second.access).await.refusal(),
        (401, "TOKEN_REVOKED".to_owned())
    );
    assert_eq!(site.me(&other.access).await.status, 200, "other sessions go on");
}

#[tokio::test]
async fn of_a_hundred_uses_of_a_refresh_token_one_gets_a_session() {
    let site = start().await;
    let tokens = site.register("a@x.io").await;
    let uses = (0..100).map(|_| site.refresh(&tokens.refresh));
    let replies = join_all(uses).await;
    let (good, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!(good.len(), 1);
    assert!(
        refused
            .iter()
            .all(|reply| reply.refusal() == (401, "SESSION_NOT_FOUND".to_owned()))
    );
}

#[tokio::test]
async fn tokens_are_good_for_their_own_purpose_alone() {
    let site = start().await;
    let tokens = site.register("a@x.io").await;
    assert_eq!(
        site.refresh(&tokens.access).await.refusal(),
        (401, "INVALID_TOKEN".to_owned())
    );
    for path in ["/api/auth/me", "/api/collections/notes", "/api/auth/sessions"] {
        let reply = site.with_token("GET", path, &tokens.refresh, &Json::Null).await;
        assert_eq!(reply.refusal(), (401, "INVALID_TOKEN".to_owned()), "{path}");
        let reply = site.with_token("GET", path, "nonsense", &Json::Null).await;
        assert_eq!(reply.refusal(), (401, "INVALID_TOKEN".to_owned()), "{path}");
    }
    let good = site
        .with_token("GET", "/api/collections/notes", &tokens.access, &Json::Null)
        .await;
    assert_eq!(good.status, 200);
    assert_eq!(
        site.get("/api/auth/me").await.refusal(),
        (401, "UNAUTHORIZED".to_owned())
    );
    // Nobody is kept from signing in by a broken token.
    let login = json!({"email": "a@x.io", "password": PASSWORD});
    let reply = site
        .with_token("POST", "/api/auth/login", "nonsense", &login)
        .await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn access_tokens_expire() {
    let mut setup = setup();
    setup.config.auth.jwt.access_ttl = Duration::from_secs(1);
    let site = setup.start().await;
    let tokens = site.register("a@x.io").await;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let reply = site.me(&tokens.access).await;
        if reply.status == 401 {
            assert_eq!(reply.refusal().1, "TOKEN_EXPIRED");
            break;
        }
        assert!(Instant::now() < deadline, "it never expires");
        tokio::task::yield_now().await;
    }
    assert_eq!(site.refresh(&tokens.refresh).await.status, 200);
}

#[tokio::test]
async fn logging_out_ends_the_session_however_it_is_said() {
    let site = start().await;
    let by_refresh = site.register("a@x.io").await;
    let reply = site
        .post("logout", json!({"refresh_token": by_refresh.refresh}))
        .await;
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
    let by_bearer = site.sign_in("a@x.io").await;
    let request = site
        .request("POST", "/api/auth/logout")
        .header("authorization", format!("Bearer {}", by_bearer.access));
    assert_eq!(site.send(request, "").await.status, 204);
    for ended in [&by_refresh, &by_bearer] {
        assert_eq!(
            site.me(&ended.access).await.refusal(),
            (401, "TOKEN_REVOKED".to_owned())
        );
        let list = site
            .with_token("GET", "/api/collections/notes", &ended.access, &Json::Null)
            .await;
        assert_eq!(list.refusal(), (401, "TOKEN_REVOKED".to_owned()));
        assert_eq!(
            site.refresh(&ended.refresh).await.refusal().1,
            "SESSION_NOT_FOUND"
        );
    }
    let again = site
        .post("logout", json!({"refresh_token": by_refresh.refresh}))
        .await;
    assert_eq!(again.status, 204, "one that has ended is no error");
    assert_eq!(
        site.post("logout", json!({"refresh_token": "nonsense"}))
            .await
            .status,
        204
    );
    let nothing = site.send(site.request("POST", "/api/auth/logout"), "").await;
    assert_eq!(nothing.refusal(), (400, "REFRESH_TOKEN_REQUIRED".to_owned()));
}

/// A login that was compared with the old password before it changed, and is written after it.
#[tokio::test]
async fn nobody_ends_the_sessions_of_others() {
    let site = start().await;
    let (own, strange) = (site.register("a@x.io").await, site.register("b@x.io").await);
    let listed = site
        .with_token("GET", "/api/auth/sessions", &strange.access, &Json::Null)
        .await;
    let id = listed.json()["sessions"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let path = format!("/api/auth/sessions/{id}");
    let refused = site.with_token("DELETE", &path, &own.access, &Json::Null).await;
    assert_eq!(refused.refusal(), (404, "SESSION_NOT_FOUND".to_owned()));
    assert_eq!(site.me(&strange.access).await.status, 200);
    let ended = site
        .with_token("DELETE", &path, &strange.access, &Json::Null)
        .await;
    assert_eq!(ended.status, 204);
    assert_eq!(site.me(&strange.access).await.refusal().1, "TOKEN_REVOKED");

    let others = site.sign_in("a@x.io").await;
    let ended = site
        .with_token("DELETE", "/api/auth/sessions", &own.access, &Json::Null)
        .await;
    assert_eq!(ended.status, 204);
    assert_eq!(site.me(&own.access).await.status, 200);
    assert_eq!(site.me(&others.access).await.refusal().1, "TOKEN_REVOKED");
}

#[tokio::test]
async fn without_a_key_accounts_say_so_and_everything_else_works() {
    let site = Site::start().await;
    for action in ["register", "login"] {
        let body = json!({"email": "a@x.io", "password": PASSWORD});
        let reply = site.post(action, body).await;
        assert_eq!(
            reply.refusal(),
            (503, "AUTH_NOT_CONFIGURED".to_owned()),
            "{action}"
        );
    }
    let list = site
        .with_token("GET", "/api/collections/notes", "anything", &Json::Null)
        .await;
    assert_eq!(list.status, 200, "anonymous, as nobody can show anything else");
    let mut setup = Setup::default();
    setup.config.auth.jwt.key_file = Some("/nowhere/key.pem".into());
    let error = setup.try_start().await.err().expect("no key");
    assert_eq!(error.code(), "AUTH_KEY_INVALID");
}

/// A socket that was opened with a token, and the code that it is closed with.
pub(crate) async fn closed_with(site: &Site, token: &str, act: impl AsyncFnOnce()) -> (u16, Duration) {
    let url = format!("ws://{}/api/realtime?token={token}", site.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a socket");
    let hello = socket.next().await.expect("a frame").expect("read");
    assert!(hello.to_text().expect("text").contains("connected"));
    act().await;
    let began = Instant::now();
    let closed = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Message::Close(frame) = socket.next().await.expect("a frame").expect("read") {
                return frame.expect("a code").code.into();
            }
        }
    });
    (closed.await.expect("it is closed"), began.elapsed())
}

#[tokio::test]
async fn a_socket_is_closed_once_its_identity_is_no_longer_so() {
    let mut setup = setup();
    setup.realtime = true;
    let site = setup.start().await;
    let tokens = site.register("a@x.io").await;
    let other = site.sign_in("a@x.io").await;
    let user = || vec![Value::text(tokens.user.as_str())];
    for change in [
        "UPDATE _alyx_users SET role = 'editor' WHERE id = ?1",
        "UPDATE _alyx_users SET metadata = '{\"team\":1}' WHERE id = ?1",
        "UPDATE _alyx_users SET verified = 1 WHERE id = ?1",
    ] {
        // As another process would, which tells this one nothing.
        let (code, after) = closed_with(&site, &tokens.access, async || site.sql(change, user()).await).await;
        assert_eq!(code, 4401, "{change}");
        assert!(after < Duration::from_secs(1), "{after:?}");
    }
    assert_eq!(site.me(&tokens.access).await.json()["role"], "editor");
    let log_out = async || {
        let reply = site
            .post("logout", json!({"refresh_token": tokens.refresh}))
            .await;
        assert_eq!(reply.status, 204);
    };
    let (code, after) = closed_with(&site, &tokens.access, log_out).await;
    assert_eq!(code, 4401);
    assert!(after < Duration::from_secs(1), "{after:?}");
    let url = format!("ws://{}/api/realtime?token={}", site.address, tokens.access);
    let refused = tokio_tungstenite::connect_async(url).await.expect_err("ended");
    assert!(refused.to_string().contains("401"), "{refused}");
    // A password that somebody else changes, another session of the account.
    let change = async || {
        site.sql("DELETE FROM _alyx_users WHERE id = ?1", user()).await;
    };
    assert_eq!(closed_with(&site, &other.access, change).await.0, 4401);
}

#[tokio::test]
async fn a_socket_is_closed_when_its_token_expires() {
    let mut setup = setup();
    setup.realtime = true;
    setup.config.auth.jwt.access_ttl = Duration::from_secs(2);
    let site = setup.start().await;
    let tokens = site.register("a@x.io").await;
    let (code, after) = closed_with(&site, &tokens.access, async || {}).await;
    assert_eq!(code, 4401);
    assert!(after < Duration::from_secs(4), "{after:?}");
}
