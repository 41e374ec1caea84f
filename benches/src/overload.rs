//! Twice as many calls as one process can take, at a steady pace whatever the replies.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::client::Connection;
use crate::functions::load;
use crate::report::{Better, Report, percentile};
use crate::runtimes::{SCHEMA, call, until_it_answers};
use crate::server::Server;

const RUN: Duration = Duration::from_secs(20);
/// Calls under way at the same time, at most: those that wait in the server, and more.
const UNDER_WAY: usize = 16_384;
const HANDLER: &str =
    "export default { async handler() { await new Promise((ok) => setTimeout(ok, 50)); } };\n";
const CONFIG: &str = "database: {path: data.db}
functions: {path: functions, timeout: 5s, pools: {node: {min_warm: 1, max_instances: 1, concurrency: 16}}}
";

/// A call that has ended, and its connection for another.
struct Ended {
    connection: Connection,
    status: u16,
    took: Duration,
    at: Duration,
}

pub(crate) async fn measure(report: &mut Report) {
    let files = [
        ("schema.yaml", SCHEMA),
        ("alyx.yaml", CONFIG),
        ("functions/noop0.js", HANDLER),
    ];
    let server = Server::start_with(&files).await;
    until_it_answers(&server, &call(0)).await;
    let peak = load(&server.address, server.pid(), &call(0), 16).await.rate;
    let ended = at_pace(&server, 2.0 * peak).await;

    let sorted = |refused: bool| {
        let fitting = ended.iter().filter(|(status, ..)| (*status != 200) == refused);
        let mut took: Vec<f64> = fitting.map(|(_, took, _)| took.as_secs_f64() * 1e3).collect();
        took.sort_by(f64::total_cmp);
        took
    };
    let good = ended.iter().filter(|(status, _, at)| *status == 200 && *at < RUN);
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let goodput = good.count() as f64 / RUN.as_secs_f64();
    let name = "twice the calls that one process takes";
    report.add(
        &format!("{name}: answered (peer: without overload)"),
        "/s",
        (goodput, Some(peak)),
        Better::More,
        "≥ 0.9×",
    );
    let (answered, refused) = (percentile(&sorted(false), 0.99), percentile(&sorted(true), 0.99));
    let name = format!("{name}: p99 of the");
    report.add(
        &format!("{name} answered"),
        "ms",
        (answered, None),
        Better::Less,
        "≤ 5000 ms",
    );
    report.add(
        &format!("{name} refused"),
        "ms",
        (refused, None),
        Better::Less,
        "≤ 10 ms",
    );
}

/// Status, duration and time of the end of each call.
async fn at_pace(server: &Server, rate: f64) -> Vec<(u16, Duration, Duration)> {
    let (send, mut receive) = mpsc::channel::<Ended>(UNDER_WAY);
    let mut free: Vec<Connection> = Vec::new();
    let mut all = Vec::new();
    let mut keep = |ended: Ended, free: &mut Vec<Connection>| {
        assert!(
            matches!(ended.status, 200 | 429 | 503 | 504),
            "an overloaded server answers {}",
            ended.status
        );
        all.push((ended.status, ended.took, ended.at));
        free.push(ended.connection);
    };
    let begin = Instant::now();
    let mut sent = 0_u32;
    while begin.elapsed() < RUN {
        let due = begin + Duration::from_secs_f64(f64::from(sent) / rate);
        tokio::time::sleep_until(due.into()).await;
        while let Ok(ended) = receive.try_recv() {
            keep(ended, &mut free);
        }
        let mut connection = match free.pop() {
            Some(connection) => connection,
            None => Connection::open(&server.address).await,
        };
        let send = send.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "a benchmark is no role and has no task tracker"
        )]
        tokio::spawn(async move {
            let asked = Instant::now();
            let status = connection.send(&call(0)).await.status;
            let (took, at) = (asked.elapsed(), begin.elapsed());
            let ended = Ended {
                connection,
                status,
                took,
                at,
            };
            let _ = send.send(ended).await;
        });
        sent += 1;
    }
    drop(send);
    while let Some(ended) = receive.recv().await {
        keep(ended, &mut free);
    }
    all
}
