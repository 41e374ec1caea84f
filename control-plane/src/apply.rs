//! From the files of the schema to tables that are so.

use std::path::Path;
use std::sync::Arc;

use alyx_core::{Clock, Error, ErrorKind, Result, with_causes};
use alyx_schema::{Plan, Schema, SchemaErrors};
use alyx_store::Store;

use crate::migrations::{self, Migration};
use crate::options::Options;
use crate::plane::Trouble;
use crate::revision::{self, Revision};
use crate::schema::{self, Candidate, Refusal};

/// A schema that is served, and its text.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) schema: Arc<Schema>,
    pub(crate) source: Arc<str>,
}

impl Served {
    pub(crate) fn of(candidate: &Candidate) -> Self {
        Self {
            schema: Arc::clone(&candidate.schema),
            source: candidate.source.as_str().into(),
        }
    }
}

/// The revision that is in force after start, and what is served.
pub(crate) async fn first_schema(
    options: &Options,
    store: &Store,
    clock: &dyn Clock,
    trouble: &mut Trouble,
) -> Result<(Revision, Served)> {
    let candidate = read_schema(&options.schema_path).await;
    let Some(mut applied) = revision::last(store).await? else {
        let mut none = Revision::none();
        let candidate = candidate.map_err(invalid)?;
        let served = Served::of(&candidate);
        apply(store, clock, &mut none, &Arc::default(), candidate)
            .await
            .map_err(invalid)?;
        return Ok((none, served));
    };
    let served = Served {
        schema: parse_applied(&applied).map_err(unreadable_history)?,
        source: applied.source.as_str().into(),
    };
    let candidate = match candidate {
        Ok(candidate) if revision::is_heeded(store, &candidate).await? => {
            let next = Served::of(&candidate);
            if alyx_schema::plan_numbered(&served.schema, &next.schema, 1).is_empty() {
                return Ok((applied, next));
            }
            tracing::info!(
                "schema revision {} is served, which an operator applied: the schema file has not changed since",
                applied.id
            );
            return Ok((applied, served));
        }
        candidate => candidate,
    };
    let outcome = match candidate {
        Ok(candidate) => {
            let next = Served::of(&candidate);
            apply(store, clock, &mut applied, &served.schema, candidate)
                .await
                .map(|_| next)
        }
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(next) => Ok((applied, next)),
        Err(refusal) => {
            tracing::error!(
                "{refusal}\nthe schema that was applied last (revision {}) is served instead",
                applied.id
            );
            trouble.schema = Some(refusal.to_string());
            Ok((applied, served))
        }
    }
}

/// Carries out what leads from `served` to the candidate, with its record in the same transaction. `false` where
/// they are the same in everything that matters and no migration is pending. What a file says is remembered with it:
/// it is heeded once, so that what an operator applies later stays in force until the file says something new.
pub(crate) async fn apply(
    store: &Store,
    clock: &dyn Clock,
    applied: &mut Revision,
    served: &Arc<Schema>,
    candidate: Candidate,
) -> Result<bool, Refusal> {
    for warning in &candidate.warnings {
        tracing::warn!("schema: {warning}");
    }
    let history = migrations::applied(store)
        .await
        .map_err(|error| Refusal::Failed(with_causes(&error)))?;
    let next = migrations::next(&candidate.migrations, &history.applied);
    let pending = migrations::pending(candidate.migrations, &history.applied).map_err(Refusal::Disordered)?;
    let heeded = match &candidate.file {
        Some(file) => revision::heed(store, file)
            .await
            .map_err(|error| Refusal::Failed(with_causes(&error)))?,
        None => Vec::new(),
    };
    let revision = Revision {
        id: applied.id + 1,
        source: candidate.source,
    };
    let mut records = revision::record(&revision, clock.timestamp());
    let new = applied.id == 0;
    if !pending.is_empty() {
        // A database that is new is made as the schema says: there is nothing that a migration could migrate.
        let led_to = (!new).then_some(revision.id);
        let at = clock.timestamp();
        records.extend(migrations::record(&history, &pending, led_to, &at));
    }
    let plan = alyx_schema::plan_numbered(served, &candidate.schema, next);
    let plan = uncovered(plan, if new { &[] } else { &pending })?;
    let failed = |error: Error| Refusal::Failed(with_causes(&error));
    if pending.is_empty() && plan.is_empty() && !new {
        if !heeded.is_empty() {
            store.migrate(heeded).await.map_err(failed)?;
        }
        return Ok(false);
    }
    records.extend(heeded);
    if new {
        let mut statements = schema::statements(&plan);
        statements.extend(records);
        store.migrate(statements).await.map_err(failed)?;
    } else {
        let schemas = (Arc::clone(served), candidate.schema);
        let tasks = pending.iter().flat_map(Migration::tasks).collect();
        let outcome = migrations::carry_out(store, schemas, tasks, records).await;
        outcome.map_err(|error| match error.kind() {
            ErrorKind::InvalidInput if pending.is_empty() => Refusal::Impossible(with_causes(&error)),
            _ if pending.is_empty() => Refusal::Failed(with_causes(&error)),
            _ => Refusal::Unmigrated(with_causes(&error)),
        })?;
        for step in &plan.steps {
            tracing::info!("schema: {}: {}", step.path, step.description);
        }
        for migration in &pending {
            tracing::info!("migration {} is applied", described(migration));
        }
    }
    *applied = revision;
    Ok(true)
}

/// Refuses what would lose data and is about a collection of which no migration says what becomes of it.
fn uncovered(plan: Plan, pending: &[Migration]) -> Result<Plan, Refusal> {
    let plan = if pending.is_empty() {
        plan
    } else {
        plan.beside_migrations(|step| pending.iter().any(|migration| migration.covers(step)))
    };
    if plan.refused().next().is_some() {
        return Err(Refusal::Unsafe(Box::new(plan)));
    }
    Ok(plan)
}

fn described(migration: &Migration) -> String {
    format!("{} ({})", migration.version, migration.name)
}

pub(crate) async fn read_schema(schema_path: &Path) -> Result<Candidate, Refusal> {
    let path = schema_path.to_owned();
    tokio::task::spawn_blocking(move || schema::read(&path))
        .await
        .unwrap_or_else(|error| Err(Refusal::Failed(error.to_string())))
}

pub(crate) fn parse_applied(revision: &Revision) -> Result<Arc<Schema>, SchemaErrors> {
    let name = format!("schema revision {} in the database", revision.id);
    alyx_schema::parse(&revision.source, &name).map(|parsed| Arc::new(parsed.schema))
}

fn unreadable_history(errors: SchemaErrors) -> Error {
    Error::new(
        ErrorKind::Internal,
        "SCHEMA_HISTORY_BROKEN",
        format!(
            "this version cannot read the schema that was applied last; start the version that applied it\n{errors}"
        ),
    )
}

fn invalid(refusal: Refusal) -> Error {
    Error::new(ErrorKind::InvalidInput, "SCHEMA_INVALID", refusal.to_string())
}
