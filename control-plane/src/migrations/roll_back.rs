//! The way back: what undoes the last migration, and the schema that was in force before it.

use std::sync::Arc;

use alyx_core::{Clock, Error, Result, with_causes};
use alyx_schema::{Schema, SchemaErrors};
use alyx_store::Store;

use super::carry_out::{Task, carry_out, invalid};
use super::history::{Applied, NEVER_RAN, applied, forget};
use super::{Migration, Operation};
use crate::revision::{self, Revision};

/// A migration that was undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// Its number.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// The schema revision that is in force now.
    pub schema_revision: u64,
}

/// Undoes the migration that was applied last, in one transaction, and puts the schema from before it in force again.
///
/// # Errors
/// `SCHEMA_INVALID` with the reason where that cannot be done, and those of the store.
pub(crate) async fn roll_back(store: &Store, clock: &dyn Clock, files: &[Migration]) -> Result<RolledBack> {
    let history = applied(store).await?.applied;
    let Some((last, earlier)) = history.split_last() else {
        return Err(invalid(
            "no migration is applied, so there is nothing to roll back".to_owned(),
        ));
    };
    let file = file_of(last, files)?;
    let led_to = match last.revision {
        Some(NEVER_RAN) => {
            Err("it never ran in this database, which was made from a schema that has it behind it")
        }
        Some(led_to) => Ok(led_to),
        None => Err(
            "an older version of Alyx recorded it without the schema that it led to, so there is none to go back to; write \
             a new migration that undoes it",
        ),
    };
    let led_to = led_to.map_err(|why| refused(last, why))?;
    let in_force = revision::last(store)
        .await?
        .ok_or_else(|| Error::internal("the history has no schema"))?;
    // Of several that ran together the first brings the schema back.
    let first = earlier.iter().all(|other| other.revision != Some(led_to));
    let source = match before(store, led_to, &in_force).await? {
        Some(before) if first => before,
        _ => in_force.source.clone(),
    };
    let schemas = (parsed(&in_force.source)?, parsed(&source)?);
    let next = Revision {
        id: in_force.id + 1,
        source,
    };
    let mut records = revision::record(&next, clock.timestamp());
    records.push(forget(last.version));
    let outcome = carry_out(store, schemas, undoing(file)?, records).await;
    outcome.map_err(|error| refused(last, &with_causes(&error)))?;
    tracing::info!("migration {} ({}) is rolled back", last.version, last.name);
    Ok(RolledBack {
        version: last.version,
        name: last.name.clone(),
        schema_revision: next.id.unsigned_abs(),
    })
}

/// The text of the schema before the revision `led_to`, where that one is in force: what came after is not to be undone.
async fn before(store: &Store, led_to: i64, in_force: &Revision) -> Result<Option<String>> {
    let led_to_source = revision::get(store, led_to).await?;
    if led_to_source.is_none_or(|kept| kept.source != in_force.source) {
        return Ok(None);
    }
    let before = revision::get(store, led_to - 1).await?;
    Ok(before.map(|kept| kept.source))
}

fn file_of<'f>(last: &Applied, files: &'f [Migration]) -> Result<&'f Migration> {
    let file = files.iter().find(|file| file.version == last.version);
    let file = file.ok_or_else(|| refused(last, "its file is missing; put it back"))?;
    if file.checksum != last.checksum {
        let problem = format!(
            "{}: it was changed after it was applied at {}; put the old text back",
            file.path, last.at
        );
        return Err(refused(last, &problem));
    }
    Ok(file)
}

/// What undoes the operations, the last one first.
fn undoing(migration: &Migration) -> Result<Vec<Task>> {
    let operations = migration.operations.iter().enumerate().rev();
    let tasks = operations.map(|(at, operation): (usize, &Operation)| {
        let Some(down) = &operation.down else {
            let (line, column) = operation.place;
            return Err(invalid(format!(
                "migration {} ({}) cannot be rolled back: {}:{line}:{column}: operation {} has no `down`; write a new \
                 migration that undoes it",
                migration.version,
                migration.name,
                migration.path,
                at + 1
            )));
        };
        Ok(migration.task(at, operation, down))
    });
    tasks.collect()
}

fn refused(migration: &Applied, why: &str) -> Error {
    let (version, name) = (migration.version, &migration.name);
    invalid(format!(
        "migration {version} ({name}) cannot be rolled back: {why}"
    ))
}

fn parsed(source: &str) -> Result<Arc<Schema>> {
    let broken = |errors: SchemaErrors| invalid(format!("a schema of the history cannot be read\n{errors}"));
    let parsed = alyx_schema::parse(source, "a schema of the history").map_err(broken)?;
    Ok(Arc::new(parsed.schema))
}
