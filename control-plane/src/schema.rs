//! From the schema file to the schema whose tables exist.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alyx_core::Statement;
use alyx_schema::{Plan, Schema, Verdict};
use thiserror::Error;

use crate::migrations::{self, Migration};

/// Largest schema file in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Why the schema of the file is not served.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// The file cannot be read.
    #[error("the schema file {path} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The file is no schema. `Display` prints all problems with the lines of the source.
    #[error("the schema is broken\n{0}")]
    Broken(alyx_schema::SchemaErrors),
    /// Applying it would lose data. `Display` prints every such step with its remedy.
    #[error("the schema would lose data, so nothing of it was applied{}", steps(.0))]
    Unsafe(Box<Plan>),
    /// The migration files are broken, or do not fit what was applied.
    #[error("the migrations are not in order, so nothing was applied\n  {}", .0.join("\n  "))]
    Disordered(Vec<String>),
    /// The migrations failed, or do not lead to the schema.
    #[error("the migrations were not applied, and nothing of them or the schema is in force: {0}")]
    Unmigrated(String),
    /// The documents that there are do not allow it.
    #[error("the data does not allow the change, so nothing of it was applied: {0}")]
    Impossible(String),
    /// The database did not take it.
    #[error("the database did not take the schema, so nothing of it was applied: {0}")]
    Failed(String),
}

/// A schema file that was read and is a schema.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) source: String,
    pub(crate) schema: Arc<Schema>,
    pub(crate) warnings: Vec<String>,
    /// All migrations beside it, by number.
    pub(crate) migrations: Vec<Migration>,
    /// Hash of the schema file and its migrations; `None` for a schema that was sent.
    pub(crate) file: Option<String>,
}

/// Reads the schema at `path` or, where that is missing, with the other of the two endings, and its migrations.
pub(crate) fn read(path: &Path) -> Result<Candidate, Refusal> {
    let path = existing(path);
    let unreadable = |reason: String| Refusal::Unreadable {
        path: path.clone(),
        reason,
    };
    let metadata = fs::metadata(&path).map_err(|error| unreadable(reason(&error)))?;
    if metadata.len() > MAX_FILE {
        return Err(unreadable(format!("it is larger than {} MiB", MAX_FILE >> 20)));
    }
    let source = fs::read_to_string(&path).map_err(|error| unreadable(reason(&error)))?;
    let read = alyx_rules::read_schema(&source, &path.display().to_string());
    let (parsed, _) = read.map_err(Refusal::Broken)?;
    let migrations = migrations::read_all(&migrations::folder(&path)).map_err(Refusal::Disordered)?;
    Ok(Candidate {
        file: Some(fingerprint(&source, &migrations)),
        source,
        schema: Arc::new(parsed.schema),
        warnings: parsed.warnings,
        migrations,
    })
}

/// What tells one state of the files from another.
fn fingerprint(source: &str, migrations: &[Migration]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(source.as_bytes());
    for migration in migrations {
        hasher.update(format!("\n{} {}", migration.version, migration.checksum).as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The statements of a plan, for one transaction.
pub(crate) fn statements(plan: &Plan) -> Vec<Statement> {
    plan.statements()
        .into_iter()
        .map(|sql| Statement::new(sql, Vec::new()))
        .collect()
}

/// `path`, or the file beside it that ends in `.yml` instead of `.yaml` or the other way round, if only that exists.
pub(crate) fn existing(path: &Path) -> PathBuf {
    let other = match path.extension().and_then(|extension| extension.to_str()) {
        Some("yaml") => path.with_extension("yml"),
        Some("yml") => path.with_extension("yaml"),
        _ => return path.to_owned(),
    };
    if !path.is_file() && other.is_file() {
        other
    } else {
        path.to_owned()
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no such file; create it with at least one collection, or name another with `--schema`"
                .to_owned()
        }
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

fn steps(plan: &Plan) -> String {
    let mut text = String::new();
    for step in plan.refused() {
        text.push_str(&format!("\n  {}: {}", step.path, step.description));
        if let Verdict::Refused { loses, remedy, .. } = &step.verdict {
            text.push_str(&format!("\n    would lose: {loses}\n    instead: {remedy}"));
        }
    }
    text
}
