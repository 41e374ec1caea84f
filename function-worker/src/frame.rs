//! Frames between a worker and an instance.
//!
//! `u32 length of what follows | u8 type | u64 stream | u32 length of meta | meta (JSON) | body (raw)`, integers
//! little-endian. The layout and its reasons are written down in `docs/adr/0003-function-frames.md`; the other
//! end is `runtimes/node/frames.mjs`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// Bytes before the meta.
pub(crate) const HEADER: usize = 17;
/// Largest frame either side accepts, by its length field.
pub(crate) const MAX_FRAME: usize = 64 << 20;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameType {
    Hello = 1,
    Load = 2,
    Ready = 3,
    Invoke = 4,
    Result = 5,
    Error = 6,
    Call = 7,
    CallResult = 8,
    Log = 9,
    Cancel = 10,
    Ping = 11,
    Pong = 12,
    Drain = 13,
}

impl FrameType {
    fn parse(byte: u8) -> Option<Self> {
        const ALL: [FrameType; 13] = [
            FrameType::Hello,
            FrameType::Load,
            FrameType::Ready,
            FrameType::Invoke,
            FrameType::Result,
            FrameType::Error,
            FrameType::Call,
            FrameType::CallResult,
            FrameType::Log,
            FrameType::Cancel,
            FrameType::Ping,
            FrameType::Pong,
            FrameType::Drain,
        ];
        ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameType,
    pub(crate) stream: u64,
    pub(crate) meta: Bytes,
    pub(crate) body: Bytes,
}

/// An instance does not keep to the protocol; it cannot be understood any more.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    /// The length field is out of bounds.
    #[error("it sent a frame of {0} bytes; the bound is {MAX_FRAME}")]
    Length(usize),
    /// The parts do not fit the whole.
    #[error("it sent a frame whose meta is longer than the frame")]
    Meta,
    /// No such type.
    #[error("it sent a frame of the unknown type {0}")]
    Type(u8),
}

/// Takes the first frame out of `buffer`; `None` where it is not all there yet.
pub(crate) fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(mut head) = buffer.get(..HEADER) else {
        return Ok(None);
    };
    let length = head.get_u32_le() as usize;
    if !(HEADER - 4..=MAX_FRAME).contains(&length) {
        return Err(FrameError::Length(length));
    }
    let byte = head.get_u8();
    let kind = FrameType::parse(byte).ok_or(FrameError::Type(byte))?;
    let stream = head.get_u64_le();
    let meta_length = head.get_u32_le() as usize;
    if meta_length > length + 4 - HEADER {
        return Err(FrameError::Meta);
    }
    if buffer.len() < length + 4 {
        buffer.reserve(length + 4 - buffer.len());
        return Ok(None);
    }
    let mut rest = buffer.split_to(length + 4).freeze();
    rest.advance(HEADER);
    let meta = rest.split_to(meta_length);
    Ok(Some(Frame {
        kind,
        stream,
        meta,
        body: rest,
    }))
}

/// Appends a frame's head and meta; `body` bytes must follow. `meta` writes JSON at the end of the buffer.
pub(crate) fn encode_head(
    buffer: &mut BytesMut,
    kind: FrameType,
    stream: u64,
    body: usize,
    meta: impl FnOnce(&mut BytesMut),
) {
    let start = buffer.len();
    buffer.put_bytes(0, 4);
    buffer.put_u8(kind as u8);
    buffer.put_u64_le(stream);
    buffer.put_bytes(0, 4);
    meta(buffer);
    let meta_length = buffer.len() - start - HEADER;
    let length = HEADER - 4 + meta_length + body;
    buffer[start..start + 4].copy_from_slice(&length32(length));
    buffer[start + 13..start + HEADER].copy_from_slice(&length32(meta_length));
}

fn length32(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(kind: FrameType, stream: u64, meta: &str, body: &str) -> BytesMut {
        let mut buffer = BytesMut::new();
        encode_head(&mut buffer, kind, stream, body.len(), |out| {
            out.put_slice(meta.as_bytes());
        });
        buffer.put_slice(body.as_bytes());
        buffer
    }

    #[test]
    fn frames_are_read_back_however_the_stream_is_cut() {
        let mut whole = encoded(FrameType::Invoke, u64::MAX - 1, r#"{"a":1}"#, "[1,2]");
        whole.extend_from_slice(&encoded(FrameType::Pong, 7, "", ""));
        for cut in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..cut]);
            let mut frames = Vec::new();
            while let Some(frame) = decode(&mut buffer).expect("valid so far") {
                frames.push(frame);
            }
            buffer.extend_from_slice(&whole[cut..]);
            while let Some(frame) = decode(&mut buffer).expect("valid") {
                frames.push(frame);
            }
            assert!(buffer.is_empty(), "cut at {cut}");
            assert_eq!(frames.len(), 2, "cut at {cut}");
            assert_eq!(frames[0].stream, u64::MAX - 1);
            assert_eq!(&frames[0].meta[..], br#"{"a":1}"#);
            assert_eq!(&frames[0].body[..], b"[1,2]");
            assert_eq!(frames[1].kind, FrameType::Pong);
        }
    }

    #[test]
    fn broken_frames_are_refused_before_their_body_is_awaited() {
        let check = |patch: &dyn Fn(&mut BytesMut), expected: FrameError| {
            let mut buffer = encoded(FrameType::Result, 1, "{}", "1");
            patch(&mut buffer);
            buffer.truncate(HEADER);
            assert_eq!(decode(&mut buffer), Err(expected));
        };
        check(
            &|b| b[..4].copy_from_slice(&[0xff; 4]),
            FrameError::Length(0xffff_ffff),
        );
        check(&|b| b[..4].copy_from_slice(&[1, 0, 0, 0]), FrameError::Length(1));
        check(&|b| b[4] = 0, FrameError::Type(0));
        check(&|b| b[4] = 14, FrameError::Type(14));
        check(&|b| b[13] = 200, FrameError::Meta);
    }
}
