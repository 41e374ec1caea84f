//! One form for filters that mean the same. Every step is exact in three-valued logic, so the result is true, false
//! and unknown for the same rows as before.

use std::collections::BTreeMap;

use alyx_core::Value;

use crate::ast::{CompareOp, Filter, PathTest};
use crate::canonical::encoding;

impl Filter {
    /// The normal form: negation at the leaves, nested `And` and `Or` flattened, constants folded, parts sorted and
    /// without duplicates, alternatives of one field gathered into `In`. Idempotent.
    #[must_use]
    pub fn normalize(self) -> Self {
        normal(self, false)
    }
}

fn normal(filter: Filter, negated: bool) -> Filter {
    let each = |parts: Vec<Filter>| parts.into_iter().map(move |part| normal(part, negated));
    match filter {
        Filter::Not(inner) => normal(*inner, !negated),
        Filter::And(parts) if negated => any(each(parts)),
        Filter::Or(parts) if negated => all(each(parts)),
        Filter::And(parts) => all(each(parts)),
        Filter::Or(parts) => any(each(parts)),
        Filter::Compare { field, op, value } if negated => Filter::Compare {
            field,
            op: op.opposite(),
            value,
        },
        Filter::In { field, values } => membership(field, values, negated),
        Filter::Path { field, path, test } => {
            let (test, negated) = match (test, negated) {
                (PathTest::Bool(truth), true) => (PathTest::Bool(!truth), false),
                (PathTest::Number { op, number }, true) => {
                    let op = op.opposite();
                    (PathTest::Number { op, number }, false)
                }
                (PathTest::Text { op, text }, true) => {
                    let op = op.opposite();
                    (PathTest::Text { op, text }, false)
                }
                (test, negated) => (test, negated),
            };
            let leaf = Filter::Path { field, path, test };
            if negated {
                Filter::Not(Box::new(leaf))
            } else {
                leaf
            }
        }
        // The joined row is one row, so the opposite of a filter over it is a filter over it.
        Filter::Through(mut through) => {
            through.filter = normal(through.filter, negated);
            Filter::Through(through)
        }
        Filter::Exists(mut exists) => {
            exists.filter = normal(exists.filter, false);
            if exists.filter == Filter::FALSE {
                return constant(negated);
            }
            leaf(Filter::Exists(exists), negated)
        }
        Filter::Untrue(inner) => match normal(*inner, false) {
            inner if inner.is_true() => constant(negated),
            inner if inner == Filter::FALSE => constant(!negated),
            inner => leaf(Filter::Untrue(Box::new(inner)), negated),
        },
        other => leaf(other, negated),
    }
}

fn leaf(filter: Filter, negated: bool) -> Filter {
    if negated {
        Filter::Not(Box::new(filter))
    } else {
        filter
    }
}

fn constant(truth: bool) -> Filter {
    if truth { Filter::TRUE } else { Filter::FALSE }
}

fn all(parts: impl Iterator<Item = Filter>) -> Filter {
    let mut flat = Vec::new();
    for part in parts {
        match part {
            Filter::And(inner) => flat.extend(inner),
            Filter::Or(inner) if inner.is_empty() => return Filter::FALSE,
            other => flat.push(other),
        }
    }
    single_or(gathered(flat, true), Filter::And)
}

fn any(parts: impl Iterator<Item = Filter>) -> Filter {
    let mut flat = Vec::new();
    for part in parts {
        match part {
            Filter::Or(inner) => flat.extend(inner),
            Filter::And(inner) if inner.is_empty() => return Filter::TRUE,
            other => flat.push(other),
        }
    }
    single_or(gathered(flat, false), Filter::Or)
}

fn single_or(mut parts: Vec<Filter>, join: fn(Vec<Filter>) -> Filter) -> Filter {
    parts.sort_by_cached_key(encoding);
    parts.dedup();
    match parts.len() {
        1 => parts.remove(0),
        _ => join(parts),
    }
}

/// `a = 1 OR a IN (2, 3)` is `a IN (1, 2, 3)`; negated, `a <> 1 AND a NOT IN (2, 3)` is `a NOT IN (1, 2, 3)`.
fn gathered(parts: Vec<Filter>, negated: bool) -> Vec<Filter> {
    let mut sets: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
    let mut rest = Vec::with_capacity(parts.len());
    let one = if negated { CompareOp::Ne } else { CompareOp::Eq };
    for part in parts {
        match part {
            Filter::Compare { field, op, value } if op == one => sets.entry(field).or_default().push(value),
            Filter::In { field, values } if !negated => sets.entry(field).or_default().extend(values),
            Filter::Not(inner) if negated => match *inner {
                Filter::In { field, values } => sets.entry(field).or_default().extend(values),
                other => rest.push(Filter::Not(Box::new(other))),
            },
            other => rest.push(other),
        }
    }
    rest.extend(
        sets.into_iter()
            .map(|(field, values)| membership(field, values, negated)),
    );
    rest
}

fn membership(field: usize, mut values: Vec<Value>, negated: bool) -> Filter {
    values.sort_by(Value::sql_cmp);
    values.dedup();
    match (values.len(), negated) {
        (0, false) => Filter::FALSE,
        (0, true) => Filter::TRUE,
        (1, _) => Filter::Compare {
            field,
            op: if negated { CompareOp::Ne } else { CompareOp::Eq },
            value: values.remove(0),
        },
        (_, false) => Filter::In { field, values },
        (_, true) => Filter::Not(Box::new(Filter::In { field, values })),
    }
}

impl CompareOp {
    /// The operator that holds exactly where this one does not, unknowns aside.
    fn opposite(self) -> Self {
        match self {
            Self::Eq => Self::Ne,
            Self::Ne => Self::Eq,
            Self::Gt => Self::Lte,
            Self::Gte => Self::Lt,
            Self::Lt => Self::Gte,
            Self::Lte => Self::Gt,
        }
    }
}
