//! Create, get, update and list, closed loop.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::client::Connection;
use crate::report::{Better, Report, median, percentile};
use crate::server::{Endpoint, Server};
use crate::{CLIENTS, ROWS, RUNS, process};

/// One run's figures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Operations per second.
    pub(crate) rate: f64,
    /// Microseconds of server CPU per operation.
    pub(crate) cpu: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    /// Milliseconds.
    pub(crate) p99: f64,
}

const RUN: Duration = Duration::from_secs(3);
const LOADERS: usize = 32;

pub(crate) async fn measure(report: &mut Report, ours: &Server, theirs: &Server) {
    eprintln!("documents: loading {ROWS} rows into each");
    let our_ids = load(ours).await;
    let their_ids = load(theirs).await;
    type Make<'a> = &'a dyn Fn(&Server, &[String], usize) -> Vec<u8>;
    let scenarios: [(&str, Make<'_>, &str, &str); 5] = [
        (
            "get",
            &|s, ids, n| s.get(&ids[n * 7919 % ids.len()]),
            "≥ 3.5×",
            "≤ 1/5",
        ),
        (
            "list of 20 newest, without total",
            &|s, _, _| s.newest(false),
            "",
            "≤ 1/6",
        ),
        (
            "list of 20 newest, with total",
            &|s, _, _| s.newest(true),
            "",
            "≤ 1/6",
        ),
        (
            "update",
            &|s, ids, n| s.update(&ids[n * 7919 % ids.len()], n),
            "",
            "≤ 1/5",
        ),
        ("create", &|s, _, n| s.create("general", n), "≥ 3×", "≤ 1/4"),
    ];
    for (name, make, rate_goal, cpu_goal) in scenarios {
        let mut runs = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            runs.0
                .push(closed_loop(ours, CLIENTS, RUN, |n| make(ours, &our_ids, n)).await);
            runs.1
                .push(closed_loop(theirs, CLIENTS, RUN, |n| make(theirs, &their_ids, n)).await);
        }
        let middle = |of: fn(&Figures) -> f64| {
            (
                median(runs.0.iter().map(of).collect()),
                Some(median(runs.1.iter().map(of).collect())),
            )
        };
        report.add(
            &format!("{name}: rate at {CLIENTS} clients"),
            "/s",
            middle(|f| f.rate),
            Better::More,
            rate_goal,
        );
        report.add(
            &format!("{name}: server CPU"),
            "µs",
            middle(|f| f.cpu),
            Better::Less,
            cpu_goal,
        );
        report.add(&format!("{name}: p50"), "ms", middle(|f| f.p50), Better::Less, "");
        report.add(&format!("{name}: p99"), "ms", middle(|f| f.p99), Better::Less, "");
    }
}

/// Fills the collection and returns the ids.
async fn load(server: &Server) -> Vec<String> {
    let ids = Rc::new(RefCell::new(Vec::with_capacity(ROWS)));
    let jobs = (0..LOADERS).map(|lane| {
        let ids = Rc::clone(&ids);
        async move {
            let mut connection = server.connect().await;
            for number in (lane..ROWS).step_by(LOADERS) {
                let request = server.create(&format!("channel{}", number % 100), number);
                let reply = connection.expect(&request, server.created()).await.json();
                ids.borrow_mut()
                    .push(reply["id"].as_str().expect("an id").to_owned());
            }
        }
    });
    futures_util::future::join_all(jobs).await;
    Rc::try_unwrap(ids).expect("all lanes ended").into_inner()
}

/// `clients` connections, each sending its next request when the reply to the last has come.
pub(crate) async fn closed_loop(
    server: &Server,
    clients: usize,
    length: Duration,
    make: impl Fn(usize) -> Vec<u8>,
) -> Figures {
    closed_loop_over((&[&**server], &[server.pid()]), clients, length, make).await
}

/// The same over several endpoints in turn, with the CPU time of several processes.
pub(crate) async fn closed_loop_over(
    (endpoints, pids): (&[&Endpoint], &[u32]),
    clients: usize,
    length: Duration,
    make: impl Fn(usize) -> Vec<u8>,
) -> Figures {
    let mut connections = Vec::new();
    for client in 0..clients {
        connections.push(endpoints[client % endpoints.len()].connect().await);
    }
    let all_cpu = || pids.iter().map(|&pid| process::cpu(pid)).sum::<Duration>();
    let numbers = RefCell::new(0_usize);
    let latencies = RefCell::new(Vec::new());
    let cpu = all_cpu();
    let begin = Instant::now();
    let lanes = connections.into_iter().map(|mut connection: Connection| async {
        while begin.elapsed() < length {
            let number = {
                let mut next = numbers.borrow_mut();
                *next += 1;
                *next
            };
            let request = make(number);
            let sent = Instant::now();
            let reply = connection.send(&request).await;
            latencies.borrow_mut().push(sent.elapsed().as_secs_f64() * 1e3);
            assert!(
                reply.status < 300,
                "{}: {}",
                reply.status,
                String::from_utf8_lossy(&reply.body)
            );
        }
        // Moved in, so that it closes when its lane ends.
        drop(connection);
    });
    futures_util::future::join_all(lanes).await;
    let elapsed = begin.elapsed();
    let spent = all_cpu().saturating_sub(cpu);
    let mut sorted = latencies.into_inner();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let count = sorted.len() as f64;
    Figures {
        rate: count / elapsed.as_secs_f64(),
        cpu: spent.as_secs_f64() * 1e6 / count,
        p50: percentile(&sorted, 0.50),
        p99: percentile(&sorted, 0.99),
    }
}
