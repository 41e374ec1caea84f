//! Writes across the wire, and back.

use std::sync::Arc;
use std::time::Instant;

use alyx_core::{Error, ErrorKind, Result, Seq, Statement, Value};
use alyx_proto::writer as wire;

use crate::{Condition, Expect, Rows, Write, WriteReply, WriteStep};

pub(super) fn write_to_wire(write: Write, id: &str) -> wire::WriteRequest {
    wire::WriteRequest {
        id: id.to_owned(),
        steps: write
            .steps
            .into_iter()
            .map(|step| wire::Step {
                sql: step.statement.sql.as_ref().to_owned(),
                params: step.statement.params.into_iter().map(value_to_wire).collect(),
                expect: expect_to_wire(step.expect).into(),
            })
            .collect(),
    }
}

/// The write and its id. Errors: `INVALID_WRITE` where it has none.
pub(super) fn write_from_wire(request: wire::WriteRequest, deadline: Instant) -> Result<(Write, Arc<str>)> {
    const LONGEST: usize = 64;
    if request.id.is_empty() || request.id.len() > LONGEST {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "INVALID_WRITE",
            "a forwarded write must have an id of at most 64 bytes",
        ));
    }
    let steps = request
        .steps
        .into_iter()
        .map(|step| WriteStep {
            expect: expect_from_wire(step.expect()),
            statement: Statement::new(step.sql, step.params.into_iter().map(value_from_wire).collect()),
        })
        .collect();
    Ok((Write { steps, deadline }, request.id.into()))
}

pub(super) fn reply_to_wire(reply: WriteReply) -> wire::WriteReply {
    let rows = |rows: Rows| wire::Rows {
        rows: rows
            .rows
            .into_iter()
            .map(|row| wire::Row {
                values: row.into_iter().map(value_to_wire).collect(),
            })
            .collect(),
        affected: rows.affected,
    };
    wire::WriteReply {
        steps: reply.steps.into_iter().map(rows).collect(),
        position: reply.position.0,
    }
}

pub(super) fn reply_from_wire(reply: wire::WriteReply) -> WriteReply {
    let rows = |rows: wire::Rows| Rows {
        rows: rows
            .rows
            .into_iter()
            .map(|row| row.values.into_iter().map(value_from_wire).collect())
            .collect(),
        affected: rows.affected,
    };
    WriteReply {
        steps: reply.steps.into_iter().map(rows).collect(),
        position: Seq(reply.position),
    }
}

const fn expect_to_wire(expect: Expect) -> wire::Expect {
    match expect {
        Expect::Any => wire::Expect::Any,
        Expect::Row => wire::Expect::Row,
        Expect::Holds(Condition::Precondition) => wire::Expect::Precondition,
        Expect::Holds(Condition::Snapshot) => wire::Expect::Snapshot,
        Expect::Holds(Condition::FreeKey) => wire::Expect::FreeKey,
    }
}

const fn expect_from_wire(expect: wire::Expect) -> Expect {
    match expect {
        wire::Expect::Any => Expect::Any,
        wire::Expect::Row => Expect::Row,
        wire::Expect::Precondition => Expect::Holds(Condition::Precondition),
        wire::Expect::Snapshot => Expect::Holds(Condition::Snapshot),
        wire::Expect::FreeKey => Expect::Holds(Condition::FreeKey),
    }
}

fn value_to_wire(value: Value) -> wire::Value {
    use wire::value::Kind;
    let kind = match value {
        Value::Null => None,
        Value::Int(int) => Some(Kind::Integer(int)),
        Value::Float(float) => Some(Kind::Float(float)),
        Value::Text(text) => Some(Kind::Text(text.as_ref().to_owned())),
        Value::Blob(blob) => Some(Kind::Blob(blob.to_vec().into())),
    };
    wire::Value { kind }
}

fn value_from_wire(value: wire::Value) -> Value {
    use wire::value::Kind;
    match value.kind {
        None => Value::Null,
        Some(Kind::Integer(int)) => Value::Int(int),
        Some(Kind::Float(float)) => Value::Float(float),
        Some(Kind::Text(text)) => Value::from(text),
        Some(Kind::Blob(blob)) => Value::Blob(blob.as_ref().into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_write_and_its_reply_survive_the_wire() {
        let values = vec![
            Value::Null,
            Value::Int(i64::MIN),
            Value::Float(-0.5),
            Value::text("ä"),
            Value::Blob([0_u8, 255].as_slice().into()),
        ];
        let deadline = Instant::now() + Duration::from_secs(1);
        let expectations = [
            Expect::Any,
            Expect::Row,
            Expect::Holds(Condition::Precondition),
            Expect::Holds(Condition::Snapshot),
            Expect::Holds(Condition::FreeKey),
        ];
        let write = Write {
            steps: expectations
                .map(|expect| WriteStep {
                    statement: Statement::new("INSERT …", values.clone()),
                    expect,
                })
                .into(),
            deadline,
        };
        let (read, id) = write_from_wire(write_to_wire(write.clone(), "w-1"), deadline).expect("a write");
        assert_eq!(id.as_ref(), "w-1");
        assert_eq!(format!("{read:?}"), format!("{write:?}"));
        let reply = WriteReply {
            steps: vec![Rows {
                rows: vec![values],
                affected: 3,
            }],
            position: Seq(7),
        };
        let read = reply_from_wire(reply_to_wire(reply.clone()));
        assert_eq!(format!("{read:?}"), format!("{reply:?}"));
    }

    #[test]
    fn a_write_without_an_id_is_refused() {
        for id in [String::new(), "x".repeat(65)] {
            let request = wire::WriteRequest {
                id,
                steps: Vec::new(),
            };
            let error = write_from_wire(request, Instant::now()).expect_err("no id");
            assert_eq!(error.code(), "INVALID_WRITE");
        }
    }
}
