//! Operators and functions on values that are known. None is an error.

use crate::expr::{Function, Macro};
use crate::syntax::Operator;
use crate::value::{Val, parse_span, parse_time, time_text};

/// Longest text that a rule makes, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Longest list that a rule makes.
const MAX_ELEMENTS: usize = 10_000;

pub(crate) fn negated(value: &Val) -> Option<Val> {
    match value {
        Val::Int(int) => int.checked_neg().map(Val::Int),
        Val::Float(float) => Some(Val::Float(-float)),
        _ => None,
    }
}

/// Arithmetic. Whole numbers and floats do not mix, as in CEL.
pub(crate) fn compute(operator: Operator, left: &Val, right: &Val) -> Option<Val> {
    match (left, right) {
        (Val::Int(a), Val::Int(b)) => match operator {
            Operator::Add => a.checked_add(*b),
            Operator::Subtract => a.checked_sub(*b),
            Operator::Multiply => a.checked_mul(*b),
            Operator::Divide => a.checked_div(*b),
            Operator::Remainder => a.checked_rem(*b),
            _ => None,
        }
        .map(Val::Int),
        (Val::Float(a), Val::Float(b)) => {
            let float = match operator {
                Operator::Add => a + b,
                Operator::Subtract => a - b,
                Operator::Multiply => a * b,
                Operator::Divide => a / b,
                _ => return None,
            };
            float.is_finite().then_some(Val::Float(float))
        }
        (Val::Text(a), Val::Text(b)) if operator == Operator::Add && a.len() + b.len() <= MAX_TEXT => {
            Some(Val::Text(format!("{a}{b}").into()))
        }
        (Val::List(a), Val::List(b)) if operator == Operator::Add && a.len() + b.len() <= MAX_ELEMENTS => {
            Some(Val::List(a.iter().chain(b.iter()).cloned().collect()))
        }
        (Val::Time(at), Val::Span(span)) => match operator {
            Operator::Add => time(at.checked_add(*span)?),
            Operator::Subtract => time(at.checked_sub(*span)?),
            _ => None,
        },
        (Val::Span(span), Val::Time(at)) if operator == Operator::Add => time(at.checked_add(*span)?),
        (Val::Time(a), Val::Time(b)) if operator == Operator::Subtract => a.checked_sub(*b).map(Val::Span),
        (Val::Span(a), Val::Span(b)) => match operator {
            Operator::Add => a.checked_add(*b),
            Operator::Subtract => a.checked_sub(*b),
            _ => None,
        }
        .map(Val::Span),
        _ => None,
    }
}

fn time(millis: i64) -> Option<Val> {
    time_text(millis).map(|_| Val::Time(millis))
}

/// Null is in no list.
pub(crate) fn within(value: &Val, list: &Val) -> Option<bool> {
    if value.is_null() {
        return Some(false);
    }
    match (value, list) {
        (value, Val::List(parts)) => Some(parts.iter().any(|part| part.equals(value))),
        (Val::Text(name), Val::Map(members)) => Some(members.contains_key(name)),
        (Val::Bool(_) | Val::Int(_) | Val::Float(_), Val::Map(_)) => Some(false),
        _ => None,
    }
}

pub(crate) fn call(function: Function, value: &Val, second: Option<&Val>) -> Option<Val> {
    match function {
        Function::Size => size(value)
            .and_then(|size| i64::try_from(size).ok())
            .map(Val::Int),
        Function::StartsWith => Some(Val::Bool(value.text()?.starts_with(second?.text()?))),
        Function::EndsWith => Some(Val::Bool(value.text()?.ends_with(second?.text()?))),
        Function::Contains => Some(Val::Bool(value.text()?.contains(second?.text()?))),
        Function::LowerAscii => Some(Val::Text(value.text()?.to_ascii_lowercase().into())),
        Function::UpperAscii => Some(Val::Text(value.text()?.to_ascii_uppercase().into())),
        Function::Int => int(value).map(Val::Int),
        Function::Double => double(value).filter(|float| float.is_finite()).map(Val::Float),
        Function::Text => text(value).map(|text| Val::Text(text.into())),
        Function::Timestamp => match value {
            Val::Time(millis) => Some(Val::Time(*millis)),
            Val::Int(seconds) => time(seconds.checked_mul(1000)?),
            Val::Text(text) => parse_time(text).map(Val::Time),
            _ => None,
        },
        Function::Duration => match value {
            Val::Span(millis) => Some(Val::Span(*millis)),
            Val::Text(text) => parse_span(text).map(Val::Span),
            _ => None,
        },
    }
}

fn size(value: &Val) -> Option<usize> {
    match value {
        Val::Text(text) => Some(text.chars().count()),
        Val::Bytes(bytes) => Some(bytes.len()),
        Val::List(parts) => Some(parts.len()),
        Val::Map(members) => Some(members.len()),
        _ => None,
    }
}

fn int(value: &Val) -> Option<i64> {
    match value {
        Val::Int(int) => Some(*int),
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
        Val::Float(float) => (float.abs() < 9.2e18).then_some(*float as i64),
        Val::Text(text) => text.parse().ok(),
        Val::Time(millis) => Some(millis.div_euclid(1000)),
        _ => None,
    }
}

fn double(value: &Val) -> Option<f64> {
    match value {
        Val::Float(float) => Some(*float),
        #[expect(clippy::cast_precision_loss, reason = "it is what double() means")]
        Val::Int(int) => Some(*int as f64),
        Val::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn text(value: &Val) -> Option<String> {
    match value {
        Val::Text(text) => Some(text.as_ref().to_owned()),
        Val::Bool(truth) => Some(truth.to_string()),
        Val::Int(int) => Some(int.to_string()),
        Val::Float(float) => Some(float.to_string()),
        Val::Time(millis) => time_text(*millis),
        _ => None,
    }
}

/// What a macro makes of the values for each element.
pub(crate) fn gathered(kind: Macro, elements: &[Val], values: Vec<Val>) -> Option<Val> {
    if kind == Macro::Map {
        return Some(Val::List(values.into()));
    }
    let mut kept = Vec::new();
    for (element, value) in elements.iter().zip(values) {
        match value {
            Val::Bool(true) => kept.push(element.clone()),
            Val::Bool(false) => {}
            _ => return None,
        }
    }
    Some(match kind {
        Macro::ExistsOne => Val::Bool(kept.len() == 1),
        _ => Val::List(kept.into()),
    })
}
