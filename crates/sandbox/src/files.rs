//! The files that a program sees: an empty root in memory, over which what it may read is laid at its own place.
//!
//! The layout is made in the monitor's mount namespace and shared with that of the program, so that what the monitor
//! lays over it later appears there too; the program's own copy is read-only and hands nothing back.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};

use crate::error::{During as _, Error};
use crate::grants::Wall;
use crate::profile::Profile;

/// Devices that are of no use for anything but what they are there for.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("shm", "/tmp"),
];
/// Who there is; libraries ask for names.
const PASSWD: &str = "root:x:0:0:root:/:/none\nnobody:x:65534:65534:function:/tmp:/none\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\n";

/// The layout, and what already lies in it.
pub(crate) struct Layout {
    stage: PathBuf,
    shown: Vec<PathBuf>,
}

impl Layout {
    /// Lays out the root of `profile` over its stage. This process must be in a mount namespace of its own.
    pub(crate) fn make(profile: &Profile) -> Result<Self, Error> {
        let stage = profile.stage.clone();
        let quiet = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", quiet).building(Wall::Namespaces, || "keeping mounts to itself".to_owned())?;
        let safe = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", &stage, "tmpfs", safe, c"mode=0755,size=1m,nr_inodes=8k")
            .building(Wall::Namespaces, || format!("mounting over {}", stage.display()))?;
        mount_change(&stage, MountPropagationFlags::SHARED)
            .building(Wall::Namespaces, || "sharing the layout".to_owned())?;
        let mut layout = Self {
            stage,
            shown: Vec::new(),
        };
        layout
            .basics(profile)
            .building(Wall::Namespaces, || "laying out the root".to_owned())?;
        layout.show(&profile.readable)?;
        Ok(layout)
    }

    fn basics(&self, profile: &Profile) -> io::Result<()> {
        let at = |path: &str| self.stage.join(path);
        for folder in ["dev", "etc", "proc", "tmp"] {
            fs::create_dir(at(folder))?;
        }
        fs::write(at("etc/passwd"), PASSWD)?;
        fs::write(at("etc/group"), GROUP)?;
        for device in DEVICES {
            let (source, target) = (Path::new("/dev").join(device), at("dev").join(device));
            fs::File::create(&target)?;
            mount_bind_recursive(&source, &target)?;
        }
        for (name, target) in LINKS {
            symlink(target, at("dev").join(name))?;
        }
        let inner = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let size = format!("mode=1777,size={},nr_inodes=16k", profile.limits.tmp);
        let size = std::ffi::CString::new(size).map_err(io::Error::other)?;
        mount("tmpfs", at("tmp"), "tmpfs", inner, size.as_c_str())?;
        Ok(())
    }

    /// Lays these out for reading, each at its own path; those that are not there are left out.
    pub(crate) fn show(&mut self, paths: &[PathBuf]) -> Result<(), Error> {
        for path in paths {
            self.show_one(path)
                .during(|| format!("showing {}", path.display()))?;
        }
        Ok(())
    }

    fn show_one(&mut self, path: &Path) -> io::Result<()> {
        if self.shown.iter().any(|shown| path.starts_with(shown)) {
            return Ok(());
        }
        let Ok(inside) = path.strip_prefix("/") else {
            return Err(io::Error::other("it is not an absolute path"));
        };
        let target = self.stage.join(inside);
        // `/lib` is a link to `usr/lib` on most systems, and programs know it by both names.
        let link = fs::read_link(path).ok().filter(|to| to.is_relative());
        if let Some(to) = link
            && path.parent() == Some(Path::new("/"))
        {
            return match symlink(to, &target) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            };
        }
        let source = match fs::canonicalize(path) {
            Ok(source) => source,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if source.is_dir() {
            fs::create_dir_all(&target)?;
        } else {
            fs::create_dir_all(target.parent().unwrap_or(&self.stage))?;
            fs::OpenOptions::new().create(true).append(true).open(&target)?;
        }
        mount_bind_recursive(&source, &target)?;
        read_only(&target)?;
        self.shown.push(path.to_owned());
        Ok(())
    }
}

/// Makes one mount read-only, and keeps what else is said of it: in a user namespace nothing of that may be lifted.
fn read_only(target: &Path) -> io::Result<()> {
    let has = statvfs(target)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    for (told, flag) in [
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if has.contains(told) {
            flags |= flag;
        }
    }
    Ok(mount_remount(target, flags, c"")?)
}

/// Makes the layout this process' root, and all that it was before unreachable. This process must be the first of the
/// program's pid namespace.
pub(crate) fn enter(profile: &Profile) -> Result<(), Error> {
    let stage = &profile.stage;
    let follow = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", follow).building(Wall::Namespaces, || "following the monitor's mounts".to_owned())?;
    if profile.grants.proc {
        let inner = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("proc", stage.join("proc"), "proc", inner, None)
            .building(Wall::Proc, || "mounting /proc".to_owned())?;
    }
    read_only(stage).building(Wall::Namespaces, || "making the root read-only".to_owned())?;
    let enter = || {
        std::env::set_current_dir(stage)?;
        rustix::process::pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        std::env::set_current_dir("/")
    };
    enter().building(Wall::Namespaces, || "changing the root".to_owned())
}
