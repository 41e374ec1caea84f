//! Messages as a bundle. What arrives is not trusted: no path leaves the folder, and nothing is written through a
//! link, since links are made last.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::control::BundleChunk;

use super::{MAX_BYTES, MAX_FILES, MODULES, digest, is_inside, leads_below, too_large};

/// A bundle that is being written into `root`, a fresh folder.
pub(super) struct Unpacker {
    root: PathBuf,
    open: Option<(String, File)>,
    links: BTreeMap<PathBuf, PathBuf>,
    files: usize,
    bytes: u64,
}

impl Unpacker {
    pub(super) fn new(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).map_err(|error| unwritable(&root, error))?;
        Ok(Self {
            root,
            open: None,
            links: BTreeMap::new(),
            files: 0,
            bytes: 0,
        })
    }

    pub(super) fn take(&mut self, chunk: &BundleChunk) -> Result<()> {
        let relative = Path::new(&chunk.path);
        if !is_inside(relative) {
            return Err(corrupt("a file outside of it"));
        }
        if !chunk.link.is_empty() {
            return self.link(relative, Path::new(&chunk.link));
        }
        self.bytes += chunk.content.len() as u64;
        if self.bytes > MAX_BYTES {
            return Err(too_large());
        }
        let path = self.root.join(relative);
        let mut file = match self.open.take() {
            Some((name, file)) if name == chunk.path => file,
            Some(_) => return Err(corrupt("a file without its end")),
            None => self.create(&path, chunk.executable)?,
        };
        file.write_all(&chunk.content)
            .map_err(|error| unwritable(&path, error))?;
        if !chunk.last {
            self.open = Some((chunk.path.clone(), file));
        }
        Ok(())
    }

    /// Makes the links and checks the whole against its hash.
    pub(super) fn finish(self, hash: &str) -> Result<()> {
        if self.open.is_some() {
            return Err(corrupt("a file without its end"));
        }
        for (at, target) in &self.links {
            let path = self.root.join(at);
            self.make_folder_of(&path)?;
            symlink(target, &path).map_err(|error| unwritable(&path, error))?;
        }
        let found = digest(&self.root).map_err(|error| unwritable(&self.root, error))?;
        if found != hash {
            return Err(corrupt("other content than its hash says"));
        }
        Ok(())
    }

    fn link(&mut self, at: &Path, target: &Path) -> Result<()> {
        self.count()?;
        if !at.starts_with(MODULES) || !leads_below(Path::new(MODULES), at, target) {
            return Err(corrupt("a link that leads out of its modules"));
        }
        self.links.insert(at.to_owned(), target.to_owned());
        Ok(())
    }

    fn create(&mut self, path: &Path, executable: bool) -> Result<File> {
        self.count()?;
        self.make_folder_of(path)?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if executable { 0o555 } else { 0o444 })
            .open(path)
            .map_err(|error| unwritable(path, error))
    }

    fn count(&mut self) -> Result<()> {
        self.files += 1;
        if self.files > MAX_FILES {
            return Err(too_large());
        }
        Ok(())
    }

    fn make_folder_of(&self, path: &Path) -> Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))
    }
}

fn corrupt(what: &str) -> Error {
    Error::new(
        ErrorKind::BadGateway,
        "BUNDLE_CORRUPT",
        format!("the control plane sent a function bundle with {what}; it is not used"),
    )
}

pub(super) fn unwritable(path: &Path, error: io::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        "BUNDLE_UNWRITABLE",
        format!(
            "{}: {error}; make room, or let this process write there",
            path.display()
        ),
    )
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::super::pack;
    use super::*;

    fn chunk(path: &str, content: &str, last: bool) -> BundleChunk {
        BundleChunk {
            path: path.to_owned(),
            content: content.as_bytes().to_vec().into(),
            last,
            ..BundleChunk::default()
        }
    }

    fn link(path: &str, target: &str) -> BundleChunk {
        BundleChunk {
            path: path.to_owned(),
            link: target.to_owned(),
            last: true,
            ..BundleChunk::default()
        }
    }

    fn unpack(root: &Path, chunks: &[BundleChunk], hash: &str) -> Result<()> {
        let mut unpacker = Unpacker::new(root.to_owned())?;
        for chunk in chunks {
            unpacker.take(chunk)?;
        }
        unpacker.finish(hash)
    }

    /// A project's bundle with code, modules, links inside and out of them, and a program.
    fn project(dir: &Path) -> PathBuf {
        let write = |path: &str, text: &str| {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("bundle/send.js", "export default 1");
        write("bundle/_lib/large.js", &"x".repeat(super::super::CHUNK * 2));
        write("bundle/package.json", "{}");
        write("modules/.package-lock.json", "{\"a\": 1}");
        write("modules/a/index.js", "a");
        write("modules/.cache/junk", "junk");
        write("elsewhere/b/index.js", "b");
        fs::create_dir_all(dir.join("modules/.bin")).expect("made");
        symlink("../a/index.js", dir.join("modules/.bin/a")).expect("linked");
        symlink(dir.join("elsewhere/b"), dir.join("modules/b")).expect("linked");
        symlink(dir.join("modules"), dir.join("bundle/node_modules")).expect("linked");
        let program = dir.join("modules/a/index.js");
        let mut permissions = fs::metadata(&program).expect("there").permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        fs::set_permissions(&program, permissions).expect("set");
        dir.join("bundle")
    }

    #[test]
    fn a_bundle_arrives_as_it_left() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let bundle = project(dir.path());
        let hash = digest(&bundle).expect("readable");
        let mut chunks = Vec::new();
        pack(&bundle, |chunk| {
            chunks.push(chunk);
            true
        })
        .expect("packed");
        let target = dir.path().join("target");
        unpack(&target, &chunks, &hash).expect("unpacked");
        let read = |path: &str| fs::read_to_string(target.join(path)).expect(path);
        assert_eq!(read("send.js"), "export default 1");
        assert_eq!(read("_lib/large.js").len(), super::super::CHUNK * 2);
        assert_eq!(read("node_modules/a/index.js"), "a");
        assert_eq!(read("node_modules/.bin/a"), "a");
        assert_eq!(read("node_modules/b/index.js"), "b");
        assert!(!target.join("node_modules/.cache").exists());
        let mode = |path: &str| fs::metadata(target.join(path)).expect(path).permissions().mode() & 0o777;
        assert_eq!((mode("node_modules/a/index.js"), mode("send.js")), (0o555, 0o444));
    }

    #[test]
    fn the_hash_is_of_paths_contents_and_installed_modules() {
        let dir = tempfile::tempdir().expect("a folder");
        let bundle = project(dir.path());
        let mut seen = vec![digest(&bundle).expect("readable")];
        let mut changes = |path: &str, text: &str| {
            fs::write(dir.path().join(path), text).expect("written");
            let hash = digest(&bundle).expect("readable");
            assert!(!seen.contains(&hash), "{path} makes no difference");
            seen.push(hash);
        };
        changes("bundle/send.js", "2");
        changes("bundle/other.js", "2");
        changes("modules/.package-lock.json", "{}");
        fs::write(dir.path().join("modules/.cache/junk"), "other").expect("written");
        assert_eq!(Some(&digest(&bundle).expect("readable")), seen.last());
    }

    #[test]
    fn what_is_not_the_bundle_that_was_named_is_refused() {
        let check = |chunks: &[BundleChunk], word: &str| {
            let dir = tempfile::tempdir().expect("a folder");
            let error = unpack(&dir.path().join("b"), chunks, &"0".repeat(32)).expect_err(word);
            assert!(error.message().contains(word), "{error}");
            let outside: Vec<_> = fs::read_dir(dir.path())
                .expect("readable")
                .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
                .collect();
            assert_eq!(outside, ["b"]);
        };
        check(&[chunk("a.js", "1", true)], "other content");
        check(&[], "other content");
        check(&[chunk("../a.js", "1", true)], "outside of it");
        check(&[chunk("/tmp/a.js", "1", true)], "outside of it");
        check(&[chunk("", "1", true)], "outside of it");
        check(&[chunk("a.js", "1", false)], "without its end");
        check(
            &[chunk("a.js", "1", false), chunk("b.js", "1", true)],
            "without its end",
        );
        check(&[link("node_modules/a", "../../x")], "leads out");
        check(&[link("a", "node_modules/x")], "leads out");
        check(
            &[link("node_modules/a", "b"), chunk("node_modules/a/x", "1", true)],
            "File exists",
        );
        check(
            &[chunk("a.js", "1", true), chunk("a.js", "2", true)],
            "File exists",
        );
    }
}
