//! The last good snapshot on disk, for a start while every control plane is away.
//!
//! The file holds the hash of what follows it, so that half a file is not taken for a snapshot. A worker's holds the
//! functions' settings, so nobody else may read it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use alyx_proto::control::Snapshot;
use prost::Message as _;

/// Bytes of the hash at the beginning.
const HASH: usize = blake3::OUT_LEN;
/// Largest file that is read.
const MAX_FILE: u64 = 64 << 20;

/// The snapshot in `path`; `None` where there is none that can be used. Blocks.
pub(crate) fn load(path: &Path) -> Option<Snapshot> {
    let length = fs::metadata(path).ok()?.len();
    let read = || {
        let bytes = fs::read(path).ok()?;
        let (hash, content) = bytes.split_at_checked(HASH)?;
        (blake3::hash(content).as_bytes() == hash)
            .then(|| Snapshot::decode(content).ok())
            .flatten()
    };
    let snapshot = if length <= MAX_FILE { read() } else { None };
    if snapshot.is_none() {
        tracing::warn!(file = %path.display(), "the kept snapshot is damaged and is not used");
    }
    snapshot
}

/// Puts the snapshot in place of the kept one. Blocks.
///
/// # Errors
/// The folder cannot be made, or the file not written.
pub(crate) fn save(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let content = snapshot.encode_to_vec();
    let unfinished: PathBuf = path.with_extension(format!("new-{}", std::process::id()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(blake3::hash(&content).as_bytes())?;
    file.write_all(&content)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_kept_is_loaded_and_damage_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("state/snapshot");
        assert_eq!(load(&path), None);
        let snapshot = Snapshot {
            revision: 7,
            schema_revision: 3,
            ..Snapshot::default()
        };
        save(&path, &snapshot).expect("written");
        assert_eq!(load(&path), Some(snapshot));
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        let mut bytes = fs::read(&path).expect("there");
        bytes.pop();
        fs::write(&path, &bytes).expect("written");
        assert_eq!(load(&path), None);
        fs::write(&path, "").expect("written");
        assert_eq!(load(&path), None);
    }
}
