//! The place of a piece of work in a distributed trace: W3C Trace Context, <https://www.w3.org/TR/trace-context/>.

use std::fmt;

use uuid::Uuid;

/// Length of the header's value in version 00.
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;

/// What the header `traceparent` says. 25 bytes, copied as they are; nothing is allocated before it is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: [u8; 16],
    parent: [u8; 8],
    flags: u8,
}

impl TraceContext {
    /// Bytes of [`Self::to_bytes`].
    pub const BYTES: usize = 25;

    /// A trace that begins here. It is not sampled: nobody has asked for it to be recorded.
    #[expect(clippy::new_without_default, reason = "a fresh trace is not a default value")]
    pub fn new() -> Self {
        let (trace, parent) = (Uuid::new_v4(), Uuid::new_v4());
        let mut own = [0; 8];
        // The second half of a random UUID is random but for two bits, so neither id is zero.
        own.copy_from_slice(&parent.as_bytes()[8..]);
        Self {
            trace: *trace.as_bytes(),
            parent: own,
            flags: 0,
        }
    }

    /// What a header's value says; `None` where it has not the form that the specification asks for.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (version, rest) = value.split_at_checked(2)?;
        let [version] = hex(version)?;
        // Later versions may go on after what version 00 has; 255 is none.
        let fits = match version {
            0 => value.len() == LENGTH,
            255 => false,
            _ => value.len() == LENGTH || value.get(LENGTH) == Some(&b'-'),
        };
        let dashes = [0, 33, 50].iter().all(|&at| rest.get(at) == Some(&b'-'));
        if !fits || !dashes {
            return None;
        }
        let (trace, parent) = (hex(&rest[1..33])?, hex(&rest[34..50])?);
        let [flags] = hex(&rest[51..53])?;
        (trace != [0; 16] && parent != [0; 8]).then_some(Self { trace, parent, flags })
    }

    /// Whether somebody may be recording this trace.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The trace's id alone, as logs have it.
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        TraceId(self.trace)
    }

    /// A shorter form for messages of our own.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace);
        bytes[16..24].copy_from_slice(&self.parent);
        bytes[24] = self.flags;
        bytes
    }

    /// What [`Self::to_bytes`] made; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let (trace, rest) = bytes.split_first_chunk::<16>()?;
        let (parent, rest) = rest.split_first_chunk::<8>()?;
        (*trace != [0; 16] && *parent != [0; 8]).then_some(Self {
            trace: *trace,
            parent: *parent,
            flags: rest[0],
        })
    }
}

impl fmt::Display for TraceContext {
    /// The header's value, in version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'-'; LENGTH];
        write_hex(&[0], &mut text[..2]);
        write_hex(&self.trace, &mut text[3..35]);
        write_hex(&self.parent, &mut text[36..52]);
        write_hex(&[self.flags], &mut text[53..]);
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

struct TraceId([u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 32];
        write_hex(&self.0, &mut text);
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// Lower-case hexadecimal of exactly that many bytes.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn write_hex(bytes: &[u8], into: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(into.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_read_is_written_as_it_was() {
        let context = TraceContext::parse(PARENT.as_bytes()).expect("sound");
        assert_eq!(context.to_string(), PARENT);
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(context.is_sampled());
        assert_eq!(TraceContext::from_bytes(&context.to_bytes()), Some(context));
        let fresh = TraceContext::new();
        assert_ne!(fresh, TraceContext::new());
        assert_eq!(TraceContext::parse(fresh.to_string().as_bytes()), Some(fresh));
        assert!(!fresh.is_sampled());
    }

    #[test]
    fn what_has_another_form_is_left_out() {
        let check = |text: &str, expected: bool| {
            assert_eq!(TraceContext::parse(text.as_bytes()).is_some(), expected, "{text}");
        };
        check(PARENT, true);
        check(&PARENT.to_uppercase(), false);
        check(&PARENT[..52], false);
        check(&format!("{PARENT}-"), false);
        check(&PARENT.replacen("00", "01", 1), true);
        check(&format!("{}-more", PARENT.replacen("00", "01", 1)), true);
        check(&format!("{}more", PARENT.replacen("00", "01", 1)), false);
        check(&PARENT.replacen("00", "ff", 1), false);
        check(
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            false,
        );
        check(&PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)), false);
        check(&PARENT.replace('-', "_"), false);
        check("", false);
        check("é", false);
        assert_eq!(TraceContext::from_bytes(&[0; 25]), None);
        assert_eq!(TraceContext::from_bytes(&[1; 24]), None);
    }
}
