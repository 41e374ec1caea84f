//! Signing in by other providers.

use serde_json::{Map, Value as Json, json};

use super::auth::challenged;
use super::document::{Operations, failures, json_body, json_reply};
use super::schemas::reference;

pub(super) fn add(paths: &mut Map<String, Json>, operations: &mut Operations) {
    let text = json!({"type": "string"});
    let parameter = |name: &str, place: &str| json!({"name": name, "in": place, "required": place == "path", "schema": text});
    let names = json!({"type": "array", "items": text});
    let names = json!({"type": "object", "required": ["providers"], "properties": {"providers": names}});
    let mut providers = operations.fixed(
        "listProviders",
        "auth",
        "List the providers that people can sign in by",
    );
    providers["responses"] = json!({"200": json_reply("Their names.", &names)});
    paths.insert("/api/auth/providers".to_owned(), json!({"get": providers}));

    let mut begin = operations.fixed("beginOAuth", "auth", "Go to a provider to sign in");
    begin["parameters"] = json!([
        parameter("provider", "path"),
        parameter("redirect", "query"),
        parameter("challenge", "query"),
    ]);
    begin["responses"] = replies(
        307,
        json!({"description": "To the provider."}),
        &[400, 404, 502, 503],
    );
    let path = "/api/auth/oauth/{provider}";
    paths.insert(path.to_owned(), json!({"get": begin}));

    let mut finish = operations.fixed("finishOAuth", "auth", "Come back from a provider");
    finish["parameters"] = json!([
        parameter("provider", "path"),
        parameter("state", "query"),
        parameter("code", "query"),
        parameter("error", "query"),
    ]);
    let signed_in = json_reply(
        "It is signed in, where no `redirect` was given.",
        &reference("SignedIn"),
    );
    finish["responses"] = replies(200, signed_in, &[400, 403, 404, 409, 429, 502, 503]);
    finish["responses"]["202"] = challenged();
    finish["responses"]["303"] = json!({"description": "To `redirect`, with `code` or `error`."});
    paths.insert(format!("{path}/callback"), json!({"get": finish}));

    let exchange = json!({
        "type": "object",
        "required": ["code", "verifier"],
        "properties": {"code": text, "verifier": text}
    });
    let mut login = operations.fixed(
        "loginByOAuth",
        "auth",
        "Sign in by the code of a `redirect`, once",
    );
    login["requestBody"] = json_body(&exchange, true);
    let signed_in = json_reply("It is signed in.", &reference("SignedIn"));
    login["responses"] = replies(200, signed_in, &[400, 403, 409, 429, 503]);
    login["responses"]["202"] = challenged();
    paths.insert("/api/auth/oauth/login".to_owned(), json!({"post": login}));
    add_identities(paths, operations, &exchange);
}

fn add_identities(paths: &mut Map<String, Json>, operations: &mut Operations, exchange: &Json) {
    let text = json!({"type": "string"});
    let entry = json!({
        "type": "object",
        "required": ["provider", "email", "created_at"],
        "properties": {
            "provider": text,
            "email": {"type": ["string", "null"]},
            "created_at": {"type": "string", "format": "date-time"}
        }
    });
    let all = json!({"type": "array", "items": entry});
    let all = json!({"type": "object", "required": ["identities"], "properties": {"identities": all}});
    let mut own = |id, summary, status: u16, reply: Json, errors: &[u16]| {
        let mut operation = operations.fixed(id, "auth", summary);
        operation["responses"] = replies(status, reply, errors);
        operation
    };
    let reply = json_reply("By name.", &all);
    let list = own(
        "listIdentities",
        "List the providers of the own account",
        200,
        reply,
        &[401, 503],
    );
    let reply = json!({"description": "It is linked."});
    let errors = &[400, 401, 409, 503];
    let mut link = own(
        "linkIdentity",
        "Link a provider to the own account",
        204,
        reply,
        errors,
    );
    link["requestBody"] = json_body(exchange, true);
    let reply = json!({"description": "It is gone."});
    let errors = &[401, 404, 409, 503];
    let mut unlink = own(
        "unlinkIdentity",
        "Take a provider from the own account",
        204,
        reply,
        errors,
    );
    unlink["parameters"] = json!([{"name": "provider", "in": "path", "required": true, "schema": text}]);
    let path = "/api/auth/identities";
    paths.insert(path.to_owned(), json!({"get": list, "post": link}));
    paths.insert(format!("{path}/{{provider}}"), json!({"delete": unlink}));
}

pub(super) fn replies(status: u16, reply: Json, errors: &[u16]) -> Json {
    let mut replies = Map::from_iter([(status.to_string(), reply)]);
    replies.extend(failures(errors));
    Json::Object(replies)
}
