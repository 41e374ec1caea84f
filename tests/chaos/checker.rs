//! Reads a run's transcripts and says what was wrong.
//!
//! - An acknowledged write is in the database, unless its own client's later writes explain why not.
//! - Every acknowledged write is in the change log once, and a write that nobody acknowledged once or not at all;
//!   nothing is there that nobody wrote.
//! - Every live query's frames follow each other and show, at each position that they name, what the change log up to
//!   there makes of the query; each ends with what the database holds.
//! - In each epoch of the writer's lease one writer wrote.
//! - Clients see errors only while a fault holds, and until everything is served again within 5 s; those that a fault
//!   spares only within 5 s of its beginning. None of them is an internal error.

mod faults;
mod log;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

use serde_json::Value;

use self::faults::Faults;
use self::log::Log;
use crate::transcript::{self, Event};
use crate::view::View;

/// The content of documents that only show whether clients are served.
const PROBE: &str = "probe";

/// What was wrong, and how much there was to look at.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) problems: Vec<String>,
    acknowledged: u64,
    unknown: u64,
    frames: u64,
    resets: u64,
    connections: u64,
    positions: u64,
    changes: u64,
    epochs: u64,
    disturbed: u64,
    survived: u64,
    slowest_recovery: u64,
}

impl Report {
    /// The first problems; the rest would hardly be read.
    pub(crate) fn told(&self) -> String {
        const TOLD: usize = 40;
        let mut told = self.problems.iter().take(TOLD).cloned().collect::<Vec<_>>();
        if self.problems.len() > TOLD {
            told.push(format!("and {} more", self.problems.len() - TOLD));
        }
        told.join("\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} writes acknowledged, {} unanswered, {} frames ({} resets) on {} connections, {} positions compared with the log, {} changes, {} epochs, {} NATS messages disturbed, {} faults survived, slowest recovery {} ms, {} problems",
            self.acknowledged,
            self.unknown,
            self.frames,
            self.resets,
            self.connections,
            self.positions,
            self.changes,
            self.epochs,
            self.disturbed,
            self.survived,
            self.slowest_recovery,
            self.problems.len()
        )
    }
}

/// Checks the run in that folder.
pub(crate) fn check(folder: &Path) -> Report {
    let mut checker = Checker::default();
    let (faults, late) = Faults::read(folder);
    checker.report.slowest_recovery = faults.slowest;
    checker.report.survived = faults.survived;
    checker.report.disturbed = faults.disturbed;
    checker.report.problems.extend(late);
    checker.faults = faults;
    for path in transcript::files(folder, "writer") {
        transcript::read(&path).for_each(|event| checker.write(&event));
    }
    checker.read_end(folder);
    for path in transcript::files(folder, "reader") {
        checker.follow(&transcript::name(&path), transcript::read(&path));
    }
    checker.compare();
    let Checker {
        log,
        shown,
        all,
        report,
        epochs,
        counted,
        ..
    } = &mut checker;
    report.positions = shown.values().map(|at| at.len() as u64).sum();
    report.problems.extend(log.disagreements(shown, all));
    report.changes = log.len();
    if !epochs.is_empty() && *counted != log.len() {
        let problem = format!(
            "the database counted {counted} changes, and its log has {}",
            log.len()
        );
        report.problems.push(problem);
    }
    checker.report
}

#[derive(Default)]
struct Checker {
    report: Report,
    faults: Faults,
    /// What its owner knows of each document.
    documents: BTreeMap<String, Known>,
    /// Every content that was sent, and the document that it was seen in.
    contents: HashMap<String, Option<String>>,
    /// Contents of documents whose ids their owners never learned, and which are there all the same.
    must_exist: Vec<String>,
    /// What the database held at the end.
    all: BTreeMap<String, Value>,
    /// The answers to the live queries' own queries at the end.
    lists: HashMap<String, Value>,
    /// What was shown of each query at a position, and to whom.
    shown: HashMap<String, BTreeMap<u64, Shown>>,
    log: Log,
    /// Writes that took place, as their clients were told.
    certain: Vec<Certain>,
    /// The writer of each epoch.
    epochs: HashMap<u64, String>,
    /// Changes that the database counted.
    counted: u64,
}

#[derive(Debug, Clone)]
struct Shown {
    hash: u64,
    reader: String,
}

/// A write that took place.
struct Certain {
    /// Of a delete, whose content is nowhere.
    deleted: Option<String>,
    content: String,
}

#[derive(Default)]
struct Known {
    /// After the last acknowledged write; `None` where that was a delete.
    last: Option<Value>,
    /// A later write that was not plainly acknowledged; its owner writes no more to it.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// `None` for a delete.
    content: Option<String>,
    /// It was said to be carried out, only what it returned was lost.
    certain: bool,
}

impl Checker {
    fn problem(&mut self, problem: impl Into<String>) {
        self.report.problems.push(problem.into());
    }

    fn write(&mut self, event: &Event) {
        let text = |name: &str| event.data[name].as_str().unwrap_or_default().to_owned();
        let (op, content) = (text("op"), text("content"));
        if op != "delete" {
            self.contents.insert(content.clone(), None);
        }
        let id = event.data["id"].as_str().map(str::to_owned);
        if matches!(event.event.as_str(), "acknowledged" | "carried_out") {
            let deleted = id.clone().filter(|_| op == "delete");
            let content = content.clone();
            self.certain.push(Certain { deleted, content });
        }
        if event.data["impolite"] == true {
            self.problem(format!(
                "a 503 without Retry-After at {} ms: {}",
                event.ms, event.data
            ));
        }
        match (event.event.as_str(), id) {
            ("acknowledged", Some(id)) => {
                self.report.acknowledged += 1;
                let doc = event.data["doc"].clone();
                let last = if op == "delete" { None } else { Some(doc) };
                self.documents.insert(id, Known { last, open: None });
            }
            (outcome @ ("unknown" | "carried_out"), id) => {
                self.report.unknown += 1;
                let certain = outcome == "carried_out";
                self.error(event);
                if certain && op == "create" {
                    self.must_exist.push(content.clone());
                }
                if let Some(known) = id.and_then(|id| self.documents.get_mut(&id)) {
                    let content = (op != "delete").then_some(content);
                    known.open = Some(Open { content, certain });
                }
            }
            _ => self.problem(format!(
                "a sound write was refused at {} ms: {}",
                event.ms, event.data
            )),
        }
    }

    /// A client saw an error.
    fn error(&mut self, event: &Event) {
        let number = |name: &str| event.data[name].as_u64().unwrap_or_default();
        if !self
            .faults
            .excuse(number("entrance"), (number("began"), event.ms))
        {
            self.problem(format!(
                "an error that no fault excuses, at {} ms: {}",
                event.ms, event.data
            ));
        }
    }

    fn read_end(&mut self, folder: &Path) {
        for event in transcript::files(folder, "final")
            .iter()
            .flat_map(|path| transcript::read(path))
        {
            match event.event.as_str() {
                "list" => {
                    let list = event.data["list"].clone();
                    self.lists.insert(event.data["query"].to_string(), list);
                }
                "change" => {
                    let problem = self.log.push(&event.data).err();
                    self.report.problems.extend(problem);
                }
                "epoch" => self.wrote(&event.data),
                _ => {
                    for doc in event.data.as_array().into_iter().flatten() {
                        let id = doc["id"].as_str().unwrap_or_default().to_owned();
                        self.see(doc, "the database");
                        self.all.insert(id, doc.clone());
                    }
                }
            }
        }
    }

    /// Somebody wrote while the lease had that epoch.
    fn wrote(&mut self, data: &Value) {
        let epoch = data["epoch"].as_u64().unwrap_or_default();
        let writer = data["writer"].as_str().unwrap_or_default().to_owned();
        self.counted += data["changes"].as_u64().unwrap_or_default();
        match self.epochs.entry(epoch) {
            Entry::Vacant(vacant) => {
                vacant.insert(writer);
                self.report.epochs += 1;
            }
            Entry::Occupied(occupied) => {
                let problem = format!("{} and {writer} both wrote in epoch {epoch}", occupied.get());
                self.problem(problem);
            }
        }
    }

    /// A document was seen: its content was sent by somebody, and is in no other document.
    fn see(&mut self, doc: &Value, place: &str) {
        let (Some(id), Some(content)) = (doc["id"].as_str(), doc["content"].as_str()) else {
            self.problem(format!("{place} shows a document without id or content: {doc}"));
            return;
        };
        if content == PROBE {
            return;
        }
        let problem = match self.contents.get_mut(content) {
            None => Some(format!("{place} shows what nobody wrote: {doc}")),
            Some(Some(other)) if other != id => Some(format!("{content} was applied twice: {other}, {id}")),
            Some(seen) => {
                *seen = Some(id.to_owned());
                None
            }
        };
        self.report.problems.extend(problem);
    }

    /// Replays one reader.
    fn follow(&mut self, name: &str, events: impl Iterator<Item = Event>) {
        let mut view = View::default();
        let mut query = String::new();
        for event in events {
            match event.event.as_str() {
                "query" => query = event.data.to_string(),
                "connected" => {
                    self.report.connections += 1;
                    view = View::default();
                }
                "frame" => {
                    self.report.frames += 1;
                    self.report.resets += u64::from(event.data["payload"]["reset"] == true);
                    if let Err(error) = view.take(&event.data) {
                        self.problem(format!("{name} at {} ms: {error}: {}", event.ms, event.data));
                        return;
                    }
                    self.show(name, &query, &view, &event);
                }
                "gone" => self.error(&event),
                _ => {}
            }
        }
        let end = self.lists.get(&query).cloned().unwrap_or_default();
        if !view.shows(&end) {
            self.problem(format!(
                "{name} ends with {:?}, the database with {end}",
                view.docs()
            ));
        }
    }

    fn show(&mut self, name: &str, query: &str, view: &View, event: &Event) {
        let payload = &event.data["payload"];
        let lists = [
            &payload["docs"],
            &payload["changes"]["inserts"],
            &payload["changes"]["updates"],
        ];
        for doc in lists.into_iter().filter_map(Value::as_array).flatten() {
            self.see(doc, name);
        }
        let at = view.at().unwrap_or_default();
        let shown = Shown {
            hash: view.hash(),
            reader: name.to_owned(),
        };
        let of_query = self.shown.entry(query.to_owned()).or_default();
        let first = of_query.entry(at).or_insert_with(|| shown.clone());
        if first.hash != shown.hash {
            let other = first.reader.clone();
            self.problem(format!(
                "{other} and {name} hold different things of {query} at {at}"
            ));
        }
    }

    /// The database against what its writers know.
    fn compare(&mut self) {
        let mut problems = Vec::new();
        for (id, known) in &self.documents {
            let found = self.all.get(id);
            let is_open = |open: &Open| match (&open.content, found) {
                (None, None) => true,
                (Some(content), Some(found)) => found["content"] == content.as_str(),
                _ => false,
            };
            let as_left_open = known.open.as_ref().is_some_and(is_open);
            let superseded = known.open.as_ref().is_some_and(|open| open.certain);
            let as_acknowledged = found == known.last.as_ref() && !superseded;
            if !as_acknowledged && !as_left_open {
                let last = known.last.as_ref().map_or("deleted".to_owned(), Value::to_string);
                let found = found.map_or("nothing".to_owned(), Value::to_string);
                problems.push(format!(
                    "{id} was acknowledged as {last}, and the database holds {found}"
                ));
            }
        }
        for content in &self.must_exist {
            if !self.all.values().any(|doc| doc["content"] == content.as_str()) {
                problems.push(format!("{content} was said to be carried out, and is not there"));
            }
        }
        for Certain { deleted, content } in &self.certain {
            let is_there = match deleted {
                Some(id) => self.log.deletes(id),
                None => self.log.introduces(content),
            };
            if !is_there {
                problems.push(format!("{content} was acknowledged, and is not in the log"));
            }
        }
        self.report.problems.extend(problems);
    }
}

#[cfg(test)]
mod tests;
