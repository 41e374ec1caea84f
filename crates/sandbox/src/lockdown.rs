//! Gives up everything that a program does not need, for good.

use std::fs;
use std::io;

use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Signal, Uid, getegid, geteuid, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::error::{During as _, Error};
use crate::grants::{Namespaces, Wall};
use crate::profile::Profile;
use crate::{landlock, syscalls};

/// `nobody`: the user that programs run as, here or in their own user namespace.
const NOBODY: u32 = 65_534;

/// Leaves this process with nothing but what `profile` says. It has no threads yet.
pub(crate) fn lock_down(profile: &Profile) -> Result<(), Error> {
    let grants = profile.grants;
    drop_bounds();
    if grants.uid {
        become_nobody().building(Wall::Uid, || "becoming `nobody`".to_owned())?;
    }
    if grants.user {
        enter_user(NOBODY).building(Wall::User, || "a user namespace of its own".to_owned())?;
        drop_bounds();
    }
    limit(profile).during(|| "setting limits".to_owned())?;
    drop_capabilities().during(|| "dropping capabilities".to_owned())?;
    set_no_new_privs(true).during(|| "giving up new privileges".to_owned())?;
    if grants.landlock {
        landlock::restrict(profile)?;
    }
    // Whatever changes who one is clears it, so it comes last.
    set_parent_process_death_signal(Some(Signal::KILL)).during(|| "tying it to its monitor".to_owned())?;
    if grants.syscalls {
        syscalls::restrict()?;
    }
    Ok(())
}

/// Enters new namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    #[expect(
        deprecated,
        reason = "only with FILES it could break what Rust assumes of descriptors, and nobody here shares those"
    )]
    Ok(rustix::thread::unshare(flags - UnshareFlags::FILES)?)
}

/// Enters a user namespace in which this user and group, and nobody else, exist, as `id`.
pub(crate) fn enter_user_with(flags: UnshareFlags, id: u32) -> io::Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    unshare(flags | UnshareFlags::NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{id} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{id} {gid} 1"))
}

fn enter_user(id: u32) -> io::Result<()> {
    enter_user_with(UnshareFlags::empty(), id)
}

fn become_nobody() -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    // Its own /proc/self would belong to root otherwise.
    Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?)
}

/// No program that is executed from here on can bring capabilities along. Refused to whoever has none to drop.
fn drop_bounds() {
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if remove_capability_from_bounding_set(one).is_err() {
            break;
        }
    }
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    let _ = set_capabilities_secure_bits(bits);
}

fn drop_capabilities() -> io::Result<()> {
    clear_ambient_capability_set()?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, none)?)
}

fn limit(profile: &Profile) -> io::Result<()> {
    let limits = profile.limits;
    // Counted by user, which is this program alone only in a user namespace.
    let counted = profile.grants.user || profile.grants.namespaces == Namespaces::OwnUser;
    let processes = if counted { limits.processes } else { u64::MAX };
    for (resource, most) in [
        (Resource::Core, 0),
        (Resource::Nofile, limits.files),
        (Resource::Nproc, processes),
        (Resource::Fsize, limits.tmp),
        (Resource::Memlock, 1 << 20),
        (Resource::Msgqueue, 0),
        (Resource::Sigpending, 1024),
        (Resource::Rtprio, 0),
        (Resource::Nice, 0),
    ] {
        let now = rustix::process::getrlimit(resource);
        let most = now.maximum.map_or(most, |hard| hard.min(most));
        let most = (most != u64::MAX).then_some(most);
        let wanted = Rlimit {
            current: most,
            maximum: most,
        };
        setrlimit(resource, wanted)?;
    }
    Ok(())
}
