//! WebSocket frames on the wire (RFC 6455), the server's side: reading what clients send and building frames
//! that many sockets share.
//!
//! Made for many idle sockets and wide fan-out: a reader that waits holds no buffer at all, and a frame is built
//! once, header included, as `Bytes` that every socket writes without copying. No extensions, no compression;
//! what is sent is never fragmented and never masked, as the protocol asks of servers.

mod frame;
mod reader;

pub(super) use frame::{PING, TextFrame, close, pong};
pub(super) use reader::{FrameReader, Incoming, ReadError};

/// Why a connection is closed (RFC 6455, section 7.4; 3000 and above are registered for applications).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CloseCode(pub(super) u16);

impl CloseCode {
    pub(super) const NORMAL: Self = Self(1000);
    pub(super) const GOING_AWAY: Self = Self(1001);
    pub(super) const PROTOCOL: Self = Self(1002);
    pub(super) const NOT_UTF8: Self = Self(1007);
    pub(super) const TOO_LARGE: Self = Self(1009);
    pub(super) const SLOW: Self = Self(3008);
    /// Of the range for applications (RFC 6455, section 7.4.2), after HTTP 401.
    pub(super) const SIGNED_OUT: Self = Self(4401);
}

const OP_CONTINUE: u8 = 0x0;
const OP_TEXT: u8 = 0x1;
const OP_BINARY: u8 = 0x2;
const OP_CLOSE: u8 = 0x8;
const OP_PING: u8 = 0x9;
const OP_PONG: u8 = 0xA;
const FINAL: u8 = 0x80;
/// Longest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL: usize = 125;
