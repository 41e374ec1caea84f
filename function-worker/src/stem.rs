//! Processes of a runtime without a function in them yet.
//!
//! A stem has an empty environment, no code of the user's, and one end of a socket pair as its standard input. It
//! becomes an [`Instance`](crate::instance::Instance) of one version of one function and is never anything else.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use alyx_sandbox::{Member, Order, Reply};
use bytes::BytesMut;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::oneshot;

use crate::failure::StartError;
use crate::frame::{Frame, FrameType, decode};
use crate::interpreter::Interpreter;
use crate::sandbox::{Process, Scratch, Walls};

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
    walls: Option<Around>,
}

/// What stands around a process, and goes with it.
#[derive(Debug)]
pub(crate) struct Around {
    /// To the monitor; `None` where there is none, and nothing further can be shown.
    monitor: Option<BufReader<UnixStream>>,
    readable: Vec<PathBuf>,
    kept: Kept,
}

/// What is removed once a process has ended.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    _group: Option<Member>,
    _scratch: Option<Scratch>,
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

/// Starts a process, behind `walls` where there are any, and waits until it says hello.
pub(crate) async fn start(
    spawner: &Spawner,
    process: Process,
    walls: Option<&Walls>,
    within: Duration,
) -> Result<Stem, StartError> {
    let title = process.title;
    let started = async {
        let mut stem = match walls {
            Some(walls) => start_walled(spawner, &process, walls).await?,
            None => start_bare(spawner, process).await?,
        };
        limit(stem.pid, Resource::Core, 0);
        match stem.next_frame().await {
            Ok(Some(frame)) if frame.kind == FrameType::Hello => Ok(stem),
            Ok(_) => Err(StartError::Runtime(
                stem.last_words(&format!("{title} ended while it started")).await,
            )),
            Err(error) => Err(StartError::process(error)),
        }
    };
    tokio::time::timeout(within, started).await.unwrap_or_else(|_| {
        Err(StartError::Runtime(Arc::from(format!(
            "{title} did not start in time"
        ))))
    })
}

fn sockets() -> std::io::Result<(UnixStream, BlockingStream)> {
    let (ours, theirs) = BlockingStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs))
}

async fn start_bare(spawner: &Spawner, process: Process) -> Result<Stem, StartError> {
    let (socket, theirs) = sockets().map_err(StartError::process)?;
    let mut command = match process.tie {
        Some(tie) => tied(tie, &process.command),
        None => process.command,
    };
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    let child = spawn(spawner, command).await?;
    Stem::new(child, None, socket, None)
}

async fn start_walled(spawner: &Spawner, process: &Process, walls: &Walls) -> Result<Stem, StartError> {
    let (profile, scratch) = walls.profile(process).map_err(StartError::process)?;
    let (socket, theirs) = sockets().map_err(StartError::process)?;
    let (ours, monitors) = BlockingStream::pair().map_err(StartError::process)?;
    let mut command = Command::new(walls.launcher());
    command
        .arg0(alyx_sandbox::MONITOR)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(monitors)));
    let child = spawn(spawner, command).await?;
    let group = walls.member(process.memory_mib).map_err(StartError::process)?;
    // It starts nothing before it has been told to, so nothing escapes.
    let number = child
        .id()
        .ok_or_else(|| StartError::process("it ended at once"))?;
    group.add(number).map_err(StartError::process)?;
    alyx_sandbox::send_program(&ours, theirs.as_fd(), &profile).map_err(StartError::process)?;
    drop(theirs);
    ours.set_nonblocking(true).map_err(StartError::process)?;
    let mut monitor = BufReader::new(UnixStream::from_std(ours).map_err(StartError::process)?);
    let pid = match reply(&mut monitor).await? {
        Reply::Started(pid) => Pid::from_raw(pid),
        Reply::Failed(words) => return Err(StartError::process(words)),
        Reply::Done => None,
    };
    let around = Around {
        monitor: walls.can_show().then_some(monitor),
        readable: profile.readable,
        kept: Kept {
            _group: Some(group),
            _scratch: scratch,
        },
    };
    Stem::new(child, pid, socket, Some(around))
}

async fn reply(monitor: &mut BufReader<UnixStream>) -> Result<Reply, StartError> {
    /// Longest reply in bytes.
    const MOST: u64 = 64 << 10;
    let mut line = String::new();
    let read = monitor.take(MOST).read_line(&mut line).await;
    match read.map_err(StartError::process)? {
        0 => Err(StartError::process("its monitor has ended")),
        _ => serde_json::from_str(&line).map_err(StartError::process),
    }
}

async fn spawn(spawner: &Spawner, mut command: Command) -> Result<Child, StartError> {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    spawner.spawn(command).await
}

/// The same command, started by `tie`.
fn tied(tie: &str, command: &Command) -> Command {
    let plain = command.as_std();
    let mut command = Command::new(tie);
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(plain.get_program());
    command.args(plain.get_args()).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = plain.get_current_dir() {
        command.current_dir(folder);
    }
    command
}

/// Runs `binary` with next to no environment.
pub(crate) fn bare_command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().env("TZ", "UTC").env("LANG", "C.UTF-8");
    command
}

/// An interpreter that will wait for its function, with that heap limit.
pub(crate) fn interpreted(interpreter: &Interpreter, memory_mib: u64) -> Process {
    let mut command = bare_command(&interpreter.binary);
    if let Some(prepare) = interpreter.recipe.prepare {
        prepare(&mut command, interpreter, memory_mib);
    }
    command.arg(&interpreter.entry);
    let mut readable = interpreter.readable.clone();
    if let Some(folder) = interpreter.entry.parent() {
        command.current_dir(folder);
        readable.push(folder.to_owned());
    }
    Process {
        command,
        tie: interpreter.launcher,
        readable,
        memory_mib,
        title: interpreter.recipe.title,
    }
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
    /// `inner` is the process itself where `child` only watches over it.
    fn new(
        mut child: Child,
        inner: Option<Pid>,
        socket: UnixStream,
        walls: Option<Around>,
    ) -> Result<Self, StartError> {
        let own = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = inner
            .or_else(|| own.and_then(Pid::from_raw))
            .ok_or_else(|| StartError::process("it ended at once"))?;
        let silent = || StartError::process("it has no output");
        let stdout = child.stdout.take().ok_or_else(silent)?;
        let stderr = child.stderr.take().ok_or_else(silent)?;
        Ok(Self {
            child,
            pid,
            stdout,
            stderr,
            socket,
            received: BytesMut::with_capacity(64 << 10),
            walls,
        })
    }

    /// Lets the process read these, too, before it is told to; once, because a process has one function.
    pub(crate) async fn show(&mut self, paths: Vec<PathBuf>) -> Result<(), StartError> {
        let Some(walls) = &mut self.walls else {
            return Ok(());
        };
        let hidden = |path: &PathBuf| !walls.readable.iter().any(|open| path.starts_with(open));
        let Some(mut monitor) = walls.monitor.take() else {
            return match paths.iter().find(|path| hidden(path)) {
                Some(path) => Err(StartError::process(format!(
                    "{} is not among what it may read",
                    path.display()
                ))),
                None => Ok(()),
            };
        };
        let mut order = serde_json::to_vec(&Order::Show(paths)).map_err(StartError::process)?;
        order.push(b'\n');
        monitor.write_all(&order).await.map_err(StartError::process)?;
        match reply(&mut monitor).await? {
            Reply::Failed(words) => Err(StartError::process(words)),
            Reply::Done | Reply::Started(_) => Ok(()),
        }
    }

    /// What has to be kept until the process has ended.
    pub(crate) fn take_kept(&mut self) -> Kept {
        let walls = self.walls.take();
        walls.map(|walls| walls.kept).unwrap_or_default()
    }

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
