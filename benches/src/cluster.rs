//! The cluster: two of each role over a real NATS server and a real libSQL server that syncs every commit. All of
//! them, and the load, share this machine, so rates are floors.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alyx_tests::{Cluster, Http, Part, Project, Shape};
use http::Method;
use serde_json::json;
use tokio::sync::watch;

use crate::RUNS;
use crate::client::request;
use crate::documents::closed_loop_over;
use crate::functions::{self, BareNode};
use crate::live;
use crate::process::Awake;
use crate::report::{Better, Report, median};
use crate::server::{CONFIG, Endpoint, FUNCTION, Kind, SCHEMA};

const RUN: Duration = Duration::from_secs(5);
const CLIENTS: usize = 64;
const MESSAGES: &str = "/api/collections/messages";
/// Roles in the order in which an upgrade replaces them.
const ROLES: [Part; 4] = [
    Part::ControlPlane,
    Part::RealtimeNode,
    Part::FunctionWorker,
    Part::Gateway,
];

pub(crate) async fn measure(report: &mut Report) {
    let project = project();
    let cluster = Cluster::start(&project).await;
    creates(report, &cluster).await;
    deliveries(report, &cluster).await;
    calls(report, &cluster).await;
    drop(cluster);
    fail_over(report, &project).await;
    rolling_restart(report, &project).await;
}

fn project() -> Project {
    let project = Project::with_schema(SCHEMA);
    project.write("alyx.yaml", CONFIG);
    project.write("functions/echo.js", FUNCTION);
    project
}

fn endpoints(cluster: &Cluster) -> [Endpoint; 2] {
    [0, 1].map(|number| Endpoint {
        kind: Kind::Alyx,
        address: cluster.base(number).trim_start_matches("http://").to_owned(),
    })
}

async fn creates(report: &mut Report, cluster: &Cluster) {
    let [a, b] = endpoints(cluster);
    let gateways = [0, 1].map(|number| cluster.pid(Part::Gateway, number));
    let database = [cluster.pid(Part::Database, 0)];
    let create = |number| a.create("general", number);
    let mut runs = Vec::new();
    let mut at_the_database = Vec::new();
    for _ in 0..RUNS {
        runs.push(closed_loop_over((&[&a, &b], &gateways), CLIENTS, RUN, create).await);
        at_the_database.push(closed_loop_over((&[&a, &b], &database), CLIENTS, RUN, create).await);
    }
    let name = "cluster: creates through 2 gateways at 64 clients";
    let middle = |of: fn(&crate::documents::Figures) -> f64| median(runs.iter().map(of).collect());
    report.add(
        &format!("{name}: rate"),
        "/s",
        (middle(|f| f.rate), None),
        Better::More,
        "≥ 5,000/s",
    );
    report.add(
        &format!("{name}: p50"),
        "ms",
        (middle(|f| f.p50), None),
        Better::Less,
        "",
    );
    report.add(
        &format!("{name}: p99"),
        "ms",
        (middle(|f| f.p99), None),
        Better::Less,
        "≤ 50 ms",
    );
    report.add(
        &format!("{name}: CPU of both gateways"),
        "µs",
        (middle(|f| f.cpu), None),
        Better::Less,
        "",
    );
    let database = median(at_the_database.iter().map(|f| f.cpu).collect());
    report.add(
        &format!("{name}: CPU of the libSQL server"),
        "µs",
        (database, None),
        Better::Less,
        "",
    );
}

async fn deliveries(report: &mut Report, cluster: &Cluster) {
    let [a, b] = endpoints(cluster);
    for (name, shared) in [("one filter", true), ("own filters", false)] {
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(live::paced(&[&a, &b], shared).await);
        }
        let name = format!("cluster: {name}, 1,000 sockets, 100 creates/s");
        let middle = |of: fn(&live::Paced) -> f64| (median(runs.iter().map(of).collect()), None);
        for (from, p50, p99, goals) in [
            ("request", middle(|run| run.p50), middle(|run| run.p99), ("", "")),
            (
                "reply",
                middle(|run| run.after_reply_p50),
                middle(|run| run.after_reply_p99),
                ("≤ 5 ms from the commit", "≤ 25 ms from the commit"),
            ),
        ] {
            let name = format!("{name}: {from} → delivery");
            report.add(&format!("{name} p50"), "ms", p50, Better::Less, goals.0);
            report.add(&format!("{name} p99"), "ms", p99, Better::Less, goals.1);
        }
    }
    live::bare_loop(report).await;
}

async fn calls(report: &mut Report, cluster: &Cluster) {
    let [a, _] = endpoints(cluster);
    let bare = BareNode::start().await;
    let pid = cluster.pid(Part::Gateway, 0);
    let call = request("POST", "/api/functions/echo", None, Some(functions::BODY));
    // Either worker's first call loads the function; those are not warm ones.
    functions::load(&a.address, pid, &call, CLIENTS).await;
    let overhead = ("", "p50 − bare p50 ≤ 0.25 ms", "p99 − bare p99 ≤ 2 ms");
    for (clients, awake, (rate_goal, p50_goal, p99_goal)) in [
        (1, false, overhead),
        (1, true, overhead),
        (CLIENTS, false, ("≥ 18k/s", "", "")),
    ] {
        let _awake = awake.then(Awake::start);
        let mut runs = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            runs.0
                .push(functions::load(&a.address, pid, &call, clients).await);
            runs.1
                .push(functions::load(&bare.address, bare.pid(), &call, clients).await);
        }
        let pick = |of: fn(&functions::Figures) -> f64| {
            (
                median(runs.0.iter().map(of).collect()),
                Some(median(runs.1.iter().map(of).collect())),
            )
        };
        let processors = if awake { ", processors kept awake" } else { "" };
        let name = format!("cluster: warm call through a worker, {clients} at a time{processors}");
        report.add(
            &format!("{name}: rate (peer: bare Node http)"),
            "/s",
            pick(|f| f.rate),
            Better::More,
            rate_goal,
        );
        report.add(
            &format!("{name}: p50"),
            "ms",
            pick(|f| f.p50),
            Better::Less,
            p50_goal,
        );
        report.add(
            &format!("{name}: p99"),
            "ms",
            pick(|f| f.p99),
            Better::Less,
            p99_goal,
        );
    }
}

/// Kills each gateway in turn, so that the one that holds the writer's lease is among them, and writes through the
/// other: the longest time until a write is taken.
async fn fail_over(report: &mut Report, project: &Project) {
    let mut slowest = Duration::ZERO;
    let mut cluster = Cluster::start(project).await;
    for round in 0..2 * RUNS {
        let (killed, other) = (round % 2, 1 - round % 2);
        let http = cluster.gateway(other);
        assert!(written(&http).await, "the cluster takes writes");
        cluster.kill(Part::Gateway, killed).await;
        let begin = Instant::now();
        while !written(&http).await {}
        slowest = slowest.max(begin.elapsed());
        cluster.restart(Part::Gateway, killed).await;
    }
    let seconds = slowest.as_secs_f64();
    report.add(
        "cluster: writes again after a gateway's kill, slowest of 6",
        "s",
        (seconds, None),
        Better::Less,
        "≤ 5 s",
    );
}

/// Replaces every process in turn under load: requests of clients that try once more, at the other gateway, and how
/// many of them failed all the same.
async fn rolling_restart(report: &mut Report, project: &Project) {
    const LANES: usize = 8;
    let shape = Shape {
        linked: true,
        ..Shape::default()
    };
    let mut cluster = Cluster::start_with(project, shape, &[]).await;
    let gateways = [0, 1].map(|number| cluster.gateway(number));
    let (stop, stopped) = watch::channel(false);
    let (sent, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let lane = async |number: usize| {
        while !*stopped.borrow() {
            let (first, second) = (&gateways[number % 2], &gateways[1 - number % 2]);
            let good = written(first).await || written(second).await;
            sent.fetch_add(1, Ordering::Relaxed);
            failed.fetch_add(u64::from(!good), Ordering::Relaxed);
        }
    };
    let roll = async {
        for part in ROLES {
            for number in 0..cluster.count(part) {
                assert_eq!(
                    cluster.terminate(part, number).await,
                    Some(0),
                    "{part:?} {number}"
                );
                cluster.restart(part, number).await;
            }
        }
        stop.send_replace(true);
    };
    tokio::join!(futures_util::future::join_all((0..LANES).map(lane)), roll);
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    let (sent, failed) = (sent.into_inner() as f64, failed.into_inner() as f64);
    report.add(
        "cluster: rolling restart of all roles: requests",
        "",
        (sent, None),
        Better::More,
        "",
    );
    report.add(
        "cluster: rolling restart of all roles: failed after one retry",
        "",
        (failed, None),
        Better::Less,
        "0",
    );
}

async fn written(http: &Http) -> bool {
    let body = json!({"channel": "general", "author": "Alice", "content": "hello"}).to_string();
    let reply = http.try_send(Method::POST, MESSAGES, &[], body).await;
    reply.is_ok_and(|reply| reply.status == 201)
}
