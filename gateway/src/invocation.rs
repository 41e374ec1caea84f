//! One call of a function over HTTP: which of the two shapes the caller uses, and the reply in the same shape.
//!
//! **Wrapped**: the body is an object whose only key is `input`; the reply is the envelope
//! `{success, output | error, duration_ms}`. **Bare**: any other body is the input itself; the reply is the
//! handler's return value. Input and output pass through as bytes.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result};
use alyx_service::function::{Completion, LogEntry, Outcome, Thrown};
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderValue};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

use crate::envelope::{self, Reply};
use crate::request_id::RequestTag;

/// Members of an error that a handler may not set.
const OWN_MEMBERS: [&str; 3] = ["code", "message", "request_id"];
/// The member by which an error says in how many seconds another try may work.
const RETRY_AFTER: &str = "retryAfter";
/// More than this is no such number.
const LONGEST_RETRY_AFTER: u64 = 86_400;

/// How the caller wrote the call, which is how the reply is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `{"input": …}`
    Wrapped,
    /// The input itself.
    Bare,
}

/// Takes the input out of a body, without copying it. No body at all is a bare `null`.
///
/// Errors: `INVALID_JSON`.
pub(crate) fn read_input(body: &Bytes) -> Result<(Shape, Bytes)> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok((Shape::Bare, Bytes::from_static(b"null")));
    }
    let invalid = |error: serde_json::Error| {
        Error::new(
            ErrorKind::InvalidInput,
            "INVALID_JSON",
            format!("the body is no valid JSON: {error}"),
        )
    };
    let whole: &RawValue = serde_json::from_slice(body).map_err(invalid)?;
    if whole.get().starts_with('{')
        && let Some(input) = only_input(whole.get()).map_err(invalid)?
    {
        return Ok((Shape::Wrapped, body.slice_ref(input.get().as_bytes())));
    }
    Ok((Shape::Bare, body.slice_ref(whole.get().as_bytes())))
}

/// The value of `input` where it is the object's only key.
fn only_input(object: &str) -> Result<Option<&RawValue>, serde_json::Error> {
    struct OnlyInput;
    impl<'de> Visitor<'de> for OnlyInput {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut input = None;
            let mut others = false;
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                if key == "input" && input.is_none() {
                    input = Some(map.next_value()?);
                } else {
                    others = true;
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(input.filter(|_| !others))
        }
    }
    serde_json::Deserializer::from_str(object).deserialize_map(OnlyInput)
}

/// The reply to a call that ran to its end. `with_logs` adds what the handler logged, in the wrapped shape.
pub(crate) fn finished(shape: Shape, completion: Completion, with_logs: bool, tag: &RequestTag) -> Reply {
    let logs = if with_logs {
        completion.logs.as_slice()
    } else {
        &[]
    };
    match (completion.outcome, shape) {
        (Outcome::Returned(output), Shape::Bare) => envelope::json(StatusCode::OK, output),
        (Outcome::Returned(output), Shape::Wrapped) => {
            let mut out = Vec::with_capacity(output.len() + 64);
            out.extend_from_slice(b"{\"success\":true,\"output\":");
            out.extend_from_slice(&output);
            finish_envelope(&mut out, completion.duration, logs);
            envelope::json(StatusCode::OK, out)
        }
        (Outcome::Threw(thrown), shape) => {
            let status = status_of(&thrown);
            let retry_after = thrown.extra.get(RETRY_AFTER).and_then(Json::as_u64);
            let error = Json::Object(members(thrown, tag));
            let body = failure(shape, &error, completion.duration, logs);
            let mut reply = envelope::json(status, body);
            if let Some(seconds) = retry_after.filter(|seconds| *seconds <= LONGEST_RETRY_AFTER) {
                let headers = reply.headers_mut();
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            reply
        }
    }
}

/// The reply to a call that did not come to its end.
pub(crate) fn failed(shape: Shape, error: &Error, duration: Duration, tag: &RequestTag) -> Reply {
    if shape == Shape::Bare {
        return envelope::failed(error, tag);
    }
    envelope::log(error, tag);
    let mut members = Map::new();
    members.insert("code".to_owned(), error.code().into());
    members.insert("message".to_owned(), error.message().into());
    members.insert("request_id".to_owned(), tag.as_str().into());
    let body = failure(shape, &Json::Object(members), duration, &[]);
    let mut reply = envelope::json(envelope::status_of(error.kind()), body);
    envelope::set_retry_after(&mut reply, error);
    reply
}

/// A handler's own status wins; else an error with a code is the caller's fault, one without ours.
fn status_of(thrown: &Thrown) -> StatusCode {
    let own = thrown.status.filter(|status| (400..600).contains(status));
    own.and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(match thrown.code {
            Some(_) => StatusCode::BAD_REQUEST,
            None => StatusCode::INTERNAL_SERVER_ERROR,
        })
}

fn members(thrown: Thrown, tag: &RequestTag) -> Map<String, Json> {
    let mut members = Map::new();
    let code = thrown.code.unwrap_or_else(|| "FUNCTION_ERROR".to_owned());
    members.insert("code".to_owned(), code.into());
    members.insert("message".to_owned(), thrown.message.into());
    let own = thrown
        .extra
        .into_iter()
        .filter(|(name, _)| !OWN_MEMBERS.contains(&name.as_str()));
    members.extend(own);
    members.insert("request_id".to_owned(), tag.as_str().into());
    members
}

fn failure(shape: Shape, error: &Json, duration: Duration, logs: &[LogEntry]) -> Vec<u8> {
    let mut out = match shape {
        Shape::Wrapped => b"{\"success\":false,\"error\":".to_vec(),
        Shape::Bare => b"{\"error\":".to_vec(),
    };
    put_json(&mut out, error);
    match shape {
        Shape::Wrapped => finish_envelope(&mut out, duration, logs),
        Shape::Bare => out.push(b'}'),
    }
    out
}

fn finish_envelope(out: &mut Vec<u8>, duration: Duration, logs: &[LogEntry]) {
    out.extend_from_slice(b",\"duration_ms\":");
    let millis = (duration.as_micros() + 500) / 1_000;
    out.extend_from_slice(itoa::Buffer::new().format(millis).as_bytes());
    if !logs.is_empty() {
        out.extend_from_slice(b",\"logs\":");
        put_json(out, &logs);
    }
    out.push(b'}');
}

fn put_json(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(out, value).expect("trees with text keys serialise, and memory takes them");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_with_input_alone_is_wrapped() {
        let check = |body: &'static str, shape: Shape, input: &str| {
            let read = read_input(&Bytes::from_static(body.as_bytes())).expect(body);
            assert_eq!(read, (shape, Bytes::copy_from_slice(input.as_bytes())), "{body}");
        };
        check(r#" {"input": {"a": 1}} "#, Shape::Wrapped, r#"{"a": 1}"#);
        check(r#"{"input":null}"#, Shape::Wrapped, "null");
        check(r#"{"\u0069nput":[1]}"#, Shape::Wrapped, "[1]");
        check(
            r#"{"input":1,"other":2}"#,
            Shape::Bare,
            r#"{"input":1,"other":2}"#,
        );
        check(
            r#"{"other":2,"input":1}"#,
            Shape::Bare,
            r#"{"other":2,"input":1}"#,
        );
        check(
            r#"{"input":1,"input":2}"#,
            Shape::Bare,
            r#"{"input":1,"input":2}"#,
        );
        check("{}", Shape::Bare, "{}");
        check("[1, 2]", Shape::Bare, "[1, 2]");
        check("\"text\"", Shape::Bare, "\"text\"");
        check("12345678901234567890.5", Shape::Bare, "12345678901234567890.5");
        check("", Shape::Bare, "null");
        check(" \n", Shape::Bare, "null");
    }

    #[test]
    fn broken_json_is_refused_with_its_place() {
        for body in ["{", "{\"input\":}", "{\"input\":1} x", "nul", "\u{1}"] {
            let error = read_input(&Bytes::from_static(body.as_bytes())).expect_err(body);
            assert_eq!(error.code(), "INVALID_JSON", "{body}");
            assert!(error.message().contains("line"), "{}", error.message());
        }
    }

    fn completion(outcome: Outcome) -> Completion {
        let line = LogEntry {
            level: "info".to_owned(),
            message: "hi".to_owned(),
            data: None,
            timestamp: "2026-01-01T00:00:00.000Z".to_owned(),
        };
        Completion {
            outcome,
            logs: vec![line],
            duration: Duration::from_micros(14_600),
        }
    }

    async fn text(reply: Reply) -> (u16, String) {
        let status = reply.status().as_u16();
        let body = axum::body::to_bytes(reply.into_body(), 1 << 20)
            .await
            .expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    #[tokio::test]
    async fn a_result_comes_back_in_the_shape_of_the_call() {
        let tag = RequestTag::fresh();
        let check = async |shape: Shape, logs: bool, expected: &str| {
            let returned = Outcome::Returned(Bytes::from_static(b"{\"id\":7}"));
            let reply = finished(shape, completion(returned), logs, &tag);
            assert_eq!(text(reply).await, (200, expected.to_owned()));
        };
        check(Shape::Bare, true, r#"{"id":7}"#).await;
        check(
            Shape::Wrapped,
            false,
            r#"{"success":true,"output":{"id":7},"duration_ms":15}"#,
        )
        .await;
        let logs = r#"[{"level":"info","message":"hi","timestamp":"2026-01-01T00:00:00.000Z"}]"#;
        let with_logs = format!(r#"{{"success":true,"output":{{"id":7}},"duration_ms":15,"logs":{logs}}}"#);
        check(Shape::Wrapped, true, &with_logs).await;
    }

    #[tokio::test]
    async fn a_thrown_error_decides_its_status() {
        let tag = RequestTag::fresh();
        let check = async |code: Option<&str>, status: Option<u16>, expected: (u16, &str)| {
            let extra = serde_json::json!({"code": "FAKE", "request_id": "FAKE", "hint": 1});
            let thrown = Thrown {
                code: code.map(str::to_owned),
                status,
                message: "no".to_owned(),
                extra: extra.as_object().cloned().unwrap_or_default(),
            };
            for shape in [Shape::Bare, Shape::Wrapped] {
                let outcome = Outcome::Threw(thrown.clone());
                let (status, body) = text(finished(shape, completion(outcome), false, &tag)).await;
                let body: Json = serde_json::from_str(&body).expect("JSON");
                assert_eq!(status, expected.0);
                assert_eq!(body["error"]["code"], expected.1);
                assert_eq!(body["error"]["message"], "no");
                assert_eq!(body["error"]["hint"], 1);
                assert_eq!(body["error"]["request_id"], tag.as_str());
                assert_eq!(body.get("success").is_some(), shape == Shape::Wrapped);
            }
        };
        check(Some("NO_ROOM"), None, (400, "NO_ROOM")).await;
        check(Some("NO_ROOM"), Some(409), (409, "NO_ROOM")).await;
        check(None, Some(503), (503, "FUNCTION_ERROR")).await;
        check(None, None, (500, "FUNCTION_ERROR")).await;
        check(None, Some(200), (500, "FUNCTION_ERROR")).await;
    }

    #[tokio::test]
    async fn a_thrown_error_may_say_when_to_try_again() {
        let tag = RequestTag::fresh();
        for (after, expected) in [
            (serde_json::json!(3), Some("3")),
            (serde_json::json!(86_400), Some("86400")),
            (serde_json::json!(86_401), None),
            (serde_json::json!(-1), None),
            (serde_json::json!("soon"), None),
        ] {
            let extra = serde_json::json!({ RETRY_AFTER: after });
            let thrown = Thrown {
                code: Some("DATABASE_UNAVAILABLE".to_owned()),
                status: Some(503),
                message: "no".to_owned(),
                extra: extra.as_object().cloned().unwrap_or_default(),
            };
            let reply = finished(Shape::Bare, completion(Outcome::Threw(thrown)), false, &tag);
            let header = reply.headers().get(header::RETRY_AFTER);
            assert_eq!(header.and_then(|value| value.to_str().ok()), expected, "{after}");
        }
    }

    #[tokio::test]
    async fn a_failure_of_the_platform_keeps_its_status_and_shape() {
        let tag = RequestTag::fresh();
        let error = Error::new(ErrorKind::TooManyRequests, "FUNCTION_OVERLOADED", "full")
            .with_retry_after(Duration::from_secs(2));
        let reply = failed(Shape::Wrapped, &error, Duration::ZERO, &tag);
        assert_eq!(reply.headers()[http::header::RETRY_AFTER], "2");
        let (status, body) = text(reply).await;
        assert_eq!(status, 429);
        assert!(
            body.starts_with(r#"{"success":false,"error":{"code":"FUNCTION_OVERLOADED""#),
            "{body}"
        );
        let (status, body) = text(failed(Shape::Bare, &error, Duration::ZERO, &tag)).await;
        assert_eq!(status, 429);
        assert!(
            body.starts_with(r#"{"error":{"code":"FUNCTION_OVERLOADED""#),
            "{body}"
        );
    }
}
