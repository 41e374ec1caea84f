//! A warm call of a Node function that returns its input, beside Node's own `http` server doing the same.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::{Connection, request};
use crate::report::{Better, Report, median, percentile};
use crate::server::{Kind, Server};
use crate::{RUNS, process};

const RUN: Duration = Duration::from_secs(3);
pub(crate) const CONCURRENT: usize = 64;
pub(crate) const BODY: &str = r#"{"channel":"general","content":"Hello world!","author":"Bob"}"#;

const BARE: &str = "
import { createServer } from 'node:http';
createServer((req, res) => {
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => {
    const body = JSON.stringify(JSON.parse(Buffer.concat(chunks)));
    res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
    res.end(body);
  });
}).listen(Number(process.argv[2]), '127.0.0.1');
";

/// One run's figures.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Calls per second.
    pub(crate) rate: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    /// Milliseconds.
    pub(crate) p99: f64,
    cpu: f64,
    cpu_of_node: f64,
}

pub(crate) async fn measure(report: &mut Report) {
    let server = Server::start(Kind::Alyx).await;
    let bare = BareNode::start().await;
    let call = request("POST", "/api/functions/echo", None, Some(BODY));
    // The first call loads the function; it is not a warm one.
    server.connect().await.expect(&call, 200).await;
    for (clients, name) in [(1, "1 client"), (CONCURRENT, "64 clients")] {
        let mut runs = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            runs.0
                .push(load(&server.address, server.pid(), &call, clients).await);
            runs.1.push(load(&bare.address, bare.pid(), &call, clients).await);
        }
        let pick = |of: fn(&Figures) -> f64| {
            (
                median(runs.0.iter().map(of).collect()),
                Some(median(runs.1.iter().map(of).collect())),
            )
        };
        let goals = if clients == 1 {
            ("", "p50 − bare p50 ≤ 0.15 ms")
        } else {
            ("≥ 0.6×", "")
        };
        report.add(
            &format!("warm call, {name}: rate (peer: bare Node http)"),
            "/s",
            pick(|f| f.rate),
            Better::More,
            goals.0,
        );
        report.add(
            &format!("warm call, {name}: p50"),
            "ms",
            pick(|f| f.p50),
            Better::Less,
            goals.1,
        );
        report.add(
            &format!("warm call, {name}: p99"),
            "ms",
            pick(|f| f.p99),
            Better::Less,
            "",
        );
        report.add(
            &format!("warm call, {name}: CPU of the server itself"),
            "µs",
            pick(|f| f.cpu),
            Better::Less,
            "",
        );
        let (node, _) = pick(|f| f.cpu_of_node);
        report.add(
            &format!("warm call, {name}: CPU of the function's process"),
            "µs",
            (node, None),
            Better::Less,
            "",
        );
    }
}

/// Calls at that address by so many clients, each sending its next when the reply to the last has come.
pub(crate) async fn load(address: &str, pid: u32, call: &[u8], clients: usize) -> Figures {
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(Connection::open(address).await);
    }
    let cpu = (process::cpu(pid), process::cpu_of_children(pid));
    let begin = Instant::now();
    let lanes = connections.iter_mut().map(|connection| async move {
        let mut latencies = Vec::new();
        while begin.elapsed() < RUN {
            let sent = Instant::now();
            connection.expect(call, 200).await;
            latencies.push(sent.elapsed().as_secs_f64() * 1e3);
        }
        latencies
    });
    let mut sorted = futures_util::future::join_all(lanes).await.concat();
    let elapsed = begin.elapsed();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let count = sorted.len() as f64;
    let per_call = |before: Duration, now: Duration| now.saturating_sub(before).as_secs_f64() * 1e6 / count;
    Figures {
        rate: count / elapsed.as_secs_f64(),
        p50: percentile(&sorted, 0.50),
        p99: percentile(&sorted, 0.99),
        cpu: per_call(cpu.0, process::cpu(pid)),
        cpu_of_node: per_call(cpu.1, process::cpu_of_children(pid)),
    }
}

/// Node's own `http` server with an echo.
pub(crate) struct BareNode {
    pub(crate) address: String,
    child: Child,
    _dir: TempDir,
}

impl BareNode {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let script = dir.path().join("bare.mjs");
        std::fs::write(&script, BARE).expect("a file");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let child = Command::new("node")
            .arg(script)
            .arg(port.to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("Node is installed");
        let address = format!("127.0.0.1:{port}");
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self {
            address,
            child,
            _dir: dir,
        }
    }
}

impl Drop for BareNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
