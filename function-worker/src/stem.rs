//! Processes of a runtime without a function in them yet.
//!
//! A stem has an empty environment, no code of the user's, and one end of a socket pair as its standard input. It
//! becomes an [`Instance`](crate::instance::Instance) of one version of one function and is never anything else.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use bytes::BytesMut;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::oneshot;

use crate::failure::StartError;
use crate::frame::{Frame, FrameType, decode};
use crate::interpreter::Interpreter;

/// Starts that may wait for the thread that makes them.
const STARTS: usize = 64;
/// What the runtime itself takes beside the function's limit, MiB: resident, and in writable memory at most.
pub(crate) const RUNTIME_MIB: u64 = 128;
const BACKSTOP_MIB: u64 = 512;

/// A process that waits for its function.
#[derive(Debug)]
pub(crate) struct Stem {
    pub(crate) child: Child,
    pub(crate) pid: Pid,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
    pub(crate) socket: UnixStream,
    pub(crate) received: BytesMut,
}

/// Starts processes on one thread that lives as long as this value: the kernel ends a child whose death signal is
/// set when the *thread* that made it ends, and the runtime's threads come and go.
#[derive(Debug)]
pub(crate) struct Spawner {
    starts: SyncSender<(Command, oneshot::Sender<std::io::Result<Child>>)>,
}

impl Spawner {
    /// Must be called inside a tokio runtime, which then reaps the children.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (starts, wanted) = sync_channel::<(Command, oneshot::Sender<std::io::Result<Child>>)>(STARTS);
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new()
            .name("function-spawner".to_owned())
            .spawn(move || {
                let _inside = runtime.enter();
                while let Ok((mut command, reply)) = wanted.recv() {
                    // Where nobody waits any more the child is dropped, and so killed.
                    let _ = reply.send(command.spawn());
                }
            })?;
        Ok(Self { starts })
    }

    async fn spawn(&self, command: Command) -> Result<Child, StartError> {
        let (reply, started) = oneshot::channel();
        self.starts
            .try_send((command, reply))
            .map_err(|_| StartError::process("too many starts at once"))?;
        started
            .await
            .map_err(StartError::process)?
            .map_err(StartError::process)
    }
}

/// Starts a process and waits until it says hello. `title` is what it is called in messages.
pub(crate) async fn start(
    spawner: &Spawner,
    mut command: Command,
    title: &str,
    within: Duration,
) -> Result<Stem, StartError> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(StartError::process)?;
    ours.set_nonblocking(true).map_err(StartError::process)?;
    theirs.set_nonblocking(true).map_err(StartError::process)?;
    let socket = UnixStream::from_std(ours).map_err(StartError::process)?;

    command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = spawner.spawn(command).await?;
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
        .ok_or_else(|| StartError::process("it ended at once"))?;
    limit(pid, Resource::Core, 0);
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| StartError::process("it has no output"))?;
    let stderr = child
        .stderr
        .take()
        .ok_or_else(|| StartError::process("it has no output"))?;
    let mut stem = Stem {
        child,
        pid,
        stdout,
        stderr,
        socket,
        received: BytesMut::with_capacity(64 << 10),
    };
    match tokio::time::timeout(within, stem.next_frame()).await {
        Ok(Ok(Some(frame))) if frame.kind == FrameType::Hello => Ok(stem),
        Ok(Ok(_)) => Err(StartError::Runtime(
            stem.last_words(&format!("{title} ended while it started")).await,
        )),
        Ok(Err(error)) => Err(StartError::process(error)),
        Err(_) => Err(StartError::Runtime(Arc::from(format!(
            "{title} did not start in time"
        )))),
    }
}

/// Runs `binary` with next to no environment, so that it dies with this process where the machine can see to that.
pub(crate) fn bare_command(interpreter: &Interpreter, binary: &Path) -> Command {
    let mut command = match interpreter.launcher {
        Some(launcher) => {
            let mut command = Command::new(launcher);
            command.args(["--pdeathsig", "KILL", "--"]).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    command.env_clear().env("TZ", "UTC").env("LANG", "C.UTF-8");
    command
}

/// An interpreter that will wait for its function, with that heap limit.
pub(crate) fn command(interpreter: &Interpreter, memory_mib: u64) -> Command {
    let mut command = bare_command(interpreter, &interpreter.binary);
    if let Some(prepare) = interpreter.recipe.prepare {
        prepare(&mut command, interpreter, memory_mib);
    }
    command.arg(&interpreter.entry);
    if let Some(folder) = interpreter.entry.parent() {
        command.current_dir(folder);
    }
    command
}

/// Bounds the memory that the process can write to, far above its limit: growth so fast that the regular watch
/// would come late ends here.
pub(crate) fn limit_memory(pid: Pid, memory_mib: u64) {
    limit(pid, Resource::Data, memory_mib.saturating_add(BACKSTOP_MIB) << 20);
}

fn limit(pid: Pid, resource: Resource, most: u64) {
    let wanted = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    if let Err(error) = prlimit(Some(pid), resource, wanted) {
        tracing::debug!(?resource, %error, "a limit could not be set on a function's process");
    }
}

impl Stem {
    /// The next frame; `None` where the process closed the socket.
    pub(crate) async fn next_frame(&mut self) -> std::io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = decode(&mut self.received).map_err(std::io::Error::other)? {
                return Ok(Some(frame));
            }
            if self.socket.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// What the process said on standard error before it ended; `otherwise` where it said nothing.
    pub(crate) async fn last_words(mut self, otherwise: &str) -> Arc<str> {
        const MOST: u64 = 8 << 10;
        const PATIENCE: Duration = Duration::from_millis(500);
        let _ = self.child.start_kill();
        let mut said = Vec::new();
        let mut stderr = self.stderr.take(MOST);
        let _ = tokio::time::timeout(PATIENCE, stderr.read_to_end(&mut said)).await;
        let said = String::from_utf8_lossy(&said);
        match said.trim() {
            "" => otherwise.into(),
            words => words.into(),
        }
    }
}
