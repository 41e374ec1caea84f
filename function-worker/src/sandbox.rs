//! The walls around every process of a function: what the machine grants, found out once, and what is asked of it for
//! each process. The walls themselves are built by `alyx_sandbox`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result};
use alyx_sandbox::{CgroupLimits, Cgroups, Grants, Limits, Member, Namespaces, Profile, Wall};
use alyx_service::state::Function;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::failure::StartError;
use crate::options::{SandboxMode, SandboxOptions};
use crate::stem::RUNTIME_MIB;

/// Empty folder below that of the runtimes, over which every process lays out its own root.
const STAGE: &str = "stage";
/// Folder of the folders that processes without namespaces may write to.
const SCRATCH: &str = "scratch";
/// What every program may read: names, certificates, time zones.
const COMMON: [&str; 18] = [
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
    "/usr/share/ca-certificates",
    "/usr/share/zoneinfo",
];

/// What becomes of the wish for walls.
#[derive(Debug)]
pub(crate) struct Sandbox {
    options: SandboxOptions,
    runtime_dir: PathBuf,
    walls: OnceCell<std::result::Result<Option<Arc<Walls>>, Arc<str>>>,
}

/// What the machine grants.
#[derive(Debug)]
pub(crate) struct Walls {
    grants: Grants,
    cgroups: Cgroups,
    launcher: PathBuf,
    stage: PathBuf,
    scratch: PathBuf,
    strict: bool,
    missing: Vec<Wall>,
}

/// What a process is to be: its command, and what it may read and use.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) command: Command,
    /// A program that starts another which then ends with this one, for processes without walls.
    pub(crate) tie: Option<&'static str>,
    /// Files and folders beside those that all may read.
    pub(crate) readable: Vec<PathBuf>,
    /// Its function's limit in MiB.
    pub(crate) memory_mib: u64,
    /// What it is called in messages.
    pub(crate) title: &'static str,
}

/// A folder that goes with its process.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(folder = %self.0.display(), %error, "a function's own folder was not removed");
        }
    }
}

impl Sandbox {
    pub(crate) fn new(options: SandboxOptions, runtime_dir: PathBuf) -> Self {
        Self {
            options,
            runtime_dir,
            walls: OnceCell::new(),
        }
    }

    /// The walls to build, `None` for none; found out at the first call, and told in the log.
    pub(crate) async fn walls(&self) -> std::result::Result<Option<Arc<Walls>>, StartError> {
        let found = self.walls.get_or_init(|| async {
            if self.options.mode == SandboxMode::Off {
                tracing::warn!(
                    "functions.sandbox is off: functions reach whatever this server's user reaches; run only code you \
                     trust"
                );
                return Ok(None);
            }
            let (options, runtime_dir) = (self.options.clone(), self.runtime_dir.clone());
            tokio::task::spawn_blocking(move || find(&options, &runtime_dir))
                .await
                .map_err(|error| Arc::from(error.to_string()))?
                .map(|walls| Some(Arc::new(walls)))
                .map_err(Arc::from)
        });
        found.await.clone().map_err(StartError::Runtime)
    }

    /// Whether functions may run here, and which walls are missing; `None` where none are wanted.
    ///
    /// # Errors
    /// In strict mode, where the machine grants too little: which walls are missing, and how to grant them.
    pub(crate) async fn check(&self) -> Result<Option<Vec<Wall>>> {
        let refused =
            |words: StartError| Error::new(ErrorKind::Unavailable, "SANDBOX_UNAVAILABLE", words.to_string());
        let walls = self.walls().await.map_err(refused)?;
        Ok(walls.map(|walls| walls.missing.clone()))
    }
}

fn find(options: &SandboxOptions, runtime_dir: &Path) -> std::result::Result<Walls, String> {
    let strict = options.mode == SandboxMode::Strict;
    let made = |path: PathBuf| match std::fs::create_dir_all(&path) {
        Ok(()) => std::fs::canonicalize(&path).map_err(|error| format!("{}: {error}", path.display())),
        Err(error) => Err(format!("{} cannot be made: {error}", path.display())),
    };
    let stage = made(runtime_dir.join(STAGE))?;
    let scratch = made(runtime_dir.join(SCRATCH))?;
    let mut readable: Vec<PathBuf> = COMMON.iter().map(PathBuf::from).collect();
    // What else a process reads lies beside it.
    readable.push(scratch.clone());
    let (grants, mut refused) = Grants::probe(&options.launcher, &stage, &readable)
        .map_err(|error| format!("no process can be sandboxed: {error}; see functions.sandbox"))?;
    let cgroups = Cgroups::find(&alyx_core::new_uuid_v7());
    for (wall, why) in [
        (Wall::Memory, cgroups.memory_refusal()),
        (Wall::Processes, cgroups.processes_refusal()),
    ] {
        if let Some(why) = why {
            refused.insert(wall, why.to_owned());
        }
    }
    let (holds, missing) = told(&grants, &refused);
    if strict && !enough(&grants, &refused) {
        return Err(format!(
            "functions.sandbox is strict, and this machine grants too little for that: {}",
            missing.join("; ")
        ));
    }
    let network = if strict { "none" } else { "the machine's" };
    tracing::info!(network, "functions are sandboxed: {}", holds.join(", "));
    if !missing.is_empty() {
        tracing::warn!("missing from the sandbox of functions: {}", missing.join("; "));
    }
    Ok(Walls {
        grants,
        cgroups,
        launcher: options.launcher.clone(),
        stage,
        scratch,
        strict,
        missing: refused.into_keys().collect(),
    })
}

/// Whether code that nobody trusts may run behind what there is.
fn enough(grants: &Grants, refused: &BTreeMap<Wall, String>) -> bool {
    let needed = [
        grants.namespaces != Namespaces::None,
        grants.network,
        grants.syscalls,
        !runs_as_root(grants),
        !refused.contains_key(&Wall::Memory),
        !refused.contains_key(&Wall::Processes),
    ];
    needed.iter().all(|holds| *holds)
}

fn runs_as_root(grants: &Grants) -> bool {
    rustix::process::geteuid().is_root() && !grants.uid
}

/// What holds, and what is missing, why, and what would grant it.
fn told(grants: &Grants, refused: &BTreeMap<Wall, String>) -> (Vec<&'static str>, Vec<String>) {
    let spaces = grants.namespaces != Namespaces::None;
    let all = [
        (
            spaces,
            Wall::Namespaces,
            "own files, processes and shared memory (mount, pid, ipc and uts namespaces)",
            "allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0; in a \
             container a seccomp profile that lets `unshare` and `mount` through), or run the server with CAP_SYS_ADMIN",
        ),
        (
            grants.network,
            Wall::Network,
            "network namespaces",
            "as for the other namespaces",
        ),
        (
            grants.proc || !spaces,
            Wall::Proc,
            "own /proc",
            "in a container, leave its /proc unmasked (systempaths=unconfined)",
        ),
        (
            grants.user,
            Wall::User,
            "own user namespace",
            "allow user namespaces (sysctl user.max_user_namespaces)",
        ),
        (
            !runs_as_root(grants),
            Wall::Uid,
            "no root",
            "run the server as an ordinary user, or let others read what functions need",
        ),
        (
            grants.syscalls,
            Wall::Syscalls,
            "system calls filtered",
            "a kernel with CONFIG_SECCOMP_FILTER",
        ),
        (
            grants.landlock || spaces,
            Wall::Landlock,
            if spaces { "" } else { "files by Landlock" },
            "a kernel of 5.13 or newer with `landlock` among its `lsm=`",
        ),
        (
            !refused.contains_key(&Wall::Memory),
            Wall::Memory,
            "memory by control group",
            "delegate the controller `memory` to the server (systemd: Delegate=memory pids)",
        ),
        (
            !refused.contains_key(&Wall::Processes),
            Wall::Processes,
            "processes by control group",
            "delegate the controller `pids` to the server (systemd: Delegate=memory pids)",
        ),
    ];
    let mut holds = vec!["no capabilities", "no new privileges", "resource limits"];
    let mut missing = Vec::new();
    for (held, wall, name, remedy) in all {
        if held {
            holds.extend((!name.is_empty()).then_some(name));
        } else {
            let why = refused.get(&wall).map_or("it goes with another", String::as_str);
            missing.push(format!("{name} ({why}; to have it: {remedy})"));
        }
    }
    (holds, missing)
}

impl Walls {
    /// The program that starts others behind walls.
    pub(crate) fn launcher(&self) -> &Path {
        &self.launcher
    }

    /// Whether a process can be shown further files once it runs.
    pub(crate) fn can_show(&self) -> bool {
        self.grants.namespaces != Namespaces::None
    }

    /// How that process is to be started, and the folder it may write to where it has no `/tmp` of its own.
    pub(crate) fn profile(&self, process: &Process) -> std::io::Result<(Profile, Option<Scratch>)> {
        let command = process.command.as_std();
        let text = |part: &std::ffi::OsStr| {
            part.to_str()
                .map(str::to_owned)
                .ok_or_else(|| std::io::Error::other(format!("{} is not UTF-8", part.display())))
        };
        let mut env = BTreeMap::new();
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                env.insert(text(name)?, text(value)?);
            }
        }
        let mut readable: Vec<PathBuf> = COMMON.iter().map(PathBuf::from).collect();
        readable.extend(process.readable.iter().cloned());
        let scratch = if self.can_show() {
            None
        } else {
            let folder = self.scratch.join(alyx_core::new_uuid_v7());
            std::fs::create_dir(&folder)?;
            let scratch = Scratch(folder.clone());
            let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o1777);
            std::fs::set_permissions(&folder, open)?;
            env.insert("TMPDIR".to_owned(), text(folder.as_os_str())?);
            Some(scratch)
        };
        let profile = Profile {
            program: PathBuf::from(command.get_program()),
            args: command.get_args().map(text).collect::<std::io::Result<_>>()?,
            env,
            cwd: command.get_current_dir().unwrap_or(Path::new("/")).to_owned(),
            grants: self.grants,
            network: !self.strict,
            stage: self.stage.clone(),
            readable,
            scratch: scratch.as_ref().map(|scratch| scratch.0.clone()),
            limits: Limits::default(),
        };
        Ok((profile, scratch))
    }

    /// A bound on all that comes of one process of a function with that limit.
    pub(crate) fn member(&self, memory_mib: u64) -> std::io::Result<Member> {
        self.cgroups.member(CgroupLimits {
            memory: memory_mib.saturating_add(RUNTIME_MIB) << 20,
            // The monitor is one more.
            processes: Limits::default().processes + 1,
        })
    }
}

/// What a function's own code reads: its bundle, and the modules that it links to.
pub(crate) fn code(function: &Function) -> Vec<PathBuf> {
    const MODULES: &str = "node_modules";
    let mut paths = vec![function.root.clone()];
    // A link to anything else is not the control plane's, and leads nowhere inside.
    let modules = std::fs::read_link(function.root.join(MODULES))
        .ok()
        .filter(|target| target.is_absolute() && target.file_name().is_some_and(|name| name == MODULES));
    paths.extend(modules);
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Grants = Grants {
        namespaces: Namespaces::Privileged,
        network: true,
        proc: true,
        user: true,
        uid: true,
        syscalls: true,
        landlock: false,
    };

    #[test]
    fn strict_names_every_wall_that_is_missing_and_how_to_have_it() {
        let none = BTreeMap::new();
        assert!(enough(&ALL, &none));
        let (holds, missing) = told(&ALL, &none);
        assert!(missing.is_empty(), "{missing:?}");
        assert!(holds.contains(&"system calls filtered"), "{holds:?}");
        for (grants, wall, words) in [
            (
                Grants {
                    namespaces: Namespaces::None,
                    landlock: true,
                    ..ALL
                },
                Wall::Namespaces,
                "user.max_user_namespaces",
            ),
            (
                Grants {
                    network: false,
                    ..ALL
                },
                Wall::Network,
                "network namespaces",
            ),
            (
                Grants {
                    syscalls: false,
                    ..ALL
                },
                Wall::Syscalls,
                "CONFIG_SECCOMP_FILTER",
            ),
            (ALL, Wall::Memory, "Delegate=memory"),
            (ALL, Wall::Processes, "`pids`"),
        ] {
            let refused = BTreeMap::from([(wall, "refused, says the test".to_owned())]);
            assert!(!enough(&grants, &refused), "{wall:?}");
            let (_, missing) = told(&grants, &refused);
            let [only] = missing.as_slice() else {
                panic!("{wall:?}: {missing:?}");
            };
            assert!(
                only.contains(words) && only.contains("refused, says the test"),
                "{only}"
            );
        }
    }

    #[test]
    fn only_links_to_modules_are_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let function = |root: &Path| Function {
            name: "f".to_owned(),
            runtime: alyx_service::state::Runtime::Node,
            version: "1".to_owned(),
            root: root.to_owned(),
            entrypoint: PathBuf::from("f.js"),
            description: String::new(),
            sample_input: None,
            timeout: std::time::Duration::from_secs(1),
            memory_mib: 64,
            env: Arc::default(),
            invoke_rule: None,
        };
        for (number, target, followed) in [
            (1, "/p/node_modules", true),
            (2, "/p/data", false),
            (3, "../node_modules", false),
        ] {
            let root = dir.path().join(number.to_string());
            std::fs::create_dir(&root).expect("made");
            std::os::unix::fs::symlink(target, root.join("node_modules")).expect("linked");
            let found = code(&function(&root));
            assert_eq!(found.contains(&PathBuf::from(target)), followed, "{target}");
            assert_eq!(found[0], root);
        }
    }
}
