//! What a NATS server sends, message by message, so that whole messages can be lost, doubled and late while the
//! connection stays sound: <https://docs.nats.io/reference/reference-protocols/nats-protocol>.

use bytes::{Bytes, BytesMut};

use super::Mischief;
use crate::Random;

/// The longest that a server may send: a control line, and a message of 64 MiB.
const LONGEST: usize = (64 << 20) + (1 << 16);
/// A late message lets at most this many others pass.
const LATEST: usize = 8;

/// One connection's way from the server.
#[derive(Debug, Default)]
pub(super) struct Messages {
    arrived: BytesMut,
    /// Late messages, each with the number of others that it still lets pass.
    late: Vec<(usize, Bytes)>,
    choices: Option<(Mischief, Random)>,
}

/// What is to be sent on, and how many messages were tampered with.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) bytes: BytesMut,
    pub(super) disturbed: u64,
}

impl Messages {
    /// Takes up what arrived and returns what goes on. A frame that is not complete waits for its rest; late messages
    /// go on with the first frame after the mischief is over.
    pub(super) fn pass(&mut self, chunk: &[u8], mischief: Option<Mischief>) -> Passed {
        self.arrived.extend_from_slice(chunk);
        let mut passed = Passed::default();
        while let Some((length, is_message)) = frame(&self.arrived) {
            let frame = self.arrived.split_to(length).freeze();
            match mischief {
                Some(mischief) if is_message => self.disturb(&frame, mischief, &mut passed),
                Some(_) => passed.bytes.extend_from_slice(&frame),
                None => {
                    for (_, late) in self.late.drain(..) {
                        passed.bytes.extend_from_slice(&late);
                    }
                    passed.bytes.extend_from_slice(&frame);
                }
            }
        }
        assert!(
            self.arrived.len() <= LONGEST,
            "this is not what a NATS server sends"
        );
        passed
    }

    fn disturb(&mut self, message: &Bytes, mischief: Mischief, passed: &mut Passed) {
        let random = match &mut self.choices {
            Some((of, random)) if *of == mischief => random,
            choices => &mut choices.insert((mischief, Random::new(mischief.seed))).1,
        };
        let lost = usize::from(mischief.lost);
        let doubled = lost + usize::from(mischief.doubled);
        let late = doubled + usize::from(mischief.late);
        let choice = random.below(100);
        let delay = 1 + random.below(LATEST);
        passed.disturbed += u64::from(choice < late);
        if choice >= doubled && choice < late {
            self.late.push((delay, message.clone()));
            return;
        }
        let copies = match choice {
            choice if choice < lost => 0,
            choice if choice < doubled => 2,
            _ => 1,
        };
        for _ in 0..copies {
            passed.bytes.extend_from_slice(message);
        }
        self.late.retain_mut(|(delay, late)| {
            *delay -= 1;
            if *delay == 0 {
                passed.bytes.extend_from_slice(late);
            }
            *delay > 0
        });
    }
}

/// The length of the first frame, where it is complete, and whether it is a message.
fn frame(bytes: &[u8]) -> Option<(usize, bool)> {
    const END: usize = 2;
    let line = bytes.windows(END).position(|pair| pair == b"\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..line]);
    let mut words = text.split_ascii_whitespace();
    let is_message = words
        .next()
        .is_some_and(|verb| verb.eq_ignore_ascii_case("MSG") || verb.eq_ignore_ascii_case("HMSG"));
    if !is_message {
        return Some((line + END, false));
    }
    let size: usize = words
        .next_back()
        .and_then(|size| size.parse().ok())
        .expect("a message's last word is its size");
    let length = line + END + size + END;
    (bytes.len() >= length).then_some((length, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Mischief = Mischief {
        seed: 1,
        lost: 0,
        doubled: 0,
        late: 0,
    };

    fn message(number: usize) -> String {
        // A payload may look like the protocol itself.
        let payload = format!("MSG {number}\r\n");
        match number % 2 {
            0 => format!("MSG a.b 1 {}\r\n{payload}\r\n", payload.len()),
            _ => format!(
                "HMSG a.b 1 12 {}\r\nNATS/1.0\r\n\r\n{payload}\r\n",
                payload.len() + 12
            ),
        }
    }

    fn sent(count: usize) -> String {
        let messages: String = (0..count).map(message).collect();
        format!("INFO {{\"a\":1}}\r\nPING\r\n{messages}+OK\r\n")
    }

    /// What goes on of `sent`, in chunks of that size.
    fn passed(sent: &str, chunk: usize, mischief: Option<Mischief>) -> (String, u64) {
        let mut messages = Messages::default();
        let (mut all, mut disturbed) = (Vec::new(), 0);
        for chunk in sent.as_bytes().chunks(chunk) {
            let passed = messages.pass(chunk, mischief);
            all.extend_from_slice(&passed.bytes);
            disturbed += passed.disturbed;
        }
        (String::from_utf8(all).expect("text"), disturbed)
    }

    fn numbers(passed: &str) -> Vec<usize> {
        let lines = passed.lines().filter(|line| line.split(' ').count() == 2);
        lines
            .filter_map(|line| line.strip_prefix("MSG ")?.parse().ok())
            .collect()
    }

    #[test]
    fn without_mischief_everything_goes_on_as_it_is_however_it_is_cut() {
        let sent = sent(20);
        for chunk in [1, 3, 17, 1000] {
            for mischief in [None, Some(NONE)] {
                assert_eq!(passed(&sent, chunk, mischief), (sent.clone(), 0), "{chunk}");
            }
        }
    }

    #[test]
    fn messages_are_lost_doubled_and_late_as_a_whole_and_a_seed_repeats_it() {
        let sent = sent(200);
        let only = |lost, doubled, late| Mischief {
            lost,
            doubled,
            late,
            ..NONE
        };
        let (all_lost, disturbed) = passed(&sent, 7, Some(only(100, 0, 0)));
        assert_eq!(
            (all_lost.as_str(), disturbed),
            ("INFO {\"a\":1}\r\nPING\r\n+OK\r\n", 200)
        );
        let (doubled, _) = passed(&sent, 7, Some(only(0, 100, 0)));
        assert_eq!(
            numbers(&doubled),
            (0..200).flat_map(|n| [n, n]).collect::<Vec<_>>()
        );
        let (late, disturbed) = passed(&sent, 7, Some(only(0, 0, 30)));
        let late = numbers(&late);
        let overtaken = late.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!(disturbed > 20 && overtaken > 10, "{disturbed} {late:?}");
        assert!(
            late.len() > 190,
            "none is lost but what is still waiting: {late:?}"
        );
        let mixed = only(20, 20, 20);
        assert_eq!(passed(&sent, 7, Some(mixed)), passed(&sent, 100, Some(mixed)));
        assert_ne!(
            passed(&sent, 7, Some(mixed)),
            passed(&sent, 7, Some(Mischief { seed: 2, ..mixed }))
        );
    }

    #[test]
    fn late_messages_come_once_the_mischief_is_over() {
        let mut messages = Messages::default();
        let held = messages.pass(message(0).as_bytes(), Some(Mischief { late: 100, ..NONE }));
        assert_eq!((held.bytes.len(), held.disturbed), (0, 1));
        let rest = messages.pass(b"PING\r\n", None);
        assert_eq!(rest.bytes, format!("{}PING\r\n", message(0)));
    }
}
