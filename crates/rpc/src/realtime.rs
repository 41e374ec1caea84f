//! The wire form of live queries, for both of its ends: what a gateway asks, what a realtime node says, and what both
//! count to notice that one of them has missed something.

mod event;
mod parts;
mod positions;
mod query;
#[cfg(test)]
mod tests;

pub use event::{Said, event_to_wire, said_from_wire};
pub use parts::{Assembler, MAX_FRAME_BYTES, split};
pub use positions::Positions;
pub use query::{query_from_wire, query_to_wire};

use alyx_core::{Error, Value};
use alyx_proto::realtime as wire;

/// Bytes that a node may send a gateway before the gateway has dealt with some.
pub const CREDIT_BYTES: u64 = 8 << 20;

fn value_to_wire(value: &Value) -> wire::Value {
    use wire::value::Kind;
    let kind = match value {
        Value::Null => None,
        Value::Int(int) => Some(Kind::Int(*int)),
        Value::Float(float) => Some(Kind::Float(*float)),
        Value::Text(text) => Some(Kind::Text(text.as_ref().to_owned())),
        Value::Blob(bytes) => Some(Kind::Blob(bytes.to_vec().into())),
    };
    wire::Value { kind }
}

fn value_from_wire(value: Option<wire::Value>) -> Result<Value, Error> {
    use wire::value::Kind;
    Ok(match value.and_then(|value| value.kind) {
        None => Value::Null,
        Some(Kind::Int(int)) => Value::Int(int),
        Some(Kind::Float(float)) if float.is_nan() => return Err(broken("a number that is none")),
        Some(Kind::Float(float)) => Value::Float(float),
        Some(Kind::Text(text)) => Value::text(text),
        Some(Kind::Blob(bytes)) => Value::Blob(bytes.as_ref().into()),
    })
}

/// The other side has sent something that makes no sense.
fn broken(what: &str) -> Error {
    Error::internal(format!("a message about live queries is broken: {what}"))
}
