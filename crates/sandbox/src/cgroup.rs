//! Bounds on all processes of one sandbox together, where this process may make control groups: version 2 where it has
//! the controllers, version 1 otherwise.
//!
//! All groups of one server are below one folder named after it. What a server that was killed left behind the next
//! one removes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Folder of a worker's groups, followed by its process id and its label.
const FOLDER: &str = "alyx-functions-";
/// Where the kernel tells of this process' own groups, and of where they are mounted.
const OWN: &str = "/proc/self/cgroup";
const MOUNTS: &str = "/proc/self/mountinfo";

/// The groups of one server.
#[derive(Debug)]
pub struct Cgroups {
    memory: Result<Folder, String>,
    processes: Result<Folder, String>,
    made: AtomicU64,
    leftovers: Leftovers,
}

/// Groups whose last process was still ending when they were to go.
type Leftovers = Arc<Mutex<Vec<PathBuf>>>;

/// Where groups are made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Folder {
    path: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// What the processes of one sandbox may use together.
#[derive(Debug, Clone, Copy)]
pub struct CgroupLimits {
    /// Bytes of memory, `/tmp` included.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u64,
}

/// The group of one sandbox; removed when dropped, once its processes have ended.
#[derive(Debug)]
pub struct Member {
    folders: Vec<PathBuf>,
    leftovers: Leftovers,
}

impl Cgroups {
    /// Finds where this process may make groups, and removes what servers that are gone have left there. `label` tells
    /// its groups from others of this process.
    pub fn find(label: &str) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::from_texts(&read(OWN), &read(MOUNTS), label)
    }

    fn from_texts(own: &str, mounts: &str, label: &str) -> Self {
        let found = |controller: &str| {
            let mut refusal = format!("this machine has no control groups for `{controller}`");
            for place in places(own, mounts, controller) {
                match open(&place, controller, label) {
                    Ok(folder) => return Ok(folder),
                    Err(error) => refusal = format!("{}: {error}", place.path.display()),
                }
            }
            Err(refusal)
        };
        Self {
            memory: found("memory"),
            processes: found("pids"),
            made: AtomicU64::new(0),
            leftovers: Leftovers::default(),
        }
    }

    /// Why memory cannot be bounded; `None` where it can.
    pub fn memory_refusal(&self) -> Option<&str> {
        self.memory.as_ref().err().map(String::as_str)
    }

    /// Why the number of processes cannot be bounded; `None` where it can.
    pub fn processes_refusal(&self) -> Option<&str> {
        self.processes.as_ref().err().map(String::as_str)
    }

    /// A new group with these limits, as far as there can be.
    ///
    /// # Errors
    /// Where a group that the machine granted before is refused now.
    pub fn member(&self, limits: CgroupLimits) -> io::Result<Member> {
        held(&self.leftovers).retain(|folder| fs::remove_dir(folder).is_err() && folder.exists());
        let name = self.made.fetch_add(1, Ordering::Relaxed).to_string();
        let mut member = Member {
            folders: Vec::new(),
            leftovers: Arc::clone(&self.leftovers),
        };
        for folder in [&self.memory, &self.processes].into_iter().flatten() {
            let path = folder.path.join(&name);
            if !member.folders.contains(&path) {
                fs::create_dir(&path)?;
                member.folders.push(path);
            }
        }
        if let Ok(folder) = &self.memory {
            let bytes = limits.memory.to_string();
            let at = folder.path.join(&name);
            match folder.version {
                Version::One => fs::write(at.join("memory.limit_in_bytes"), bytes)?,
                Version::Two => {
                    fs::write(at.join("memory.max"), bytes)?;
                    fs::write(at.join("memory.oom.group"), "1")?;
                    // A kernel without swap has no such file.
                    let _ = fs::write(at.join("memory.swap.max"), "0");
                }
            }
        }
        if let Ok(folder) = &self.processes {
            fs::write(
                folder.path.join(&name).join("pids.max"),
                limits.processes.to_string(),
            )?;
        }
        Ok(member)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for folder in [&self.memory, &self.processes].into_iter().flatten() {
            remove(&folder.path);
        }
    }
}

impl Member {
    /// Puts a process and all that it will start into the group.
    ///
    /// # Errors
    /// Where the process has ended.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        for folder in &self.folders {
            fs::write(folder.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        for folder in &self.folders {
            if fs::remove_dir(folder).is_err() {
                held(&self.leftovers).push(folder.clone());
            }
        }
    }
}

fn held(leftovers: &Leftovers) -> MutexGuard<'_, Vec<PathBuf>> {
    // A list of paths is whole whatever happened to who held it.
    leftovers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where this process' own group of that controller is, best first.
fn places(own: &str, mounts: &str, controller: &str) -> Vec<Folder> {
    let mut found = Vec::new();
    for mount in mounts.lines().filter_map(Mount::parse) {
        let version = match mount.kind {
            "cgroup2" => Version::Two,
            "cgroup" if mount.options.split(',').any(|option| option == controller) => Version::One,
            _ => continue,
        };
        let group = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let ours = match version {
                Version::Two => number == "0" && controllers.is_empty(),
                Version::One => controllers.split(',').any(|one| one == controller),
            };
            ours.then_some(path)
        });
        if let Some(group) = group {
            let inside = group
                .strip_prefix(mount.root.trim_end_matches('/'))
                .unwrap_or(group);
            found.push(Folder {
                path: Path::new(mount.point).join(inside.trim_start_matches('/')),
                version,
            });
        }
    }
    found.sort_by_key(|folder| folder.version == Version::One);
    found
}

/// A line of `mountinfo`.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (place, about) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let mut about = about.split(' ');
        Some(Self {
            root: place.next()?,
            point: place.next()?,
            kind: about.next()?,
            options: about.nth(1)?,
        })
    }
}

/// The server's folder below its own group, made where that is allowed.
fn open(own: &Folder, controller: &str, label: &str) -> io::Result<Folder> {
    if own.version == Version::Two {
        delegate(&own.path, controller)?;
    }
    clean(&own.path);
    let path = own.path.join(format!("{FOLDER}{}-{label}", std::process::id()));
    match fs::create_dir(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if own.version == Version::Two {
        fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"))?;
    }
    Ok(Folder {
        path,
        version: own.version,
    })
}

/// Lets groups below `own` have the controller.
fn delegate(own: &Path, controller: &str) -> io::Result<()> {
    let has = |file: &str| {
        fs::read_to_string(own.join(file)).map(|told| told.split_whitespace().any(|one| one == controller))
    };
    if !has("cgroup.controllers")? {
        return Err(io::Error::other(format!(
            "the controller `{controller}` is not delegated here"
        )));
    }
    if has("cgroup.subtree_control")? {
        return Ok(());
    }
    fs::write(own.join("cgroup.subtree_control"), format!("+{controller}"))
}

/// Removes the folders of servers that are gone.
fn clean(own: &Path) {
    let Ok(entries) = fs::read_dir(own) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let gone = name
            .to_str()
            .and_then(|name| name.strip_prefix(FOLDER))
            .and_then(|rest| rest.split('-').next())
            .is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if gone {
            remove(&entry.path());
        }
    }
}

fn remove(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| entry.path().is_dir()) {
        let _ = fs::remove_dir(entry.path());
    }
    // Where one of its groups still has a process, the next server removes it.
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS_OF_BOTH: &str = "\
25 30 0:22 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755
31 25 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw
33 25 0:29 / /sys/fs/cgroup/memory rw shared:12 - cgroup cgroup rw,memory
34 25 0:30 /box /sys/fs/cgroup/pids rw shared:13 - cgroup cgroup rw,pids
";
    const OWN_OF_BOTH: &str = "8:pids:/box/a\n4:memory:/a/b\n0::/c\n";

    #[test]
    fn groups_are_looked_for_where_this_process_is() {
        let check = |controller: &str, expected: &[(&str, Version)]| {
            let found = places(OWN_OF_BOTH, MOUNTS_OF_BOTH, controller);
            let found: Vec<_> = found
                .iter()
                .map(|one| (one.path.to_str().expect("text"), one.version))
                .collect();
            assert_eq!(found, expected, "{controller}");
        };
        let unified = ("/sys/fs/cgroup/unified/c", Version::Two);
        check("memory", &[unified, ("/sys/fs/cgroup/memory/a/b", Version::One)]);
        check("pids", &[unified, ("/sys/fs/cgroup/pids/a", Version::One)]);
        check("cpu", &[unified]);
    }

    #[test]
    fn version_two_is_used_where_its_controllers_are_delegated() {
        let dir = tempfile::tempdir().expect("a folder");
        let own = dir.path().join("me");
        fs::create_dir(&own).expect("made");
        fs::write(own.join("cgroup.controllers"), "cpu memory pids\n").expect("written");
        fs::write(own.join("cgroup.subtree_control"), "memory\n").expect("written");
        let stale = own.join(format!("{FOLDER}4194999-x/0"));
        fs::create_dir_all(&stale).expect("made");
        let mounts = format!("31 25 0:27 / {} rw - cgroup2 cgroup2 rw\n", dir.path().display());
        let groups = Cgroups::from_texts("0::/me\n", &mounts, "x");
        assert_eq!(
            (groups.memory_refusal(), groups.processes_refusal()),
            (None, None)
        );
        assert_eq!(
            fs::read_to_string(own.join("cgroup.subtree_control")).expect("there"),
            "+pids",
            "memory is delegated already"
        );
        assert!(!stale.exists(), "a server that is gone leaves nothing");
        let member = groups
            .member(CgroupLimits {
                memory: 4096,
                processes: 7,
            })
            .expect("made");
        let at = own.join(format!("{FOLDER}{}-x/0", std::process::id()));
        let told = |file: &str| fs::read_to_string(at.join(file)).expect(file);
        assert_eq!(
            (told("memory.max"), told("pids.max")),
            ("4096".into(), "7".into())
        );
        assert_eq!(told("memory.oom.group"), "1");
        member.add(5).expect("added");
        assert_eq!(told("cgroup.procs"), "5");
    }

    #[test]
    fn what_is_missing_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("cgroup.controllers"), "cpu\n").expect("written");
        let mounts = format!("31 25 0:27 / {} rw - cgroup2 cgroup2 rw\n", dir.path().display());
        let groups = Cgroups::from_texts("0::/\n", &mounts, "x");
        let told = groups.memory_refusal().expect("refused");
        assert!(told.contains("`memory` is not delegated"), "{told}");
        let told = Cgroups::from_texts("", "", "x")
            .processes_refusal()
            .expect("refused")
            .to_owned();
        assert!(told.contains("no control groups for `pids`"), "{told}");
    }
}
