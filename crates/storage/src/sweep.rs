//! Finding what broken uploads left behind.

use std::fs::{DirEntry, ReadDir};
use std::io;
use std::time::Duration;

use alyx_core::Result;

use crate::folder::{FileId, Folder, blocking};

/// A file that was kept a while ago. Whether somebody knows of it is for the caller to find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The bucket whose folder it is in.
    pub bucket: String,
    /// Its name.
    pub id: FileId,
}

/// A walk through a folder.
pub struct Scan {
    folder: Folder,
    buckets: Option<ReadDir>,
    open: Option<(String, ReadDir)>,
}

impl Folder {
    /// Removes what was being received and has not been touched for `age`. Returns how many.
    ///
    /// # Errors
    ///
    /// `STORAGE_UNAVAILABLE`.
    pub async fn sweep_incoming(&self, age: Duration) -> Result<u64> {
        let folder = self.incoming();
        blocking(move || {
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                entries => entries?,
            };
            let mut removed = 0;
            for entry in entries {
                let entry = entry?;
                if is_old(&entry, age) && std::fs::remove_file(entry.path()).is_ok() {
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }
}

impl Scan {
    pub(crate) fn new(folder: Folder) -> Self {
        Self {
            folder,
            buckets: None,
            open: None,
        }
    }

    /// Up to `most` files that have not been touched for `age`, and the walk to go on with; no walk where it is over. What is
    /// not named like a file is left alone.
    ///
    /// # Errors
    ///
    /// `STORAGE_UNAVAILABLE`.
    pub async fn next(mut self, most: usize, age: Duration) -> Result<(Vec<Stray>, Option<Self>)> {
        blocking(move || {
            let mut found = Vec::new();
            while found.len() < most {
                match self.step(age)? {
                    Step::Found(stray) => found.push(stray),
                    Step::Nothing => {}
                    Step::End => return Ok((found, None)),
                }
            }
            Ok((found, Some(self)))
        })
        .await
    }

    fn step(&mut self, age: Duration) -> io::Result<Step> {
        if let Some((bucket, files)) = &mut self.open {
            let Some(entry) = files.next() else {
                self.open = None;
                return Ok(Step::Nothing);
            };
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(FileId::parse);
            return Ok(match id.filter(|_| is_old(&entry, age)) {
                Some(id) => Step::Found(Stray {
                    bucket: bucket.clone(),
                    id,
                }),
                None => Step::Nothing,
            });
        }
        let buckets = match &mut self.buckets {
            Some(buckets) => buckets,
            None => match std::fs::read_dir(self.folder.root()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Step::End),
                buckets => self.buckets.insert(buckets?),
            },
        };
        let Some(entry) = buckets.next() else {
            return Ok(Step::End);
        };
        let entry = entry?;
        let name = entry.file_name();
        let bucket = name
            .to_str()
            .and_then(|name| name.strip_prefix(self.folder.base()));
        if let Some(bucket) = bucket.filter(|bucket| !bucket.starts_with('.') && !bucket.is_empty())
            && entry.file_type()?.is_dir()
        {
            self.open = Some((bucket.to_owned(), std::fs::read_dir(entry.path())?));
        }
        Ok(Step::Nothing)
    }
}

enum Step {
    Found(Stray),
    Nothing,
    End,
}

/// A file whose age cannot be told is as good as new.
fn is_old(entry: &DirEntry, age: Duration) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|elapsed| elapsed >= age))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use tokio::io::AsyncReadExt;

    use super::*;

    const ID: &str = "0199c3f2-0000-7000-8000-000000000001";
    const HOUR: Duration = Duration::from_secs(3600);

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(dir.path().join("files"), "app-");
        (dir, folder)
    }

    fn id() -> FileId {
        FileId::parse(ID).expect("an id")
    }

    async fn keep(folder: &Folder, parts: &[&'static str]) -> String {
        let mut incoming = folder.receive().await.expect("begun");
        for part in parts {
            incoming
                .write(&Bytes::from_static(part.as_bytes()))
                .await
                .expect("written");
        }
        let received = incoming.finish().await.expect("whole");
        let checksum = received.checksum.clone();
        assert_eq!(received.head, parts.concat().into_bytes());
        folder.keep(received, "images", id()).await.expect("kept");
        checksum
    }

    fn age(path: &std::path::Path) {
        let file = std::fs::File::options().append(true).open(path).expect("a file");
        file.set_modified(SystemTime::now() - 2 * HOUR)
            .expect("an older one");
    }

    #[tokio::test]
    async fn what_is_kept_is_read_again_and_removed_once() {
        let (_dir, folder) = folder();
        assert!(!folder.is_there().await);
        assert!(folder.open("images", id()).await.expect("asked").is_none());
        let checksum = keep(&folder, &["a", "bc"]).await;
        assert_eq!(
            checksum,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let mut text = String::new();
        let mut file = folder.open("images", id()).await.expect("asked").expect("there");
        file.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "abc");
        assert!(folder.remove("images", id()).await.expect("removed"));
        assert!(!folder.remove("images", id()).await.expect("asked"));
    }

    #[tokio::test]
    async fn what_is_not_kept_leaves_nothing_behind() {
        let (_dir, folder) = folder();
        let mut incoming = folder.receive().await.expect("begun");
        incoming.write(&Bytes::from_static(b"x")).await.expect("written");
        assert_eq!(std::fs::read_dir(folder.incoming()).expect("a folder").count(), 1);
        drop(incoming);
        let received = folder
            .receive()
            .await
            .expect("begun")
            .finish()
            .await
            .expect("whole");
        drop(received);
        assert_eq!(std::fs::read_dir(folder.incoming()).expect("a folder").count(), 0);
    }

    #[test]
    fn no_name_is_a_path() {
        for text in [
            "",
            "..",
            "../../etc/passwd",
            "/etc/passwd",
            "C:\\x",
            "a\0b",
            "0199C3F2-0000-7000-8000-000000000001",
            "0199c3f2000070008000000000000001",
            "{0199c3f2-0000-7000-8000-000000000001}",
            "0199c3f2-0000-7000-8000-000000000001/..",
        ] {
            assert_eq!(FileId::parse(text), None, "{text}");
        }
        assert_eq!(id().to_string(), ID);
    }

    #[tokio::test]
    async fn no_bucket_is_a_path() {
        let (_dir, folder) = folder();
        for bucket in ["", "..", "a/b", "/etc", "a\0", ".incoming", "c:"] {
            let refused = folder.open(bucket, id()).await.expect_err(bucket);
            assert_eq!(refused.code(), "INTERNAL_ERROR", "{bucket}");
        }
    }

    #[tokio::test]
    async fn a_walk_finds_old_files_and_nothing_else() {
        let (_dir, folder) = folder();
        let (none, rest) = folder.scan().next(10, Duration::ZERO).await.expect("walked");
        assert!(none.is_empty() && rest.is_none());
        keep(&folder, &["a"]).await;
        let bucket = folder.root().join("app-images");
        std::fs::write(bucket.join("notes.txt"), "somebody's").expect("written");
        std::fs::create_dir(folder.root().join("other")).expect("made");
        std::fs::write(folder.root().join("other").join(ID), "x").expect("written");
        let (young, _) = folder.scan().next(10, HOUR).await.expect("walked");
        assert_eq!(young, []);
        age(&bucket.join(ID));
        let (old, rest) = folder.scan().next(1, HOUR).await.expect("walked");
        assert_eq!(
            old,
            [Stray {
                bucket: "images".to_owned(),
                id: id()
            }]
        );
        let (more, rest) = rest
            .expect("a walk to go on with")
            .next(1, HOUR)
            .await
            .expect("walked");
        assert!(more.is_empty() && rest.is_none());
    }

    #[tokio::test]
    async fn broken_uploads_are_removed_once_they_are_old() {
        let (_dir, folder) = folder();
        assert_eq!(folder.sweep_incoming(HOUR).await.expect("nothing there"), 0);
        let old = folder.receive().await.expect("begun");
        let name = std::fs::read_dir(folder.incoming())
            .expect("a folder")
            .next()
            .expect("one")
            .expect("it")
            .path();
        age(&name);
        let _young = folder.receive().await.expect("begun");
        assert_eq!(folder.sweep_incoming(HOUR).await.expect("swept"), 1);
        assert_eq!(std::fs::read_dir(folder.incoming()).expect("a folder").count(), 1);
        drop(old);
    }

    #[tokio::test]
    async fn a_folder_belongs_to_the_first_who_asks() {
        let (_dir, folder) = folder();
        keep(&folder, &["a"]).await;
        assert!(folder.is_of("one").await.expect("asked"));
        assert!(folder.is_of("one").await.expect("asked"));
        assert!(!folder.is_of("two").await.expect("asked"));
    }
}
