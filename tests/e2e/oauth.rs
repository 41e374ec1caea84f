//! Signing in by another provider, a real one of OpenID Connect: what works, and what must not.

use std::collections::BTreeMap;

use alyx_tests::{Form, Http, Oidc, Project, Reply, Server, eventually};
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    somebody_signs_in_and_stays_the_same,
    a_login_belongs_to_the_browser_that_began_it_once,
    wrong_id_tokens_are_refused,
    an_address_joins_accounts_only_where_both_sides_have_verified_it,
    a_code_needs_the_secret_of_who_began,
    providers_are_linked_and_taken_away,
    a_second_factor_is_asked_for_behind_a_provider_too,
    an_anonymous_account_becomes_real_by_a_provider,
}

const PUBLIC: &str = "https://app.example.com";
const PASSWORD: &str = "correct horse";
/// A secret and its SHA-256 (RFC 7636, appendix B).
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const SCHEMA: &str = "collections: {notes: {fields: {text: {type: string}}}}";

/// A server with two names for one provider, and one that answers as GitHub does.
struct Site {
    oidc: Oidc,
    http: Http,
    server: Server,
    _project: Project,
}

/// A browser that was sent to the provider and has been sent back by it.
struct Away {
    cookie: String,
    /// Path and query of the callback.
    callback: String,
}

impl Site {
    async fn start(form: Form) -> Self {
        let oidc = Oidc::start().await;
        let project = Project::with_schema(SCHEMA);
        let provider =
            json!({"client_id": "client one", "client_secret": "hunter:2", "issuer": oidc.issuer()});
        let github = json!({
            "client_id": "gh",
            "client_secret": "hunter2",
            "auth_url": oidc.canned("/authorize"),
            "token_url": oidc.canned("/token"),
            "user_info_url": oidc.canned("/user"),
        });
        let config = json!({
            "server": {"public_url": PUBLIC},
            "auth": {
                "jwt": {"secret": "a secret of the tests, 32 bytes or more"},
                "allow_anonymous": true,
                "rate_limit": {"register": {"max": 1000}, "login": {"max": 1000}},
                "oauth": {"one": provider, "two": provider, "github": github},
            },
        });
        // JSON is YAML.
        project.write("alyx.yaml", &config.to_string());
        let server = form.start(&project).await;
        Self {
            http: server.http(),
            oidc,
            server,
            _project: project,
        }
    }

    async fn begin(&self, provider: &str, query: &str) -> Reply {
        self.http.get(&format!("/api/auth/oauth/{provider}{query}")).await
    }

    /// To the provider and back, as far as the callback.
    async fn away(&self, provider: &str, query: &str) -> Away {
        let begun = self.begin(provider, query).await;
        assert_eq!(begun.status, 307, "{begun:?}");
        let (issuer, to) = (self.oidc.issuer(), begun.header("location"));
        let path = to.strip_prefix(issuer).unwrap_or_else(|| panic!("{to}"));
        let back = Http::new(issuer).get(path).await;
        let callback = back.header("location").strip_prefix(PUBLIC);
        let cookie = begun.header("set-cookie").split(';').next().expect("a cookie");
        Away {
            cookie: cookie.to_owned(),
            callback: callback.unwrap_or_else(|| panic!("{back:?}")).to_owned(),
        }
    }

    async fn finish(&self, callback: &str, cookie: &str) -> Reply {
        self.http
            .send(Method::GET, callback, &[("cookie", cookie)], "")
            .await
    }

    /// All of it, without an application.
    async fn sign_in(&self, provider: &str, claims: Value) -> Reply {
        self.oidc.set(json!({"claims": claims})).await;
        let away = self.away(provider, "").await;
        self.finish(&away.callback, &away.cookie).await
    }

    async fn code(&self, provider: &str) -> String {
        let away = self.away(provider, &back()).await;
        let landed = self.finish(&away.callback, &away.cookie).await;
        assert_eq!(landed.status, 303, "{landed:?}");
        let code = landed
            .header("location")
            .strip_prefix(&format!("{PUBLIC}/in?code="));
        code.unwrap_or_else(|| panic!("{landed:?}")).to_owned()
    }

    async fn exchange(&self, code: &str, verifier: &str) -> Reply {
        let body = json!({"code": code, "verifier": verifier});
        self.http.post("/api/auth/oauth/login", &body).await
    }

    async fn own(&self, method: Method, path: &str, token: &str, body: Value) -> Reply {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        self.http.send(method, path, &headers, body.to_string()).await
    }

    async fn register(&self, email: &str) -> Reply {
        let body = json!({"email": email, "password": PASSWORD});
        let reply = self.http.post("/api/auth/register", &body).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply
    }
}

fn back() -> String {
    format!("?redirect={PUBLIC}/in&challenge={CHALLENGE}")
}

fn verified(sub: &str, email: &str) -> Value {
    json!({"sub": sub, "email": email, "email_verified": true})
}

#[track_caller]
fn user(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["user"].clone()
}

#[track_caller]
fn token(reply: &Reply) -> String {
    let token = &reply.json()["access_token"];
    token.as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}

#[track_caller]
fn refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!(
        (reply.status, reply.code()),
        (status, code.to_owned()),
        "{reply:?}"
    );
}

async fn somebody_signs_in_and_stays_the_same(form: Form) {
    let site = Site::start(form).await;
    let listed = site.http.get("/api/auth/providers").await.json();
    assert_eq!(listed, json!({"providers": ["github", "one", "two"]}));
    refused(&site.begin("other", "").await, 404, "OAUTH_PROVIDER_NOT_FOUND");
    // What is sent to the provider.
    let begun = site.begin("one", &back()).await;
    let (_, query) = begun.header("location").split_once('?').expect("a query");
    let sent: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    assert_eq!((sent["client_id"], sent["response_type"]), ("client+one", "code"));
    assert_eq!(sent["scope"], "openid+email+profile");
    assert_eq!(sent["code_challenge_method"], "S256");
    let callback = "https%3A%2F%2Fapp.example.com%2Fapi%2Fauth%2Foauth%2Fone%2Fcallback";
    assert_eq!(sent["redirect_uri"], callback);
    for secret in ["state", "nonce", "code_challenge"] {
        assert_eq!(sent[secret].len(), 43, "{secret}");
    }
    let cookie = begun.header("set-cookie");
    assert!(cookie.starts_with("__Host-alyx_oauth_"), "{cookie}");
    assert!(
        cookie.ends_with("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"),
        "{cookie}"
    );
    // With an application, and without one.
    site.oidc.set(json!({"claims": verified("1", "A@x.io")})).await;
    let code = site.code("one").await;
    let first = user(&site.exchange(&code, VERIFIER).await);
    assert_eq!(
        (&first["email"], &first["verified"]),
        (&json!("a@x.io"), &json!(true))
    );
    refused(&site.exchange(&code, VERIFIER).await, 400, "OAUTH_CODE_INVALID");
    let again = site.sign_in("one", verified("1", "other@x.io")).await;
    assert_eq!(user(&again)["id"], first["id"]);
    assert!(again.header("set-cookie").contains("Max-Age=0"), "{again:?}");
    let me = site
        .own(Method::GET, "/api/auth/me", &token(&again), Value::Null)
        .await;
    assert_eq!(me.json()["email"], "a@x.io");
    assert_ne!(
        user(&site.sign_in("one", verified("2", "b@x.io")).await)["id"],
        first["id"]
    );
    for secret in ["hunter", VERIFIER, &code, &token(&again)] {
        assert!(!site.server.output().contains(secret), "{secret} is in the log");
    }
}

async fn a_login_belongs_to_the_browser_that_began_it_once(form: Form) {
    let site = Site::start(form).await;
    site.oidc.set(json!({"claims": verified("1", "a@x.io")})).await;
    let (mine, other) = (site.away("one", "").await, site.away("one", "").await);
    for cookie in ["", "a=b", &other.cookie, &format!("{}x", mine.cookie)] {
        refused(
            &site.finish(&mine.callback, cookie).await,
            400,
            "OAUTH_STATE_INVALID",
        );
    }
    // Another login's seal under this one's name, and this login at another provider.
    let (name, _) = mine.cookie.split_once('=').expect("a name");
    let (_, seal) = other.cookie.split_once('=').expect("a value");
    let mixed = site.finish(&mine.callback, &format!("{name}={seal}")).await;
    refused(&mixed, 400, "OAUTH_STATE_INVALID");
    let moved = mine.callback.replace("/one/", "/two/");
    refused(
        &site.finish(&moved, &mine.cookie).await,
        400,
        "OAUTH_STATE_INVALID",
    );
    refused(
        &site
            .finish("/api/auth/oauth/one/callback?code=x", &mine.cookie)
            .await,
        400,
        "OAUTH_STATE_INVALID",
    );
    assert_eq!(site.oidc.turned_in().await, 0, "the provider was not asked");
    let uses = (0..100).map(|_| site.finish(&mine.callback, &mine.cookie));
    let uses = join_all(uses).await;
    let good = uses.iter().filter(|reply| reply.status == 200).count();
    assert_eq!((good, site.oidc.turned_in().await), (1, 1));
    for reply in uses.iter().filter(|reply| reply.status != 200) {
        refused(reply, 400, "OAUTH_STATE_INVALID");
    }
    // Whoever does not want to is told so, once.
    let (path, query) = other.callback.split_once('?').expect("a query");
    let state = query
        .split('&')
        .find(|pair| pair.starts_with("state="))
        .expect("a state");
    let denied = format!("{path}?error=access_denied&{state}");
    refused(&site.finish(&denied, &other.cookie).await, 400, "OAUTH_DENIED");
    refused(
        &site.finish(&other.callback, &other.cookie).await,
        400,
        "OAUTH_STATE_INVALID",
    );
    // Logins lead back to known places alone.
    for redirect in [
        "https://evil.example/",
        "https://app.example.com.evil.example",
        "//evil.example",
        "http://app.example.com",
    ] {
        let reply = site
            .begin("one", &format!("?redirect={redirect}&challenge={CHALLENGE}"))
            .await;
        refused(&reply, 400, "OAUTH_REDIRECT_NOT_ALLOWED");
    }
    refused(
        &site.begin("one", &format!("?redirect={PUBLIC}/in")).await,
        400,
        "OAUTH_CHALLENGE_REQUIRED",
    );
}

async fn wrong_id_tokens_are_refused(form: Form) {
    let site = Site::start(form).await;
    let long_ago = 1_000_000_000;
    for wrong in [
        json!({"claims": {"iss": "https://evil.example"}}),
        json!({"claims": {"aud": "another client"}}),
        json!({"claims": {"aud": ["client one", "another"]}}),
        json!({"claims": {"azp": "another client"}}),
        json!({"claims": {"nonce": "another"}}),
        json!({"claims": {"nonce": null}}),
        json!({"claims": {"exp": long_ago}}),
        json!({"claims": {"iat": 9_000_000_000_u64}}),
        json!({"claims": {"sub": ""}}),
        json!({"raw": "none"}),
        json!({"raw": "hs256"}),
    ] {
        let mut settings = wrong.clone();
        settings["claims"]["email"] = json!("a@x.io");
        settings["claims"]["email_verified"] = json!(true);
        site.oidc.set(settings).await;
        let away = site.away("one", "").await;
        let reply = site.finish(&away.callback, &away.cookie).await;
        assert_eq!(
            (reply.status, reply.code()),
            (502, "OAUTH_PROVIDER_FAILED".to_owned()),
            "{wrong}"
        );
        // An application is told, too.
        let away = site.away("one", &back()).await;
        let landed = site.finish(&away.callback, &away.cookie).await;
        assert_eq!(
            landed.header("location"),
            format!("{PUBLIC}/in?error=OAUTH_PROVIDER_FAILED"),
            "{wrong}"
        );
    }
    assert_eq!(
        site.http.get("/api/auth/status").await.json()["needs_setup"],
        true,
        "no account was made"
    );
    user(&site.sign_in("one", verified("1", "a@x.io")).await);
}

async fn an_address_joins_accounts_only_where_both_sides_have_verified_it(form: Form) {
    let site = Site::start(form).await;
    // A stranger has made an account with the victim's address, and waits.
    let stranger = site.register("victim@x.io").await;
    let victim = site.sign_in("one", verified("v", "victim@x.io")).await;
    refused(&victim, 409, "OAUTH_EMAIL_TAKEN");
    let identities = site
        .own(
            Method::GET,
            "/api/auth/identities",
            &token(&stranger),
            Value::Null,
        )
        .await;
    assert_eq!(identities.json(), json!({"identities": []}));
    let me = site
        .own(Method::GET, "/api/auth/me", &token(&stranger), Value::Null)
        .await;
    assert_eq!(me.json()["verified"], false);
    // The owner's account, and somebody who says at another provider that the address is theirs.
    let owner = user(&site.sign_in("one", verified("o", "owner@x.io")).await);
    for unverified in [json!(false), json!("false"), Value::Null] {
        let claims =
            json!({"sub": format!("t{unverified}"), "email": "owner@x.io", "email_verified": unverified});
        let thief = user(&site.sign_in("two", claims).await);
        assert_ne!(thief["id"], owner["id"]);
        assert_eq!(
            (&thief["email"], &thief["verified"]),
            (&Value::Null, &json!(false))
        );
    }
    // Where both sides have seen it, it is the same account.
    let same = user(&site.sign_in("two", verified("p", "OWNER@x.io")).await);
    assert_eq!(same["id"], owner["id"]);
    // A provider without OpenID, whose addresses are at an endpoint of their own: only the first one that is verified counts.
    let emails = |verified: bool| {
        json!([{"email": "side@x.io", "primary": false, "verified": true},
               {"email": "owner@x.io", "primary": true, "verified": verified}])
    };
    for (id, vouched) in [(7, false), (8, true)] {
        let canned = json!({"/token": {"access_token": "t"}, "/user": {"id": id, "email": "owner@x.io"},
                            "/user/emails": emails(vouched)});
        site.oidc.set(json!({"canned": canned})).await;
        let begun = site.begin("github", "").await;
        let (_, rest) = begun.header("location").split_once("&state=").expect("a state");
        let state = rest.split('&').next().expect("a state");
        assert!(begun.header("location").contains("&code_challenge="), "{begun:?}");
        let cookie = begun.header("set-cookie").split(';').next().expect("a cookie");
        let callback = format!("/api/auth/oauth/github/callback?code=c&state={state}");
        let reply = site.finish(&callback, cookie).await;
        assert_eq!(user(&reply)["id"] == owner["id"], vouched, "{reply:?}");
    }
}

async fn a_code_needs_the_secret_of_who_began(form: Form) {
    let site = Site::start(form).await;
    site.oidc.set(json!({"claims": verified("1", "a@x.io")})).await;
    for wrong in ["", CHALLENGE] {
        let code = site.code("one").await;
        refused(&site.exchange(&code, wrong).await, 400, "OAUTH_CODE_INVALID");
        refused(&site.exchange(&code, VERIFIER).await, 400, "OAUTH_CODE_INVALID");
    }
    let code = site.code("one").await;
    let uses = join_all((0..100).map(|_| site.exchange(&code, VERIFIER))).await;
    let good: Vec<&Reply> = uses.iter().filter(|reply| reply.status == 200).collect();
    assert_eq!(good.len(), 1);
    let sessions = site
        .own(Method::GET, "/api/auth/sessions", &token(good[0]), Value::Null)
        .await;
    assert_eq!(
        sessions.json()["sessions"].as_array().map(Vec::len),
        Some(1),
        "{sessions:?}"
    );
}

async fn providers_are_linked_and_taken_away(form: Form) {
    let site = Site::start(form).await;
    let ada = site.register("ada@x.io").await;
    let path = "/api/auth/identities";
    let link = async |token: &str, provider: &str| {
        let body = json!({"code": site.code(provider).await, "verifier": VERIFIER});
        site.own(Method::POST, path, token, body).await
    };
    site.oidc
        .set(json!({"claims": verified("1", "elsewhere@x.io")}))
        .await;
    assert_eq!(link(&token(&ada), "one").await.status, 204);
    let listed = site
        .own(Method::GET, path, &token(&ada), Value::Null)
        .await
        .json();
    assert_eq!(listed["identities"][0]["provider"], "one");
    assert_eq!(listed["identities"][0]["email"], "elsewhere@x.io");
    let signed_in = site.sign_in("one", verified("1", "elsewhere@x.io")).await;
    assert_eq!(user(&signed_in)["id"], ada.json()["user"]["id"]);
    // One account for each, and one of each for an account.
    let bob = site.register("bob@x.io").await;
    refused(&link(&token(&bob), "one").await, 409, "IDENTITY_TAKEN");
    site.oidc.set(json!({"claims": verified("2", "b@x.io")})).await;
    refused(&link(&token(&ada), "one").await, 409, "IDENTITY_TAKEN");
    refused(&link("nonsense", "one").await, 401, "INVALID_TOKEN");
    // Away again; but not the last way in.
    let unlink = async |token: &str, provider: &str| {
        site.own(Method::DELETE, &format!("{path}/{provider}"), token, Value::Null)
            .await
    };
    refused(&unlink(&token(&ada), "two").await, 404, "IDENTITY_NOT_FOUND");
    assert_eq!(unlink(&token(&ada), "one").await.status, 204);
    let newcomer = site.sign_in("one", json!({"sub": "1", "email": null})).await;
    assert_ne!(user(&newcomer)["id"], ada.json()["user"]["id"]);
    refused(
        &unlink(&token(&newcomer), "one").await,
        409,
        "LAST_SIGN_IN_METHOD",
    );
    assert_eq!(link(&token(&newcomer), "two").await.status, 204);
    assert_eq!(unlink(&token(&newcomer), "one").await.status, 204);
}

async fn a_second_factor_is_asked_for_behind_a_provider_too(form: Form) {
    let site = Site::start(form).await;
    let ada = site.sign_in("one", verified("1", "ada@x.io")).await;
    user(&ada);
    // Without a password, the sign-in of just now shows whose account it is.
    let path = "/api/auth/second-factor";
    let enrolled = site.own(Method::POST, path, &token(&ada), json!({})).await.json();
    let secret = enrolled["secret"].as_str().expect("a secret").to_owned();
    let confirm = json!({"code": crate::second_factor::shown(&secret, 0)});
    let confirmed = site
        .own(Method::POST, &format!("{path}/confirm"), &token(&ada), confirm)
        .await;
    assert_eq!(confirmed.status, 200, "{confirmed:?}");
    // Linked, joined by the address, with an application and without one: all of them are asked.
    let away = site.away("one", "").await;
    let here = site.finish(&away.callback, &away.cookie).await;
    assert_eq!(here.status, 202, "{here:?}");
    assert!(here.header("set-cookie").contains("Max-Age=0"), "{here:?}");
    let code = site.code("one").await;
    let there = site.exchange(&code, VERIFIER).await;
    refused(&site.exchange(&code, VERIFIER).await, 400, "OAUTH_CODE_INVALID");
    let joined = site.sign_in("two", verified("2", "ada@x.io")).await;
    for challenged in [&here, &there, &joined] {
        assert_eq!(challenged.status, 202, "{challenged:?}");
        let reply = challenged.json();
        assert_eq!(reply["second_factor_required"], true, "{reply}");
        assert!(
            reply.get("access_token").is_none() && reply.get("user").is_none(),
            "{reply}"
        );
    }
    let answer = json!({
        "challenge": there.json()["challenge"],
        "code": confirmed.json()["recovery_codes"][0],
    });
    let answered = site.http.post(&format!("{path}/login"), &answer).await;
    assert_eq!(user(&answered)["id"], ada.json()["user"]["id"]);
}

async fn an_anonymous_account_becomes_real_by_a_provider(form: Form) {
    let site = Site::start(form).await;
    let link = async |anonymous: &Reply| {
        let body = json!({"code": site.code("one").await, "verifier": VERIFIER});
        let linked = site
            .own(Method::POST, "/api/auth/identities", &token(anonymous), body)
            .await;
        assert_eq!(linked.status, 204, "{linked:?}");
        let me = site
            .own(Method::GET, "/api/auth/me", &token(anonymous), Value::Null)
            .await;
        me.json()
    };
    site.register("taken@x.io").await;
    for (sub, email, expected) in [
        ("1", "ada@x.io", json!("ada@x.io")),
        // Somebody has this one; it stays theirs.
        ("2", "taken@x.io", Value::Null),
    ] {
        let made = site.http.post("/api/auth/anonymous", &json!({})).await;
        assert_eq!(made.status, 201, "{made:?}");
        site.oidc.set(json!({"claims": verified(sub, email)})).await;
        link(&made).await;
        let me = eventually("the account is real at every gateway", || async {
            let me = site
                .own(Method::GET, "/api/auth/me", &token(&made), Value::Null)
                .await
                .json();
            if me["role"] == "user" { Ok(me) } else { Err(me) }
        })
        .await;
        assert_eq!(
            (&me["email"], &me["verified"]),
            (&expected, &json!(!expected.is_null()))
        );
        let again = site.sign_in("one", verified(sub, email)).await;
        assert_eq!(user(&again)["id"], made.json()["user"]["id"], "{email}");
        // Whoever has just signed in may leave, without a password too.
        let gone = site
            .own(Method::DELETE, "/api/auth/me", &token(&again), json!({}))
            .await;
        assert_eq!(gone.status, 204, "{gone:?}");
    }
}
