//! Bodies that travel in pieces beside others over one stream.
//!
//! The message that announces a body carries its beginning and its whole size; the rest follows in chunks. A sender
//! runs at most [`AHEAD`] bytes of a rest ahead of what the receiver has taken in, so no body holds up the others for
//! long, and what lies between the two ends is bounded for each.

use alyx_core::{Error, ErrorKind, Result};
use bytes::{Bytes, BytesMut};

/// Most bytes of a body in one message.
pub const PIECE: usize = 64 << 10;
/// Most bytes of a rest that may be under way.
pub const AHEAD: usize = 256 << 10;
/// Taken in before the sender is told: few messages, and never so late that it stands still.
const TELL_AFTER: usize = AHEAD / 2;
/// Room made ahead for a body, whatever size it claims to have.
const ROOM: usize = 1 << 20;

/// Whose body: the invocation `id`'s own (`call` is 0), or that of a call made in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodyKey {
    /// Of the invocation on this stream.
    pub id: u64,
    /// Of the call within it.
    pub call: u64,
}

impl BodyKey {
    /// The body of the invocation itself.
    pub const fn own(id: u64) -> Self {
        Self { id, call: 0 }
    }
}

/// A body while it arrives.
#[derive(Debug)]
pub struct Assembly {
    received: Received,
    size: usize,
    /// Taken in since the sender was last told.
    untold: usize,
}

#[derive(Debug)]
enum Received {
    /// In one piece, as it came.
    Whole(Bytes),
    Part(BytesMut),
}

impl Assembly {
    /// Begins with the `first` piece of a body of `size` bytes.
    ///
    /// # Errors
    /// `PAYLOAD_TOO_LARGE` where it is larger than `most`, `PROTOCOL_VIOLATION` where the first piece is not one.
    pub fn begin(first: Bytes, size: u64, most: usize) -> Result<Self> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > most {
            let message = format!("the body has {size} bytes, more than the {most} that are taken");
            return Err(Error::new(
                ErrorKind::PayloadTooLarge,
                "PAYLOAD_TOO_LARGE",
                message,
            ));
        }
        let received = match size.cmp(&first.len()) {
            std::cmp::Ordering::Less => return Err(violation("a body is longer than it was announced")),
            std::cmp::Ordering::Equal => Received::Whole(first),
            std::cmp::Ordering::Greater => {
                let mut part = BytesMut::with_capacity(size.min(ROOM));
                part.extend_from_slice(&first);
                Received::Part(part)
            }
        };
        Ok(Self {
            received,
            size,
            untold: 0,
        })
    }

    /// Takes in the next piece. `Some(bytes)` where the sender is to be told that so many more may come.
    ///
    /// # Errors
    /// `PROTOCOL_VIOLATION` where it is more than was announced.
    pub fn add(&mut self, piece: &[u8]) -> Result<Option<u64>> {
        let Received::Part(part) = &mut self.received else {
            return Err(violation("a body goes on after its end"));
        };
        if part.len() + piece.len() > self.size {
            return Err(violation("a body is longer than it was announced"));
        }
        part.extend_from_slice(piece);
        self.untold += piece.len();
        if part.len() == self.size || self.untold < TELL_AFTER {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.untold) as u64))
    }

    /// Whether all of it is there.
    pub fn is_whole(&self) -> bool {
        match &self.received {
            Received::Whole(_) => true,
            Received::Part(part) => part.len() == self.size,
        }
    }

    /// What is there.
    pub fn into_bytes(self) -> Bytes {
        match self.received {
            Received::Whole(whole) => whole,
            Received::Part(part) => part.freeze(),
        }
    }
}

fn violation(message: &'static str) -> Error {
    Error::new(ErrorKind::BadGateway, "PROTOCOL_VIOLATION", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_body_is_refused() {
        let check = |first: &'static [u8], size: u64, code: &str| {
            let error = Assembly::begin(Bytes::from_static(first), size, 8).expect_err("refused");
            assert_eq!(error.code(), code);
        };
        check(b"abc", 9, "PAYLOAD_TOO_LARGE");
        check(b"abc", u64::MAX, "PAYLOAD_TOO_LARGE");
        check(b"abc", 2, "PROTOCOL_VIOLATION");

        let mut body = Assembly::begin(Bytes::from_static(b"abc"), 5, 8).expect("fits");
        assert_eq!(
            body.add(b"def").expect_err("too long").code(),
            "PROTOCOL_VIOLATION"
        );
        assert!(body.add(b"de").expect("fits").is_none());
        assert!(body.is_whole());
        assert_eq!(body.into_bytes(), "abcde");

        let mut whole = Assembly::begin(Bytes::from_static(b"abc"), 3, 8).expect("fits");
        assert_eq!(whole.add(b"d").expect_err("over").code(), "PROTOCOL_VIOLATION");
    }
}
