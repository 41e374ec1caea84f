//! `make bench`: Alyx beside PocketBase with its defaults, on the same data, in the same run.
//!
//! Every figure is the median of three runs. Both servers run all the time and take turns, and the load comes
//! from this process on the same machine, so rates are floors; the figure that counts is the server's own CPU
//! time per operation, read from `/proc` before and after.
//!
//! `cargo run --release -p alyx-benches -- [words]` runs only the scenarios whose name has one of the words.

mod client;
mod cluster;
mod documents;
mod floor;
mod functions;
mod idle;
mod live;
mod overload;
mod process;
mod queries;
mod rebuild;
mod report;
mod rules;
mod runtimes;
mod server;
mod subscriber;
mod transfers;

use report::Report;
use server::{Kind, Server};

/// Runs of each measurement; the median is reported.
const RUNS: usize = 3;
/// Rows in the collection that is read.
const ROWS: usize = 100_000;
/// Concurrent clients of the document scenarios.
const CLIENTS: usize = 16;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut report = Report::new();
    runtime.block_on(async {
        if wanted("idle") {
            idle::measure(&mut report).await;
        }
        if wanted("documents") {
            let ours = Server::start(Kind::Alyx).await;
            let theirs = Server::start(Kind::PocketBase).await;
            documents::measure(&mut report, &ours, &theirs).await;
        }
        if wanted("queries") {
            let ours = Server::start(Kind::Alyx).await;
            let theirs = Server::start(Kind::PocketBase).await;
            queries::measure(&mut report, &ours, &theirs).await;
        }
        if wanted("rules") {
            let ours = Server::start(Kind::Alyx).await;
            let theirs = Server::start(Kind::PocketBase).await;
            rules::measure(&mut report, &ours, &theirs).await;
        }
        if wanted("live") {
            let ours = Server::start(Kind::Alyx).await;
            let theirs = Server::start(Kind::PocketBase).await;
            live::measure(&mut report, &ours, &theirs).await;
        }
        if wanted("transfers") {
            let ours = Server::start(Kind::Alyx).await;
            transfers::measure(&mut report, &ours).await;
        }
        if wanted("rebuild") {
            let ours = Server::start(Kind::Alyx).await;
            rebuild::measure(&mut report, &ours).await;
        }
        if wanted("functions") {
            functions::measure(&mut report).await;
        }
        if wanted("runtimes") {
            runtimes::measure(&mut report).await;
        }
        if wanted("cluster") {
            cluster::measure(&mut report).await;
        }
    });
    report.print();
}
