//! Finds the interpreter of a runtime on this machine and puts the runtime's files where it can load them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::process::Command;

/// What a language runtime needs of the machine and brings itself.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// What it is called in messages.
    pub(crate) title: &'static str,
    /// Looked up in `PATH` where no binary is named.
    pub(crate) program: &'static str,
    /// Arguments that make it print, line by line, its version, the path of its binary, and folders that it is spread
    /// over.
    pub(crate) probe: &'static [&'static str],
    /// The oldest version, as (major, minor).
    pub(crate) oldest: (u64, u64),
    /// What to do where there is none.
    pub(crate) advice: &'static str,
    /// Our files, as they are built into this binary; the first is the entry point.
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// Adds the arguments and the environment of one process with that heap limit in MiB; `None` where the binary is a
    /// compiler and runs no function itself.
    pub(crate) prepare: Option<fn(&mut Command, &Interpreter, u64)>,
}

const PROBE: Duration = Duration::from_secs(5);
/// A failed search is not repeated sooner.
const RETRY: Duration = Duration::from_secs(2);
/// Ends a child with its parent, even a child that is in a busy loop; part of util-linux.
const DEATH_SIGNAL: [&str; 2] = ["/usr/bin/setpriv", "/bin/setpriv"];

/// A binary that can run functions.
#[derive(Debug)]
pub(crate) struct Interpreter {
    pub(crate) recipe: &'static Recipe,
    /// Absolute path of the binary.
    pub(crate) binary: PathBuf,
    /// Its version, as (major, minor).
    pub(crate) version: (u64, u64),
    /// Our entry point.
    pub(crate) entry: PathBuf,
    /// What it is made of: files and folders that its processes read.
    pub(crate) readable: Vec<PathBuf>,
    /// A launcher that makes the process die with this one, where the machine has it.
    pub(crate) launcher: Option<&'static str>,
}

/// Looks the interpreter up when it is first needed, and again after a failure, so that installing it needs no restart.
#[derive(Debug)]
pub(crate) struct Finder {
    recipe: &'static Recipe,
    wanted: Option<PathBuf>,
    runtime_dir: PathBuf,
    found: tokio::sync::Mutex<Option<Search>>,
    /// Whether any search has ended yet.
    searched: AtomicBool,
}

/// The last search and when it was.
type Search = (Instant, Result<Arc<Interpreter>, Arc<str>>);

impl Finder {
    pub(crate) fn new(recipe: &'static Recipe, wanted: Option<PathBuf>, runtime_dir: PathBuf) -> Self {
        Self {
            recipe,
            wanted,
            runtime_dir,
            found: tokio::sync::Mutex::new(None),
            searched: AtomicBool::new(false),
        }
    }

    pub(crate) fn recipe(&self) -> &'static Recipe {
        self.recipe
    }

    /// Whether it is known by now that there is one, or that there is none.
    pub(crate) fn has_searched(&self) -> bool {
        self.searched.load(Ordering::Acquire)
    }

    /// The one to use, or why there is none and what to do about it.
    pub(crate) async fn find(&self) -> Result<Arc<Interpreter>, Arc<str>> {
        let mut found = self.found.lock().await;
        match &*found {
            Some((_, Ok(found))) => Ok(Arc::clone(found)),
            Some((at, Err(words))) if at.elapsed() < RETRY => Err(Arc::clone(words)),
            _ => {
                let result = self.search().await.map(Arc::new).map_err(Arc::from);
                *found = Some((Instant::now(), result.clone()));
                self.searched.store(true, Ordering::Release);
                result
            }
        }
    }

    async fn search(&self) -> Result<Interpreter, String> {
        let recipe = self.recipe;
        let (title, advice) = (recipe.title, recipe.advice);
        let wanted = self
            .wanted
            .clone()
            .unwrap_or_else(|| PathBuf::from(recipe.program));
        let told = output(Command::new(&wanted).args(recipe.probe))
            .await
            .map_err(|error| {
                format!(
                    "{title} was not found (`{}`: {error}); {advice}",
                    wanted.display()
                )
            })?;
        let mut lines = told.trim().lines();
        let (version, binary) = lines
            .next()
            .zip(lines.next())
            .ok_or_else(|| format!("`{}` does not answer as {title} does; {advice}", wanted.display()))?;
        let version = parse_version(version)
            .filter(|version| *version >= recipe.oldest)
            .ok_or_else(|| format!("{title} {version} is too old; {advice}"))?;
        let binary = PathBuf::from(binary);
        let readable = match recipe.prepare {
            Some(_) => parts(&binary, lines.map(PathBuf::from)),
            None => Vec::new(),
        };
        let runtime_dir = self.runtime_dir.clone();
        let entry = tokio::task::spawn_blocking(move || install(recipe, &runtime_dir))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| {
                format!(
                    "the runtime's files cannot be written to {}: {error}",
                    self.runtime_dir.display()
                )
            })?;
        let launcher = launcher().await;
        tracing::debug!(binary = %binary.display(), ?version, ?launcher, "{title} found");
        Ok(Interpreter {
            recipe,
            binary,
            version,
            entry,
            readable,
            launcher,
        })
    }
}

/// Where libraries lie on any system.
const LIBRARIES: [&str; 12] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/share/nodejs",
    "/usr/share/icu",
    "/nix/store",
    "/etc/ld.so.cache",
];
/// Links from the name of a binary to the binary itself.
const MOST_LINKS: usize = 16;

/// What an interpreter reads: its binary under each of its names, its own libraries and those of the system. Of
/// `prefixes`, the folders that it is spread over, only the libraries, since such a folder may be somebody's home; all
/// of it where it is a virtual environment.
fn parts(binary: &Path, prefixes: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = LIBRARIES.iter().map(PathBuf::from).collect();
    let mut prefixes: Vec<PathBuf> = prefixes.collect();
    let mut name = binary.to_owned();
    for _ in 0..MOST_LINKS {
        found.push(name.clone());
        let Ok(target) = std::fs::read_link(&name) else {
            break;
        };
        name = name.parent().unwrap_or(Path::new("/")).join(target);
        // Without `..` in its middle, which means nothing where the folders between are not there.
        if let (Some(folder), Some(file)) = (name.parent(), name.file_name()) {
            name = std::fs::canonicalize(folder)
                .unwrap_or_else(|_| folder.to_owned())
                .join(file);
        }
    }
    let real = std::fs::canonicalize(binary).ok();
    prefixes.extend(
        real.iter()
            .filter_map(|real| Some(real.parent()?.parent()?.to_owned())),
    );
    found.extend(real);
    for prefix in prefixes {
        if prefix.join("pyvenv.cfg").is_file() {
            found.push(prefix);
        } else {
            found.extend(["lib", "lib64"].map(|folder| prefix.join(folder)));
        }
    }
    found.retain(|path| path.is_absolute() && path.exists());
    let mut once = std::collections::BTreeSet::new();
    found.retain(|path| once.insert(path.clone()));
    found
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

async fn launcher() -> Option<&'static str> {
    for path in DEATH_SIGNAL {
        let mut command = Command::new(path);
        command.args(["--pdeathsig", "KILL", "--", path, "--version"]);
        if output(&mut command).await.is_ok() {
            return Some(path);
        }
    }
    None
}

fn parse_version(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.trim_start_matches(['v', 'g', 'o']).split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Writes the files into a folder named after their content, unless they are there; returns the entry point.
fn install(recipe: &Recipe, runtime_dir: &Path) -> std::io::Result<PathBuf> {
    let mut hasher = blake3::Hasher::new();
    for (name, text) in recipe.files {
        hasher
            .update(name.as_bytes())
            .update(&[0])
            .update(text.as_bytes())
            .update(&[0]);
    }
    let folder = runtime_dir.join(format!(
        "{}-{}",
        recipe.program,
        &hasher.finalize().to_hex()[..16]
    ));
    for (name, text) in recipe.files {
        let path = folder.join(name);
        if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            continue;
        }
        std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        // By a name of its own and a rename: another worker may be doing the same, and in another container even under
        // the same process id.
        let fresh = folder.join(format!("{name}.{}", alyx_core::new_uuid_v7()));
        std::fs::File::create(&fresh)?.write_all(text.as_bytes())?;
        std::fs::rename(&fresh, &path)?;
    }
    let (entry, _) = recipe.files[0];
    std::fs::canonicalize(folder.join(entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::GO;
    use crate::node::NODE;
    use crate::python::PYTHON;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("v20.20.2"), Some((20, 20)));
        assert_eq!(parse_version("v22.0.0-nightly"), Some((22, 0)));
        assert_eq!(parse_version("go1.26.8"), Some((1, 26)));
        assert_eq!(parse_version("3.11.7"), Some((3, 11)));
        assert_eq!(parse_version("3.15.0a1"), Some((3, 15)));
        assert_eq!(parse_version("vx.1"), None);
    }

    #[test]
    fn installed_files_are_kept_and_repaired() {
        for recipe in [&NODE, &PYTHON, &GO] {
            let dir = tempfile::tempdir().expect("a folder");
            let entry = install(recipe, dir.path()).expect("writes");
            let written = std::fs::metadata(&entry)
                .and_then(|meta| meta.modified())
                .expect("there");
            assert_eq!(install(recipe, dir.path()).expect("keeps"), entry);
            let again = std::fs::metadata(&entry)
                .and_then(|meta| meta.modified())
                .expect("there");
            assert_eq!(written, again);
            std::fs::write(&entry, "broken").expect("writes");
            install(recipe, dir.path()).expect("repairs");
            assert_eq!(std::fs::read_to_string(&entry).expect("reads"), recipe.files[0].1);
        }
    }
}
