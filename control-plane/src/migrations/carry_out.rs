//! Carrying out migrations and what else leads to the schema, in one transaction of the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result, Row, Statement, with_causes};
use alyx_schema::{Database, Limits, NotSettled, Progress, Schema, Transition, Undone};
use alyx_store::{Alteration, Store};

/// The most rows of a table that is made anew while other servers write to the database: the database's server ends a
/// transaction that others wait for after five seconds.
const ROWS_BESIDE_OTHERS: u64 = 200_000;
/// How often it is told how far a table is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// A statement of a migration.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// What it is, for messages: its place in a file.
    pub(crate) what: String,
    pub(crate) sql: String,
}

/// Runs the tasks, each once, brings the tables to `to` and executes `records`; all of it or nothing.
///
/// # Errors
/// Which task failed and why, or what they have left undone.
pub(crate) async fn carry_out(
    store: &Store,
    (from, to): (Arc<Schema>, Arc<Schema>),
    tasks: Vec<Task>,
    records: Vec<Statement>,
) -> Result<()> {
    let transition = if tasks.is_empty() {
        Transition::direct(from, to)
    } else {
        Transition::new(from, to, tasks.iter().map(|task| task.sql.as_str()))
    };
    let limits = Limits {
        rebuilt_rows: store.is_shared().then_some(ROWS_BESIDE_OTHERS),
    };
    let work = move |alteration: &mut Alteration<'_>| {
        let mut database = Told::new(alteration);
        let run = |database: &mut Told<'_, '_>| {
            let mut tasks = tasks.iter();
            tasks.try_for_each(|task| database.run(&task.sql).map_err(|error| failed(task, &error)))
        };
        transition
            .carry_out(&mut database, limits, run)
            .map_err(unsettled)?;
        for record in &records {
            if record.params.is_empty() {
                alteration.run(&record.sql)?;
            } else {
                alteration.query(record)?;
            }
        }
        Ok(())
    };
    store.alter(work).await.map(|_| ())
}

/// The tables while they are changed; the log is told how far.
pub(crate) struct Told<'a, 'b> {
    alteration: &'a mut Alteration<'b>,
    /// When the table in hand was begun, and when something was said of it.
    began: Instant,
    told: Option<Instant>,
}

impl<'a, 'b> Told<'a, 'b> {
    pub(crate) fn new(alteration: &'a mut Alteration<'b>) -> Self {
        Self {
            alteration,
            began: Instant::now(),
            told: None,
        }
    }
}

impl Database for Told<'_, '_> {
    type Error = Error;

    fn run(&mut self, sql: &str) -> Result<()> {
        self.alteration.run(sql)
    }

    fn query(&mut self, statement: &Statement) -> Result<Vec<Row>> {
        self.alteration.query(statement)
    }

    /// The first batch of several, then every two seconds, then the last.
    fn progress(&mut self, progress: Progress<'_>) {
        let Progress { table, done, rows } = progress;
        if done >= rows {
            if self.told.take().is_some() {
                let duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(
                    collection = table,
                    duration_ms,
                    "the table is made anew: {done} of {rows} rows"
                );
            }
            return;
        }
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            if self.told.is_none() {
                self.began = Instant::now();
            }
            self.told = Some(Instant::now());
            tracing::info!(
                collection = table,
                "the table is made anew: {done} of {rows} rows"
            );
        }
    }
}

fn failed(task: &Task, error: &Error) -> Error {
    invalid(format!(
        "{} failed: {}\n    the statement: {}\n    (indexes and triggers of the schema are taken away before and made \
         again afterwards)",
        task.what,
        with_causes(error),
        task.sql.trim()
    ))
}

/// In the words of whoever wrote the schema.
pub(crate) fn unsettled(problem: NotSettled<Error>) -> Error {
    match problem {
        NotSettled::Migration(error) => error,
        NotSettled::Failed { source, sql } => invalid(format!(
            "the database could not be brought to the schema: {}\n    the statement: {sql}",
            with_causes(&source)
        )),
        NotSettled::Undone(undone) => incomplete(&undone),
        NotSettled::TooLarge { table, rows, most } => invalid(format!(
            "the table of `{table}` has to be made anew, and it has {rows} rows; beside a running cluster at most {most} \
             can be. Stop the servers of the cluster and run `alyx migrate apply`"
        )),
        NotSettled::Unfit { .. } | NotSettled::RowsLost { .. } | NotSettled::Unsettled(_) => {
            invalid(problem.to_string())
        }
    }
}

fn incomplete(undone: &[Undone]) -> Error {
    let mut text = "they leave the tables in another shape than the schema's".to_owned();
    for undone in undone {
        text.push_str(&format!(
            "\n  {}: {}\n    instead: {}",
            undone.path, undone.problem, undone.remedy
        ));
    }
    invalid(text)
}

pub(super) fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, "SCHEMA_INVALID", message)
}
