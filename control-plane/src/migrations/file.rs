//! Finding and reading `migrations/NNN_<slug>.yaml`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::parse::{Migration, parse};

/// Largest file in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Most files in the folder.
const MAX_FILES: usize = 10_000;

/// The folder of the migrations of a schema file.
pub(crate) fn folder(schema: &Path) -> PathBuf {
    schema.parent().unwrap_or(Path::new("")).join("migrations")
}

/// Reads every migration of the folder, by number. A folder that is not there has none.
///
/// # Errors
/// Everything that is wrong with the files, each with its place.
pub(crate) fn read_all(folder: &Path) -> Result<Vec<Migration>, Vec<String>> {
    let mut problems = Vec::new();
    let mut migrations: Vec<Migration> = Vec::new();
    for path in paths(folder).map_err(|problem| vec![problem])? {
        match read(&path) {
            Ok(migration) => match migrations.iter().find(|other| other.version == migration.version) {
                Some(other) => problems.push(format!(
                    "{}: {} has the number {} too; give one of them another",
                    migration.path, other.path, migration.version
                )),
                None => migrations.push(migration),
            },
            Err(found) => problems.extend(found),
        }
    }
    migrations.sort_by_key(|migration| migration.version);
    if problems.is_empty() {
        Ok(migrations)
    } else {
        Err(problems)
    }
}

/// The files of the folder, in the order of their names. Hidden ones, other endings and subfolders are not ours.
fn paths(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error: io::Error| format!("{}: it cannot be read: {error}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let ours = path
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml");
        if ours && !hidden && !path.is_dir() {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(format!(
                "{}: it holds more than {MAX_FILES} migrations",
                folder.display()
            ));
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Migration, Vec<String>> {
    let shown = path.display().to_string();
    let wrong = |message: String| vec![format!("{shown}: {message}")];
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let (version, slug) = numbered(&stem).ok_or_else(|| {
        wrong("its name must be a number and what it does, such as 001_drop_notes_text.yaml".to_owned())
    })?;
    let length = fs::metadata(path)
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if length > MAX_FILE {
        return Err(wrong(format!("it is larger than {} MiB", MAX_FILE >> 20)));
    }
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => wrong("it is not UTF-8 text".to_owned()),
        _ => wrong(format!("it cannot be read: {error}")),
    })?;
    parse(&shown, version, slug, &text)
}

/// The name of the file of a migration that is called `name`: letters, digits and underscores.
pub(crate) fn file_name(version: u32, name: &str) -> Option<String> {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    (!words.is_empty()).then(|| format!("{version:03}_{}.yaml", words.join("_")))
}

/// The parts of `007_what_it_does`.
fn numbered(stem: &str) -> Option<(u32, &str)> {
    let (number, slug) = stem.split_once('_')?;
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let version = number.parse().ok().filter(|version| digits && *version > 0)?;
    (!slug.is_empty()).then_some((version, slug))
}
