//! A libSQL server of its own for each test.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alyx_store::{RemoteOptions, Store};
use async_trait::async_trait;
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::support::{Backend, OnCommit, PATIENCE, Tuning};

/// A server in a folder of its own, killed at the end.
pub(crate) struct RemoteBackend {
    folder: TempDir,
    port: u16,
    process: Mutex<Child>,
    arguments: &'static [&'static str],
}

impl RemoteBackend {
    pub(crate) fn new() -> Self {
        Self::with_arguments(&[])
    }

    /// With further arguments on its command line.
    pub(crate) fn with_arguments(arguments: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Another process may take the port between the look and the start.
        for _ in 0..10 {
            let port = free_port();
            let mut process = start(&folder, port, arguments);
            if serves(port, &mut process) {
                return Self {
                    folder,
                    port,
                    process: Mutex::new(process),
                    arguments,
                };
            }
        }
        panic!("no libSQL server could be started");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn options(&self) -> RemoteOptions {
        RemoteOptions::new(self.url())
    }

    /// Kills the server, as if the machine had lost it.
    pub(crate) fn kill(&self) {
        let mut process = self.process.lock();
        process.kill().expect("the server is killed");
        process.wait().expect("the server has ended");
    }

    /// Starts it again on the same data and address.
    pub(crate) fn restart(&self) {
        let mut process = self.process.lock();
        for _ in 0..10 {
            *process = start(&self.folder, self.port, self.arguments);
            if serves(self.port, &mut process) {
                return;
            }
        }
        panic!("the libSQL server could not be started again");
    }

    /// Stops or resumes the process without ending it.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.process.lock().id().to_string();
        let done = Command::new("kill").args([signal, &id]).status();
        assert!(done.is_ok_and(|status| status.success()), "kill {signal} {id}");
    }
}

impl Drop for RemoteBackend {
    fn drop(&mut self) {
        self.kill();
    }
}

#[async_trait]
impl Backend for RemoteBackend {
    async fn open(&self, tuning: Tuning, on_commit: OnCommit) -> Store {
        let options = RemoteOptions {
            write_queue: tuning.write_queue,
            log_max_rows: tuning.log_max_rows,
            log_retention: tuning.log_retention,
            ..self.options()
        };
        Store::open_remote(options, on_commit)
            .await
            .expect("the store opens")
    }
}

fn binary() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let binary = root.join(".cache/sqld/sqld");
    assert!(
        binary.exists(),
        "{} is missing: run scripts/install-test-tools.sh",
        binary.display()
    );
    binary
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn start(folder: &TempDir, port: u16, arguments: &[&str]) -> Child {
    Command::new(binary())
        .args(["--no-welcome", "--disable-metrics", "--http-listen-addr"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("--db-path")
        .arg(folder.path().join("data"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the libSQL server starts")
}

/// Waits until it accepts connections; `false` where it has ended.
fn serves(port: u16, process: &mut Child) -> bool {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if process.try_wait().expect("its state").is_some() {
            return false;
        }
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the libSQL server does not accept connections");
}
