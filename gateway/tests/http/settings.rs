//! Settings that guard something, in all pairs: none may take away what another one says.
//!
//! Few enough combinations are started that every two settings meet with both on, both off, and one on of either: a
//! combination for each bit of the settings' numbers, its complement, all and none.

use std::time::{Duration, SystemTime};

use alyx_config::{OAuthProvider, RateLimit, Secret, Smtp};
use alyx_core::{Value, format_timestamp};
use alyx_operators::hash_new_password;
use alyx_schema::Schema;
use serde_json::{Value as Json, json};

use crate::accounts::{PASSWORD, Tokens, setup};
use crate::site::{Setup, Site};

/// A value that is neither too short nor lacks anything for any of the settings.
const GOOD: &str = "A long password with a 7!";
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A setting: its key, what turns it on, and what shows whether it is.
struct Setting {
    key: &'static str,
    turn_on: fn(&mut Setup),
    /// Whether the site behaves as if it were on.
    shows: AsyncProbe,
}

type AsyncProbe = for<'s> fn(&'s Site, &'s On) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send + 's>>;

/// The settings that are on, by their keys.
struct On(Vec<&'static str>);

impl On {
    fn has(&self, key: &str) -> bool {
        self.0.contains(&key)
    }
}

macro_rules! settings {
    ($($key:literal: $turn_on:expr => |$site:ident, $on:ident| $probe:expr;)*) => {
        [$(Setting {
            key: $key,
            turn_on: $turn_on,
            shows: |$site, $on| {
                // Not every probe looks at the others.
                let _ = $on;
                Box::pin(async move { $probe })
            },
        }),*]
    };
}

#[expect(clippy::too_many_lines, reason = "each setting is named once")]
fn settings() -> [Setting; 25] {
    settings! {
        "auth.allow_registration": |setup| setup.config.auth.allow_registration = false
            => |site, _on| code(site, "POST", "/api/auth/register", &new("closed@x.io", GOOD)).await == "REGISTRATION_CLOSED";
        "auth.allow_anonymous": |setup| setup.config.auth.allow_anonymous = true
            => |site, _on| code(site, "POST", "/api/auth/anonymous", &json!({})).await != "ANONYMOUS_DISABLED";
        "auth.require_verification": |setup| setup.config.auth.require_verification = true => |site, _on| {
            site.insert("unverified@x.io", false).await;
            code(site, "POST", "/api/auth/login", &new("unverified@x.io", PASSWORD)).await == "EMAIL_NOT_VERIFIED"
        };
        "auth.password.min_length": |setup| setup.config.auth.password.min_length = 20
            => |site, _on| site.change_password("short@x.io", "1 short one").await == "PASSWORD_TOO_SHORT";
        "auth.password.require_number": |setup| setup.config.auth.password.require_number = true
            => |site, _on| site.change_password("number@x.io", "A password without a number!").await == "PASSWORD_NO_NUMBER";
        "auth.password.require_uppercase": |setup| setup.config.auth.password.require_uppercase = true
            => |site, _on| site.change_password("upper@x.io", "a password in small letters, 7!").await == "PASSWORD_NO_UPPERCASE";
        "auth.password.require_lowercase": |setup| setup.config.auth.password.require_lowercase = true
            => |site, _on| site.change_password("lower@x.io", "A PASSWORD IN CAPITALS, 7!").await == "PASSWORD_NO_LOWERCASE";
        "auth.password.require_special": |setup| setup.config.auth.password.require_special = true
            => |site, _on| site.change_password("special@x.io", "A password of words and 7").await == "PASSWORD_NO_SPECIAL";
        "auth.rate_limit.password_reset.max": |setup| setup.config.auth.mail_limit = limit(1) => |site, _on| {
            let body = json!({"email": "forgetful@x.io"});
            code(site, "POST", "/api/auth/password/forgot", &body).await;
            code(site, "POST", "/api/auth/password/forgot", &body).await == "TOO_MANY_ATTEMPTS"
        };
        "auth.rate_limit.register.max": |setup| setup.config.auth.register_limit = limit(1) => |site, on| {
            // Where nobody may register there is nothing to be limited.
            if on.has("auth.allow_registration") {
                return true;
            }
            code(site, "POST", "/api/auth/register", &new("one@x.io", GOOD)).await;
            code(site, "POST", "/api/auth/register", &new("two@x.io", GOOD)).await == "TOO_MANY_ATTEMPTS"
        };
        "auth.jwt.audience": |setup| setup.config.auth.jwt.audience = vec!["app".to_owned()]
            => |site, _on| claims(&site.signed_in("audience@x.io").await)["aud"] == json!(["app"]);
        "auth.jwt.issuer": |setup| setup.config.auth.jwt.issuer = "https://id.x.io".to_owned()
            => |site, _on| claims(&site.signed_in("issuer@x.io").await)["iss"] == json!("https://id.x.io");
        "auth.jwt.key_file": sign_with_file
            => |site, _on| part(&site.signed_in("key@x.io").await, 0)["alg"] == json!("EdDSA");
        "auth.jwt.refresh_ttl": |setup| setup.config.auth.jwt.refresh_ttl = DAY => |site, _on| {
            let token = site.signed_in("refresh@x.io").await;
            let reply = site.with_token("GET", "/api/auth/sessions", &token, &Json::Null).await;
            let session = &reply.json()["sessions"][0];
            let latest = format_timestamp(SystemTime::now() + DAY + MINUTE);
            session["expires_at"].as_str().expect("a time") < latest.as_str()
        };
        "auth.redirect_origins": |setup| setup.config.auth.redirect_origins = vec!["https://other.x.io".to_owned()]
            => |site, _on| {
                let query = format!("redirect=https://other.x.io/in&challenge={}", "a".repeat(43));
                site.get(&format!("/api/auth/oauth/hub?{query}")).await.status == 307
            };
        "auth.jwt.access_ttl": |setup| setup.config.auth.jwt.access_ttl = MINUTE => |site, _on| {
            let claims = claims(&site.signed_in("ttl@x.io").await);
            claims["exp"].as_u64() == claims["iat"].as_u64().map(|at| at + 60)
        };
        "server.trusted_proxies": |setup| setup.config.server.trusted_proxies = vec!["127.0.0.1".to_owned()]
            => |site, _on| site.known_address("proxied@x.io").await == "203.0.113.9";
        "server.max_body_size": |setup| setup.config.server.max_body_size = 2_000 => |site, _on| {
            let body = json!({"name": "a".repeat(3_000)});
            code(site, "POST", "/api/collections/rooms", &body).await == "PAYLOAD_TOO_LARGE"
        };
        "server.cors.allowed_origins": |setup| setup.config.server.cors.allowed_origins = vec!["https://app.x.io".to_owned()]
            => |site, _on| {
                let request = site.request("GET", "/api/config").header("origin", "https://evil.io");
                site.send(request, "").await.header("access-control-allow-origin").is_empty()
            };
        "dev.enabled": |setup| setup.config.dev.enabled = true
            => |site, _on| code(site, "GET", "/api/functions/stats", &Json::Null).await != "UNAUTHORIZED";
        "docs.enabled": |setup| setup.config.docs.enabled = false
            => |site, _on| site.get("/api/openapi.json").await.status == 404;
        "metrics.listen": |setup| setup.config.metrics.listen = Some("127.0.0.1:0".to_owned())
            => |site, _on| site.get("/metrics").await.status == 404;
        "functions.enabled": |setup| setup.functions = false
            => |site, _on| site.call("POST", "/api/functions/echo", &json!({})).await.status == 404;
        "collections.notes.rules.read": |setup| setup.edit = close_notes
            => |site, _on| site.get("/api/collections/notes").await.status == 403;
        // Last, because nobody can sign in from this address afterwards.
        "auth.rate_limit.login.max": |setup| setup.config.auth.login_limit = limit(2) => |site, _on| {
            let mut last = String::new();
            for number in 0..3 {
                let guess = new(&format!("guess{number}@x.io"), PASSWORD);
                last = code(site, "POST", "/api/auth/login", &guess).await;
            }
            last == "TOO_MANY_ATTEMPTS"
        };
    }
}

fn close_notes(schema: &mut Schema) {
    let notes = schema.collections.get_mut("notes").expect("it is there");
    std::sync::Arc::make_mut(notes).access.read = false;
}

fn limit(max: u32) -> RateLimit {
    RateLimit { max, window: MINUTE }
}

fn new(email: &str, password: &str) -> Json {
    json!({"email": email, "password": password})
}

/// The code of an error; nothing where there is none.
async fn code(site: &Site, method: &str, path: &str, body: &Json) -> String {
    let reply = site.call(method, path, body).await;
    let body: Json = serde_json::from_str(&reply.text).unwrap_or_default();
    body["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// What all of them are tried on: mails are taken (and lost), and people may come from another provider.
fn base() -> Setup {
    let mut setup = setup();
    let config = &mut setup.config;
    config.server.public_url = Some("https://app.x.io".to_owned());
    config.mail.from = Some("no-reply@x.io".to_owned());
    config.mail.smtp = Some(Smtp {
        host: "127.0.0.1".to_owned(),
        // Where nobody listens.
        port: 1,
        ..Smtp::default()
    });
    let url = |path: &str| Some(format!("https://hub.x.io/{path}"));
    let provider = OAuthProvider {
        client_id: "alyx".to_owned(),
        client_secret: Some(Secret::new("of the provider")),
        auth_url: url("authorize"),
        token_url: url("token"),
        user_info_url: url("user"),
        ..OAuthProvider::default()
    };
    config.auth.oauth.insert("hub".to_owned(), provider);
    setup
}

fn sign_with_file(setup: &mut Setup) {
    let key = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../crates/auth/src/jwt/test-ed25519.pem"
    );
    setup.config.auth.jwt.secret = None;
    setup.config.auth.jwt.key_file = Some(key.into());
}

fn claims(token: &str) -> Json {
    part(token, 1)
}

/// The header of a token, or its claims.
fn part(token: &str, number: usize) -> Json {
    use base64::Engine as _;
    let payload = token.split('.').nth(number).expect("a JWT");
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
    serde_json::from_slice(&payload.expect("base64")).expect("JSON")
}

impl Site {
    /// An account, whatever the settings say about registrations.
    async fn insert(&self, email: &str, verified: bool) {
        let hash = hash_new_password(PASSWORD).expect("a hash");
        let sql = "INSERT INTO _alyx_users (id, email, password_hash, verified, created_at, updated_at) \
                   VALUES (?1, ?1, ?2, ?3, '', '') RETURNING id";
        let verified = Value::Int(i64::from(verified));
        self.sql(sql, vec![Value::text(email), Value::text(hash), verified])
            .await;
    }

    /// The access token of a new account.
    async fn signed_in(&self, email: &str) -> String {
        self.insert(email, true).await;
        self.sign_in(email).await.access
    }

    async fn change_password(&self, email: &str, password: &str) -> String {
        let token = self.signed_in(email).await;
        let body = json!({"current_password": PASSWORD, "new_password": password});
        let reply = self.with_token("POST", "/api/auth/password", &token, &body).await;
        let body: Json = serde_json::from_str(&reply.text).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// What the server takes for a client's address that a proxy has told.
    async fn known_address(&self, email: &str) -> String {
        self.insert(email, true).await;
        let request = self
            .request("POST", "/api/auth/login")
            .header("x-forwarded-for", "203.0.113.9");
        let reply = self.send(request, new(email, PASSWORD).to_string()).await;
        let token = Tokens::of(&reply).access;
        let sessions = self
            .with_token("GET", "/api/auth/sessions", &token, &Json::Null)
            .await;
        let address = &sessions.json()["sessions"][0]["ip_address"];
        address.as_str().expect("an address").to_owned()
    }
}

/// What holds whatever is set.
async fn invariants(site: &Site) {
    let path = "/api/admin/tokens";
    assert_eq!(site.get(path).await.refusal().1, "UNAUTHORIZED");
    let account = site.signed_in("first@x.io").await;
    let user = site.with_token("GET", path, &account, &Json::Null).await;
    assert_eq!(user.refusal().1, "FORBIDDEN");
    assert_eq!(site.me(&account).await.status, 200);
    let wrong = site.login("first@x.io", "a wrong guess").await;
    assert_eq!(wrong.refusal().1, "INVALID_CREDENTIALS");
    let refresh = site.sign_in("first@x.io").await.refresh;
    assert_eq!(site.me(&refresh).await.refusal().1, "INVALID_TOKEN");
    let token = site.token("reader", "read:rooms").await;
    for (collection, status) in [("rooms", 200), ("notes", 403)] {
        let path = format!("/api/collections/{collection}");
        let reply = site.with_token("GET", &path, &token, &Json::Null).await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
}

/// The combinations: `on(setting)` for each.
fn combinations(count: usize) -> Vec<Vec<bool>> {
    let bits = usize::BITS - count.leading_zeros();
    let of = |on: &dyn Fn(usize) -> bool| (0..count).map(on).collect::<Vec<bool>>();
    let mut all = vec![of(&|_| false), of(&|_| true)];
    for bit in 0..bits {
        all.push(of(&|number| number >> bit & 1 == 1));
        all.push(of(&|number| number >> bit & 1 == 0));
    }
    all
}

#[test]
fn every_two_settings_meet_in_every_way() {
    let count = settings().len();
    let all = combinations(count);
    for one in 0..count {
        for other in 0..one {
            for way in [(false, false), (false, true), (true, false), (true, true)] {
                let met = all.iter().any(|on| (on[one], on[other]) == way);
                assert!(met, "{one} {other} {way:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_takes_away_what_another_one_says() {
    let mut running = tokio::task::JoinSet::new();
    for combination in combinations(settings().len()) {
        running.spawn(async move {
            let settings = settings();
            let mut setup = base();
            let mut on = On(Vec::new());
            for (setting, is_on) in settings.iter().zip(&combination) {
                if *is_on {
                    (setting.turn_on)(&mut setup);
                    on.0.push(setting.key);
                }
            }
            let site = setup.start().await;
            // The tables are made by the first request that needs them; the first account may always register.
            site.get("/api/auth/status").await;
            invariants(&site).await;
            for setting in &settings {
                let shows = (setting.shows)(&site, &on).await;
                let limited_by_none =
                    setting.key == "auth.rate_limit.register.max" && on.has("auth.allow_registration");
                let expected = on.has(setting.key) || limited_by_none;
                assert_eq!(shows, expected, "{} with {:?} on", setting.key, on.0);
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("it holds");
    }
}
