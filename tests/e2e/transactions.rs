//! Batches, versions, idempotency keys and transactions, whichever gateway is asked.

use std::sync::Arc;

use alyx_tests::{Form, Http, Project, Reply, Server, eventually};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

alyx_tests::in_both_forms! {
    a_batch_is_all_or_nothing,
    a_version_is_the_same_on_every_gateway,
    of_a_hundred_equal_requests_one_is_carried_out,
    a_transaction_is_begun_used_and_ended_through_any_gateway,
    an_open_transaction_times_out,
    money_is_neither_made_nor_lost,
    two_who_read_the_same_cannot_both_decide_by_it,
    functions_have_transactions_that_are_run_again_on_conflict,
}

const SCHEMA: &str = "
collections:
  accounts:
    fields:
      owner: {type: string, unique: true}
      balance: {type: int, default: 0, validate: {min: 0}}
  entries:
    fields:
      id: {type: int, primary: true, default: auto}
      account: {type: uuid, references: accounts.id}
      amount: {type: int}
";
const ACCOUNTS: &str = "/api/collections/accounts";

async fn start(form: Form, env: &[(&str, &str)]) -> (Project, Server) {
    let project = Project::with_schema(SCHEMA);
    let server = form.start_with(&project, env).await;
    (project, server)
}

async fn account(http: &Http, owner: &str, balance: i64) -> String {
    let reply = http
        .post(ACCOUNTS, &json!({"owner": owner, "balance": balance}))
        .await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()["id"].as_str().expect("an id").to_owned()
}

async fn balance(http: &Http, id: &str) -> i64 {
    let reply = http.get(&format!("{ACCOUNTS}/{id}")).await;
    reply.json()["balance"]
        .as_i64()
        .unwrap_or_else(|| panic!("{reply:?}"))
}

async fn batch(http: &Http, operations: Value) -> Reply {
    http.post("/api/batch", &json!({ "operations": operations }))
        .await
}

async fn a_batch_is_all_or_nothing(form: Form) {
    let (_project, server) = start(form, &[]).await;
    let http = server.http();
    let id = account(&http, "ann", 10).await;
    for failing in [
        json!({"op": "create", "collection": "accounts", "data": {"owner": "ann"}}),
        json!({"op": "update", "collection": "accounts", "id": id, "increment": {"balance": -11}}),
        json!({"op": "delete", "collection": "accounts", "id": id, "if": {"balance": 9}}),
    ] {
        let made = json!({"op": "create", "collection": "entries", "data": {"account": id, "amount": 1}});
        let reply = batch(&http, json!([made, failing])).await;
        assert!(reply.status >= 400, "{reply:?}");
        assert_eq!(reply.json()["error"]["operation"], 1, "{reply:?}");
    }
    assert_eq!(http.get("/api/collections/entries").await.json()["total"], 0);
    let reply = batch(
        &http,
        json!([
            {"op": "create", "collection": "accounts", "data": {"owner": "bob"}},
            {"op": "create", "collection": "entries", "data": {"account": {"$ref": "0.id"}, "amount": 4}},
            {"op": "update", "collection": "entries", "id": {"$ref": "1.id"}, "increment": {"amount": 1}},
        ]),
    )
    .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let entry = &reply.json()["results"][2]["doc"];
    assert_eq!(
        (&entry["amount"], &entry["account"]),
        (&json!(5), &reply.json()["results"][0]["doc"]["id"])
    );
}

async fn a_version_is_the_same_on_every_gateway(form: Form) {
    let (_project, server) = start(form, &[]).await;
    let http = server.http();
    let path = format!("{ACCOUNTS}/{}", account(&http, "ann", 1).await);
    let tag = http.get(&path).await.header("etag").to_owned();
    for _ in 0..4 {
        let known = http
            .send(Method::GET, &path, &[("if-none-match", &tag)], "")
            .await;
        assert_eq!((known.status, known.text.as_str()), (304, ""));
    }
    let patch = async |tag: &str, balance: i64| {
        let body = json!({ "balance": balance }).to_string();
        http.send(Method::PATCH, &path, &[("if-match", tag)], body).await
    };
    let changed = patch(&tag, 2).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(
        (patch(&tag, 3).await.code().as_str(), patch("*", 4).await.status),
        ("PRECONDITION_FAILED", 200)
    );
}

async fn of_a_hundred_equal_requests_one_is_carried_out(form: Form) {
    let (_project, server) = start(form, &[]).await;
    let http = server.http();
    let id = account(&http, "ann", 0).await;
    let body = json!({"operations": [
        {"op": "update", "collection": "accounts", "id": id, "increment": {"balance": 1}},
        {"op": "create", "collection": "entries", "data": {"account": id, "amount": 1}},
    ]})
    .to_string();
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let (http, body) = (http.clone(), body.clone());
        tasks.spawn(async move {
            http.send(Method::POST, "/api/batch", &[("idempotency-key", "once")], body)
                .await
        });
    }
    let replies = tasks.join_all().await;
    for reply in &replies {
        assert_eq!((reply.status, &reply.text), (200, &replies[0].text), "{reply:?}");
    }
    let first = replies
        .iter()
        .filter(|reply| reply.header("idempotency-replayed") != "true");
    assert_eq!(first.count(), 1);
    assert_eq!(balance(&http, &id).await, 1);
    assert_eq!(http.get("/api/collections/entries").await.json()["total"], 1);
    let other = http
        .send(
            Method::POST,
            "/api/batch",
            &[("idempotency-key", "once")],
            body.replace("\"amount\":1", "\"amount\":2"),
        )
        .await;
    assert_eq!(
        (other.status, other.code().as_str()),
        (409, "IDEMPOTENCY_KEY_REUSED")
    );
}

/// A transaction of a test.
struct Tx<'h> {
    http: &'h Http,
    id: String,
}

impl<'h> Tx<'h> {
    async fn begin(http: &'h Http) -> Self {
        let begun = http.send(Method::POST, "/api/transactions", &[], "").await;
        assert_eq!(begun.status, 200, "{begun:?}");
        let id = begun.json()["transaction_id"].as_str().expect("an id").to_owned();
        Self { http, id }
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Reply {
        let sign = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{sign}tx_id={}", self.id);
        self.http.send(method, &path, &[], body.to_string()).await
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, &Value::Null).await.json()
    }

    async fn set(&self, path: &str, balance: i64) {
        let reply = self
            .call(Method::PATCH, path, &json!({ "balance": balance }))
            .await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    async fn end(&self, how: &str) -> Reply {
        self.call(Method::POST, &format!("/api/transactions/{how}"), &Value::Null)
            .await
    }
}

async fn a_transaction_is_begun_used_and_ended_through_any_gateway(form: Form) {
    let (_project, server) = start(form, &[]).await;
    let http = server.http();
    for (end, status) in [("commit", "committed"), ("rollback", "rolled_back")] {
        let tx = Tx::begin(&http).await;
        let made = tx
            .call(Method::POST, ACCOUNTS, &json!({"owner": end, "balance": 1}))
            .await;
        assert_eq!(made.status, 201, "{made:?}");
        let path = format!("{ACCOUNTS}/{}", made.json()["id"].as_str().expect("an id"));
        tx.set(&path, 2).await;
        for _ in 0..2 {
            assert_eq!(tx.get(&path).await["balance"], 2);
            assert_eq!(tx.get(&format!("{ACCOUNTS}?owner={end}")).await["total"], 1);
            assert_eq!(http.get(&path).await.status, 404, "nobody else sees it");
        }
        let entry = json!({"account": made.json()["id"], "amount": 3});
        let entry = tx.call(Method::POST, "/api/collections/entries", &entry).await;
        assert!(entry.json()["id"].is_i64(), "{entry:?}");
        let ended = tx.end(end).await;
        assert_eq!((ended.status, ended.json()), (200, json!({ "status": status })));
        for _ in 0..2 {
            let again = tx.end(end).await;
            assert_eq!(
                (again.status, again.code().as_str()),
                (400, "INVALID_TRANSACTION")
            );
        }
        let found = http.get(&path).await.status;
        assert_eq!(found, if end == "commit" { 200 } else { 404 });
    }
    let total = http.get("/api/collections/entries").await.json()["total"].clone();
    assert_eq!(total, 1);
    for id in ["tx_0", "tx_0.gateway-0", "tx_.", ""] {
        let reply = http.get(&format!("{ACCOUNTS}?tx_id={id}")).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "INVALID_TRANSACTION"),
            "{id}"
        );
    }
}

async fn an_open_transaction_times_out(form: Form) {
    let (_project, server) = start(form, &[("ALYX_TRANSACTIONS_TIMEOUT", "1s")]).await;
    let http = server.http();
    let tx = Tx::begin(&http).await;
    tx.call(Method::POST, ACCOUNTS, &json!({"owner": "ann"})).await;
    eventually("the transaction times out", || async {
        let reply = tx.call(Method::GET, ACCOUNTS, &Value::Null).await;
        if reply.status == 400 { Ok(()) } else { Err(reply) }
    })
    .await;
    assert_eq!(tx.end("commit").await.code(), "INVALID_TRANSACTION");
    assert_eq!(http.get(ACCOUNTS).await.json()["total"], 0);
}

/// Transfers between few accounts in every way there is, all at once: the sum stays, and nobody goes below zero.
async fn money_is_neither_made_nor_lost(form: Form) {
    const OWNERS: usize = 4;
    const EACH: i64 = 50;
    let (_project, server) = start(form, &[]).await;
    let http = server.http();
    let mut ids = Vec::new();
    for owner in 0..OWNERS {
        ids.push(account(&http, &format!("owner {owner}"), EACH).await);
    }
    let ids = Arc::new(ids);
    let mut tasks = JoinSet::new();
    for lane in 0..12_usize {
        let (http, ids) = (http.clone(), Arc::clone(&ids));
        tasks.spawn(async move {
            let mut done = 0;
            for turn in 0..12_usize {
                let from = (lane * 7 + turn * 3) % OWNERS;
                let to = (from + 1 + (lane + turn) % (OWNERS - 1)) % OWNERS;
                let amount = i64::try_from(1 + (lane + turn) % 30).expect("small");
                let pair = (ids[from].as_str(), ids[to].as_str());
                done += usize::from(match lane % 3 {
                    0 => by_sums(&http, pair, amount).await,
                    1 => by_transaction(&http, pair, amount).await,
                    _ => by_versions(&http, pair, amount).await,
                });
            }
            done
        });
    }
    let watching = {
        let http = http.clone();
        async move {
            for _ in 0..20 {
                let page = http.get(ACCOUNTS).await.json();
                let balances: Vec<i64> = page["docs"]
                    .as_array()
                    .expect("documents")
                    .iter()
                    .map(|doc| doc["balance"].as_i64().expect("a balance"))
                    .collect();
                assert_eq!(balances.iter().sum::<i64>(), EACH * OWNERS as i64, "{balances:?}");
                assert!(balances.iter().all(|balance| *balance >= 0), "{balances:?}");
            }
        }
    };
    let (done, ()) = tokio::join!(tasks.join_all(), watching);
    assert!(
        done.iter().sum::<usize>() > 12,
        "hardly any transfer was made: {done:?}"
    );
    let mut sum = 0;
    for id in ids.iter() {
        sum += balance(&http, id).await;
    }
    assert_eq!(sum, EACH * OWNERS as i64);
}

async fn by_sums(http: &Http, (from, to): (&str, &str), amount: i64) -> bool {
    let reply = batch(
        http,
        json!([
            {"op": "update", "collection": "accounts", "id": from, "increment": {"balance": -amount},
             "if": {"balance": {"$gte": amount}}},
            {"op": "update", "collection": "accounts", "id": to, "increment": {"balance": amount}},
        ]),
    )
    .await;
    assert!(matches!(reply.status, 200 | 412), "{reply:?}");
    reply.status == 200
}

async fn by_transaction(http: &Http, (from, to): (&str, &str), amount: i64) -> bool {
    let (from, to) = (format!("{ACCOUNTS}/{from}"), format!("{ACCOUNTS}/{to}"));
    for _ in 0..20 {
        let tx = Tx::begin(http).await;
        let (a, b) = (tx.get(&from).await, tx.get(&to).await);
        let (a, b) = (
            a["balance"].as_i64().expect("a balance"),
            b["balance"].as_i64().expect("a balance"),
        );
        if a < amount {
            tx.end("rollback").await;
            return false;
        }
        tx.set(&from, a - amount).await;
        tx.set(&to, b + amount).await;
        let ended = tx.end("commit").await;
        match ended.status {
            200 => return true,
            409 => assert_eq!(ended.code(), "TRANSACTION_CONFLICT"),
            _ => panic!("{ended:?}"),
        }
    }
    false
}

async fn by_versions(http: &Http, (from, to): (&str, &str), amount: i64) -> bool {
    for _ in 0..20 {
        let (a, b) = (
            http.get(&format!("{ACCOUNTS}/{from}")).await,
            http.get(&format!("{ACCOUNTS}/{to}")).await,
        );
        let held = |reply: &Reply| reply.json()["balance"].as_i64().expect("a balance");
        if held(&a) < amount {
            return false;
        }
        let reply = batch(
            http,
            json!([
                {"op": "update", "collection": "accounts", "id": from, "data": {"balance": held(&a) - amount}, "ifMatch": a.header("etag")},
                {"op": "update", "collection": "accounts", "id": to, "data": {"balance": held(&b) + amount}, "ifMatch": b.header("etag")},
            ]),
        )
        .await;
        match reply.status {
            200 => return true,
            409 | 412 => {}
            _ => panic!("{reply:?}"),
        }
    }
    false
}

/// Write skew: each of two empties one account as long as both together hold enough. With snapshots alone both would.
async fn two_who_read_the_same_cannot_both_decide_by_it(form: Form) {
    let (_project, server) = start(form, &[]).await;
    let http = server.http();
    for round in 0..6 {
        let pair = [
            account(&http, &format!("a{round}"), 10).await,
            account(&http, &format!("b{round}"), 10).await,
        ];
        let mut tasks = JoinSet::new();
        for turn in 0..2 {
            let (http, pair) = (http.clone(), pair.clone());
            tasks.spawn(async move {
                let paths = pair.map(|id| format!("{ACCOUNTS}/{id}"));
                loop {
                    let tx = Tx::begin(&http).await;
                    let mut together = 0;
                    for path in &paths {
                        together += tx.get(path).await["balance"].as_i64().expect("a balance");
                    }
                    if together < 20 {
                        tx.end("rollback").await;
                        return;
                    }
                    tx.set(&paths[turn], 0).await;
                    match tx.end("commit").await.status {
                        200 => return,
                        409 => {}
                        other => panic!("{other}"),
                    }
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(
            balance(&http, &pair[0]).await + balance(&http, &pair[1]).await,
            10
        );
    }
}

async fn functions_have_transactions_that_are_run_again_on_conflict(form: Form) {
    let project = Project::with_schema(SCHEMA);
    project.write(
        "functions/transfer.js",
        "export default async (ctx) => {
           const { from, to, amount } = ctx.input;
           let runs = 0;
           const left = await ctx.db.transaction(async (tx) => {
             runs += 1;
             const a = await tx.accounts.get(from);
             const b = await tx.accounts.findOne({ filter: { id: to } });
             if (a.balance < amount) throw Object.assign(new Error('too little'), { code: 'TOO_LITTLE' });
             await tx.accounts.update(from, { balance: a.balance - amount });
             await tx.accounts.update(to, { balance: b.balance + amount });
             await tx.entries.create({ account: to, amount });
             return (await tx.accounts.get(from)).balance;
           });
           return { left, runs };
         };",
    );
    project.write(
        "functions/clean.js",
        "export default async (ctx) => {
           const kept = await ctx.db.accounts.upsert({ id: ctx.input.id, owner: 'kept', balance: 1 });
           const same = await ctx.db.accounts.upsert({ id: kept.id, owner: 'kept', balance: 2 });
           const { deleted } = await ctx.db.entries.deleteMany({ filter: { amount: 1 } });
           return { deleted, balance: same.balance, left: (await ctx.db.entries.list()).total };
         };",
    );
    let server = form.start(&project).await;
    let http = server.http();
    let (ann, bob) = (account(&http, "ann", 40).await, account(&http, "bob", 0).await);
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (http, call) = (http.clone(), json!({"from": ann, "to": bob, "amount": 1}));
        tasks.spawn(async move {
            let mut done = 0;
            for _ in 0..4 {
                let reply = http.post("/api/functions/transfer", &call).await;
                match reply.status {
                    200 => done += 1,
                    _ => assert_eq!(reply.code(), "TRANSACTION_CONFLICT", "{reply:?}"),
                }
            }
            done
        });
    }
    let done: i64 = tasks.join_all().await.into_iter().sum();
    assert!(done > 8, "hardly any transfer was made: {done}");
    assert_eq!(
        (balance(&http, &ann).await, balance(&http, &bob).await),
        (40 - done, done)
    );
    let refused = http
        .post(
            "/api/functions/transfer",
            &json!({"from": bob, "to": ann, "amount": 99}),
        )
        .await;
    assert_eq!(refused.code(), "TOO_LITTLE");
    assert_eq!(http.get("/api/collections/entries").await.json()["total"], done);
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let cleaned = http.post("/api/functions/clean", &json!({ "id": id })).await;
    assert_eq!(
        cleaned.json(),
        json!({"deleted": done, "balance": 2, "left": 0}),
        "{cleaned:?}"
    );
}
