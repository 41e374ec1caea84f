//! Starts a program behind walls: with its own view of processes and files, no privileges, few system calls.
//!
//! A program is started by a *monitor*: this same binary under another name ([`MONITOR`]), so that nothing happens
//! between `fork` and `exec` of a process with many threads. The monitor enters new namespaces, lays out the files that
//! the program may see, and starts the *inner* process, the first of its pid namespace, which makes that layout its
//! root, gives up every privilege and becomes the program. The monitor stays outside: it can show further files later,
//! and it ends as the program ended. Where namespaces are refused there is one process only, which Landlock keeps from
//! the files.
//!
//! What a machine grants is found out once, by [`Grants::probe`]. A program is then started behind all of that or not at
//! all: no wall is left out in silence.
//!
//! **Invariants.** The program never runs with a capability, and cannot gain one. No descriptor but its socket, its
//! standard output and its standard error reaches it. When the monitor ends the program ends.

mod cgroup;
mod channel;
mod error;
mod files;
mod grants;
mod inner;
mod landlock;
mod lockdown;
mod monitor;
mod profile;
mod syscalls;

use std::process::ExitCode;

pub use cgroup::{CgroupLimits, Cgroups, Member};
pub use channel::{Order, Reply, send_program};
pub use error::Error;
pub use grants::{Grants, Namespaces, Wall};
pub use profile::{Limits, Profile};

/// Name (`argv[0]`) under which this binary is a monitor.
pub const MONITOR: &str = "alyx-sandbox";
/// Name under which it is the process that becomes the program.
const INNER: &str = "alyx-sandbox-inner";
/// What a monitor exits with where it could not start the program.
const FAILED: u8 = 125;

/// Carries out what the name of this process says, where it is one of this crate's: the very first thing that `main`
/// does, before there are threads. `None` for any other name.
pub fn entered() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    let result = match name.to_str()? {
        MONITOR => monitor::run(),
        INNER => inner::run().map(|never| match never {}),
        _ => return None,
    };
    Some(result.unwrap_or_else(|error| {
        eprintln!("sandbox: {error}");
        ExitCode::from(FAILED)
    }))
}
