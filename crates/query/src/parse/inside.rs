//! Conditions on a place inside a json field. The operand's type says what is looked for: a string is compared with
//! strings only, a number with numbers, a truth value with truth values.

use std::sync::Arc;

use alyx_core::Error;
use serde_json::Value as Json;

use super::condition::{Operand, bounded_text, prefix_end, shortest};
use super::subject::Subject;
use crate::ast::{CompareOp, Filter, JsonNeedle, PathTest};
use crate::json_path::JsonPath;

/// An operand by its type.
enum Scalar {
    Null,
    Bool(bool),
    Number(Arc<str>),
    Text(Arc<str>),
}

impl Scalar {
    /// In a query string, what can be read as JSON is that, and everything else is a string.
    fn read(subject: &Subject<'_>, operand: Operand<'_>) -> Result<Self, Error> {
        let read = match operand {
            Operand::Json(json) => json.clone(),
            Operand::Text(text) => match serde_json::from_str::<Json>(text) {
                Ok(Json::Object(_) | Json::Array(_)) | Err(_) => Json::from(text),
                Ok(scalar) => scalar,
            },
        };
        Ok(match &read {
            Json::Null => Self::Null,
            Json::Bool(truth) => Self::Bool(*truth),
            Json::Number(number) => Self::Number(shortest(number).into()),
            Json::String(text) if text.contains('\0') => {
                return Err(subject.about("has a NUL character in what it is compared with"));
            }
            Json::String(text) => Self::Text(text.as_str().into()),
            Json::Array(_) | Json::Object(_) => {
                return Err(subject
                    .about("is a place inside json: compare it with a string, a number or a truth value"));
            }
        })
    }
}

fn leaf(subject: &Subject<'_>, path: &Arc<JsonPath>, test: PathTest) -> Filter {
    Filter::Path {
        field: subject.position,
        path: Arc::clone(path),
        test,
    }
}

fn absent(subject: &Subject<'_>, path: &Arc<JsonPath>) -> Filter {
    Filter::Not(Box::new(leaf(subject, path, PathTest::Exists)))
}

/// Whether there is nothing, or null.
pub(super) fn null_test(subject: &Subject<'_>, path: &Arc<JsonPath>, negated: bool) -> Filter {
    if negated {
        leaf(subject, path, PathTest::Exists)
    } else {
        absent(subject, path)
    }
}

pub(super) fn compare(
    subject: &Subject<'_>,
    path: &Arc<JsonPath>,
    op: CompareOp,
    operand: Operand<'_>,
) -> Result<Filter, Error> {
    let test = match Scalar::read(subject, operand)? {
        Scalar::Number(number) => PathTest::Number { op, number },
        Scalar::Text(text) => PathTest::Text { op, text },
        Scalar::Bool(truth) => match op {
            CompareOp::Eq => PathTest::Bool(truth),
            CompareOp::Ne => PathTest::Bool(!truth),
            CompareOp::Gt | CompareOp::Gte | CompareOp::Lt | CompareOp::Lte => {
                return Err(subject.about("cannot be ordered by a truth value: use eq or ne"));
            }
        },
        Scalar::Null => match op {
            CompareOp::Eq => return Ok(absent(subject, path)),
            CompareOp::Ne => PathTest::Exists,
            CompareOp::Gt | CompareOp::Gte | CompareOp::Lt | CompareOp::Lte => {
                return Err(subject.about("cannot be ordered by null: test for null instead"));
            }
        },
    };
    Ok(leaf(subject, path, test))
}

pub(super) fn like(
    subject: &Subject<'_>,
    path: &Arc<JsonPath>,
    operand: Operand<'_>,
) -> Result<Filter, Error> {
    let pattern = bounded_text(subject, "like", operand)?;
    Ok(leaf(subject, path, PathTest::Like(pattern.into())))
}

pub(super) fn contains(
    subject: &Subject<'_>,
    path: &Arc<JsonPath>,
    operand: Operand<'_>,
) -> Result<Filter, Error> {
    super::condition::json_needles(subject, operand, |needle| {
        leaf(subject, path, PathTest::Contains(needle))
    })
}

pub(super) fn starts_with(
    subject: &Subject<'_>,
    path: &Arc<JsonPath>,
    operand: Operand<'_>,
) -> Result<Filter, Error> {
    let start = bounded_text(subject, "startsWith", operand)?;
    let text = |op, text: String| {
        leaf(
            subject,
            path,
            PathTest::Text {
                op,
                text: text.into(),
            },
        )
    };
    let end = prefix_end(&start).map(|end| text(CompareOp::Lt, end));
    let mut parts = vec![text(CompareOp::Gte, start)];
    parts.extend(end);
    Ok(Filter::And(parts))
}

pub(super) fn ends_with(
    subject: &Subject<'_>,
    path: &Arc<JsonPath>,
    operand: Operand<'_>,
) -> Result<Filter, Error> {
    let end = bounded_text(subject, "endsWith", operand)?;
    let test = if end.is_empty() {
        PathTest::Text {
            op: CompareOp::Gte,
            text: "".into(),
        }
    } else {
        PathTest::EndsWith(end.into())
    };
    Ok(leaf(subject, path, test))
}

/// One of the values. They must be of one type: a place that holds another type is unknown to the list, and so would
/// be the opposite of every mixed list.
pub(super) fn one_of(
    subject: &Subject<'_>,
    path: &Arc<JsonPath>,
    operands: &[Operand<'_>],
) -> Result<Filter, Error> {
    let mut texts: Vec<Arc<str>> = Vec::new();
    let mut rest: Vec<Filter> = Vec::new();
    let mut kinds = [false; 3];
    for operand in operands {
        let scalar = Scalar::read(subject, *operand)?;
        match scalar {
            Scalar::Null => return Err(subject.about("has null in its list: test for null beside it")),
            Scalar::Text(text) => {
                kinds[0] = true;
                texts.push(text);
            }
            Scalar::Number(number) => {
                kinds[1] = true;
                let op = CompareOp::Eq;
                rest.push(leaf(subject, path, PathTest::Number { op, number }));
            }
            Scalar::Bool(truth) => {
                kinds[2] = true;
                rest.push(leaf(subject, path, PathTest::Bool(truth)));
            }
        }
    }
    if kinds.iter().filter(|kind| **kind).count() > 1 {
        return Err(subject.about(
            "is compared with a list of strings, numbers and truth values mixed: write one list for each",
        ));
    }
    if texts.is_empty() {
        return Ok(Filter::Or(rest));
    }
    texts.sort_unstable();
    texts.dedup();
    Ok(leaf(subject, path, PathTest::TextIn(texts)))
}

/// What `contains` can look for in json.
pub(super) fn needle(json: &Json) -> Option<JsonNeedle> {
    match json {
        Json::Bool(truth) => Some(JsonNeedle::Bool(*truth)),
        Json::Number(number) => Some(JsonNeedle::Number(shortest(number).into())),
        Json::Null | Json::String(_) | Json::Array(_) | Json::Object(_) => None,
    }
}
