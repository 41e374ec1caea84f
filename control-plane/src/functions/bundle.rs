//! Content-addressed copies of the functions folder, so that a call in flight keeps the code it began with.
//!
//! **Invariant:** a folder `<bundles>/<hash>` is complete and never changes: it is written under another name and
//! renamed. Its hash is of the copies, so what was hashed is what will run.
//!
//! `node_modules` is linked, not copied; of its content only what the package manager records counts in the hash.
//! TypeScript is written as JavaScript, see `typescript`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use alyx_cluster::bundle::digest;
use thiserror::Error;
use walkdir::{DirEntry, WalkDir};

use super::typescript::{self, Translation};

/// Most files in a bundle.
const MAX_FILES: usize = 5_000;
/// Most bytes in a bundle.
const MAX_BYTES: u64 = 100 << 20;
/// Deepest folder in a bundle.
const MAX_DEPTH: usize = 32;
/// Bundles kept: the running one and those that calls in flight may still use.
const KEPT: usize = 4;
/// Prefix of a bundle that is being written.
const UNFINISHED: &str = ".new-";

/// Why there is no bundle.
#[derive(Debug, Error)]
pub(crate) enum BundleError {
    /// Too much in the folder.
    #[error(
        "{folder} holds more than {MAX_FILES} files or {} MiB outside `node_modules`; move what is not code elsewhere",
        MAX_BYTES >> 20
    )]
    TooLarge {
        /// The functions folder.
        folder: PathBuf,
    },
    /// A link would bring a file from elsewhere on the machine into code that functions can read.
    #[error(
        "{path} is a link to {target}, outside the functions folder; put a copy of what it leads to in its place, or \
         leave it out"
    )]
    LeadsOut {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// The folder cannot be walked (a link that leads in a circle, no permission).
    #[error("the functions folder cannot be read")]
    Walk(#[from] walkdir::Error),
    /// A file cannot be read or written.
    #[error("{path} cannot be {verb}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read`, `written` or `compiled`.
        verb: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A finished bundle.
#[derive(Debug)]
pub(super) struct Bundle {
    /// Its hash.
    pub(super) version: String,
    /// Its folder.
    pub(super) root: PathBuf,
    /// What became of its TypeScript.
    pub(super) translation: Translation,
}

/// Copies `folder` into its bundle below `bundles`, unless that bundle exists, and removes old bundles.
pub(super) fn make(folder: &Path, bundles: &Path) -> Result<Bundle, BundleError> {
    let unfinished = bundles.join(unfinished_name());
    fs::create_dir_all(&unfinished).map_err(written(&unfinished))?;
    let result = copy(folder, &unfinished).and_then(|(version, translation)| {
        let root = bundles.join(&version);
        finish(&unfinished, &root)?;
        Ok(Bundle {
            version,
            root,
            translation,
        })
    });
    if result.is_err() {
        remove(&unfinished);
    }
    let bundle = result?;
    prune(bundles, &bundle.root);
    Ok(bundle)
}

/// Whether an entry of the functions folder is part of the code: not hidden, not `node_modules`, not what
/// Python compiled.
pub(crate) fn is_code(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    entry.depth() == 0 || !(name.starts_with('.') || name == "node_modules" || name == "__pycache__")
}

fn copy(folder: &Path, target: &Path) -> Result<(String, Translation), BundleError> {
    let (mut files, mut bytes) = (BTreeSet::new(), 0_u64);
    let too_large = || BundleError::TooLarge {
        folder: folder.to_owned(),
    };
    let real_folder = real(folder)?;
    let walk = WalkDir::new(folder)
        .follow_links(true)
        .sort_by_file_name()
        .max_depth(MAX_DEPTH);
    for entry in walk.into_iter().filter_entry(is_code) {
        let entry = match entry {
            Ok(entry) => entry,
            // A link to nothing (editors lock files with such), or a file that has just been removed.
            Err(error) if is_missing(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        if entry.depth() > 0 && entry.path_is_symlink() {
            stays_inside(entry.path(), &real_folder)?;
        }
        let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let copied = target.join(relative);
        if entry.file_type().is_dir() {
            fs::create_dir_all(&copied).map_err(written(&copied))?;
            continue;
        }
        if !entry.file_type().is_file() {
            continue;
        }
        files.insert(relative.to_owned());
        bytes += entry.metadata()?.len();
        if files.len() > MAX_FILES || bytes > MAX_BYTES {
            return Err(too_large());
        }
        if typescript::endings(relative).is_none() {
            copy_file(entry.path(), &copied)?;
        }
    }
    let translation = typescript::translate(folder, target, &files)?;
    link_modules(folder, target)?;
    let version = digest(target).map_err(|source| BundleError::Io {
        path: target.to_owned(),
        verb: "read",
        source,
    })?;
    Ok((version, translation))
}

/// Refuses a link that leads out of the functions folder.
fn stays_inside(link: &Path, folder: &Path) -> Result<(), BundleError> {
    let target = real(link)?;
    if target.starts_with(folder) {
        return Ok(());
    }
    Err(BundleError::LeadsOut {
        path: link.to_owned(),
        target,
    })
}

fn real(path: &Path) -> Result<PathBuf, BundleError> {
    fs::canonicalize(path).map_err(|source| BundleError::Io {
        path: path.to_owned(),
        verb: "read",
        source,
    })
}

fn is_missing(error: &walkdir::Error) -> bool {
    error
        .io_error()
        .is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn copy_file(from: &Path, to: &Path) -> Result<(), BundleError> {
    let content = fs::read(from).map_err(|source| BundleError::Io {
        path: from.to_owned(),
        verb: "read",
        source,
    })?;
    write_file(to, &content)
}

/// Writes a file of a bundle, in place of one of that name.
pub(super) fn write_file(to: &Path, content: &[u8]) -> Result<(), BundleError> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(written(to)(error)),
        _ => {}
    }
    File::create(to)
        .and_then(|mut file| {
            file.write_all(content)?;
            let mut permissions = file.metadata()?.permissions();
            permissions.set_readonly(true);
            file.set_permissions(permissions)
        })
        .map_err(written(to))
}

/// Links the folder's `node_modules`, else that of its parent, and takes over the parent's `package.json` where the
/// folder has none, since both decide how its files are loaded.
fn link_modules(folder: &Path, target: &Path) -> Result<(), BundleError> {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let places: Vec<&Path> = std::iter::once(folder.as_path()).chain(folder.parent()).collect();
    if let Some(modules) = places
        .iter()
        .map(|place| place.join("node_modules"))
        .find(|modules| modules.is_dir())
    {
        let link = target.join("node_modules");
        std::os::unix::fs::symlink(&modules, &link).map_err(written(&link))?;
    }
    let own = target.join("package.json");
    if let Some(parents) = folder.parent().map(|parent| parent.join("package.json"))
        && !own.exists()
        && parents.is_file()
    {
        copy_file(&parents, &own)?;
    }
    Ok(())
}

fn finish(unfinished: &Path, root: &Path) -> Result<(), BundleError> {
    if root.is_dir() && same_modules(unfinished, root) {
        remove(unfinished);
        // Its time says when it was last wanted; pruning is by that time.
        if let Err(error) = File::open(root).and_then(|folder| folder.set_modified(SystemTime::now())) {
            tracing::debug!(bundle = %root.display(), %error, "the time of a bundle was not set");
        }
        return Ok(());
    }
    if root.is_dir() {
        // The same code beside other modules: the old bundle's link leads to a folder that is no longer the right one.
        remove(root);
    }
    fs::rename(unfinished, root).map_err(written(root))
}

/// Whether two bundles load their modules from the same folder.
fn same_modules(one: &Path, other: &Path) -> bool {
    let modules = |bundle: &Path| fs::read_link(bundle.join("node_modules")).ok();
    modules(one) == modules(other)
}

/// Removes all but the newest bundles. A bundle that cannot be removed is in nobody's way.
fn prune(bundles: &Path, current: &Path) {
    let Ok(entries) = fs::read_dir(bundles) else {
        return;
    };
    let mut old: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path() != current)
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    old.sort_by(|left, right| right.cmp(left));
    let mut kept = 1;
    for (_, path) in old {
        let unfinished = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED));
        if !unfinished && kept < KEPT {
            kept += 1;
            continue;
        }
        remove(&path);
    }
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), %error, "an old function bundle could not be removed");
    }
}

fn unfinished_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{UNFINISHED}{}-{number}", std::process::id())
}

fn written(path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Io {
        path,
        verb: "written",
        source,
    }
}
