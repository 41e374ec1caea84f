//! The database file: its folder, its lock, its settings and its format.
//!
//! One process at a time serves a file: it holds an exclusive lock on `<file>.lock`, which the system gives back
//! however the process ends. Tools may still read and write the database itself.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use alyx_core::{Error, ErrorKind, Result, Value};

use super::change_log;
use super::connection::{Connection, ready};
use super::options::EmbeddedOptions;
use crate::failure::Failure;

/// The layout of the `_alyx_` tables of this store. A file with a higher one is left alone.
const FORMAT: i64 = 1;

/// A database file that this process alone serves.
pub(super) struct DatabaseFile {
    database: libsql::Database,
    path: PathBuf,
    cache_kib: u32,
    busy_timeout: std::time::Duration,
}

impl DatabaseFile {
    /// Creates what is missing, takes the lock and opens the file. The lock lasts until the [`File`] is dropped.
    pub(super) fn open(options: &EmbeddedOptions) -> Result<(Self, File)> {
        let path = resolve(&options.path)?;
        let lock = lock(&path)?;
        let database = ready(libsql::Builder::new_local(&path).flags(open_flags()).build())
            .map_err(|error| open_error(&path, &Failure::from(error)))?;
        let file = Self {
            database,
            path,
            cache_kib: options.cache_kib,
            busy_timeout: options.busy_timeout,
        };
        Ok((file, lock))
    }

    /// Where it is, as an absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The one connection that writes; brings the file into shape.
    pub(super) fn writer(&self) -> Result<Connection> {
        self.connect(|connection| {
            check_format(connection, &self.path)?;
            let mode = connection
                .script("PRAGMA journal_mode = WAL")
                .map_err(|failure| open_error(&self.path, &failure))?;
            if mode.first().and_then(|row| row.first()).and_then(Value::as_text) != Some("wal") {
                return Err(unusable(
                    "DATABASE_UNUSABLE",
                    format!(
                        "the database {} cannot use a write-ahead log: put it on a local disk",
                        self.path.display()
                    ),
                ));
            }
            // The writer copies the log into the database itself, between commits. Without recursive triggers a
            // REPLACE would delete rows that the change log never hears of.
            let settings = "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                 PRAGMA recursive_triggers = ON; PRAGMA wal_autocheckpoint = 0;";
            connection
                .script(settings)
                .and_then(|_| create_tables(connection))
                .map_err(|failure| open_error(&self.path, &failure))
        })
    }

    /// A connection that only reads.
    pub(super) fn reader(&self) -> Result<Connection> {
        self.connect(|connection| {
            connection
                .script("PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0;")
                .map_err(|failure| open_error(&self.path, &failure))
                .map(|_| ())
        })
    }

    fn connect(&self, set_up: impl FnOnce(&mut Connection) -> Result<()>) -> Result<Connection> {
        let raw = self
            .database
            .connect()
            .map_err(|error| open_error(&self.path, &Failure::from(error)))?;
        raw.busy_timeout(self.busy_timeout)
            .map_err(|error| open_error(&self.path, &Failure::from(error)))?;
        let mut connection = Connection::new(raw);
        connection
            .script(&format!(
                "PRAGMA cache_size = -{}; PRAGMA temp_store = MEMORY;",
                self.cache_kib
            ))
            .map_err(|failure| open_error(&self.path, &failure))?;
        set_up(&mut connection)?;
        Ok(connection)
    }
}

/// Without the database's own lock around every call, of which a row takes several: a [`Connection`] is used by one
/// thread at a time anyway (<https://www.sqlite.org/threadsafe.html>, "multi-thread").
fn open_flags() -> libsql::OpenFlags {
    const SQLITE_OPEN_NOMUTEX: i32 = 0x8000;
    libsql::OpenFlags::default() | libsql::OpenFlags::from_bits_retain(SQLITE_OPEN_NOMUTEX)
}

/// The absolute path, with the folder created.
fn resolve(path: &Path) -> Result<PathBuf> {
    let unusable_path = |why: String| {
        unusable(
            "DATABASE_UNUSABLE",
            format!("cannot use {} as the database: {why}", path.display()),
        )
    };
    let name = path
        .file_name()
        .ok_or_else(|| unusable_path("it names no file".to_owned()))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)
        .map_err(|error| unusable_path(format!("cannot create the folder {}: {error}", folder.display())))?;
    let folder = folder
        .canonicalize()
        .map_err(|error| unusable_path(format!("cannot open the folder {}: {error}", folder.display())))?;
    let path = folder.join(name);
    if path.is_dir() {
        return Err(unusable_path("it is a folder".to_owned()));
    }
    // Through a symbolic link, so that two names of one file meet in one lock.
    Ok(path.canonicalize().unwrap_or(path))
}

fn lock(path: &Path) -> Result<File> {
    let mut name = OsString::from(path.as_os_str());
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let cannot = |error: std::io::Error| {
        unusable(
            "DATABASE_UNWRITABLE",
            format!(
                "cannot write beside the database ({}: {error}): give this user write access to the folder",
                lock_path.display()
            ),
        )
    };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(unusable(
            "DATABASE_IN_USE",
            format!(
                "another server uses the database {}: stop it first, or choose another file",
                path.display()
            ),
        )),
        Err(TryLockError::Error(error)) => Err(cannot(error)),
    }
}

fn check_format(connection: &mut Connection, path: &Path) -> Result<()> {
    let read = |connection: &mut Connection| -> Result<Option<i64>, Failure> {
        let tables =
            connection.script("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_alyx_meta'")?;
        if tables.is_empty() {
            return Ok(None);
        }
        let rows = connection.script("SELECT value FROM _alyx_meta WHERE key = 'format'")?;
        Ok(rows.first().and_then(|row| row.first()).and_then(Value::as_int))
    };
    let found = read(connection).map_err(|failure| open_error(path, &failure))?;
    match found {
        Some(found) if found > FORMAT => Err(unusable(
            "DATABASE_FORMAT_NEWER",
            format!(
                "the database {} has format {found}, and this version of alyx knows up to {FORMAT}: use a newer alyx",
                path.display()
            ),
        )),
        _ => Ok(()),
    }
}

/// Creates the store's own tables and closes a gap that a foreign process left at the log's end.
fn create_tables(connection: &mut Connection) -> Result<(), Failure> {
    connection.script("BEGIN IMMEDIATE")?;
    let created = (|| {
        connection.script(
            "CREATE TABLE IF NOT EXISTS _alyx_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        )?;
        connection.script(change_log::SCHEMA)?;
        connection.script(crate::idempotency::TABLE)?;
        connection.script(&format!(
            "INSERT OR IGNORE INTO _alyx_meta (key, value) VALUES ('format', {FORMAT}), ('horizon', 0)"
        ))?;
        let head = change_log::head(connection)?;
        if head > change_log::last_commit(connection)? && head > change_log::horizon(connection)? {
            change_log::record_commit(connection, head)?;
        }
        connection.script("COMMIT").map(|_| ())
    })();
    if created.is_err() {
        connection.rollback();
    }
    created
}

fn open_error(path: &Path, failure: &Failure) -> Error {
    const PERM: i32 = 3;
    const READONLY: i32 = 8;
    const CANTOPEN: i32 = 14;
    const NOTADB: i32 = 26;
    let path = path.display();
    match failure {
        Failure::Sqlite { code, .. } if code & 0xff == NOTADB => unusable(
            "NOT_A_DATABASE",
            format!("{path} is not a database: choose another file, or restore it from a backup"),
        ),
        Failure::Sqlite { code, message } if matches!(code & 0xff, PERM | READONLY | CANTOPEN) => unusable(
            "DATABASE_UNWRITABLE",
            format!(
                "cannot write the database {path} ({message}): give this user write access to it and its folder"
            ),
        ),
        Failure::Sqlite { .. } => failure.clone().into_error(),
        other => unusable(
            "DATABASE_UNUSABLE",
            format!("cannot open the database {path}: {other}"),
        ),
    }
}

fn unusable(code: &'static str, message: String) -> Error {
    Error::new(ErrorKind::Unavailable, code, message)
}
