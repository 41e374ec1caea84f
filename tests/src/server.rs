//! One running `alyx` process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::{Http, Project, Socket, eventually};

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    base: String,
    output: Arc<Mutex<String>>,
}

impl Server {
    /// Starts `alyx dev --port 0` in the project and waits until it serves.
    pub async fn start(project: &Project) -> Self {
        Self::start_with(project, &["dev"], &[]).await
    }

    /// Starts `alyx <args> --port 0` with further environment and waits until it serves.
    pub async fn start_with(project: &Project, args: &[&str], env: &[(&str, &str)]) -> Self {
        let (mut child, output) = Self::spawn(project, args, env);
        let base = eventually("the server prints its address", || {
            let printed = output.lock().expect("not poisoned").clone();
            let ended = child.try_wait().expect("the child can be asked");
            async move {
                assert!(ended.is_none(), "the server ended with {ended:?}:\n{printed}");
                address(&printed).ok_or(printed)
            }
        })
        .await;
        let server = Self { child, base, output };
        eventually("the server is ready", || async {
            let reply = server.http().get("/health/ready").await;
            if reply.status == 200 { Ok(()) } else { Err(reply) }
        })
        .await;
        server
    }

    /// Runs `alyx <args>` to its end: exit code and everything it printed.
    pub async fn run(project: &Project, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
        let (mut child, output) = Self::spawn(project, args, env);
        let status = tokio::time::timeout(std::time::Duration::from_secs(30), child.wait())
            .await
            .expect("the command ends")
            .expect("the command can be waited for");
        let printed = eventually("the output is complete", || {
            let complete = Arc::strong_count(&output) == 1;
            let printed = output.lock().expect("not poisoned").clone();
            async move { if complete { Ok(printed) } else { Err(printed) } }
        })
        .await;
        (status.code(), printed)
    }

    fn spawn(project: &Project, args: &[&str], env: &[(&str, &str)]) -> (Child, Arc<Mutex<String>>) {
        let mut command = Command::new(binary());
        command.args(args).current_dir(project.path()).kill_on_drop(true);
        if args
            .first()
            .is_some_and(|role| *role == "dev" || *role == "serve")
            && !args.contains(&"--port")
        {
            command.args(["--port", "0"]);
        }
        command
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| !name.starts_with("ALYX_")));
        command.envs(env.iter().copied());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let output = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().expect("piped"), Arc::clone(&output));
        collect(child.stderr.take().expect("piped"), Arc::clone(&output));
        (child, output)
    }

    /// An HTTP client for it.
    pub fn http(&self) -> Http {
        Http::new(&self.base)
    }

    /// `http://host:port`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A WebSocket to `/api/realtime` that has received `connected`.
    pub async fn socket(&self) -> Socket {
        Socket::connect(&self.base).await
    }

    /// Everything printed so far.
    pub fn output(&self) -> String {
        self.output.lock().expect("not poisoned").clone()
    }

    /// Waits until the output has this text.
    pub async fn printed(&self, text: &str) {
        eventually(&format!("the server prints `{text}`"), || async {
            let output = self.output();
            if output.contains(text) {
                Ok(())
            } else {
                Err(output)
            }
        })
        .await;
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    /// `SIGKILL`, and waits for the end.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the server can be killed");
    }

    /// `SIGTERM`, and waits for the end; the exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let status = tokio::time::timeout(std::time::Duration::from_secs(30), self.child.wait())
            .await
            .expect("the server stops within its deadline");
        status.expect("the server can be waited for").code()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        rustix::process::kill_process(pid, signal).expect("the signal can be sent");
    }
}

fn address(printed: &str) -> Option<String> {
    let start = printed.find("http://")?;
    let rest = &printed[start..];
    let end = rest.find(|c: char| c.is_whitespace())?;
    let url = &rest[..end];
    let host_end = url["http://".len()..]
        .find('/')
        .map_or(url.len(), |at| at + "http://".len());
    Some(url[..host_end].to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the harness is no role and has no task tracker"
)]
fn collect(stream: impl AsyncRead + Unpin + Send + 'static, output: Arc<Mutex<String>>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut output = output.lock().expect("not poisoned");
            output.push_str(&line);
            output.push('\n');
        }
    });
}

/// The binary that was built beside the tests.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    let built = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in target/<profile>/deps")
        .join("alyx");
    assert!(
        built.exists(),
        "{} is missing: run `cargo build --workspace` first",
        built.display()
    );
    built
}
