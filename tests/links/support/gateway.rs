//! A gateway's end of a link, which checks every event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Seq, Value};
use alyx_gateway::RemoteRealtime;
use alyx_query::Query;
use alyx_service::realtime::{Document, GroupCommand, GroupEvent, GroupId, RealtimeLink, WindowChange};

use super::{PATIENCE, World};

/// One group as its gateway sees it.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    pub(crate) docs: Vec<(Value, String)>,
    pub(crate) total: u64,
    pub(crate) at: Seq,
    /// How often it was told a whole window.
    pub(crate) opened: usize,
    /// How often one from before what it had.
    pub(crate) went_back: usize,
    pub(crate) failed: Option<String>,
}

fn text(document: &Document) -> (Value, String) {
    let json = String::from_utf8(document.json.to_vec()).expect("JSON is text");
    (document.id.clone(), json)
}

impl Mirror {
    pub(crate) fn json(&self) -> Vec<String> {
        self.docs.iter().map(|(_, json)| json.clone()).collect()
    }

    fn take(&mut self, id: &Value) {
        let place = self.docs.iter().position(|(known, _)| known == id);
        self.docs
            .remove(place.unwrap_or_else(|| panic!("{id:?} leaves and is not there: {self:?}")));
    }

    fn apply(&mut self, change: &WindowChange) {
        change.deletes.iter().for_each(|id| self.take(id));
        change
            .updates
            .iter()
            .for_each(|(_, document)| self.take(&document.id));
        let mut entering: Vec<&(usize, Document)> = change.inserts.iter().chain(&change.updates).collect();
        entering.sort_by_key(|(place, _)| *place);
        for (place, document) in entering {
            let entry = text(document);
            assert!(
                self.docs.iter().all(|(id, _)| *id != entry.0),
                "{entry:?} comes twice"
            );
            self.docs.insert(*place, entry);
        }
        self.total = change.total;
    }
}

/// A link and what it has been told.
pub(crate) struct Gateway {
    pub(crate) remote: Arc<RemoteRealtime>,
    pub(crate) link: RealtimeLink,
    pub(crate) mirrors: HashMap<GroupId, Mirror>,
}

impl Gateway {
    pub(crate) fn new(remote: Arc<RemoteRealtime>, link: RealtimeLink) -> Self {
        Self {
            remote,
            link,
            mirrors: HashMap::new(),
        }
    }

    pub(crate) async fn open(&mut self, group: u64, query: &Arc<Query>) {
        let group = GroupId(group);
        self.mirrors.insert(group, Mirror::default());
        let command = GroupCommand::Open {
            group,
            query: Arc::clone(query),
            have: None,
            trace: None,
        };
        self.link.commands.send(command).await.expect("the link is there");
    }

    pub(crate) async fn close(&mut self, group: u64) {
        let group = GroupId(group);
        self.mirrors.remove(&group);
        let command = GroupCommand::Close { group };
        self.link.commands.send(command).await.expect("the link is there");
    }

    /// The next event, applied to its mirror; `None` where none comes in time.
    pub(crate) async fn next_within(&mut self, time: Duration) -> Option<GroupEvent> {
        let event = tokio::time::timeout(time, self.link.events.recv()).await.ok()?;
        let event = event.expect("the link is there");
        match &event {
            GroupEvent::Opened {
                group,
                at,
                docs,
                total,
            } => {
                if let Some(mirror) = self.mirrors.get_mut(group) {
                    mirror.went_back += usize::from(*at < mirror.at);
                    mirror.docs = docs.iter().map(text).collect();
                    (mirror.total, mirror.at) = (*total, *at);
                    mirror.opened += 1;
                }
            }
            GroupEvent::Changed {
                group,
                from,
                to,
                change,
            } => {
                if let Some(mirror) = self.mirrors.get_mut(group) {
                    assert_eq!(mirror.at, *from, "the chain of {group:?} is broken");
                    assert!(from < to);
                    mirror.apply(change);
                    mirror.at = *to;
                }
            }
            GroupEvent::Failed { group, error } => {
                if let Some(mirror) = self.mirrors.get_mut(group) {
                    mirror.failed = Some(error.code().to_owned());
                }
            }
        }
        Some(event)
    }

    pub(crate) async fn next(&mut self) -> GroupEvent {
        self.next_within(PATIENCE).await.expect("an event comes in time")
    }

    pub(crate) fn mirror(&self, group: u64) -> &Mirror {
        &self.mirrors[&GroupId(group)]
    }

    /// Takes events until the gateway is as wanted.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !wanted(self) {
            // Not everything that is waited for is told by an event.
            self.next_within(Duration::from_millis(10)).await;
            assert!(
                Instant::now() < until,
                "never: {what}; {:?}, {} groups, of which opened {}, failed {:?}",
                self.remote.stats(),
                self.mirrors.len(),
                self.mirrors.values().filter(|mirror| mirror.opened > 0).count(),
                self.mirrors.values().find_map(|mirror| mirror.failed.clone()),
            );
        }
    }

    /// Takes events until the mirror is what the query returns.
    pub(crate) async fn settles(&mut self, world: &World, group: u64, query: &Query) {
        let (docs, total) = world.result(query).await;
        self.until("the window is what the query returns", |gateway| {
            let mirror = gateway.mirror(group);
            mirror.opened > 0 && mirror.total == total && mirror.json() == docs
        })
        .await;
    }

    pub(crate) fn all_opened(&self) -> bool {
        self.mirrors.values().all(|mirror| mirror.opened > 0)
    }
}
