//! Conditions on fields: what each operator makes of its operand.

use alyx_core::{Error, Value};
use alyx_schema::{Field, FieldType, Storage};
use serde_json::Value as Json;

use super::operator::Operator;
use super::subject::Subject;
use super::{MAX_PATTERN, inside, invalid_filter};
use crate::ast::{CompareOp, Filter, JsonNeedle};

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

/// The condition of an operator that takes one value, whatever the spelling.
pub(super) fn simple(
    subject: &Subject<'_>,
    operator: Operator,
    operand: Operand<'_>,
) -> Result<Filter, Error> {
    match operator {
        Operator::Compare(op) => compare(subject, op, operand),
        Operator::Like => like(subject, operand),
        Operator::Contains => contains(subject, operand),
        Operator::StartsWith => starts_with(subject, operand),
        Operator::EndsWith => ends_with(subject, operand),
        Operator::Between | Operator::In { .. } | Operator::Null { .. } | Operator::Not => {
            Err(subject.about("is given one value to an operator that takes none or several"))
        }
    }
}

/// `from <= field AND field <= to`.
pub(super) fn between(subject: &Subject<'_>, from: Operand<'_>, to: Operand<'_>) -> Result<Filter, Error> {
    Ok(Filter::And(vec![
        compare(subject, CompareOp::Gte, from)?,
        compare(subject, CompareOp::Lte, to)?,
    ]))
}

/// `field IN (values)`. Null is not among them.
pub(super) fn one_of(subject: &Subject<'_>, operands: &[Operand<'_>]) -> Result<Filter, Error> {
    if let Some(path) = &subject.path {
        return inside::one_of(subject, path, operands);
    }
    let values = operands.iter().map(|operand| operand.value(subject.field));
    let mut values = values.collect::<Result<Vec<_>, _>>()?;
    values.sort_by(Value::sql_cmp);
    values.dedup();
    Ok(Filter::In {
        field: subject.position,
        values,
    })
}

/// `field op value`.
pub(super) fn compare(subject: &Subject<'_>, op: CompareOp, operand: Operand<'_>) -> Result<Filter, Error> {
    if let Some(path) = &subject.path {
        return inside::compare(subject, path, op, operand);
    }
    let (position, field) = (subject.position, subject.field);
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
        return Err(subject.about(problem));
    }
    Ok(Filter::Compare {
        field: position,
        op,
        value: operand.value(field)?,
    })
}

/// `field LIKE pattern`.
pub(super) fn like(subject: &Subject<'_>, operand: Operand<'_>) -> Result<Filter, Error> {
    if let Some(path) = &subject.path {
        return inside::like(subject, path, operand);
    }
    let (position, field) = (subject.position, subject.field);
    if !is_textual(field.kind) {
        return Err(subject.about(format_args!(
            "is {}: `like` works on text and json only",
            field.kind.name()
        )));
    }
    Ok(Filter::Like {
        field: position,
        pattern: bounded_text(subject, "like", operand)?.into(),
    })
}

/// `field` contains something. On json, text that can be read as a number or truth value looks for both.
pub(super) fn contains(subject: &Subject<'_>, operand: Operand<'_>) -> Result<Filter, Error> {
    if let Some(path) = &subject.path {
        return inside::contains(subject, path, operand);
    }
    let (position, field) = (subject.position, subject.field);
    if field.kind == FieldType::Json {
        return json_needles(subject, operand, |needle| Filter::JsonContains {
            field: position,
            needle,
        });
    }
    if field.kind == FieldType::Select {
        return chosen(subject, operand);
    }
    if !is_textual(field.kind) {
        return Err(subject.about(format_args!(
            "is {}: `contains` works on text and json only",
            field.kind.name()
        )));
    }
    Ok(Filter::Contains {
        field: position,
        needle: bounded_text(subject, "contains", operand)?.into(),
    })
}

/// The value is the one that was chosen, or one of several. No value looks like JSON (`parse/choice.rs` in the schema
/// sees to it), so one that stands alone is never taken for an array.
fn chosen(subject: &Subject<'_>, operand: Operand<'_>) -> Result<Filter, Error> {
    let text = bounded_text(subject, "contains", operand)?;
    let alone = Filter::Compare {
        field: subject.position,
        op: CompareOp::Eq,
        value: text.as_str().into(),
    };
    let among = Filter::JsonContains {
        field: subject.position,
        needle: JsonNeedle::Text(text.into()),
    };
    Ok(Filter::Or(vec![alone, among]))
}

/// Conditions for what `contains` may mean on json. In a query string, text that can be read as a number or truth
/// value looks for both.
pub(super) fn json_needles(
    subject: &Subject<'_>,
    operand: Operand<'_>,
    condition: impl Fn(JsonNeedle) -> Filter,
) -> Result<Filter, Error> {
    match operand {
        Operand::Json(json) if !json.is_string() => inside::needle(json).map(&condition).ok_or_else(|| {
            subject.about("can be asked whether it contains a string, a number or a truth value")
        }),
        Operand::Json(_) | Operand::Text(_) => {
            let text = bounded_text(subject, "contains", operand)?;
            let other = match operand {
                Operand::Text(text) => serde_json::from_str(text).ok().as_ref().and_then(inside::needle),
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

/// `field` begins with a text: a range, so that an index serves it.
pub(super) fn starts_with(subject: &Subject<'_>, operand: Operand<'_>) -> Result<Filter, Error> {
    if let Some(path) = &subject.path {
        return inside::starts_with(subject, path, operand);
    }
    let start = affix(subject, "startsWith", operand)?;
    let compare = |op, text: String| Filter::Compare {
        field: subject.position,
        op,
        value: text.into(),
    };
    let end = prefix_end(&start).map(|end| compare(CompareOp::Lt, end));
    let mut parts = vec![compare(CompareOp::Gte, start)];
    parts.extend(end);
    Ok(Filter::And(parts))
}

/// `field` ends with a text.
pub(super) fn ends_with(subject: &Subject<'_>, operand: Operand<'_>) -> Result<Filter, Error> {
    if let Some(path) = &subject.path {
        return inside::ends_with(subject, path, operand);
    }
    let end = affix(subject, "endsWith", operand)?;
    let field = subject.position;
    Ok(if end.is_empty() {
        // Every text does.
        Filter::Compare {
            field,
            op: CompareOp::Gte,
            value: Value::text(""),
        }
    } else {
        Filter::EndsWith {
            field,
            needle: end.into(),
        }
    })
}

fn affix(subject: &Subject<'_>, operator: &str, operand: Operand<'_>) -> Result<String, Error> {
    let kind = subject.field.kind;
    if kind == FieldType::Json {
        return Err(subject.about(format_args!(
            "is json: `{operator}` works on a place inside it, such as `{}.name`",
            subject.name
        )));
    }
    if !is_textual(kind) {
        return Err(subject.about(format_args!(
            "is {}: `{operator}` works on text only",
            kind.name()
        )));
    }
    bounded_text(subject, operator, operand)
}

/// The least text after all that begin with this one; none where there is none.
pub fn prefix_end(start: &str) -> Option<String> {
    let mut end = start.to_owned();
    while let Some(last) = end.pop() {
        // Surrogates are no characters, and the step over them is all that `..=` needs to make.
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// The shortest spelling: integral floats without fraction.
pub(super) fn shortest(number: &serde_json::Number) -> String {
    let text = number.to_string();
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

pub(super) fn bounded_text(
    subject: &Subject<'_>,
    operator: &str,
    operand: Operand<'_>,
) -> Result<String, Error> {
    let text = operand
        .text()
        .ok_or_else(|| subject.about(format_args!("needs a string for `{operator}`")))?;
    if text.contains('\0') {
        return Err(subject.about("has a NUL character in what it is compared with: no text holds one"));
    }
    if text.chars().count() > MAX_PATTERN {
        let problem = format_args!("has a text of more than {MAX_PATTERN} characters for `{operator}`");
        return Err(subject.about(problem));
    }
    Ok(text)
}

fn is_textual(kind: FieldType) -> bool {
    kind.storage() == Storage::Text
}
