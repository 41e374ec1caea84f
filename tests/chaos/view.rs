//! A live query as a client holds it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::Value;

/// A document with what tells it from others at a glance, as a long run compares many.
#[derive(Debug, PartialEq)]
pub(crate) struct Doc {
    pub(crate) value: Value,
    pub(crate) hash: u64,
}

impl Doc {
    pub(crate) fn new(value: Value) -> Self {
        let mut hasher = DefaultHasher::new();
        // By name, as not every map keeps its keys in the same order.
        let mut fields: Vec<_> = value.as_object().into_iter().flatten().collect();
        fields.sort_by_key(|(name, _)| *name);
        for (name, value) in fields {
            (name, value.to_string()).hash(&mut hasher);
        }
        let hash = hasher.finish();
        Self { value, hash }
    }
}

/// What tells a window from others.
pub(crate) fn hash_of(total: u64, docs: impl Iterator<Item = u64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    total.hash(&mut hasher);
    docs.for_each(|doc| doc.hash(&mut hasher));
    hasher.finish()
}

/// The window at a position; `None` before the first snapshot of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    held: Option<Held>,
}

#[derive(Debug, Clone)]
struct Held {
    at: u64,
    total: u64,
    /// Shared, as views are cloned with every frame.
    docs: Vec<Arc<Doc>>,
}

impl View {
    /// Takes a `snapshot` or `delta` frame. An error says what a client cannot make sense of: a step that does not
    /// start where it is, a document that is inserted twice or changed without being there, a place that is not in
    /// the window.
    pub(crate) fn take(&mut self, frame: &Value) -> Result<(), String> {
        let payload = &frame["payload"];
        match frame["type"].as_str() {
            Some("snapshot") => self.reset(payload),
            Some("delta") => self.step(payload),
            _ => Err("neither snapshot nor delta".to_owned()),
        }
    }

    /// The position, once there is one.
    pub(crate) fn at(&self) -> Option<u64> {
        self.held.as_ref().map(|held| held.at)
    }

    /// The documents in order.
    pub(crate) fn docs(&self) -> &[Arc<Doc>] {
        self.held.as_ref().map_or(&[], |held| &held.docs)
    }

    /// Whether it shows just what a list over REST does.
    pub(crate) fn shows(&self, list: &Value) -> bool {
        let docs = list["docs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let same = docs.iter().eq(self.docs().iter().map(|doc| &doc.value));
        same && self.total().is_some() && list["total"].as_u64() == self.total()
    }

    /// Documents that match, inside and outside the window.
    pub(crate) fn total(&self) -> Option<u64> {
        self.held.as_ref().map(|held| held.total)
    }

    /// What tells it from others.
    pub(crate) fn hash(&self) -> u64 {
        let docs = self.docs().iter().map(|doc| doc.hash);
        hash_of(self.total().unwrap_or_default(), docs)
    }

    fn reset(&mut self, payload: &Value) -> Result<(), String> {
        let held = Held {
            at: number(payload, "seq")?,
            total: number(payload, "total")?,
            docs: list(&payload["docs"])?.iter().cloned().map(shared).collect(),
        };
        let again = payload["reset"] == true;
        if self.held.is_some() && !again {
            return Err("a second snapshot that is not marked as a reset".to_owned());
        }
        unique(held.docs.iter())?;
        self.held = Some(held);
        Ok(())
    }

    fn step(&mut self, payload: &Value) -> Result<(), String> {
        let held = self.held.as_mut().ok_or("a delta before the snapshot")?;
        let (from, to) = (number(payload, "from")?, number(payload, "to")?);
        if from != held.at || to <= from {
            return Err(format!("a step from {from} to {to} at {}", held.at));
        }
        let changes = &payload["changes"];
        for id in list(&changes["deletes"])? {
            held.remove(id)
                .ok_or(format!("a delete of {id}, which is not there"))?;
        }
        let mut entering = Vec::new();
        for kind in ["inserts", "updates"] {
            let docs = list(&changes[kind])?;
            let places = list(&payload["positions"][kind])?;
            if docs.len() != places.len() {
                return Err(format!("{} {kind} at {} places", docs.len(), places.len()));
            }
            for (doc, place) in docs.iter().zip(places) {
                let gone = held.remove(&doc["id"]);
                if gone.is_some() != (kind == "updates") {
                    return Err(format!("{} is among the {kind}", doc["id"]));
                }
                let place = place.as_u64().and_then(|place| usize::try_from(place).ok());
                entering.push((place.ok_or("a place is a number")?, shared(doc.clone())));
            }
        }
        unique(entering.iter().map(|(_, doc)| doc))?;
        entering.sort_by_key(|(place, _)| *place);
        for (place, doc) in entering {
            if place > held.docs.len() {
                return Err(format!("place {place} of {}", held.docs.len()));
            }
            held.docs.insert(place, doc);
        }
        held.at = to;
        held.total = number(payload, "total")?;
        Ok(())
    }
}

impl Held {
    fn remove(&mut self, id: &Value) -> Option<Arc<Doc>> {
        let place = self.docs.iter().position(|doc| doc.value["id"] == *id)?;
        Some(self.docs.remove(place))
    }
}

fn number(payload: &Value, name: &str) -> Result<u64, String> {
    payload[name].as_u64().ok_or(format!("no {name}"))
}

fn list(value: &Value) -> Result<&Vec<Value>, String> {
    value.as_array().ok_or_else(|| format!("{value} is no list"))
}

fn shared(value: Value) -> Arc<Doc> {
    Arc::new(Doc::new(value))
}

fn unique<'a>(mut docs: impl Iterator<Item = &'a Arc<Doc>>) -> Result<(), String> {
    let mut ids = HashSet::new();
    match docs.find(|doc| !ids.insert(doc.value["id"].as_str())) {
        Some(doc) => Err(format!("{} is there twice", doc.value["id"])),
        None => Ok(()),
    }
}
