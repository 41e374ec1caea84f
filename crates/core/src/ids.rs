//! Identifiers as types, so that one cannot be passed for another.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A fresh UUID of version 7 (RFC 9562): sorts by time, monotonic within a process, hyphenated lower case.
pub fn new_uuid_v7() -> String {
    let mut buffer = Uuid::encode_buffer();
    Uuid::now_v7().hyphenated().encode_lower(&mut buffer).to_owned()
}

/// 122 random bits as text: what nobody can guess.
pub fn new_secret_id() -> String {
    let mut buffer = Uuid::encode_buffer();
    Uuid::new_v4().simple().encode_lower(&mut buffer).to_owned()
}

/// Characters of [`new_short_id`].
pub const SHORT_ID_LENGTH: usize = 15;

/// A fresh id of 15 letters and digits, each of the 62 as likely as any other: 89 random bits.
pub fn new_short_id() -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // Bytes beyond would make the first letters likelier.
    const FAIR: usize = 256 / ALPHABET.len() * ALPHABET.len();
    let mut id = String::with_capacity(SHORT_ID_LENGTH);
    while id.len() < SHORT_ID_LENGTH {
        let random = Uuid::new_v4().into_bytes();
        // Version and variant are in the bytes 6 and 8 (RFC 9562).
        let free = random.iter().enumerate().filter(|(at, _)| !matches!(at, 6 | 8));
        let free = free
            .map(|(_, byte)| usize::from(*byte))
            .filter(|byte| *byte < FAIR);
        let missing = SHORT_ID_LENGTH - id.len();
        id.extend(
            free.take(missing)
                .map(|byte| char::from(ALPHABET[byte % ALPHABET.len()])),
        );
    }
    id
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A fresh, unique id.
            #[expect(clippy::new_without_default, reason = "a fresh id is not a default value")]
            pub fn new() -> Self {
                Self(new_uuid_v7())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

string_id!(
    /// One request at the edge; travels through every hop and log line.
    RequestId
);
string_id!(
    /// One WebSocket connection.
    ClientId
);
string_id!(
    /// One call of a function.
    InvocationId
);

/// A position in the change log: the `seq` of the last change that is included. `0` is the empty log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
