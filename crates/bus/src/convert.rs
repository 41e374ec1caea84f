//! Commits as messages and back. Whatever arrives may come from anybody who reaches the subject, so that decoding
//! trusts nothing.

use std::sync::Arc;

use alyx_core::{Seq, TraceContext};
use alyx_proto::bus::{Announcement, Change, Commit, Lost, Op, announcement::Body};
use alyx_store::ChangeOp;
use bytes::Bytes;
use prost::Message;

/// Why a message was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// No message of ours.
    #[error("it is not an announcement")]
    Garbled,
    /// A message of a version that knows more.
    #[error("its kind is not known to this version")]
    Unknown,
    /// A commit that cannot be.
    #[error("its commit is not sound")]
    Unsound,
}

/// A commit for the wire; `None` where its changes are not numbered without gaps, which the form relies on.
pub(crate) fn commit(commit: &alyx_store::Commit) -> Option<Commit> {
    let first = commit.first().0;
    let numbered = (first..).zip(commit.changes.iter()).all(|(n, c)| c.seq.0 == n);
    let last = commit.changes.last()?.seq;
    (numbered && last == commit.position).then(|| Commit {
        first,
        changes: commit.changes.iter().map(change).collect(),
        traces: commit
            .traces
            .iter()
            .map(|trace| trace.to_bytes().to_vec().into())
            .collect(),
    })
}

fn change(change: &alyx_store::Change) -> Change {
    let op = match change.op {
        ChangeOp::Insert => Op::Insert,
        ChangeOp::Update => Op::Update,
        ChangeOp::Delete => Op::Delete,
    };
    Change {
        collection: change.collection.to_string(),
        op: op.into(),
        old: change.old.as_deref().map(str::to_owned),
        new: change.new.as_deref().map(str::to_owned),
    }
}

/// The words that followers are to read the log.
pub(crate) fn lost() -> Bytes {
    announcement(Body::Lost(Lost {}))
}

/// One message.
pub(crate) fn announcement(body: Body) -> Bytes {
    Announcement { body: Some(body) }.encode_to_vec().into()
}

/// What one message says.
pub(crate) fn read(payload: Bytes) -> Result<Body, Unreadable> {
    let announcement = Announcement::decode(payload).map_err(|_| Unreadable::Garbled)?;
    announcement.body.ok_or(Unreadable::Unknown)
}

/// A commit from the wire.
pub(crate) fn read_commit(commit: Commit) -> Result<alyx_store::Commit, Unreadable> {
    let count = commit.changes.len() as u64;
    let past = commit.first.checked_add(count).ok_or(Unreadable::Unsound)?;
    if commit.first == 0 || count == 0 {
        return Err(Unreadable::Unsound);
    }
    let traces = commit
        .traces
        .iter()
        .take(alyx_store::Commit::MAX_TRACES)
        .filter_map(|trace| TraceContext::from_bytes(trace));
    let traces = traces.collect();
    let changes = (commit.first..).zip(commit.changes).map(read_change);
    Ok(alyx_store::Commit {
        position: Seq(past - 1),
        changes: changes.collect::<Result<Arc<[_]>, _>>()?,
        traces,
    })
}

fn read_change((seq, change): (u64, Change)) -> Result<alyx_store::Change, Unreadable> {
    let (op, has_old, has_new) = match change.op() {
        Op::Insert => (ChangeOp::Insert, false, true),
        Op::Update => (ChangeOp::Update, true, true),
        Op::Delete => (ChangeOp::Delete, true, false),
        Op::Unspecified => return Err(Unreadable::Unknown),
    };
    if change.old.is_some() != has_old || change.new.is_some() != has_new {
        return Err(Unreadable::Unsound);
    }
    Ok(alyx_store::Change {
        seq: Seq(seq),
        collection: change.collection.into(),
        op,
        old: change.old.map(Arc::from),
        new: change.new.map(Arc::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_tells_its_traces_and_only_as_many_as_it_may() {
        let traces: Vec<TraceContext> = (0..10).map(|_| TraceContext::new()).collect();
        let change = alyx_store::Change {
            seq: Seq(7),
            collection: "c".into(),
            op: ChangeOp::Delete,
            old: Some("{}".into()),
            new: None,
        };
        let sent = alyx_store::Commit {
            position: Seq(7),
            changes: Arc::new([change]),
            traces: traces.clone(),
        };
        let mut wire = commit(&sent).expect("numbered");
        wire.traces[1] = Bytes::from_static(b"no trace");
        let read = read_commit(wire).expect("sound");
        let most = alyx_store::Commit::MAX_TRACES;
        let expected: Vec<TraceContext> = [&traces[..1], &traces[2..most]].concat();
        assert_eq!(read.traces, expected);
    }
}
