//! What can be asked of many documents, over REST, the WebSocket and `ctx.db`.

mod search;

use alyx_tests::{Form, Http, Project, Server};
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    limits_pages_and_empty_lists_are_as_documented,
    cursors_walk_the_whole_list_while_documents_come,
    filters_reach_into_json_and_across_references,
    expand_puts_documents_in_place_of_keys,
    a_slow_query_is_stopped_and_holds_nobody_up,
    figures_are_told_by_group,
    live_queries_look_into_json_and_across_references,
    functions_ask_the_same,
}

const SCHEMA: &str = "
collections:
  teams:
    fields:
      name: {type: string}
  authors:
    fields:
      name: {type: string}
      team: {type: uuid, nullable: true, references: teams.id}
  secrets:
    rules: {create: true, read: false}
    fields:
      word: {type: string}
  posts:
    fields:
      title: {type: string}
      author_id: {type: uuid, nullable: true, references: authors.id}
      secret: {type: uuid, nullable: true, references: secrets.id}
      views: {type: int, default: 0, index: true}
      rating: {type: int, nullable: true, index: true}
      published: {type: bool, default: false}
      meta: {type: json, nullable: true}
      hidden: {type: string, internal: true, nullable: true}
      at: {type: timestamp, default: now}
";

async fn start(form: Form) -> (Project, Server) {
    let project = Project::with_schema(SCHEMA);
    let server = form.start(&project).await;
    (project, server)
}

async fn create(http: &Http, collection: &str, document: Value) -> Value {
    let reply = http
        .post(&format!("/api/collections/{collection}"), &document)
        .await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()
}

async fn list(http: &Http, query: &str) -> Value {
    let reply = http.get(&format!("/api/collections/posts?{query}")).await;
    assert_eq!(reply.status, 200, "{query} → {reply:?}");
    reply.json()
}

async fn titles(http: &Http, query: &str) -> Vec<String> {
    let list = list(http, query).await;
    let docs = list["docs"].as_array().expect("docs");
    docs.iter()
        .map(|doc| doc["title"].as_str().expect("a title").to_owned())
        .collect()
}

async fn refused(http: &Http, path: &str, status: u16, code: &str) {
    let reply = http.get(path).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (status, code),
        "{path} → {reply:?}"
    );
}

/// Two teams, two authors, four posts: `a` and `b` by Ann of the reds, `c` by Bob of no team, `d` by nobody.
async fn populate(http: &Http) -> (Value, Value, Value) {
    let red = create(http, "teams", json!({"name": "red"})).await;
    let ann = create(http, "authors", json!({"name": "Ann", "team": red["id"]})).await;
    let bob = create(http, "authors", json!({"name": "Bob"})).await;
    for (title, author, views, meta) in [
        (
            "a",
            &ann["id"],
            1,
            json!({"size": 5, "tags": ["x", "y"], "owner": {"name": "Zoë"}}),
        ),
        ("b", &ann["id"], 2, json!({"size": 12.5, "tags": []})),
        ("c", &bob["id"], 3, json!({"size": "5"})),
        ("d", &Value::Null, 4, Value::Null),
    ] {
        let post = json!({"title": title, "author_id": author, "views": views, "meta": meta, "published": views % 2 == 0});
        create(http, "posts", post).await;
    }
    (red, ann, bob)
}

async fn limits_pages_and_empty_lists_are_as_documented(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let empty = list(&http, "").await;
    assert_eq!(empty, json!({"docs": [], "total": 0, "limit": 100, "offset": 0}));
    populate(&http).await;
    let page = list(&http, "limit=3").await;
    assert_eq!(
        (page["docs"].as_array().map(Vec::len), &page["total"]),
        (Some(3), &json!(4))
    );
    let none = list(&http, "limit=0").await;
    assert_eq!((&none["docs"], &none["total"]), (&json!([]), &json!(4)));
    assert_eq!(list(&http, "limit=5000").await["limit"], 1000);
    for (query, limit, offset) in [
        ("page=2&perPage=3", 3, 3),
        ("limit=9&perPage=1&offset=7&page=3", 1, 2),
    ] {
        let page = list(&http, query).await;
        assert_eq!(
            (&page["limit"], &page["offset"]),
            (&json!(limit), &json!(offset)),
            "{query}"
        );
    }
    for query in [
        "limit=-1",
        "limit=x",
        "offset=-1",
        "sort=nothing",
        "sort=hidden",
        "nothing=1",
        "expand=title",
    ] {
        refused(
            &http,
            &format!("/api/collections/posts?{query}"),
            400,
            "INVALID_QUERY",
        )
        .await;
    }
    for query in [
        "filter=title",
        "filter=title:is:a",
        "filter=nothing:eq:1",
        "filter=hidden:eq:1",
        "filter=views:eq:many",
    ] {
        refused(
            &http,
            &format!("/api/collections/posts?{query}"),
            400,
            "INVALID_FILTER",
        )
        .await;
    }
    for (query, expected) in [
        ("filter=published:eq:true", &["b", "d"][..]),
        ("filter=title:in:a,d", &["a", "d"]),
        ("filter=views:between:2,3", &["b", "c"]),
        ("filter=title:startsWith:a", &["a"]),
        ("filter=title:endsWith:d", &["d"]),
        ("filter=title:ilike:B", &["b"]),
        ("filter=author_id:isnull", &["d"]),
        (
            "filter=views:gt:1&filter=views:lt:4&filter=published:eq:false",
            &["c"],
        ),
    ] {
        assert_eq!(
            titles(&http, &format!("sort=views&{query}")).await,
            expected,
            "{query}"
        );
    }
}

async fn cursors_walk_the_whole_list_while_documents_come(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    for n in 0..23 {
        let rating = if n % 4 == 0 { Value::Null } else { json!(n % 3) };
        create(
            &http,
            "posts",
            json!({"title": format!("p{n:02}"), "views": n / 5, "rating": rating}),
        )
        .await;
    }
    for sort in [
        "views",
        "-views",
        "rating,-views",
        "-rating",
        "-rating,title",
        "id",
        "-at",
    ] {
        let all = titles(&http, &format!("sort={sort}")).await;
        let mut walked = Vec::new();
        let mut page = list(&http, &format!("sort={sort}&limit=5")).await;
        loop {
            assert_eq!(page["total"], all.len(), "{sort}");
            let docs = page["docs"].as_array().expect("docs");
            walked.extend(
                docs.iter()
                    .map(|doc| doc["title"].as_str().expect("a title").to_owned()),
            );
            let Some(next) = page["next"].as_str() else { break };
            page = list(&http, &format!("sort={sort}&limit=5&after={next}")).await;
        }
        assert_eq!(walked, all, "{sort}");
    }
    // What comes before the cursor moves nothing behind it.
    let first = list(&http, "sort=-title&limit=5&count=false").await;
    let next = first["next"].as_str().expect("a full page").to_owned();
    create(&http, "posts", json!({"title": "p99"})).await;
    assert_eq!(
        titles(&http, &format!("sort=-title&limit=2&after={next}")).await,
        ["p17", "p16"]
    );
    for query in [
        format!("sort=title&after={next}"),
        format!("after={next}"),
        "after=nonsense".to_owned(),
        format!("sort=-title&after={next}&page=2"),
    ] {
        refused(
            &http,
            &format!("/api/collections/posts?{query}"),
            400,
            "INVALID_QUERY",
        )
        .await;
    }
}

async fn filters_reach_into_json_and_across_references(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let (red, ann, bob) = populate(&http).await;
    for (query, expected) in [
        ("filter=meta.size:gte:5", &["a", "b"][..]),
        ("filter=meta.size:eq:%225%22", &["c"]),
        ("filter=meta.tags.1:eq:y", &["a"]),
        ("filter=meta.tags:contains:x", &["a"]),
        ("filter=meta.owner.name:like:zo%25", &["a"]),
        ("filter=meta.tags:isnull", &["c", "d"]),
        ("meta.size=12.5", &["b"]),
        (r#"filter={"$not":{"meta.size":{"$lt":10}}}"#, &["b"]),
        ("filter=author_id.name:eq:Ann", &["a", "b"]),
        ("filter=author_id.name:ne:Ann", &["c"]),
        ("filter=author_id.team.name:eq:red", &["a", "b"]),
        ("filter=author_id.team:isnull", &["c", "d"]),
        ("filter=author_id.team.name:isnull&views=4", &["d"]),
        (
            r#"filter={"$or":[{"author_id.name":"Bob"},{"meta.size":5}]}"#,
            &["a", "c"],
        ),
    ] {
        let query = query.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
        assert_eq!(
            titles(&http, &format!("sort=views&{query}")).await,
            expected,
            "{query}"
        );
    }
    // The total follows the other collection.
    let reds = format!("filter=author_id.team:eq:{}", red["id"].as_str().expect("an id"));
    assert_eq!(list(&http, &reds).await["total"], 2);
    let bob = format!("/api/collections/authors/{}", bob["id"].as_str().expect("an id"));
    assert_eq!(http.patch(&bob, &json!({"team": red["id"]})).await.status, 200);
    assert_eq!(list(&http, &reds).await["total"], 3);
    let ann = format!("/api/collections/authors/{}", ann["id"].as_str().expect("an id"));
    assert_eq!(http.patch(&ann, &json!({"team": null})).await.status, 200);
    assert_eq!(list(&http, &reds).await["total"], 1);
    for query in [
        "filter=secret.word:eq:x",
        "filter=title.x:eq:1",
        "filter=author_id.nothing:eq:1",
        "filter=meta.size:gt:true",
    ] {
        refused(
            &http,
            &format!("/api/collections/posts?{query}"),
            400,
            "INVALID_FILTER",
        )
        .await;
    }
}

async fn expand_puts_documents_in_place_of_keys(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let (red, ann, bob) = populate(&http).await;
    let mut whole = ann.clone();
    whole["team"] = red.clone();
    let page = list(&http, "sort=views&expand=author,author_id.team").await;
    let authors: Vec<&Value> = page["docs"]
        .as_array()
        .expect("docs")
        .iter()
        .map(|doc| &doc["author_id"])
        .collect();
    assert_eq!(authors, [&whole, &whole, &bob, &Value::Null]);
    let page = list(&http, "sort=views&expand=author_id&fields=title&limit=1").await;
    assert_eq!(page["docs"], json!([{"title": "a", "author_id": ann}]));
    let id = list(&http, "title=a&fields=id").await["docs"][0]["id"].clone();
    let path = format!("/api/collections/posts/{}", id.as_str().expect("an id"));
    let one = http.get(&format!("{path}?expand=author.team&fields=title")).await;
    assert_eq!(one.json(), json!({"title": "a", "author_id": whole}));
    assert_eq!(http.get(&path).await.json()["author_id"], ann["id"]);
    // A tag is that of the whole document and nothing else.
    assert_ne!(http.get(&path).await.header("etag"), "");
    for partly in ["expand=author", "fields=title", "expand=author.team&fields=title"] {
        let reply = http.get(&format!("{path}?{partly}")).await;
        assert_eq!((reply.status, reply.header("etag")), (200, ""), "{partly}");
    }
    refused(&http, "/api/collections/posts?expand=secret", 403, "FORBIDDEN").await;
    refused(&http, &format!("{path}?expand=secret"), 403, "FORBIDDEN").await;
    refused(&http, &format!("{path}?expand=nothing"), 400, "INVALID_QUERY").await;
    refused(&http, &format!("{path}?sort=title"), 400, "INVALID_QUERY").await;
}

async fn a_slow_query_is_stopped_and_holds_nobody_up(form: Form) {
    const DOCUMENTS: usize = 120;
    let project = Project::with_schema(SCHEMA);
    project.write("alyx.yaml", "server: {write_timeout: 1s}\n");
    let server = form.start(&project).await;
    let http = server.http();
    // Every `a` of the title begins a match that fails at its end only.
    let title = "a".repeat(60_000);
    for _ in 0..DOCUMENTS {
        create(&http, "posts", json!({"title": title})).await;
    }
    let slow = format!(
        "/api/collections/posts?fields=id&filter=title:like:%25{}b",
        "a".repeat(900)
    );
    let quick = async {
        let reply = http.get("/api/collections/teams").await;
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    let (slow, ()) = tokio::join!(http.get(&slow), quick);
    assert_eq!(
        (slow.status, slow.code().as_str()),
        (504, "QUERY_TIMEOUT"),
        "{slow:?}"
    );
    assert_eq!(http.get("/api/collections/teams").await.status, 200);
}

async fn figures_are_told_by_group(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    populate(&http).await;
    let figures = async |query: &str| {
        let reply = http.get(&format!("/api/aggregate/posts?{query}")).await;
        assert_eq!(reply.status, 200, "{query} → {reply:?}");
        reply.json()
    };
    assert_eq!(
        figures("groupBy=published&select=count,sum:views,avg:views,max:title").await,
        json!({
            "groups": [
                {"key": {"published": false}, "count": 2, "sum:views": 4, "avg:views": 2.0, "max:title": "c"},
                {"key": {"published": true}, "count": 2, "sum:views": 6, "avg:views": 3.0, "max:title": "d"}
            ],
            "limit": 100, "offset": 0, "more": false
        })
    );
    let all = figures("filter=author_id.name:eq:Ann&select=count,count:published,min:rating").await;
    assert_eq!(
        all["groups"],
        json!([{"key": {}, "count": 2, "count:published": 2, "min:rating": null}])
    );
    let today = figures("groupBy=at:year").await;
    let year = today["groups"][0]["key"]["at:year"]
        .as_str()
        .expect("a time")
        .to_owned();
    assert!(year.ends_with("-01-01T00:00:00.000Z"), "{today}");
    assert_eq!(figures("groupBy=title&limit=2").await["more"], true);
    refused(
        &http,
        "/api/aggregate/posts?select=sum:title",
        400,
        "INVALID_QUERY",
    )
    .await;
    refused(
        &http,
        "/api/aggregate/posts?filter=hidden:eq:x",
        400,
        "INVALID_FILTER",
    )
    .await;
    refused(&http, "/api/aggregate/secrets", 403, "FORBIDDEN").await;
    refused(&http, "/api/aggregate/nothing", 404, "COLLECTION_NOT_FOUND").await;
}

async fn live_queries_look_into_json_and_across_references(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    populate(&http).await;
    let mut socket = server.socket().await;
    let filter = json!({"meta.size": {"$between": [5, 20]}, "title": {"$startsWith": "b"}});
    let snapshot = socket
        .subscribe(json!({"collection": "posts", "filter": filter}))
        .await;
    assert_eq!(snapshot["docs"].as_array().map(Vec::len), Some(1), "{snapshot}");
    create(&http, "posts", json!({"title": "bb", "meta": {"size": "7"}})).await;
    create(&http, "posts", json!({"title": "x", "meta": {"size": 7}})).await;
    let made = create(&http, "posts", json!({"title": "bc", "meta": {"size": 7}})).await;
    let delta = socket.delta().await;
    assert_eq!(delta["inserts"], json!([made]), "{delta}");
    let mut other = server.socket().await;
    let across = json!({"author.name": "Ann", "meta.size": {"$gt": 5}});
    let snapshot = other
        .subscribe(json!({"collection": "posts", "filter": across, "sort": ["id"]}))
        .await;
    let listed = http
        .get("/api/collections/posts?sort=id&filter=author.name:eq:Ann&filter=meta.size:gt:5")
        .await
        .json();
    assert_eq!(snapshot["docs"], listed["docs"], "{snapshot}");
    assert_eq!(snapshot["total"], 1, "{snapshot}");
}

const ASK: &str = "export default async function (ctx) {
  const page = await ctx.db.posts.list({
    filter: { 'author_id.name': 'Ann', 'meta.size': { $gt: 5 } }, expand: ['author.team', 'secret'], sort: 'views', limit: 1,
  });
  const two = await ctx.db.posts.list({ sort: 'views', limit: 2 });
  const rest = await ctx.db.posts.list({ sort: 'views', limit: 1, after: two.next, count: false });
  const { groups } = await ctx.db.posts.aggregate({ groupBy: 'author_id', select: ['count'], filter: { 'author_id.name': 'Ann' } });
  return { first: page.docs[0].author_id.team.name, total: page.total, rest: rest.docs[0].title, count: groups[0].count };
}
";

async fn functions_ask_the_same(form: Form) {
    let project = Project::with_schema(SCHEMA);
    project.write("functions/ask.js", ASK);
    let server = form.start(&project).await;
    let http = server.http();
    populate(&http).await;
    let reply = http.post("/api/functions/ask", &json!({})).await;
    assert_eq!(
        reply.json(),
        json!({"first": "red", "total": 1, "rest": "c", "count": 2}),
        "{reply:?}"
    );
}
