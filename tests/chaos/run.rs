//! One run: clients, faults, the end, the check.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alyx_tests::{Form, Http, eventually};
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use crate::checker;
use crate::nemesis::Fault;
use crate::random::Random;
use crate::reader::Reader;
use crate::system::{COLLECTION, System};
use crate::transcript::{Clock, Transcript};
use crate::view::View;
use crate::writer::Writer;

const WRITERS: usize = 6;
/// Longest time from the end of a fault until every client is served again.
const RECOVERY: Duration = Duration::from_secs(5);
/// The answer to one probe.
const PROBE: Duration = Duration::from_secs(1);

/// Runs of both forms would disturb each other's times.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

pub(crate) async fn run(form: Form) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let length = Duration::from_secs(setting("ALYX_CHAOS_SECONDS").unwrap_or(30));
    let seed = setting("ALYX_CHAOS_SEED").unwrap_or_else(fresh_seed);
    let folder = folder(form, seed);
    say(&format!("chaos {form:?}: ALYX_CHAOS_SEED={seed} for {length:?}"));
    let mut random = Random::new(seed);
    let mut system = System::start(form).await;
    let clock = Clock::start();
    let clients = Clients::new(&system, &folder, &clock, &mut random);
    let (stop_writers, writers_stop) = watch::channel(false);
    let (stop_readers, readers_stop) = watch::channel(false);
    let seen: Vec<_> = clients
        .readers
        .iter()
        .map(|reader| reader.seen.subscribe())
        .collect();
    let queries: Vec<Value> = clients
        .readers
        .iter()
        .map(|reader| reader.query.clone())
        .collect();
    let entrances: Vec<Http> = system.entrances().iter().map(|base| Http::new(base)).collect();
    let writers = join_all(
        clients
            .writers
            .into_iter()
            .map(|writer| writer.run(writers_stop.clone())),
    );
    let readers = join_all(
        clients
            .readers
            .into_iter()
            .map(|reader| reader.run(readers_stop.clone())),
    );
    let faults = async {
        let transcript = Transcript::create(&folder, "nemesis", &clock);
        let count = disturb(&mut system, &entrances, &seen, (length, &mut random), transcript).await;
        stop_writers.send_replace(true);
        count
    };
    let writes_and_end = async {
        let (_, count) = tokio::join!(writers, faults);
        let truth = settled(&entrances[0], &queries, &seen).await;
        stop_readers.send_replace(true);
        let mut last = Transcript::create(&folder, "final", &clock);
        last.write("all", everything(&entrances[0]).await);
        for (query, list) in truth {
            last.write("list", json!({"query": query, "list": list}));
        }
        count
    };
    let (_, count) = tokio::join!(readers, writes_and_end);
    let report = checker::check(&folder);
    say(&format!("chaos {form:?}: {count} faults, {report}"));
    assert!(
        report.problems.is_empty(),
        "ALYX_CHAOS_SEED={seed}, transcripts in {}:\n{}\n{}",
        folder.display(),
        report.problems.join("\n"),
        system.output()
    );
    std::fs::remove_dir_all(&folder).expect("the transcripts can be removed");
}

/// Faults one after the other for that long, each undone and recovered from before the next; how many.
async fn disturb(
    system: &mut System,
    entrances: &[Http],
    seen: &[watch::Receiver<Option<View>>],
    (length, random): (Duration, &mut Random),
    mut transcript: Transcript,
) -> u32 {
    let began = Instant::now();
    let mut count = 0;
    recovered(system, entrances, seen, "start").await;
    while began.elapsed() < length {
        let fault = Fault::choose(system, random);
        let hold = random.millis(100, 2_500);
        count += 1;
        println!("{:>6} ms: {fault:?} for {hold:?}", transcript.clock().millis());
        transcript.write("fault", json!(format!("{fault:?}")));
        fault.strike(system, hold).await;
        transcript.write("healed", Value::Null);
        let took = recovered(system, entrances, seen, &format!("{fault:?}")).await;
        transcript.write("recovered", json!(took.as_millis()));
        tokio::time::sleep(random.millis(50, 700)).await;
    }
    count
}

struct Clients {
    writers: Vec<Writer>,
    readers: Vec<Reader>,
}

impl Clients {
    fn new(system: &System, folder: &Path, clock: &Clock, random: &mut Random) -> Self {
        let entrances = system.entrances();
        let writer = |number| Writer {
            number,
            entrances: entrances.iter().map(|base| Http::new(base)).collect(),
            random: random.fork(),
            transcript: Transcript::create(folder, &format!("writer-{number}"), clock),
        };
        let writers = (0..WRITERS).map(writer).collect();
        let queries = [
            json!({"collection": COLLECTION, "sort": ["-id"], "limit": 1000}),
            json!({"collection": COLLECTION, "sort": ["-id"], "limit": 1000}),
            json!({"collection": COLLECTION, "filter": {"writer": 1}, "sort": ["-id"], "limit": 1000}),
            json!({"collection": COLLECTION, "filter": {"writer": {"$gte": 3}}, "sort": ["-rank", "id"], "limit": 10}),
            json!({"collection": COLLECTION, "filter": {"writer": {"$gte": 3}}, "sort": ["-rank", "id"], "limit": 10}),
            json!({"collection": COLLECTION, "filter": {"rank": {"$lt": 500}}, "sort": ["rank"], "limit": 25}),
        ];
        let reader = |(number, query): (usize, Value)| Reader {
            entrances: entrances.clone(),
            query,
            random: random.fork(),
            transcript: Transcript::create(folder, &format!("reader-{number}"), clock),
            seen: watch::Sender::new(None),
        };
        let readers = queries.into_iter().enumerate().map(reader).collect();
        Self { writers, readers }
    }
}

/// Waits until every entrance takes a write and every reader has a window again; how long that took. What clients
/// see of a fault must end within [`RECOVERY`].
async fn recovered(
    system: &System,
    entrances: &[Http],
    seen: &[watch::Receiver<Option<View>>],
    after: &str,
) -> Duration {
    let began = Instant::now();
    loop {
        let last = match probe(entrances, seen).await {
            Ok(()) => return began.elapsed(),
            Err(last) => last,
        };
        assert!(
            began.elapsed() < RECOVERY,
            "not within {RECOVERY:?} after {after}: {last}\n{}",
            system.output()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether each entrance takes a write, and the followers of everything hear of it.
async fn probe(entrances: &[Http], seen: &[watch::Receiver<Option<View>>]) -> Result<(), String> {
    for http in entrances {
        let body = json!({"writer": 1_000_000, "content": "probe", "rank": 1_000_000}).to_string();
        let path = format!("/api/collections/{COLLECTION}");
        let made = http.try_send(Method::POST, &path, &[], body);
        let made = tokio::time::timeout(PROBE, made).await;
        let made = made.map_err(|_| "a write is not answered")??;
        if made.status != 201 {
            return Err(format!("{made:?}"));
        }
        let id = made.json()["id"].clone();
        let everything = &seen[..2];
        let holds = |view: &Option<View>| {
            view.as_ref()
                .is_some_and(|view| view.docs().iter().any(|doc| doc["id"] == id))
        };
        for reader in everything {
            let heard = reader.clone();
            let heard = async move { heard.clone().wait_for(|view| holds(view)).await.is_ok() };
            let heard = tokio::time::timeout(PROBE, heard).await;
            heard.map_err(|_| "a live query does not hear of a write")?;
        }
        let path = format!("{path}/{}", id.as_str().unwrap_or_default());
        let gone = http.try_send(Method::DELETE, &path, &[], "");
        // One that stays is a document like any other.
        let _ = tokio::time::timeout(PROBE, gone).await;
    }
    match seen.iter().position(|view| view.borrow().is_none()) {
        Some(reader) => Err(format!("reader {reader} has no window")),
        None => Ok(()),
    }
}

/// Waits until every reader holds what the database answers to its query, and nothing moves meanwhile: the queries
/// with these answers. The writers have ended by now; a write that they gave up on may still come in.
async fn settled(
    http: &Http,
    queries: &[Value],
    seen: &[watch::Receiver<Option<View>>],
) -> Vec<(Value, Value)> {
    let positions = || -> Vec<Option<u64>> {
        let position = |seen: &watch::Receiver<Option<View>>| seen.borrow().as_ref().and_then(View::at);
        seen.iter().map(position).collect()
    };
    eventually("every live query shows what the database holds", || async {
        let before = positions();
        let mut truth = Vec::new();
        for (query, seen) in queries.iter().zip(seen) {
            let list = list(http, query).await?;
            let held = seen.borrow().clone().unwrap_or_default();
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
async fn everything(http: &Http) -> Value {
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

/// Past the test runner, which keeps what a test prints to itself.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("the terminal can be written to");
}

#[expect(
    clippy::disallowed_methods,
    reason = "settings of the tests, not of the product"
)]
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

fn fresh_seed() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    Random::new(u64::from(since.subsec_nanos()) ^ since.as_secs()).next() % 1_000_000_000
}

fn folder(form: Form, seed: u64) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{form:?}-{seed}"));
    // Another run of the same seed may have left its own.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}
