//! What this machine grants, found out by building everything once and leaving out what is refused.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::channel::send_program;
use crate::error::{During as _, Error, Refusal};
use crate::profile::{Limits, Profile};
use crate::{FAILED, MONITOR};

/// More refusals than there are walls.
const MOST_TRIALS: usize = 12;

/// A part of a sandbox that a machine may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wall {
    /// Mount, pid, IPC and UTS namespaces: files, processes and shared memory of its own.
    Namespaces,
    /// A network namespace.
    Network,
    /// `/proc` of its own processes.
    Proc,
    /// A user namespace of its own, in which its processes are counted.
    User,
    /// A user other than root.
    Uid,
    /// A filter of system calls.
    Syscalls,
    /// Landlock, where there are no namespaces.
    Landlock,
    /// A bound on the memory of all its processes together.
    Memory,
    /// A bound on the number of its processes.
    Processes,
}

/// How namespaces are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespaces {
    /// By privilege.
    Privileged,
    /// Inside a user namespace.
    OwnUser,
    /// Not at all.
    None,
}

/// What is asked of the kernel for a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// How namespaces are had.
    pub namespaces: Namespaces,
    /// Whether there can be one for the network.
    pub network: bool,
    /// Whether `/proc` can be mounted.
    pub proc: bool,
    /// Whether the program gets a user namespace of its own.
    pub user: bool,
    /// Whether it runs as `nobody`, because the server is root.
    pub uid: bool,
    /// Whether its system calls are filtered.
    pub syscalls: bool,
    /// Whether Landlock keeps it from files. Only without namespaces.
    pub landlock: bool,
}

impl Grants {
    /// Everything, as this process can have it.
    fn everything() -> Self {
        let root = rustix::process::geteuid().is_root();
        Self {
            namespaces: if root {
                Namespaces::Privileged
            } else {
                Namespaces::OwnUser
            },
            network: true,
            proc: true,
            user: true,
            uid: root,
            syscalls: true,
            landlock: false,
        }
    }

    /// Finds out what this machine grants to programs that `launcher` starts and that read `readable`, with the reasons
    /// for what it does not. Takes some 10 ms; blocks.
    ///
    /// # Errors
    /// Where `launcher` cannot be started, or something fails that no wall can be left out for.
    pub fn probe(
        launcher: &Path,
        stage: &Path,
        readable: &[PathBuf],
    ) -> Result<(Self, BTreeMap<Wall, String>), Error> {
        let mut grants = Self::everything();
        let mut refused = BTreeMap::new();
        for _ in 0..MOST_TRIALS {
            let Some(refusal) = grants.trial(launcher, stage, readable)? else {
                return Ok((grants, refused));
            };
            let wall = refusal
                .wall
                .filter(|wall| grants.leave_out(*wall))
                .ok_or_else(|| Error::Wrong(refusal.reason.clone()))?;
            refused.insert(wall, refusal.reason);
        }
        Err(Error::Wrong("the machine refuses everything".to_owned()))
    }

    /// Does without; `false` where that leads nowhere.
    fn leave_out(&mut self, wall: Wall) -> bool {
        let had = *self;
        match wall {
            Wall::Namespaces => match self.namespaces {
                Namespaces::Privileged => {
                    self.namespaces = Namespaces::OwnUser;
                    // To whoever enters a user namespace, others' ids mean nothing.
                    self.uid = false;
                }
                Namespaces::OwnUser => {
                    let kept = Self::everything();
                    self.namespaces = Namespaces::None;
                    self.network = false;
                    self.uid = kept.uid;
                    self.landlock = true;
                }
                Namespaces::None => {}
            },
            Wall::Network => self.network = false,
            Wall::Proc => {
                self.proc = false;
                // It is entered through `/proc`.
                self.user = false;
            }
            Wall::User => self.user = false,
            Wall::Uid => self.uid = false,
            Wall::Syscalls => self.syscalls = false,
            Wall::Landlock => self.landlock = false,
            Wall::Memory | Wall::Processes => {}
        }
        *self != had
    }

    /// Builds it all around nothing; what was refused.
    fn trial(self, launcher: &Path, stage: &Path, readable: &[PathBuf]) -> Result<Option<Refusal>, Error> {
        let profile = Profile {
            program: PathBuf::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: PathBuf::from("/"),
            grants: self,
            network: !self.network,
            stage: stage.to_owned(),
            readable: readable.to_vec(),
            scratch: None,
            limits: Limits::default(),
        };
        let (ours, theirs) = UnixStream::pair().during(|| "a pair of sockets".to_owned())?;
        let monitor = Command::new(launcher)
            .arg0(MONITOR)
            .env_clear()
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .during(|| format!("starting {}", launcher.display()))?;
        send_program(&ours, ours.as_fd(), &profile)?;
        let done = monitor
            .wait_with_output()
            .during(|| "waiting for the trial".to_owned())?;
        if done.status.success() {
            return Ok(None);
        }
        let told = done
            .stdout
            .split(|byte| *byte == b'\n')
            .find(|line| !line.is_empty());
        let refusal = told.and_then(|line| serde_json::from_slice(line).ok());
        Ok(Some(refusal.unwrap_or_else(|| Refusal {
            wall: None,
            reason: format!("{} cannot start sandboxes ({})", launcher.display(), done.status),
        })))
    }
}

/// Tells a trial what was refused.
pub(crate) fn tell(error: &Error) -> std::process::ExitCode {
    if let Ok(line) = serde_json::to_vec(&error.refusal()) {
        let mut out = std::io::stdout();
        // Who does not read it takes the exit code for an answer.
        let _ = out.write_all(&line).and_then(|()| out.write_all(b"\n"));
    }
    std::process::ExitCode::from(FAILED)
}

impl Profile {
    /// Whether it is there only to find out what the machine grants.
    pub(crate) fn is_trial(&self) -> bool {
        self.program.as_os_str().is_empty()
    }
}
