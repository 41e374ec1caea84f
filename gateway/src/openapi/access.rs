//! Who may use an operation, as the route table says it: what credentials it takes, and how it is refused.

use serde_json::{Map, Value as Json, json};

use super::document::{Subject, failures};
use crate::auth::Requirement;
use crate::route::{Matched, Route};

/// How requests show who asks.
pub(super) fn schemes(subject: &Subject<'_>) -> Json {
    let operator = json!({
        "type": "http",
        "scheme": "bearer",
        "description": "An operator's token from /api/admin/login, or an API token with the scope for the operation."
    });
    let mut schemes = json!({"operator": operator});
    if subject.accounts {
        schemes["bearer"] = json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT"});
    }
    schemes
}

/// Says of every operation whose route is not open to whatever credentials there are what it takes and refuses.
pub(super) fn describe(paths: &mut Map<String, Json>, subject: &Subject<'_>) {
    for (path, item) in paths {
        let route = Matched::of(path).route;
        let Some((statuses, security)) = refusals(route, subject) else {
            continue;
        };
        let operations = item.as_object_mut().into_iter().flatten();
        for (_, operation) in operations.filter(|(method, _)| *method != "parameters") {
            operation["security"] = security.clone();
            if let Some(replies) = operation["responses"].as_object_mut() {
                for (status, reply) in failures(statuses) {
                    replies.entry(status).or_insert(reply);
                }
                // In the order of the statuses, as everywhere.
                replies.sort_keys();
            }
        }
    }
}

/// The statuses by which requests to the route are refused for who sends them, and the credentials that it takes.
fn refusals(route: Route, subject: &Subject<'_>) -> Option<(&'static [u16], Json)> {
    let operators = json!([{"operator": []}]);
    let anybody = || {
        let mut anybody = vec![json!({}), json!({"operator": []})];
        if subject.accounts {
            anybody.insert(1, json!({"bearer": []}));
        }
        Json::Array(anybody)
    };
    match route.requirement() {
        // A transaction is begun, and a socket opened, whatever may be done in it.
        Requirement::Rules if matches!(route, Route::Transactions | Route::Realtime) => {
            Some((&[401], anybody()))
        }
        Requirement::Rules => Some((&[401, 403], anybody())),
        Requirement::Operator(_) => Some((&[401, 403], operators)),
        Requirement::OperatorOrDev(_) if subject.development => Some((&[401], anybody())),
        Requirement::OperatorOrDev(_) => Some((&[401, 403], operators)),
        Requirement::Account => Some((&[401], json!([{"bearer": []}]))),
        Requirement::Anybody => None,
    }
}
