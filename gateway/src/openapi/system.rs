//! The paths that are neither collections nor functions.

use serde_json::{Map, Value as Json, json};

use super::document::{Operations, failures, json_reply};

/// What the realtime endpoint speaks, in short.
const REALTIME: &str = "A WebSocket (RFC 6455). All messages are JSON in text frames, `{id?, type, payload?}`.\n\n\
    The server greets with `connected`. Send `subscribe` with `{collection, filter?, sort?, limit?, offset?, \
    fields?}`; the reply is a `snapshot` `{subscription_id, docs, total, seq}` with the same `id`, followed by a \
    `delta` `{subscription_id, changes: {inserts, updates, deletes}, positions, total, from, to}` for each change. \
    `unsubscribe` `{subscription_id}` ends it. `ping` is answered by `pong`. Anything wrong is answered by `error` \
    `{code, message}`.";

/// Schemas of this module, by name.
pub(super) fn shared() -> Vec<(&'static str, Json)> {
    let status = json!({"type": "string", "enum": ["healthy", "degraded", "unhealthy"]});
    let health = json!({
        "type": "object",
        "required": ["status", "version", "uptime", "timestamp", "components"],
        "properties": {
            "status": status,
            "version": {"type": "string"},
            "uptime": {"type": "string", "examples": ["1h2m3s"]},
            "timestamp": {"type": "string", "format": "date-time"},
            "components": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "required": ["status"],
                    "properties": {
                        "status": status,
                        "message": {"type": "string"},
                        "latency": {"type": "string"}
                    }
                }
            }
        }
    });
    vec![("HealthResponse", health)]
}

pub(super) fn add(paths: &mut Map<String, Json>, operations: &mut Operations, realtime: bool) {
    if realtime {
        let mut connect = operations.fixed("connectRealtime", "realtime", "Open a realtime connection");
        connect["description"] = json!(REALTIME);
        let switched = json!({"description": "The connection speaks WebSocket from here on."});
        let mut replies = Map::from_iter([("101".to_owned(), switched)]);
        replies.extend(failures(&[400, 503]));
        connect["responses"] = Json::Object(replies);
        paths.insert("/api/realtime".to_owned(), json!({"get": connect}));
    }
    let object = json!({"type": "object"});
    let mut config = operations.fixed("getConfig", "system", "Show the settings that frontends may know");
    config["responses"] = json!({"200": json_reply("The settings.", &object)});
    paths.insert("/api/config".to_owned(), json!({"get": config}));
    let mut spec = operations.fixed("getOpenApi", "system", "Get this document");
    spec["responses"] = json!({"200": json_reply("An OpenAPI 3.1 document.", &object)});
    paths.insert("/api/openapi.json".to_owned(), json!({"get": spec}));
    add_health(paths, operations);
}

fn add_health(paths: &mut Map<String, Json>, operations: &mut Operations) {
    let health = json!({"$ref": "#/components/schemas/HealthResponse"});
    let word = json!({
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string"}, "reason": {"type": "string"}}
    });
    let mut whole = operations.fixed("health", "health", "Show how every part is");
    whole["responses"] = json!({
        "200": json_reply("All parts work, or go on with something missing.", &health),
        "503": json_reply("A part does not work.", &health)
    });
    paths.insert("/health".to_owned(), json!({"get": whole}));
    let mut live = operations.fixed("liveness", "health", "Ask whether the process answers");
    live["responses"] = json!({"200": json_reply("It does.", &word)});
    paths.insert("/health/live".to_owned(), json!({"get": live}));
    let mut ready = operations.fixed("readiness", "health", "Ask whether requests are served");
    ready["responses"] = json!({
        "200": json_reply("They are.", &word),
        "503": json_reply("They are not.", &word)
    });
    paths.insert("/health/ready".to_owned(), json!({"get": ready}));
    let mut metrics = operations.fixed("metrics", "health", "Get metrics in the Prometheus text format");
    metrics["responses"] = json!({
        "200": {"description": "All metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    });
    paths.insert("/metrics".to_owned(), json!({"get": metrics}));
}
