//! What travels beside every call: its deadline, the request that caused it, and the trace it belongs to.

use std::time::{Duration, Instant};

use alyx_core::{RequestId, TraceContext};
use alyx_service::trace;
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
    /// Its place in a trace. A call without one is sent as a part of the trace that its caller's task belongs to.
    pub trace: Option<TraceContext>,
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
        if let Some(trace) = self.trace.or_else(trace::current) {
            set(metadata, TRACEPARENT, Some(&trace.to_string()));
        }
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
            trace: metadata
                .get(TRACEPARENT)
                .and_then(|value| TraceContext::parse(value.as_bytes())),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read() {
        let call = Call {
            deadline: Instant::now().checked_add(Duration::from_secs(60)),
            request_id: Some(RequestId::from("r-1".to_owned())),
            trace: Some(TraceContext::new()),
        };
        let read = Call::of(call.request(()).metadata());
        assert_eq!(read.request_id, call.request_id);
        assert_eq!(read.trace, call.trace);
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

    #[tokio::test]
    async fn a_call_belongs_to_the_trace_of_its_task_unless_it_says_otherwise() {
        let (task, own) = (TraceContext::new(), TraceContext::new());
        let sent = |call: &Call| Call::of(call.request(()).metadata()).trace;
        trace::within(Some(task), async {
            assert_eq!(sent(&Call::default()), Some(task));
            let call = Call {
                trace: Some(own),
                ..Call::default()
            };
            assert_eq!(sent(&call), Some(own));
        })
        .await;
        assert_eq!(sent(&Call::default()), None);
    }

    #[test]
    fn a_traceparent_of_another_form_is_left_out() {
        let mut metadata = MetadataMap::new();
        metadata.insert(TRACEPARENT, "00-4BF92F-00F067AA-01".parse().expect("a value"));
        assert_eq!(Call::of(&metadata), Call::default());
    }
}
