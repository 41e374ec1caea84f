//! Live queries: fan-out of one filter, many filters, and the time from the request to the delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

use crate::client::Connection;
use crate::report::{Better, Report, median, percentile};
use crate::server::{Endpoint, Server};
use crate::{CLIENTS, RUNS, floor, process, subscriber};

pub(crate) const SOCKETS: usize = 1_000;
/// Creates under way in one round of the fan-out scenario; the next round starts when all are delivered.
const ROUND: usize = 64;
const RUN: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const PACED: usize = 300;
pub(crate) const PACE: Duration = Duration::from_millis(10);

/// What the subscribers have received, all together.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    documents: AtomicU64,
    target: AtomicU64,
    reached: Notify,
}

impl Delivered {
    fn add(&self, documents: u64) {
        let now = self.documents.fetch_add(documents, Ordering::Relaxed) + documents;
        if now >= self.target.load(Ordering::Relaxed) {
            self.reached.notify_one();
        }
    }

    fn count(&self) -> u64 {
        self.documents.load(Ordering::Relaxed)
    }

    pub(crate) async fn wait_for(&self, target: u64) {
        self.target.store(target, Ordering::Relaxed);
        while self.count() < target {
            let waited = tokio::time::timeout(PATIENCE, self.reached.notified()).await;
            assert!(
                waited.is_ok(),
                "only {} of {target} deliveries came",
                self.count()
            );
        }
    }
}

pub(crate) async fn measure(report: &mut Report, ours: &Server, theirs: &Server) {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push((one_filter(ours).await, one_filter(theirs).await));
    }
    let pick = |of: fn(&(f64, f64)) -> f64| {
        (
            median(runs.iter().map(|r| of(&r.0)).collect()),
            Some(median(runs.iter().map(|r| of(&r.1)).collect())),
        )
    };
    report.add(
        "one filter, 1,000 sockets: deliveries",
        "/s",
        pick(|f| f.0),
        Better::More,
        "≥ 8×",
    );
    report.add(
        "one filter, 1,000 sockets: server CPU per delivery",
        "µs",
        pick(|f| f.1),
        Better::Less,
        "≤ 1/8",
    );

    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push((own_filters(ours).await, own_filters(theirs).await));
    }
    let pick = |of: fn(&(f64, f64)) -> f64| {
        (
            median(runs.iter().map(|r| of(&r.0)).collect()),
            Some(median(runs.iter().map(|r| of(&r.1)).collect())),
        )
    };
    report.add(
        "1,000 own filters: changes",
        "/s",
        pick(|f| f.0),
        Better::More,
        "≥ 3,000/s",
    );
    report.add(
        "1,000 own filters: server CPU per change",
        "µs",
        pick(|f| f.1),
        Better::Less,
        "",
    );

    for (name, shared) in [("one filter, 1,000 sockets", true), ("1,000 own filters", false)] {
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push((paced(&[ours], shared).await, paced(&[theirs], shared).await));
        }
        let pick = |of: fn(&Paced) -> f64| {
            (
                median(runs.iter().map(|r| of(&r.0)).collect()),
                Some(median(runs.iter().map(|r| of(&r.1)).collect())),
            )
        };
        let name = format!("{name}, 100 creates/s: request → delivery");
        report.add(
            &format!("{name} p50"),
            "ms",
            pick(|run| run.p50),
            Better::Less,
            "≤ 3 ms",
        );
        report.add(
            &format!("{name} p99"),
            "ms",
            pick(|run| run.p99),
            Better::Less,
            "≤ 15 ms",
        );
    }
    bare_loop(report).await;
}

/// What no server can save: the same fan-out by nothing but writes.
pub(crate) async fn bare_loop(report: &mut Report) {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(floor::paced().await);
    }
    let name = "1,000 sockets: bare loop of writes, order → delivery";
    let p50 = median(runs.iter().map(|run| run.0).collect());
    let p99 = median(runs.iter().map(|run| run.1).collect());
    report.add(&format!("{name} p50"), "ms", (p50, None), Better::Less, "");
    report.add(&format!("{name} p99"), "ms", (p99, None), Better::Less, "");
}

/// Opens the subscribers, each on its channel, and starts counting.
async fn subscribe(
    servers: &[&Endpoint],
    channel: impl Fn(usize) -> String,
    arrivals: Option<&mpsc::Sender<(usize, Instant)>>,
) -> (Arc<Delivered>, Vec<tokio::task::JoinHandle<()>>) {
    let delivered = Arc::new(Delivered::default());
    let mut readers = Vec::with_capacity(SOCKETS);
    for number in 0..SOCKETS {
        let server = servers[number % servers.len()];
        let stream = subscriber::open(server, Some(&channel(number))).await;
        readers.push(read(number, stream, Arc::clone(&delivered), arrivals.cloned()));
    }
    (delivered, readers)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is no role and has no task tracker"
)]
pub(crate) fn read(
    number: usize,
    mut stream: TcpStream,
    delivered: Arc<Delivered>,
    arrivals: Option<mpsc::Sender<(usize, Instant)>>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        let mut kept = 0;
        while let Ok(read @ 1..) = stream.read(&mut buffer[kept..]).await {
            let filled = kept + read;
            let (documents, rest) = subscriber::count_documents(&buffer[..filled]);
            buffer.copy_within(filled - rest..filled, 0);
            kept = rest;
            if documents > 0 {
                delivered.add(documents);
                if let Some(arrivals) = &arrivals {
                    let _ = arrivals.try_send((number, Instant::now()));
                }
            }
        }
    })
}

/// Deliveries per second, and microseconds of server CPU for each.
async fn one_filter(server: &Server) -> (f64, f64) {
    let (delivered, readers) = subscribe(&[server], |_| "hall".to_owned(), None).await;
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(server.connect().await);
    }
    let cpu = process::cpu(server.pid());
    let begin = Instant::now();
    let mut target = delivered.count();
    let first = target;
    while begin.elapsed() < RUN {
        target += (ROUND * SOCKETS) as u64;
        let lanes = connections.iter_mut().map(|connection: &mut Connection| async {
            for number in 0..ROUND / CLIENTS {
                connection
                    .expect(&server.create("hall", number), server.created())
                    .await;
            }
        });
        futures_util::future::join_all(lanes).await;
        delivered.wait_for(target).await;
    }
    let elapsed = begin.elapsed();
    let spent = process::cpu(server.pid()).saturating_sub(cpu);
    close(readers);
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let count = (target - first) as f64;
    (count / elapsed.as_secs_f64(), spent.as_secs_f64() * 1e6 / count)
}

/// Changes per second with every subscriber on a filter of its own, and microseconds of server CPU for each.
async fn own_filters(server: &Server) -> (f64, f64) {
    let (delivered, readers) = subscribe(&[server], |number| format!("room{number}"), None).await;
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(server.connect().await);
    }
    let cpu = process::cpu(server.pid());
    let begin = Instant::now();
    let first = delivered.count();
    let lanes = connections
        .iter_mut()
        .enumerate()
        .map(|(lane, connection)| async move {
            let mut made = 0_u64;
            while begin.elapsed() < RUN {
                let room = (lane * 7919 + usize::try_from(made).unwrap_or(0) * 104_729) % SOCKETS;
                connection
                    .expect(&server.create(&format!("room{room}"), 0), server.created())
                    .await;
                made += 1;
            }
            made
        });
    let made: u64 = futures_util::future::join_all(lanes).await.into_iter().sum();
    delivered.wait_for(first + made).await;
    let elapsed = begin.elapsed();
    let spent = process::cpu(server.pid()).saturating_sub(cpu);
    close(readers);
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let count = made as f64;
    (count / elapsed.as_secs_f64(), spent.as_secs_f64() * 1e6 / count)
}

/// Milliseconds of the deliveries of creates that are sent one every ten.
#[derive(Debug)]
pub(crate) struct Paced {
    /// From the sending of the create to its arrival.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// From the reply to the create, the first that anybody outside knows of its commit, to its arrival. Below zero
    /// where the delivery was faster than the reply.
    pub(crate) after_reply_p50: f64,
    pub(crate) after_reply_p99: f64,
}

/// With a shared filter every subscriber's arrival counts; else that of the one whose filter matches. Subscribers
/// are spread over `servers`, creates go to the first.
pub(crate) async fn paced(servers: &[&Endpoint], shared: bool) -> Paced {
    let (send, mut arrivals) = mpsc::channel(PACED * SOCKETS);
    let name = |number: usize| {
        if shared {
            "slow-hall".to_owned()
        } else {
            format!("slow-room{number}")
        }
    };
    let (delivered, readers) = subscribe(servers, name, Some(&send)).await;
    let server = servers[0];
    let mut connection = server.connect().await;
    let mut latencies = Vec::with_capacity(PACED * SOCKETS);
    let mut after_reply = Vec::with_capacity(PACED * SOCKETS);
    let first = delivered.count();
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for number in 0..PACED {
        ticks.tick().await;
        let sent = Instant::now();
        connection
            .expect(&server.create(&name(number % SOCKETS), number), server.created())
            .await;
        let replied = sent.elapsed().as_secs_f64() * 1e3;
        let due = if shared {
            SOCKETS * (number + 1)
        } else {
            number + 1
        };
        delivered.wait_for(first + due as u64).await;
        while let Ok((_, at)) = arrivals.try_recv() {
            let latency = (at - sent).as_secs_f64() * 1e3;
            latencies.push(latency);
            after_reply.push(latency - replied);
        }
    }
    close(readers);
    latencies.sort_by(f64::total_cmp);
    after_reply.sort_by(f64::total_cmp);
    Paced {
        p50: percentile(&latencies, 0.50),
        p99: percentile(&latencies, 0.99),
        after_reply_p50: percentile(&after_reply, 0.50),
        after_reply_p99: percentile(&after_reply, 0.99),
    }
}

pub(crate) fn close(readers: Vec<tokio::task::JoinHandle<()>>) {
    for reader in readers {
        reader.abort();
    }
}
