//! Fields of every type, over REST and in live queries.

use alyx_tests::{Form, Http, Project, Server};
use http::Method;
use serde_json::{Value, json};

alyx_tests::in_both_forms! {
    every_type_lives_through_create_patch_list_and_a_live_query,
    wrong_values_of_every_type_are_refused_by_name,
    filters_on_every_type_are_the_same_in_lists_and_live_queries,
    orders_searches_and_figures_know_every_type,
    relations_are_kept_and_followed,
    rich_text_is_clean_whichever_way_it_comes,
    the_api_description_knows_every_type,
}

const SCHEMA: &str = "
buckets:
  images: {backend: local, max_file_size: 5mb, allowed_types: [image/*]}
collections:
  teams:
    fields:
      key: {type: id, primary: true, default: auto}
      name: {type: string, unique: true}
  things:
    indexes:
      - {name: by-day-and-pick, fields: [day, pick], unique: true, order: desc}
    fields:
      id: {type: id, primary: true, default: auto}
      uuid: {type: uuid, nullable: true}
      string: {type: string, nullable: true}
      text: {type: text, nullable: true}
      int: {type: int, nullable: true}
      float: {type: float, nullable: true}
      bool: {type: bool, default: false}
      at: {type: timestamp, nullable: true}
      json: {type: json, nullable: true}
      blob: {type: blob, nullable: true}
      email: {type: email, nullable: true, unique: true}
      url: {type: url, nullable: true}
      day: {type: date, nullable: true, index: true}
      pick: {type: select, nullable: true, select: {values: [draft, published, gone], maxSelect: 1}}
      tags: {type: select, default: [red], select: {values: [red, green, blue], maxSelect: 2}}
      team: {type: relation, nullable: true, relation: {collection: teams, onDelete: set_null}}
      owner: {type: relation, nullable: true, relation: {collection: teams, field: name, onDelete: restrict}}
      parent-thing: {type: relation, nullable: true, relation: {collection: things, onDelete: cascade}}
      body: {type: richtext, nullable: true, richtext: {preset: standard, allow: [code], deny: [heading]}}
      face: {type: file, nullable: true, file: {bucket: images, max_size: 1mb, on_delete: cascade}}
      secret: {type: email, internal: true, nullable: true}
      made: {type: date, default: now}
      token: {type: uuid, default: auto, unique: true}
      changed: {type: timestamp, default: now, onUpdate: now}
";
const THINGS: &str = "/api/collections/things";

async fn start(form: Form) -> (Project, Server) {
    let project = Project::with_schema(SCHEMA);
    let server = form.start(&project).await;
    (project, server)
}

async fn create(http: &Http, collection: &str, document: &Value) -> Value {
    let reply = http
        .post(&format!("/api/collections/{collection}"), document)
        .await;
    assert_eq!(reply.status, 201, "{document}: {reply:?}");
    reply.json()
}

fn key(document: &Value, name: &str) -> String {
    document[name].as_str().expect("a key").to_owned()
}

async fn docs(http: &Http, query: &str) -> Vec<Value> {
    let reply = http.get(&format!("{THINGS}?{query}")).await;
    assert_eq!(reply.status, 200, "{query}: {reply:?}");
    reply.json()["docs"].as_array().expect("docs").clone()
}

/// One value of every type, as it is sent, and as it comes back where that is another.
fn values(team: &Value) -> Vec<(&'static str, Value, Option<Value>)> {
    let same = |name, value| (name, value, None);
    vec![
        (
            "uuid",
            json!("0190A6C4-7E1B-7C3A-9D52-6F0E8B1A2C3D"),
            Some(json!("0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3d")),
        ),
        same("string", json!("é \"q\"")),
        same("text", json!("a\nb")),
        same("int", json!(i64::MIN)),
        same("float", json!(0.1)),
        same("bool", json!(true)),
        ("at", json!("2026-01-31"), Some(json!("2026-01-31T00:00:00.000Z"))),
        same("json", json!({"a": [1, null]})),
        same("blob", json!("AP8=")),
        same("email", json!("Ada@Example.com")),
        same("url", json!("https://example.com/?q=1#x")),
        same("day", json!("2024-02-29")),
        same("pick", json!("draft")),
        same("tags", json!(["green", "blue"])),
        same("team", team["key"].clone()),
        same("owner", team["name"].clone()),
        (
            "body",
            json!("<h1>T</h1><p onclick=x>a <b>b</b><script>1</script> & <code>c"),
            Some(json!("T<p>a <b>b</b> &amp; <code>c</code></p>")),
        ),
        same("face", json!("0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3d")),
    ]
}

async fn every_type_lives_through_create_patch_list_and_a_live_query(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let team = create(&http, "teams", &json!({"name": "reds"})).await;
    let mut socket = server.socket().await;
    socket.subscribe(json!({"collection": "things"})).await;

    let mut sent = json!({"secret": "s@x.io"});
    for (name, value, _) in values(&team) {
        sent[name] = value;
    }
    let made = create(&http, "things", &sent).await;
    for (name, value, stored) in values(&team) {
        assert_eq!(made[name], stored.unwrap_or(value), "{name}");
    }
    let id = key(&made, "id");
    assert!(
        id.len() == 15 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "{id}"
    );
    assert_eq!(made.get("secret"), None);
    assert_eq!(key(&made, "token").len(), 36);
    let today = key(&made, "changed");
    assert_eq!(made["made"], json!(today[..10]));
    assert_eq!(socket.delta().await["inserts"], json!([made]));
    let path = format!("{THINGS}/{id}");
    assert_eq!(http.get(&path).await.json(), made);

    let plain = create(&http, "things", &json!({})).await;
    assert_eq!((&plain["tags"], &plain["email"]), (&json!(["red"]), &Value::Null));
    assert_eq!(socket.delta().await["inserts"], json!([plain]));
    let path = format!("{THINGS}/{}", key(&plain, "id"));
    for (name, value, stored) in values(&team) {
        // Taken by the other document.
        let value = if name == "email" { json!("b@x.io") } else { value };
        let day = if name == "pick" {
            json!("2024-03-01")
        } else {
            Value::Null
        };
        let mut change = json!({name: value});
        if !day.is_null() {
            change["day"] = day;
        }
        let reply = http.patch(&path, &change).await;
        assert_eq!(reply.status, 200, "{change}: {reply:?}");
        let changed = reply.json();
        assert_eq!(changed[name], stored.unwrap_or(value), "{name}");
        assert_eq!(socket.delta().await["updates"], json!([changed]), "{name}");
    }
    let cleared = http
        .patch(
            &path,
            &json!({"tags": [], "pick": null, "day": null, "team": null}),
        )
        .await;
    let cleared = cleared.json();
    assert_eq!((&cleared["tags"], &cleared["pick"]), (&json!([]), &Value::Null));
    assert_eq!(socket.delta().await["updates"], json!([cleared]));
    let all = docs(&http, "sort=-email").await;
    assert_eq!(all, [cleared, made]);
}

async fn wrong_values_of_every_type_are_refused_by_name(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let made = create(&http, "things", &json!({})).await;
    let path = format!("{THINGS}/{}", key(&made, "id"));
    for (name, value, code) in [
        ("id", json!("short"), "invalid_id"),
        ("uuid", json!("x"), "invalid_uuid"),
        ("string", json!(1), "invalid_type"),
        ("int", json!(1.5), "invalid_type"),
        ("float", json!("1"), "invalid_type"),
        ("bool", json!(1), "invalid_type"),
        ("at", json!("2026-13-01"), "invalid_timestamp"),
        ("blob", json!("??"), "invalid_base64"),
        ("email", json!("ada@example"), "invalid_email"),
        ("url", json!("ftp://example.com"), "invalid_url"),
        ("day", json!("2026-02-29"), "invalid_date"),
        ("pick", json!("new"), "invalid_select"),
        ("pick", json!(["draft"]), "invalid_type"),
        ("tags", json!(["red", "pink"]), "invalid_select"),
        ("tags", json!(["red", "red"]), "invalid_select"),
        ("tags", json!(["red", "green", "blue"]), "max_select"),
        (
            "team",
            json!("0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3d"),
            "invalid_id",
        ),
        ("body", json!(["<p>"]), "invalid_type"),
        ("face", json!("../etc"), "invalid_file"),
    ] {
        let body = json!({name: value});
        let mut replies = vec![http.post(THINGS, &body).await];
        if name != "id" {
            replies.push(http.patch(&path, &body).await);
        }
        for reply in replies {
            assert_eq!(reply.status, 400, "{body}: {reply:?}");
            let error = reply.json()["error"].clone();
            assert_eq!(error["code"], "VALIDATION_ERROR", "{body}: {error}");
            let detail = &error["details"][0];
            assert_eq!(
                (&detail["field"], &detail["code"]),
                (&json!(name), &json!(code)),
                "{error}"
            );
        }
    }
    assert_eq!(http.get(&path).await.json(), made);
}

/// Filters in JSON, and the names of those that pass, in order.
const QUESTIONS: [(&str, &str); 19] = [
    (r#"{"email": "ann@x.io"}"#, "ann"),
    (r#"{"email": {"$endsWith": "@y.io"}}"#, "bob cid"),
    (r#"{"email": {"$ne": "ann@x.io"}}"#, "bob cid"),
    (r#"{"url": {"$startsWith": "https://"}}"#, "ann"),
    (r#"{"url": {"$like": "%X.IO%"}}"#, "ann bob"),
    (r#"{"day": {"$gte": "2026-01-02"}}"#, "bob cid"),
    (
        r#"{"day": {"$between": ["2026-01-01", "2026-01-02"]}}"#,
        "ann bob",
    ),
    (r#"{"day": {"$in": ["2026-01-01", "2026-01-03"]}}"#, "ann cid"),
    (r#"{"day": {"$isnull": true}}"#, "dan"),
    (r#"{"pick": "draft"}"#, "ann bob"),
    (r#"{"pick": {"$in": ["published", "gone"]}}"#, "cid"),
    (r#"{"tags": {"$contains": "red"}}"#, "ann bob dan"),
    (r#"{"tags": {"$not": {"$contains": "red"}}}"#, "cid"),
    (r#"{"tags": {"$eq": ["red", "green"]}}"#, "bob"),
    (r#"{"tags": "red"}"#, "ann"),
    (r#"{"body": {"$contains": "<b>"}}"#, "ann"),
    (r#"{"face": "f-1"}"#, "ann"),
    (r#"{"owner": "reds"}"#, "ann cid"),
    (
        r#"{"$or": [{"pick": "published"}, {"tags": {"$contains": "green"}}]}"#,
        "bob cid",
    ),
];

async fn populate(http: &Http) {
    for document in [
        json!({"string": "ann", "email": "ann@x.io", "url": "https://x.io/", "day": "2026-01-01", "pick": "draft",
               "tags": "red", "body": "<b>bold", "face": "f-1", "owner": "reds"}),
        json!({"string": "bob", "email": "bob@y.io", "url": "http://x.io/a", "day": "2026-01-02", "pick": "draft",
               "tags": ["red", "green"], "body": "b"}),
        json!({"string": "cid", "email": "cid@y.io", "url": "http://y.io/", "day": "2026-01-03", "pick": "published",
               "tags": ["blue"], "owner": "reds"}),
        json!({"string": "dan"}),
    ] {
        create(http, "things", &document).await;
    }
}

fn names(docs: &[Value]) -> String {
    let names: Vec<String> = docs.iter().map(|doc| key(doc, "string")).collect();
    names.join(" ")
}

async fn filters_on_every_type_are_the_same_in_lists_and_live_queries(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    create(&http, "teams", &json!({"name": "reds"})).await;
    let mut live = Vec::new();
    for (filter, _) in QUESTIONS {
        let filter: Value = serde_json::from_str(filter).expect("JSON");
        let mut socket = server.socket().await;
        let query = json!({"collection": "things", "filter": filter, "sort": ["string"]});
        assert_eq!(socket.subscribe(query).await["docs"], json!([]));
        live.push(socket);
    }
    populate(&http).await;
    for ((filter, expected), mut socket) in QUESTIONS.into_iter().zip(live) {
        let query = format!("sort=string&filter={}", percent(filter));
        assert_eq!(names(&docs(&http, &query).await), expected, "{filter}");
        let mut seen: Vec<Value> = Vec::new();
        while seen.len() < expected.split(' ').count() {
            let inserts = socket.delta().await["inserts"].clone();
            seen.extend(inserts.as_array().expect("inserts").iter().cloned());
        }
        seen.sort_by_key(|doc| key(doc, "string"));
        assert_eq!(names(&seen), expected, "{filter}");
    }
}

async fn orders_searches_and_figures_know_every_type(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    create(&http, "teams", &json!({"name": "reds"})).await;
    populate(&http).await;
    for (order, expected) in [
        ("-day", "cid bob ann dan"),
        ("-email", "cid bob ann dan"),
        ("-pick,string", "cid ann bob dan"),
        ("url,string", "dan bob cid ann"),
    ] {
        let found = docs(&http, &format!("sort={order}")).await;
        assert_eq!(names(&found), expected, "{order}");
    }
    for (query, expected) in [
        ("search=ANN", 1),
        ("search=y.io", 2),
        ("search=bold", 0),
        ("search=2026", 0),
        ("filter=tags:contains:red", 3),
        ("filter=tags:contains:re", 0),
        ("day=2026-01-01", 1),
        ("tags=red", 1),
    ] {
        assert_eq!(docs(&http, query).await.len(), expected, "{query}");
    }
    for query in ["day=2026-02-30", "filter=day:eq:now", "id=short", "secret=s@x.io"] {
        let reply = http.get(&format!("{THINGS}?{query}")).await;
        assert_eq!(reply.status, 400, "{query}: {reply:?}");
    }
    let path = "/api/aggregate/things?groupBy=day:month&select=count,max:email";
    assert_eq!(
        http.get(path).await.json()["groups"],
        json!([
            {"key": {"day:month": null}, "count": 1, "max:email": null},
            {"key": {"day:month": "2026-01-01"}, "count": 3, "max:email": "cid@y.io"}
        ])
    );
}

/// For a query string.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

async fn relations_are_kept_and_followed(form: Form) {
    let (_project, server) = start(form).await;
    let http = server.http();
    let reds = create(&http, "teams", &json!({"name": "reds"})).await;
    let blues = create(&http, "teams", &json!({"name": "blues"})).await;
    let parent = create(
        &http,
        "things",
        &json!({"string": "parent", "team": blues["key"]}),
    )
    .await;
    let child =
        json!({"string": "child", "team": reds["key"], "owner": "blues", "parent-thing": parent["id"]});
    let child = create(&http, "things", &child).await;
    for (body, code) in [
        (json!({"team": "aB3dE6gH9jK2mN5"}), "FOREIGN_KEY_VIOLATION"),
        (json!({"owner": "greens"}), "FOREIGN_KEY_VIOLATION"),
    ] {
        let reply = http.post(THINGS, &body).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (409, &json!(code)),
            "{body}"
        );
    }
    let found = docs(&http, "string=child&expand=team,owner,parent-thing.team").await;
    assert_eq!((&found[0]["team"], &found[0]["owner"]), (&reds, &blues));
    let mut whole = parent.clone();
    whole["team"] = blues.clone();
    assert_eq!(found[0]["parent-thing"], whole);
    assert_eq!(
        docs(&http, "filter=parent-thing.team.name:eq:blues").await,
        std::slice::from_ref(&child)
    );

    let team = |team: &Value| format!("/api/collections/teams/{}", key(team, "key"));
    let refused = http.delete(&team(&blues)).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (409, &json!("FOREIGN_KEY_VIOLATION"))
    );
    assert_eq!(http.delete(&team(&reds)).await.status, 204);
    let path = format!("{THINGS}/{}", key(&child, "id"));
    assert_eq!(http.get(&path).await.json()["team"], Value::Null);
    let mut socket = server.socket().await;
    socket
        .subscribe(json!({"collection": "things", "filter": {"string": "child"}}))
        .await;
    assert_eq!(
        http.delete(&format!("{THINGS}/{}", key(&parent, "id")))
            .await
            .status,
        204
    );
    assert_eq!(socket.delta().await["deletes"], json!([child["id"]]));
    assert_eq!(http.get(&path).await.status, 404);

    create(&http, "things", &json!({"day": "2026-01-01", "pick": "draft"})).await;
    create(&http, "things", &json!({"day": "2026-01-01", "pick": "gone"})).await;
    let again = http
        .post(THINGS, &json!({"day": "2026-01-01", "pick": "gone"}))
        .await;
    assert_eq!(
        (again.status, &again.json()["error"]["code"]),
        (409, &json!("UNIQUE_VIOLATION"))
    );
}

async fn rich_text_is_clean_whichever_way_it_comes(form: Form) {
    let project = Project::with_schema(SCHEMA);
    project.write(
        "functions/paste.js",
        "export default async function (ctx) {\n\
         \x20 const made = await ctx.db.things.create({body: '<b>f<script>1</script>'});\n\
         \x20 return ctx.db.things.update(made.id, {body: '<i onclick=x>g'});\n}\n",
    );
    let server = form.start(&project).await;
    let http = server.http();
    let made = create(&http, "things", &json!({"body": "<b>a"})).await;
    assert_eq!(made["body"], "<b>a</b>");
    let path = format!("{THINGS}/{}", key(&made, "id"));
    let put = json!({"body": "<a href=javascript:x>c</a><a href=/x target=_blank>d"});
    let put = http.send(Method::PUT, &path, &[], put.to_string()).await;
    assert_eq!(
        put.json()["body"],
        "c<a href=\"/x\" target=\"_blank\" rel=\"noopener\">d</a>"
    );
    let batch = json!({"operations": [
        {"op": "create", "collection": "things", "data": {"body": "<i>e<style>x</style>"}},
        {"op": "update", "collection": "things", "id": made["id"], "data": {"body": "<img src=x onerror=y>z"}}
    ]});
    let reply = http.post("/api/batch", &batch).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(docs(&http, "filter=body:eq:%3Ci%3Ee%3C/i%3E").await.len(), 1);
    assert_eq!(http.get(&path).await.json()["body"], "z");
    let pasted = http
        .post("/api/functions/paste", &json!({"input": {}}))
        .await
        .json();
    assert_eq!(pasted["output"]["body"], "<i>g</i>", "{pasted}");
}

async fn the_api_description_knows_every_type(form: Form) {
    let (_project, server) = start(form).await;
    let description = server.http().get("/api/openapi.json").await.json();
    let schemas = &description["components"]["schemas"];
    let (read, input) = (
        &schemas["Things"]["properties"],
        &schemas["ThingsInput"]["properties"],
    );
    for (name, key, expected) in [
        ("uuid", "format", json!("uuid")),
        ("at", "format", json!("date-time")),
        ("blob", "contentEncoding", json!("base64")),
        ("email", "format", json!("email")),
        ("url", "format", json!("uri")),
        ("day", "format", json!("date")),
        ("made", "format", json!("date")),
        ("pick", "enum", json!(["draft", "published", "gone", null])),
        ("body", "contentMediaType", json!("text/html")),
        ("team", "description", json!("Refers to `teams.key`.")),
        ("owner", "description", json!("Refers to `teams.name`.")),
        (
            "face",
            "description",
            json!("The id of a file in the bucket `images`."),
        ),
        ("id", "pattern", json!("^[A-Za-z0-9]{15}$")),
    ] {
        assert_eq!(read[name][key], expected, "{name}: {}", read[name]);
    }
    let one = json!({"type": "string", "enum": ["red", "green", "blue"]});
    assert_eq!(
        input["tags"],
        json!({
            "oneOf": [one, {"type": "array", "items": one, "uniqueItems": true, "maxItems": 2}],
            "default": ["red"]
        })
    );
    assert_eq!(read.get("secret"), None);
    assert_eq!(input["secret"]["writeOnly"], true);
    assert_eq!(input.get("changed"), None);
}
