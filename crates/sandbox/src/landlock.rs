//! Landlock: keeps a program that shares the machine's files and processes with the server from all but some of them.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope,
};

use crate::error::{During as _, Error};
use crate::grants::Wall;
use crate::profile::Profile;

/// Files that programs expect to be there whatever they do.
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];
/// The newest version that this asks for; older kernels do what they can.
const NEWEST: ABI = ABI::V6;

/// Keeps this process and all that come of it to the files of `profile`.
pub(crate) fn restrict(profile: &Profile) -> Result<(), Error> {
    apply(profile)
        .map_err(std::io::Error::other)
        .and_then(|status| match status {
            RulesetStatus::NotEnforced => Err(std::io::Error::other("the kernel has none")),
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        })
        .building(Wall::Landlock, || "Landlock".to_owned())
}

fn apply(profile: &Profile) -> Result<RulesetStatus, landlock::RulesetError> {
    let everything = AccessFs::from_all(NEWEST);
    let read = AccessFs::from_read(NEWEST);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(everything)?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    let own = Path::new("/proc").join(std::process::id().to_string());
    let readable = profile.readable.iter().map(|path| (path.as_path(), read));
    let devices = DEVICES.iter().map(|path| (Path::new(path), everything));
    let own = [(own.as_path(), read)];
    let scratch = profile.scratch.iter().map(|path| (path.as_path(), everything));
    for (path, access) in readable.chain(devices).chain(own).chain(scratch) {
        // What is not there needs no rule.
        if let Ok(opened) = PathFd::new(path) {
            let access = if path.is_dir() {
                access
            } else {
                access & AccessFs::from_file(NEWEST)
            };
            rules = rules.add_rule(PathBeneath::new(opened, access))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset)
}
