//! The three languages of functions, each in the sandbox that the machine grants: warm calls, first calls, memory,
//! and a saved file.

use std::time::{Duration, Instant};

use crate::client::request;
use crate::functions::{BareNode, CONCURRENT, load};
use crate::process::{self, Awake};
use crate::report::{Better, Report, median, percentile};
use crate::server::Server;
use crate::{RUNS, functions, overload};

/// Functions of one language, each of which is called for the first time in a process in every round.
const COLD: usize = 8;
const ROUNDS: usize = 3;
/// Longer than `idle_timeout` of [`config`], so that no process is left.
const UNTIL_ENDED: Duration = Duration::from_millis(2_500);
/// Time for another process without a function to get ready.
const UNTIL_READY: Duration = Duration::from_millis(400);
/// Times that a file is saved.
const SAVES: usize = 10;
const PATIENCE: Duration = Duration::from_secs(120);

/// A language, and what is to be reached in it.
struct Language {
    name: &'static str,
    file: &'static str,
    /// A function that returns nothing, with the number `0` in it.
    noop: &'static str,
    /// Milliseconds of a first call, with a process ready and without.
    hit: &'static str,
    miss: &'static str,
    memory: &'static str,
    save: &'static str,
}

const LANGUAGES: [Language; 3] = [
    Language {
        name: "Node",
        file: "js",
        noop: "export default { handler() { return { version: 0 }; } };\n",
        hit: "≤ 5 ms and import",
        miss: "≤ 90 ms",
        memory: "≤ 50 MB",
        save: "≤ 150 ms",
    },
    Language {
        name: "Python",
        file: "py",
        noop: "def handler(ctx):\n    return {'version': 0}\n",
        hit: "≤ 5 ms",
        miss: "≤ 60 ms",
        memory: "≤ 3 MB",
        save: "≤ 100 ms",
    },
    Language {
        name: "Go",
        file: "go",
        noop: "package main\n\nimport \"github.com/watzon/alyx/pkg/runtime\"\n\n\
               func Handler(ctx *runtime.Context) (any, error) {\n\treturn map[string]any{\"version\": 0}, nil\n}\n",
        hit: "",
        miss: "≤ 10 ms",
        memory: "≤ 12 MB",
        save: "≤ 1500 ms",
    },
];

/// As many processes as functions, which end soon after their last call.
fn config(ready: usize, most: usize) -> String {
    let pool = format!("{{min_warm: {ready}, max_instances: {most}, idle_timeout: 1s, concurrency: 64}}");
    format!(
        "database: {{path: data.db}}\nfunctions: {{path: functions, pools: {{node: {pool}, python: {pool}, go: {pool}}}}}\n"
    )
}

pub(crate) const SCHEMA: &str = "collections: {notes: {fields: {text: {type: string}}}}\n";

async fn start(language: &Language, count: usize, ready: usize) -> Server {
    let config = config(ready, count + 2);
    let names: Vec<String> = (0..count)
        .map(|number| format!("functions/noop{number}.{}", language.file))
        .collect();
    let mut files = vec![("schema.yaml", SCHEMA), ("alyx.yaml", config.as_str())];
    files.extend(names.iter().map(|name| (name.as_str(), language.noop)));
    let server = Server::start_with(&files).await;
    for number in 0..count {
        until_it_answers(&server, &call(number)).await;
    }
    server
}

pub(crate) fn call(number: usize) -> Vec<u8> {
    request("POST", &format!("/api/functions/noop{number}"), None, Some("{}"))
}

/// Go's programs are compiled first.
pub(crate) async fn until_it_answers(server: &Server, call: &[u8]) {
    let begin = Instant::now();
    while server.connect().await.send(call).await.status != 200 {
        assert!(begin.elapsed() < PATIENCE, "the function does not answer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn measure(report: &mut Report) {
    warm(report).await;
    for language in &LANGUAGES {
        cold(report, language).await;
        saved(report, language).await;
    }
    overload::measure(report).await;
}

/// One process, one and many calls at a time, beside Node's own `http`.
async fn warm(report: &mut Report) {
    let bare = BareNode::start().await;
    let mut rate_of_node = None;
    for language in &LANGUAGES {
        let config = config(1, 1).replace("idle_timeout: 1s", "idle_timeout: 1m");
        let name = format!("functions/noop0.{}", language.file);
        let files = [
            ("schema.yaml", SCHEMA),
            ("alyx.yaml", &config),
            (&name, language.noop),
        ];
        let server = Server::start_with(&files).await;
        let call = call(0);
        until_it_answers(&server, &call).await;
        for (clients, awake) in [(1, false), (1, true), (CONCURRENT, false)] {
            let _awake = awake.then(Awake::start);
            let mut runs = (Vec::new(), Vec::new());
            for _ in 0..RUNS {
                runs.0
                    .push(load(&server.address, server.pid(), &call, clients).await);
                runs.1.push(load(&bare.address, bare.pid(), &call, clients).await);
            }
            let middle = |of: fn(&functions::Figures) -> f64| {
                (
                    median(runs.0.iter().map(of).collect()),
                    Some(median(runs.1.iter().map(of).collect())),
                )
            };
            let processors = if awake { ", processors kept awake" } else { "" };
            let name = format!("{}, warm, {clients} at a time{processors}", language.name);
            if clients == 1 {
                let goal = "p50 − bare p50 ≤ 0.15 ms";
                report.add(
                    &format!("{name}: p50"),
                    "ms",
                    middle(|f| f.p50),
                    Better::Less,
                    goal,
                );
                let goal = "p99 − bare p99 ≤ 1 ms";
                report.add(
                    &format!("{name}: p99"),
                    "ms",
                    middle(|f| f.p99),
                    Better::Less,
                    goal,
                );
                continue;
            }
            let rate = middle(|f| f.rate);
            report.add(
                &format!("{name}: rate (peer: bare Node http)"),
                "/s",
                rate,
                Better::More,
                "",
            );
            match rate_of_node {
                None => rate_of_node = Some(rate.0),
                Some(node) => {
                    let name = format!("{name}: rate (peer: our Node)");
                    report.add(&name, "/s", (rate.0, Some(node)), Better::More, "≥ 0.8×");
                }
            }
        }
    }
}

/// First calls, with a process ready that has no function yet and without, and what idle processes hold.
async fn cold(report: &mut Report, language: &Language) {
    for (ready, what, goal) in [
        (1, "a process ready", language.hit),
        (0, "no process", language.miss),
    ] {
        if goal.is_empty() {
            continue;
        }
        let server = start(language, COLD, ready).await;
        let mut latencies = Vec::new();
        for _ in 0..ROUNDS {
            tokio::time::sleep(UNTIL_ENDED).await;
            let before = process::private_of_descendants(server.pid());
            for number in 0..COLD {
                tokio::time::sleep(UNTIL_READY / 4).await;
                let mut connection = server.connect().await;
                let sent = Instant::now();
                connection.expect(&call(number), 200).await;
                latencies.push(sent.elapsed().as_secs_f64() * 1e3);
                if ready > 0 {
                    tokio::time::sleep(UNTIL_READY).await;
                }
            }
            if ready == 0 && latencies.len() == COLD * ROUNDS {
                let held = process::private_of_descendants(server.pid()).saturating_sub(before);
                #[expect(clippy::cast_precision_loss, reason = "megabytes")]
                let each = held as f64 / COLD as f64 / 1e6;
                let name = format!("{}: private memory of an idle process", language.name);
                report.add(&name, "MB", (each, None), Better::Less, language.memory);
            }
        }
        latencies.sort_by(f64::total_cmp);
        let name = format!("{}, first call, {what}", language.name);
        let p50 = percentile(&latencies, 0.50);
        report.add(&format!("{name}: p50"), "ms", (p50, None), Better::Less, goal);
        let p95 = percentile(&latencies, 0.95);
        report.add(&format!("{name}: p95"), "ms", (p95, None), Better::Less, "");
    }
}

/// From the saving of a file to the first reply of what is in it.
async fn saved(report: &mut Report, language: &Language) {
    let server = start(language, 1, 1).await;
    let mut connection = server.connect().await;
    let mut latencies = Vec::new();
    for version in 1..=SAVES {
        tokio::time::sleep(UNTIL_READY).await;
        let text = language.noop.replace('0', &version.to_string());
        let saved = Instant::now();
        server.write(&format!("functions/noop0.{}", language.file), &text);
        loop {
            let reply = connection.send(&call(0)).await;
            let version = serde_json::json!(version);
            if reply.status == 200
                && reply
                    .json()
                    .pointer("/data/version")
                    .or(reply.json().get("version"))
                    == Some(&version)
            {
                break;
            }
            assert!(saved.elapsed() < PATIENCE, "the saved file is not served");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        latencies.push(saved.elapsed().as_secs_f64() * 1e3);
    }
    latencies.sort_by(f64::total_cmp);
    let name = format!("{}, from the saved file to its first reply: p50", language.name);
    report.add(
        &name,
        "ms",
        (percentile(&latencies, 0.50), None),
        Better::Less,
        language.save,
    );
}
