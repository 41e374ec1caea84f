//! Filters in all three spellings, counted against the bounds as one.

use alyx_core::{Error, Result};
use serde_json::{Map, Value as Json};

use super::condition::{self, Operand};
use super::operator::{self, CONNECTIVES, JSON_OPERATORS, Operator, TEXT_OPERATORS};
use super::subject::{Scope, Subject};
use super::suggest::{did_you_mean, shown};
use super::{MAX_DEPTH, MAX_LIST, MAX_NODES, MAX_VALUES, inside, invalid_filter};
use crate::ast::{CompareOp, Filter};

/// Reads a filter such as `{"channel": "general", "age": {"$gte": 18}}`, in normal form.
///
/// # Errors
/// `INVALID_FILTER`, naming what is not known or does not fit, and what would.
pub fn parse_filter_json<'c>(scope: impl Into<Scope<'c>>, json: &Json) -> Result<Filter> {
    let mut reader = FilterReader::new(scope.into());
    Ok(reader.json(json, 1)?.normalize())
}

/// Reads the conditions of one query.
pub(super) struct FilterReader<'c> {
    scope: Scope<'c>,
    nodes: usize,
    values: usize,
}

impl<'c> FilterReader<'c> {
    pub(super) fn new(scope: Scope<'c>) -> Self {
        Self {
            scope,
            nodes: 0,
            values: 0,
        }
    }

    /// A `filter` parameter: `field:op:value`, or a JSON object.
    pub(super) fn parameter(&mut self, text: &str) -> Result<Filter> {
        let text = text.trim_start();
        if text.starts_with('{') {
            let json = serde_json::from_str(text)
                .map_err(|error| invalid_filter(format_args!("the filter is not JSON: {error}")))?;
            return self.json(&json, 1);
        }
        let mut parts = text.splitn(3, ':');
        let name = parts.next().unwrap_or_default().trim();
        let field = self.field(name)?;
        let Some(word) = parts.next() else {
            return Err(invalid_filter(format_args!(
                "`{}` has no operator: write field:op:value, such as `{name}:eq:…`, or a JSON object",
                shown(text)
            ))
            .with_field(name));
        };
        let operator = operator::find(&TEXT_OPERATORS, word.trim(), &field)?;
        let condition = self.text_condition(&field, operator, word, parts.next())?;
        Ok(field.wrapped(condition))
    }

    /// A parameter that is a field's name: `status=open`.
    pub(super) fn equality(&mut self, name: &str, text: &str) -> Result<Filter> {
        self.count_node()?;
        let field = self.field(name)?;
        let condition = condition::compare(&field, CompareOp::Eq, Operand::Text(text))?;
        Ok(field.wrapped(condition))
    }

    fn text_condition(
        &mut self,
        field: &Subject<'c>,
        operator: Operator,
        word: &str,
        operand: Option<&str>,
    ) -> Result<Filter> {
        self.count_node()?;
        let required = || {
            operand.map(Operand::Text).ok_or_else(|| {
                let problem = format_args!("has no value for `{word}`: write `{}:{word}:value`", field.name);
                field.about(problem)
            })
        };
        match operator {
            Operator::Compare(_)
            | Operator::Like
            | Operator::Contains
            | Operator::StartsWith
            | Operator::EndsWith => condition::simple(field, operator, required()?),
            Operator::Between => {
                required()?;
                let ends = operand.and_then(|text| text.split_once(','));
                match ends.filter(|(_, to)| !to.contains(',')) {
                    Some((from, to)) => condition::between(field, Operand::Text(from), Operand::Text(to)),
                    None => Err(field.about(format_args!(
                        "needs two values with one comma between them for `{word}`; in JSON they may hold commas"
                    ))),
                }
            }
            Operator::In { negated } => {
                required()?;
                let values = operand.filter(|text| !text.is_empty());
                let operands: Vec<_> = values
                    .iter()
                    .flat_map(|text| text.split(','))
                    .map(Operand::Text)
                    .collect();
                self.membership(field, &operands, negated)
            }
            Operator::Null { negated } => match operand {
                None | Some("" | "true") => Ok(null_test(field, negated)),
                Some("false") => Ok(null_test(field, !negated)),
                Some(other) => Err(field.about(format_args!(
                    "takes no value for `{word}`, not `{}`",
                    shown(other)
                ))),
            },
            Operator::Not => Err(field.about("takes `not` only in a JSON filter")),
        }
    }

    /// An object: every member must hold.
    pub(super) fn json(&mut self, json: &Json, depth: usize) -> Result<Filter> {
        if depth > MAX_DEPTH {
            return Err(invalid_filter(format_args!(
                "the filter is nested deeper than {MAX_DEPTH} objects"
            )));
        }
        let Json::Object(members) = json else {
            return Err(invalid_filter(
                "a filter is a JSON object, such as {\"field\": {\"$eq\": \"value\"}}",
            ));
        };
        let parts = members
            .iter()
            .map(|(name, operand)| self.json_member(name, operand, depth));
        parts.collect::<Result<Vec<_>>>().map(Filter::And)
    }

    fn json_member(&mut self, name: &str, operand: &Json, depth: usize) -> Result<Filter> {
        match name {
            "$and" => self.json_list(name, operand, depth).map(Filter::And),
            "$or" => self.json_list(name, operand, depth).map(Filter::Or),
            "$not" => {
                self.count_node()?;
                Ok(Filter::Not(Box::new(self.json(operand, depth + 1)?)))
            }
            _ if name.starts_with('$') => Err(unknown_connective(name)),
            _ => {
                let field = self.field(name)?;
                let condition = match operand {
                    Json::Object(conditions) => self.json_conditions(&field, conditions, depth),
                    Json::Array(_) => {
                        Err(field.about("is given a list: write {\"$in\": […]} for one of several values"))
                    }
                    scalar => {
                        self.count_node()?;
                        condition::compare(&field, CompareOp::Eq, Operand::Json(scalar))
                    }
                };
                condition.map(|condition| field.wrapped(condition))
            }
        }
    }

    fn json_list(&mut self, name: &str, operand: &Json, depth: usize) -> Result<Vec<Filter>> {
        self.count_node()?;
        let Json::Array(parts) = operand else {
            return Err(invalid_filter(format_args!("`{name}` needs a list of filters")));
        };
        if parts.is_empty() {
            return Err(invalid_filter(format_args!("`{name}` needs at least one filter")));
        }
        parts.iter().map(|part| self.json(part, depth + 1)).collect()
    }

    /// `{"$gte": 18, "$lt": 65}`: every condition must hold.
    fn json_conditions(
        &mut self,
        field: &Subject<'c>,
        conditions: &Map<String, Json>,
        depth: usize,
    ) -> Result<Filter> {
        if conditions.is_empty() {
            return Err(field.about("has no condition: write an operator, such as {\"$eq\": \"value\"}"));
        }
        let parts = conditions.iter().map(|(word, operand)| {
            let operator = operator::find(&JSON_OPERATORS, word, field)?;
            self.json_condition(field, operator, (word, operand), depth)
        });
        parts.collect::<Result<Vec<_>>>().map(Filter::And)
    }

    fn json_condition(
        &mut self,
        field: &Subject<'c>,
        operator: Operator,
        (word, operand): (&str, &Json),
        depth: usize,
    ) -> Result<Filter> {
        self.count_node()?;
        match operator {
            Operator::Compare(_)
            | Operator::Like
            | Operator::Contains
            | Operator::StartsWith
            | Operator::EndsWith => condition::simple(field, operator, Operand::Json(operand)),
            Operator::Between => match operand.as_array().map(Vec::as_slice) {
                Some([from, to]) => condition::between(field, Operand::Json(from), Operand::Json(to)),
                _ => Err(field.about(format_args!("needs a list of two values for `{word}`"))),
            },
            Operator::In { negated } => {
                let Json::Array(operands) = operand else {
                    return Err(field.about(format_args!("needs a list for `{word}`")));
                };
                let operands: Vec<_> = operands.iter().map(Operand::Json).collect();
                self.membership(field, &operands, negated)
            }
            Operator::Null { negated } => match operand {
                Json::Bool(truth) => Ok(null_test(field, negated == *truth)),
                _ => Err(field.about(format_args!("needs true or false for `{word}`"))),
            },
            Operator::Not => match operand {
                Json::Object(conditions) if depth < MAX_DEPTH => {
                    let inner = self.json_conditions(field, conditions, depth + 1)?;
                    Ok(Filter::Not(Box::new(inner)))
                }
                Json::Object(_) => Err(field.about(format_args!(
                    "has conditions nested deeper than {MAX_DEPTH} objects"
                ))),
                _ => Err(field.about("needs conditions for `$not`, such as {\"$not\": {\"$like\": \"a%\"}}")),
            },
        }
    }

    /// One of the values, null among them where it is listed; negated, none of them.
    fn membership(&mut self, field: &Subject<'c>, operands: &[Operand<'_>], negated: bool) -> Result<Filter> {
        self.values += operands.len();
        if operands.len() > MAX_LIST {
            return Err(field.about(format_args!(
                "is compared with {} values, {MAX_LIST} at most",
                operands.len()
            )));
        }
        if self.values > MAX_VALUES {
            return Err(invalid_filter(format_args!(
                "the filter's lists have more than {MAX_VALUES} values together"
            )));
        }
        let given: Vec<_> = operands
            .iter()
            .copied()
            .filter(|operand| !operand.is_null())
            .collect();
        let or_null = given.len() < operands.len();
        let listed = condition::one_of(field, &given)?;
        let found = if or_null {
            Filter::Or(vec![listed, null_test(field, false)])
        } else {
            listed
        };
        Ok(if negated {
            Filter::Not(Box::new(found))
        } else {
            found
        })
    }

    fn field(&self, name: &str) -> Result<Subject<'c>> {
        Subject::find(self.scope, name)
    }

    fn count_node(&mut self) -> Result<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(invalid_filter(format_args!(
                "the filter has more than {MAX_NODES} conditions"
            )));
        }
        Ok(())
    }
}

fn null_test(field: &Subject<'_>, negated: bool) -> Filter {
    if let Some(path) = &field.path {
        return inside::null_test(field, path, negated);
    }
    let is_null = Filter::IsNull {
        field: field.position,
    };
    if negated {
        Filter::Not(Box::new(is_null))
    } else {
        is_null
    }
}

fn unknown_connective(name: &str) -> Error {
    let is_operator = JSON_OPERATORS.iter().any(|(known, _)| *known == name);
    let hint = if is_operator {
        format!("it belongs inside a field, such as {{\"field\": {{\"{name}\": …}}}}")
    } else {
        did_you_mean(name, CONNECTIVES.into_iter())
            .unwrap_or_else(|| format!("there are {}", CONNECTIVES.join(", ")))
    };
    invalid_filter(format_args!("`{}` does not join filters: {hint}", shown(name)))
}
