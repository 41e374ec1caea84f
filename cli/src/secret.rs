//! The secret that `alyx dev` signs sessions with where the project sets none: made up once, kept in `.alyx`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use alyx_config::{Config, Jwt, Secret};
use alyx_core::{Error, ErrorKind, Result, new_secret_id};

use crate::roles::state_dir;

const FILE: &str = "jwt-secret";

/// Sets `auth.jwt.secret` where nothing signs sessions.
///
/// # Errors
///
/// `STATE_DIR_UNWRITABLE`.
pub(crate) fn provide(config: &mut Config) -> Result<()> {
    let jwt = &mut config.auth.jwt;
    if jwt.secret.is_some() || jwt.key_file.is_some() {
        return Ok(());
    }
    let path = state_dir(&config.database.path)?.join(FILE);
    let secret = read_or_make(&path).map_err(|error| {
        Error::new(
            ErrorKind::Unavailable,
            "STATE_DIR_UNWRITABLE",
            format!(
                "the secret that signs sessions cannot be kept in {}: {error}; make the folder writable, or set \
                 `auth.jwt.secret`",
                path.display()
            ),
        )
    })?;
    jwt.secret = Some(Secret::new(secret));
    Ok(())
}

fn read_or_make(path: &Path) -> io::Result<String> {
    let mut kept = String::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_string(&mut kept).map(|_| ())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let kept = kept.trim();
    if kept.len() >= Jwt::MIN_SECRET {
        return Ok(kept.to_owned());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let secret = new_secret_id() + &new_secret_id();
    let mut options = OpenOptions::new();
    // Nobody else may read it.
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_where_there_is_none() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.database.path = dir.path().join("data/alyx.db");
        provide(&mut config).expect("made");
        let first = config.auth.jwt.secret.take().expect("a secret");
        assert!(first.expose().len() >= Jwt::MIN_SECRET);
        provide(&mut config).expect("read");
        assert_eq!(config.auth.jwt.secret.as_ref(), Some(&first));
        let path = dir.path().join("data/.alyx").join(FILE);
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");

        let own = Secret::new("a secret of the project's own, long enough");
        config.auth.jwt.secret = Some(own.clone());
        provide(&mut config).expect("nothing to do");
        assert_eq!(config.auth.jwt.secret, Some(own));

        std::fs::write(&path, "short").expect("written");
        config.auth.jwt.secret = None;
        provide(&mut config).expect("made anew");
        assert!(config.auth.jwt.secret.is_some_and(|secret| secret != first));
    }
}
