//! Migrations from the command line: on the database itself, while no server is running on it.
//!
//! What it does and refuses is what a control plane does at its start; only here it is asked for, and told.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use alyx_core::{Clock, Error, ErrorKind, Result, Value};
use alyx_schema::{Class, Plan, Schema, Transition};
use alyx_store::{Alteration, Store};

use crate::apply::{apply, parse_applied, read_schema};
use crate::migrations::{self, History, Migration, RolledBack, Told};
use crate::planned::{self, PlannedStep};
use crate::proposal::refused;
use crate::revision::{self, Revision};
use crate::schema::{Candidate, Refusal, existing};

/// A database and the folder of a project.
pub struct Migrator {
    store: Store,
    clock: Arc<dyn Clock>,
    schema_path: PathBuf,
}

/// A migration of the folder or of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMigration {
    /// Its number.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// When it was applied, in RFC 3339; `None` where it is pending.
    pub applied_at: Option<String>,
}

/// Where a database stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// The schema revision in force; 0 for a database that is new.
    pub schema_revision: u64,
    /// Every migration, by number.
    pub migrations: Vec<KnownMigration>,
    /// In what the files and the history contradict each other.
    pub problems: Vec<String>,
    /// How many steps of each class lead to the schema file, in the order of [`Class`].
    pub steps: [usize; 3],
}

/// What an application would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationPlan {
    /// The schema revision in force; 0 for a database that is new.
    pub schema_revision: u64,
    /// Migrations that would run, in order.
    pub pending: Vec<KnownMigration>,
    /// The steps from the schema in force to the file's.
    pub steps: Vec<PlannedStep>,
    /// What would run, in order.
    pub sql: Vec<String>,
    /// What is legal in the schema and probably not meant.
    pub warnings: Vec<String>,
}

/// What an application has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The schema revision in force.
    pub schema_revision: u64,
    /// Migrations that are applied now and were not.
    pub migrations: Vec<KnownMigration>,
    /// Whether there was anything to do.
    pub changed: bool,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedMigration {
    /// Where.
    pub path: PathBuf,
    /// Its operations; none where nothing had to be carried out.
    pub operations: usize,
}

/// The schema in force and the file's.
struct Ends {
    applied: Revision,
    served: Arc<Schema>,
    candidate: Candidate,
    history: History,
}

impl Migrator {
    /// For the project whose schema file is `schema_path`.
    pub fn new(store: Store, clock: Arc<dyn Clock>, schema_path: PathBuf) -> Self {
        Self {
            store,
            clock,
            schema_path,
        }
    }

    /// Where the database stands.
    ///
    /// # Errors
    /// `SCHEMA_INVALID` for broken files, and those of the store.
    pub async fn status(&self) -> Result<MigrationStatus> {
        let ends = self.ends().await?;
        let files = ends.candidate.migrations;
        let pending = migrations::pending(files.clone(), &ends.history.applied);
        let applied = ends.history.applied.iter().map(|applied| KnownMigration {
            version: applied.version,
            name: applied.name.clone(),
            applied_at: Some(applied.at.clone()),
        });
        let mut known: Vec<KnownMigration> = applied.collect();
        let is_known =
            |file: &&Migration| !ends.history.applied.iter().any(|old| old.version == file.version);
        known.extend(files.iter().filter(is_known).map(waiting));
        known.sort_by_key(|migration| migration.version);
        let mut steps = [0; 3];
        for step in &alyx_schema::plan(&ends.served, &ends.candidate.schema).steps {
            steps[place(step.class())] += 1;
        }
        Ok(MigrationStatus {
            schema_revision: ends.applied.id.unsigned_abs(),
            migrations: known,
            problems: pending.err().unwrap_or_default(),
            steps,
        })
    }

    /// What [`Self::apply`] would do; nothing is changed.
    ///
    /// # Errors
    /// As for [`Self::status`]; `SCHEMA_NOT_APPLIED` where files and history contradict each other.
    pub async fn plan(&self) -> Result<MigrationPlan> {
        let ends = self.ends().await?;
        let next = migrations::next(&ends.candidate.migrations, &ends.history.applied);
        let pending = migrations::pending(ends.candidate.migrations, &ends.history.applied);
        let pending = pending.map_err(Refusal::Disordered).map_err(refused)?;
        let plan = alyx_schema::plan_numbered(&ends.served, &ends.candidate.schema, next);
        let new = ends.applied.id == 0;
        let database = Some(&self.store).filter(|_| !new);
        let steps = planned::steps(&plan, &pending, database).await;
        let sql = if new {
            plan.statements()
        } else {
            self.sql(&ends.served, &ends.candidate.schema, &plan, &pending)
                .await?
        };
        Ok(MigrationPlan {
            schema_revision: ends.applied.id.unsigned_abs(),
            pending: pending.iter().map(waiting).collect(),
            steps,
            sql,
            warnings: ends.candidate.warnings,
        })
    }

    /// Runs every pending migration and what else leads to the schema file, whole or not at all.
    ///
    /// # Errors
    /// `SCHEMA_NOT_APPLIED` with the reason, `SCHEMA_INVALID` for broken files, `DATABASE_IN_USE` while a control plane
    /// leads, and those of the store.
    pub async fn apply(&self) -> Result<Migrated> {
        self.alone().await?;
        let ends = self.ends().await?;
        let known: Vec<u32> = ends.history.applied.iter().map(|old| old.version).collect();
        let mut applied = ends.applied;
        let outcome = apply(
            &self.store,
            &*self.clock,
            &mut applied,
            &ends.served,
            ends.candidate,
        );
        let changed = outcome.await.map_err(refused)?;
        let history = migrations::applied(&self.store).await?.applied;
        let new = history.iter().filter(|applied| !known.contains(&applied.version));
        Ok(Migrated {
            schema_revision: applied.id.unsigned_abs(),
            migrations: new
                .map(|applied| KnownMigration {
                    version: applied.version,
                    name: applied.name.clone(),
                    applied_at: Some(applied.at.clone()),
                })
                .collect(),
            changed,
        })
    }

    /// Undoes the last `count` migrations, the last one first, each in a transaction of its own, and puts the schema from
    /// before them in force. It stays in force over restarts until the files say something new.
    ///
    /// # Errors
    /// As for [`Self::apply`]. What was undone before the one that failed stays undone, and is in the first half.
    pub async fn roll_back(&self, count: usize) -> (Vec<RolledBack>, Result<()>) {
        let mut done = Vec::new();
        let outcome = self.roll_all_back(count, &mut done).await;
        (done, outcome)
    }

    async fn roll_all_back(&self, count: usize, done: &mut Vec<RolledBack>) -> Result<()> {
        self.alone().await?;
        let folder = migrations::folder(&existing(&self.schema_path));
        let files =
            migrations::read_all(&folder).map_err(|problems| refused(Refusal::Disordered(problems)))?;
        for _ in 0..count {
            done.push(migrations::roll_back(&self.store, &*self.clock, &files).await?);
        }
        Ok(())
    }

    /// Writes the next migration, which carries out what the schema file would lose.
    ///
    /// # Errors
    /// As for [`Self::status`], and what keeps the file from being written.
    pub async fn create(&self, name: &str) -> Result<CreatedMigration> {
        let ends = self.ends().await?;
        let next = migrations::next(&ends.candidate.migrations, &ends.history.applied);
        let plan = alyx_schema::plan_numbered(&ends.served, &ends.candidate.schema, next);
        write(&self.schema_path, next, name, &plan)
    }

    async fn ends(&self) -> Result<Ends> {
        let candidate = read_schema(&self.schema_path).await.map_err(refused)?;
        let (applied, served) = match revision::last(&self.store).await? {
            Some(applied) => {
                let served = parse_applied(&applied).map_err(|errors| {
                    let problem = format!("the schema that was applied last cannot be read\n{errors}");
                    Error::new(ErrorKind::Internal, "SCHEMA_HISTORY_BROKEN", problem)
                })?;
                (applied, served)
            }
            None => (Revision::none(), Arc::default()),
        };
        let history = migrations::applied(&self.store).await?;
        Ok(Ends {
            applied,
            served,
            candidate,
            history,
        })
    }

    /// What would run. What follows migrations depends on what they leave.
    async fn sql(
        &self,
        from: &Arc<Schema>,
        to: &Arc<Schema>,
        plan: &Plan,
        pending: &[Migration],
    ) -> Result<Vec<String>> {
        let tasks = pending.iter().flat_map(Migration::tasks).map(|task| task.sql);
        let mut sql: Vec<String> = tasks.collect();
        if !pending.is_empty() || plan.refused().next().is_some() {
            return Ok(sql);
        }
        let transition = Transition::direct(Arc::clone(from), Arc::clone(to));
        let (sender, receiver) = mpsc::channel();
        let look = move |alteration: &mut Alteration<'_>| {
            let statements = transition.preview(&mut Told::new(alteration));
            let _ = sender.send(statements.map_err(migrations::unsettled)?);
            Ok(())
        };
        self.store.alter(look).await?;
        sql.extend(receiver.try_recv().unwrap_or_default());
        Ok(sql)
    }

    /// Whether no control plane would be left with tables that it does not know.
    async fn alone(&self) -> Result<()> {
        let there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_alyx_leader'";
        if revision::query(&self.store, there).await?.is_empty() {
            return Ok(());
        }
        let leads = "SELECT address FROM _alyx_leader WHERE expires >= unixepoch('subsec')";
        let leads = revision::query(&self.store, leads).await?;
        let Some(row) = leads.first() else { return Ok(()) };
        let address = row.first().and_then(Value::as_text).unwrap_or_default();
        Err(Error::new(
            ErrorKind::Unavailable,
            "DATABASE_IN_USE",
            format!(
                "the control plane at {address} leads a cluster on this database: have it apply the change with `alyx schema \
                 apply`, or stop it first (it is gone 5 s after it was killed)"
            ),
        ))
    }
}

/// Writes the next migration of a project whose database cannot be looked at: a file to be filled in.
///
/// # Errors
/// `SCHEMA_NOT_APPLIED` where the migrations that are there are broken, and what keeps the file from being written.
pub fn create_empty_migration(schema_path: &Path, name: &str) -> Result<CreatedMigration> {
    let folder = migrations::folder(&existing(schema_path));
    let files = migrations::read_all(&folder).map_err(|problems| refused(Refusal::Disordered(problems)))?;
    write(schema_path, migrations::next(&files, &[]), name, &Plan::default())
}

fn write(schema_path: &Path, version: u32, name: &str, plan: &Plan) -> Result<CreatedMigration> {
    let invalid = |message: String| Error::new(ErrorKind::InvalidInput, "SCHEMA_INVALID", message);
    let file = migrations::file_name(version, name)
        .ok_or_else(|| invalid(format!("`{name}` names no migration; use letters and digits")))?;
    let folder = migrations::folder(&existing(schema_path));
    let path = folder.join(file);
    let proposal = plan.proposal();
    let operations = proposal.as_ref().map_or(0, |proposal| proposal.operations.len());
    let mut text = format!("version: {version}\nname: {}\n", quoted(name));
    match &proposal {
        Some(proposal) => {
            text.push_str("operations:\n");
            for operation in &proposal.operations {
                text.push_str(&format!("  - {operation}\n"));
            }
            for note in &proposal.notes {
                text.push_str(&format!("# {note}\n"));
            }
        }
        None => text.push_str(
            "operations: []\n#  - {type: rename_field, collection: …, from: …, to: …}\n#  - type: sql\n#    up: …\n#    down: …\n",
        ),
    }
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::File::create_new(&path))
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| invalid(format!("{} cannot be written: {error}", path.display())))?;
    Ok(CreatedMigration { path, operations })
}

/// A name as YAML.
fn quoted(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''").replace('\n', " "))
}

fn waiting(migration: &Migration) -> KnownMigration {
    KnownMigration {
        version: migration.version,
        name: migration.name.clone(),
        applied_at: None,
    }
}

fn place(class: Class) -> usize {
    match class {
        Class::Safe => 0,
        Class::NeedsDecision => 1,
        Class::Destructive => 2,
    }
}
