//! A NATS server of one's own, and commits.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_bus::{Bus, Delivery, Follower, NatsOptions};
use alyx_core::Seq;
use alyx_service::health::Status;
use alyx_service::tasks::Tasks;
use alyx_store::{Change, ChangeOp, Commit};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const LONGEST: Duration = Duration::from_secs(20);

/// A NATS server; killed when dropped.
pub(crate) struct Nats {
    child: Child,
    folder: TempDir,
    port: u16,
    extra: Vec<String>,
}

impl Nats {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(extra: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let extra: Vec<String> = extra.iter().map(|&arg| arg.to_owned()).collect();
        let child = spawn(folder.path(), "-1", &extra);
        let port = eventually("NATS says its port", || async { port(folder.path()) }).await;
        Self {
            child,
            folder,
            port,
            extra,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// `kill -9`, and everything that it kept is wiped.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
        self.folder = tempfile::tempdir().expect("a folder");
    }

    /// Starts it again at the same port.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(self.folder.path(), &self.port.to_string(), &self.extra);
        eventually("NATS is there again", || async { port(self.folder.path()) }).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let pid = id.and_then(Pid::from_raw).expect("it runs");
        kill_process(pid, signal).expect("it can be signalled");
    }
}

fn spawn(folder: &Path, port: &str, extra: &[String]) -> Child {
    let binary = binary();
    Command::new(&binary)
        .args(["-a", "127.0.0.1", "-p", port, "--ports_file_dir"])
        .arg(folder)
        .args(extra)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; run scripts/install-test-tools.sh", binary.display()))
}

fn binary() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/nats/bin/nats-server")
}

/// From the file that the server writes into its folder once it listens.
fn port(folder: &Path) -> Result<u16, String> {
    let file = std::fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|extension| extension == "ports"))
        .ok_or("no file of ports yet")?;
    let text = std::fs::read_to_string(file).expect("the file can be read");
    let after = text.split("nats://127.0.0.1:").nth(1).ok_or(text.clone())?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| text)
}

/// Calls `probe` until it answers `Ok`.
pub(crate) async fn eventually<T, F, Fut>(what: &str, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + LONGEST;
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(last) => assert!(Instant::now() < deadline, "{what}: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A bus and what keeps it going.
pub(crate) struct Node {
    pub(crate) bus: Bus,
    pub(crate) tasks: Tasks,
}

impl Node {
    /// A node on that NATS.
    pub(crate) fn on(url: &str) -> Self {
        Self::with(NatsOptions::new(url, "test", "node"))
    }

    pub(crate) fn with(options: NatsOptions) -> Self {
        let tasks = Tasks::new();
        let bus = Bus::nats(options, &tasks).expect("the options are sound");
        Self { bus, tasks }
    }

    /// A follower whose subscription stands.
    pub(crate) async fn follow(&self) -> Follower {
        let mut follower = self.bus.follow();
        assert!(matches!(next(&mut follower).await, Delivery::Lost));
        follower
    }

    pub(crate) async fn health(&self) -> (Status, String) {
        let check = self.bus.health_check().expect("NATS has a check");
        assert_eq!(check.name(), "nats");
        let report = check.check().await;
        (report.status, report.message.unwrap_or_default())
    }

    pub(crate) async fn is(&self, expected: Status) {
        eventually(&format!("the link is {expected:?}"), || async {
            let health = self.health().await;
            if health.0 == expected {
                Ok(())
            } else {
                Err(format!("{health:?}"))
            }
        })
        .await;
    }
}

pub(crate) async fn next(follower: &mut Follower) -> Delivery {
    tokio::time::timeout(LONGEST, follower.next())
        .await
        .expect("a delivery arrives")
        .expect("the bus is there")
}

/// The next delivery, which must be a commit.
pub(crate) async fn next_commit(follower: &mut Follower) -> Commit {
    match next(follower).await {
        Delivery::Commit(commit) => commit,
        Delivery::Lost => panic!("a loss instead of a commit"),
    }
}

/// The next delivery but losses.
pub(crate) async fn commit_after_losses(follower: &mut Follower) -> Commit {
    loop {
        if let Delivery::Commit(commit) = next(follower).await {
            return commit;
        }
    }
}

/// Skips commits until a loss.
pub(crate) async fn loss(follower: &mut Follower) {
    while !matches!(next(follower).await, Delivery::Lost) {}
}

/// A commit of one insert of `size` bytes.
pub(crate) fn commit(seq: u64, size: usize) -> Commit {
    commit_of(seq, &[ChangeOp::Insert], size)
}

/// A commit of these operations.
pub(crate) fn commit_of(first: u64, ops: &[ChangeOp], size: usize) -> Commit {
    let image = |text: &str| {
        Some(Arc::from(
            format!("{{\"{text}\":\"{}\"}}", "ü".repeat(size / 2)).as_str(),
        ))
    };
    let change = |(seq, op): (u64, &ChangeOp)| Change {
        seq: Seq(seq),
        collection: Arc::from("notes"),
        op: *op,
        old: if *op == ChangeOp::Insert {
            None
        } else {
            image("old")
        },
        new: if *op == ChangeOp::Delete {
            None
        } else {
            image("new")
        },
    };
    Commit {
        position: Seq(first + ops.len() as u64 - 1),
        changes: (first..).zip(ops).map(change).collect(),
        traces: Vec::new(),
    }
}

/// Everything about a commit, for comparing.
pub(crate) fn text(commit: &Commit) -> String {
    format!("{commit:?}")
}
