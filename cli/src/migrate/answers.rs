//! What the commands print, for people and as JSON.

use std::fmt;

use alyx_control_plane as control;
use serde::Serialize;

use crate::admin::Table;

#[derive(Serialize)]
struct Migration {
    version: u32,
    name: String,
    /// Null where it is pending.
    applied_at: Option<String>,
}

impl From<control::KnownMigration> for Migration {
    fn from(known: control::KnownMigration) -> Self {
        Self {
            version: known.version,
            name: known.name,
            applied_at: known.applied_at,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Status {
    schema_revision: u64,
    migrations: Vec<Migration>,
    problems: Vec<String>,
    steps: Steps,
}

#[derive(Serialize)]
struct Steps {
    safe: usize,
    needs_decision: usize,
    destructive: usize,
}

impl Status {
    /// Whether files and history agree.
    pub(super) fn in_order(&self) -> bool {
        self.problems.is_empty()
    }
}

impl From<control::MigrationStatus> for Status {
    fn from(status: control::MigrationStatus) -> Self {
        let [safe, needs_decision, destructive] = status.steps;
        Self {
            schema_revision: status.schema_revision,
            migrations: status.migrations.into_iter().map(Migration::from).collect(),
            problems: status.problems,
            steps: Steps {
                safe,
                needs_decision,
                destructive,
            },
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.migrations.is_empty() {
            let mut table = Table::new(&["NUMBER", "NAME", "APPLIED"]);
            for migration in &self.migrations {
                let at = migration.applied_at.as_deref().unwrap_or("pending");
                table.row([
                    format!("{:03}", migration.version),
                    migration.name.clone(),
                    at.to_owned(),
                ]);
            }
            writeln!(f, "{table}")?;
        }
        for problem in &self.problems {
            writeln!(f, "! {problem}")?;
        }
        let Steps {
            safe,
            needs_decision,
            destructive,
        } = &self.steps;
        match (self.schema_revision, safe + needs_decision + destructive) {
            (0, _) => writeln!(f, "The database is new; it will be made as the schema file says."),
            (revision, 0) => writeln!(f, "The schema file is what is in force, as revision {revision}."),
            (revision, _) => writeln!(
                f,
                "Revision {revision} is in force. To the schema file: {safe} safe, {needs_decision} needs-decision, \
                 {destructive} destructive steps; `alyx migrate plan` shows them."
            ),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Plan {
    schema_revision: u64,
    refused: bool,
    pending: Vec<Migration>,
    steps: Vec<Step>,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sql: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Step {
    path: String,
    description: String,
    class: &'static str,
    rows: Option<u64>,
    refused: Option<Refused>,
}

#[derive(Serialize)]
struct Refused {
    loses: String,
    remedy: String,
}

impl Plan {
    pub(super) fn new(plan: control::MigrationPlan, sql: bool) -> Self {
        Self {
            schema_revision: plan.schema_revision,
            refused: plan.steps.iter().any(|step| step.refused.is_some()),
            pending: plan.pending.into_iter().map(Migration::from).collect(),
            steps: plan.steps.into_iter().map(Step::from).collect(),
            warnings: plan.warnings,
            sql: sql.then_some(plan.sql),
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }
}

impl From<control::PlannedStep> for Step {
    fn from(step: control::PlannedStep) -> Self {
        Self {
            path: step.path,
            description: step.description,
            class: step.class.name(),
            rows: step.rows,
            refused: step.refused.map(|refused| Refused {
                loses: refused.loses,
                remedy: refused.remedy,
            }),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for migration in &self.pending {
            writeln!(f, "migration {:03} {}", migration.version, migration.name)?;
        }
        if !self.steps.is_empty() {
            let mut table = Table::new(&["", "CLASS", "ROWS", "STEP"]);
            for step in &self.steps {
                table.row([
                    if step.refused.is_some() { "!" } else { "+" }.to_owned(),
                    step.class.to_owned(),
                    step.rows.map_or_else(|| "-".to_owned(), |rows| rows.to_string()),
                    format!("{}: {}", step.path, step.description),
                ]);
            }
            write!(f, "{table}")?;
        }
        for step in &self.steps {
            let Some(refused) = &step.refused else { continue };
            writeln!(f, "\n{}: {}", step.path, step.description)?;
            writeln!(f, "    would lose: {}", refused.loses)?;
            writeln!(f, "    instead: {}", refused.remedy)?;
        }
        if let Some(sql) = &self.sql {
            writeln!(f)?;
            for statement in sql {
                writeln!(f, "{};", statement.trim().trim_end_matches(';'))?;
            }
            if !self.pending.is_empty() {
                writeln!(f, "-- and what then leads from the tables to the schema")?;
            }
        }
        writeln!(f)?;
        if self.refused {
            return writeln!(
                f,
                "What is marked with ! is refused, so nothing would be applied; `alyx migrate create NAME` writes the \
                 migration that carries it out."
            );
        }
        if self.steps.is_empty() && self.pending.is_empty() {
            return writeln!(
                f,
                "Nothing to do: revision {} is this schema.",
                self.schema_revision
            );
        }
        writeln!(f, "`alyx migrate apply` would apply it.")
    }
}

#[derive(Serialize)]
pub(super) struct Applied {
    schema_revision: u64,
    changed: bool,
    migrations: Vec<Migration>,
}

impl From<control::Migrated> for Applied {
    fn from(migrated: control::Migrated) -> Self {
        Self {
            schema_revision: migrated.schema_revision,
            changed: migrated.changed,
            migrations: migrated.migrations.into_iter().map(Migration::from).collect(),
        }
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for migration in &self.migrations {
            writeln!(
                f,
                "migration {:03} {} is applied",
                migration.version, migration.name
            )?;
        }
        let revision = self.schema_revision;
        if self.changed {
            writeln!(f, "Revision {revision} is in force.")
        } else {
            writeln!(f, "Nothing to do: revision {revision} is this schema.")
        }
    }
}

#[derive(Serialize)]
pub(super) struct RolledBack {
    /// The last one first.
    rolled_back: Vec<Undone>,
}

#[derive(Serialize)]
struct Undone {
    version: u32,
    name: String,
    schema_revision: u64,
}

impl From<Vec<control::RolledBack>> for RolledBack {
    fn from(done: Vec<control::RolledBack>) -> Self {
        let done = done.into_iter().map(|undone| Undone {
            version: undone.version,
            name: undone.name,
            schema_revision: undone.schema_revision,
        });
        Self {
            rolled_back: done.collect(),
        }
    }
}

impl fmt::Display for RolledBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for undone in &self.rolled_back {
            writeln!(
                f,
                "migration {:03} {} is rolled back; revision {} is in force",
                undone.version, undone.name, undone.schema_revision
            )?;
        }
        if !self.rolled_back.is_empty() {
            writeln!(
                f,
                "That holds over restarts until the schema file or a migration changes, or `alyx migrate apply`."
            )?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
pub(super) struct Created {
    path: String,
    /// Operations that carry out what is refused.
    operations: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Created {
    pub(super) fn new(created: control::CreatedMigration, note: Option<String>) -> Self {
        Self {
            path: created.path.display().to_string(),
            operations: created.operations,
            note,
        }
    }
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match (&self.note, self.operations) {
            (Some(note), _) => writeln!(f, "{path} is to be filled in; {note}."),
            (None, 0) => writeln!(f, "{path} is to be filled in: the schema file loses nothing."),
            (None, count) => writeln!(
                f,
                "{path} carries out what the schema file would lose, with {count} operations; look at them before you apply \
                 them."
            ),
        }
    }
}
