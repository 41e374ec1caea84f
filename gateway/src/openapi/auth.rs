//! Accounts and sessions.

use serde_json::{Map, Value as Json, json};

use super::document::{Operations, json_reply};
use super::operation::Operation;
use super::schemas::reference;

/// Schemas of this module, by name.
pub(super) fn shared() -> Vec<(&'static str, Json)> {
    let time = json!({"type": "string", "format": "date-time"});
    let account = json!({
        "type": "object",
        "required": ["id", "email", "verified", "role", "metadata", "created_at", "updated_at"],
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "email": {"type": ["string", "null"], "format": "email"},
            "verified": {"type": "boolean"},
            "role": {"type": "string"},
            "metadata": {"type": "object"},
            "created_at": time,
            "updated_at": time
        }
    });
    let tokens = json!({
        "access_token": {"type": "string"},
        "refresh_token": {"type": "string"},
        "expires_at": {"type": "string", "format": "date-time", "description": "When the access token expires."},
        "token_type": {"const": "Bearer"}
    });
    let required = ["access_token", "refresh_token", "expires_at", "token_type"];
    let tokens = json!({"type": "object", "required": required, "properties": tokens});
    let mut signed_in = tokens.clone();
    signed_in["required"] = json!([&required[..], &["user", "tokens"]].concat());
    signed_in["properties"]["user"] = reference("Account");
    signed_in["properties"]["tokens"] = reference("Tokens");
    let session = json!({
        "type": "object",
        "required": ["id", "created_at", "used_at", "expires_at", "user_agent", "ip_address", "current"],
        "properties": {
            "id": {"type": "string"},
            "created_at": time,
            "used_at": time,
            "expires_at": time,
            "user_agent": {"type": ["string", "null"]},
            "ip_address": {"type": ["string", "null"]},
            "current": {"type": "boolean", "description": "Whether it is the one that asks."}
        }
    });
    let challenge = json!({
        "type": "object",
        "required": ["second_factor_required", "challenge", "expires_at"],
        "properties": {
            "second_factor_required": {"const": true},
            "challenge": {"type": "string", "description": "To be sent with a code of the second factor."},
            "expires_at": time
        }
    });
    vec![
        ("Account", account),
        ("Challenge", challenge),
        ("Tokens", tokens),
        ("SignedIn", signed_in),
        ("Session", session),
    ]
}

pub(super) fn add(paths: &mut Map<String, Json>, operations: &mut Operations) {
    add_signing_in(paths, operations);
    add_own_account(paths, operations);
    add_mails(paths, operations);
    add_anonymous(paths, operations);
    super::second_factor::add(paths, operations);
    super::oauth::add(paths, operations);
    let mut keys = operations.fixed("getSigningKeys", "auth", "Get the public keys that check tokens");
    keys["responses"] = json!({"200": json_reply("A JSON Web Key Set.", &json!({"type": "object"}))});
    paths.insert("/api/auth/jwks.json".to_owned(), json!({"get": keys}));
}

/// The reply of a sign-in to an account with a second factor.
pub(super) fn challenged() -> Json {
    json_reply("Its second factor is asked for.", &reference("Challenge"))
}

fn add_signing_in(paths: &mut Map<String, Json>, operations: &mut Operations) {
    let text = json!({"type": "string"});
    let object = |required: &[&str], properties: Json| json!({"type": "object", "required": required, "properties": properties});
    let credentials = json!({"email": {"type": "string", "format": "email"}, "password": text});
    let mut registration = object(&["email", "password"], credentials.clone());
    registration["properties"]["metadata"] =
        json!({"type": "object", "description": "Anything, up to 16 KiB."});
    let status = object(
        &["needs_setup", "allow_registration"],
        json!({"needs_setup": {"type": "boolean"}, "allow_registration": {"type": "boolean"}}),
    );
    let status = Operation {
        id: "authStatus",
        summary: "Ask whether there are accounts, and whether there may be more",
        body: None,
        reply: (200, "Both.", Some(status)),
        errors: &[503],
    };
    paths.insert(
        "/api/auth/status".to_owned(),
        json!({"get": status.describe("auth", operations)}),
    );
    let signing_in = |id, summary, body, status, errors| Operation {
        id,
        summary,
        body: Some(body),
        reply: (status, "It is signed in.", Some(reference("SignedIn"))),
        errors,
    };
    let mut register = signing_in(
        "register",
        "Make an account and sign in",
        registration,
        201,
        &[400, 403, 409, 413, 429, 503][..],
    )
    .describe("auth", operations);
    let waiting = object(&["email"], json!({"email": text}));
    register["responses"]["202"] = json_reply("It may sign in once its address is verified.", &waiting);
    let credentials = object(&["email", "password"], credentials);
    let errors = &[400, 401, 403, 413, 429, 503][..];
    let login = signing_in("login", "Sign in", credentials, 200, errors);
    let mut login = login.describe("auth", operations);
    login["responses"]["202"] = challenged();
    let refresh_token = object(&["refresh_token"], json!({"refresh_token": text}));
    let errors = &[400, 401, 503][..];
    let summary = "Get new tokens for a refresh token, once";
    let refresh = signing_in("refreshSession", summary, refresh_token.clone(), 200, errors);
    let logout = Operation {
        id: "logout",
        summary: "End the session of the refresh token, or of the bearer",
        body: Some(refresh_token),
        reply: (204, "It has ended.", None),
        errors: &[400, 503],
    };
    let mut logout = logout.describe("auth", operations);
    logout["requestBody"]["required"] = json!(false);
    paths.insert("/api/auth/register".to_owned(), json!({"post": register}));
    paths.insert("/api/auth/login".to_owned(), json!({"post": login}));
    paths.insert(
        "/api/auth/refresh".to_owned(),
        json!({"post": refresh.describe("auth", operations)}),
    );
    paths.insert("/api/auth/logout".to_owned(), json!({"post": logout}));
}

fn add_anonymous(paths: &mut Map<String, Json>, operations: &mut Operations) {
    let text = json!({"type": "string"});
    let begin = Operation {
        id: "registerAnonymously",
        summary: "Make an account without an address and sign in",
        body: Some(json!({"type": "object", "properties": {"metadata": {"type": "object"}}})),
        reply: (201, "It is signed in.", Some(reference("SignedIn"))),
        errors: &[400, 403, 429, 503],
    };
    let mut begin = begin.describe("auth", operations);
    begin["requestBody"]["required"] = json!(false);
    let credentials = json!({
        "type": "object",
        "required": ["email", "password"],
        "properties": {"email": {"type": "string", "format": "email"}, "password": text}
    });
    let upgrade = Operation {
        id: "upgradeAccount",
        summary: "Give the own anonymous account an address and a password",
        body: Some(credentials),
        reply: (200, "The account, with the same id.", Some(reference("Account"))),
        errors: &[400, 401, 403, 409, 429, 503],
    };
    let upgrade = upgrade.describe("auth", operations);
    let path = "/api/auth/anonymous";
    paths.insert(path.to_owned(), json!({"post": begin}));
    paths.insert(format!("{path}/upgrade"), json!({"post": upgrade}));
}

fn add_mails(paths: &mut Map<String, Json>, operations: &mut Operations) {
    let text = json!({"type": "string"});
    let object = |required: &[&str], properties: Json| json!({"type": "object", "required": required, "properties": properties});
    let operation = |id, summary, body, reply, errors| Operation {
        id,
        summary,
        body: Some(body),
        reply,
        errors,
    };
    let message = object(&["message"], json!({"message": text}));
    for (path, id, summary) in [
        (
            "verify/request",
            "requestVerification",
            "Have a mail sent that verifies an address",
        ),
        (
            "password/forgot",
            "requestPasswordReset",
            "Have a mail sent that sets another password",
        ),
        ("magic-link", "requestMagicLink", "Have a mail sent that signs in"),
    ] {
        let body = object(&["email"], json!({"email": text}));
        let reply = (
            202,
            "It is sent where there is such an account.",
            Some(message.clone()),
        );
        let ask = operation(id, summary, body, reply, &[400, 429, 503][..]).describe("auth", operations);
        paths.insert(format!("/api/auth/{path}"), json!({"post": ask}));
    }
    let token = object(&["token"], json!({"token": text}));
    let verify = operation(
        "verifyEmail",
        "Verify an address by the token of a mail, once",
        token,
        (204, "It is verified.", None),
        &[400, 503][..],
    );
    paths.insert(
        "/api/auth/verify".to_owned(),
        json!({"post": verify.describe("auth", operations)}),
    );
    let reset = operation(
        "resetPassword",
        "Set another password by the token of a mail, once",
        object(&["token", "password"], json!({"token": text, "password": text})),
        (204, "It is set; all sessions have ended.", None),
        &[400, 429, 503][..],
    );
    paths.insert(
        "/api/auth/password/reset".to_owned(),
        json!({"post": reset.describe("auth", operations)}),
    );
    let by_token = object(&["token"], json!({"token": text}));
    let by_code = object(&["email", "code"], json!({"email": text, "code": text}));
    let login = operation(
        "loginByMail",
        "Sign in by the token or the code of a mail, once",
        json!({"oneOf": [by_token, by_code]}),
        (200, "It is signed in.", Some(reference("SignedIn"))),
        &[400, 429, 503][..],
    );
    let mut login = login.describe("auth", operations);
    login["responses"]["202"] = challenged();
    paths.insert("/api/auth/magic-link/login".to_owned(), json!({"post": login}));
}

fn add_own_account(paths: &mut Map<String, Json>, operations: &mut Operations) {
    let own = |id, summary, body: Option<Json>, reply: (u16, &'static str, Option<Json>), errors| Operation {
        id,
        summary,
        body,
        reply,
        errors,
    };
    let text = json!({"type": "string"});
    let account = (200, "The account.", Some(reference("Account")));
    let me = own(
        "getAccount",
        "Show the own account",
        None,
        account,
        &[401, 503][..],
    );
    let owner = json!({"type": "object", "properties": {"password": text, "code": text}});
    let errors = &[400, 401, 429, 503][..];
    let delete = own(
        "deleteAccount",
        "Remove the own account",
        Some(owner),
        (204, "It is gone.", None),
        &[400, 401, 403, 429, 503],
    );
    let mut delete = delete.describe("auth", operations);
    delete["requestBody"]["required"] = json!(false);
    let own_account = json!({"get": me.describe("auth", operations), "delete": delete});
    paths.insert("/api/auth/me".to_owned(), own_account);
    let passwords = json!({
        "type": "object",
        "required": ["current_password", "new_password"],
        "properties": {"current_password": text, "new_password": text}
    });
    let changed = (204, "It is changed; all other sessions have ended.", None);
    let change = own(
        "changePassword",
        "Change the own password",
        Some(passwords),
        changed,
        errors,
    );
    paths.insert(
        "/api/auth/password".to_owned(),
        json!({"post": change.describe("auth", operations)}),
    );
    let all = json!({
        "type": "object",
        "required": ["sessions"],
        "properties": {"sessions": {"type": "array", "items": reference("Session")}}
    });
    let all = (200, "The last used first.", Some(all));
    let list = own(
        "listSessions",
        "List the own sessions",
        None,
        all,
        &[401, 503][..],
    );
    let ended = || (204, "Ended.", None);
    let others = own(
        "endOtherSessions",
        "End all own sessions but this one",
        None,
        ended(),
        &[401, 503][..],
    );
    let sessions =
        json!({"get": list.describe("auth", operations), "delete": others.describe("auth", operations)});
    paths.insert("/api/auth/sessions".to_owned(), sessions);
    let one = own(
        "endSession",
        "End one of the own sessions",
        None,
        ended(),
        &[401, 404, 503][..],
    );
    let mut one = one.describe("auth", operations);
    one["parameters"] = json!([{"name": "id", "in": "path", "required": true, "schema": text}]);
    paths.insert("/api/auth/sessions/{id}".to_owned(), json!({"delete": one}));
}
