//! One folder of files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result};
use tokio::fs::File;
use uuid::Uuid;

use crate::incoming::{Incoming, Received};
use crate::sweep::Scan;

/// Where files are while they are received. Buckets cannot be called so.
pub(crate) const INCOMING: &str = ".incoming";
/// What the name of the mark begins with.
const MARK: &str = ".alyx-";

/// The name of a file: a UUID, so never a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId(Uuid);

impl FileId {
    /// Reads an id in its one spelling, hyphenated and in lower case. Anything else names no file.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Uuid::try_parse(text).ok()?;
        let mut buffer = Uuid::encode_buffer();
        (*id.hyphenated().encode_lower(&mut buffer) == *text).then_some(Self(id))
    }
}

impl std::fmt::Display for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A folder of files. Cheap to clone; nothing is made before something is received.
#[derive(Debug, Clone)]
pub struct Folder {
    root: Arc<Path>,
    base: Arc<str>,
}

impl Folder {
    /// The folder at `root`, in which the names of buckets begin with `base`.
    pub fn new(root: PathBuf, base: &str) -> Self {
        Self {
            root: root.into(),
            base: base.into(),
        }
    }

    /// Where it is, for people.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn incoming(&self) -> PathBuf {
        self.root.join(INCOMING)
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The folder of a bucket. A name that is none of the schema's is a defect.
    fn bucket(&self, bucket: &str) -> Result<PathBuf> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if bucket.is_empty() || !bucket.bytes().all(fits) {
            return Err(Error::internal("a bucket's name cannot be that of a folder"));
        }
        Ok(self.root.join(format!("{}{bucket}", self.base)))
    }

    fn path(&self, bucket: &str, id: FileId) -> Result<PathBuf> {
        Ok(self.bucket(bucket)?.join(id.to_string()))
    }

    /// Begins to receive a file. What was received is removed where it is not kept.
    ///
    /// # Errors
    ///
    /// `STORAGE_FULL`, `STORAGE_UNAVAILABLE`.
    pub async fn receive(&self) -> Result<Incoming> {
        let folder = self.incoming();
        let begin = || Incoming::begin(&folder);
        match begin().await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tokio::fs::create_dir_all(&folder).await.map_err(failed)?;
                begin().await.map_err(failed)
            }
            begun => begun.map_err(failed),
        }
    }

    /// Gives what was received its place. When this returns, the disk has it.
    ///
    /// # Errors
    ///
    /// `STORAGE_FULL`, `STORAGE_UNAVAILABLE`.
    pub async fn keep(&self, received: Received, bucket: &str, id: FileId) -> Result<()> {
        let (folder, path, root) = (
            self.bucket(bucket)?,
            self.path(bucket, id)?,
            Arc::clone(&self.root),
        );
        blocking(move || {
            if !folder.is_dir() {
                std::fs::create_dir_all(&folder)?;
                sync(&root)?;
            }
            std::fs::rename(received.path(), &path)?;
            sync(&folder)
        })
        .await
    }

    /// The bytes of a file, from the first one; nothing where there is none of that name.
    ///
    /// # Errors
    ///
    /// `STORAGE_UNAVAILABLE`.
    pub async fn open(&self, bucket: &str, id: FileId) -> Result<Option<File>> {
        match File::open(self.path(bucket, id)?).await {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes a file; `false` where there is none.
    ///
    /// # Errors
    ///
    /// `STORAGE_UNAVAILABLE`.
    pub async fn remove(&self, bucket: &str, id: FileId) -> Result<bool> {
        match tokio::fs::remove_file(self.path(bucket, id)?).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether the folder is that of the owner of `mark`: letters, digits and `-`. One that is nobody's yet becomes theirs.
    ///
    /// # Errors
    ///
    /// `STORAGE_UNAVAILABLE`.
    pub async fn is_of(&self, mark: &str) -> Result<bool> {
        let (root, own) = (Arc::clone(&self.root), format!("{MARK}{mark}"));
        blocking(move || {
            let mut somebodys = false;
            for entry in std::fs::read_dir(&root)? {
                let name = entry?.file_name();
                if name.to_str() == Some(own.as_str()) {
                    return Ok(true);
                }
                somebodys |= name.to_str().is_some_and(|name| name.starts_with(MARK));
            }
            if !somebodys {
                std::fs::write(root.join(own), "")?;
            }
            Ok(!somebodys)
        })
        .await
    }

    /// Whether anything was ever received here.
    pub async fn is_there(&self) -> bool {
        tokio::fs::try_exists(&*self.root).await.unwrap_or(false)
    }

    /// Looks for what lies here, in whatever order.
    pub fn scan(&self) -> Scan {
        Scan::new(self.clone())
    }
}

/// Makes what was renamed into a folder survive a loss of power.
fn sync(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// Work that waits for the disk.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await.map_err(Error::internal)?;
    done.map_err(failed)
}

/// The folder does not do what is asked.
pub(crate) fn failed(error: io::Error) -> Error {
    let full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    );
    let (code, message) = if full {
        ("STORAGE_FULL", "there is no room left for files")
    } else {
        ("STORAGE_UNAVAILABLE", "the folder of files cannot be used")
    };
    Error::new(ErrorKind::Unavailable, code, message).with_source(error)
}
