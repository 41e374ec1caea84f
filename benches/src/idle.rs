//! What a server costs that does nothing: start-up, memory, memory per idle socket, size of the binary.

use std::path::Path;

use crate::report::{Better, Report, median};
use crate::server::{Kind, Server, beside};
use crate::{RUNS, process, subscriber};

const SOCKETS: usize = 2_000;

#[derive(Debug)]
struct Figures {
    start: f64,
    resident: f64,
    per_socket: f64,
}

pub(crate) async fn measure(report: &mut Report) {
    let mut runs = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        runs.0.push(idle(Kind::Alyx).await);
        runs.1.push(idle(Kind::PocketBase).await);
    }
    let pick = |of: fn(&Figures) -> f64| {
        (
            median(runs.0.iter().map(of).collect()),
            Some(median(runs.1.iter().map(of).collect())),
        )
    };
    report.add(
        "ready after start",
        "ms",
        pick(|f| f.start),
        Better::Less,
        "≤ 150 ms",
    );
    report.add("idle memory", "MB", pick(|f| f.resident), Better::Less, "≤ 40 MB");
    report.add(
        "memory per idle subscribed socket",
        "KB",
        pick(|f| f.per_socket),
        Better::Less,
        "≤ 8 KB",
    );
    let theirs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/bench/bin/pocketbase");
    report.add(
        "binary",
        "MB",
        (megabytes(&beside("alyx")), Some(megabytes(&theirs))),
        Better::Less,
        "",
    );
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^53")]
async fn idle(kind: Kind) -> Figures {
    let server = Server::start(kind).await;
    let resident = process::resident(server.pid()) as f64;
    let mut sockets = Vec::with_capacity(SOCKETS);
    for _ in 0..SOCKETS {
        sockets.push(subscriber::open(&server, Some("idle")).await);
    }
    let with_sockets = process::resident(server.pid()) as f64;
    drop(sockets);
    Figures {
        start: server.started_in.as_secs_f64() * 1e3,
        resident: resident / 1e6,
        per_socket: (with_sockets - resident) / SOCKETS as f64 / 1024.0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a file's size")]
fn megabytes(path: &Path) -> f64 {
    std::fs::metadata(path).map_or(f64::NAN, |file| file.len() as f64 / 1e6)
}
