//! The document as a whole.

use alyx_config::Docs;
use alyx_service::state::DesiredState;
use serde_json::{Map, Value as Json, json};

use super::names::{Names, capitalized};
use super::{access, admin, auth, collections, files, functions, schemas, system, transactions};

/// What a document is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// Collections and functions.
    pub(super) state: &'a DesiredState,
    /// Title, description and version.
    pub(super) docs: &'a Docs,
    /// Whether functions are served.
    pub(super) functions: bool,
    /// Whether the realtime endpoint is served.
    pub(super) realtime: bool,
    /// Whether anybody can sign in.
    pub(super) accounts: bool,
    /// Whether operations of functions that are for operators are open to anybody.
    pub(super) development: bool,
}

/// The failures that operations name, by status.
const FAILURES: [(u16, &str, &str); 12] = [
    (
        400,
        "BadRequest",
        "The request is wrong; the message says where and how.",
    ),
    (
        401,
        "Unauthenticated",
        "The credentials are missing, wrong, or good no longer.",
    ),
    (403, "Forbidden", "The caller may not do this."),
    (404, "NotFound", "There is no such thing."),
    (
        409,
        "Conflict",
        "The data forbids it: a unique value is taken, or a reference would break.",
    ),
    (
        412,
        "PreconditionFailed",
        "The document is not in the state that the request demands.",
    ),
    (413, "PayloadTooLarge", "The body is too large."),
    (415, "UnsupportedMediaType", "The body is not JSON."),
    (
        429,
        "TooManyRequests",
        "Too often; `Retry-After` says when to try again.",
    ),
    (502, "BadGateway", "What is behind the server failed; try again."),
    (
        503,
        "Unavailable",
        "Not now; `Retry-After` says when to try again.",
    ),
    (504, "DeadlineExceeded", "It took too long."),
];

/// Operation ids that belong to the API itself.
const FIXED_OPERATIONS: [&str; 60] = [
    "listFunctions",
    "getFunctionStats",
    "reloadFunctions",
    "getFunction",
    "invokeFunction",
    "runBatch",
    "beginTransaction",
    "commitTransaction",
    "rollbackTransaction",
    "authStatus",
    "register",
    "login",
    "refreshSession",
    "logout",
    "getAccount",
    "deleteAccount",
    "changePassword",
    "listSessions",
    "endOtherSessions",
    "endSession",
    "getSigningKeys",
    "requestVerification",
    "verifyEmail",
    "requestPasswordReset",
    "answerChallenge",
    "registerAnonymously",
    "upgradeAccount",
    "confirmSecondFactor",
    "enrolSecondFactor",
    "getSecondFactor",
    "removeSecondFactor",
    "renewRecoveryCodes",
    "resetPassword",
    "requestMagicLink",
    "loginByMail",
    "listProviders",
    "beginOAuth",
    "finishOAuth",
    "loginByOAuth",
    "listIdentities",
    "linkIdentity",
    "unlinkIdentity",
    "adminLogin",
    "adminLogout",
    "listOperators",
    "createOperator",
    "revokeOperator",
    "listApiTokens",
    "createApiToken",
    "revokeApiToken",
    "listRequestLogs",
    "getRequestLogStats",
    "clearRequestLogs",
    "connectRealtime",
    "getConfig",
    "getOpenApi",
    "health",
    "liveness",
    "readiness",
    "metrics",
];

/// The schemas that are not those of collections, by name.
fn shared_schemas(subject: &Subject<'_>) -> Vec<(&'static str, Json)> {
    let mut shared = schemas::shared();
    shared.extend(system::shared());
    shared.extend(transactions::shared());
    shared.extend(admin::shared());
    if !subject.state.schema.buckets.is_empty() {
        shared.extend(files::shared());
    }
    if subject.functions {
        shared.extend(functions::shared());
    }
    if subject.accounts {
        shared.extend(auth::shared());
    }
    shared
}

/// The OpenAPI document of what is served.
pub(super) fn document(subject: &Subject<'_>) -> Json {
    let shared = shared_schemas(subject);
    let names: Vec<&str> = shared.iter().map(|(name, _)| *name).collect();
    let mut names = Names::without(&names);
    let mut operations = Operations(Names::without(&FIXED_OPERATIONS));
    let (mut paths, mut components) = (Map::new(), Map::new());
    for collection in subject.state.schema.collections.values() {
        collections::add(
            collection,
            &mut paths,
            &mut components,
            &mut names,
            &mut operations,
        );
    }
    let mut tags: Vec<Json> = subject
        .state
        .schema
        .collections
        .values()
        .filter(|collection| paths.keys().any(|path| belongs_to(path, &collection.name)))
        .map(|collection| {
            let plain = || format!("Documents of `{}`.", collection.name);
            tag(
                &collection.name,
                &collection.description.clone().unwrap_or_else(plain),
            )
        })
        .collect();
    for bucket in subject.state.schema.buckets.values() {
        files::add(bucket, &mut paths, &mut operations);
    }
    if paths.keys().any(|path| path.starts_with("/api/files/")) {
        tags.push(tag("files", "Files in buckets."));
    }
    if subject.functions {
        for function in subject.state.functions.values() {
            functions::add(function, &mut paths, &mut operations);
        }
        functions::add_general(&mut paths, &mut operations);
        tags.push(tag("functions", "Code that runs on the server."));
    }
    transactions::add(&mut paths, &mut operations);
    tags.push(tag("transactions", "Several changes as one."));
    if subject.accounts {
        auth::add(&mut paths, &mut operations);
        tags.push(tag("auth", "Accounts and sessions."));
    }
    admin::add(&mut paths, &mut operations);
    tags.push(tag("admin", "For operators and the programs that work for them."));
    system::add(&mut paths, &mut operations, subject.realtime);
    access::describe(&mut paths, subject);
    if subject.realtime {
        tags.push(tag("realtime", "Live queries."));
    }
    tags.push(tag("health", "For operators and load balancers."));
    tags.push(tag("system", "About the server itself."));
    components.extend(shared.into_iter().map(|(name, schema)| (name.to_owned(), schema)));
    let mut info = json!({"title": subject.docs.title, "version": subject.docs.version});
    if !subject.docs.description.is_empty() {
        info["description"] = json!(subject.docs.description);
    }
    json!({
        "openapi": "3.1.0",
        "info": info,
        // Relative to wherever the document was fetched from, so proxies and other hosts need no setting.
        "servers": [{"url": "/"}],
        "tags": unique_tags(tags),
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": shared_failures(),
            "securitySchemes": access::schemes(subject)
        }
    })
}

fn belongs_to(path: &str, collection: &str) -> bool {
    path.strip_prefix("/api/collections/")
        .and_then(|rest| rest.split('/').next())
        == Some(collection)
}

fn tag(name: &str, description: &str) -> Json {
    json!({"name": name, "description": description})
}

/// A collection may have the name of a tag of ours; the first one counts.
fn unique_tags(tags: Vec<Json>) -> Vec<Json> {
    let mut known = std::collections::BTreeSet::new();
    tags.into_iter()
        .filter(|tag| known.insert(tag["name"].to_string()))
        .collect()
}

fn shared_failures() -> Map<String, Json> {
    let one = |(_, name, description): (u16, &str, &str)| {
        let reply = json_reply(description, &schemas::reference("Error"));
        (name.to_owned(), reply)
    };
    FAILURES.into_iter().map(one).collect()
}

/// References to the failures of these statuses.
pub(super) fn failures(statuses: &[u16]) -> Vec<(String, Json)> {
    let known = FAILURES.iter().filter(|(status, ..)| statuses.contains(status));
    known
        .map(|(status, name, _)| {
            (
                status.to_string(),
                json!({"$ref": format!("#/components/responses/{name}")}),
            )
        })
        .collect()
}

/// A reply with a JSON body.
pub(super) fn json_reply(description: &str, schema: &Json) -> Json {
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

/// A JSON body of a request; where it is not required, `required` is left at its default.
pub(super) fn json_body(schema: &Json, required: bool) -> Json {
    let content = json!({"application/json": {"schema": schema}});
    if required {
        json!({"required": true, "content": content})
    } else {
        json!({"content": content})
    }
}

/// Makes operations whose ids differ.
#[derive(Debug)]
pub(super) struct Operations(Names);

impl Operations {
    /// An operation of ours, whose id nobody else gets.
    pub(super) fn fixed(&mut self, id: &str, tag: &str, summary: &str) -> Json {
        debug_assert!(FIXED_OPERATIONS.contains(&id), "{id} is not reserved");
        json!({"operationId": id, "tags": [tag], "summary": summary})
    }

    /// An operation on something that users named.
    pub(super) fn make(&mut self, verb: &str, name: &str, summary: &str) -> Json {
        let id = self.0.take(&format!("{verb}{}", capitalized(name)));
        json!({"operationId": id, "tags": [name], "summary": summary})
    }
}
