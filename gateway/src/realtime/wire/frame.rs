//! Builds what the server sends.

use bytes::Bytes;

use super::{CloseCode, FINAL, MAX_CONTROL, OP_CLOSE, OP_PING, OP_PONG, OP_TEXT};

/// Longest header of a frame from the server: two bytes and a length of eight.
const MAX_HEADER: usize = 10;

/// Builds one text frame in place: room for the header is kept in front of the payload.
#[derive(Debug)]
pub(in crate::realtime) struct TextFrame {
    buffer: Vec<u8>,
}

impl TextFrame {
    /// An empty frame with room for `capacity` bytes of payload.
    pub(in crate::realtime) fn with_capacity(capacity: usize) -> Self {
        let mut buffer = Vec::with_capacity(MAX_HEADER + capacity);
        buffer.extend_from_slice(&[0; MAX_HEADER]);
        Self { buffer }
    }

    pub(in crate::realtime) fn push(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    /// The payload so far and what is in front of it; only JSON text, which is UTF-8, may be appended.
    pub(in crate::realtime) fn json(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Appends `value` as JSON.
    pub(in crate::realtime) fn push_value(&mut self, value: &impl serde::Serialize) {
        serde_json::to_writer(&mut self.buffer, value)
            .expect("texts and numbers serialise, and memory takes them");
    }

    /// Bytes of payload so far.
    pub(in crate::realtime) fn len(&self) -> usize {
        self.buffer.len() - MAX_HEADER
    }

    /// The frame, and where in it the payload starts.
    pub(in crate::realtime) fn finish(self) -> (Bytes, usize) {
        let frame = self.finish_before(0);
        let header = header_size(frame.1);
        (frame.0, header)
    }

    /// The head of a frame whose last `rest` bytes of payload are written right after it, with its own length of
    /// payload beside it.
    pub(in crate::realtime) fn finish_before(mut self, rest: usize) -> (Bytes, usize) {
        let payload = self.len();
        let (header, size) = header_of(OP_TEXT, payload + rest);
        let start = MAX_HEADER - size;
        self.buffer[start..MAX_HEADER].copy_from_slice(&header[..size]);
        self.buffer.shrink_to_fit();
        (Bytes::from(self.buffer).slice(start..), payload)
    }
}

/// A control frame.
fn control(opcode: u8, payload: &[u8]) -> Bytes {
    let payload = &payload[..payload.len().min(MAX_CONTROL)];
    let (header, size) = header_of(opcode, payload.len());
    let mut frame = Vec::with_capacity(size + payload.len());
    frame.extend_from_slice(&header[..size]);
    frame.extend_from_slice(payload);
    frame.into()
}

/// A protocol ping without payload: two bytes that need no allocation.
pub(in crate::realtime) const PING: Bytes = Bytes::from_static(&[FINAL | OP_PING, 0]);

pub(in crate::realtime) fn pong(payload: &[u8]) -> Bytes {
    control(OP_PONG, payload)
}

/// A close frame; the reason is at most 123 bytes.
pub(in crate::realtime) fn close(code: CloseCode, reason: &str) -> Bytes {
    let mut payload = code.0.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    control(OP_CLOSE, &payload)
}

const fn header_size(payload: usize) -> usize {
    match payload {
        0..126 => 2,
        126..=0xFFFF => 4,
        _ => MAX_HEADER,
    }
}

fn header_of(opcode: u8, payload: usize) -> ([u8; MAX_HEADER], usize) {
    let mut header = [0; MAX_HEADER];
    header[0] = FINAL | opcode;
    let size = header_size(payload);
    match size {
        2 => header[1] = u8::try_from(payload).unwrap_or(125),
        4 => {
            header[1] = 126;
            header[2..4].copy_from_slice(&u16::try_from(payload).unwrap_or(u16::MAX).to_be_bytes());
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(payload as u64).to_be_bytes());
        }
    }
    (header, size)
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_carry_the_shortest_header() {
        let check = |payload: usize, header: &[u8]| {
            let mut frame = TextFrame::with_capacity(payload);
            frame.push(&"x".repeat(payload));
            let (bytes, start) = frame.finish();
            assert_eq!(&bytes[..start], header, "{payload}");
            assert_eq!(bytes.len(), start + payload);
        };
        check(0, &[0x81, 0]);
        check(125, &[0x81, 125]);
        check(126, &[0x81, 126, 0, 126]);
        check(0xFFFF, &[0x81, 126, 0xFF, 0xFF]);
        check(0x1_0000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_head_counts_the_bytes_that_follow_it() {
        let mut head = TextFrame::with_capacity(8);
        head.push("head");
        let (bytes, payload) = head.finish_before(200);
        assert_eq!(
            (&bytes[..], payload),
            (&[0x81, 126, 0, 204, b'h', b'e', b'a', b'd'][..], 4)
        );
    }
}
