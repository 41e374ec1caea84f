//! Migration files: what the user has decided to do with the data where a change of the schema would lose some.
//!
//! **Invariant:** an operation is carried out exactly once: its record is written by the transaction that carries it
//! out, and a file that was applied may neither change nor vanish from before a later one.

mod carry_out;
mod file;
mod history;
mod parse;
mod roll_back;

pub(crate) use carry_out::{Task, Told, carry_out, unsettled};
pub(crate) use file::{file_name, folder, read_all};
pub(crate) use history::{Applied, History, applied, record};
pub(crate) use parse::{Migration, Operation};
pub use roll_back::RolledBack;
pub(crate) use roll_back::roll_back;

use alyx_schema::Step;

impl Migration {
    /// What it runs, in order.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = Task> {
        let operations = self.operations.iter().enumerate();
        operations.map(|(at, operation)| self.task(at, operation, &operation.up))
    }

    fn task(&self, at: usize, operation: &Operation, sql: &str) -> Task {
        let (line, column) = operation.place;
        Task {
            what: format!("{}:{line}:{column}: operation {}", self.path, at + 1),
            sql: sql.to_owned(),
        }
    }

    /// Whether it says what becomes of the data that a step is about. One without operations says of all data that it may
    /// stay as it is.
    pub(crate) fn covers(&self, step: &Step) -> bool {
        let Some(collection) = step.collection() else {
            return false;
        };
        if self.operations.is_empty() {
            return !step.needs_operations();
        }
        let mut operations = self.operations.iter();
        operations.any(|operation| operation.up.to_ascii_lowercase().contains(collection))
    }
}

/// The migrations that are still to be applied, in order.
///
/// # Errors
/// Everything in which the files and the history contradict each other, one line each.
pub(crate) fn pending(files: Vec<Migration>, history: &[Applied]) -> Result<Vec<Migration>, Vec<String>> {
    let mut problems = Vec::new();
    let last_file = files.last().map_or(0, |file| file.version);
    let last_applied = history.last().map_or(0, |applied| applied.version);
    for applied in history {
        let (version, name) = (applied.version, &applied.name);
        match files.iter().find(|file| file.version == version) {
            None if version < last_file => problems.push(format!(
                "migration {version} ({name}) was applied at {}, and its file is missing while later ones are there; \
                 put it back",
                applied.at
            )),
            Some(file) if file.checksum != applied.checksum => problems.push(format!(
                "{}: it was changed after it was applied at {}; put the old text back, and write what is new into a \
                 migration with a new number",
                file.path, applied.at
            )),
            None | Some(_) => {}
        }
    }
    let is_applied = |file: &Migration| history.iter().any(|applied| applied.version == file.version);
    let pending: Vec<Migration> = files.into_iter().filter(|file| !is_applied(file)).collect();
    for file in pending.iter().filter(|file| file.version < last_applied) {
        problems.push(format!(
            "{}: it is not applied yet, and migration {last_applied} is; give it the number {}",
            file.path,
            last_applied.max(last_file) + 1
        ));
    }
    if problems.is_empty() {
        Ok(pending)
    } else {
        Err(problems)
    }
}

/// The number of the next migration to be written.
pub(crate) fn next(files: &[Migration], history: &[Applied]) -> u32 {
    let files = files.iter().map(|file| file.version);
    let applied = history.iter().map(|applied| applied.version);
    files.chain(applied).max().unwrap_or(0).saturating_add(1)
}
