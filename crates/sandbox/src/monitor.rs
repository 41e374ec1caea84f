//! The process that starts a program behind its walls and stays outside of them.

use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;

use crate::channel::{Channel, Order, Reply, say};
use crate::error::{During as _, Error};
use crate::files::Layout;
use crate::grants::{self, Namespaces, Wall};
use crate::inner::become_program;
use crate::lockdown::{enter_user_with, lock_down, unshare};
use crate::profile::Profile;
use crate::{FAILED, INNER};

/// Variable by which the inner process hears what to do: other users of the machine can read arguments.
pub(crate) const PROFILE: &str = "ALYX_SANDBOX";

/// Starts the program that the worker sends and ends as it ends.
pub(crate) fn run() -> Result<ExitCode, Error> {
    set_parent_process_death_signal(Some(Signal::KILL)).during(|| "tying it to the worker".to_owned())?;
    let mut channel = Channel::take()?;
    let (socket, profile) = channel.program()?;
    let result = match profile.grants.namespaces {
        Namespaces::None => exec_here(&channel, &socket, &profile),
        Namespaces::Privileged | Namespaces::OwnUser => serve(&mut channel, socket, &profile),
    };
    match result {
        Ok(status) => Ok(end_like(status)),
        Err(error) if profile.is_trial() => Ok(grants::tell(&error)),
        Err(error) => {
            // The worker also reads why on standard error.
            let _ = say(&channel.socket, &Reply::Failed(error.to_string()));
            Err(error)
        }
    }
}

/// Without namespaces this process itself becomes the program.
fn exec_here(channel: &Channel, socket: &OwnedFd, profile: &Profile) -> Result<ExitStatus, Error> {
    rustix::stdio::dup2_stdin(socket).during(|| "handing over the socket".to_owned())?;
    lock_down(profile)?;
    reachable(profile)?;
    let own = rustix::process::getpid().as_raw_nonzero().get();
    if !profile.is_trial() {
        say(&channel.socket, &Reply::Started(own))?;
    }
    Err(become_program(profile))
}

/// Whether the user that the program runs as comes to what it must read.
fn reachable(profile: &Profile) -> Result<(), Error> {
    for path in &profile.readable {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(error).building(Wall::Uid, || format!("reaching {} as `nobody`", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn serve(channel: &mut Channel, socket: OwnedFd, profile: &Profile) -> Result<ExitStatus, Error> {
    enter_namespaces(profile)?;
    let mut layout = Layout::make(profile)?;
    let told = serde_json::to_string(profile).map_err(|error| Error::Wrong(error.to_string()))?;
    let mut child = Command::new("/proc/self/exe")
        .arg0(INNER)
        .env_clear()
        .env(PROFILE, told)
        .stdin(Stdio::from(socket))
        .spawn()
        .building(Wall::Namespaces, || "starting the inner process".to_owned())?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Error::Wrong("the inner process has no number".to_owned()))?;
    if profile.is_trial() {
        return child.wait().during(|| "waiting for the trial".to_owned());
    }
    say(&channel.socket, &Reply::Started(pid.as_raw_nonzero().get()))?;
    follow(channel, &mut layout, &mut child, pid)
}

fn enter_namespaces(profile: &Profile) -> Result<(), Error> {
    let all = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    let entered = match profile.grants.namespaces {
        Namespaces::Privileged => unshare(all),
        // Its root, so that the inner process may mount.
        Namespaces::OwnUser => enter_user_with(all, 0),
        Namespaces::None => Ok(()),
    };
    entered.building(Wall::Namespaces, || "new namespaces".to_owned())?;
    if !profile.network {
        unshare(UnshareFlags::NEWNET).building(Wall::Network, || "a network namespace".to_owned())?;
    }
    Ok(())
}

/// Carries out the worker's orders until the program ends.
fn follow(
    channel: &mut Channel,
    layout: &mut Layout,
    child: &mut Child,
    pid: Pid,
) -> Result<ExitStatus, Error> {
    let ended = pidfd_open(pid, PidfdFlags::empty()).during(|| "watching the program".to_owned())?;
    let mut listening = true;
    loop {
        let mut watched = vec![PollFd::new(&ended, PollFlags::IN)];
        if listening {
            watched.push(PollFd::new(&channel.socket, PollFlags::IN));
        }
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result.during(|| "watching the program".to_owned())?,
        };
        let ready: Vec<bool> = watched.iter().map(|one| !one.revents().is_empty()).collect();
        if ready[0] {
            return child.wait().during(|| "waiting for the program".to_owned());
        }
        if ready.get(1) == Some(&true) {
            match channel.line::<Order>()? {
                Some(Order::Show(paths)) => {
                    let reply = match layout.show(&paths) {
                        Ok(()) => Reply::Done,
                        Err(error) => Reply::Failed(error.to_string()),
                    };
                    say(&channel.socket, &reply)?;
                }
                None => listening = false,
            }
        }
    }
}

/// Ends this process as the program has ended.
fn end_like(status: ExitStatus) -> ExitCode {
    if let Some(signal) = status.signal().and_then(Signal::from_named_raw) {
        let own = rustix::process::getpid();
        // No core of the monitor; it keeps no handlers, so the signal ends it.
        let _ = rustix::process::setrlimit(
            rustix::process::Resource::Core,
            rustix::process::Rlimit {
                current: Some(0),
                maximum: Some(0),
            },
        );
        let _ = kill_process(own, signal);
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(FAILED))
}
