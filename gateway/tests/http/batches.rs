//! `POST /api/batch`: all of it or nothing, references, conditions, and the number of the operation that failed.

use alyx_schema::{Access, Schema};
use serde_json::{Value as Json, json};

use crate::site::{Reply, Setup, Site};

const NOTES: &str = "/api/collections/notes";
const MISSING: &str = "00000000-0000-7000-8000-000000000000";

async fn start() -> Site {
    let mut setup = Setup::default();
    setup.config.server.max_body_size = 1 << 20;
    setup.start().await
}

async fn batch(site: &Site, operations: Json) -> Reply {
    site.call("POST", "/api/batch", &json!({ "operations": operations }))
        .await
}

async fn total(site: &Site, collection: &str) -> i64 {
    let page = site.get(&format!("/api/collections/{collection}?limit=0")).await;
    page.json()["total"].as_i64().expect("a total")
}

#[tokio::test]
async fn operations_refer_to_what_earlier_ones_made() {
    let site = start().await;
    let reply = batch(
        &site,
        json!([
            {"op": "create", "collection": "rooms", "data": {"name": "a"}},
            {"op": "create", "collection": "numbered", "data": {"word": "x"}},
            {"op": "create", "collection": "notes", "data": {"title": {"$ref": "0.name"}, "room": {"$ref": "0.id"}}},
            {"op": "update", "collection": "notes", "id": {"$ref": "2.id"}, "data": {"stars": 5}},
            {"op": "update", "collection": "numbered", "id": {"$ref": "1.id"}, "data": {"word": "y"}},
            {"op": "get", "collection": "rooms", "id": {"$ref": "0.id"}},
            {"op": "upsert", "collection": "rooms", "data": {"id": {"$ref": "0.id"}, "name": "b"}},
        ]),
    )
    .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = reply.json();
    let results = reply["results"].as_array().expect("results");
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64()).collect();
    assert_eq!(statuses, [201, 201, 201, 200, 200, 200, 200].map(Some));
    let (room, note) = (&results[0]["doc"], &results[3]["doc"]);
    assert_eq!(
        (&note["title"], &note["room"], &note["stars"]),
        (&json!("a"), &room["id"], &json!(5))
    );
    assert_eq!(
        results[4]["doc"],
        json!({"id": results[1]["doc"]["id"], "word": "y"})
    );
    assert_eq!(results[5]["doc"]["name"], "a");
    assert_eq!(results[6]["doc"], json!({"id": room["id"], "name": "b"}));
    let path = format!("{NOTES}/{}", note["id"].as_str().expect("an id"));
    let read = site.get(&path).await;
    assert_eq!(&read.json(), note);
    assert_eq!(read.header("etag"), results[3]["etag"].as_str().expect("a tag"));
    let gone = batch(
        &site,
        json!([{"op": "delete", "collection": "notes", "id": note["id"]}]),
    )
    .await;
    assert_eq!(gone.json(), json!({"results": [{"status": 204}]}));
    assert_eq!(site.get(&path).await.status, 404);
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[tokio::test]
async fn a_batch_that_fails_changes_nothing_and_says_where() {
    let site = start().await;
    let id = site.note("kept", 3).await;
    let first = json!({"op": "create", "collection": "notes", "data": {"title": "new"}});
    let table = [
        (
            json!({"op": "create", "collection": "notes", "data": {"title": ""}}),
            400,
            "VALIDATION_ERROR",
        ),
        (
            json!({"op": "create", "collection": "notes", "data": []}),
            400,
            "INVALID_JSON",
        ),
        (
            json!({"op": "create", "collection": "nothing", "data": {}}),
            404,
            "COLLECTION_NOT_FOUND",
        ),
        (
            json!({"op": "update", "collection": "notes", "id": MISSING, "data": {"stars": 1}}),
            404,
            "DOCUMENT_NOT_FOUND",
        ),
        (
            json!({"op": "update", "collection": "notes", "id": MISSING, "data": {}}),
            404,
            "DOCUMENT_NOT_FOUND",
        ),
        (
            json!({"op": "update", "collection": "notes", "id": "no uuid", "data": {}}),
            404,
            "DOCUMENT_NOT_FOUND",
        ),
        (
            json!({"op": "delete", "collection": "notes", "id": MISSING}),
            404,
            "DOCUMENT_NOT_FOUND",
        ),
        (
            json!({"op": "get", "collection": "notes", "id": MISSING}),
            404,
            "DOCUMENT_NOT_FOUND",
        ),
        (
            json!({"op": "delete", "collection": "notes", "id": MISSING, "if": {"stars": 1}}),
            404,
            "DOCUMENT_NOT_FOUND",
        ),
        (
            json!({"op": "update", "collection": "notes", "id": id, "data": {"stars": 9}, "if": {"stars": 4}}),
            412,
            "PRECONDITION_FAILED",
        ),
        (
            json!({"op": "update", "collection": "notes", "id": id, "data": {"room": MISSING}}),
            409,
            "FOREIGN_KEY_VIOLATION",
        ),
        (
            json!({"op": "create", "collection": "notes", "data": {"id": id, "title": "t"}}),
            409,
            "UNIQUE_VIOLATION",
        ),
        (
            json!({"op": "create", "collection": "notes", "data": {"title": {"$ref": "1.title"}}}),
            400,
            "INVALID_REFERENCE",
        ),
        (
            json!({"op": "create", "collection": "notes", "data": {"title": {"$ref": "0.nothing"}}}),
            400,
            "INVALID_REFERENCE",
        ),
        (
            json!({"op": "create", "collection": "notes", "data": {"title": {"$ref": "0.secret"}}}),
            400,
            "INVALID_REFERENCE",
        ),
        (
            json!({"op": "get", "collection": "notes", "id": {"$ref": "first"}}),
            400,
            "INVALID_REFERENCE",
        ),
        (json!({"op": "drop", "collection": "notes"}), 400, "INVALID_BATCH"),
        (
            json!({"op": "create", "collection": "notes", "data": {}, "typo": 1}),
            400,
            "INVALID_BATCH",
        ),
        (
            json!({"op": "create", "collection": "notes"}),
            400,
            "INVALID_BATCH",
        ),
        (
            json!({"op": "create", "collection": "notes", "id": id, "data": {"title": "t"}}),
            400,
            "INVALID_BATCH",
        ),
        (
            json!({"op": "delete", "collection": "notes"}),
            400,
            "INVALID_BATCH",
        ),
        (
            json!({"op": "update", "collection": "notes", "id": id}),
            400,
            "INVALID_BATCH",
        ),
        (
            json!({"op": "update", "collection": "notes", "id": id, "increment": {"title": 1}}),
            400,
            "VALIDATION_ERROR",
        ),
        (
            json!({"op": "update", "collection": "notes", "id": id, "increment": {"stars": 0.5}}),
            400,
            "VALIDATION_ERROR",
        ),
        (
            json!({"op": "update", "collection": "notes", "id": id, "increment": {"stars": i64::MAX}}),
            400,
            "INVALID_TYPE",
        ),
        (
            json!({"op": "delete", "collection": "notes", "id": id, "if": {"typo": 1}}),
            400,
            "INVALID_FILTER",
        ),
        (
            json!({"op": "delete", "collection": "notes", "id": id, "ifMatch": "untagged"}),
            400,
            "INVALID_PRECONDITION",
        ),
    ];
    for (operation, status, code) in table {
        let reply = batch(&site, json!([first, operation])).await;
        assert_eq!(
            reply.refusal(),
            (status, code.to_owned()),
            "{operation}: {}",
            reply.text
        );
        let error = &reply.json()["error"];
        assert_eq!(error["operation"], 1, "{operation}: {}", reply.text);
        let message = error["message"].as_str().expect("a message");
        assert!(message.starts_with("operation 1"), "{message}");
        assert_eq!(total(&site, "notes").await, 1, "{operation}");
    }
    let alone = batch(
        &site,
        json!([{"op": "delete", "collection": "notes", "id": MISSING}]),
    )
    .await;
    assert_eq!(alone.refusal(), (404, "DOCUMENT_NOT_FOUND".to_owned()));
    assert_eq!(alone.json()["error"]["operation"], 0);
}

#[tokio::test]
async fn a_batch_has_bounds() {
    let site = start().await;
    let create = json!({"op": "create", "collection": "numbered", "data": {"word": "w"}});
    let many = batch(&site, json!(vec![create.clone(); 1000])).await;
    assert_eq!(many.json()["results"].as_array().map(Vec::len), Some(1000));
    assert_eq!(total(&site, "numbered").await, 1000);
    for (body, code) in [
        (json!({"operations": vec![create; 1001]}), "INVALID_BATCH"),
        (json!({"operations": []}), "INVALID_BATCH"),
        (json!({"operations": {}}), "INVALID_JSON"),
        (json!({}), "INVALID_JSON"),
        (json!({"operations": [], "more": 1}), "INVALID_JSON"),
        (json!([]), "INVALID_JSON"),
    ] {
        let reply = site.call("POST", "/api/batch", &body).await;
        assert_eq!(reply.refusal(), (400, code.to_owned()));
    }
    let large = "x".repeat(2 << 20);
    let reply = batch(
        &site,
        json!([{"op": "create", "collection": "numbered", "data": {"word": large}}]),
    )
    .await;
    assert_eq!(reply.refusal(), (413, "PAYLOAD_TOO_LARGE".to_owned()));
    assert_eq!(
        site.get("/api/batch").await.refusal(),
        (405, "METHOD_NOT_ALLOWED".to_owned())
    );
}

#[tokio::test]
async fn sums_and_conditions_are_judged_where_the_write_is() {
    let site = start().await;
    let id = site.note("n", 3).await;
    let update = |increment: i64, at_least: i64| {
        json!([{"op": "update", "collection": "notes", "id": id, "increment": {"stars": increment},
                "data": {"title": "m"}, "if": {"stars": {"$gte": at_least}}}])
    };
    let reply = batch(&site, update(-2, 2)).await.json();
    assert_eq!(
        (
            &reply["results"][0]["doc"]["stars"],
            &reply["results"][0]["doc"]["title"]
        ),
        (&json!(1), &json!("m"))
    );
    assert_eq!(
        batch(&site, update(-2, 2)).await.refusal(),
        (412, "PRECONDITION_FAILED".to_owned())
    );
    assert_eq!(site.get(&format!("{NOTES}/{id}")).await.json()["stars"], 1);
}

#[tokio::test]
async fn a_sum_stays_within_the_rules_of_its_field() {
    let site = Setup {
        edit: |schema: &mut Schema| {
            let notes = std::sync::Arc::make_mut(schema.collections.get_mut("notes").expect("declared"));
            let (position, _) = notes.field("stars").expect("declared");
            notes.fields[position].validation.min = Some(0.0);
            notes.fields[position].validation.max = Some(5.0);
        },
        ..Setup::default()
    }
    .start()
    .await;
    let id = site.note("n", 3).await;
    for key in ["", "one"] {
        let add = async |number: i64| {
            let operation =
                json!({"op": "update", "collection": "notes", "id": id, "increment": {"stars": number}});
            let request = site.request("POST", "/api/batch");
            let request = if key.is_empty() {
                request
            } else {
                request.header("idempotency-key", format!("{key}{number}"))
            };
            site.send(request, json!({"operations": [operation]}).to_string())
                .await
        };
        for number in [-4, 3] {
            let reply = add(number).await;
            assert_eq!(reply.refusal(), (400, "VALIDATION_ERROR".to_owned()));
            assert_eq!(reply.json()["error"]["field"], "stars");
        }
        assert_eq!(add(2).await.status, 200);
        assert_eq!(add(-2).await.status, 200);
    }
}

/// The operations' permissions are those of their routes.
#[tokio::test]
async fn each_operation_needs_its_own_permission() {
    // By the closed permission.
    let refused: [&[&str]; 4] = [
        &["create", "upsert"],
        &["get", "if", "ifMatch"],
        &["update", "upsert", "if", "ifMatch"],
        &["delete"],
    ];
    for (turn, refused) in refused.into_iter().enumerate() {
        let edit: fn(&mut Schema) = match turn {
            0 => |schema| close(schema, |access| access.create = false),
            1 => |schema| close(schema, |access| access.read = false),
            2 => |schema| close(schema, |access| access.update = false),
            _ => |schema| close(schema, |access| access.delete = false),
        };
        let site = Setup {
            edit,
            ..Setup::default()
        }
        .start()
        .await;
        for (name, operation) in [
            (
                "create",
                json!({"op": "create", "collection": "rooms", "data": {"name": "r"}}),
            ),
            (
                "upsert",
                json!({"op": "upsert", "collection": "rooms", "data": {"id": MISSING, "name": "s"}}),
            ),
            (
                "update",
                json!({"op": "update", "collection": "rooms", "id": MISSING, "data": {"name": "t"}}),
            ),
            (
                "if",
                json!({"op": "update", "collection": "rooms", "id": MISSING, "data": {}, "if": {"name": "t"}}),
            ),
            (
                "ifMatch",
                json!({"op": "update", "collection": "rooms", "id": MISSING, "data": {}, "ifMatch": "*"}),
            ),
            ("get", json!({"op": "get", "collection": "rooms", "id": MISSING})),
            (
                "delete",
                json!({"op": "delete", "collection": "rooms", "id": MISSING}),
            ),
        ] {
            let reply = batch(&site, json!([operation])).await;
            let forbidden = reply.status == 403;
            assert_eq!(
                forbidden,
                refused.contains(&name),
                "{turn} {name}: {}",
                reply.text
            );
            if forbidden {
                assert_eq!(reply.json()["error"]["operation"], 0);
            }
        }
    }
}

fn close(schema: &mut Schema, how: fn(&mut Access)) {
    let rooms = schema.collections.get_mut("rooms").expect("declared");
    how(&mut std::sync::Arc::make_mut(rooms).access);
}

#[tokio::test]
async fn who_may_not_read_is_shown_the_key_alone() {
    let site = Setup {
        edit: |schema| close(schema, |access| access.read = false),
        ..Setup::default()
    }
    .start()
    .await;
    let reply = batch(
        &site,
        json!([
            {"op": "upsert", "collection": "rooms", "data": {"id": MISSING, "name": "s"}},
            {"op": "update", "collection": "rooms", "id": MISSING, "data": {"name": "t"}},
        ]),
    )
    .await;
    for result in reply.json()["results"].as_array().expect("results") {
        assert_eq!(result, &json!({"status": 200, "doc": {"id": MISSING}}));
    }
}
