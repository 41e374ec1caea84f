//! The operators and their spellings.

use alyx_core::{Error, Value};
use alyx_schema::{Field, FieldType};
use serde_json::Value as Json;

use super::suggest::{did_you_mean, shown};
use super::{MAX_PATTERN, invalid_filter};
use crate::ast::{CompareOp, Filter, JsonNeedle};

/// What a condition does with its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Compare(CompareOp),
    Like,
    Contains,
    In {
        negated: bool,
    },
    Null {
        negated: bool,
    },
    /// Only in JSON: the opposite of another condition on the same field.
    Not,
}

const IN: Operator = Operator::In { negated: false };
const NIN: Operator = Operator::In { negated: true };
const NULL: Operator = Operator::Null { negated: false };
const NOT_NULL: Operator = Operator::Null { negated: true };

/// Spellings in a query string, as in `filter=age:gte:18`.
pub(super) const TEXT_OPERATORS: [(&str, Operator); 14] = [
    ("eq", Operator::Compare(CompareOp::Eq)),
    ("ne", Operator::Compare(CompareOp::Ne)),
    ("gt", Operator::Compare(CompareOp::Gt)),
    ("gte", Operator::Compare(CompareOp::Gte)),
    ("lt", Operator::Compare(CompareOp::Lt)),
    ("lte", Operator::Compare(CompareOp::Lte)),
    ("like", Operator::Like),
    ("contains", Operator::Contains),
    ("in", IN),
    ("nin", NIN),
    ("is_null", NULL),
    ("not_null", NOT_NULL),
    ("isnull", NULL),
    ("notnull", NOT_NULL),
];

/// Spellings in JSON, as in `{"age": {"$gte": 18}}`.
pub(super) const JSON_OPERATORS: [(&str, Operator); 13] = [
    ("$eq", Operator::Compare(CompareOp::Eq)),
    ("$ne", Operator::Compare(CompareOp::Ne)),
    ("$gt", Operator::Compare(CompareOp::Gt)),
    ("$gte", Operator::Compare(CompareOp::Gte)),
    ("$lt", Operator::Compare(CompareOp::Lt)),
    ("$lte", Operator::Compare(CompareOp::Lte)),
    ("$like", Operator::Like),
    ("$contains", Operator::Contains),
    ("$in", IN),
    ("$nin", NIN),
    ("$null", NULL),
    ("$exists", NOT_NULL),
    ("$not", Operator::Not),
];

/// Connectives of whole filters in JSON.
pub(super) const CONNECTIVES: [&str; 3] = ["$and", "$or", "$not"];

/// The operator of that spelling.
pub(super) fn find(table: &[(&str, Operator)], name: &str, field: &Field) -> Result<Operator, Error> {
    if let Some((_, operator)) = table.iter().find(|(known, _)| *known == name) {
        return Ok(*operator);
    }
    let names = || table.iter().map(|(known, _)| *known);
    let hint = did_you_mean(name, names())
        .unwrap_or_else(|| format!("the operators are {}", names().collect::<Vec<_>>().join(", ")));
    let message = format!(
        "`{}` is not an operator (on `{}`): {hint}",
        shown(name),
        field.name
    );
    Err(invalid_filter(message).with_field(field.name.clone()))
}

/// A right-hand side as its writer had to write it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operand<'a> {
    Text(&'a str),
    Json(&'a Json),
}

impl Operand<'_> {
    /// In the field's storage form.
    pub(super) fn value(self, field: &Field) -> Result<Value, Error> {
        match self {
            Self::Text(text) => alyx_schema::value_from_text(field, text),
            Self::Json(json) => alyx_schema::value_from_json(field, json),
        }
        .map_err(|problem| invalid_filter(problem).with_field(field.name.clone()))
    }

    pub(super) fn is_null(self) -> bool {
        matches!(self, Self::Json(Json::Null))
    }

    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.to_owned()),
            Self::Json(json) => json.as_str().map(str::to_owned),
        }
    }
}

/// `field op value`.
pub(super) fn compare(
    (position, field): (usize, &Field),
    op: CompareOp,
    operand: Operand<'_>,
) -> Result<Filter, Error> {
    if operand.is_null() {
        let is_null = Filter::IsNull { field: position };
        match op {
            CompareOp::Eq => return Ok(is_null),
            CompareOp::Ne => return Ok(Filter::Not(Box::new(is_null))),
            CompareOp::Gt | CompareOp::Gte | CompareOp::Lt | CompareOp::Lte => {}
        }
    }
    if field.kind == FieldType::Json && !matches!(op, CompareOp::Eq | CompareOp::Ne) {
        let problem = "is json, which has no order: use eq, ne, in, nin, contains or like";
        return Err(about(field, problem));
    }
    Ok(Filter::Compare {
        field: position,
        op,
        value: operand.value(field)?,
    })
}

/// `field LIKE pattern`.
pub(super) fn like((position, field): (usize, &Field), operand: Operand<'_>) -> Result<Filter, Error> {
    if !is_textual(field.kind) {
        return Err(about(
            field,
            format_args!("is {}: `like` works on text and json only", field.kind.name()),
        ));
    }
    Ok(Filter::Like {
        field: position,
        pattern: bounded_text(field, "like", operand)?.into(),
    })
}

/// `field` contains something. On json, text that can be read as a number or truth value looks for both.
pub(super) fn contains((position, field): (usize, &Field), operand: Operand<'_>) -> Result<Filter, Error> {
    if field.kind == FieldType::Json {
        return json_contains(position, field, operand);
    }
    if !is_textual(field.kind) {
        return Err(about(
            field,
            format_args!("is {}: `contains` works on text and json only", field.kind.name()),
        ));
    }
    Ok(Filter::Contains {
        field: position,
        needle: bounded_text(field, "contains", operand)?.into(),
    })
}

fn json_contains(position: usize, field: &Field, operand: Operand<'_>) -> Result<Filter, Error> {
    let condition = |needle| Filter::JsonContains {
        field: position,
        needle,
    };
    let scalar = |json: &Json| match json {
        Json::Bool(truth) => Some(JsonNeedle::Bool(*truth)),
        Json::Number(number) => Some(JsonNeedle::Number(shortest(number).into())),
        Json::Null | Json::String(_) | Json::Array(_) | Json::Object(_) => None,
    };
    match operand {
        Operand::Json(json) if !json.is_string() => scalar(json).map(condition).ok_or_else(|| {
            about(
                field,
                "can be asked whether it contains a string, a number or a truth value",
            )
        }),
        Operand::Json(_) | Operand::Text(_) => {
            let text = bounded_text(field, "contains", operand)?;
            let other = match operand {
                Operand::Text(text) => serde_json::from_str(text).ok().as_ref().and_then(scalar),
                Operand::Json(_) => None,
            };
            let as_text = condition(JsonNeedle::Text(text.into()));
            Ok(match other {
                None => as_text,
                Some(needle) => Filter::Or(vec![as_text, condition(needle)]),
            })
        }
    }
}

/// The shortest spelling: integral floats without fraction.
fn shortest(number: &serde_json::Number) -> String {
    let text = number.to_string();
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

fn bounded_text(field: &Field, operator: &str, operand: Operand<'_>) -> Result<String, Error> {
    let text = operand
        .text()
        .ok_or_else(|| about(field, format_args!("needs a string for `{operator}`")))?;
    if text.contains('\0') {
        return Err(about(
            field,
            "has a NUL character in what it is compared with: no text holds one",
        ));
    }
    if text.chars().count() > MAX_PATTERN {
        let problem = format_args!("has a text of more than {MAX_PATTERN} characters for `{operator}`");
        return Err(about(field, problem));
    }
    Ok(text)
}

/// An error about a condition on that field.
pub(super) fn about(field: &Field, problem: impl std::fmt::Display) -> Error {
    invalid_filter(format_args!("`{}` {problem}", field.name)).with_field(field.name.clone())
}

fn is_textual(kind: FieldType) -> bool {
    match kind {
        FieldType::Uuid | FieldType::String | FieldType::Text | FieldType::Timestamp | FieldType::Json => {
            true
        }
        FieldType::Int | FieldType::Float | FieldType::Bool | FieldType::Blob => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_is_documented() {
        let page = include_str!("../../../../docs/queries.md");
        let tables = TEXT_OPERATORS
            .iter()
            .chain(&JSON_OPERATORS)
            .map(|(name, _)| *name);
        for name in tables.chain(CONNECTIVES) {
            assert!(
                page.contains(&format!("`{name}`")),
                "docs/queries.md does not explain `{name}`"
            );
        }
    }
}
