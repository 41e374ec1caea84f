//! Transactions over several requests: begin, work with `tx_id`, commit or roll back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::accounts::Tokens;
use crate::site::{Reply, Setup, Site};

const NOTES: &str = "/api/collections/notes";
const COMMIT: &str = "/api/transactions/commit";
const ROLLBACK: &str = "/api/transactions/rollback";

/// A transaction of a test.
struct Tx<'s> {
    site: &'s Site,
    id: String,
}

impl<'s> Tx<'s> {
    async fn begin(site: &'s Site) -> Self {
        let begun = site.call("POST", "/api/transactions", &Json::Null).await;
        assert_eq!(begun.status, 200, "{begun:?}");
        let id = begun.json()["transaction_id"].as_str().expect("an id").to_owned();
        Self { site, id }
    }

    async fn call(&self, method: &str, path: &str, body: &Json) -> Reply {
        let sign = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{sign}tx_id={}", self.id);
        self.site.call(method, &path, body).await
    }

    async fn get(&self, path: &str) -> Json {
        self.call("GET", path, &Json::Null).await.json()
    }

    async fn end(&self, path: &str) -> Reply {
        self.call("POST", path, &Json::Null).await
    }

    async fn titles(&self, query: &str) -> (Vec<String>, i64) {
        titles(&self.get(&format!("{NOTES}?{query}")).await)
    }
}

fn titles(page: &Json) -> (Vec<String>, i64) {
    let docs = page["docs"].as_array().unwrap_or_else(|| panic!("{page}"));
    let titles = docs
        .iter()
        .map(|doc| doc["title"].as_str().expect("a title").to_owned());
    (titles.collect(), page["total"].as_i64().expect("a total"))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test]
async fn writes_are_seen_inside_at_once_and_outside_after_the_commit() {
    let site = Site::start().await;
    let kept = site.note("kept", 1).await;
    let begun = site
        .call("POST", "/api/transactions/begin", &Json::Null)
        .await
        .json();
    let id = begun["transaction_id"].as_str().expect("an id");
    assert!(id.starts_with("tx_") && id.len() > 30, "{id}");
    assert!(
        begun["expires_at"].as_str().is_some_and(|at| at.ends_with('Z')),
        "{begun}"
    );
    let tx = Tx {
        site: &site,
        id: id.to_owned(),
    };

    let made = tx.call("POST", NOTES, &json!({"title": "made"})).await;
    assert_eq!(made.status, 201);
    let path = format!("{NOTES}/{}", made.json()["id"].as_str().expect("an id"));
    let patched = tx.call("PATCH", &path, &json!({"stars": 7})).await;
    assert_eq!((patched.status, &patched.json()["stars"]), (200, &json!(7)));
    assert_eq!(tx.get(&path).await, patched.json());
    let kept = format!("{NOTES}/{kept}");
    assert_eq!(tx.call("DELETE", &kept, &Json::Null).await.status, 204);
    assert_eq!(tx.call("GET", &kept, &Json::Null).await.status, 404);
    assert_eq!(tx.titles("sort=title").await, (names(&["made"]), 1));

    assert_eq!(site.get(&path).await.status, 404);
    assert_eq!(titles(&site.get(NOTES).await.json()), (names(&["kept"]), 1));
    let committed = tx.end(COMMIT).await;
    assert_eq!(
        (committed.status, committed.json()),
        (200, json!({"status": "committed"}))
    );
    assert_eq!(site.get(&path).await.json(), patched.json());
    assert_eq!(titles(&site.get(NOTES).await.json()), (names(&["made"]), 1));
    for end in [COMMIT, ROLLBACK] {
        assert_eq!(
            tx.end(end).await.refusal(),
            (400, "INVALID_TRANSACTION".to_owned())
        );
    }
}

#[tokio::test]
async fn a_rollback_leaves_nothing_behind() {
    let site = Site::start().await;
    let tx = Tx::begin(&site).await;
    tx.call("POST", NOTES, &json!({"title": "made"})).await;
    let ended = tx.end("/api/internal/transaction/rollback").await;
    assert_eq!(ended.json(), json!({"status": "rolled_back"}));
    assert_eq!(site.get(NOTES).await.json()["total"], 0);
    assert_eq!(
        tx.end(COMMIT).await.refusal(),
        (400, "INVALID_TRANSACTION".to_owned())
    );
    let late = tx.call("POST", NOTES, &json!({"title": "late"})).await;
    assert_eq!(late.refusal(), (400, "INVALID_TRANSACTION".to_owned()));
    let nameless = site.call("POST", COMMIT, &Json::Null).await;
    assert_eq!(nameless.refusal(), (400, "MISSING_TX_ID".to_owned()));
}

#[tokio::test]
async fn what_is_forgotten_is_rolled_back_and_makes_room() {
    let mut setup = Setup::default();
    setup.config.transactions.timeout = Duration::from_millis(300);
    setup.config.transactions.max_open = 2;
    let site = setup.start().await;
    let first = Tx::begin(&site).await;
    let _second = Tx::begin(&site).await;
    first.call("POST", NOTES, &json!({"title": "made"})).await;
    let full = site.call("POST", "/api/transactions", &Json::Null).await;
    assert_eq!(full.refusal(), (429, "TOO_MANY_TRANSACTIONS".to_owned()));
    assert_eq!(full.header("retry-after"), "1");
    let end = Instant::now() + Duration::from_secs(30);
    while site.call("POST", "/api/transactions", &Json::Null).await.status != 200 {
        assert!(Instant::now() < end, "it never times out");
    }
    assert_eq!(
        first.end(COMMIT).await.refusal(),
        (400, "INVALID_TRANSACTION".to_owned())
    );
    assert_eq!(site.get(NOTES).await.json()["total"], 0);
}

#[tokio::test]
async fn a_transaction_is_its_owners() {
    let site = Site::start().await;
    let begun = site
        .request("POST", "/api/transactions")
        .header("authorization", "Bearer a");
    let id = site.send(begun, "").await.json()["transaction_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    for (who, status) in [(None, 400), (Some("Bearer b"), 400), (Some("Bearer a"), 200)] {
        let mut request = site.request("POST", &format!("{COMMIT}?tx_id={id}"));
        if let Some(who) = who {
            request = request.header("authorization", who);
        }
        assert_eq!(site.send(request, "").await.status, status, "{who:?}");
    }
}

#[tokio::test]
async fn pages_show_own_writes_in_their_places() {
    let site = Site::start().await;
    let mut ids = Vec::new();
    for (title, stars) in [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)] {
        ids.push(site.note(title, stars).await);
    }
    let tx = Tx::begin(&site).await;
    let path = |at: usize| format!("{NOTES}/{}", ids[at]);
    tx.call("DELETE", &path(0), &Json::Null).await;
    tx.call("PATCH", &path(1), &json!({"stars": 9})).await;
    tx.call("PATCH", &path(4), &json!({"stars": 0})).await;
    tx.call("POST", NOTES, &json!({"title": "f", "stars": 4})).await;
    assert_eq!(
        tx.titles("sort=stars,title").await,
        (names(&["e", "c", "d", "f", "b"]), 5)
    );
    assert_eq!(
        tx.titles("sort=stars,title&limit=2&offset=1").await,
        (names(&["c", "d"]), 5)
    );
    assert_eq!(tx.titles("sort=-stars&limit=1").await, (names(&["b"]), 5));
    assert_eq!(tx.titles("sort=title&stars=4").await, (names(&["d", "f"]), 2));
    assert_eq!(tx.titles("filter=stars:gte:5").await, (names(&["b"]), 1));
    let page = tx
        .get(&format!("{NOTES}?fields=title&count=false&limit=1&sort=stars"))
        .await;
    assert_eq!(page, json!({"docs": [{"title": "e"}], "limit": 1, "offset": 0}));
    tx.end(COMMIT).await;
    assert_eq!(
        titles(&site.get(&format!("{NOTES}?sort=stars,title")).await.json()),
        (names(&["e", "c", "d", "f", "b"]), 5)
    );
}

/// What a commit conflicts with: exactly what was read.
#[tokio::test]
async fn only_what_was_read_must_be_unchanged() {
    let site = Site::start().await;
    let (mine, other) = (site.note("mine", 1).await, site.note("other", 50).await);
    let (mine, other) = (format!("{NOTES}/{mine}"), format!("{NOTES}/{other}"));
    let starred = format!("{NOTES}?filter=stars:lt:10");
    let new = |stars: i64| json!({"title": "new", "stars": stars});
    let change = |stars: i64| json!({ "stars": stars });
    // What the transaction reads; what happens outside meanwhile; whether that is a conflict.
    let table: [(&str, (&str, &str, Json), bool); 8] = [
        (&mine, ("PATCH", &mine, change(2)), true),
        (&mine, ("PATCH", &other, change(51)), false),
        (&mine, ("POST", NOTES, new(1)), false),
        (&starred, ("PATCH", &other, change(52)), false),
        (&starred, ("POST", NOTES, new(99)), false),
        (&starred, ("POST", NOTES, new(3)), true),
        (&starred, ("PATCH", &other, change(4)), true),
        (&starred, ("PATCH", &other, change(53)), true),
    ];
    for (read, (method, path, body), conflicts) in table {
        // A transaction of some age lets a reader go through the log first.
        for age in [Duration::ZERO, Duration::from_millis(120)] {
            if conflicts && !age.is_zero() && path == other {
                continue;
            }
            let tx = Tx::begin(&site).await;
            let began = Instant::now();
            tx.get(read).await;
            while began.elapsed() < age {
                tx.get(read).await;
            }
            tx.call(
                "POST",
                NOTES,
                &json!({"title": "by the transaction", "stars": 80}),
            )
            .await;
            assert!(site.call(method, path, &body).await.status < 300);
            let ended = tx.end(COMMIT).await;
            let case = format!("{read} while {method} {path} {body}");
            if conflicts {
                assert_eq!(
                    ended.refusal(),
                    (409, "TRANSACTION_CONFLICT".to_owned()),
                    "{case}"
                );
            } else {
                assert_eq!(ended.status, 200, "{case}: {ended:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_transaction_that_only_reads_is_judged_too() {
    let site = Site::start().await;
    let path = format!("{NOTES}/{}", site.note("a", 1).await);
    let tx = Tx::begin(&site).await;
    tx.get(&path).await;
    assert_eq!(tx.end(COMMIT).await.status, 200);
    let tx = Tx::begin(&site).await;
    tx.get(&path).await;
    site.call("PATCH", &path, &json!({"stars": 2})).await;
    assert_eq!(tx.get(&path).await["stars"], 1, "what was read stays as it was");
    assert_eq!(
        tx.end(COMMIT).await.refusal(),
        (409, "TRANSACTION_CONFLICT".to_owned())
    );
    let idle = Tx::begin(&site).await;
    assert_eq!(idle.end(COMMIT).await.status, 200);
}

#[tokio::test]
async fn what_only_the_commit_can_find_undoes_all_of_it() {
    let site = Site::start().await;
    let rooms = "/api/collections/rooms";
    site.call("POST", rooms, &json!({"name": "taken"})).await;
    let tx = Tx::begin(&site).await;
    tx.call("POST", NOTES, &json!({"title": "made"})).await;
    assert_eq!(
        tx.call("POST", rooms, &json!({"name": "taken"})).await.status,
        201
    );
    let ended = tx.end(COMMIT).await;
    assert_eq!(ended.refusal(), (409, "UNIQUE_VIOLATION".to_owned()));
    assert_eq!(ended.json()["error"]["operation"], 1, "{ended:?}");
    assert_eq!(site.get(NOTES).await.json()["total"], 0);
}

#[tokio::test]
async fn a_refused_operation_leaves_the_transaction_as_it_was() {
    let site = Site::start().await;
    let tx = Tx::begin(&site).await;
    let bad = tx.call("POST", NOTES, &json!({"title": ""})).await;
    assert_eq!(bad.refusal(), (400, "VALIDATION_ERROR".to_owned()));
    let batch = json!({"operations": [
        {"op": "create", "collection": "numbered", "data": {"word": "w"}},
        {"op": "create", "collection": "notes", "data": {"title": ""}},
    ]});
    let refused = tx.call("POST", "/api/batch", &batch).await;
    assert_eq!(refused.refusal(), (400, "VALIDATION_ERROR".to_owned()));
    let batch = json!({"operations": [
        {"op": "create", "collection": "numbered", "data": {"word": "w"}},
        {"op": "update", "collection": "numbered", "id": {"$ref": "0.id"}, "data": {"word": "v"}},
    ]});
    let made = tx.call("POST", "/api/batch", &batch).await.json();
    assert_eq!(made["results"][1]["doc"]["word"], "v");
    assert_eq!(tx.end(COMMIT).await.status, 200);
    let numbered = site.get("/api/collections/numbered").await.json();
    assert_eq!(
        (&numbered["total"], &numbered["docs"][0]),
        (&json!(1), &made["results"][1]["doc"])
    );
    let keyed = site
        .request("POST", &format!("{NOTES}?tx_id=tx_x"))
        .header("idempotency-key", "k");
    let reply = site.send(keyed, r#"{"title":"a"}"#).await;
    assert_eq!(reply.refusal(), (400, "INVALID_IDEMPOTENCY_KEY".to_owned()));
}

#[tokio::test]
async fn tags_are_those_of_the_document_inside() {
    let site = Site::start().await;
    let path = format!("{NOTES}/{}", site.note("a", 1).await);
    let outside = site.get(&path).await.header("etag").to_owned();
    let tx = Tx::begin(&site).await;
    let inside = tx
        .call("PATCH", &path, &json!({"stars": 2}))
        .await
        .header("etag")
        .to_owned();
    let with = async |tag: &str| {
        let request = site.request("PATCH", &format!("{path}?tx_id={}", tx.id));
        site.send(request.header("if-match", tag), r#"{"stars":3}"#).await
    };
    assert_eq!(
        with(&outside).await.refusal(),
        (412, "PRECONDITION_FAILED".to_owned())
    );
    assert_eq!(with(&inside).await.status, 200);
    assert_eq!(tx.end(COMMIT).await.status, 200);
    assert_eq!(site.get(&path).await.json()["stars"], 3);
}

#[tokio::test]
async fn a_transaction_has_bounds() {
    let mut setup = Setup::default();
    setup.config.server.max_body_size = 1 << 20;
    let site = setup.start().await;
    let tx = Tx::begin(&site).await;
    let create = json!({"op": "create", "collection": "numbered", "data": {"id": 1, "word": "w"}});
    let many: Vec<Json> = (1..=1000)
        .map(|id| {
            let mut create = create.clone();
            create["data"]["id"] = id.into();
            create
        })
        .collect();
    let first = tx
        .call("POST", "/api/batch", &json!({ "operations": many }))
        .await;
    assert_eq!(first.status, 200, "{}", first.text);
    let more = tx.call("POST", NOTES, &json!({"title": "one more"})).await;
    assert_eq!(more.refusal(), (413, "TRANSACTION_TOO_LARGE".to_owned()));
    assert_eq!(tx.end(COMMIT).await.status, 200);
    assert_eq!(
        site.get("/api/collections/numbered?limit=0").await.json()["total"],
        1000
    );
    let tx = Tx::begin(&site).await;
    let deep = tx
        .call("GET", &format!("{NOTES}?offset=10000"), &Json::Null)
        .await;
    assert_eq!(deep.refusal(), (400, "INVALID_QUERY".to_owned()));
    for turn in 0..32 {
        assert_eq!(
            tx.call("GET", &format!("{NOTES}?stars={turn}"), &Json::Null)
                .await
                .status,
            200
        );
    }
    let more = tx.call("GET", &format!("{NOTES}?stars=99"), &Json::Null).await;
    assert_eq!(more.refusal(), (413, "TRANSACTION_TOO_LARGE".to_owned()));
}

/// Two doctors are on call, and each goes home where another one stays. With snapshots alone both could go.
#[tokio::test]
async fn write_skew_is_impossible() {
    let site = Arc::new(Site::start().await);
    for round in 0..20 {
        let title = format!("shift {round}");
        let doctors = [site.note(&title, 1).await, site.note(&title, 1).await];
        let mut tasks = JoinSet::new();
        for doctor in doctors {
            let (site, title) = (Arc::clone(&site), title.replace(' ', "%20"));
            tasks.spawn(async move {
                loop {
                    let tx = Tx::begin(&site).await;
                    let on_call = tx.get(&format!("{NOTES}?title={title}&stars=1")).await["total"].as_i64();
                    if on_call < Some(2) {
                        tx.end(ROLLBACK).await;
                        return;
                    }
                    tx.call("PATCH", &format!("{NOTES}/{doctor}"), &json!({"stars": 0}))
                        .await;
                    match tx.end(COMMIT).await.status {
                        200 => return,
                        409 => {}
                        other => panic!("{other}"),
                    }
                }
            });
        }
        tasks.join_all().await;
        let left = site
            .get(&format!("{NOTES}?title={}&stars=1", title.replace(' ', "%20")))
            .await;
        assert_eq!(left.json()["total"], 1, "{title}");
    }
}

#[tokio::test]
async fn what_an_account_began_is_its_own_in_all_its_sessions() {
    let site = crate::accounts::setup().start().await;
    let first = site.register("a@x.io").await;
    let other = site.register("b@x.io").await.access;
    let begun = site
        .with_token("POST", "/api/transactions", &first.access, &Json::Null)
        .await
        .json();
    let id = begun["transaction_id"].as_str().expect("an id");
    let path = format!("/api/collections/notes?tx_id={id}");
    let note = json!({"title": "mine"});
    let theirs = site.with_token("POST", &path, &other, &note).await;
    assert_eq!(theirs.refusal(), (400, "INVALID_TRANSACTION".to_owned()));
    let nobodys = site.call("POST", &path, &note).await;
    assert_eq!(nobodys.refusal(), (400, "INVALID_TRANSACTION".to_owned()));

    let refreshed = Tokens::of(&site.refresh(&first.refresh).await);
    assert_ne!(refreshed.access, first.access);
    let made = site.with_token("POST", &path, &refreshed.access, &note).await;
    assert_eq!(made.status, 201, "{made:?}");
    let again = site.sign_in("a@x.io").await.access;
    let commit = format!("/api/transactions/commit?tx_id={id}");
    let committed = site.with_token("POST", &commit, &again, &Json::Null).await;
    assert_eq!(committed.status, 200, "{committed:?}");
    assert_eq!(site.get("/api/collections/notes").await.json()["total"], 1);

    let keyed = async |token: &str| {
        let request = site
            .request("POST", "/api/collections/notes")
            .header("authorization", format!("Bearer {token}"))
            .header("idempotency-key", "once");
        site.send(request, json!({"title": "keyed"}).to_string()).await
    };
    let once = keyed(&refreshed.access).await;
    let twice = keyed(&again).await;
    assert_eq!((once.status, &once.text), (201, &twice.text));
    assert_eq!(twice.header("idempotency-replayed"), "true");
    let theirs = keyed(&other).await;
    assert_eq!(theirs.status, 201, "{theirs:?}");
    assert_ne!(theirs.text, once.text);
}
