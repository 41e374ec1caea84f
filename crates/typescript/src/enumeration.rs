//! Enums as the objects that they are when the program runs, member by member in their lines.

use std::collections::{BTreeMap, BTreeSet};

use oxc_ast::ast::{
    BinaryOperator, Expression, TSEnumDeclaration, TSEnumMember, TSEnumMemberName, UnaryOperator,
};
use oxc_ast_visit::Visit as _;
use oxc_span::GetSpan as _;

use crate::erase::Eraser;
use crate::scan;

/// What a member is, as far as it can be told here.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Text(String),
    /// Known when the program runs.
    Later,
}

/// An enum up to the member at hand.
struct Enumeration {
    name: String,
    known: BTreeMap<String, Value>,
    /// What a member without an initialiser is.
    next: Option<f64>,
}

impl Eraser<'_> {
    pub(crate) fn enumeration(&mut self, it: &TSEnumDeclaration<'_>) {
        let name = it.id.name.to_string();
        let body = it.body.span;
        let head = format!("var {name};(function({name}){{");
        self.edits
            .replace(it.span.start as usize..body.start as usize + 1, &head);
        self.edits
            .insert(body.end as usize, &format!(")({name}||({name}={{}}));"));
        let mut sofar = Enumeration {
            name,
            known: BTreeMap::new(),
            next: Some(0.0),
        };
        for member in &it.body.members {
            self.member(&mut sofar, member);
            if let Some(comma) = scan::next_is(self.source, member.span.end as usize, ',') {
                self.edits.overwrite(comma, ';');
            }
        }
    }

    fn member(&mut self, sofar: &mut Enumeration, it: &TSEnumMember<'_>) {
        let (name, key) = match &it.id {
            TSEnumMemberName::Identifier(name) => (name.name.to_string(), format!("\"{}\"", name.name)),
            TSEnumMemberName::String(name) | TSEnumMemberName::ComputedString(name) => (
                name.value.to_string(),
                self.source[name.span.start as usize..name.span.end as usize].to_owned(),
            ),
            TSEnumMemberName::ComputedTemplateString(name) => {
                return self.refuse(name.span, "write the name of a member in quotes");
            }
        };
        let (start, end) = (it.span.start as usize, it.span.end as usize);
        let own = &sofar.name;
        let value = match &it.initializer {
            None => {
                let Some(number) = sofar.next else {
                    return self.refuse(
                        it.span,
                        "this member needs a value: the one before it is no number that is known here",
                    );
                };
                let written = number_text(number);
                self.edits
                    .replace(start..end, &format!("{own}[{own}[{key}]={written}]={key}"));
                Value::Number(number)
            }
            Some(initializer) => {
                let value = sofar.value_of(initializer);
                let from = initializer.span().start as usize;
                if matches!(value, Value::Text(_)) {
                    self.edits.replace(start..from, &format!("{own}[{key}]="));
                } else {
                    self.edits.replace(start..from, &format!("{own}[{own}[{key}]="));
                    self.edits.insert(end, &format!("]={key}"));
                }
                let names: BTreeSet<String> = sofar.known.keys().cloned().collect();
                let outer = self.members.replace((own.clone(), names));
                self.visit_expression(initializer);
                self.members = outer;
                value
            }
        };
        sofar.next = match value {
            Value::Number(number) => Some(number + 1.0),
            Value::Text(_) | Value::Later => None,
        };
        sofar.known.insert(name, value);
    }
}

impl Enumeration {
    fn value_of(&self, expression: &Expression<'_>) -> Value {
        match expression {
            Expression::NumericLiteral(it) => Value::Number(it.value),
            Expression::StringLiteral(it) => Value::Text(it.value.to_string()),
            Expression::TemplateLiteral(it) if it.expressions.is_empty() => Value::Text(
                it.quasis
                    .iter()
                    .filter_map(|part| part.value.cooked.as_ref())
                    .map(ToString::to_string)
                    .collect(),
            ),
            Expression::ParenthesizedExpression(it) => self.value_of(&it.expression),
            Expression::Identifier(it) => self.member(it.name.as_str()),
            Expression::StaticMemberExpression(it) if matches!(&it.object, Expression::Identifier(object) if object.name == self.name.as_str()) => {
                self.member(it.property.name.as_str())
            }
            Expression::UnaryExpression(it) => match (it.operator, self.value_of(&it.argument)) {
                (UnaryOperator::UnaryNegation, Value::Number(number)) => Value::Number(-number),
                (UnaryOperator::UnaryPlus, Value::Number(number)) => Value::Number(number),
                (UnaryOperator::BitwiseNot, Value::Number(number)) => Value::Number(f64::from(!bits(number))),
                _ => Value::Later,
            },
            Expression::BinaryExpression(it) => {
                binary(it.operator, self.value_of(&it.left), self.value_of(&it.right))
            }
            _ => Value::Later,
        }
    }

    fn member(&self, name: &str) -> Value {
        self.known.get(name).cloned().unwrap_or(Value::Later)
    }
}

fn binary(operator: BinaryOperator, left: Value, right: Value) -> Value {
    let (left, right) = match (left, right) {
        (Value::Number(left), Value::Number(right)) => (left, right),
        (Value::Text(left), Value::Text(right)) if operator == BinaryOperator::Addition => {
            return Value::Text(left + &right);
        }
        _ => return Value::Later,
    };
    let shift = bits(right) & 31;
    let number = match operator {
        BinaryOperator::Addition => left + right,
        BinaryOperator::Subtraction => left - right,
        BinaryOperator::Multiplication => left * right,
        BinaryOperator::Division => left / right,
        BinaryOperator::Remainder => left % right,
        BinaryOperator::BitwiseOR => f64::from(bits(left) | bits(right)),
        BinaryOperator::BitwiseAnd => f64::from(bits(left) & bits(right)),
        BinaryOperator::BitwiseXOR => f64::from(bits(left) ^ bits(right)),
        BinaryOperator::ShiftLeft => f64::from(bits(left).wrapping_shl(shift.unsigned_abs())),
        BinaryOperator::ShiftRight => f64::from(bits(left) >> shift),
        _ => return Value::Later,
    };
    if number.is_finite() {
        Value::Number(number)
    } else {
        Value::Later
    }
}

/// A number as JavaScript's operators on bits see it (ECMA-262, ToInt32).
#[expect(
    clippy::cast_possible_truncation,
    reason = "the remainder of 2^32 fits, and wrapping is what is meant"
)]
fn bits(number: f64) -> i32 {
    if !number.is_finite() {
        return 0;
    }
    number.trunc().rem_euclid(4_294_967_296.0) as i64 as i32
}

/// A finite number as JavaScript reads it.
fn number_text(number: f64) -> String {
    format!("{number}")
}
