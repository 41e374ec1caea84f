//! Documents over REST.

use alyx_tests::{Form, Http, Project, Server};
use http::Method;
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    a_document_lives_through_create_get_update_and_delete,
    values_at_the_edges_come_back_as_they_were,
    bad_bodies_are_refused_by_name,
    lists_filter_in_all_three_spellings_sort_and_page,
    bad_queries_are_refused_and_never_become_sql,
    conflicts_and_references_hold,
    hyphens_and_keywords_are_ordinary_names,
    both_forms_of_the_schema_serve_the_same,
    a_closed_collection_refuses_everybody,
}

const SCHEMA: &str = "
collections:
  posts:
    fields:
      title: {type: string, validate: {minLength: 2, maxLength: 40}}
      body: {type: text, nullable: true}
      views: {type: int, default: 0, index: true}
      score: {type: float, nullable: true}
      published: {type: bool, default: false}
      tags: {type: json, nullable: true}
      slug: {type: string, unique: true, nullable: true}
      secret: {type: string, internal: true, nullable: true}
      avatar: {type: blob, nullable: true}
      created_at: {type: timestamp, default: now}
      updated_at: {type: timestamp, default: now, onUpdate: now}
  comments:
    fields:
      id: {type: int, primary: true, default: auto}
      post: {type: uuid, references: posts.id, onDelete: cascade}
      text: {type: text}
  order-items:
    fields:
      group: {type: string}
      select: {type: int, index: true}
";

async fn start(form: Form) -> (Project, Server) {
    let project = Project::with_schema(SCHEMA);
    let server = form.start(&project).await;
    (project, server)
}

async fn create(http: &Http, document: Value) -> Value {
    let reply = http.post("/api/collections/posts", &document).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()
}

async fn a_document_lives_through_create_get_update_and_delete(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let made = create(
        &http,
        json!({"title": "Hello", "tags": {"a": [1, 2.5, null, "ü"]}, "avatar": "AAEC"}),
    )
    .await;
    let id = made["id"].as_str().expect("an id");
    assert_eq!(made["views"], 0);
    assert_eq!(made["published"], false);
    assert_eq!(made["body"], Value::Null);
    assert_eq!(made["avatar"], "AAEC");
    assert!(made.get("secret").is_none(), "{made}");
    let path = format!("/api/collections/posts/{id}");
    assert_eq!(http.get(&path).await.json(), made);

    for method in [Method::PATCH, Method::PUT] {
        let body = json!({"views": 7, "id": "ignored"}).to_string();
        let reply = http.send(method, &path, &[], body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let changed = reply.json();
        assert_eq!(changed["views"], 7);
        assert_eq!(changed["title"], "Hello");
        assert_eq!(changed["id"], id);
        assert_eq!(changed["created_at"], made["created_at"]);
    }
    // A body that sets nothing changes nothing; the stamp of an update is the server's, whatever a caller sends.
    let before = http.get(&path).await.json();
    let same = http.patch(&path, &json!({})).await;
    assert_eq!((same.status, same.json()), (200, before.clone()));
    let stamp = json!({"views": 8, "updated_at": "2001-01-01T00:00:00Z"});
    let stamped = http.patch(&path, &stamp).await.json();
    assert!(
        stamped["updated_at"].as_str() > before["updated_at"].as_str(),
        "{stamped} after {before}"
    );
    let deleted = http.delete(&path).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    for reply in [
        http.get(&path).await,
        http.delete(&path).await,
        http.patch(&path, &json!({"views": 1})).await,
    ] {
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (404, "DOCUMENT_NOT_FOUND"),
            "{reply:?}"
        );
    }
}

async fn values_at_the_edges_come_back_as_they_were(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    for (field, value) in [
        ("views", json!(i64::MAX)),
        ("views", json!(i64::MIN)),
        ("views", json!(9_007_199_254_740_993_i64)),
        ("score", json!(0.1)),
        ("score", json!(1.797_693_134_862_315_7e308)),
        ("score", json!(-2.5e-300)),
        (
            "tags",
            json!({"n": 9_007_199_254_740_993_i64, "s": "\u{1f600}\"\\"}),
        ),
        ("tags", json!("just text")),
        ("body", json!("line\nline\t\"quoted\" — \u{1f600}")),
    ] {
        let made = create(&http, json!({"title": "edge", field: value.clone()})).await;
        let read = http
            .get(&format!(
                "/api/collections/posts/{}",
                made["id"].as_str().expect("an id")
            ))
            .await;
        assert_eq!(read.json()[field], value, "{}", read.text);
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
async fn bad_bodies_are_refused_by_name(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let check = async |body: &str, status: u16, code: &str, field: &str| {
        let reply = http
            .send(Method::POST, "/api/collections/posts", &[], body.to_owned())
            .await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (status, code),
            "{body} → {reply:?}"
        );
        let error = &reply.json()["error"];
        assert!(error["request_id"].is_string(), "{reply:?}");
        if !field.is_empty() {
            assert_eq!(error["field"], field, "{reply:?}");
            assert!(
                error["details"]
                    .as_array()
                    .is_some_and(|d| d.iter().any(|d| d["field"] == field)),
                "{reply:?}"
            );
        }
    };
    check("", 400, "INVALID_JSON", "").await;
    check("{", 400, "INVALID_JSON", "").await;
    check("[]", 400, "INVALID_JSON", "").await;
    check("{\"title\": \"ok\"} x", 400, "INVALID_JSON", "").await;
    check("{}", 400, "VALIDATION_ERROR", "title").await;
    check("{\"title\": null}", 400, "VALIDATION_ERROR", "title").await;
    check("{\"title\": 5}", 400, "VALIDATION_ERROR", "title").await;
    check("{\"title\": \"x\"}", 400, "VALIDATION_ERROR", "title").await;
    check(
        "{\"title\": \"ok\", \"views\": 1.5}",
        400,
        "VALIDATION_ERROR",
        "views",
    )
    .await;
    check(
        "{\"title\": \"ok\", \"views\": 9223372036854775808}",
        400,
        "VALIDATION_ERROR",
        "views",
    )
    .await;
    check(
        "{\"title\": \"ok\", \"views\": 1e400}",
        400,
        "VALIDATION_ERROR",
        "views",
    )
    .await;
    check(
        "{\"title\": \"ok\", \"published\": \"yes\"}",
        400,
        "VALIDATION_ERROR",
        "published",
    )
    .await;
    check(
        "{\"title\": \"ok\", \"nope\": 1}",
        400,
        "VALIDATION_ERROR",
        "nope",
    )
    .await;
    check(
        "{\"title\": \"ok\", \"created_at\": \"soon\"}",
        400,
        "VALIDATION_ERROR",
        "created_at",
    )
    .await;
    check(
        "{\"title\": \"ok\", \"avatar\": \"?\"}",
        400,
        "VALIDATION_ERROR",
        "avatar",
    )
    .await;
    let large = format!("{{\"title\": \"ok\", \"body\": \"{}\"}}", "x".repeat(11 << 20));
    let reply = http
        .try_send(Method::POST, "/api/collections/posts", &[], large)
        .await
        .expect("an answer");
    assert_eq!(reply.status, 413, "{:?}", reply.headers);
    assert_eq!(http.get("/api/collections/posts").await.json()["total"], 0);
}

#[expect(clippy::too_many_lines, reason = "a table")]
async fn lists_filter_in_all_three_spellings_sort_and_page(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    for n in 0..25 {
        let document = json!({"title": format!("post {n:02}"), "views": n, "published": n % 2 == 0,
                              "tags": [format!("t{}", n % 3), n], "body": if n < 3 { Value::Null } else { json!("a:b") }});
        create(&http, document).await;
    }
    let views = async |query: &str| -> Vec<i64> {
        let reply = http.get(&format!("/api/collections/posts?{query}")).await;
        assert_eq!(reply.status, 200, "{query} → {reply:?}");
        let list = reply.json();
        list["docs"]
            .as_array()
            .expect("docs")
            .iter()
            .map(|d| d["views"].as_i64().expect("views"))
            .collect()
    };
    let json_filter = |filter: Value| {
        let text = filter.to_string();
        text.bytes().fold("sort=views&filter=".to_owned(), |out, byte| {
            out + &format!("%{byte:02X}")
        })
    };
    assert_eq!(
        views("filter=views:gte:20&filter=views:lt:23&sort=-views").await,
        [22, 21, 20]
    );
    assert_eq!(views("views=4").await, [4]);
    assert_eq!(
        views("published=true&filter=views:lte:4&sort=views").await,
        [0, 2, 4]
    );
    assert_eq!(
        views("filter=published:eq:false&sort=views&limit=2").await,
        [1, 3]
    );
    assert_eq!(views("filter=views:in:3,5,99&sort=views").await, [3, 5]);
    assert_eq!(views("filter=title:like:POST%20_1&sort=views").await, [1, 11, 21]);
    assert_eq!(
        views("filter=title:contains:t%200&sort=views&limit=3").await,
        [0, 1, 2]
    );
    assert_eq!(views("filter=body:is_null&sort=views").await, [0, 1, 2]);
    assert_eq!(views("filter=body:eq:a:b&sort=views&limit=1").await, [3]);
    assert_eq!(views(&json_filter(json!({"views": {"$gt": 22}}))).await, [23, 24]);
    assert_eq!(
        views(&json_filter(
            json!({"tags": {"$contains": "t1"}, "views": {"$lt": 6}})
        ))
        .await,
        [1, 4]
    );
    assert_eq!(
        views(&json_filter(
            json!({"$or": [{"views": 1}, {"$not": {"views": {"$lt": 24}}}]})
        ))
        .await,
        [1, 24]
    );
    assert_eq!(
        views("sort=-views&page=2&perPage=10").await,
        (5..15).rev().collect::<Vec<_>>()
    );
    assert_eq!(
        views("sort=-views&limit=10&offset=10").await,
        (5..15).rev().collect::<Vec<_>>()
    );
    assert_eq!(views("sort=published,-views&limit=2").await, [23, 21]);
    assert_eq!(views("limit=0").await, [0_i64; 0]);

    let list = http
        .get("/api/collections/posts?limit=3&sort=views&fields=title,views")
        .await
        .json();
    assert_eq!(list["total"], 25);
    assert_eq!((&list["limit"], &list["offset"]), (&json!(3), &json!(0)));
    assert_eq!(list["docs"][0], json!({"title": "post 00", "views": 0}));
    let uncounted = http
        .get("/api/collections/posts?count=false&limit=1")
        .await
        .json();
    assert!(uncounted.get("total").is_none(), "{uncounted}");
    let none = http.get("/api/collections/posts?views=1000").await.json();
    assert_eq!((&none["docs"], &none["total"]), (&json!([]), &json!(0)));
}

async fn bad_queries_are_refused_and_never_become_sql(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    create(&http, json!({"title": "one"})).await;
    for (query, code) in [
        ("filter=nope:eq:1", "INVALID_FILTER"),
        ("filter=views:almost:1", "INVALID_FILTER"),
        ("filter=views", "INVALID_FILTER"),
        ("filter=views:eq:many", "INVALID_FILTER"),
        ("filter=secret:eq:x", "INVALID_FILTER"),
        ("filter=%7Bbroken", "INVALID_FILTER"),
        ("sort=nope", "INVALID_QUERY"),
        ("sort=secret", "INVALID_QUERY"),
        ("sort=views;DROP%20TABLE%20posts", "INVALID_QUERY"),
        ("limit=-1", "INVALID_QUERY"),
        ("limit=ten", "INVALID_QUERY"),
        ("page=0", "INVALID_QUERY"),
        ("fields=secret", "INVALID_QUERY"),
        ("nope=1", "INVALID_QUERY"),
    ] {
        let reply = http.get(&format!("/api/collections/posts?{query}")).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, code),
            "{query} → {reply:?}"
        );
    }
    assert_eq!(http.get("/api/collections/posts").await.json()["total"], 1);
    let reply = http.get("/api/collections/nope").await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (404, "COLLECTION_NOT_FOUND")
    );
}

async fn conflicts_and_references_hold(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let post = create(&http, json!({"title": "one", "slug": "one"})).await;
    let twice = http
        .post("/api/collections/posts", &json!({"title": "two", "slug": "one"}))
        .await;
    assert_eq!(
        (twice.status, twice.code().as_str()),
        (409, "UNIQUE_VIOLATION"),
        "{twice:?}"
    );
    assert_eq!(twice.json()["error"]["field"], "slug");
    let orphan = json!({"post": "01890a5d-ac96-774b-bcce-b302099a8057", "text": "hi"});
    let orphan = http.post("/api/collections/comments", &orphan).await;
    assert_eq!(
        (orphan.status, orphan.code().as_str()),
        (409, "FOREIGN_KEY_VIOLATION"),
        "{orphan:?}"
    );
    let comment = http
        .post(
            "/api/collections/comments",
            &json!({"post": post["id"], "text": "hi"}),
        )
        .await;
    assert_eq!(
        (comment.status, &comment.json()["id"]),
        (201, &json!(1)),
        "{comment:?}"
    );
    let removed = http
        .delete(&format!(
            "/api/collections/posts/{}",
            post["id"].as_str().expect("an id")
        ))
        .await;
    assert_eq!(removed.status, 204);
    assert_eq!(
        http.get("/api/collections/comments").await.json()["docs"],
        json!([])
    );
}

async fn hyphens_and_keywords_are_ordinary_names(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let made = http
        .post(
            "/api/collections/order-items",
            &json!({"group": "a", "select": 2}),
        )
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    let found = http
        .get("/api/collections/order-items?select=2&sort=-group")
        .await
        .json();
    assert_eq!(found["docs"][0]["group"], "a");
}

async fn both_forms_of_the_schema_serve_the_same(form: Form) {
    let list = "
collections:
  - name: users
    fields:
      - {name: email, type: string, required: true, unique: true}
      - {name: age, type: int}
";
    let project = Project::with_schema(list);
    let server = form.start(&project).await;
    let reply = server
        .http()
        .post(
            "/api/collections/users",
            &json!({"email": "a@example.com", "age": 3}),
        )
        .await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert!(reply.json()["id"].is_string());
}

async fn a_closed_collection_refuses_everybody(form: Form) {
    let schema = "
default_access: deny
collections:
  notes:
    fields: {text: {type: text}}
  board:
    fields: {text: {type: text}}
    rules: {read: \"true\", create: true}
";
    let project = Project::with_schema(schema);
    let server = form.start(&project).await;
    let http = server.http();
    let refused = http.post("/api/collections/notes", &json!({"text": "x"})).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "FORBIDDEN"),
        "{refused:?}"
    );
    assert_eq!(http.get("/api/collections/notes").await.status, 403);
    let made = http.post("/api/collections/board", &json!({"text": "x"})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let path = format!(
        "/api/collections/board/{}",
        made.json()["id"].as_str().expect("an id")
    );
    assert_eq!(http.get(&path).await.status, 200);
    assert_eq!(http.delete(&path).await.status, 403);
    assert_eq!(http.patch(&path, &json!({"text": "y"})).await.status, 403);
}
