//! The OpenAPI document against the server: whatever an operation answers is listed for it.

use serde_json::{Value as Json, json};

use crate::accounts::setup;

/// What no document has.
const NOBODY: &str = "0199c3f2-0000-7000-8000-000000000000";

#[tokio::test]
async fn what_operations_answer_is_listed_and_what_is_listed_of_refusals_is_answered() {
    let mut setup = setup();
    setup.realtime = true;
    setup.edit = |schema| {
        let mut edited = (**schema.collections.get("numbered").expect("a collection")).clone();
        edited.access.delete = false;
        schema
            .collections
            .insert("numbered".to_owned(), std::sync::Arc::new(edited));
    };
    let site = setup.start().await;
    let document = site.get("/api/openapi.json").await.json();
    let nothing = site.token("nothing", "functions:none").await;
    let account = site.register("ann@x.io").await.access;
    let mut refused = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        // Functions are called by `{name}`; one of these tests' waits to be let go.
        let of_function = path.strip_prefix("/api/functions/");
        if of_function.is_some_and(|name| !["stats", "reload", "{name}"].contains(&name)) {
            continue;
        }
        let concrete = path
            .replace("{id}", NOBODY)
            .replace("{name}", "echo")
            .replace("{provider}", "none")
            .replace("{who}", "nobody");
        for (method, operation) in item.as_object().expect("operations") {
            if method == "parameters" {
                continue;
            }
            let mut answered = Vec::new();
            for token in ["", "alyx_made-up", &nothing, &account] {
                // Signing in is limited, and ends the account where it is to be left.
                if path.starts_with("/api/auth/") && token == account {
                    continue;
                }
                let mut request = site.request(&method.to_uppercase(), &concrete);
                if !token.is_empty() {
                    request = request.header("authorization", format!("Bearer {token}"));
                }
                let body = match method.as_str() {
                    "get" | "delete" => String::new(),
                    _ if path == "/api/batch" => {
                        let operation = json!({"op": "get", "collection": "notes", "id": NOBODY});
                        json!({"operations": [operation]}).to_string()
                    }
                    _ => json!({}).to_string(),
                };
                let status = site.send(request, body).await.status;
                let listed = &operation["responses"];
                assert!(
                    listed.get(status.to_string()).is_some(),
                    "{method} {path} answers {status}, which is not among {listed:#}"
                );
                answered.push(status);
            }
            let security = operation.get("security").is_some();
            for status in [401, 403] {
                let listed = operation["responses"].get(status.to_string()).is_some();
                // Those of accounts are refused by 403 for what these tests do not do, such as registering nowhere.
                if security && listed && !path.starts_with("/api/auth/") {
                    assert!(
                        answered.contains(&status),
                        "{method} {path} never answers {status}: {answered:?}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 40, "{refused}");
    assert_eq!(
        document["paths"]["/api/collections/numbered/{id}"].get("delete"),
        None::<&Json>
    );
}
