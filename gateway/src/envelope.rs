//! The one place where an error becomes an HTTP reply: `{"error": {code, message, field?, details?, request_id}}`.
//!
//! **Invariant:** a cause never leaves the server. It is logged here, once, under the request id that the caller
//! got, and only for failures on our side.

use std::error::Error as _;
use std::fmt::Write as _;

use alyx_core::{Detail, Error, ErrorKind};
use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::request_id::RequestTag;

/// What handlers answer with.
pub(crate) type Reply = Response<Body>;

/// `Content-Type` of everything that the API answers.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Most links of a chain of causes that are logged.
const MAX_CAUSES: usize = 16;

#[derive(Serialize)]
struct Envelope<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// Which operation of a batch, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<usize>,
    #[serde(skip_serializing_if = "<[Detail]>::is_empty")]
    details: &'a [Detail],
    request_id: &'a str,
}

/// An error on its way out of a handler that must answer with a response of its own (an `axum` handler). The
/// edge turns it into the envelope, because only the edge knows the request id.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Error);

/// The same, once it sits in a response's extensions, which must be cloneable.
#[derive(Debug, Clone)]
pub(crate) struct PendingFailure(pub(crate) std::sync::Arc<Error>);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> axum::response::Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status_of(self.0.kind());
        response
            .extensions_mut()
            .insert(PendingFailure(std::sync::Arc::new(self.0)));
        response
    }
}

/// A JSON reply.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Body::from(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, JSON);
    reply
}

/// A JSON reply from a value that serialises without fail (no maps with keys that are not text).
pub(crate) fn json_of(status: StatusCode, value: &impl Serialize) -> Reply {
    json(
        status,
        serde_json::to_vec(value).expect("replies are plain structs with text keys"),
    )
}

/// A reply without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = status;
    reply
}

/// The reply to a failed request; logs what only the log may know.
pub(crate) fn failed(error: &Error, tag: &RequestTag) -> Reply {
    log(error, tag);
    let envelope = Envelope {
        error: Inner {
            code: error.code(),
            message: error.message(),
            field: error.field(),
            operation: error.step(),
            details: error.details(),
            request_id: tag.as_str(),
        },
    };
    let mut reply = json_of(status_of(error.kind()), &envelope);
    set_retry_after(&mut reply, error);
    reply
}

/// A reply of that status whose envelope has no error of ours behind it.
pub(crate) fn refused(status: StatusCode, code: &str, message: &str, tag: &RequestTag) -> Reply {
    let error = Inner {
        code,
        message,
        field: None,
        operation: None,
        details: &[],
        request_id: tag.as_str(),
    };
    json_of(status, &Envelope { error })
}

/// 405 with the methods that the path has.
pub(crate) fn method_not_allowed(allow: &'static str, tag: &RequestTag) -> Reply {
    let message = format!("this path does not have that method; it has {allow}");
    let mut reply = refused(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        &message,
        tag,
    );
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    reply
}

/// The HTTP status of an error's kind.
pub(crate) fn status_of(kind: ErrorKind) -> StatusCode {
    StatusCode::from_u16(kind.http_status()).expect("every kind has a valid status")
}

/// Tells the caller when to try again, in whole seconds rounded up, where the error knows.
pub(crate) fn set_retry_after(reply: &mut Reply, error: &Error) {
    if let Some(after) = error.retry_after() {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        reply
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
}

/// Logs what went wrong on our side with its causes. What the caller did wrong is told to the caller alone.
pub(crate) fn log(error: &Error, tag: &RequestTag) {
    let request_id = tag.as_str();
    match error.kind() {
        ErrorKind::Internal => {
            tracing::error!(request_id, code = error.code(), cause = %causes(error), "request failed");
        }
        ErrorKind::BadGateway | ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => {
            tracing::warn!(request_id, code = error.code(), error = %error, cause = %causes(error), "request failed");
        }
        ErrorKind::InvalidInput
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::MethodNotAllowed
        | ErrorKind::Conflict
        | ErrorKind::PreconditionFailed
        | ErrorKind::PayloadTooLarge
        | ErrorKind::UnsupportedMediaType
        | ErrorKind::TooManyRequests => {}
    }
}

fn causes(error: &Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    for _ in 0..MAX_CAUSES {
        let Some(inner) = cause else { break };
        let separator = if text.is_empty() { "" } else { ": " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn body(reply: Reply) -> serde_json::Value {
        let bytes = axum::body::to_bytes(reply.into_body(), 1 << 20)
            .await
            .expect("a body");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[tokio::test]
    async fn an_error_becomes_the_envelope_and_its_cause_stays_here() {
        let tag = RequestTag::fresh();
        let reply = failed(&Error::internal("the disk is on fire"), &tag);
        assert_eq!(reply.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = body(reply).await;
        assert_eq!(body["error"]["code"], "INTERNAL_ERROR");
        assert_eq!(body["error"]["request_id"], tag.as_str());
        assert!(!body.to_string().contains("fire"));
    }

    #[tokio::test]
    async fn field_and_details_appear_only_where_there_are_any() {
        let tag = RequestTag::fresh();
        let plain = body(failed(&Error::new(ErrorKind::NotFound, "NOT_FOUND", "no"), &tag)).await;
        assert_eq!(plain["error"].as_object().map(serde_json::Map::len), Some(3));
        let detail = Detail {
            field: "title".to_owned(),
            code: "required".to_owned(),
            message: "title is required".to_owned(),
        };
        let error = Error::new(ErrorKind::InvalidInput, "VALIDATION_ERROR", "no")
            .with_field("title")
            .with_details(vec![detail]);
        let full = body(failed(&error, &tag)).await;
        assert_eq!(full["error"]["field"], "title");
        assert_eq!(full["error"]["details"][0]["code"], "required");
    }

    #[test]
    fn retry_after_is_in_whole_seconds_and_never_zero() {
        let check = |after: Duration, expected: &str| {
            let error = Error::new(ErrorKind::TooManyRequests, "X", "later").with_retry_after(after);
            let reply = failed(&error, &RequestTag::fresh());
            assert_eq!(reply.headers()[RETRY_AFTER], expected, "{after:?}");
        };
        check(Duration::from_millis(1), "1");
        check(Duration::from_millis(1_500), "2");
        check(Duration::from_secs(3), "3");
        check(Duration::ZERO, "1");
    }

    #[test]
    fn a_chain_of_causes_is_bounded() {
        let mut error = Error::internal("root");
        for _ in 0..100 {
            error = Error::internal(error);
        }
        assert!(causes(&error).matches(": ").count() < MAX_CAUSES);
    }
}
