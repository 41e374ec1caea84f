//! A project folder that lives as long as its test.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A temporary project: `alyx.yaml`, `schema.yaml`, `functions/`.
#[derive(Debug)]
pub struct Project {
    dir: TempDir,
}

impl Project {
    /// An empty folder.
    pub fn empty() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary folder can be made"),
        }
    }

    /// A folder with this schema.
    pub fn with_schema(schema: &str) -> Self {
        let project = Self::empty();
        project.write("schema.yaml", schema);
        project
    }

    /// A copy of the chat demo, as it is in the repository.
    pub fn chat() -> Self {
        let project = Self::empty();
        copy_tree(&repository().join("examples/chat"), project.path());
        let _ = fs::remove_dir_all(project.path().join("data"));
        let _ = fs::remove_dir_all(project.path().join(".alyx"));
        project
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file, as an editor that saves by rename would.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder can be made");
        let draft = path.with_extension("draft~");
        fs::write(&draft, content).expect("the file can be written");
        fs::rename(&draft, &path).expect("the file can be renamed");
    }

    /// Reads a file.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).expect("the file can be read")
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).expect("the file can be removed");
    }
}

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
        .to_path_buf()
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder can be made");
    for entry in fs::read_dir(from).expect("the folder can be read") {
        let entry = entry.expect("the entry can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("the type can be read").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the file can be copied");
        }
    }
}
