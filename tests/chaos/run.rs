//! One run: clients, faults, the end, the check.

mod end;
mod plan;
mod recovery;

use std::path::Path;
use std::time::{Duration, Instant};

use alyx_tests::{Form, Http, Random};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use self::end::{everything, settled};
use self::plan::{Plan, say};
use self::recovery::Watch;
use crate::checker;
use crate::nemesis::{Blow, Deck};
use crate::reader::Reader;
use crate::strain::Strain;
use crate::system::{COLLECTION, System};
use crate::transcript::{Clock, Transcript};
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
/// The first readers, who follow everything.
const FOLLOWERS: usize = 2;

/// Runs of both forms would disturb each other's times.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

pub(crate) async fn run(form: Form) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let plan = Plan::from_environment(form);
    let mut random = Random::new(plan.seed);
    let mut system = System::start(form, &plan.folder).await;
    let clock = Clock::start();
    let clients = Clients::new(&system, &plan.folder, &clock, &mut random);
    let (stop_writers, writers_stop) = watch::channel(false);
    let (stop_readers, readers_stop) = watch::channel(false);
    let readers = clients.readers.iter();
    let (seen, queries): (Vec<_>, Vec<Value>) = readers
        .map(|reader| (reader.seen.subscribe(), reader.query.clone()))
        .unzip();
    let entrances: Vec<Http> = system.entrances().iter().map(|base| Http::new(base)).collect();
    let watch = Watch {
        entrances,
        seen,
        strain: Strain::start(),
    };
    let writers = clients.writers.into_iter();
    let writers = join_all(writers.map(|writer| writer.run(writers_stop.clone())));
    let readers = clients.readers.into_iter();
    let readers = join_all(readers.map(|reader| reader.run(readers_stop.clone())));
    let writes_and_end = async {
        let faults = async {
            let transcript = Transcript::create(&plan.folder, "nemesis", &clock);
            let deck = Deck::new(random.fork());
            let count = disturb(&mut system, &watch, (plan.length, deck), transcript).await;
            stop_writers.send_replace(true);
            count
        };
        let (_, count) = tokio::join!(writers, faults);
        let truth = settled(&watch.entrances[0], &queries, &watch.seen).await;
        stop_readers.send_replace(true);
        let last = Transcript::create(&plan.folder, "final", &clock);
        write_end(&mut system, &watch.entrances[0], truth, last).await;
        count
    };
    let (_, count) = tokio::join!(readers, writes_and_end);
    drop(system);
    let report = checker::check(&plan.folder);
    say(&format!("chaos {form:?}: {count} faults, {report}"));
    assert!(report.problems.is_empty(), "{}", report.told());
    plan.remove_folder();
}

/// Faults one after the other for that long, each undone and recovered from before the next; how many.
async fn disturb(
    system: &mut System,
    watch: &Watch,
    (length, mut deck): (Duration, Deck),
    mut transcript: Transcript,
) -> u32 {
    let all: Vec<usize> = (0..watch.entrances.len()).collect();
    let began = Instant::now();
    let mut count = 0;
    watch.served(&all, watch.strain.mark()).await;
    while began.elapsed() < length {
        let Blow {
            fault,
            hold,
            lasting,
            second,
        } = deck.deal(system);
        count += 1;
        let lasts = if lasting { ", lasting" } else { "" };
        let also = second.map(|second| format!(" with {second:?}"));
        let name = format!("{fault:?}{lasts}{}", also.unwrap_or_default());
        println!("{:>6} ms: {name} for {hold:?}", transcript.clock().millis());
        transcript.write("fault", json!({"fault": name}));
        let struck = watch.strain.mark();
        let told = fault.begin(system).await;
        if let Some(second) = second {
            second.begin(system).await;
        }
        if lasting && fault.stops_writes() {
            let took = watch.refused(struck).await;
            transcript.write("refused", json!({"took": took}));
        } else if lasting {
            let spared = fault.spared(system);
            let took = watch.served(&spared, struck).await;
            transcript.write("survived", json!({"took": took, "entrances": spared}));
        }
        tokio::time::sleep(hold).await;
        transcript.write("undone", told);
        let undone = match second {
            Some(second) => fault.end_with(second, system, &watch.strain).await,
            None => fault.end(system, &watch.strain).await,
        };
        transcript.write("healed", undone.told);
        let took = watch.served(&all, undone.at).await;
        transcript.write("recovered", json!({"took": took}));
        // The next fault may take away what this one's victim stood in for.
        system.healthy().await;
    }
    count
}

/// What there is at the end, by the database itself.
async fn write_end(system: &mut System, http: &Http, truth: Vec<(Value, Value)>, mut last: Transcript) {
    last.write("all", everything(http).await);
    for (query, list) in truth {
        last.write("list", json!({"query": query, "list": list}));
    }
    for epoch in system.epochs().await.as_array().into_iter().flatten() {
        last.write("epoch", epoch.clone());
    }
    for change in system.log().await {
        last.write("change", change);
    }
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
