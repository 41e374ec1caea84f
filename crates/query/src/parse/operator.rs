//! The operators and their spellings.

use alyx_core::Error;

use super::invalid_filter;
use super::subject::Subject;
use super::suggest::{did_you_mean, shown};
use crate::ast::CompareOp;

/// What a condition does with its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Compare(CompareOp),
    Like,
    Contains,
    StartsWith,
    EndsWith,
    /// From one value to another, both included.
    Between,
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
pub(super) const TEXT_OPERATORS: [(&str, Operator); 18] = [
    ("eq", Operator::Compare(CompareOp::Eq)),
    ("ne", Operator::Compare(CompareOp::Ne)),
    ("gt", Operator::Compare(CompareOp::Gt)),
    ("gte", Operator::Compare(CompareOp::Gte)),
    ("lt", Operator::Compare(CompareOp::Lt)),
    ("lte", Operator::Compare(CompareOp::Lte)),
    ("like", Operator::Like),
    ("ilike", Operator::Like),
    ("contains", Operator::Contains),
    ("startsWith", Operator::StartsWith),
    ("endsWith", Operator::EndsWith),
    ("between", Operator::Between),
    ("in", IN),
    ("nin", NIN),
    ("is_null", NULL),
    ("not_null", NOT_NULL),
    ("isnull", NULL),
    ("notnull", NOT_NULL),
];

/// Spellings in JSON, as in `{"age": {"$gte": 18}}`.
pub(super) const JSON_OPERATORS: [(&str, Operator); 18] = [
    ("$eq", Operator::Compare(CompareOp::Eq)),
    ("$ne", Operator::Compare(CompareOp::Ne)),
    ("$gt", Operator::Compare(CompareOp::Gt)),
    ("$gte", Operator::Compare(CompareOp::Gte)),
    ("$lt", Operator::Compare(CompareOp::Lt)),
    ("$lte", Operator::Compare(CompareOp::Lte)),
    ("$like", Operator::Like),
    ("$ilike", Operator::Like),
    ("$contains", Operator::Contains),
    ("$startsWith", Operator::StartsWith),
    ("$endsWith", Operator::EndsWith),
    ("$between", Operator::Between),
    ("$in", IN),
    ("$nin", NIN),
    ("$null", NULL),
    ("$isnull", NULL),
    ("$exists", NOT_NULL),
    ("$not", Operator::Not),
];

/// Connectives of whole filters in JSON.
pub(super) const CONNECTIVES: [&str; 3] = ["$and", "$or", "$not"];

/// The operator of that spelling.
pub(super) fn find(table: &[(&str, Operator)], name: &str, subject: &Subject<'_>) -> Result<Operator, Error> {
    if let Some((_, operator)) = table.iter().find(|(known, _)| *known == name) {
        return Ok(*operator);
    }
    let names = || table.iter().map(|(known, _)| *known);
    let hint = did_you_mean(name, names())
        .unwrap_or_else(|| format!("the operators are {}", names().collect::<Vec<_>>().join(", ")));
    let message = format!(
        "`{}` is not an operator (on `{}`): {hint}",
        shown(name),
        subject.name
    );
    Err(invalid_filter(message).with_field(subject.name.clone()))
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
