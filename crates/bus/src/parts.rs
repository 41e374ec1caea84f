//! Commits that are larger than a message may be: cut into parts, and put together again.
//!
//! Parts of one commit are sent in order by one publisher. What does not fit that order is given up; the log has it.

use alyx_proto::bus::{Commit, Part, announcement::Body};
use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::convert::{self, Unreadable};

/// Largest encoded commit that is sent in parts, in bytes; followers read larger ones from the log.
pub(crate) const MAX_COMMIT: usize = 16 << 20;
/// Room for what surrounds a part's data in its message.
const FRAME: usize = 64;
/// Smallest part worth sending, whatever the server says about its limit.
const MIN_PART: usize = 1024;

/// The messages of a commit, none larger than `limit` bytes; `None` where it is too large for the bus.
pub(crate) fn cut(commit: Commit, position: u64, limit: usize) -> Option<Vec<Bytes>> {
    if commit.encoded_len() + FRAME <= limit {
        return Some(vec![convert::announcement(Body::Commit(commit))]);
    }
    let room = limit.checked_sub(FRAME).filter(|room| *room >= MIN_PART)?;
    if commit.encoded_len() > MAX_COMMIT {
        return None;
    }
    let whole = Bytes::from(commit.encode_to_vec());
    let count = u32::try_from(whole.len().div_ceil(room)).ok()?;
    let part = |index: u32| {
        let start = index as usize * room;
        let data = whole.slice(start..whole.len().min(start + room));
        convert::announcement(Body::Part(Part {
            position,
            index,
            count,
            data,
        }))
    };
    Some((0..count).map(part).collect())
}

/// The commit whose parts are arriving.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    position: u64,
    next: u32,
    count: u32,
    data: BytesMut,
}

/// What a part led to.
#[derive(Debug)]
pub(crate) enum Assembled {
    /// More parts are to come.
    Waiting,
    /// The last part was here.
    Whole(Commit),
    /// A part was missing, doubled or late.
    Broken,
}

impl Assembly {
    /// Takes the next part. Where the beginning is missing, the rest says nothing: either the follower came in its
    /// midst, or it has been told.
    pub(crate) fn take(&mut self, part: &Part) -> Result<Assembled, Unreadable> {
        let interrupted = part.index == 0 && self.next > 0;
        if part.index > 0 && self.next == 0 {
            return Ok(Assembled::Waiting);
        }
        if part.index == 0 {
            *self = Self {
                position: part.position,
                count: part.count,
                ..Self::default()
            };
        }
        let fits = part.position == self.position
            && part.index == self.next
            && part.count == self.count
            && part.index < part.count
            && self.data.len() + part.data.len() <= MAX_COMMIT;
        if !fits {
            *self = Self::default();
            return Ok(Assembled::Broken);
        }
        self.data.extend_from_slice(&part.data);
        self.next += 1;
        if self.next < self.count {
            return Ok(if interrupted {
                Assembled::Broken
            } else {
                Assembled::Waiting
            });
        }
        let data = std::mem::take(self).data.freeze();
        Commit::decode(data)
            .map(Assembled::Whole)
            .map_err(|_| Unreadable::Garbled)
    }
}

#[cfg(test)]
mod tests {
    use alyx_proto::bus::{Change, Op};

    use super::*;

    fn commit(size: usize) -> Commit {
        Commit {
            first: 7,
            changes: vec![Change {
                collection: "notes".to_owned(),
                op: Op::Insert.into(),
                old: None,
                new: Some("x".repeat(size)),
            }],
            traces: Vec::new(),
        }
    }

    fn parts_of(messages: &[Bytes]) -> Vec<Part> {
        let part = |message: &Bytes| match convert::read(message.clone()) {
            Ok(Body::Part(part)) => part,
            other => panic!("not a part: {other:?}"),
        };
        messages.iter().map(part).collect()
    }

    /// `W` waiting, `C` the commit, `B` broken; for each part in turn.
    fn outcome(parts: &[&Part]) -> String {
        let mut assembly = Assembly::default();
        let take = |part: &&Part| match assembly.take(part) {
            Ok(Assembled::Waiting) => 'W',
            Ok(Assembled::Whole(_)) => 'C',
            Ok(Assembled::Broken) => 'B',
            Err(error) => panic!("{error}"),
        };
        parts.iter().map(take).collect()
    }

    #[test]
    fn no_message_is_over_the_limit_and_the_parts_make_the_commit() {
        for (size, limit, count) in [
            (100, 4096, 1),
            (4096, 4096, 2),
            (100_000, 4096, 25),
            (3 << 20, 1 << 20, 4),
        ] {
            let messages = cut(commit(size), 7, limit).expect("it fits");
            assert_eq!(messages.len(), count, "{size} in {limit}");
            assert!(messages.iter().all(|message| message.len() <= limit));
            if count > 1 {
                let mut assembly = Assembly::default();
                let last = parts_of(&messages)
                    .iter()
                    .map(|part| assembly.take(part).expect("readable"))
                    .last();
                assert!(matches!(last, Some(Assembled::Whole(whole)) if whole == commit(size)));
            }
        }
    }

    #[test]
    fn what_is_too_large_or_has_no_room_is_not_sent() {
        assert!(cut(commit(MAX_COMMIT), 7, 1 << 20).is_none());
        assert!(cut(commit(5000), 7, 512).is_none());
        assert!(cut(commit(100), 7, 512).is_some());
    }

    #[test]
    fn missing_doubled_and_late_parts_give_the_commit_up_and_the_next_one_works() {
        let parts = parts_of(&cut(commit(10_000), 7, 4096).expect("it fits"));
        let [a, b, c] = parts.as_slice() else {
            panic!("three parts: {parts:?}")
        };
        let other = Part {
            position: 8,
            ..b.clone()
        };
        for (sequence, expected) in [
            (vec![a, b, c], "WWC"),
            (vec![a, c, b, a, b, c], "WBWWWC"),
            (vec![a, a, b, c], "WBWC"),
            (vec![a, b, b, c], "WWBW"),
            (vec![b, c, a, b, c], "WWWWC"),
            (vec![a, &other, c], "WBW"),
        ] {
            assert_eq!(outcome(&sequence), expected);
        }
    }
}
