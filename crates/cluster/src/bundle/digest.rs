//! The hash that names a bundle.

use std::fs;
use std::io;
use std::path::Path;

use walkdir::WalkDir;

use super::MODULES;

/// Files by which package managers record what they have installed.
const RECORDS: [&str; 3] = [".package-lock.json", ".modules.yaml", ".yarn-integrity"];

/// The hash of the bundle in `root`: of every file's path and content, in the order of the paths, and of the record of
/// its modules. The same on every machine. Reads all files, so it blocks.
///
/// # Errors
/// A file or folder cannot be read.
pub fn digest(root: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let walk = WalkDir::new(root).min_depth(1).sort_by_file_name();
    let code = |entry: &walkdir::DirEntry| entry.depth() != 1 || entry.file_name() != MODULES;
    for entry in walk.into_iter().filter_entry(code) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
            part(&mut hasher, relative.as_os_str().as_encoded_bytes());
            part(&mut hasher, &fs::read(entry.path())?);
        }
    }
    let modules = root.join(MODULES);
    if modules.is_dir() {
        part(&mut hasher, MODULES.as_bytes());
        for record in RECORDS {
            if let Ok(content) = fs::read(modules.join(record)) {
                part(&mut hasher, &content);
            }
        }
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

/// Lengths keep `ab` + `c` apart from `a` + `bc`.
fn part(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
