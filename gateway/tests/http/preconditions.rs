//! `ETag`, `If-Match`, `If-None-Match` and `Idempotency-Key` on documents.

use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use crate::site::{Reply, Setup, Site};

const NOTES: &str = "/api/collections/notes";

async fn with(site: &Site, (method, path): (&str, &str), headers: &[(&str, &str)], body: &str) -> Reply {
    let mut request = site.request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    site.send(request, body.to_owned()).await
}

#[tokio::test]
async fn a_document_has_one_tag_wherever_it_is_shown() {
    let site = Site::start().await;
    let created = site.call("POST", NOTES, &json!({"title": "a"})).await;
    let tag = created.header("etag").to_owned();
    assert!(
        tag.starts_with('"') && tag.ends_with('"') && tag.len() > 10,
        "{tag}"
    );
    let path = format!("{NOTES}/{}", created.json()["id"].as_str().expect("an id"));
    let got = site.get(&path).await;
    assert_eq!(got.header("etag"), tag);
    let same = site.call("PATCH", &path, &json!({})).await;
    assert_eq!(same.header("etag"), tag);
    let changed = site.call("PATCH", &path, &json!({"stars": 1})).await;
    assert_ne!(changed.header("etag"), tag);
    assert_eq!(site.get(&path).await.header("etag"), changed.header("etag"));
    let back = site.call("PUT", &path, &json!({"stars": 0})).await;
    assert_eq!(back.header("etag"), tag, "the same content has the same tag");
    assert_eq!(site.get(NOTES).await.header("etag"), "");
}

#[tokio::test]
async fn who_has_it_already_gets_304() {
    let site = Site::start().await;
    let path = format!("{NOTES}/{}", site.note("a", 1).await);
    let tag = site.get(&path).await.header("etag").to_owned();
    let weak = format!("W/{tag}");
    for known in [tag.as_str(), &weak, "*", &format!("\"x\", {tag}")] {
        let reply = with(&site, ("GET", &path), &[("if-none-match", known)], "").await;
        assert_eq!((reply.status, reply.text.as_str()), (304, ""), "{known}");
        assert_eq!(reply.header("etag"), tag);
    }
    let reply = with(&site, ("GET", &path), &[("if-none-match", "\"x\"")], "").await;
    assert_eq!(reply.status, 200);
    let reply = with(&site, ("GET", &path), &[("if-match", "\"x\"")], "").await;
    assert_eq!(reply.refusal(), (412, "PRECONDITION_FAILED".to_owned()));
    let reply = with(&site, ("GET", &path), &[("if-none-match", "x")], "").await;
    assert_eq!(reply.refusal(), (400, "INVALID_PRECONDITION".to_owned()));
    let head = with(&site, ("HEAD", &path), &[("if-none-match", &tag)], "").await;
    assert_eq!((head.status, head.header("etag")), (304, tag.as_str()));
}

#[tokio::test]
async fn a_write_may_demand_a_version() {
    let site = Site::start().await;
    let path = format!("{NOTES}/{}", site.note("a", 1).await);
    let tag = site.get(&path).await.header("etag").to_owned();
    let weak = format!("W/{tag}");
    let refused = [
        ("if-match", "\"x\""),
        ("if-match", weak.as_str()),
        ("if-none-match", "*"),
        ("if-none-match", tag.as_str()),
        ("if-none-match", weak.as_str()),
    ];
    for (method, body) in [
        ("PATCH", r#"{"stars":2}"#),
        ("PUT", r#"{"stars":2}"#),
        ("DELETE", ""),
    ] {
        for header in refused {
            let reply = with(&site, (method, &path), &[header], body).await;
            assert_eq!(
                reply.refusal(),
                (412, "PRECONDITION_FAILED".to_owned()),
                "{method} {header:?}"
            );
            assert!(reply.json()["error"].get("operation").is_none(), "{reply:?}");
        }
    }
    assert_eq!(site.get(&path).await.header("etag"), tag);
    let changed = with(&site, ("PATCH", &path), &[("if-match", &tag)], r#"{"stars":2}"#).await;
    assert_eq!((changed.status, &changed.json()["stars"]), (200, &json!(2)));
    let stale = with(&site, ("DELETE", &path), &[("if-match", &tag)], "").await;
    assert_eq!(stale.refusal(), (412, "PRECONDITION_FAILED".to_owned()));
    let now = changed.header("etag");
    let deleted = with(&site, ("DELETE", &path), &[("if-match", now)], "").await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    let missing = with(&site, ("PATCH", &path), &[("if-match", "*")], "{}").await;
    assert_eq!(missing.refusal(), (404, "DOCUMENT_NOT_FOUND".to_owned()));
}

/// Everybody adds one to what they read; whoever comes too late reads again. Nothing is lost.
#[tokio::test]
async fn of_writes_on_the_same_version_one_is_carried_out() {
    let site = Arc::new(Site::start().await);
    let path = format!("{NOTES}/{}", site.note("a", 0).await);
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (site, path) = (Arc::clone(&site), path.clone());
        tasks.spawn(async move {
            let mut lost = 0;
            for _ in 0..10 {
                loop {
                    let read = site.get(&path).await;
                    let body =
                        json!({"stars": read.json()["stars"].as_i64().expect("a number") + 1}).to_string();
                    let reply = with(
                        &site,
                        ("PATCH", &path),
                        &[("if-match", read.header("etag"))],
                        &body,
                    )
                    .await;
                    match reply.status {
                        200 => break,
                        412 => lost += 1,
                        _ => panic!("{reply:?}"),
                    }
                }
            }
            lost
        });
    }
    let lost: i32 = tasks.join_all().await.into_iter().sum();
    assert!(lost > 0, "nobody was ever too late: this tested nothing");
    assert_eq!(site.get(&path).await.json()["stars"], 80);
}

#[tokio::test]
async fn the_same_request_gets_the_same_reply_and_is_carried_out_once() {
    let site = Site::start().await;
    let key = ("idempotency-key", "k-1");
    let first = with(&site, ("POST", NOTES), &[key], r#"{"title":"once"}"#).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, ""));
    let again = with(&site, ("POST", NOTES), &[key], r#"{"title":"once"}"#).await;
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (201, "true")
    );
    assert_eq!(
        (&again.text, again.header("etag")),
        (&first.text, first.header("etag"))
    );
    assert_eq!(site.get(NOTES).await.json()["total"], 1);

    let other = with(&site, ("POST", NOTES), &[key], r#"{"title":"other"}"#).await;
    assert_eq!(other.refusal(), (409, "IDEMPOTENCY_KEY_REUSED".to_owned()));
    // A key is its caller's, for one route.
    let theirs = [key, ("authorization", "Bearer x")];
    assert_eq!(
        with(&site, ("POST", NOTES), &theirs, r#"{"title":"other"}"#)
            .await
            .status,
        201
    );
    let rooms = with(
        &site,
        ("POST", "/api/collections/rooms"),
        &[key],
        r#"{"name":"r"}"#,
    )
    .await;
    assert_eq!(rooms.status, 201);

    let path = format!("{NOTES}/{}", first.json()["id"].as_str().expect("an id"));
    let patched = with(&site, ("PATCH", &path), &[key], r#"{"stars":4}"#).await;
    site.call("PATCH", &path, &json!({"stars": 9})).await;
    let again = with(&site, ("PATCH", &path), &[key], r#"{"stars":4}"#).await;
    assert_eq!((again.status, &again.text), (200, &patched.text));
    assert_eq!(site.get(&path).await.json()["stars"], 9);
    for replayed in ["", "true"] {
        let deleted = with(&site, ("DELETE", &path), &[key], "").await;
        assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
        assert_eq!(deleted.header("idempotency-replayed"), replayed);
    }
    let numbered = "/api/collections/numbered";
    let made = with(&site, ("POST", numbered), &[key], r#"{"word":"w"}"#).await;
    let again = with(&site, ("POST", numbered), &[key], r#"{"word":"w"}"#).await;
    assert_eq!((made.status, &made.text), (201, &again.text));
}

#[tokio::test]
async fn what_failed_may_be_tried_again_under_its_key() {
    let site = Site::start().await;
    let key = ("idempotency-key", "k");
    let rooms = "/api/collections/rooms";
    site.call("POST", rooms, &json!({"name": "taken"})).await;
    let refused = with(&site, ("POST", rooms), &[key], r#"{"name":"taken"}"#).await;
    assert_eq!(refused.refusal(), (409, "UNIQUE_VIOLATION".to_owned()));
    assert_eq!(refused.json()["error"]["field"], "name");
    let other = with(&site, ("POST", rooms), &[key], r#"{"name":"free"}"#).await;
    assert_eq!(other.status, 201, "nothing was kept: {other:?}");
    let long = "x".repeat(256);
    for bad in ["", long.as_str()] {
        let reply = with(
            &site,
            ("POST", rooms),
            &[("idempotency-key", bad)],
            r#"{"name":"b"}"#,
        )
        .await;
        assert_eq!(reply.refusal(), (400, "INVALID_IDEMPOTENCY_KEY".to_owned()));
    }
    let reply = with(&site, ("POST", rooms), &[key, key], r#"{"name":"b"}"#).await;
    assert_eq!(reply.refusal(), (400, "INVALID_IDEMPOTENCY_KEY".to_owned()));
}

#[tokio::test]
async fn of_a_hundred_equal_requests_at_once_one_is_carried_out() {
    let mut setup = Setup::default();
    setup.config.server.max_body_size = 1 << 20;
    let site = Arc::new(setup.start().await);
    let counter = site.note("counter", 0).await;
    let body = json!({"operations": [
        {"op": "create", "collection": "notes", "data": {"title": "made"}},
        {"op": "update", "collection": "notes", "id": counter, "increment": {"stars": 1}},
    ]})
    .to_string();
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let (site, body) = (Arc::clone(&site), body.clone());
        tasks.spawn(
            async move { with(&site, ("POST", "/api/batch"), &[("idempotency-key", "k")], &body).await },
        );
    }
    let replies = tasks.join_all().await;
    let carried_out = replies
        .iter()
        .filter(|reply| reply.header("idempotency-replayed").is_empty());
    assert_eq!(carried_out.count(), 1);
    for reply in &replies {
        assert_eq!((reply.status, &reply.text), (200, &replies[0].text));
    }
    let page = site.get(&format!("{NOTES}?filter=title:eq:made")).await.json();
    assert_eq!(page["total"], 1);
    assert_eq!(site.get(&format!("{NOTES}/{counter}")).await.json()["stars"], 1);
}

#[tokio::test]
async fn a_reply_is_kept_for_as_long_as_the_configuration_says() {
    let mut setup = Setup::default();
    setup.config.transactions.idempotency_retention = std::time::Duration::from_secs(1);
    let site = setup.start().await;
    let key = ("idempotency-key", "k");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let first = with(&site, ("POST", NOTES), &[key], r#"{"title":"a"}"#).await;
    loop {
        let again = with(&site, ("POST", NOTES), &[key], r#"{"title":"a"}"#).await;
        assert_eq!(again.status, 201);
        if again.header("idempotency-replayed").is_empty() {
            assert_ne!(again.text, first.text);
            break;
        }
        assert_eq!(again.text, first.text);
        assert!(std::time::Instant::now() < end, "it is kept for ever");
    }
}
