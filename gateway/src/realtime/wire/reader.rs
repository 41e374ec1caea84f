//! Takes apart what a client sends.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::{CloseCode, FINAL, MAX_CONTROL, OP_BINARY, OP_CLOSE, OP_CONTINUE, OP_PING, OP_PONG, OP_TEXT};

/// Bytes read from a socket at a time, on the stack.
const READ_CHUNK: usize = 8 * 1024;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::realtime) enum Incoming {
    /// A whole text message.
    Text(String),
    /// A binary message, whose content nobody reads.
    Binary,
    /// A protocol ping with what its pong must carry.
    Ping(Vec<u8>),
    /// A protocol pong.
    Pong,
    /// The client closes, with its code where it gave one.
    Close(Option<CloseCode>),
}

/// Why a client's bytes cannot be read on.
#[derive(Debug)]
pub(in crate::realtime) enum ReadError {
    /// The connection broke.
    Io,
    /// The peer must be told this before the connection ends.
    Close(CloseCode, &'static str),
}

impl From<io::Error> for ReadError {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// Takes a client's bytes apart. After an error it must not be used again.
#[derive(Debug)]
pub(in crate::realtime) struct FrameReader {
    /// Bytes read and not yet taken apart; without capacity while nothing is under way.
    buffer: Vec<u8>,
    /// How much of `buffer` is done with.
    done: usize,
    /// A message whose fragments are still coming, and whether it is text.
    partial: Option<(bool, Vec<u8>)>,
    /// Longest message, in bytes.
    limit: usize,
}

/// One frame's header.
struct Header {
    opcode: u8,
    last: bool,
    mask: [u8; 4],
    /// Of the header itself.
    size: usize,
    /// Of the payload.
    length: usize,
}

impl FrameReader {
    pub(in crate::realtime) fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            done: 0,
            partial: None,
            limit,
        }
    }

    /// The next message; `None` at the end of the stream.
    pub(in crate::realtime) fn poll_next<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Incoming, ReadError>>> {
        loop {
            match self.take() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match ready!(self.poll_fill(io, cx)) {
                Ok(0) => return Poll::Ready(None),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    fn poll_fill<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut chunk = [const { MaybeUninit::uninit() }; READ_CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(io).poll_read(cx, &mut chunk))?;
        self.buffer.drain(..self.done);
        self.done = 0;
        self.buffer.extend_from_slice(chunk.filled());
        Poll::Ready(Ok(chunk.filled().len()))
    }

    /// The next message among the bytes that are here.
    fn take(&mut self) -> Result<Option<Incoming>, ReadError> {
        loop {
            let Some((header, payload)) = self.take_frame()? else {
                return Ok(None);
            };
            if let Some(message) = self.accept(&header, payload)? {
                return Ok(Some(message));
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<(Header, Vec<u8>)>, ReadError> {
        let Some(header) = parse_header(&self.buffer[self.done..])? else {
            return Ok(None);
        };
        let already = self.partial.as_ref().map_or(0, |(_, data)| data.len());
        if header.opcode < OP_CLOSE && already.saturating_add(header.length) > self.limit {
            return Err(ReadError::Close(CloseCode::TOO_LARGE, "message too large"));
        }
        let start = self.done + header.size;
        let Some(masked) = self.buffer.get(start..start + header.length) else {
            return Ok(None);
        };
        let mut payload = masked.to_vec();
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= header.mask[index & 3];
        }
        self.done = start + header.length;
        if self.done == self.buffer.len() {
            self.buffer = Vec::new();
            self.done = 0;
        }
        Ok(Some((header, payload)))
    }

    fn accept(&mut self, header: &Header, payload: Vec<u8>) -> Result<Option<Incoming>, ReadError> {
        match header.opcode {
            OP_PING => Ok(Some(Incoming::Ping(payload))),
            OP_PONG => Ok(Some(Incoming::Pong)),
            OP_CLOSE => close_of(&payload).map(|code| Some(Incoming::Close(code))),
            OP_CONTINUE => {
                let Some((text, mut message)) = self.partial.take() else {
                    return Err(protocol("continuation of nothing"));
                };
                message.extend_from_slice(&payload);
                self.assemble(text, message, header.last)
            }
            OP_TEXT | OP_BINARY => {
                if self.partial.is_some() {
                    return Err(protocol("a message inside another"));
                }
                self.assemble(header.opcode == OP_TEXT, payload, header.last)
            }
            _ => Err(protocol("unknown frame type")),
        }
    }

    fn assemble(&mut self, text: bool, message: Vec<u8>, last: bool) -> Result<Option<Incoming>, ReadError> {
        if !last {
            self.partial = Some((text, message));
            return Ok(None);
        }
        if !text {
            return Ok(Some(Incoming::Binary));
        }
        String::from_utf8(message)
            .map(|text| Some(Incoming::Text(text)))
            .map_err(|_| ReadError::Close(CloseCode::NOT_UTF8, "text is not UTF-8"))
    }
}

fn protocol(reason: &'static str) -> ReadError {
    ReadError::Close(CloseCode::PROTOCOL, reason)
}

/// The header at the start of `bytes`; `None` while it is incomplete.
fn parse_header(bytes: &[u8]) -> Result<Option<Header>, ReadError> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err(protocol("reserved bits are set"));
    }
    if second & 0x80 == 0 {
        return Err(protocol("frames from clients are masked"));
    }
    let (length, wide) = match second & 0x7F {
        126 => match rest.first_chunk::<2>() {
            Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 8),
            None => return Ok(None),
        },
        short => (u64::from(short), 0),
    };
    let (opcode, last) = (first & 0x0F, first & FINAL != 0);
    if opcode >= OP_CLOSE && (!last || length > MAX_CONTROL as u64) {
        return Err(protocol("control frames are short and whole"));
    }
    let length = usize::try_from(length).map_err(|_| protocol("impossible length"))?;
    if length > usize::MAX / 2 {
        return Err(protocol("impossible length"));
    }
    let Some(mask) = rest[wide..].first_chunk::<4>() else {
        return Ok(None);
    };
    Ok(Some(Header {
        opcode,
        last,
        mask: *mask,
        size: 2 + wide + 4,
        length,
    }))
}

fn close_of(payload: &[u8]) -> Result<Option<CloseCode>, ReadError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        let empty = payload.is_empty();
        return if empty {
            Ok(None)
        } else {
            Err(protocol("half a close code"))
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(protocol("that close code is not for the wire"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(ReadError::Close(CloseCode::NOT_UTF8, "the reason is not UTF-8"));
    }
    Ok(Some(CloseCode(code)))
}
#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 11, 13, 17];
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..126 => bytes.push(0x80 | u8::try_from(short).expect("short")),
            middle @ 126..=0xFFFF => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&u16::try_from(middle).expect("middle").to_be_bytes());
            }
            long => {
                bytes.push(0x80 | 127);
                bytes.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&mask);
        bytes.extend(
            payload
                .iter()
                .enumerate()
                .map(|(index, byte)| byte ^ mask[index & 3]),
        );
        bytes
    }

    /// Feeds `bytes` in pieces of `step` and collects what comes out, up to the first error.
    async fn read(bytes: &[u8], step: usize, limit: usize) -> (Vec<Incoming>, Option<ReadError>) {
        let mut reader = FrameReader::new(limit);
        let mut io = tokio_test_io(bytes, step);
        let mut messages = Vec::new();
        loop {
            match std::future::poll_fn(|cx| reader.poll_next(&mut io, cx)).await {
                Some(Ok(message)) => messages.push(message),
                Some(Err(error)) => return (messages, Some(error)),
                None => return (messages, None),
            }
        }
    }

    /// A stream that hands out at most `step` bytes at a time.
    fn tokio_test_io(bytes: &[u8], step: usize) -> impl AsyncRead + Unpin + use<> {
        struct Steps(Vec<u8>, usize);
        impl AsyncRead for Steps {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                into: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let count = self.1.min(self.0.len()).min(into.remaining());
                into.put_slice(&self.0[..count]);
                self.0.drain(..count);
                Poll::Ready(Ok(()))
            }
        }
        Steps(bytes.to_vec(), step)
    }

    #[tokio::test]
    async fn messages_come_out_whole_however_the_bytes_arrive() {
        let long = "\u{e4}".repeat(40_000);
        let mut bytes = frame(0x81, b"short");
        bytes.extend(frame(0x01, "gr\u{fc}".as_bytes()));
        bytes.extend(frame(0x89, b"in between"));
        bytes.extend(frame(0x80, "\u{df}e".as_bytes()));
        bytes.extend(frame(0x82, &[0xFF; 300]));
        bytes.extend(frame(0x81, long.as_bytes()));
        bytes.extend(frame(0x8A, b""));
        bytes.extend(frame(0x88, &[0x03, 0xE8]));
        let expected = [
            Incoming::Text("short".to_owned()),
            Incoming::Ping(b"in between".to_vec()),
            Incoming::Text("gr\u{fc}\u{df}e".to_owned()),
            Incoming::Binary,
            Incoming::Text(long),
            Incoming::Pong,
            Incoming::Close(Some(CloseCode::NORMAL)),
        ];
        for step in [1, 2, 3, 7, 1000, 8192, usize::MAX] {
            let (messages, error) = read(&bytes, step, 1 << 20).await;
            assert_eq!(messages, expected, "in steps of {step}");
            assert!(error.is_none());
        }
    }

    #[tokio::test]
    async fn what_breaks_the_protocol_names_its_close_code() {
        let check = async |bytes: Vec<u8>, expected: u16| {
            let (_, error) = read(&bytes, usize::MAX, 100).await;
            match error {
                Some(ReadError::Close(code, reason)) => assert_eq!(code.0, expected, "{reason}"),
                other => panic!("{other:?} for {bytes:?}"),
            }
        };
        check(frame(0x81, &[b'x'; 101]), 1009).await;
        check(
            [frame(0x01, &[b'x'; 60]), frame(0x80, &[b'x'; 60])].concat(),
            1009,
        )
        .await;
        check(
            vec![0x81, 0xFF, 0x7F, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0],
            1009,
        )
        .await;
        check(
            vec![0x81, 0xFF, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0],
            1002,
        )
        .await;
        check(vec![0x81, 0x01, b'x'], 1002).await;
        check(frame(0xC1, b"compressed"), 1002).await;
        check(frame(0x80, b"continues nothing"), 1002).await;
        check([frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002).await;
        check(frame(0x83, b"?"), 1002).await;
        check(frame(0x09, b"fragmented ping"), 1002).await;
        check(frame(0x89, &[0; 126]), 1002).await;
        check(frame(0x88, &[3]), 1002).await;
        check(frame(0x88, &[3, 237]), 1002).await;
        check(frame(0x88, &[3, 232, 0xFF]), 1007).await;
        check(frame(0x81, &[0xFF]), 1007).await;
    }

    #[tokio::test]
    async fn a_message_of_exactly_the_limit_passes_and_an_idle_reader_holds_nothing() {
        let mut reader = FrameReader::new(100);
        let mut io = tokio_test_io(&frame(0x81, &[b'x'; 100]), 9);
        let message = std::future::poll_fn(|cx| reader.poll_next(&mut io, cx)).await;
        assert!(matches!(message, Some(Ok(Incoming::Text(text))) if text.len() == 100));
        assert_eq!(reader.buffer.capacity(), 0);
    }
}
