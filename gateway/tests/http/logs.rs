//! The last requests, as operators look them up.

use serde_json::{Value as Json, json};

use crate::accounts::setup;
use crate::site::{Reply, Site};

const LOGS: &str = "/api/admin/logs";

async fn logs(site: &Site, token: &str, query: &str) -> Reply {
    let path = format!("{LOGS}?exclude_path_prefix=/api/admin&{query}");
    site.with_token("GET", &path, token, &Json::Null).await
}

/// Method, path and status of each entry.
fn told(reply: &Reply) -> Vec<String> {
    let page = reply.json();
    let entries = page["entries"].as_array().expect("entries").iter();
    entries
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().expect("a text").to_owned();
            format!("{} {} {}", text("method"), text("path"), entry["status"])
        })
        .collect()
}

#[tokio::test]
async fn operators_see_the_last_requests_newest_first() {
    let mut setup = setup();
    setup.config.server.trusted_proxies = vec!["127.0.0.1".to_owned()];
    let site = setup.start().await;
    let (reader, admin) = (
        site.token("r", "admin:read").await,
        site.token("a", "admin").await,
    );
    let account = site.register("ann@x.io").await.access;
    let request = site
        .request("POST", "/api/collections/notes?token=hush&sort=-x")
        .header("authorization", format!("Bearer {account}"))
        .header("x-request-id", "one")
        .header("x-forwarded-for", "203.0.113.9")
        .header("user-agent", "tests");
    let made = site.send(request, r#"{"title":"confidential"}"#).await;
    assert_eq!(made.status, 201, "{made:?}");
    site.get("/health/live").await;
    site.get("/metrics").await;
    let bad = site.with_token("GET", "/api/collections/notes", "alyx_made-up", &Json::Null);
    assert_eq!(bad.await.status, 401);
    site.get("/api/collections/none").await;

    let all = logs(&site, &reader, "").await;
    assert_eq!(
        told(&all),
        [
            "GET /api/collections/none 404",
            "GET /api/collections/notes 401",
            "POST /api/collections/notes 201",
            "POST /api/auth/register 201",
        ]
    );
    let page = all.json();
    assert_eq!(
        (&page["total"], &page["limit"], &page["offset"]),
        (&json!(4), &json!(100), &json!(0))
    );
    let entry = &page["entries"][2];
    for (name, expected) in [
        ("id", json!("one")),
        ("query", json!("token=***&sort=-x")),
        ("bytes_in", json!(24)),
        ("client_ip", json!("203.0.113.9")),
        ("user_agent", json!("tests")),
        ("user_kind", json!("account")),
    ] {
        assert_eq!(entry[name], expected, "{name}: {entry}");
    }
    assert!(
        entry["bytes_out"].as_u64().is_some_and(|bytes| bytes > 50),
        "{entry}"
    );
    assert!(
        entry["duration"].as_u64().is_some_and(|nanos| nanos > 1_000),
        "{entry}"
    );
    assert!(entry.get("error_code").is_none(), "{entry}");
    assert_eq!(page["entries"][1]["error_code"], "INVALID_TOKEN");
    for secret in [
        "hush",
        "confidential",
        "made-up",
        &account,
        &reader,
        "correct horse",
    ] {
        assert!(!all.text.contains(secret), "{secret} is in {}", all.text);
    }

    filters_choose_among_them(&site, &reader, entry).await;

    let stats = site.with_token("GET", "/api/admin/logs/stats", &reader, &Json::Null);
    let stats = stats.await.json();
    assert_eq!(stats["capacity"], 1000);
    assert!(stats["count"].as_u64().is_some_and(|count| count > 4), "{stats}");
    let clear = async |token: &str| {
        site.with_token("POST", "/api/admin/logs/clear", token, &Json::Null)
            .await
    };
    assert_eq!(clear(&reader).await.refusal(), (403, "SCOPE_MISSING".to_owned()));
    assert_eq!(clear(&admin).await.status, 200);
    assert_eq!(told(&logs(&site, &reader, "").await), [""; 0]);
}

/// After the requests above, of which `entry` is the one that Ann made.
async fn filters_choose_among_them(site: &Site, reader: &str, entry: &Json) {
    let ann = entry["user_id"].as_str().expect("an id");
    for (query, expected) in [
        (format!("user_id={ann}"), 1),
        ("method=post".to_owned(), 2),
        ("path=/api/collections/notes".to_owned(), 2),
        ("path=/api/collections".to_owned(), 0),
        ("status=401".to_owned(), 1),
        ("min_status=400".to_owned(), 2),
        ("max_status=299".to_owned(), 2),
        ("min_status=400&max_status=401".to_owned(), 1),
        (
            format!("since={}", entry["timestamp"].as_str().expect("a time")),
            3,
        ),
        ("until=2020-01-01T00:00:00Z".to_owned(), 0),
        ("since=2020-01-01&limit=1&offset=1".to_owned(), 4),
    ] {
        let found = logs(site, reader, &query).await.json();
        assert_eq!(found["total"], expected, "{query}: {found}");
    }
    let second = logs(site, reader, "limit=1&offset=1").await;
    assert_eq!(told(&second), ["GET /api/collections/notes 401"]);
    for query in [
        "limit=1001",
        "limit=x",
        "status=-1",
        "since=yesterday",
        "colour=red",
    ] {
        let refused = logs(site, reader, query).await;
        assert_eq!(refused.refusal(), (400, "INVALID_QUERY".to_owned()), "{query}");
    }
}
