//! The engines that a cluster stands on, as real processes: a NATS server and a libSQL server.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Launch, Process, words};
use crate::project::repository;
use crate::{Http, eventually};

/// The answer to one statement.
const SQL_WITHIN: Duration = Duration::from_secs(10);

/// A server that can be killed and started again at its address.
#[derive(Debug)]
pub(crate) struct Engine {
    kind: Kind,
    address: SocketAddr,
    /// The libSQL server's administration.
    admin: SocketAddr,
    data: PathBuf,
    process: Option<Process>,
    /// Keeps `data` where nobody else does.
    _folder: Option<TempDir>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nats,
    Database,
}

impl Engine {
    /// A NATS server.
    pub(crate) async fn nats() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().to_path_buf();
        Self::start(Kind::Nats, data, Some(folder)).await
    }

    /// A libSQL server that keeps its data in `data`.
    pub(crate) async fn database(data: &Path) -> Self {
        Self::start(Kind::Database, data.to_path_buf(), None).await
    }

    /// At a port below those that the system gives to connections, so that it is still free after a crash. Another
    /// test may take the same one first; then it is tried again with the next.
    async fn start(kind: Kind, data: PathBuf, folder: Option<TempDir>) -> Self {
        let mut engine = Self {
            kind,
            address: free_address(),
            admin: free_address(),
            data,
            process: None,
            _folder: folder,
        };
        while !engine.launch().await {
            (engine.address, engine.admin) = (free_address(), free_address());
        }
        engine
    }

    pub(crate) fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `SIGKILL`.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await;
        }
    }

    /// `SIGTERM`, and waits for the end.
    pub(crate) async fn terminate(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate().await;
        }
    }

    /// Runs one statement on a libSQL server: its rows, each value as text, null as nothing.
    pub(crate) async fn sql(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let http = Http::new(&format!("http://{}", self.address));
        let requests = json!([{"type": "execute", "stmt": {"sql": sql}}, {"type": "close"}]);
        let body = json!({ "requests": requests }).to_string();
        let headers = [("content-type", "application/json")];
        let sent = http.try_send(http::Method::POST, "/v2/pipeline", &headers, body);
        let reply = tokio::time::timeout(SQL_WITHIN, sent)
            .await
            .map_err(|_| "no answer")??;
        let answer: Value = serde_json::from_str(&reply.text).map_err(|_| reply.text.clone())?;
        let rows = answer["results"][0]["response"]["result"]["rows"].as_array();
        let rows = rows.ok_or(reply.text)?.iter().map(|row| {
            let cells = row.as_array().into_iter().flatten();
            cells
                .map(|cell| match &cell["value"] {
                    Value::String(text) => text.clone(),
                    Value::Null => String::new(),
                    other => other.to_string(),
                })
                .collect()
        });
        Ok(rows.collect())
    }

    /// Everything that it kept is gone; it must have been killed.
    pub(crate) fn wipe(&self) {
        assert!(self.process.is_none(), "it still runs");
        // Fails where it kept nothing.
        let _ = std::fs::remove_dir_all(&self.data);
    }

    /// Starts it again at its address, after a kill.
    pub(crate) async fn restart(&mut self) {
        assert!(
            self.launch().await,
            "{:?} starts again at {}",
            self.kind,
            self.address
        );
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    pub(crate) fn output(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }

    /// Whether it serves now; `false` where its port was taken.
    async fn launch(&mut self) -> bool {
        let mut process = Process::start(&self.command());
        let http = Http::new(&format!("http://{}", self.address));
        let kind = self.kind;
        let serves = eventually(&format!("{kind:?} serves"), || {
            let ended = process.ended();
            let (address, http) = (self.address, http.clone());
            async move {
                if ended {
                    return Ok(false);
                }
                let answers = match kind {
                    Kind::Nats => tokio::net::TcpStream::connect(address).await.is_ok(),
                    Kind::Database => http
                        .try_send(http::Method::GET, "/health", &[], "")
                        .await
                        .is_ok_and(|reply| reply.status == 200),
                };
                if answers { Ok(true) } else { Err(address) }
            }
        })
        .await;
        // An answer may have come from whoever took the port, while ours was still on its way to find that out.
        let ours = serves && !process.ended();
        if ours && kind == Kind::Database {
            self.sync_every_commit().await;
        }
        self.process = ours.then_some(process);
        ours
    }

    /// The libSQL server's own default acknowledges a write before it is on disk.
    async fn sync_every_commit(&self) {
        let admin = Http::new(&format!("http://{}", self.admin));
        let settings =
            serde_json::json!({"block_reads": false, "block_writes": false, "durability_mode": "strong"});
        let set = admin.post("/v1/namespaces/default/config", &settings).await;
        assert_eq!(set.status, 200, "{set:?}");
    }

    fn command(&self) -> Launch {
        std::fs::create_dir_all(&self.data).expect("the folder can be made");
        let (program, args) = match self.kind {
            Kind::Nats => (
                ".cache/nats/bin/nats-server",
                words(&["-a", "127.0.0.1", "-p", &self.address.port().to_string()]),
            ),
            Kind::Database => (
                ".cache/sqld/sqld",
                words(&[
                    "--no-welcome",
                    "--http-listen-addr",
                    &self.address.to_string(),
                    "--admin-listen-addr",
                    &self.admin.to_string(),
                    "--db-path",
                    &self.data.display().to_string(),
                ]),
            ),
        };
        let program = repository().join(program);
        assert!(
            program.exists(),
            "{} is missing: run scripts/install-test-tools.sh",
            program.display()
        );
        Launch {
            program,
            args,
            env: Vec::new(),
            dir: self.data.clone(),
        }
    }
}

/// A port that is free now and that the system does not give to connections.
fn free_address() -> SocketAddr {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    let start = u16::from_le_bytes(*random_bytes().first_chunk().expect("bytes")) % COUNT;
    (0..COUNT)
        .map(|n| SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + (start + n) % COUNT)))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("some port is free")
}

/// Fresh random bytes, from the hasher that the standard library seeds by the system.
pub(crate) fn random_bytes() -> [u8; 8] {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
        .to_le_bytes()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn engines_come_back_at_their_address_and_the_database_keeps_its_data() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut nats, mut database) = tokio::join!(Engine::nats(), Engine::database(folder.path()));
        database.sql("CREATE TABLE t (x)").await.expect("a table");
        database.sql("INSERT INTO t VALUES (7)").await.expect("a row");
        nats.kill().await;
        nats.wipe();
        database.kill().await;
        tokio::join!(nats.restart(), database.restart());
        assert_eq!(
            database.sql("SELECT x FROM t").await,
            Ok(vec![vec!["7".to_owned()]])
        );
        database.terminate().await;
        database.restart().await;
        assert_eq!(
            database.sql("SELECT x FROM t").await,
            Ok(vec![vec!["7".to_owned()]])
        );
        // 2 is FULL.
        assert_eq!(
            database.sql("PRAGMA synchronous").await,
            Ok(vec![vec!["2".to_owned()]])
        );
        let mut stream = tokio::net::TcpStream::connect(nats.address())
            .await
            .expect("NATS accepts");
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.expect("it says hello");
        assert_eq!(&hello, b"INFO ");
    }
}
