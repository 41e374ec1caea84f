//! Schemas of a running server: what is sent, and what is answered, for people and as JSON.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::admin as wire;
use serde::Serialize;

use super::table::Table;

/// Largest file that is sent, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// The text of a schema file, or of standard input for `-`.
///
/// # Errors
/// `SCHEMA_INVALID` where it cannot be read or is too large.
pub(super) fn read(path: &Path) -> Result<String> {
    let refuse = |reason: String| {
        Error::new(
            ErrorKind::InvalidInput,
            "SCHEMA_INVALID",
            format!("the schema {} cannot be read: {reason}", path.display()),
        )
    };
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_FILE + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
    };
    let length = read.map_err(|error| refuse(error.to_string()))?;
    if length as u64 > MAX_FILE {
        return Err(refuse(format!("it is larger than {} MiB", MAX_FILE >> 20)));
    }
    Ok(text)
}

#[derive(Serialize)]
pub(super) struct Plan {
    applied: bool,
    /// Nothing would change.
    same: bool,
    refused: bool,
    schema_revision: u64,
    steps: Vec<Step>,
    warnings: Vec<String>,
    #[serde(skip)]
    asked_to_apply: bool,
}

#[derive(Serialize)]
struct Step {
    path: String,
    description: String,
    /// What it may do to data; null where an older server does not say.
    class: Option<&'static str>,
    /// Rows that it concerns; null where it concerns the server only.
    rows: Option<u64>,
    refused: Option<Refused>,
}

#[derive(Serialize)]
struct Refused {
    loses: String,
    remedy: String,
}

impl Plan {
    pub(super) fn new(plan: wire::SchemaPlan, asked_to_apply: bool) -> Self {
        Self {
            applied: plan.applied,
            same: plan.steps.is_empty(),
            refused: plan.steps.iter().any(|step| step.refused.is_some()),
            schema_revision: plan.schema_revision,
            warnings: plan.warnings,
            steps: plan
                .steps
                .into_iter()
                .map(|step| Step {
                    class: class(step.class()),
                    rows: step.rows,
                    path: step.path,
                    description: step.description,
                    refused: step.refused.map(|refused| Refused {
                        loses: refused.loses,
                        remedy: refused.remedy,
                    }),
                })
                .collect(),
            asked_to_apply,
        }
    }

    /// Whether it was not applied, or would not be.
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revision = self.schema_revision;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        if !self.steps.is_empty() {
            let mut table = Table::new(&["", "CLASS", "ROWS", "STEP"]);
            for step in &self.steps {
                table.row([
                    if step.refused.is_some() { "!" } else { "+" }.to_owned(),
                    step.class.unwrap_or("-").to_owned(),
                    step.rows.map_or_else(|| "-".to_owned(), |rows| rows.to_string()),
                    format!("{}: {}", step.path, step.description),
                ]);
            }
            writeln!(f, "{table}")?;
        }
        for step in &self.steps {
            let Some(refused) = &step.refused else { continue };
            let indented = |text: &str| text.replace('\n', "\n      ");
            writeln!(f, "{}: {}", step.path, step.description)?;
            writeln!(f, "    would lose: {}", indented(&refused.loses))?;
            writeln!(f, "    instead: {}", indented(&refused.remedy))?;
            writeln!(f)?;
        }
        match (self.same, self.refused, self.asked_to_apply) {
            (true, _, _) => writeln!(f, "Nothing changes: revision {revision} is this schema."),
            (_, true, _) => writeln!(
                f,
                "It would lose data, so nothing of it is applied; revision {revision} stays in force."
            ),
            (_, false, true) => writeln!(
                f,
                "Applied as revision {revision}; all nodes follow by themselves."
            ),
            (_, false, false) => writeln!(f, "It loses nothing; `alyx schema apply` would apply it."),
        }
    }
}

const fn class(class: wire::StepClass) -> Option<&'static str> {
    match class {
        wire::StepClass::Unspecified => None,
        wire::StepClass::Safe => Some("safe"),
        wire::StepClass::NeedsDecision => Some("needs-decision"),
        wire::StepClass::Destructive => Some("destructive"),
    }
}

#[derive(Serialize)]
pub(super) struct Revision {
    revision: u64,
    in_force: bool,
    applied_at: String,
    hash: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    source: String,
}

impl From<wire::SchemaRevision> for Revision {
    fn from(kept: wire::SchemaRevision) -> Self {
        Self {
            revision: kept.revision,
            in_force: kept.in_force,
            applied_at: kept.applied_at,
            hash: kept.hash,
            source: kept.source,
        }
    }
}

impl fmt::Display for Revision {
    /// The schema alone, so that it can be written to a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[derive(Serialize)]
pub(super) struct History {
    revisions: Vec<Revision>,
}

impl From<wire::SchemaHistory> for History {
    fn from(history: wire::SchemaHistory) -> Self {
        Self {
            revisions: history.revisions.into_iter().map(Revision::from).collect(),
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["REVISION", "APPLIED", "HASH", ""]);
        for kept in &self.revisions {
            let mark = if kept.in_force { "in force" } else { "" };
            table.row([
                kept.revision.to_string(),
                kept.applied_at.clone(),
                kept.hash.get(..12).unwrap_or(&kept.hash).to_owned(),
                mark.to_owned(),
            ]);
        }
        write!(f, "{table}")
    }
}
