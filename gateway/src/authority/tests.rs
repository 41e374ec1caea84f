//! Rules on every surface, through the handlers themselves: random rules, callers and documents.
//!
//! What a caller sees is the same by list, total, count, single reads, batch reads and live query, with and without
//! references on the way; and it is what each rule says of each document when the document is known. What a rule
//! refuses changes nothing.

mod random;
mod site;

use alyx_core::{Caller, Row};
use alyx_rules::{Action, Incoming};
use alyx_schema::RuleTexts;
use serde_json::{Value as Json, json};

use random::{Random, rule};
use site::{Site, callers};

/// Sets of rules; each is tried by five callers on the documents that are left of eight, which makes 20,000 cases and
/// more.
const ROUNDS: u64 = 660;
/// Rounds with the same documents, but for what the writes of the rounds do.
const ROUNDS_OF_DATA: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_caller_sees_is_the_same_on_every_surface_and_refused_writes_change_nothing() {
    let site = Site::start().await;
    let mut cases = 0;
    let mut seen = 0;
    let mut written = 0;
    for round in 0..ROUNDS {
        let mut random = Random::new(round);
        if round % ROUNDS_OF_DATA == 0 {
            site.fill(&mut random).await;
        }
        site.set_rules(
            RuleTexts {
                create: rule(&mut random, Action::Create),
                read: rule(&mut random, Action::Read),
                update: rule(&mut random, Action::Update),
                delete: rule(&mut random, Action::Delete),
            },
            rule(&mut random, Action::Read),
        );
        for caller in callers() {
            let told = format!("round {round}, {caller:?}, {}", site.told());
            let rows = site.rows().await;
            cases += rows.len();
            seen += reads(&site, &caller, &rows, &told).await;
            for _ in 0..2 {
                written += usize::from(writes(&site, &caller, &mut random, &told).await);
            }
        }
    }
    // Neither everything nor nothing was allowed.
    assert!(cases >= 20_000, "{cases} cases");
    assert!(
        seen * 10 > cases && seen * 10 < cases * 9,
        "{seen} of {cases} seen"
    );
    assert!(written > 500, "{written} writes were allowed");
}

/// Compares all ways to read. Returns how many documents are visible.
async fn reads(site: &Site, caller: &Caller, rows: &[Row], told: &str) -> usize {
    let mut visible = Vec::new();
    for row in rows {
        if site.allows(caller, Action::Read, row, Incoming::Nothing).await {
            visible.push(site.key(row));
        }
    }
    let list = site
        .call(
            caller,
            "GET",
            "/api/collections/items?limit=1000&sort=id&expand=team_id",
            None,
        )
        .await;
    let denied = list.status == 403;
    if denied {
        assert!(visible.is_empty(), "the list is refused: {told}");
    } else {
        assert_eq!(list.status, 200, "{list:?} {told}");
        assert_eq!(list.keys(), visible, "list: {told}");
        assert_eq!(list.json["total"], json!(visible.len()), "total: {told}");
        let count = site
            .call(caller, "GET", "/api/aggregate/items?select=count", None)
            .await;
        let counted = count.json["groups"]
            .get(0)
            .map_or(json!(0), |group| group["count"].clone());
        assert_eq!(counted, json!(visible.len()), "count: {told}");
        expanded(site, caller, &list.json, told).await;
        through_references(site, caller, rows, &visible, told).await;
    }
    for row in rows {
        let key = site.key(row);
        let one = site
            .call(caller, "GET", &format!("/api/collections/items/{key}"), None)
            .await;
        let expected = match (visible.contains(&key), denied) {
            (true, _) => 200,
            (false, true) => 403,
            (false, false) => 404,
        };
        assert_eq!(one.status, expected, "get {key}: {told}");
        let batch = json!({"operations": [{"op": "get", "collection": "items", "id": key}]});
        let batch = site.call(caller, "POST", "/api/batch", Some(&batch)).await;
        assert_eq!(batch.status, expected, "batch {key}: {told}");
        let live = site.live(caller, row).await;
        assert_eq!(live, visible.contains(&key), "live query, {key}: {told}");
    }
    let missing = site
        .call(caller, "GET", "/api/collections/items/999999", None)
        .await;
    assert_eq!(missing.status, if denied { 403 } else { 404 }, "{told}");
    visible.len()
}

/// A team that the caller may not read stays a key.
async fn expanded(site: &Site, caller: &Caller, list: &Json, told: &str) {
    let teams = site.visible_teams(caller).await;
    for doc in list["docs"].as_array().expect("a list") {
        let shown = doc["team_id"]["id"].as_str();
        let key = doc["team_id"].as_str();
        assert!(
            shown.is_none_or(|team| teams.iter().any(|known| known == team)),
            "{doc}: {told}"
        );
        assert!(
            key.is_none_or(|team| teams.iter().all(|known| known != team)),
            "{doc}: {told}"
        );
    }
}

/// A condition on a team sees nothing of one that the caller may not read.
async fn through_references(site: &Site, caller: &Caller, rows: &[Row], visible: &[i64], told: &str) {
    let teams = site.visible_teams(caller).await;
    let open = site.open_teams().await;
    for (filter, wanted) in [
        (r#"{"team_id.open":{"$eq":true}}"#, true),
        (r#"{"$not":{"team_id.open":{"$null":false}}}"#, false),
    ] {
        let path = format!(
            "/api/collections/items?limit=1000&sort=id&filter={}",
            site::encoded(filter)
        );
        let list = site.call(caller, "GET", &path, None).await;
        assert_eq!(list.status, 200, "{list:?} {told}");
        let expected = rows
            .iter()
            .filter(|row| visible.contains(&site.key(row)))
            .filter(|row| {
                let team = site.team(row).filter(|team| teams.contains(team));
                match wanted {
                    true => team.is_some_and(|team| open.contains(&(team, true))),
                    false => team.is_none_or(|team| !open.iter().any(|(known, _)| *known == team)),
                }
            });
        let expected: Vec<i64> = expected.map(|row| site.key(row)).collect();
        assert_eq!(list.keys(), expected, "{filter}: {told}");
    }
}

/// Tries to write, and checks what became of it. Returns whether it was allowed.
async fn writes(site: &Site, caller: &Caller, random: &mut Random, told: &str) -> bool {
    let before = site.rows().await;
    let attempt = site::Attempt::new(random, &before);
    let expected = site.expected(caller, &attempt, &before).await;
    let reply = site.attempt(caller, &attempt, random.below(3)).await;
    let told = format!("{attempt:?}: {reply:?} {told}");
    let after = site.rows().await;
    if expected {
        assert!(matches!(reply.status, 200 | 201 | 204), "it is allowed: {told}");
        assert_ne!(after, before, "{told}");
    } else {
        assert!(matches!(reply.status, 403 | 404), "it is refused: {told}");
        assert_eq!(after, before, "a refused write: {told}");
        let hidden = match attempt.row(&before) {
            Some(row) => !site.allows(caller, Action::Read, row, Incoming::Nothing).await,
            None => false,
        };
        // Where the rule asks about the document, a hidden one is as if it were not there.
        assert!(
            !(hidden && reply.code == "FORBIDDEN" && reply.text.contains("this document")),
            "{told}"
        );
    }
    expected
}
