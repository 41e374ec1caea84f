//! What a client saw, line by line in a file, so that it is there after a failure and however long a run is.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

/// The one clock of a run. It orders what clients saw of each other.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    began: Instant,
    ticks: Arc<AtomicU64>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            began: Instant::now(),
            ticks: Arc::default(),
        }
    }

    /// Milliseconds since the run began.
    pub(crate) fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).expect("a run is not that long")
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }
}

/// One client's file.
#[derive(Debug)]
pub(crate) struct Transcript {
    file: BufWriter<File>,
    clock: Clock,
}

impl Transcript {
    pub(crate) fn create(folder: &Path, name: &str, clock: &Clock) -> Self {
        let path = folder.join(format!("{name}.jsonl"));
        let file = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            file: BufWriter::new(file),
            clock: clock.clone(),
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Writes one event down, with when it was.
    pub(crate) fn write(&mut self, event: &str, data: Value) {
        let (tick, at) = (self.clock.tick(), self.clock.millis());
        let line = json!({"n": tick, "ms": at, "event": event, "data": data});
        writeln!(self.file, "{line}").expect("the transcript can be written");
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        self.file.flush().expect("the transcript can be written");
    }
}

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) ms: u64,
    pub(crate) event: String,
    pub(crate) data: Value,
}

/// The files of a folder whose names begin with `kind`, by name.
pub(crate) fn files(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder can be read");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| name(path).starts_with(kind))
        .collect();
    files.sort();
    files
}

pub(crate) fn name(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Every line of a file.
pub(crate) fn read(path: &Path) -> impl Iterator<Item = Event> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    BufReader::new(file).lines().map(|line| {
        let line = line.expect("the transcript can be read");
        let mut value: Value = serde_json::from_str(&line).expect("lines are JSON");
        Event {
            ms: value["ms"].as_u64().expect("a time"),
            event: value["event"].as_str().expect("a name").to_owned(),
            data: value["data"].take(),
        }
    })
}
