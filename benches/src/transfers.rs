//! Money between two accounts, with many clients at once: in one batch with sums, in one batch with versions that were
//! read before, and in a transaction over several requests. Without contention every transfer has accounts of its own;
//! with 80 % of it, four of five transfers are between the same two accounts.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::RUNS;
use crate::client::{Connection, request};
use crate::process;
use crate::report::{Better, Report, median};
use crate::server::Server;

const CLIENTS: usize = 50;
/// Two for each client, and two that are hot.
const ACCOUNTS: usize = 2 * CLIENTS + 2;
const RUN: Duration = Duration::from_secs(3);
const DOCUMENTS: &str = "/api/collections/accounts";

/// How a transfer is made.
#[derive(Debug, Clone, Copy)]
enum Way {
    Sums,
    Versions,
    Transaction,
}

#[derive(Debug, Clone, Copy)]
struct Figures {
    /// Transfers that were carried out, per second.
    rate: f64,
    /// Microseconds of server CPU for each of them.
    cpu: f64,
}

pub(crate) async fn measure(report: &mut Report, server: &Server) {
    let mut connection = server.connect().await;
    let mut ids = Vec::new();
    for owner in 0..ACCOUNTS {
        let body = json!({"owner": format!("owner {owner}"), "balance": 1_000_000_000_i64}).to_string();
        let made = connection
            .expect(&request("POST", DOCUMENTS, None, Some(&body)), 201)
            .await;
        ids.push(made.json()["id"].as_str().expect("an id").to_owned());
    }
    for (way, name) in [
        (Way::Sums, "transfers, one batch with sums"),
        (Way::Versions, "transfers, reads and one batch with versions"),
        (Way::Transaction, "transfers, begin to commit with tx_id"),
    ] {
        let bars = matches!(way, Way::Sums);
        for (percent, goal) in [(0, "≥ 3000"), (80, "≥ half of it")] {
            let mut runs = Vec::new();
            for _ in 0..RUNS {
                runs.push(run(server, &ids, way, percent).await);
            }
            let middle = |of: fn(&Figures) -> f64| median(runs.iter().map(of).collect());
            let row = format!("{name}, {percent} % contention");
            let goal = if bars { goal } else { "" };
            report.add(
                &format!("{row}: rate at {CLIENTS} clients"),
                "/s",
                (middle(|f| f.rate), None),
                Better::More,
                goal,
            );
            report.add(
                &format!("{row}: server CPU"),
                "µs",
                (middle(|f| f.cpu), None),
                Better::Less,
                "",
            );
        }
    }
    let page = connection
        .expect(
            &request("GET", &format!("{DOCUMENTS}?limit=1000"), None, None),
            200,
        )
        .await
        .json();
    let sum: i64 = page["docs"]
        .as_array()
        .expect("documents")
        .iter()
        .filter_map(|doc| doc["balance"].as_i64())
        .sum();
    assert_eq!(
        sum,
        1_000_000_000 * i64::try_from(ACCOUNTS).expect("few"),
        "money was made or lost"
    );
}

async fn run(server: &Server, ids: &[String], way: Way, percent: usize) -> Figures {
    let done = Cell::new(0_u32);
    let cpu = process::cpu(server.pid());
    let begin = Instant::now();
    let lanes = (0..CLIENTS).map(|lane| {
        let done = &done;
        async move {
            let mut connection = server.connect().await;
            let mut turn = lane;
            while begin.elapsed() < RUN {
                turn += 1;
                // 37 is prime to 100, so the shares are even.
                let hot = turn * 37 % 100 < percent;
                let first = if hot { 2 * CLIENTS } else { 2 * lane };
                let (from, to) = if turn.is_multiple_of(2) {
                    (first, first + 1)
                } else {
                    (first + 1, first)
                };
                let pair = (ids[from].as_str(), ids[to].as_str());
                let carried_out = match way {
                    Way::Sums => sums(&mut connection, pair).await,
                    Way::Versions => versions(&mut connection, pair).await,
                    Way::Transaction => transaction(&mut connection, pair).await,
                };
                done.set(done.get() + u32::from(carried_out));
            }
        }
    });
    futures_util::future::join_all(lanes).await;
    let spent = process::cpu(server.pid()).saturating_sub(cpu);
    let count = f64::from(done.get());
    Figures {
        rate: count / begin.elapsed().as_secs_f64(),
        cpu: spent.as_secs_f64() * 1e6 / count,
    }
}

fn batch(operations: &Value) -> Vec<u8> {
    let body = json!({ "operations": operations }).to_string();
    request("POST", "/api/batch", None, Some(&body))
}

async fn sums(connection: &mut Connection, (from, to): (&str, &str)) -> bool {
    let operations = json!([
        {"op": "update", "collection": "accounts", "id": from, "increment": {"balance": -1}, "if": {"balance": {"$gte": 1}}},
        {"op": "update", "collection": "accounts", "id": to, "increment": {"balance": 1}},
    ]);
    connection.expect(&batch(&operations), 200).await;
    true
}

/// One try; a conflict counts as nothing.
async fn versions(connection: &mut Connection, pair: (&str, &str)) -> bool {
    let operations = json!([
        {"op": "get", "collection": "accounts", "id": pair.0},
        {"op": "get", "collection": "accounts", "id": pair.1},
    ]);
    let read = connection.expect(&batch(&operations), 200).await.json();
    let change = |at: usize, id: &str, by: i64| {
        let read = &read["results"][at];
        let balance = read["doc"]["balance"].as_i64().expect("a balance") + by;
        json!({"op": "update", "collection": "accounts", "id": id, "data": {"balance": balance}, "ifMatch": read["etag"]})
    };
    let reply = connection
        .send(&batch(&json!([change(0, pair.0, -1), change(1, pair.1, 1)])))
        .await;
    assert!(matches!(reply.status, 200 | 409 | 412), "{}", reply.status);
    reply.status == 200
}

async fn transaction(connection: &mut Connection, pair: (&str, &str)) -> bool {
    let begun = connection
        .expect(&request("POST", "/api/transactions", None, Some("")), 200)
        .await
        .json();
    let tx = begun["transaction_id"].as_str().expect("an id");
    for (id, by) in [(pair.0, -1), (pair.1, 1)] {
        let path = format!("{DOCUMENTS}/{id}?tx_id={tx}");
        let read = connection
            .expect(&request("GET", &path, None, None), 200)
            .await
            .json();
        let balance = read["balance"].as_i64().expect("a balance") + by;
        let body = json!({ "balance": balance }).to_string();
        connection
            .expect(&request("PATCH", &path, None, Some(&body)), 200)
            .await;
    }
    let commit = request(
        "POST",
        &format!("/api/transactions/commit?tx_id={tx}"),
        None,
        Some(""),
    );
    let reply = connection.send(&commit).await;
    assert!(matches!(reply.status, 200 | 409), "{}", reply.status);
    reply.status == 200
}
