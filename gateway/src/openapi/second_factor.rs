//! The second factor of accounts.

use serde_json::{Map, Value as Json, json};

use super::document::{Operations, json_body, json_reply};
use super::oauth::replies;
use super::schemas::reference;

pub(super) fn add(paths: &mut Map<String, Json>, operations: &mut Operations) {
    let text = json!({"type": "string"});
    let object = |required: &[&str], properties: Json| json!({"type": "object", "required": required, "properties": properties});
    let owner = json!({"type": "object", "properties": {
        "password": text,
        "code": {"type": "string", "description": "Of the app, or a recovery code."}
    }});
    let codes = object(
        &["recovery_codes"],
        json!({"recovery_codes": {"type": "array", "items": text}}),
    );
    let status = object(
        &["enabled", "enabled_at", "recovery_codes"],
        json!({
            "enabled": {"type": "boolean"},
            "enabled_at": {"type": ["string", "null"], "format": "date-time"},
            "recovery_codes": {"type": "integer", "description": "How many are left."}
        }),
    );
    let enrolment = object(&["secret", "uri"], json!({"secret": text, "uri": text}));
    let mut own = |id, summary, body: Option<&Json>, reply: (u16, Json), errors: &[u16]| {
        let mut operation = operations.fixed(id, "auth", summary);
        if let Some(body) = body {
            operation["requestBody"] = json_body(body, false);
        }
        operation["responses"] = replies(reply.0, reply.1, errors);
        operation
    };
    let show = own(
        "getSecondFactor",
        "Show whether the own account has a second factor",
        None,
        (200, json_reply("Whether it has.", &status)),
        &[401, 503],
    );
    let enrol = own(
        "enrolSecondFactor",
        "Get a secret for an authenticator app",
        Some(&owner),
        (200, json_reply("It is to be confirmed.", &enrolment)),
        &[400, 401, 403, 409, 429, 503],
    );
    let remove = own(
        "removeSecondFactor",
        "Take the second factor from the own account",
        Some(&owner),
        (204, json!({"description": "It is gone."})),
        &[400, 401, 403, 404, 429, 503],
    );
    let code = object(&["code"], json!({"code": text}));
    let confirm = own(
        "confirmSecondFactor",
        "Have the second factor asked for from now on",
        Some(&code),
        (200, json_reply("They are not shown again.", &codes)),
        &[400, 401, 404, 429, 503],
    );
    let renew = own(
        "renewRecoveryCodes",
        "Get other recovery codes in place of those that are left",
        Some(&owner),
        (200, json_reply("They are not shown again.", &codes)),
        &[400, 401, 403, 404, 429, 503],
    );
    let answer = answer(operations);
    let path = "/api/auth/second-factor";
    paths.insert(
        path.to_owned(),
        json!({"get": show, "post": enrol, "delete": remove}),
    );
    for (action, operation) in [("confirm", confirm), ("recovery-codes", renew), ("login", answer)] {
        paths.insert(format!("{path}/{action}"), json!({"post": operation}));
    }
}

fn answer(operations: &mut Operations) -> Json {
    let text = json!({"type": "string"});
    let mut answer = operations.fixed(
        "answerChallenge",
        "auth",
        "Sign in by a code of the second factor",
    );
    let body = json!({
        "type": "object",
        "required": ["challenge", "code"],
        "properties": {"challenge": text, "code": text}
    });
    answer["requestBody"] = json_body(&body, true);
    let signed_in = json_reply("It is signed in.", &reference("SignedIn"));
    answer["responses"] = replies(200, signed_in, &[400, 401, 429, 503]);
    answer
}
