//! The id under which one request is found in replies, logs and everything that it causes.

use alyx_core::{RequestId, new_uuid_v7};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Header that carries the id in both directions.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken over from a caller, in bytes.
const MAX_LENGTH: usize = 128;

/// The id in the form that replies need, so that an ordinary request allocates it once.
#[derive(Debug, Clone)]
pub(crate) struct RequestTag {
    value: HeaderValue,
}

impl RequestTag {
    /// The caller's id where it is 1 to 128 visible ASCII characters, else a fresh one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get(&X_REQUEST_ID) {
            Some(value) if is_sane(value.as_bytes()) => Self { value: value.clone() },
            Some(_) | None => Self::fresh(),
        }
    }

    /// A fresh id.
    pub(crate) fn fresh() -> Self {
        let value = HeaderValue::try_from(new_uuid_v7()).expect("a UUID is visible ASCII");
        Self { value }
    }

    /// The id as the header's value.
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.value
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        self.value.to_str().expect("only visible ASCII is taken over")
    }

    /// The id as other roles take it.
    pub(crate) fn to_id(&self) -> RequestId {
        RequestId::from(self.as_str().to_owned())
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=MAX_LENGTH).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sane_ids_are_echoed_and_others_replaced() {
        let check = |sent: &[u8], echoed: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(
                X_REQUEST_ID,
                HeaderValue::from_bytes(sent).expect("a header value"),
            );
            let tag = RequestTag::of(&headers);
            assert_eq!(tag.as_str().as_bytes() == sent, echoed, "{sent:?}");
            assert!(!tag.as_str().is_empty());
        };
        check(b"abc-123", true);
        check(&[b'x'; 128], true);
        check(&[b'x'; 129], false);
        check(b"", false);
        check(b"two words", false);
        check("\u{e9}t\u{e9}".as_bytes(), false);
    }

    #[test]
    fn fresh_ids_differ() {
        assert_ne!(RequestTag::fresh().as_str(), RequestTag::fresh().as_str());
    }
}
