//! Processes started by a test, with what they print.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::eventually;

/// Longest time for a process to end after `SIGTERM`.
const LONGEST_STOP: Duration = Duration::from_secs(30);

/// What is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// The binary.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Its environment beside this process's own, of which nothing named `ALYX_…` is passed on.
    pub(crate) env: Vec<(String, String)>,
    /// Where it runs.
    pub(crate) dir: PathBuf,
}

/// A running process in a group of its own; the whole group is killed when this is dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Pid,
    output: Arc<Mutex<String>>,
}

impl Process {
    pub(crate) fn start(launch: &Launch) -> Self {
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.args)
            .current_dir(&launch.dir)
            .process_group(0)
            .kill_on_drop(true)
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| !name.starts_with("ALYX_")))
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{} starts: {error}", launch.program.display()));
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        let output = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().expect("piped"), Arc::clone(&output));
        collect(child.stderr.take().expect("piped"), Arc::clone(&output));
        Self {
            group: group.and_then(Pid::from_raw).expect("a process id"),
            child,
            output,
        }
    }

    /// Waits until `find` finds something in what was printed; fails where the process ends first.
    pub(crate) async fn find<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        eventually(what, || {
            let printed = self.output();
            let ended = self.child.try_wait().expect("the child can be asked");
            let found = find(&printed);
            async move {
                assert!(
                    ended.is_none(),
                    "{what}: the process ended with {ended:?}:\n{printed}"
                );
                found.ok_or(printed)
            }
        })
        .await
    }

    /// Everything printed so far.
    pub(crate) fn output(&self) -> String {
        self.output.lock().expect("not poisoned").clone()
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().expect("the child can be asked").is_some()
    }

    /// Waits for its end: exit code and everything it printed.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(LONGEST_STOP, self.child.wait())
            .await
            .expect("the command ends")
            .expect("the command can be waited for");
        let output = Arc::clone(&self.output);
        let printed = eventually("the output is complete", || {
            // This process's own two handles are what is left once both streams have ended.
            let complete = Arc::strong_count(&output) == 2;
            let printed = output.lock().expect("not poisoned").clone();
            async move { if complete { Ok(printed) } else { Err(printed) } }
        })
        .await;
        (status.code(), printed)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.group.as_raw_nonzero().get().unsigned_abs()
    }

    /// `SIGKILL` to the process alone, and waits for its end.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("the process can be killed");
    }

    /// `SIGTERM`, and waits for the end; the exit code.
    pub(crate) async fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let status = tokio::time::timeout(LONGEST_STOP, self.child.wait()).await;
        status
            .unwrap_or_else(|_| panic!("it stops within its deadline:\n{}", self.output()))
            .expect("the process can be waited for")
            .code()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.group, signal).expect("the signal can be sent");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where nothing is left of the group.
        let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
    }
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

/// The `alyx` binary that was built beside the tests.
pub(crate) fn alyx() -> PathBuf {
    let own = std::env::current_exe().expect("the test knows its own path");
    // Tests lie in target/<profile>/deps, other programs in target/<profile>.
    let folders = own.ancestors().skip(1).take(2);
    let mut candidates = folders.map(|folder| folder.join("alyx"));
    candidates
        .find(|candidate| candidate.exists())
        .unwrap_or_else(|| {
            panic!(
                "no `alyx` beside {}: run `cargo build --workspace` first",
                own.display()
            )
        })
}

/// Pairs as a launch keeps them.
pub(crate) fn owned(env: &[(&str, &str)]) -> Vec<(String, String)> {
    env.iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Arguments as a launch keeps them.
pub(crate) fn words<S: AsRef<OsStr>>(args: &[S]) -> Vec<String> {
    args.iter()
        .map(|arg| arg.as_ref().to_string_lossy().into_owned())
        .collect()
}
