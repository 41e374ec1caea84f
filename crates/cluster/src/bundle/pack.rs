//! A bundle as messages.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use alyx_core::{Error, Result};
use alyx_proto::control::BundleChunk;
use walkdir::WalkDir;

use super::{CHUNK, MAX_BYTES, MAX_DEPTH, MAX_FILES, MODULES, leads_below, too_large};

/// Hands the bundle in `root` over to `send`, message by message, until that returns `false`. Blocks.
///
/// # Errors
/// `BUNDLE_TOO_LARGE`, or an internal error where a file cannot be read.
pub fn pack(root: &Path, send: impl FnMut(BundleChunk) -> bool) -> Result<()> {
    let mut packer = Packer {
        send,
        files: 0,
        bytes: 0,
    };
    let done = packer
        .code(root)
        .and_then(|more| if more { packer.modules(root) } else { Ok(false) });
    match done {
        Ok(_) => Ok(()),
        Err(Stop::TooLarge) => Err(too_large()),
        Err(Stop::Io(error)) => Err(Error::internal(error)),
    }
}

struct Packer<S> {
    send: S,
    files: usize,
    bytes: u64,
}

enum Stop {
    TooLarge,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<walkdir::Error> for Stop {
    fn from(error: walkdir::Error) -> Self {
        Self::Io(error.into())
    }
}

/// Each step tells whether the receiver wants more.
impl<S: FnMut(BundleChunk) -> bool> Packer<S> {
    fn code(&mut self, root: &Path) -> Result<bool, Stop> {
        let walk = WalkDir::new(root).min_depth(1).max_depth(MAX_DEPTH);
        let code = |entry: &walkdir::DirEntry| entry.depth() != 1 || entry.file_name() != MODULES;
        for entry in walk.into_iter().filter_entry(code) {
            let entry = entry?;
            let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
            if entry.file_type().is_file() && !self.file(entry.path(), relative)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn modules(&mut self, root: &Path) -> Result<bool, Stop> {
        let Ok(modules) = fs::canonicalize(root.join(MODULES)) else {
            return Ok(true);
        };
        self.tree(&modules, Path::new(MODULES), false)
    }

    /// Everything below `folder`, as `named`. Links to places inside stay links; what others lead to is taken over.
    fn tree(&mut self, folder: &Path, named: &Path, follow: bool) -> Result<bool, Stop> {
        let walk = WalkDir::new(folder)
            .min_depth(1)
            .max_depth(MAX_DEPTH)
            .follow_links(follow);
        let wanted = |entry: &walkdir::DirEntry| entry.depth() != 1 || entry.file_name() != ".cache";
        for entry in walk.into_iter().filter_entry(wanted) {
            let entry = match entry {
                Ok(entry) => entry,
                // A link in a circle or to nothing is none that code could load.
                Err(_) if follow => continue,
                Err(error) => return Err(error.into()),
            };
            let relative = named.join(entry.path().strip_prefix(folder).unwrap_or(entry.path()));
            let more = if entry.file_type().is_symlink() {
                self.link(entry.path(), &relative)?
            } else if entry.file_type().is_file() {
                self.file(entry.path(), &relative)?
            } else {
                true
            };
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn link(&mut self, path: &Path, named: &Path) -> Result<bool, Stop> {
        let target: PathBuf = fs::read_link(path)?;
        if leads_below(Path::new(MODULES), named, &target) {
            self.count(0)?;
            return Ok((self.send)(BundleChunk {
                path: text(named),
                link: text(&target),
                last: true,
                ..BundleChunk::default()
            }));
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.tree(&fs::canonicalize(path)?, named, true),
            Ok(metadata) if metadata.is_file() => self.file(path, named),
            Ok(_) | Err(_) => Ok(true),
        }
    }

    fn file(&mut self, path: &Path, named: &Path) -> Result<bool, Stop> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        self.count(metadata.len())?;
        let executable = metadata.permissions().mode() & 0o111 != 0;
        loop {
            let mut content = Vec::with_capacity(CHUNK.min(metadata.len() as usize + 1));
            file.by_ref().take(CHUNK as u64).read_to_end(&mut content)?;
            let last = content.len() < CHUNK;
            let more = (self.send)(BundleChunk {
                path: text(named),
                content: content.into(),
                last,
                executable,
                link: String::new(),
            });
            if last || !more {
                return Ok(more);
            }
        }
    }

    fn count(&mut self, bytes: u64) -> Result<(), Stop> {
        self.files += 1;
        self.bytes += bytes;
        if self.files > MAX_FILES || self.bytes > MAX_BYTES {
            return Err(Stop::TooLarge);
        }
        Ok(())
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
