//! What operators do: signing in, operators and API tokens, the log of requests.

use serde_json::{Map, Value as Json, json};

use super::document::Operations;
use super::operation::Operation;
use super::schemas::reference;

/// Schemas of this module, by name.
pub(super) fn shared() -> Vec<(&'static str, Json)> {
    let text = json!({"type": "string"});
    let time = json!({"type": "string", "format": "date-time"});
    let perhaps = json!({"type": ["string", "null"], "format": "date-time"});
    let scopes = json!({"type": "array", "items": text, "examples": [["read:posts", "deploy"]]});
    let object = |properties: Json, required: &[&str]| json!({"type": "object", "required": required, "properties": properties});
    let credentials = json!({
        "email": {"type": "string", "format": "email"},
        "password": {"type": "string", "description": "10 characters or more."}
    });
    let shown = json!({
        "token": {"type": "string", "description": "Shown this once."},
        "id": text, "name": text, "scopes": scopes, "expires_at": perhaps
    });
    let operator = json!({"id": text, "email": text, "created_at": time, "used_at": perhaps});
    let token = json!({
        "id": text, "name": text, "scopes": scopes, "created_at": time, "expires_at": perhaps, "used_at": perhaps
    });
    let new = json!({"name": text, "scopes": scopes, "expires_in": {"type": "string", "examples": ["90d"]}});
    let number = json!({"type": "integer", "minimum": 0});
    let entry = json!({
        "id": text, "timestamp": time, "method": text, "path": text,
        "query": {"type": "string", "description": "Without the values of parameters that may be anybody's secret."},
        "status": number,
        "duration": {"type": "integer", "description": "Nanoseconds."},
        "duration_ms": {"type": "number"},
        "bytes_in": number, "bytes_out": number, "client_ip": text, "user_agent": text,
        "user_kind": {"enum": ["account", "operator", "token"]},
        "user_id": text, "error_code": text
    });
    let kept = [
        "id",
        "timestamp",
        "method",
        "path",
        "status",
        "duration",
        "duration_ms",
        "bytes_in",
        "client_ip",
    ];
    vec![
        ("OperatorCredentials", object(credentials, &["email", "password"])),
        (
            "ShownToken",
            object(shown, &["token", "id", "scopes", "expires_at"]),
        ),
        (
            "Operator",
            object(operator, &["id", "email", "created_at", "used_at"]),
        ),
        (
            "ApiToken",
            object(
                token,
                &["id", "name", "scopes", "created_at", "expires_at", "used_at"],
            ),
        ),
        ("NewApiToken", object(new, &["name", "scopes"])),
        ("RequestLogEntry", object(entry, &kept)),
    ]
}

pub(super) fn add(paths: &mut Map<String, Json>, operations: &mut Operations) {
    add_signing_in(paths, operations);
    add_operators(paths, operations);
    add_tokens(paths, operations);
    add_logs(paths, operations);
}

fn add_signing_in(paths: &mut Map<String, Json>, operations: &mut Operations) {
    let login = Operation {
        id: "adminLogin",
        summary: "Sign in as an operator",
        body: Some(reference("OperatorCredentials")),
        reply: (200, "A token, good for 12 hours.", Some(reference("ShownToken"))),
        errors: &[400, 401, 413, 415, 429, 503],
    };
    let login = json!({"post": login.describe("admin", operations)});
    paths.insert("/api/admin/login".to_owned(), login);
    let logout = Operation {
        id: "adminLogout",
        summary: "End the sign-in that asks",
        body: None,
        reply: (204, "It is over.", None),
        errors: &[503],
    };
    let logout = json!({"post": logout.describe("admin", operations)});
    paths.insert("/api/admin/logout".to_owned(), logout);
}

fn add_operators(paths: &mut Map<String, Json>, operations: &mut Operations) {
    let list = Operation {
        id: "listOperators",
        summary: "List operators",
        body: None,
        reply: (200, "All operators.", Some(listed("operators", "Operator"))),
        errors: &[503],
    };
    let made = json!({
        "type": "object",
        "required": ["id", "email"],
        "properties": {"id": {"type": "string"}, "email": {"type": "string"}}
    });
    let create = Operation {
        id: "createOperator",
        summary: "Make an operator",
        body: Some(reference("OperatorCredentials")),
        reply: (201, "The operator.", Some(made)),
        errors: &[400, 409, 413, 415, 429, 503],
    };
    let revoke = Operation {
        id: "revokeOperator",
        summary: "End an operator with all sign-ins",
        body: None,
        reply: (204, "They are over.", None),
        errors: &[400, 404, 503],
    };
    let item =
        json!({"get": list.describe("admin", operations), "post": create.describe("admin", operations)});
    paths.insert("/api/admin/operators".to_owned(), item);
    let item = one(
        "who",
        "E-mail address or id.",
        revoke.describe("admin", operations),
    );
    paths.insert("/api/admin/operators/{who}".to_owned(), item);
}

fn add_tokens(paths: &mut Map<String, Json>, operations: &mut Operations) {
    let list = Operation {
        id: "listApiTokens",
        summary: "List API tokens, without what opens anything",
        body: None,
        reply: (200, "All tokens.", Some(listed("tokens", "ApiToken"))),
        errors: &[503],
    };
    let create = Operation {
        id: "createApiToken",
        summary: "Make an API token",
        body: Some(reference("NewApiToken")),
        reply: (201, "The token.", Some(reference("ShownToken"))),
        errors: &[400, 409, 413, 415, 429, 503],
    };
    let revoke = Operation {
        id: "revokeApiToken",
        summary: "End an API token",
        body: None,
        reply: (204, "It is over.", None),
        errors: &[400, 404, 503],
    };
    let item =
        json!({"get": list.describe("admin", operations), "post": create.describe("admin", operations)});
    paths.insert("/api/admin/tokens".to_owned(), item);
    let item = one("name", "Name or id.", revoke.describe("admin", operations));
    paths.insert("/api/admin/tokens/{name}".to_owned(), item);
}

fn add_logs(paths: &mut Map<String, Json>, operations: &mut Operations) {
    let number = json!({"type": "integer", "minimum": 0});
    let text = json!({"type": "string"});
    let time = json!({"type": "string", "format": "date-time"});
    let entries = json!({
        "type": "object",
        "required": ["entries", "total", "limit", "offset"],
        "properties": {
            "entries": {"type": "array", "items": reference("RequestLogEntry")},
            "total": number, "limit": number, "offset": number
        }
    });
    let list = Operation {
        id: "listRequestLogs",
        summary: "List the last requests of the gateway that answers, newest first",
        body: None,
        reply: (200, "A page of them.", Some(entries)),
        errors: &[400],
    };
    let mut list = list.describe("admin", operations);
    let parameters = [
        (
            "limit",
            json!({"type": "integer", "minimum": 0, "maximum": 1000, "default": 100}),
        ),
        ("offset", number.clone()),
        ("method", text.clone()),
        ("path", text.clone()),
        ("exclude_path_prefix", text.clone()),
        ("user_id", text),
        ("status", number.clone()),
        ("min_status", number.clone()),
        ("max_status", number.clone()),
        ("since", time.clone()),
        ("until", time),
    ];
    let parameters = parameters.map(|(name, schema)| json!({"name": name, "in": "query", "schema": schema}));
    list["parameters"] = json!(parameters);
    paths.insert("/api/admin/logs".to_owned(), json!({"get": list}));
    let figures = json!({
        "type": "object",
        "required": ["capacity", "count"],
        "properties": {"capacity": number, "count": number}
    });
    let stats = Operation {
        id: "getRequestLogStats",
        summary: "Show how many requests are kept",
        body: None,
        reply: (200, "How many, and how many at most.", Some(figures)),
        errors: &[],
    };
    let stats = json!({"get": stats.describe("admin", operations)});
    paths.insert("/api/admin/logs/stats".to_owned(), stats);
    let done =
        json!({"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}});
    let clear = Operation {
        id: "clearRequestLogs",
        summary: "Forget the last requests of the gateway that answers",
        body: None,
        reply: (200, "They are forgotten.", Some(done)),
        errors: &[],
    };
    let clear = json!({"post": clear.describe("admin", operations)});
    paths.insert("/api/admin/logs/clear".to_owned(), clear);
}

fn listed(name: &str, item: &str) -> Json {
    json!({
        "type": "object",
        "required": [name, "total"],
        "properties": {name: {"type": "array", "items": reference(item)}, "total": {"type": "integer"}}
    })
}

fn one(parameter: &str, description: &str, delete: Json) -> Json {
    let parameter = json!({
        "name": parameter, "in": "path", "required": true, "description": description, "schema": {"type": "string"}
    });
    json!({"parameters": [parameter], "delete": delete})
}
