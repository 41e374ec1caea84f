//! What the database holds at the end of a run, once nothing moves any more.

use alyx_tests::{Http, eventually};
use http::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::reader::Seen;
use crate::system::COLLECTION;
use crate::view::View;

/// Waits until every reader holds what the database answers to its query, and nothing moves meanwhile: the queries
/// with these answers. The writers have ended by now; a write that they gave up on may still come in.
pub(super) async fn settled(
    http: &Http,
    queries: &[Value],
    seen: &[watch::Receiver<Option<Seen>>],
) -> Vec<(Value, Value)> {
    let positions = || -> Vec<Option<u64>> {
        let position =
            |seen: &watch::Receiver<Option<Seen>>| seen.borrow().as_ref().and_then(|seen| seen.view.at());
        seen.iter().map(position).collect()
    };
    eventually("every live query shows what the database holds", || async {
        let before = positions();
        let mut truth = Vec::new();
        for (query, seen) in queries.iter().zip(seen) {
            let list = list(http, query).await?;
            let held: View = seen.borrow().clone().map(|seen| seen.view).unwrap_or_default();
            if !held.shows(&list) {
                return Err(format!("{query}: {list} at {:?}: {:?}", held.at(), held.docs()));
            }
            truth.push((query.clone(), list));
        }
        if before == positions() {
            Ok(truth)
        } else {
            Err(format!("{before:?} moved on to {:?}", positions()))
        }
    })
    .await
}

/// Every document.
pub(super) async fn everything(http: &Http) -> Value {
    const PAGE: usize = 1000;
    let mut all = Vec::new();
    loop {
        let path = format!(
            "/api/collections/{COLLECTION}?sort=id&limit={PAGE}&offset={}",
            all.len()
        );
        let mut page = http.get(&path).await.json();
        let docs = page["docs"].as_array_mut().expect("documents");
        let last = docs.len() < PAGE;
        all.append(docs);
        if last {
            return json!(all);
        }
    }
}

/// The same query over REST.
async fn list(http: &Http, query: &Value) -> Result<Value, String> {
    let sort: Vec<&str> = query["sort"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let filter = query["filter"].to_string();
    let filter = filter.bytes().filter(|_| query["filter"].is_object());
    let filter: String = filter.map(|byte| format!("%{byte:02X}")).collect();
    let filter = if filter.is_empty() {
        filter
    } else {
        format!("&filter={filter}")
    };
    let path = format!(
        "/api/collections/{COLLECTION}?sort={}&limit={}{filter}",
        sort.join(","),
        query["limit"]
    );
    let reply = http.try_send(Method::GET, &path, &[], "").await?;
    if reply.status == 200 {
        Ok(reply.json())
    } else {
        Err(format!("{reply:?}"))
    }
}
