//! The messages of `/api/realtime`: reading what clients ask and writing what they are told. JSON in text
//! frames, `{id?, type, payload?}` in both directions.

use alyx_core::{Detail, Error, ErrorKind, Seq, Value};
use alyx_schema::{Collection, key_to_json};
use alyx_service::realtime::Document;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire::TextFrame;

/// Longest id that is echoed, in bytes of JSON.
const MAX_ID: usize = 256;

/// What a client asks.
#[derive(Debug)]
pub(super) enum Request {
    Subscribe {
        /// Name of the collection.
        collection: String,
        /// The rest of the payload: the query.
        query: serde_json::Value,
    },
    Unsubscribe {
        subscription: String,
    },
    Ping,
}

/// The id that a client gave its message: JSON text, echoed as it came.
pub(super) type EchoId = Box<str>;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// Reads one message. The id comes back also where the rest is broken, so that the error can carry it.
pub(super) fn parse(text: &str) -> (Option<EchoId>, Result<Request, Error>) {
    let envelope: Envelope<'_> = match serde_json::from_str(text) {
        Ok(envelope) => envelope,
        Err(error) => return (None, Err(not_a_message(&error))),
    };
    match echo_id(envelope.id) {
        Ok(id) => (id, request(envelope.kind, envelope.payload)),
        Err(error) => (None, Err(error)),
    }
}

fn not_a_message(error: &serde_json::Error) -> Error {
    invalid_message(format!(
        "a message is a JSON object such as {{\"id\":\"1\",\"type\":\"ping\"}}: {error}"
    ))
}

/// The error for a frame that is not text.
pub(super) fn binary_message() -> Error {
    invalid_message("messages are JSON in text frames; this frame was binary")
}

fn invalid_message(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, "INVALID_MESSAGE", message)
}

fn invalid_payload(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, "INVALID_PAYLOAD", message)
}

fn echo_id(id: Option<&RawValue>) -> Result<Option<EchoId>, Error> {
    match id.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(id) if id.len() <= MAX_ID && !id.starts_with(['{', '[']) => Ok(Some(id.into())),
        Some(_) => Err(invalid_message(format!(
            "`id` is a string or a number of at most {MAX_ID} bytes"
        ))),
    }
}

fn request(kind: Option<&RawValue>, payload: Option<&RawValue>) -> Result<Request, Error> {
    let kind: Option<String> = kind.and_then(|kind| serde_json::from_str(kind.get()).ok());
    match kind.as_deref() {
        Some("subscribe") => subscribe(payload),
        Some("unsubscribe") => unsubscribe(payload),
        Some("ping") => Ok(Request::Ping),
        Some(other) => Err(invalid_message(format!(
            "there is no message type {:?}; clients send subscribe, unsubscribe and ping",
            other.chars().take(64).collect::<String>()
        ))),
        None => Err(invalid_message(
            "`type` is missing; clients send subscribe, unsubscribe and ping",
        )),
    }
}

fn subscribe(payload: Option<&RawValue>) -> Result<Request, Error> {
    let mut query = object(payload, "{\"collection\":\"messages\"}")?;
    match query.remove("collection") {
        Some(serde_json::Value::String(collection)) if !collection.is_empty() => Ok(Request::Subscribe {
            collection,
            query: serde_json::Value::Object(query),
        }),
        _ => {
            Err(invalid_payload("`payload.collection` is the name of a collection").with_field("collection"))
        }
    }
}

fn unsubscribe(payload: Option<&RawValue>) -> Result<Request, Error> {
    let mut payload = object(payload, "{\"subscription_id\":\"sub_1\"}")?;
    match payload.remove("subscription_id") {
        Some(serde_json::Value::String(subscription)) => Ok(Request::Unsubscribe { subscription }),
        _ => Err(
            invalid_payload("`payload.subscription_id` is the id that the snapshot carried")
                .with_field("subscription_id"),
        ),
    }
}

fn object(
    payload: Option<&RawValue>,
    example: &str,
) -> Result<serde_json::Map<String, serde_json::Value>, Error> {
    payload
        .and_then(|payload| serde_json::from_str(payload.get()).ok())
        .ok_or_else(|| invalid_payload(format!("`payload` is a JSON object such as {example}")))
}

/// `connected`: the first message on every connection.
pub(super) fn connected(client: &str) -> Bytes {
    let mut frame = TextFrame::with_capacity(96);
    frame.push("{\"type\":\"connected\",\"payload\":{\"client_id\":");
    frame.push_value(&client);
    frame.push("}}");
    frame.finish().0
}

/// `pong`, the answer to a client's `ping`.
pub(super) fn pong(id: Option<&EchoId>) -> Bytes {
    let mut frame = start(id, "pong", 0);
    frame.push("}");
    frame.finish().0
}

#[derive(Serialize)]
struct ErrorPayload<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Detail]>::is_empty")]
    details: &'a [Detail],
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_id: Option<&'a str>,
}

/// `error`, with the id of the message that it answers or the subscription that it ends.
pub(super) fn error(id: Option<&EchoId>, subscription: Option<&str>, error: &Error) -> Bytes {
    let mut frame = start(id, "error", 64 + error.message().len());
    frame.push(",\"payload\":");
    frame.push_value(&ErrorPayload {
        code: error.code(),
        message: error.message(),
        field: error.field(),
        details: error.details(),
        subscription_id: subscription,
    });
    frame.push("}");
    frame.finish().0
}

/// The head of a `snapshot`, up to the subscription's id; `rest` is the length of what follows.
pub(super) fn snapshot_head(id: Option<&EchoId>, subscription: &str, reset: bool, rest: usize) -> Bytes {
    let mut frame = start(id, "snapshot", 64);
    open_payload(&mut frame, subscription);
    if reset {
        frame.push(",\"reset\":true");
    }
    frame.finish_before(rest).0
}

/// What follows the head: the same for all subscribers.
pub(super) fn snapshot_body(docs: &[Document], total: u64, at: Seq) -> Bytes {
    let size: usize = docs.iter().map(|doc| doc.json.len() + 1).sum();
    let mut body = String::with_capacity(size + 64).into_bytes();
    body.extend_from_slice(b",\"docs\":[");
    for (index, doc) in docs.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&doc.json);
    }
    body.extend_from_slice(format!("],\"total\":{total},\"seq\":{at}}}}}").as_bytes());
    body.into()
}

/// One step of a window, as it is sent.
#[derive(Debug, Default)]
pub(super) struct Step<'a> {
    pub(super) inserts: Vec<(usize, &'a Document)>,
    pub(super) updates: Vec<(usize, &'a Document)>,
    pub(super) deletes: Vec<&'a Value>,
    pub(super) total: u64,
    pub(super) from: Seq,
    pub(super) to: Seq,
}

/// A `delta` as all subscribers of a group share it, and where what follows the subscription's id starts.
#[derive(Debug, Clone)]
pub(super) struct Delta {
    pub(super) frame: Bytes,
    pub(super) body: Bytes,
}

/// `delta`, made once for a group.
pub(super) fn delta(collection: &Collection, subscription: &str, step: &Step<'_>) -> Delta {
    let docs = step.inserts.iter().chain(&step.updates);
    let size: usize = docs.map(|(_, doc)| doc.json.len() + 8).sum();
    let mut frame = start(None, "delta", 256 + size + step.deletes.len() * 40);
    open_payload(&mut frame, subscription);
    let head = frame.len();
    frame.push(",\"changes\":{\"inserts\":");
    push_docs(&mut frame, &step.inserts);
    frame.push(",\"updates\":");
    push_docs(&mut frame, &step.updates);
    frame.push(",\"deletes\":");
    push_list(&mut frame, &step.deletes, |frame, id| {
        key_to_json(collection, id, frame.json());
    });
    frame.push("},\"positions\":{\"inserts\":");
    push_list(&mut frame, &step.inserts, |frame, (position, _)| {
        frame.push_value(position)
    });
    frame.push(",\"updates\":");
    push_list(&mut frame, &step.updates, |frame, (position, _)| {
        frame.push_value(position)
    });
    frame.push(&format!(
        "}},\"total\":{},\"from\":{},\"to\":{},\"seq\":{}}}}}",
        step.total, step.from, step.to, step.to
    ));
    let (frame, start) = frame.finish();
    let body = frame.slice(start + head..);
    Delta { frame, body }
}

/// The head of a delta for a subscriber that knows the group by another id.
pub(super) fn delta_head(subscription: &str, rest: usize) -> Bytes {
    let mut frame = start(None, "delta", 64);
    open_payload(&mut frame, subscription);
    frame.finish_before(rest).0
}

fn start(id: Option<&EchoId>, kind: &str, more: usize) -> TextFrame {
    let mut frame = TextFrame::with_capacity(32 + id.map_or(0, |id| id.len()) + more);
    frame.push("{");
    if let Some(id) = id {
        frame.push("\"id\":");
        frame.push(id);
        frame.push(",");
    }
    frame.push("\"type\":\"");
    frame.push(kind);
    frame.push("\"");
    frame
}

fn open_payload(frame: &mut TextFrame, subscription: &str) {
    frame.push(",\"payload\":{\"subscription_id\":");
    frame.push_value(&subscription);
}

fn push_docs(frame: &mut TextFrame, docs: &[(usize, &Document)]) {
    push_list(frame, docs, |frame, (_, doc)| {
        frame.json().extend_from_slice(&doc.json)
    });
}

fn push_list<T>(frame: &mut TextFrame, items: &[T], mut push: impl FnMut(&mut TextFrame, &T)) {
    frame.push("[");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            frame.push(",");
        }
        push(frame, item);
    }
    frame.push("]");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload_of(frame: &Bytes) -> serde_json::Value {
        let start = frame
            .iter()
            .position(|&byte| byte == b'{')
            .expect("a JSON object");
        serde_json::from_slice(&frame[start..]).expect("JSON")
    }

    #[test]
    fn broken_messages_get_their_code_and_their_id_back() {
        let check = |text: &str, id: Option<&str>, code: &str| {
            let (echo, result) = parse(text);
            assert_eq!(echo.as_deref(), id, "{text}");
            assert_eq!(result.expect_err("an error").code(), code, "{text}");
        };
        check("", None, "INVALID_MESSAGE");
        check("{", None, "INVALID_MESSAGE");
        check("[]", None, "INVALID_MESSAGE");
        check("42", None, "INVALID_MESSAGE");
        check("{}", None, "INVALID_MESSAGE");
        check(r#"{"id":"4","type":"nope"}"#, Some(r#""4""#), "INVALID_MESSAGE");
        check(r#"{"id":4,"type":7}"#, Some("4"), "INVALID_MESSAGE");
        check(r#"{"id":{},"type":"ping"}"#, None, "INVALID_MESSAGE");
        check(
            &format!(r#"{{"id":"{}","type":"ping"}}"#, "x".repeat(300)),
            None,
            "INVALID_MESSAGE",
        );
        check(
            r#"{"id":"1","type":"subscribe"}"#,
            Some(r#""1""#),
            "INVALID_PAYLOAD",
        );
        check(r#"{"type":"subscribe","payload":[]}"#, None, "INVALID_PAYLOAD");
        check(r#"{"type":"subscribe","payload":{}}"#, None, "INVALID_PAYLOAD");
        check(
            r#"{"type":"subscribe","payload":{"collection":1}}"#,
            None,
            "INVALID_PAYLOAD",
        );
        check(r#"{"type":"unsubscribe","payload":{}}"#, None, "INVALID_PAYLOAD");
        check(
            r#"{"type":"unsubscribe","payload":null}"#,
            None,
            "INVALID_PAYLOAD",
        );
    }

    #[test]
    fn a_subscribe_names_its_collection_and_keeps_the_rest() {
        let text = r#"{"id":"1","type":"subscribe","payload":{"collection":"notes","limit":5}}"#;
        let (id, request) = parse(text);
        assert_eq!(id.as_deref(), Some(r#""1""#));
        match request.expect("a request") {
            Request::Subscribe { collection, query } => {
                assert_eq!(collection, "notes");
                assert_eq!(query, serde_json::json!({"limit": 5}));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_delta_has_all_three_keys_and_its_body_fits_any_head() {
        let doc = |id: i64, json: &'static str| Document {
            id: Value::Int(id),
            json: Bytes::from(json),
        };
        let (new, changed) = (doc(1, r#"{"id":1}"#), doc(2, r#"{"id":2}"#));
        let gone = [Value::text("a\"b"), Value::Int(9)];
        let step = Step {
            inserts: vec![(0, &new)],
            updates: vec![(3, &changed)],
            deletes: gone.iter().collect(),
            total: 12,
            from: Seq(4),
            to: Seq(6),
        };
        let notes = crate::realtime::tests::notes();
        let delta = delta(&notes, "sub_1", &step);
        let expected = serde_json::json!({
            "type": "delta",
            "payload": {
                "subscription_id": "sub_1",
                "changes": {"inserts": [{"id": 1}], "updates": [{"id": 2}], "deletes": ["a\"b", 9]},
                "positions": {"inserts": [0], "updates": [3]},
                "total": 12, "from": 4, "to": 6, "seq": 6
            }
        });
        assert_eq!(payload_of(&delta.frame), expected);
        let head = delta_head("sub_other", delta.body.len());
        let spliced = payload_of(&[head, delta.body].concat().into());
        assert_eq!(spliced["payload"]["subscription_id"], "sub_other");
        assert_eq!(spliced["payload"]["changes"], expected["payload"]["changes"]);

        let empty = payload_of(&super::delta(&notes, "sub_1", &Step::default()).frame);
        assert_eq!(
            empty["payload"]["changes"],
            serde_json::json!({"inserts": [], "updates": [], "deletes": []})
        );
    }

    #[test]
    fn errors_carry_what_is_known() {
        let id: EchoId = r#""7""#.into();
        let plain = payload_of(&error(
            Some(&id),
            None,
            &Error::new(ErrorKind::NotFound, "X", "no"),
        ));
        assert_eq!(
            plain,
            serde_json::json!({"id": "7", "type": "error", "payload": {"code": "X", "message": "no"}})
        );
        let ended = Error::new(ErrorKind::Unavailable, "Y", "gone").with_field("f");
        let ended = payload_of(&error(None, Some("sub_1"), &ended));
        assert_eq!(ended["payload"]["subscription_id"], "sub_1");
        assert_eq!(ended["payload"]["field"], "f");
    }
}
