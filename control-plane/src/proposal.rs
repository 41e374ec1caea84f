//! A schema that was sent rather than read from its file: what it would change.

use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result};
use alyx_schema::Schema;
use alyx_store::Store;

use crate::migrations;
use crate::options::Options;
use crate::planned::{self, PlannedStep};
use crate::revision::Revision;
use crate::schema::{Candidate, Refusal, existing};

/// What a schema would change, or has changed.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) steps: Vec<PlannedStep>,
    pub(crate) warnings: Vec<String>,
    /// Whether it is in force now.
    pub(crate) applied: bool,
    /// The revision in force.
    pub(crate) schema_revision: u64,
}

/// Reads a schema that was sent, beside the migrations of the schema file.
pub(crate) async fn read(source: String, options: &Options) -> Result<Candidate> {
    let path = options.schema_path.clone();
    let read = tokio::task::spawn_blocking(move || {
        let read = alyx_rules::read_schema(&source, "the proposed schema");
        let (parsed, _) = read.map_err(Refusal::Broken)?;
        let folder = migrations::folder(&existing(&path));
        let migrations = migrations::read_all(&folder).map_err(Refusal::Disordered)?;
        Ok(Candidate {
            source,
            schema: Arc::new(parsed.schema),
            warnings: parsed.warnings,
            migrations,
            file: None,
        })
    });
    read.await.map_err(Error::internal)?.map_err(refused)
}

/// What leads from `served`, which `revision` put in force, to the candidate, beside the migrations that are still to run.
///
/// # Errors
/// `SCHEMA_NOT_APPLIED` where files and history contradict each other, and those of the store.
pub(crate) async fn plan(
    served: &Schema,
    candidate: &Candidate,
    database: &Store,
    revision: &Revision,
) -> Result<Proposal> {
    let history = migrations::applied(database).await?.applied;
    let next = migrations::next(&candidate.migrations, &history);
    let pending = migrations::pending(candidate.migrations.clone(), &history);
    let pending = pending.map_err(Refusal::Disordered).map_err(refused)?;
    let plan = alyx_schema::plan_numbered(served, &candidate.schema, next);
    let rows_in = Some(database).filter(|_| revision.id != 0);
    Ok(Proposal {
        steps: planned::steps(&plan, &pending, rows_in).await,
        warnings: candidate.warnings.clone(),
        applied: false,
        schema_revision: 0,
    })
}

/// A refusal as the caller is told of it.
pub(crate) fn refused(refusal: Refusal) -> Error {
    let (kind, code) = match &refusal {
        Refusal::Failed(_) => (ErrorKind::Unavailable, "SCHEMA_NOT_APPLIED"),
        Refusal::Broken(_) | Refusal::Unreadable { .. } => (ErrorKind::InvalidInput, "SCHEMA_INVALID"),
        Refusal::Unsafe(_) | Refusal::Disordered(_) | Refusal::Unmigrated(_) | Refusal::Impossible(_) => {
            (ErrorKind::Conflict, "SCHEMA_NOT_APPLIED")
        }
    };
    Error::new(kind, code, refusal.to_string())
}
