//! The change log, and what a live query shows at a position by it: a model of queries that shares nothing with the
//! server's.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::{PROBE, Shown};
use crate::view::{Doc, hash_of};

/// Problems of one query that are told; the rest would repeat them.
const TOLD: usize = 3;

/// Every change of the run, oldest first.
#[derive(Debug, Default)]
pub(super) struct Log {
    changes: Vec<Change>,
    last: u64,
    ends: HashSet<u64>,
    /// What writers wrote; each writes another content every time.
    contents: HashSet<String>,
    deleted: HashSet<String>,
}

#[derive(Debug)]
struct Change {
    seq: u64,
    old: Option<String>,
    new: Option<Doc>,
}

impl Log {
    /// Takes the next change; an error where something is missing before it or it makes no sense.
    pub(super) fn push(&mut self, data: &Value) -> Result<(), String> {
        let seq = data["seq"].as_u64().unwrap_or_default();
        let expected = self.last + 1;
        let id = |image: &Value| image["id"].as_str().map(str::to_owned);
        let (old, new) = (id(&data["old"]), id(&data["new"]));
        let sound = match data["op"].as_str() {
            Some("insert") => old.is_none() && new.is_some(),
            Some("update") => old.is_some() && new == old,
            Some("delete") => old.is_some() && new.is_none(),
            _ => false,
        };
        self.last = seq;
        if data["ends_commit"] == true {
            self.ends.insert(seq);
        }
        let content = data["new"]["content"]
            .as_str()
            .filter(|content| *content != PROBE);
        let twice = content.filter(|content| !self.contents.insert((*content).to_owned()));
        if new.is_none() {
            self.deleted.extend(old.clone());
        }
        let new = new.map(|_| Doc::new(data["new"].clone()));
        self.changes.push(Change { seq, old, new });
        if let Some(content) = twice {
            return Err(format!("the log has {content} twice, the second time at {seq}"));
        }
        if seq != expected {
            return Err(format!("the log has {seq} where {expected} is due"));
        }
        if sound {
            Ok(())
        } else {
            Err(format!("the log has a senseless change: {data}"))
        }
    }

    /// How many changes.
    pub(super) fn len(&self) -> u64 {
        self.changes.len() as u64
    }

    /// Whether some change brought that content.
    pub(super) fn introduces(&self, content: &str) -> bool {
        self.contents.contains(content)
    }

    /// Whether some change took that document away.
    pub(super) fn deletes(&self, id: &str) -> bool {
        self.deleted.contains(id)
    }

    /// Where the log says something else than was shown, or than the database holds at the end.
    pub(super) fn disagreements(
        &self,
        shown: &HashMap<String, BTreeMap<u64, Shown>>,
        all: &BTreeMap<String, Value>,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        for (query, shown) in shown {
            let told = problems.len() + TOLD;
            let mut window = Window::of(&serde_json::from_str(query).unwrap_or_default());
            let mut changes = self.changes.iter().peekable();
            for (at, shown) in shown {
                while let Some(change) = changes.next_if(|change| change.seq <= *at) {
                    window.take(change);
                }
                if problems.len() == told {
                    break;
                }
                let place = format!("{} shows {query} at {at}", shown.reader);
                if *at > 0 && !self.ends.contains(at) {
                    problems.push(format!("{place}, where no commit ends"));
                } else if window.hash() != shown.hash {
                    problems.push(format!("{place} otherwise than the log: {}", window.total()));
                }
            }
        }
        let mut end = BTreeMap::new();
        for change in &self.changes {
            if let Some(id) = &change.old {
                end.remove(id.as_str());
            }
            if let Some(doc) = &change.new {
                end.insert(doc.value["id"].as_str().unwrap_or_default(), &doc.value);
            }
        }
        if !end.into_iter().eq(all.iter().map(|(id, doc)| (id.as_str(), doc))) {
            problems.push("the database ends otherwise than its log".to_owned());
        }
        problems
    }
}

/// A value that documents are sorted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Up(Field),
    Down(Reverse<Field>),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Int(i64),
    Text(String),
}

impl Field {
    fn of(value: &Value) -> Self {
        value.as_i64().map_or_else(
            || Self::Text(value.as_str().unwrap_or_default().to_owned()),
            Self::Int,
        )
    }
}

/// A query's documents in order.
#[derive(Debug)]
struct Window {
    filter: Value,
    sort: Vec<String>,
    limit: usize,
    docs: BTreeMap<Vec<Key>, u64>,
    keys: HashMap<String, Vec<Key>>,
}

impl Window {
    fn of(query: &Value) -> Self {
        let sort = query["sort"].as_array().into_iter().flatten();
        let sort = sort.filter_map(Value::as_str).map(str::to_owned);
        Self {
            filter: query["filter"].clone(),
            // Documents that tie are ordered by their key.
            sort: sort.chain(["id".to_owned()]).collect(),
            limit: query["limit"]
                .as_u64()
                .and_then(|limit| usize::try_from(limit).ok())
                .unwrap_or(100),
            docs: BTreeMap::new(),
            keys: HashMap::new(),
        }
    }

    fn take(&mut self, change: &Change) {
        let before = change.old.as_ref().and_then(|id| self.keys.remove(id));
        if let Some(key) = before {
            self.docs.remove(&key);
        }
        let Some(doc) = change.new.as_ref().filter(|doc| self.matches(&doc.value)) else {
            return;
        };
        let key = |field: &String| match field.strip_prefix('-') {
            Some(field) => Key::Down(Reverse(Field::of(&doc.value[field]))),
            None => Key::Up(Field::of(&doc.value[field])),
        };
        let key: Vec<Key> = self.sort.iter().map(key).collect();
        self.docs.insert(key.clone(), doc.hash);
        let id = doc.value["id"].as_str().unwrap_or_default().to_owned();
        self.keys.insert(id, key);
    }

    fn matches(&self, doc: &Value) -> bool {
        let mut conditions = self.filter.as_object().into_iter().flatten();
        conditions.all(|(field, condition)| {
            let value = doc[field].as_i64();
            let Some(operators) = condition.as_object() else {
                return doc[field] == *condition;
            };
            operators.iter().all(|(operator, bound)| match operator.as_str() {
                "$gte" => value >= bound.as_i64(),
                "$lt" => value < bound.as_i64(),
                other => panic!("the checker does not know {other}"),
            })
        })
    }

    fn total(&self) -> usize {
        self.docs.len()
    }

    fn hash(&self) -> u64 {
        hash_of(
            self.docs.len() as u64,
            self.docs.values().copied().take(self.limit),
        )
    }
}
