//! Status codes, bodies and bounds of the document routes.

use serde_json::{Value as Json, json};

use crate::site::{Setup, Site};

#[tokio::test]
async fn a_document_lives_from_201_to_204() {
    let site = Site::start().await;
    let created = site
        .call("POST", "/api/collections/notes", &json!({"title": "a"}))
        .await;
    assert_eq!(created.status, 201);
    let document = created.json();
    let id = document["id"].as_str().expect("an id");
    assert_eq!(document["stars"], 0);
    assert!(document.get("secret").is_none());
    let path = format!("/api/collections/notes/{id}");

    let got = site.get(&path).await;
    assert_eq!(
        (got.status, got.header("content-type")),
        (200, "application/json")
    );
    assert_eq!(got.json(), document);
    for (method, stars) in [("PATCH", 3), ("PUT", 4)] {
        let changed = site.call(method, &path, &json!({"stars": stars})).await;
        assert_eq!(changed.status, 200);
        assert_eq!(changed.json()["stars"], stars);
        assert_eq!(changed.json()["title"], "a");
    }
    let unchanged = site.call("PATCH", &path, &json!({})).await;
    assert_eq!((unchanged.status, &unchanged.json()["stars"]), (200, &json!(4)));
    let deleted = site.call("DELETE", &path, &Json::Null).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    assert_eq!(
        site.get(&path).await.refusal(),
        (404, "DOCUMENT_NOT_FOUND".to_owned())
    );
    let again = site.call("DELETE", &path, &Json::Null).await;
    assert_eq!(again.refusal(), (404, "DOCUMENT_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn a_key_made_by_the_database_is_in_the_reply() {
    let site = Site::start().await;
    for expected in 1..=3 {
        let created = site
            .call("POST", "/api/collections/numbered", &json!({"word": "x"}))
            .await;
        assert_eq!((created.status, &created.json()["id"]), (201, &json!(expected)));
    }
    assert_eq!(site.get("/api/collections/numbered/2").await.json()["id"], 2);
}

const NOTES: &str = "/api/collections/notes";
const MISSING: &str = "00000000-0000-7000-8000-000000000000";

/// Sends each request and compares status and code of its refusal.
async fn check_refusals(site: &Site, table: &[(&str, &str, &str, u16, &str)]) {
    for &(method, path, body, status, code) in table {
        let reply = site.send(site.request(method, path), body.to_owned()).await;
        let expected = (status, code.to_owned());
        assert_eq!(
            reply.refusal(),
            expected,
            "{method} {path} {body}: {}",
            reply.text
        );
    }
}

#[tokio::test]
async fn bad_bodies_say_what_is_wrong() {
    let site = Site::start().await;
    let note = format!("{NOTES}/{}", site.note("n", 1).await);
    let table = [
        ("POST", NOTES, "{", 400, "INVALID_JSON"),
        ("POST", NOTES, "", 400, "INVALID_JSON"),
        ("POST", NOTES, "[]", 400, "INVALID_JSON"),
        ("POST", NOTES, "{}", 400, "VALIDATION_ERROR"),
        ("POST", NOTES, r#"{"title":""}"#, 400, "VALIDATION_ERROR"),
        (
            "POST",
            NOTES,
            r#"{"title":"x","typo":1}"#,
            400,
            "VALIDATION_ERROR",
        ),
        ("PATCH", &note, r#"{"stars":"many"}"#, 400, "VALIDATION_ERROR"),
        ("PUT", &note, "{", 400, "INVALID_JSON"),
    ];
    check_refusals(&site, &table).await;
    let details = site
        .call("POST", NOTES, &json!({"title": "", "typo": 1}))
        .await
        .json();
    assert_eq!(details["error"]["details"].as_array().map(Vec::len), Some(2));
    let form = site
        .request("POST", NOTES)
        .header("content-type", "multipart/form-data; boundary=x");
    assert_eq!(
        site.send(form, "--x--").await.refusal(),
        (415, "UNSUPPORTED_MEDIA_TYPE".to_owned())
    );
}

#[tokio::test]
async fn what_is_not_there_is_404_and_bad_queries_are_400() {
    let site = Site::start().await;
    let absent = format!("{NOTES}/{MISSING}");
    let table = [
        (
            "PATCH",
            absent.as_str(),
            r#"{"stars":1}"#,
            404,
            "DOCUMENT_NOT_FOUND",
        ),
        ("PATCH", &absent, "{}", 404, "DOCUMENT_NOT_FOUND"),
        ("GET", &absent, "", 404, "DOCUMENT_NOT_FOUND"),
        (
            "GET",
            "/api/collections/notes/not-a-uuid",
            "",
            404,
            "DOCUMENT_NOT_FOUND",
        ),
        ("GET", "/api/collections/nothing", "", 404, "COLLECTION_NOT_FOUND"),
        (
            "GET",
            "/api/collections/_alyx_changes",
            "",
            404,
            "COLLECTION_NOT_FOUND",
        ),
        (
            "GET",
            "/api/collections/notes?filter=secret:eq:x",
            "",
            400,
            "INVALID_FILTER",
        ),
        ("GET", "/api/collections/notes?limit=-1", "", 400, "INVALID_QUERY"),
        ("GET", "/api/collections/%ff", "", 400, "INVALID_PATH"),
    ];
    check_refusals(&site, &table).await;
}

#[tokio::test]
async fn conflicts_are_409_with_their_kind() {
    let site = Site::start().await;
    let rooms = "/api/collections/rooms";
    let room = site.call("POST", rooms, &json!({"name": "r"})).await.json();
    let room = room["id"].as_str().expect("an id");
    let note = site
        .call("POST", NOTES, &json!({"title": "n", "room": room}))
        .await;
    assert_eq!(note.status, 201);
    let (stray, room) = (
        format!(r#"{{"title":"x","room":"{MISSING}"}}"#),
        format!("{rooms}/{room}"),
    );
    let table = [
        ("POST", NOTES, stray.as_str(), 409, "FOREIGN_KEY_VIOLATION"),
        ("POST", rooms, r#"{"name":"r"}"#, 409, "UNIQUE_VIOLATION"),
        ("DELETE", &room, "", 409, "FOREIGN_KEY_VIOLATION"),
    ];
    check_refusals(&site, &table).await;
}

#[tokio::test]
async fn bodies_are_bounded_whether_their_length_is_declared_or_not() {
    let site = Site::start().await;
    let body = json!({"title": "x".repeat(5000)}).to_string();
    let declared = site
        .send(site.request("POST", "/api/collections/notes"), body.clone())
        .await;
    assert_eq!(declared.refusal(), (413, "PAYLOAD_TOO_LARGE".to_owned()));

    let chunks: Vec<String> = body
        .as_bytes()
        .chunks(512)
        .map(|c| String::from_utf8_lossy(c).into())
        .collect();
    let reply = crate::connections::send_chunked(&site, "/api/collections/notes", &chunks).await;
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    assert!(reply.contains("PAYLOAD_TOO_LARGE"), "{reply}");
}

#[tokio::test]
async fn a_body_in_chunks_is_one_body() {
    let site = Site::start().await;
    let chunks = ["{\"ti", "tle\":", "\"in parts\"}"].map(str::to_owned);
    let reply = crate::connections::send_chunked(&site, "/api/collections/notes", &chunks).await;
    assert!(reply.starts_with("HTTP/1.1 201 "), "{reply}");
    assert!(reply.contains("in parts"), "{reply}");
}

#[tokio::test]
async fn lists_page_filter_sort_and_select() {
    let site = Site::start().await;
    for stars in 0..5 {
        site.note("n", stars).await;
    }
    let check = async |query: &str, expected: Json| {
        let reply = site.get(&format!("/api/collections/notes?{query}")).await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.text);
        let mut page = reply.json();
        let docs = page["docs"]
            .as_array()
            .expect("docs")
            .iter()
            .map(|doc| doc["stars"].clone())
            .collect();
        page["docs"] = Json::Array(docs);
        let next = page.as_object_mut().expect("an object").remove("next");
        assert_eq!(page, expected, "{query}");
        let count = |name: &str| page[name].as_u64();
        let shown = page["docs"].as_array().map(|docs| docs.len() as u64);
        let more = count("offset").zip(shown).zip(count("total"));
        let more = more.is_none_or(|((offset, shown), total)| offset + shown < total);
        let full = shown == count("limit") && shown != Some(0);
        assert_eq!(next.is_some_and(|next| next.is_string()), full && more, "{query}");
    };
    check(
        "sort=-stars&limit=2",
        json!({"docs": [4, 3], "total": 5, "limit": 2, "offset": 0}),
    )
    .await;
    check(
        "sort=stars&page=2&perPage=2",
        json!({"docs": [2, 3], "total": 5, "limit": 2, "offset": 2}),
    )
    .await;
    check(
        "sort=stars&filter=stars:gte:3&count=false",
        json!({"docs": [3, 4], "limit": 100, "offset": 0}),
    )
    .await;
    check(
        "filter=%7B%22stars%22%3A%7B%22%24in%22%3A%5B1%2C9%5D%7D%7D",
        json!({"docs": [1], "total": 1, "limit": 100, "offset": 0}),
    )
    .await;
    check(
        "stars=9",
        json!({"docs": [], "total": 0, "limit": 100, "offset": 0}),
    )
    .await;
    check(
        "limit=0",
        json!({"docs": [], "total": 5, "limit": 0, "offset": 0}),
    )
    .await;
    let selected = site
        .get("/api/collections/notes?fields=stars&limit=1&sort=stars")
        .await
        .json();
    assert_eq!(selected["docs"], json!([{"stars": 0}]));
}

/// A total from the cache must be the one that counting gives, whatever was written in between.
#[tokio::test]
async fn totals_stay_exact_while_documents_come_change_and_go() {
    let site = Site::start().await;
    let queries = ["", "filter=stars:gte:5", "filter=title:eq:odd&filter=stars:lt:8"];
    let mut ids: Vec<(String, i64, &str)> = Vec::new();
    for step in 0..120_i64 {
        let title = if step % 2 == 1 { "odd" } else { "even" };
        let (stars, at) = (step % 10, usize::try_from(step * 7).unwrap() % ids.len().max(1));
        match step % 4 {
            3 => {
                let (id, ..) = ids.swap_remove(at);
                let gone = site
                    .call("DELETE", &format!("/api/collections/notes/{id}"), &Json::Null)
                    .await;
                assert_eq!(gone.status, 204);
            }
            2 => {
                let path = format!("/api/collections/notes/{}", ids[at].0);
                assert_eq!(
                    site.call("PATCH", &path, &json!({"stars": stars})).await.status,
                    200
                );
                ids[at].1 = stars;
            }
            _ => ids.push((site.note(title, stars).await, stars, title)),
        }
        site.call(
            "POST",
            "/api/collections/rooms",
            &json!({"name": step.to_string()}),
        )
        .await;
        if step % 5 == 0 {
            let expected = [
                ids.len(),
                ids.iter().filter(|(_, stars, _)| *stars >= 5).count(),
                ids.iter()
                    .filter(|(_, stars, title)| *title == "odd" && *stars < 8)
                    .count(),
            ];
            for (query, expected) in queries.iter().zip(expected) {
                let page = site
                    .get(&format!("/api/collections/notes?{query}&limit=1"))
                    .await
                    .json();
                assert_eq!(page["total"], expected, "step {step}: {query}");
            }
        }
    }
    let metrics = site.get("/metrics").await.text;
    let cached = metrics
        .lines()
        .find(|line| line.contains("list_totals_total{source=\"cache\"}"));
    let cached: u64 = cached
        .and_then(|line| line.rsplit(' ').next())
        .unwrap()
        .parse()
        .unwrap();
    assert!(cached > 40, "the cache was hardly used: {cached}");
}

/// More changes than are added up, and many at once, fall back to counting.
#[tokio::test]
async fn totals_are_counted_again_after_many_changes() {
    let site = Site::start().await;
    let total = async || site.get("/api/collections/notes?limit=0").await.json()["total"].clone();
    assert_eq!(total().await, 0);
    for round in 1..=2 {
        let rows = 300;
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
             INSERT INTO notes (id, title, stars, created_at) \
             SELECT lower(hex(randomblob(16))), 'n', i, '2026-01-01T00:00:00.000Z' FROM n"
        );
        let write = alyx_store::Write {
            steps: vec![alyx_store::WriteStep {
                statement: alyx_core::Statement::new(sql, Vec::new()),
                expect: alyx_store::Expect::Any,
            }],
            deadline: std::time::Instant::now() + std::time::Duration::from_secs(30),
        };
        site.store.write(write).await.expect("a write");
        assert_eq!(total().await, rows * round);
        assert_eq!(total().await, rows * round);
    }
}

#[tokio::test]
async fn closed_collections_answer_403_and_leak_nothing() {
    let site = Setup {
        edit: |schema| {
            let notes = schema.collections.get_mut("notes").expect("notes");
            let mut closed = (**notes).clone();
            closed.access = alyx_schema::Access::CLOSED;
            *notes = std::sync::Arc::new(closed);
            let rooms = schema.collections.get_mut("rooms").expect("rooms");
            let mut blind = (**rooms).clone();
            blind.access.read = false;
            *rooms = std::sync::Arc::new(blind);
        },
        ..Setup::default()
    }
    .start()
    .await;
    let one = "/api/collections/notes/00000000-0000-7000-8000-000000000000";
    for (method, path) in [
        ("GET", "/api/collections/notes"),
        ("POST", "/api/collections/notes"),
        ("GET", one),
        ("PATCH", one),
        ("PUT", one),
        ("DELETE", one),
    ] {
        let reply = site.call(method, path, &json!({})).await;
        assert_eq!(reply.refusal(), (403, "FORBIDDEN".to_owned()), "{method} {path}");
    }
    let created = site
        .call("POST", "/api/collections/rooms", &json!({"name": "a"}))
        .await;
    assert_eq!(created.status, 201);
    let id = created.json()["id"].clone();
    let path = format!("/api/collections/rooms/{}", id.as_str().expect("an id"));
    let changed = site.call("PATCH", &path, &json!({"name": "b"})).await;
    assert_eq!((changed.status, changed.json()), (200, json!({"id": id})));
}

#[tokio::test]
async fn a_search_does_not_look_into_internal_fields() {
    let site = Site::start().await;
    let made = site
        .call("POST", "/api/collections/notes", &json!({"title": "plain words"}))
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    let sql = "UPDATE notes SET secret = 'hunter2' RETURNING id";
    site.sql(sql, Vec::new()).await;
    for (search, total) in [("words", 1), ("hunter2", 0), ("unter", 0)] {
        let found = site.get(&format!("/api/collections/notes?search={search}")).await;
        assert_eq!(found.json()["total"], total, "{search}: {found:?}");
    }
}
