//! The first process of the program's pid namespace, which becomes the program.

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::thread::UnshareFlags;

use crate::error::{During as _, Error};
use crate::grants::{self, Wall};
use crate::lockdown::{lock_down, unshare};
use crate::monitor::PROFILE;
use crate::profile::Profile;
use crate::{FAILED, files};

/// Ends only where the program cannot be started, or there is none.
pub(crate) fn run() -> Result<Infallible, Error> {
    #[expect(clippy::disallowed_methods, reason = "the monitor's word, and not a setting")]
    let told =
        std::env::var(PROFILE).map_err(|_| Error::Wrong("it is started by its monitor only".to_owned()))?;
    let profile: Profile = serde_json::from_str(&told).map_err(|error| Error::Wrong(error.to_string()))?;
    let error = match walled(&profile) {
        Ok(()) => become_program(&profile),
        Err(error) => error,
    };
    if profile.is_trial() {
        grants::tell(&error);
        std::process::exit(FAILED.into());
    }
    Err(error)
}

fn walled(profile: &Profile) -> Result<(), Error> {
    unshare(UnshareFlags::NEWNS).building(Wall::Namespaces, || "a mount namespace".to_owned())?;
    rustix::system::sethostname(b"function").building(Wall::Namespaces, || "a name of its own".to_owned())?;
    files::enter(profile)?;
    lock_down(profile)
}

/// Returns only where that fails.
pub(crate) fn become_program(profile: &Profile) -> Error {
    if profile.is_trial() {
        std::process::exit(0);
    }
    let error = Command::new(&profile.program)
        .args(&profile.args)
        .env_clear()
        .envs(&profile.env)
        .current_dir(&profile.cwd)
        .exec();
    let step = format!("starting {}", profile.program.display());
    match Err::<Infallible, _>(error).during(|| step) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}
