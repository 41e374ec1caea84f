//! Batches and transactions, and the parameters by which requests about documents take part in them.

use serde_json::{Map, Value as Json, json};

use super::document::{Operations, failures, json_body, json_reply};
use super::schemas::reference;

/// Schemas of this module, by name.
pub(super) fn shared() -> Vec<(&'static str, Json)> {
    let operation = json!({
        "type": "object",
        "required": ["op", "collection"],
        "properties": {
            "op": {"type": "string", "enum": ["create", "update", "upsert", "delete", "get"]},
            "collection": {"type": "string"},
            "id": {"description": "The document's key, or {\"$ref\": \"0.id\"}: what an earlier create made. Of update, delete and get."},
            "data": {"type": "object", "description": "Fields; a value may be {\"$ref\": \"0.field\"}. Of create, update and upsert."},
            "increment": {
                "type": "object",
                "additionalProperties": {"type": "number"},
                "description": "Numbers to add to fields. Of update."
            },
            "if": {"type": "object", "description": "A filter that the document must pass before."},
            "ifMatch": {"type": "string", "description": "The `ETag` that the document must have before."}
        },
        "additionalProperties": false
    });
    let batch = json!({
        "type": "object",
        "required": ["operations"],
        "properties": {
            "operations": {"type": "array", "minItems": 1, "maxItems": 1000, "items": reference("BatchOperation")}
        }
    });
    let results = json!({
        "type": "object",
        "required": ["results"],
        "properties": {
            "results": {
                "type": "array",
                "description": "One for each operation, in order.",
                "items": {
                    "type": "object",
                    "required": ["status"],
                    "properties": {
                        "status": {"type": "integer"},
                        "doc": {"type": "object"},
                        "etag": {"type": "string"}
                    }
                }
            }
        }
    });
    vec![
        ("BatchOperation", operation),
        ("BatchRequest", batch),
        ("BatchResponse", results),
    ]
}

pub(super) fn add(paths: &mut Map<String, Json>, operations: &mut Operations) {
    let mut batch = operations.fixed(
        "runBatch",
        "transactions",
        "Carry out several operations, all or none",
    );
    batch["parameters"] = json!([idempotency_key(), tx_id(false)]);
    batch["requestBody"] = json_body(&reference("BatchRequest"), true);
    let errors = [400, 404, 409, 412, 413, 415, 503, 504];
    batch["responses"] = with(
        &errors,
        "All of them were carried out.",
        &reference("BatchResponse"),
    );
    paths.insert("/api/batch".to_owned(), json!({"post": batch}));

    let begun = json!({
        "type": "object",
        "required": ["transaction_id", "expires_at"],
        "properties": {
            "transaction_id": {"type": "string"},
            "expires_at": {"type": "string", "format": "date-time"}
        }
    });
    let mut begin = operations.fixed("beginTransaction", "transactions", "Begin a transaction");
    begin["responses"] = with(&[503], "Use its id as `tx_id`.", &begun);
    paths.insert("/api/transactions".to_owned(), json!({"post": begin}));
    let ended = json!({
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string", "enum": ["committed", "rolled_back"]}}
    });
    for (action, id, summary, errors) in [
        (
            "commit",
            "commitTransaction",
            "Write all of a transaction",
            &[400, 409, 413, 503, 504][..],
        ),
        (
            "rollback",
            "rollbackTransaction",
            "Forget a transaction",
            &[400][..],
        ),
    ] {
        let mut end = operations.fixed(id, "transactions", summary);
        end["parameters"] = json!([tx_id(true)]);
        end["responses"] = with(errors, "It has ended.", &ended);
        paths.insert(format!("/api/transactions/{action}"), json!({"post": end}));
    }
}

fn with(errors: &[u16], description: &str, schema: &Json) -> Json {
    let mut replies = Map::from_iter([("200".to_owned(), json_reply(description, schema))]);
    replies.extend(failures(errors));
    Json::Object(replies)
}

/// The transaction that a request is part of.
pub(super) fn tx_id(required: bool) -> Json {
    json!({
        "name": "tx_id",
        "in": "query",
        "required": required,
        "description": "The transaction that the request is part of.",
        "schema": {"type": "string"}
    })
}

fn header(name: &str, description: &str) -> Json {
    json!({"name": name, "in": "header", "description": description, "schema": {"type": "string"}})
}

fn idempotency_key() -> Json {
    header(
        "Idempotency-Key",
        "Makes it safe to send the request again: the second time gets the first reply.",
    )
}

/// Parameters of a request that reads a document.
pub(super) fn of_reading() -> Json {
    json!([
        header("If-None-Match", "304 where the document still has this `ETag`."),
        tx_id(false)
    ])
}

/// Parameters of a request that makes a document.
pub(super) fn of_creating() -> Json {
    json!([idempotency_key(), tx_id(false)])
}

/// Parameters of a request that changes a document.
pub(super) fn of_changing() -> Json {
    json!([
        header("If-Match", "The `ETag` that the document must have; else 412."),
        idempotency_key(),
        tx_id(false)
    ])
}
