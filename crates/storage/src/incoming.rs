//! A file while it is received.

use std::io;
use std::path::{Path, PathBuf};

use alyx_core::{Result, new_secret_id};
use bytes::Bytes;
use ring::digest::{Context, SHA256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::folder::failed;

/// First bytes that are remembered: enough to tell what a file is.
const HEAD: usize = 512;

/// A file that is being written. Dropping it removes it.
pub struct Incoming {
    file: File,
    place: Place,
    digest: Context,
    size: u64,
    head: Vec<u8>,
}

/// A file that is whole and on disk, under a name that nobody knows. Dropping it removes it.
pub struct Received {
    place: Place,
    /// Its bytes.
    pub size: u64,
    /// SHA-256 in lower case hexadecimal.
    pub checksum: String,
    /// Its first 512 bytes, or all.
    pub head: Vec<u8>,
}

/// A file that goes with this.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        // It is gone where it was kept. What cannot be removed now is swept later.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Incoming {
    pub(crate) async fn begin(folder: &Path) -> io::Result<Self> {
        let path = folder.join(new_secret_id());
        let file = File::options().write(true).create_new(true).open(&path).await?;
        Ok(Self {
            file,
            place: Place(path),
            digest: Context::new(&SHA256),
            size: 0,
            head: Vec::new(),
        })
    }

    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// `STORAGE_FULL`, `STORAGE_UNAVAILABLE`.
    pub async fn write(&mut self, bytes: &Bytes) -> Result<()> {
        let missing = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..missing]);
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).await.map_err(failed)
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Waits until the disk has all of it.
    ///
    /// # Errors
    ///
    /// `STORAGE_FULL`, `STORAGE_UNAVAILABLE`.
    pub async fn finish(mut self) -> Result<Received> {
        self.file.flush().await.map_err(failed)?;
        self.file.sync_all().await.map_err(failed)?;
        let digest = self.digest.finish();
        let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        Ok(Received {
            place: self.place,
            size: self.size,
            checksum: digits.collect(),
            head: self.head,
        })
    }
}

impl Received {
    pub(crate) fn path(&self) -> &Path {
        &self.place.0
    }
}
