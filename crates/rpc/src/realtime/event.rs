//! What a realtime node says.

use std::sync::Arc;

use alyx_core::{Error, Result, Seq, Value};
use alyx_proto::realtime as wire;
use alyx_proto::realtime::node_frame::Body;
use alyx_service::realtime::{Document, GroupEvent, GroupId, WindowChange};
use bytes::Bytes;
use prost::Message;

use super::{broken, value_from_wire, value_to_wire};
use crate::{from_wire, to_wire};

/// A node's frame as the gateway takes it.
#[derive(Debug)]
pub enum Said {
    /// About a group, by its name on the stream.
    Event(GroupEvent),
    /// The group is to be opened again in a moment: the node has not come as far as the gateway yet.
    Later(GroupId, Arc<Error>),
    /// Nothing more comes about the group.
    Closed(GroupId),
    /// The node has applied the log that far, and has told groups their positions with that digest.
    Beacon { applied: Seq, digest: u64 },
    /// The position that each group was told last.
    Positions(Vec<(GroupId, Seq)>),
    /// The node is to stop.
    Draining,
}

/// The frame of an event, with its cost.
pub fn event_to_wire(event: &GroupEvent) -> wire::NodeFrame {
    let body = match event {
        GroupEvent::Opened {
            group,
            at,
            docs,
            total,
        } => Body::Opened(wire::Opened {
            group: group.0,
            at: at.0,
            documents: docs.iter().map(document_to_wire).collect(),
            total: *total,
        }),
        GroupEvent::Changed {
            group,
            from,
            to,
            change,
        } => Body::Changed(wire::Changed {
            group: group.0,
            from: from.0,
            to: to.0,
            inserts: change.inserts.iter().map(placed_to_wire).collect(),
            updates: change.updates.iter().map(placed_to_wire).collect(),
            deletes: change.deletes.iter().map(value_to_wire).collect(),
            total: change.total,
        }),
        GroupEvent::Failed { group, error } => Body::Failed(wire::Failed {
            group: group.0,
            error: Some(to_wire(error)),
            later: false,
        }),
    };
    let mut frame = wire::NodeFrame {
        cost: 0,
        body: Some(body),
    };
    frame.cost = frame.encoded_len() as u64;
    frame
}

/// What a frame says; `None` for one that this version does not know.
///
/// # Errors
/// The frame makes no sense.
pub fn said_from_wire(frame: wire::NodeFrame) -> Result<Option<Said>> {
    let Some(body) = frame.body else {
        return Ok(None);
    };
    Ok(Some(match body {
        Body::Opened(opened) => Said::Event(GroupEvent::Opened {
            group: GroupId(opened.group),
            at: Seq(opened.at),
            docs: opened
                .documents
                .into_iter()
                .map(|document| document_from_wire(document.id, &document.json))
                .collect::<Result<_>>()?,
            total: opened.total,
        }),
        Body::Changed(changed) => Said::Event(GroupEvent::Changed {
            group: GroupId(changed.group),
            from: Seq(changed.from),
            to: Seq(changed.to),
            change: Arc::new(WindowChange {
                inserts: placed_from_wire(changed.inserts)?,
                updates: placed_from_wire(changed.updates)?,
                deletes: changed
                    .deletes
                    .into_iter()
                    .map(|id| value_from_wire(Some(id)))
                    .collect::<Result<_>>()?,
                total: changed.total,
            }),
        }),
        Body::Failed(failed) => {
            let group = GroupId(failed.group);
            let error = failed.error.and_then(from_wire);
            let error = Arc::new(error.unwrap_or_else(|| broken("a failure without its reason")));
            if failed.later {
                Said::Later(group, error)
            } else {
                Said::Event(GroupEvent::Failed { group, error })
            }
        }
        Body::Closed(closed) => Said::Closed(GroupId(closed.group)),
        Body::Beacon(beacon) => Said::Beacon {
            applied: Seq(beacon.applied),
            digest: beacon.digest,
        },
        Body::Positions(positions) => {
            let positions = positions.positions.into_iter();
            let positions = positions.map(|position| (GroupId(position.group), Seq(position.at)));
            Said::Positions(positions.collect())
        }
        Body::Draining(_) => Said::Draining,
        Body::Part(_) => return Err(broken("a part without its whole")),
    }))
}

fn document_to_wire(document: &Document) -> wire::Document {
    wire::Document {
        id: Some(value_to_wire(&document.id)),
        json: document.json.clone(),
    }
}

/// Copies the JSON: what was read off the wire is one buffer for many frames, which a document would keep.
fn document_from_wire(id: Option<wire::Value>, json: &[u8]) -> Result<Document> {
    let id = value_from_wire(id)?;
    if matches!(id, Value::Null) {
        return Err(broken("a document without its key"));
    }
    Ok(Document {
        id,
        json: Bytes::copy_from_slice(json),
    })
}

fn placed_to_wire((position, document): &(usize, Document)) -> wire::Placed {
    wire::Placed {
        position: u32::try_from(*position).unwrap_or(u32::MAX),
        id: Some(value_to_wire(&document.id)),
        json: document.json.clone(),
    }
}

fn placed_from_wire(placed: Vec<wire::Placed>) -> Result<Vec<(usize, Document)>> {
    let placed = placed.into_iter().map(|placed| {
        let position = usize::try_from(placed.position).map_err(Error::internal)?;
        Ok((position, document_from_wire(placed.id, &placed.json)?))
    });
    placed.collect()
}
