//! The paths of functions: each function by its name, and what there is to ask about them.

use alyx_service::state::Function;
use serde_json::{Map, Value as Json, json};

use super::document::{Operations, failures, json_body, json_reply};

/// Paths that belong to the API itself; a function of that name is called by no path of its own.
const RESERVED: [&str; 2] = ["stats", "reload"];

/// Schemas of this module, by name.
pub(super) fn shared() -> Vec<(&'static str, Json)> {
    vec![
        (
            "FunctionInfo",
            json!({
                "type": "object",
                "required": ["name", "runtime"],
                "properties": {
                    "name": {"type": "string"},
                    "runtime": {"type": "string", "examples": ["node"]},
                    "description": {"type": "string"},
                    "sample_input": {"description": "An input to try it with; null where there is none."},
                    "enabled": {"type": "boolean"},
                    "timeout": {"type": "number", "description": "Seconds."},
                    "memory": {"type": "integer", "description": "MiB."}
                }
            }),
        ),
        (
            "FunctionResponse",
            json!({
                "type": "object",
                "description": "The reply to a wrapped call.",
                "required": ["success", "duration_ms"],
                "properties": {
                    "success": {"type": "boolean"},
                    "output": {"description": "What the handler returned."},
                    "error": {
                        "type": "object",
                        "required": ["code", "message"],
                        "properties": {"code": {"type": "string"}, "message": {"type": "string"}}
                    },
                    "duration_ms": {"type": "number"},
                    "logs": {"type": "array", "description": "What the handler logged; in development only.", "items": {"type": "object"}}
                }
            }),
        ),
    ]
}

/// What there is to ask about functions, and calling one by name.
pub(super) fn add_general(paths: &mut Map<String, Json>, operations: &mut Operations) {
    let info = json!({"$ref": "#/components/schemas/FunctionInfo"});
    let mut list = operations.fixed("listFunctions", "functions", "List functions");
    let page = json!({
        "type": "object",
        "required": ["functions", "count"],
        "properties": {"functions": {"type": "array", "items": info}, "count": {"type": "integer"}}
    });
    list["responses"] = json!({"200": json_reply("All functions.", &page)});
    paths.insert("/api/functions".to_owned(), json!({"get": list}));

    let mut stats = operations.fixed(
        "getFunctionStats",
        "functions",
        "Show how functions and the pools that they run in do",
    );
    stats["responses"] = json!({"200": json_reply("Pools by runtime, functions by name.", &figures())});
    paths.insert("/api/functions/stats".to_owned(), json!({"get": stats}));

    let mut reload = operations.fixed("reloadFunctions", "functions", "Read the functions folder again");
    let done = json!({
        "type": "object",
        "required": ["success", "count", "message"],
        "properties": {"success": {"type": "boolean"}, "count": {"type": "integer"}, "message": {"type": "string"}}
    });
    let replies = Map::from_iter([("200".to_owned(), json_reply("Read again.", &done))]);
    reload["responses"] = Json::Object(replies);
    paths.insert("/api/functions/reload".to_owned(), json!({"post": reload}));

    let mut get = operations.fixed("getFunction", "functions", "Describe a function");
    let mut replies = Map::from_iter([("200".to_owned(), json_reply("The function.", &info))]);
    replies.extend(failures(&[404]));
    get["responses"] = Json::Object(replies);
    let mut invoke = operations.fixed("invokeFunction", "functions", "Call a function");
    fill_call(&mut invoke, None);
    let name = json!({"name": "name", "in": "path", "required": true, "schema": {"type": "string"}});
    paths.insert(
        "/api/functions/{name}".to_owned(),
        json!({"parameters": [name], "get": get, "post": invoke}),
    );
}

/// One function, with its own description and example.
pub(super) fn add(function: &Function, paths: &mut Map<String, Json>, operations: &mut Operations) {
    if RESERVED.contains(&function.name.as_str()) {
        return;
    }
    let summary = match function.description.lines().next() {
        Some(line) if !line.trim().is_empty() => line.trim().to_owned(),
        Some(_) | None => format!("Call {}", function.name),
    };
    let mut call = operations.make("invoke", &function.name, &summary);
    call["tags"] = json!(["functions"]);
    if function.description.trim().lines().count() > 1 {
        call["description"] = json!(function.description.trim());
    }
    fill_call(&mut call, function.sample_input.as_ref());
    paths.insert(format!("/api/functions/{}", function.name), json!({"post": call}));
}

/// What there is to know of pools and functions.
fn figures() -> Json {
    let object = |names: &[&str], more: Json| {
        let mut properties: Map<String, Json> = names
            .iter()
            .map(|name| ((*name).to_owned(), json!({"type": "integer"})))
            .collect();
        for time in ["p50_ms", "p99_ms"] {
            let words = "Milliseconds of the calls of the last five to ten minutes, waiting included; null where there were none.";
            properties.insert(
                time.to_owned(),
                json!({"type": ["number", "null"], "description": words}),
            );
        }
        if let Json::Object(more) = more {
            properties.extend(more);
        }
        json!({"type": "object", "additionalProperties": {"type": "object", "properties": properties}})
    };
    let counts = [
        "busy",
        "queued",
        "invocations",
        "cold_starts",
        "timeouts",
        "crashes",
    ];
    let pool = object(&[&counts[..], &["ready", "total", "started"]].concat(), json!({}));
    let function = object(
        &[&counts[..], &["warm"]].concat(),
        json!({"runtime": {"type": "string", "examples": ["node"]}}),
    );
    json!({
        "type": "object",
        "required": ["pools", "functions"],
        "properties": {"pools": pool, "functions": function}
    })
}

fn fill_call(call: &mut Json, sample: Option<&Json>) {
    let wrapped = json!({
        "type": "object",
        "description": "An object whose only key is `input`: the reply is the envelope. Any other JSON is the input itself, and the reply is what the handler returns.",
        "required": ["input"],
        "properties": {"input": {}}
    });
    let mut body = json_body(
        &json!({"anyOf": [wrapped, {"description": "The input itself."}]}),
        false,
    );
    body["content"]["application/json"]["example"] =
        json!({"input": sample.cloned().unwrap_or_else(|| json!({}))});
    call["requestBody"] = body;
    let reply = json!({
        "anyOf": [
            {"$ref": "#/components/schemas/FunctionResponse"},
            {"description": "What the handler returned, for a call that was not wrapped."}
        ]
    });
    let mut replies = Map::from_iter([("200".to_owned(), json_reply("The call succeeded.", &reply))]);
    let failed = json!({
        "anyOf": [
            {"$ref": "#/components/schemas/Error"},
            {"$ref": "#/components/schemas/FunctionResponse"}
        ]
    });
    for (status, description) in [
        (
            "400",
            "The input was refused, or the handler threw an error with a code.",
        ),
        ("403", "The function's rule does not let the caller call it."),
        ("404", "There is no such function."),
        ("413", "The body is too large."),
        (
            "429",
            "Too many calls wait; `Retry-After` says when to try again.",
        ),
        ("500", "The handler threw an error without a code."),
        ("502", "The function's process broke."),
        ("503", "The function's code does not load, or the server is busy."),
        ("504", "The function took longer than its timeout."),
    ] {
        replies.insert(status.to_owned(), json_reply(description, &failed));
    }
    call["responses"] = Json::Object(replies);
}
