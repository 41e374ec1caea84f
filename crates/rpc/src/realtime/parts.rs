//! Frames that are too long for one message.

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::realtime as wire;
use alyx_proto::realtime::node_frame::Body;
use bytes::{Bytes, BytesMut};
use prost::Message;

use super::broken;

/// Longest frame that is sent as it is, and longest piece of a longer one.
const PART_BYTES: usize = 1 << 20;
/// Longest frame that a gateway puts together.
pub const MAX_FRAME_BYTES: usize = 128 << 20;

/// The messages that carry a frame: itself, or its pieces.
///
/// # Errors
/// `WINDOW_TOO_LARGE` where it is longer than [`MAX_FRAME_BYTES`].
pub fn split(frame: wire::NodeFrame) -> Result<Vec<wire::NodeFrame>> {
    let length = frame.encoded_len();
    if length <= PART_BYTES {
        return Ok(vec![frame]);
    }
    if length > MAX_FRAME_BYTES {
        let most = MAX_FRAME_BYTES >> 20;
        return Err(Error::new(
            ErrorKind::PayloadTooLarge,
            "WINDOW_TOO_LARGE",
            format!(
                "the documents of this live query are more than {most} MiB; ask for fewer of them or of their fields"
            ),
        ));
    }
    let mut rest = Bytes::from(frame.encode_to_vec());
    let mut parts = Vec::with_capacity(length / PART_BYTES + 1);
    while !rest.is_empty() {
        let data = rest.split_to(PART_BYTES.min(rest.len()));
        let last = rest.is_empty();
        parts.push(wire::NodeFrame {
            cost: 0,
            body: Some(Body::Part(wire::Part { data, last })),
        });
    }
    Ok(parts)
}

/// Puts pieces together.
#[derive(Debug, Default)]
pub struct Assembler {
    parts: BytesMut,
}

impl Assembler {
    /// Takes the next message; the frame that it is or completes.
    ///
    /// # Errors
    /// The pieces make no frame, or one that is too long.
    pub fn take(&mut self, frame: wire::NodeFrame) -> Result<Option<wire::NodeFrame>> {
        let part = match frame.body {
            Some(Body::Part(part)) => part,
            _ if self.parts.is_empty() => return Ok(Some(frame)),
            _ => return Err(broken("a frame between the pieces of another")),
        };
        if self.parts.len() + part.data.len() > MAX_FRAME_BYTES {
            return Err(broken("a frame that is too long"));
        }
        self.parts.extend_from_slice(&part.data);
        if !part.last {
            return Ok(None);
        }
        let whole = std::mem::take(&mut self.parts).freeze();
        wire::NodeFrame::decode(whole)
            .map(Some)
            .map_err(|_| broken("pieces that make no frame"))
    }
}
