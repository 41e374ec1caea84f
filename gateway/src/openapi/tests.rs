//! Whole documents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alyx_config::{Docs, DocsUi};
use alyx_service::state::{DesiredState, Function, Runtime};
use bytes::Bytes;
use http::header::{ETAG, HeaderMap, IF_NONE_MATCH};
use serde_json::{Value as Json, json};

use super::document::{Subject, document};
use super::{Cache, fresh_or_not, tag_of};

const SCHEMA: &str = "
collections:
  messages:
    fields:
      id: {type: uuid, primary: true, default: auto}
      channel: {type: string, index: true}
      score: {type: float, nullable: true}
    rules: {create: true, read: true, update: true, delete: true}
  functions:
    fields:
      id: {type: int, primary: true}
    rules: {create: false, read: true, update: false, delete: false}
  error:
    fields:
      id: {type: int, primary: true}
    rules: {create: true, read: true, update: true, delete: true}
  secrets:
    fields:
      id: {type: int, primary: true}
    rules: {create: false, read: false, update: false, delete: false}
";

fn function(name: &str, description: &str, sample_input: Option<Json>) -> (String, Arc<Function>) {
    let function = Function {
        name: name.to_owned(),
        runtime: Runtime::Node,
        version: "1".to_owned(),
        root: PathBuf::from("/nowhere"),
        entrypoint: PathBuf::from("index.js"),
        description: description.to_owned(),
        sample_input,
        timeout: Duration::from_secs(30),
        memory_mib: 128,
        env: Arc::new(BTreeMap::from([("API_KEY".to_owned(), "hush".to_owned())])),
        invoke_rule: None,
    };
    (name.to_owned(), Arc::new(function))
}

fn state() -> DesiredState {
    let parsed = alyx_schema::parse(SCHEMA, "schema.yaml").expect("a sound schema");
    let functions = [
        function(
            "sendMessage",
            "Sends a message.\n\nTo a channel.",
            Some(json!({"channel": "general"})),
        ),
        function("getStats", "", None),
        function("stats", "Shadowed by a path of the API.", None),
        function("Function", "Would make the id of another operation.", None),
    ];
    DesiredState {
        revision: 7,
        schema_revision: 1,
        schema: Arc::new(parsed.schema),
        functions: Arc::new(BTreeMap::from(functions)),
    }
}

fn made(functions: bool, realtime: bool, development: bool) -> Json {
    let docs = Docs {
        enabled: true,
        title: "Chat".to_owned(),
        description: String::new(),
        version: "1.2.3".to_owned(),
        ui: DocsUi::Swagger,
    };
    document(&Subject {
        state: &state(),
        docs: &docs,
        functions,
        realtime,
        accounts: false,
        development,
    })
}

#[test]
fn accounts_are_listed_where_somebody_can_sign_in() {
    let docs = alyx_config::Config::default().docs;
    let listed = |accounts: bool| {
        let document = document(&Subject {
            state: &state(),
            docs: &docs,
            functions: false,
            realtime: false,
            accounts,
            development: false,
        });
        let paths = document["paths"].as_object().expect("an object").clone();
        let routes = crate::route::Route::ALL
            .into_iter()
            .map(crate::route::Route::template);
        let all: Vec<&str> = routes.filter(|path| path.starts_with("/api/auth/")).collect();
        assert_eq!(all.len(), 28);
        all.into_iter().filter(|path| paths.contains_key(*path)).count()
    };
    assert_eq!((listed(true), listed(false)), (28, 0));
}

/// Every value under `key`, however deep.
fn all<'a>(tree: &'a Json, key: &str, found: &mut Vec<&'a Json>) {
    match tree {
        Json::Object(members) => {
            found.extend(members.get(key));
            members.values().for_each(|value| all(value, key, found));
        }
        Json::Array(items) => items.iter().for_each(|item| all(item, key, found)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

#[test]
fn the_head_is_as_configured() {
    let document = made(true, true, true);
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"], json!({"title": "Chat", "version": "1.2.3"}));
}

#[test]
fn only_what_is_served_and_open_is_listed() {
    let paths = |document: &Json| -> BTreeSet<String> {
        let paths = document["paths"].as_object().expect("an object");
        let methods = |(path, item): (&String, &Json)| -> Vec<String> {
            let item = item.as_object().expect("an object");
            let methods = item.keys().filter(|key| *key != "parameters");
            methods.map(|method| format!("{method} {path}")).collect()
        };
        paths.iter().flat_map(methods).collect()
    };
    let always = [
        "get /api/collections/messages",
        "post /api/collections/messages",
        "get /api/collections/messages/{id}",
        "patch /api/collections/messages/{id}",
        "put /api/collections/messages/{id}",
        "delete /api/collections/messages/{id}",
        "get /api/aggregate/messages",
        "get /api/aggregate/functions",
        "get /api/aggregate/error",
        "get /api/collections/functions",
        "get /api/collections/functions/{id}",
        "get /api/config",
        "get /api/openapi.json",
        "get /health",
        "get /health/live",
        "get /health/ready",
        "get /metrics",
    ];
    let mut least: BTreeSet<String> = always.map(str::to_owned).into();
    for (method, suffix) in [
        ("get", ""),
        ("post", ""),
        ("get", "/{id}"),
        ("patch", "/{id}"),
        ("put", "/{id}"),
        ("delete", "/{id}"),
    ] {
        least.insert(format!("{method} /api/collections/error{suffix}"));
    }
    for path in [
        "batch",
        "transactions",
        "transactions/commit",
        "transactions/rollback",
    ] {
        least.insert(format!("post /api/{path}"));
    }
    for (method, path) in [
        ("post", "login"),
        ("post", "logout"),
        ("get", "operators"),
        ("post", "operators"),
        ("delete", "operators/{who}"),
        ("get", "tokens"),
        ("post", "tokens"),
        ("delete", "tokens/{name}"),
        ("get", "logs"),
        ("get", "logs/stats"),
        ("post", "logs/clear"),
    ] {
        least.insert(format!("{method} /api/admin/{path}"));
    }
    assert_eq!(paths(&made(false, false, false)), least);
    let more = |document: &Json| -> Vec<String> { paths(document).difference(&least).cloned().collect() };
    assert_eq!(more(&made(false, true, true)), ["get /api/realtime"]);
    assert_eq!(
        more(&made(true, false, true)),
        [
            "get /api/functions",
            "get /api/functions/stats",
            "get /api/functions/{name}",
            "post /api/functions/Function",
            "post /api/functions/getStats",
            "post /api/functions/reload",
            "post /api/functions/sendMessage",
            "post /api/functions/{name}",
        ]
    );
    // Open to operators outside of development too.
    assert_eq!(more(&made(true, false, false)), more(&made(true, false, true)));
}

#[test]
fn buckets_are_listed_as_far_as_they_are_open() {
    let listed = |rules: &str| -> Vec<String> {
        let schema = format!(
            "collections: {{file: {{fields: {{x: {{type: string}}}}}}}}\nbuckets: {{images: {{backend: local, rules: {rules}}}}}"
        );
        let parsed = alyx_schema::parse(&schema, "schema.yaml").expect("a sound schema");
        let document = document(&Subject {
            state: &DesiredState {
                schema: Arc::new(parsed.schema),
                ..state()
            },
            docs: &alyx_config::Config::default().docs,
            functions: false,
            realtime: false,
            accounts: false,
            development: false,
        });
        let mut references = Vec::new();
        all(&document, "$ref", &mut references);
        for reference in references {
            let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
            assert!(document.pointer(pointer.expect("local")).is_some(), "{reference}");
        }
        let mut listed = Vec::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            if let Some(rest) = path.strip_prefix("/api/files/images") {
                listed.extend(
                    item.as_object()
                        .expect("methods")
                        .keys()
                        .map(|method| format!("{method} {rest}")),
                );
            }
        }
        listed.sort();
        listed
    };
    let closed = "{create: false, read: false, update: false, delete: false, download: false}";
    assert_eq!(listed(closed), Vec::<String>::new());
    assert_eq!(
        listed("{create: true}"),
        [
            "delete /batch",
            "delete /{id}",
            "get ",
            "get /{id}",
            "get /{id}/download",
            "get /{id}/sign",
            "get /{id}/view",
            "post "
        ]
    );
    assert_eq!(
        listed(&closed.replace("download: false", "download: true")).len(),
        3
    );
}

#[test]
fn operation_ids_differ_and_are_the_expected_ones() {
    let document = made(true, true, true);
    let mut ids = Vec::new();
    all(&document["paths"], "operationId", &mut ids);
    let unique: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(unique.len(), ids.len());
    for (path, method, id) in [
        ("/api/collections/messages", "get", "listMessages"),
        ("/api/collections/messages", "post", "createMessages"),
        ("/api/collections/messages/{id}", "get", "getMessages"),
        ("/api/collections/messages/{id}", "patch", "updateMessages"),
        ("/api/collections/messages/{id}", "delete", "deleteMessages"),
        ("/api/functions/{name}", "post", "invokeFunction"),
        ("/api/functions", "get", "listFunctions"),
        ("/api/collections/functions", "get", "listFunctions_2"),
        ("/api/functions/Function", "post", "invokeFunction_2"),
    ] {
        assert_eq!(
            document["paths"][path][method]["operationId"], id,
            "{method} {path}"
        );
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_its_own() {
    let document = made(true, true, true);
    let mut references = Vec::new();
    all(&document, "$ref", &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference
            .as_str()
            .and_then(|text| text.strip_prefix('#'))
            .expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    let schemas = &document["components"]["schemas"];
    for name in [
        "Messages",
        "MessagesInput",
        "MessagesUpdate",
        "Error_2",
        "ErrorInput",
        "Error",
    ] {
        assert!(schemas[name].is_object(), "{name}");
    }
    assert!(schemas["Error"]["properties"]["error"].is_object());
    // A collection that nobody may touch is not mentioned at all.
    assert!(!document.to_string().to_lowercase().contains("secrets"));
    assert!(!document.to_string().contains("hush"));
}

#[test]
fn what_is_refused_for_who_asks_is_listed() {
    let check = |document: &Json, method: &str, path: &str, statuses: &[u16], open: bool| {
        let operation = &document["paths"][path][method];
        let listed = |status: &u16| operation["responses"].get(status.to_string()).is_some();
        let listed: Vec<u16> = [401, 403].into_iter().filter(listed).collect();
        assert_eq!(listed, statuses, "{method} {path}");
        let security = operation["security"].as_array();
        assert_eq!(
            security.is_none_or(|all| all.contains(&json!({}))),
            open,
            "{method} {path}"
        );
    };
    let (served, developed) = (made(true, true, false), made(true, true, true));
    for document in [&served, &developed] {
        for (method, path) in [
            ("get", "/api/collections/messages"),
            ("post", "/api/collections/messages"),
            ("get", "/api/collections/messages/{id}"),
            ("patch", "/api/collections/messages/{id}"),
            ("delete", "/api/collections/messages/{id}"),
            ("get", "/api/aggregate/messages"),
            ("post", "/api/batch"),
            ("post", "/api/functions/{name}"),
            ("post", "/api/functions/sendMessage"),
        ] {
            check(document, method, path, &[401, 403], true);
        }
        check(document, "post", "/api/transactions", &[401], true);
        check(document, "get", "/api/realtime", &[401], true);
        check(document, "get", "/api/admin/logs", &[401, 403], false);
        check(document, "delete", "/api/admin/tokens/{name}", &[401, 403], false);
        check(document, "get", "/api/openapi.json", &[], true);
    }
    for (method, path) in [("get", "/api/functions/stats"), ("post", "/api/functions/reload")] {
        check(&served, method, path, &[401, 403], false);
        check(&developed, method, path, &[401], true);
    }
}

#[test]
fn nullable_is_spelled_as_in_3_1() {
    let document = made(true, true, true);
    let schemas = &document["components"]["schemas"];
    assert_eq!(
        schemas["Messages"]["properties"]["score"]["type"],
        json!(["number", "null"])
    );
    assert!(!document.to_string().contains("nullable"));
}

#[test]
fn a_function_shows_its_description_and_its_example() {
    let document = made(true, true, true);
    let call = &document["paths"]["/api/functions/sendMessage"]["post"];
    assert_eq!(call["summary"], "Sends a message.");
    assert_eq!(call["description"], "Sends a message.\n\nTo a channel.");
    let body = &call["requestBody"]["content"]["application/json"];
    assert_eq!(body["example"], json!({"input": {"channel": "general"}}));
    assert_eq!(
        document["paths"]["/api/functions/getStats"]["post"]["summary"],
        "Call getStats"
    );
}

#[test]
fn every_operation_has_a_tag_that_is_declared_and_a_reply() {
    let document = made(true, true, true);
    let declared: Vec<&Json> = document["tags"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|tag| &tag["name"])
        .collect();
    assert_eq!(
        declared
            .iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>()
            .len(),
        declared.len()
    );
    for (path, item) in document["paths"].as_object().expect("an object") {
        for (method, operation) in item.as_object().expect("an object") {
            if method == "parameters" {
                continue;
            }
            assert!(declared.contains(&&operation["tags"][0]), "{method} {path}");
            assert!(
                operation["responses"]
                    .as_object()
                    .is_some_and(|replies| !replies.is_empty()),
                "{method} {path}"
            );
        }
    }
}

#[test]
fn a_revision_is_written_once() {
    let cache = Cache::default();
    let first = cache.get(1, || Bytes::from("one"));
    assert_eq!(cache.get(1, || panic!("made twice")), first);
    assert_eq!(cache.get(2, || Bytes::from("two")), "two");
    assert_eq!(cache.get(1, || Bytes::from("again")), "again");
}

#[test]
fn whoever_has_the_document_already_is_told_so() {
    let body = Bytes::from("{}");
    let tag = tag_of(&body);
    let check = |sent: Option<String>, status: u16| {
        let sent = sent.map(|value| (IF_NONE_MATCH, value.parse().expect("a header value")));
        let headers = HeaderMap::from_iter(sent);
        let reply = fresh_or_not(&headers, &tag, "application/json", "no-cache", body.clone());
        assert_eq!(reply.status(), status);
        assert_eq!(reply.headers()[ETAG], tag.as_str());
    };
    check(None, 200);
    check(Some("\"other\"".to_owned()), 200);
    check(Some(tag.clone()), 304);
    check(Some(format!("\"other\", W/{tag}")), 304);
    check(Some("*".to_owned()), 304);
}
