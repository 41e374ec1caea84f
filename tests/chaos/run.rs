//! One run: clients, faults, the end, the check.

mod end;
mod recovery;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alyx_tests::{Form, Http, Random};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use self::end::{everything, settled};
use self::recovery::recovered;
use crate::checker;
use crate::nemesis::Fault;
use crate::reader::Reader;
use crate::system::{COLLECTION, System};
use crate::transcript::{Clock, Transcript};
use crate::view::View;
use crate::writer::{Through, Writer};

/// Clients that write by REST, and after them those that have a function do it.
const WRITERS: [Through; 8] = [
    Through::Rest,
    Through::Rest,
    Through::Rest,
    Through::Rest,
    Through::Rest,
    Through::Rest,
    Through::Function,
    Through::Function,
];

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
    let writes_and_end = async {
        let faults = async {
            let transcript = Transcript::create(&folder, "nemesis", &clock);
            let count = disturb(&mut system, &entrances, &seen, (length, &mut random), transcript).await;
            stop_writers.send_replace(true);
            count
        };
        let (_, count) = tokio::join!(writers, faults);
        let truth = settled(&entrances[0], &queries, &seen).await;
        stop_readers.send_replace(true);
        let mut last = Transcript::create(&folder, "final", &clock);
        last.write("all", everything(&entrances[0]).await);
        for (query, list) in truth {
            last.write("list", json!({"query": query, "list": list}));
        }
        for epoch in system.epochs().await.as_array().into_iter().flatten() {
            last.write("epoch", epoch.clone());
        }
        for change in system.log().await {
            last.write("change", change);
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
        let told = fault.strike(system, hold).await;
        transcript.write("healed", told);
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
        let writer = |(number, through)| Writer {
            number,
            through,
            entrances: entrances.iter().map(|base| Http::new(base)).collect(),
            random: random.fork(),
            transcript: Transcript::create(folder, &format!("writer-{number}"), clock),
        };
        let writers = WRITERS.into_iter().enumerate().map(writer).collect();
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
    Random::new(u64::from(since.subsec_nanos()) ^ since.as_secs()).number() % 1_000_000_000
}

/// A folder of this run's own, outside of what Cargo looks after. It stays behind where the run fails.
fn folder(form: Form, seed: u64) -> PathBuf {
    let name = format!("alyx-chaos-{form:?}-{seed}-{}", std::process::id()).to_lowercase();
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}
