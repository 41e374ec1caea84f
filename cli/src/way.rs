//! How `alyx admin` finds the server that runs in the same folder: a file beside the database that only its owner may
//! read, with the address of a listener of this machine's own and its token. Another start makes another token.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use alyx_core::Result;

use crate::roles::state_dir;

const FILE: &str = "admin";

/// The file.
pub(crate) struct Way(PathBuf);

impl Way {
    /// That of the database.
    ///
    /// # Errors
    /// That the folder has no absolute path.
    pub(crate) fn beside(database: &Path) -> Result<Self> {
        Ok(Self(state_dir(database)?.join(FILE)))
    }

    /// Says how the server is reached.
    pub(crate) fn tell(&self, url: &str, token: &str) -> io::Result<()> {
        if let Some(folder) = self.0.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // A file of before may be open to others, so this is another one.
        self.forget();
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&self.0)?;
        file.write_all(format!("{url}\n{token}\n").as_bytes())
    }

    /// Address and token; they may be those of a server that has crashed.
    pub(crate) fn read(&self) -> Option<(String, String)> {
        let text = std::fs::read_to_string(&self.0).ok()?;
        let mut lines = text.lines();
        Some((lines.next()?.to_owned(), lines.next()?.to_owned()))
    }

    /// The server is about to stop.
    pub(crate) fn forget(&self) {
        // Where it cannot be removed, it leads nowhere.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_way_is_for_the_owner_and_gone_once_it_is_forgotten() {
        let dir = tempfile::tempdir().expect("a folder");
        let way = Way::beside(&dir.path().join("data/a.db")).expect("a path");
        assert_eq!(way.read(), None);
        std::fs::create_dir_all(dir.path().join("data/.alyx")).expect("a folder");
        std::fs::write(&way.0, "open to all").expect("written");
        way.tell("http://127.0.0.1:1", "t").expect("told");
        assert_eq!(
            way.read(),
            Some(("http://127.0.0.1:1".to_owned(), "t".to_owned()))
        );
        let mode = std::fs::metadata(&way.0).expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        way.forget();
        assert_eq!(way.read(), None);
    }
}
