//! What travels beside every call: its deadline, the request that caused it, and the trace it belongs to.

use std::time::{Duration, Instant};

use alyx_core::RequestId;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

const REQUEST_ID: &str = "x-request-id";
/// W3C Trace Context, <https://www.w3.org/TR/trace-context/>.
const TRACEPARENT: &str = "traceparent";
/// As gRPC spells deadlines: up to eight digits and a unit.
const TIMEOUT: &str = "grpc-timeout";
/// Longest request id that is taken over.
const MAX_ID: usize = 128;

/// What travels beside a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// When the caller gives up. On the wire it is the time that is left, so clocks need not agree.
    pub deadline: Option<Instant>,
    /// The request at the edge that caused it.
    pub request_id: Option<RequestId>,
    /// Its place in a trace, as the header holds it.
    pub traceparent: Option<String>,
}

impl Call {
    /// A call with that much time.
    pub fn within(time: Duration) -> Self {
        Self {
            deadline: Instant::now().checked_add(time),
            ..Self::default()
        }
    }

    /// Names the request at the edge.
    #[must_use]
    pub fn for_request(mut self, id: RequestId) -> Self {
        self.request_id = Some(id);
        self
    }

    /// A request with all of this on it. The server ends the call at the deadline, and so does the channel.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        let metadata = request.metadata_mut();
        set(
            metadata,
            REQUEST_ID,
            self.request_id.as_ref().map(RequestId::as_str),
        );
        set(metadata, TRACEPARENT, self.traceparent.as_deref());
        request
    }

    /// What came with `metadata`. What cannot be read is left out.
    pub fn of(metadata: &MetadataMap) -> Self {
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
        Self {
            deadline: text(TIMEOUT)
                .and_then(timeout)
                .and_then(|left| Instant::now().checked_add(left)),
            request_id: text(REQUEST_ID)
                .filter(|id| !id.is_empty() && id.len() <= MAX_ID)
                .map(|id| RequestId::from(id.to_owned())),
            traceparent: text(TRACEPARENT)
                .filter(|parent| is_traceparent(parent))
                .map(str::to_owned),
        }
    }
}

fn set(metadata: &mut MetadataMap, key: &'static str, value: Option<&str>) {
    let value = value.and_then(|value| MetadataValue::<Ascii>::try_from(value).ok());
    if let Some(value) = value {
        metadata.insert(key, value);
    }
}

fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Version, trace id, parent id and flags in lower-case hexadecimal.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [2, 32, 16, 2]
        && parts
            .iter()
            .all(|part| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read() {
        let call = Call {
            deadline: Instant::now().checked_add(Duration::from_secs(60)),
            request_id: Some(RequestId::from("r-1".to_owned())),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        };
        let read = Call::of(call.request(()).metadata());
        assert_eq!(read.request_id, call.request_id);
        assert_eq!(read.traceparent, call.traceparent);
        let left = read
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        assert!(
            left.is_some_and(|left| left <= Duration::from_secs(60)),
            "{left:?}"
        );
        assert_eq!(Call::of(Call::default().request(()).metadata()), Call::default());
    }

    #[test]
    fn time_left_is_read_in_every_unit_and_nothing_else() {
        let check = |text: &str, expected: Option<Duration>| assert_eq!(timeout(text), expected, "{text}");
        check("2H", Some(Duration::from_secs(7200)));
        check("3M", Some(Duration::from_secs(180)));
        check("4S", Some(Duration::from_secs(4)));
        check("5m", Some(Duration::from_millis(5)));
        check("6u", Some(Duration::from_micros(6)));
        check("99999999n", Some(Duration::from_nanos(99_999_999)));
        check("100000000n", None);
        check("", None);
        check("S", None);
        check("-1S", None);
        check("1s", None);
        check("1é", None);
    }

    #[test]
    fn a_traceparent_of_another_form_is_left_out() {
        let check = |text: &str, expected: bool| assert_eq!(is_traceparent(text), expected, "{text}");
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true);
        check("00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", false);
        check("", false);
    }
}
