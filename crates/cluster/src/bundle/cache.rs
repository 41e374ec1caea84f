//! Bundles on a worker's disk.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::control::{BundleChunk, FetchBundleRequest};
use alyx_rpc::{Call, from_status};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};

use super::unpack::{Unpacker, unwritable};
use super::{digest, is_hash};
use crate::endpoints::Client;

/// Bundles kept: the running one and those that calls in flight may still use.
const KEPT: usize = 4;
/// Prefix of a bundle that is being written.
const UNFINISHED: &str = ".new-";
/// Longest time for one bundle.
const FETCH_WITHIN: Duration = Duration::from_secs(300);

/// Bundles below one folder. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BundleCache {
    folder: Arc<Path>,
    /// Hashes whose files were compared with them in this process.
    verified: Arc<Mutex<BTreeSet<String>>>,
}

impl BundleCache {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder: folder.into(),
            verified: Arc::default(),
        }
    }

    /// Where the bundle lies.
    pub(crate) fn root(&self, hash: &str) -> PathBuf {
        self.folder.join(hash)
    }

    /// Whether the bundle is there and is what its name says; one that is not is removed.
    pub(crate) async fn has(&self, hash: &str) -> Result<bool> {
        if self.verified.lock().contains(hash) && self.root(hash).is_dir() {
            return Ok(true);
        }
        let cache = self.clone();
        let hash = checked(hash)?.to_owned();
        spawn_blocking(move || {
            let root = cache.root(&hash);
            if !root.is_dir() {
                return false;
            }
            let intact = digest(&root).is_ok_and(|found| found == hash);
            if intact {
                cache.verified.lock().insert(hash);
            } else {
                tracing::warn!(bundle = %root.display(), "a function bundle is damaged and is fetched again");
                remove(&root);
            }
            intact
        })
        .await
        .map_err(died)
    }

    /// Fetches the bundle and puts it in place once it is whole and right.
    ///
    /// # Errors
    /// `BUNDLE_CORRUPT`, `BUNDLE_TOO_LARGE`, `BUNDLE_UNWRITABLE`, and those of the control plane.
    pub(crate) async fn fetch(&self, client: &mut Client, hash: &str) -> Result<()> {
        let hash = checked(hash)?.to_owned();
        let request = Call::within(FETCH_WITHIN).request(FetchBundleRequest { hash: hash.clone() });
        let mut stream = client
            .fetch_bundle(request)
            .await
            .map_err(from_status)?
            .into_inner();
        let (chunks, arriving) = mpsc::channel(4);
        let cache = self.clone();
        let writing = spawn_blocking(move || cache.write(&hash, arriving));
        let receiving = async {
            while let Some(chunk) = stream.message().await.map_err(from_status)? {
                if chunks.send(Some(chunk)).await.is_err() {
                    // The writer has an error to tell.
                    return Ok(());
                }
            }
            let _ = chunks.send(None).await;
            Ok::<(), Error>(())
        };
        let received = tokio::time::timeout(FETCH_WITHIN, receiving)
            .await
            .unwrap_or_else(|_| Err(interrupted()));
        drop(chunks);
        let written = writing.await.map_err(died)?;
        received.and(written)
    }

    /// Removes all but the newest bundles and those in `used`.
    pub(crate) fn prune(&self, used: &BTreeSet<String>) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut others: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(Result::ok)
            .filter(|entry| !used.contains(&*entry.file_name().to_string_lossy()))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        others.sort_by(|left, right| right.cmp(left));
        for (_, path) in others.into_iter().skip(KEPT.saturating_sub(used.len())) {
            remove(&path);
        }
    }

    /// Writes what arrives until its end (`None`); a channel that closes without one means that the rest is missing.
    fn write(&self, hash: &str, mut arriving: mpsc::Receiver<Option<BundleChunk>>) -> Result<()> {
        let unfinished = self.folder.join(unfinished_name());
        let outcome = (|| {
            let mut unpacker = Unpacker::new(unfinished.clone())?;
            loop {
                match arriving.blocking_recv() {
                    Some(Some(chunk)) => unpacker.take(&chunk)?,
                    Some(None) => break,
                    None => return Err(interrupted()),
                }
            }
            unpacker.finish(hash)?;
            let root = self.root(hash);
            match fs::rename(&unfinished, &root) {
                Ok(()) => Ok(()),
                // Another process that shares the folder was quicker.
                Err(_) if root.is_dir() => {
                    remove(&unfinished);
                    Ok(())
                }
                Err(error) => Err(unwritable(&root, error)),
            }
        })();
        match &outcome {
            Ok(()) => {
                self.verified.lock().insert(hash.to_owned());
            }
            Err(_) => remove(&unfinished),
        }
        outcome
    }
}

fn checked(hash: &str) -> Result<&str> {
    is_hash(hash).then_some(hash).ok_or_else(|| {
        Error::new(
            ErrorKind::BadGateway,
            "BUNDLE_CORRUPT",
            "the control plane names a function bundle by something that is no hash",
        )
    })
}

fn interrupted() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "BUNDLE_INCOMPLETE",
        "the control plane did not send the whole of a function bundle; it is fetched again",
    )
}

fn died(error: JoinError) -> Error {
    Error::internal(error)
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "an old function bundle could not be removed");
        }
    }
}

fn unfinished_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{UNFINISHED}{}-{number}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_and_the_used_bundles_are_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = BundleCache::new(dir.path().to_owned());
        let names: Vec<String> = (0..6).map(|number| format!("{number:032x}")).collect();
        for (age, name) in names.iter().enumerate() {
            let root = cache.root(name);
            fs::create_dir(&root).expect("made");
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(age as u64);
            fs::File::open(&root)
                .and_then(|folder| folder.set_modified(at))
                .expect("set");
        }
        cache.prune(&BTreeSet::from([names[0].clone()]));
        let kept: Vec<bool> = names.iter().map(|name| cache.root(name).is_dir()).collect();
        assert_eq!(kept, [true, false, false, true, true, true]);
    }

    #[tokio::test]
    async fn a_damaged_bundle_is_found_and_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        let source = dir.path().join("source");
        fs::create_dir(&source).expect("made");
        fs::write(source.join("a.js"), "1").expect("written");
        let hash = digest(&source).expect("readable");
        let folder = dir.path().join("bundles");
        fs::create_dir(&folder).expect("made");
        fs::rename(&source, folder.join(&hash)).expect("moved");
        assert!(BundleCache::new(folder.clone()).has(&hash).await.expect("looked"));
        fs::write(folder.join(&hash).join("a.js"), "2").expect("written");
        assert!(!BundleCache::new(folder.clone()).has(&hash).await.expect("looked"));
        assert!(!folder.join(&hash).exists());
    }
}
