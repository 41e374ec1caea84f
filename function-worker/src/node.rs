//! Finds Node on this machine and puts the runtime's files where Node can load them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::process::Command;

/// The runtime's files, as they are built into this binary.
const FILES: [(&str, &str); 9] = [
    ("worker.mjs", include_str!("../../runtimes/node/worker.mjs")),
    ("frames.mjs", include_str!("../../runtimes/node/frames.mjs")),
    ("logs.mjs", include_str!("../../runtimes/node/logs.mjs")),
    ("context.mjs", include_str!("../../runtimes/node/context.mjs")),
    (
        "transaction.mjs",
        include_str!("../../runtimes/node/transaction.mjs"),
    ),
    ("checks.mjs", include_str!("../../runtimes/node/checks.mjs")),
    ("handler.mjs", include_str!("../../runtimes/node/handler.mjs")),
    ("loading.mjs", include_str!("../../runtimes/node/loading.mjs")),
    ("functions.mjs", include_str!("../../runtimes/node/functions.mjs")),
];
const OLDEST: (u64, u64) = (20, 10);
const PROBE: Duration = Duration::from_secs(5);
/// A failed search is not repeated sooner.
const RETRY: Duration = Duration::from_secs(2);
/// Ends a child with its parent, even a child that is in a busy loop; part of util-linux.
const DEATH_SIGNAL: [&str; 2] = ["/usr/bin/setpriv", "/bin/setpriv"];

/// A Node that can run functions.
#[derive(Debug)]
pub(crate) struct Node {
    /// Absolute path of the binary.
    pub(crate) binary: PathBuf,
    /// Its version, as (major, minor).
    pub(crate) version: (u64, u64),
    /// Our entry point.
    pub(crate) worker: PathBuf,
    /// A launcher that makes the process die with this one, where the machine has it.
    pub(crate) launcher: Option<&'static str>,
}

/// Looks Node up when it is first needed, and again after a failure, so that installing it needs no restart.
#[derive(Debug)]
pub(crate) struct NodeFinder {
    wanted: Option<PathBuf>,
    runtime_dir: PathBuf,
    found: tokio::sync::Mutex<Option<Search>>,
    /// Whether any search has ended yet.
    searched: AtomicBool,
}

/// The last search and when it was.
type Search = (Instant, Result<Arc<Node>, Arc<str>>);

impl NodeFinder {
    pub(crate) fn new(wanted: Option<PathBuf>, runtime_dir: PathBuf) -> Self {
        Self {
            wanted,
            runtime_dir,
            found: tokio::sync::Mutex::new(None),
            searched: AtomicBool::new(false),
        }
    }

    /// Whether it is known by now that there is a Node, or that there is none.
    pub(crate) fn has_searched(&self) -> bool {
        self.searched.load(Ordering::Acquire)
    }

    /// The Node to use, or why there is none and what to do about it.
    pub(crate) async fn find(&self) -> Result<Arc<Node>, Arc<str>> {
        let mut found = self.found.lock().await;
        match &*found {
            Some((_, Ok(node))) => Ok(Arc::clone(node)),
            Some((at, Err(words))) if at.elapsed() < RETRY => Err(Arc::clone(words)),
            _ => {
                let result = self.search().await.map(Arc::new).map_err(Arc::from);
                *found = Some((Instant::now(), result.clone()));
                self.searched.store(true, Ordering::Release);
                result
            }
        }
    }

    async fn search(&self) -> Result<Node, String> {
        let wanted = self.wanted.clone().unwrap_or_else(|| PathBuf::from("node"));
        let advice = "install Node.js 20.10 or newer (https://nodejs.org, or `apt install nodejs`)";
        let told = output(Command::new(&wanted).args(["-p", "process.version + '\\n' + process.execPath"]))
            .await
            .map_err(|error| {
                format!(
                    "Node.js was not found (`{}`: {error}); {advice}",
                    wanted.display()
                )
            })?;
        let (version, binary) = told
            .trim()
            .split_once('\n')
            .ok_or_else(|| format!("`{}` does not answer as Node.js does; {advice}", wanted.display()))?;
        let version = parse_version(version)
            .filter(|version| *version >= OLDEST)
            .ok_or_else(|| format!("Node.js {version} is too old; {advice}"))?;
        let binary = PathBuf::from(binary);
        let runtime_dir = self.runtime_dir.clone();
        let worker = tokio::task::spawn_blocking(move || install(&runtime_dir))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| {
                format!(
                    "the runtime's files cannot be written to {}: {error}",
                    self.runtime_dir.display()
                )
            })?;
        let launcher = launcher(&binary).await;
        tracing::debug!(node = %binary.display(), ?version, ?launcher, "node runtime found");
        Ok(Node {
            binary,
            version,
            worker,
            launcher,
        })
    }
}

async fn output(command: &mut Command) -> std::io::Result<String> {
    let run = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PROBE, run)
        .await
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::TimedOut, "it did not answer"))??;
    if !output.status.success() {
        return Err(std::io::Error::other(format!("it failed: {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn launcher(binary: &Path) -> Option<&'static str> {
    for path in DEATH_SIGNAL {
        let mut command = Command::new(path);
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binary)
            .arg("--version");
        if output(&mut command).await.is_ok() {
            return Some(path);
        }
    }
    None
}

fn parse_version(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Writes the files into a folder named after their content, unless they are there; returns the entry point.
fn install(runtime_dir: &Path) -> std::io::Result<PathBuf> {
    let mut hasher = blake3::Hasher::new();
    for (name, text) in FILES {
        hasher
            .update(name.as_bytes())
            .update(&[0])
            .update(text.as_bytes())
            .update(&[0]);
    }
    let folder = runtime_dir.join(format!("node-{}", &hasher.finalize().to_hex()[..16]));
    std::fs::create_dir_all(&folder)?;
    for (name, text) in FILES {
        let path = folder.join(name);
        if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            continue;
        }
        // By a name of its own and a rename: another worker may be doing the same, and in another container even under
        // the same process id.
        let fresh = folder.join(format!("{name}.{}", alyx_core::new_uuid_v7()));
        std::fs::File::create(&fresh)?.write_all(text.as_bytes())?;
        std::fs::rename(&fresh, &path)?;
    }
    std::fs::canonicalize(folder.join("worker.mjs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("v20.20.2"), Some((20, 20)));
        assert_eq!(parse_version("v22.0.0-nightly"), Some((22, 0)));
        assert_eq!(parse_version("20.1.0"), None);
        assert_eq!(parse_version("vx.1"), None);
    }

    #[test]
    fn installed_files_are_kept_and_repaired() {
        let dir = tempfile::tempdir().expect("a folder");
        let worker = install(dir.path()).expect("writes");
        let written = std::fs::metadata(&worker)
            .and_then(|meta| meta.modified())
            .expect("there");
        assert_eq!(install(dir.path()).expect("keeps"), worker);
        let again = std::fs::metadata(&worker)
            .and_then(|meta| meta.modified())
            .expect("there");
        assert_eq!(written, again);
        std::fs::write(&worker, "broken").expect("writes");
        install(dir.path()).expect("repairs");
        assert_eq!(std::fs::read_to_string(&worker).expect("reads"), FILES[0].1);
    }
}
