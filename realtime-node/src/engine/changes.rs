//! Commits in, transitions out.

use std::sync::Arc;
use std::time::Instant;

use alyx_core::Result;
use alyx_schema::{Collection, row_from_image};
use alyx_service::trace;
use alyx_store::Commit;

use super::Engine;
use super::reads::{Reading, Wanted};
use crate::group::{Heard, Phase, events_after_flush, window_change};
use crate::record::Record;
use crate::router::GroupIndex;
use crate::window::Change;

impl Engine {
    /// Applies one commit to every group that it concerns.
    pub(super) fn apply(&mut self, commit: &Commit) {
        let mut found: Vec<GroupIndex> = Vec::new();
        let mut touched: Vec<GroupIndex> = Vec::new();
        let mut broken: Vec<Arc<Collection>> = Vec::new();
        for trace in &commit.traces {
            trace::sync_within(Some(*trace), || {
                tracing::debug!(position = commit.position.0, "a commit is applied");
            });
        }
        for change in commit.changes.iter() {
            let Some(routes) = self.router.routes(&change.collection) else {
                continue;
            };
            let Some(collection) = self.schema.collection(&change.collection) else {
                continue;
            };
            let decoded = match decode(collection, change) {
                Ok(decoded) => decoded,
                Err(error) => {
                    tracing::error!(collection = collection.name, seq = change.seq.0, %error, "a change cannot be read");
                    broken.push(collection.clone());
                    continue;
                }
            };
            let (old, new) = (decoded.change.old.as_deref(), decoded.change.new.as_deref());
            found.clear();
            routes.find(old.map(Record::row), new.map(Record::row), &mut found);
            for &index in &found {
                let Some(group) = self.groups.get_mut(index) else {
                    continue;
                };
                if group.looked_at == change.seq {
                    continue;
                }
                group.looked_at = change.seq;
                group.hear(&decoded);
                if !group.dirty {
                    group.dirty = true;
                    self.dirty.push(index);
                }
            }
            touched.append(&mut found);
        }
        for index in touched {
            if let Some(Phase::Live(window)) = self.groups.get_mut(index).map(|group| &mut group.phase) {
                window.settle();
            }
        }
        // What a change did cannot be known without reading it; what the rows are now can be.
        for collection in broken {
            self.reopen_collection(&collection.name);
        }
    }

    /// Lets out what is due, and asks for the rows that windows run short of.
    pub(super) fn flush(&mut self) {
        let applied = self.tail.applied();
        while let Some(gate) = self.gated.first_entry().filter(|gate| *gate.key() <= applied) {
            for index in gate.remove() {
                self.mark_dirty(index);
            }
        }
        let now = Instant::now();
        for index in std::mem::take(&mut self.dirty) {
            let Some(group) = self.groups.get_mut(index) else {
                continue;
            };
            group.dirty = false;
            let Phase::Live(window) = &mut group.phase else {
                continue;
            };
            let step = window.flush(applied).map(|step| {
                self.transitions += 1;
                (step.to, window_change(window.shape(), step))
            });
            let links = &mut self.links;
            events_after_flush(&mut group.members, window, step, applied, |link, event| {
                links.send(link, event);
            });
            if group.joins.is_some() {
                self.plan_reread(index, now);
            } else if let Some(refill) = window.wanted_refill(applied, now) {
                self.last_ticket += 1;
                group.ticket = self.last_ticket;
                self.wanted
                    .push_back(Wanted::now(index, group.ticket, Reading::Refill(refill)));
            }
        }
    }

    pub(super) fn mark_dirty(&mut self, index: GroupIndex) {
        if let Some(group) = self.groups.get_mut(index).filter(|group| !group.dirty) {
            group.dirty = true;
            self.dirty.push(index);
        }
    }
}

/// Both sides of a change as rows of the collection.
fn decode(collection: &Collection, change: &alyx_store::Change) -> Result<Heard> {
    let side = |image: &Option<Arc<str>>| {
        let image = image.as_deref();
        image
            .map(|image| row_from_image(collection, image).map(|row| Arc::new(Record::new(row))))
            .transpose()
    };
    Ok(Heard {
        collection: change.collection.clone(),
        change: Change {
            seq: change.seq,
            old: side(&change.old)?,
            new: side(&change.new)?,
        },
    })
}
