//! Partial evaluation: everything that is known folds away, what is left are conditions on what is stored.

use std::cmp::Ordering;
use std::sync::Arc;

use alyx_core::Account;
use alyx_query::{CompareOp, Filter};
use alyx_schema::Collection;

use crate::compute::{self, compute};
use crate::condition::{Condition, and};
use crate::expr::{AuthPart, CallPart, ExistsExpr, Expr, Function, Macro, Node, Stored};
use crate::rule::{Facts, Incoming};
use crate::stored::{Origin, Reference, anywhere, has_value};
use crate::syntax::Operator;
use crate::value::{Val, millis};

/// Parts that one decision evaluates at most; a rule that takes more denies.
const MAX_STEPS: usize = 20_000;

/// What a part of a rule comes to.
#[derive(Debug, Clone)]
pub(crate) enum Outcome<'e> {
    Known(Val),
    Stored(Reference<'e>),
    Condition(Condition),
    /// An error, whatever is stored.
    Fault,
}

/// Evaluates one rule for one caller.
pub(crate) struct Evaluator<'f> {
    collection: &'f Collection,
    facts: &'f Facts<'f>,
    steps: usize,
    elements: Vec<Val>,
}

impl<'f> Evaluator<'f> {
    pub(crate) fn new(collection: &'f Collection, facts: &'f Facts<'f>) -> Self {
        Self {
            collection,
            facts,
            steps: 0,
            elements: Vec::new(),
        }
    }

    /// Whether the rule has taken too long: what came of it is void.
    pub(crate) fn is_spent(&self) -> bool {
        self.steps > MAX_STEPS
    }

    fn known(&mut self, expr: &Expr) -> Option<Val> {
        match self.eval(expr) {
            Outcome::Known(value) => Some(value),
            Outcome::Stored(_) | Outcome::Condition(_) | Outcome::Fault => None,
        }
    }

    /// The part as a condition.
    pub(crate) fn condition(&mut self, expr: &Expr) -> Condition {
        match self.eval(expr) {
            Outcome::Known(Val::Bool(truth)) => Condition::constant(truth),
            Outcome::Stored(stored) => stored.truth(),
            Outcome::Condition(condition) => condition,
            Outcome::Known(_) | Outcome::Fault => Condition::fault(),
        }
    }

    pub(crate) fn eval<'e>(&mut self, expr: &'e Expr) -> Outcome<'e> {
        self.steps += 1;
        if self.is_spent() {
            return Outcome::Fault;
        }
        let outcome = self.outcome(expr);
        if matches!(self.facts.incoming, Incoming::Unknown) && is_open(expr, &outcome) {
            return Outcome::Condition(Condition::open());
        }
        outcome
    }

    fn outcome<'e>(&mut self, expr: &'e Expr) -> Outcome<'e> {
        match &expr.node {
            Node::Value(value) => Outcome::Known(value.clone()),
            Node::Auth => Outcome::Known(
                self.account()
                    .map_or(Val::Null, |account| Val::json(&account.to_json())),
            ),
            Node::AuthPart(part) => Outcome::Known(
                self.account()
                    .map_or(Val::Null, |account| of_auth(account, *part)),
            ),
            Node::Now => Outcome::Known(Val::Time(millis(self.facts.now))),
            Node::Data(position) => self.data(*position),
            Node::DataHas(position) => Outcome::Known(Val::Bool(self.comes_in(*position))),
            Node::Stored(stored) => self.stored(stored),
            Node::OfCall(part) => Outcome::Known(self.of_call(*part)),
            Node::Got {
                collection,
                key,
                stored,
            } => match self.known(key) {
                Some(key) => {
                    let origin = Origin::At {
                        collection: Arc::clone(collection),
                        target: collection.primary(),
                        key,
                    };
                    Outcome::Stored(Reference {
                        origin,
                        hops: &stored.hops,
                        leaf: &stored.leaf,
                    })
                }
                None => Outcome::Fault,
            },
            Node::Exists(exists) => self.exists(exists),
            Node::Not(inner) => folded(self.condition(inner).negated()),
            Node::And(parts) => self.all(parts),
            Node::Or(parts) => self.any(parts),
            Node::If(parts) => self.choice(parts),
            Node::Equal {
                sides,
                negated,
                strict,
            } => {
                let condition = self.equality(sides, *strict);
                folded(if *negated { condition.negated() } else { condition })
            }
            Node::Binary(operator, sides) => self.binary(*operator, sides),
            Node::Has(inner) => match self.eval(inner) {
                Outcome::Known(value) => Outcome::Known(Val::Bool(!value.is_null())),
                Outcome::Stored(stored) => folded(stored.has()),
                Outcome::Condition(_) | Outcome::Fault => Outcome::Fault,
            },
            Node::Call(function, args) => self.call(*function, args),
            Node::Macro(kind, parts) => self.comprehension(*kind, parts),
            Node::Element(_)
            | Node::Select(..)
            | Node::Index(..)
            | Node::Negative(_)
            | Node::Matches(..)
            | Node::List(_)
            | Node::Map(_) => known_or_fault(self.computed(&expr.node)),
        }
    }

    /// What is made of values that are known; none is an error.
    fn computed(&mut self, node: &Node) -> Option<Val> {
        match node {
            Node::Element(slot) => self.elements.get(*slot).cloned(),
            Node::Select(inner, name) => self.known(inner).map(|value| value.member(name)),
            Node::Index(inner, index) => {
                let (inner, index) = (self.known(inner)?, self.known(index)?);
                Some(inner.at(&index))
            }
            Node::Negative(inner) => compute::negated(&self.known(inner)?),
            Node::Matches(target, regex) => {
                let value = self.known(target)?;
                value.text().map(|text| Val::Bool(regex.is_match(text)))
            }
            Node::List(parts) => {
                let values: Option<Vec<Val>> = parts.iter().map(|part| self.known(part)).collect();
                values.map(|values| Val::List(values.into()))
            }
            Node::Map(entries) => {
                let members =
                    entries
                        .iter()
                        .map(|(key, value)| match (self.known(key)?, self.known(value)?) {
                            (Val::Text(name), value) => Some((name, value)),
                            _ => None,
                        });
                let members: Option<_> = members.collect();
                members.map(|members| Val::Map(Arc::new(members)))
            }
            _ => None,
        }
    }

    fn account(&self) -> Option<&'f Account> {
        self.facts.caller.account().map(AsRef::as_ref)
    }

    fn data<'e>(&self, position: usize) -> Outcome<'e> {
        let field = &self.collection.fields[position];
        match self.facts.incoming {
            Incoming::Nothing | Incoming::Unknown | Incoming::Call(_) => Outcome::Known(Val::Null),
            Incoming::Row(row) => Outcome::Known(
                row.get(position)
                    .map_or(Val::Null, |value| Val::stored(field, value)),
            ),
            Incoming::Changes { changes, sums } => {
                if sums.iter().any(|(summed, _)| *summed == position) {
                    // What it adds up to is known to the database alone.
                    return Outcome::Fault;
                }
                let found = changes
                    .iter()
                    .find(|(changed, _)| *changed == position && !field.on_update_now);
                Outcome::Known(found.map_or(Val::Null, |(_, value)| Val::stored(field, value)))
            }
        }
    }

    fn of_call(&self, part: CallPart) -> Val {
        match (self.facts.incoming, part) {
            (Incoming::Call(call), CallPart::Input) => call.input.clone(),
            (Incoming::Call(call), CallPart::Method) => call.method.clone(),
            (
                Incoming::Nothing | Incoming::Unknown | Incoming::Row(_) | Incoming::Changes { .. },
                CallPart::Input | CallPart::Method,
            ) => Val::Null,
        }
    }

    fn comes_in(&self, position: usize) -> bool {
        let field = &self.collection.fields[position];
        match self.facts.incoming {
            Incoming::Nothing | Incoming::Unknown | Incoming::Call(_) => false,
            Incoming::Row(row) => row.get(position).is_some_and(|value| !value.is_null()),
            Incoming::Changes { changes, sums } => {
                let mut named = changes.iter().chain(sums);
                named.any(|(named, _)| *named == position && !field.on_update_now)
            }
        }
    }

    fn stored<'e>(&self, stored: &'e Stored) -> Outcome<'e> {
        let (hops, leaf) = (&stored.hops, &stored.leaf);
        let Some(row) = self.facts.document else {
            return Outcome::Stored(Reference {
                origin: Origin::Row,
                hops,
                leaf,
            });
        };
        let value = |position: usize| {
            let field = &self.collection.fields[position];
            row.get(position)
                .map_or(Val::Null, |value| Val::stored(field, value))
        };
        match hops.split_first() {
            None => {
                let whole = value(leaf.field);
                Outcome::Known(leaf.steps.iter().fold(whole, |inner, step| inner.at(step)))
            }
            Some((first, hops)) => {
                let (collection, target) = (Arc::clone(&first.collection), first.target);
                let origin = Origin::At {
                    collection,
                    target,
                    key: value(first.field),
                };
                Outcome::Stored(Reference { origin, hops, leaf })
            }
        }
    }

    fn exists<'e>(&mut self, exists: &'e ExistsExpr) -> Outcome<'e> {
        let mut parts = Vec::with_capacity(exists.known.len() + 1);
        for (field, expr) in &exists.known {
            let Some(value) = self.known(expr) else {
                return Outcome::Fault;
            };
            parts.push(has_value(&exists.collection, *field, &value));
        }
        let Some(link) = &exists.link else {
            return folded_exists(&exists.collection, and(parts));
        };
        match self.stored(&link.stored) {
            Outcome::Known(value) => {
                parts.push(has_value(&exists.collection, link.field, &value));
                folded_exists(&exists.collection, and(parts))
            }
            Outcome::Stored(reference) => {
                let filter = and(parts);
                if filter == Filter::FALSE {
                    return Outcome::Known(Val::Bool(false));
                }
                folded(reference.linked(exists, link.field, filter))
            }
            Outcome::Condition(_) | Outcome::Fault => Outcome::Fault,
        }
    }

    fn all<'e>(&mut self, parts: &'e [Expr]) -> Outcome<'e> {
        let mut conditions = Vec::with_capacity(parts.len());
        for part in parts {
            let condition = self.condition(part);
            if condition.no.is_true() {
                return Outcome::Known(Val::Bool(false));
            }
            conditions.push(condition);
        }
        folded(Condition::all(conditions))
    }

    fn any<'e>(&mut self, parts: &'e [Expr]) -> Outcome<'e> {
        let mut conditions = Vec::with_capacity(parts.len());
        for part in parts {
            let condition = self.condition(part);
            if condition.yes.is_true() {
                return Outcome::Known(Val::Bool(true));
            }
            conditions.push(condition);
        }
        folded(Condition::any(conditions))
    }

    fn choice<'e>(&mut self, parts: &'e [Expr; 3]) -> Outcome<'e> {
        let [condition, yes, no] = parts;
        let condition = self.condition(condition);
        if condition.yes.is_true() {
            return self.eval(yes);
        }
        if condition.no.is_true() {
            return self.eval(no);
        }
        let (yes, no) = (self.condition(yes), self.condition(no));
        folded(Condition::choice(condition, yes, no))
    }

    fn equality(&mut self, sides: &[Expr; 2], strict: bool) -> Condition {
        let [left, right] = sides;
        match (self.eval(left), self.eval(right)) {
            (Outcome::Known(a), Outcome::Known(b)) => {
                let nothing = a.is_null() && b.is_null();
                Condition::constant(if nothing { !strict } else { a.equals(&b) })
            }
            (Outcome::Stored(stored), Outcome::Known(value))
            | (Outcome::Known(value), Outcome::Stored(stored)) => stored.equals(&value, strict),
            (Outcome::Condition(condition), Outcome::Known(value))
            | (Outcome::Known(value), Outcome::Condition(condition)) => match value {
                Val::Bool(true) => condition,
                Val::Bool(false) => condition.negated(),
                _ => Condition::fault(),
            },
            _ => Condition::fault(),
        }
    }

    fn binary<'e>(&mut self, operator: Operator, sides: &'e [Expr; 2]) -> Outcome<'e> {
        let [left, right] = sides;
        let (left, right) = (self.eval(left), self.eval(right));
        match (operator, left, right) {
            (Operator::In, Outcome::Known(value), Outcome::Known(list)) => {
                known_or_fault(compute::within(&value, &list).map(Val::Bool))
            }
            (Operator::In, Outcome::Stored(stored), Outcome::Known(Val::List(list))) => {
                folded(stored.within(&list))
            }
            (Operator::In, Outcome::Known(value), Outcome::Stored(stored)) => folded(stored.holds(&value)),
            (operator, Outcome::Known(a), Outcome::Known(b)) => match order_of(operator) {
                Some(op) => known_or_fault(a.order(&b).map(|order| Val::Bool(holds(op, order)))),
                None => known_or_fault(compute(operator, &a, &b)),
            },
            (operator, Outcome::Stored(stored), Outcome::Known(value)) => match order_of(operator) {
                Some(op) => folded(stored.ordered(op, &value)),
                None => Outcome::Fault,
            },
            (operator, Outcome::Known(value), Outcome::Stored(stored)) => match order_of(operator) {
                Some(op) => folded(stored.ordered(mirrored(op), &value)),
                None => Outcome::Fault,
            },
            _ => Outcome::Fault,
        }
    }

    fn call<'e>(&mut self, function: Function, args: &'e [Expr]) -> Outcome<'e> {
        let Some((first, rest)) = args.split_first() else {
            return Outcome::Fault;
        };
        let rest: Option<Vec<Val>> = rest.iter().map(|part| self.known(part)).collect();
        let Some(rest) = rest else { return Outcome::Fault };
        match (self.eval(first), rest.first()) {
            (Outcome::Known(value), second) => known_or_fault(compute::call(function, &value, second)),
            (Outcome::Stored(stored), Some(second)) => folded(stored.has_part(function, second)),
            _ => Outcome::Fault,
        }
    }

    fn comprehension<'e>(&mut self, kind: Macro, parts: &'e [Expr; 2]) -> Outcome<'e> {
        let [range, body] = parts;
        let elements: Vec<Val> = match self.known(range) {
            Some(Val::List(list)) => list.to_vec(),
            Some(Val::Map(members)) => members.keys().map(|name| Val::Text(name.clone())).collect(),
            Some(_) | None => return Outcome::Fault,
        };
        match kind {
            Macro::Exists | Macro::All => {
                let conditions = self.each(&elements, |this| this.condition(body));
                folded(match kind {
                    Macro::All => Condition::all(conditions),
                    _ => Condition::any(conditions),
                })
            }
            Macro::ExistsOne | Macro::Filter | Macro::Map => {
                let values = self.each(&elements, |this| this.known(body));
                let values: Option<Vec<Val>> = values.into_iter().collect();
                known_or_fault(values.and_then(|values| compute::gathered(kind, &elements, values)))
            }
        }
    }

    fn each<T>(&mut self, elements: &[Val], mut each: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let mut all = Vec::new();
        for element in elements {
            if self.is_spent() {
                break;
            }
            self.elements.push(element.clone());
            all.push(each(self));
            self.elements.pop();
        }
        all
    }
}

fn of_auth(account: &Account, part: AuthPart) -> Val {
    match part {
        AuthPart::Id => Val::Text(account.id.as_str().into()),
        AuthPart::Email => account
            .email
            .as_deref()
            .map_or(Val::Null, |email| Val::Text(email.into())),
        AuthPart::Verified => Val::Bool(account.verified),
        AuthPart::Role => Val::Text(account.role.as_str().into()),
        AuthPart::Metadata => {
            let members = account.metadata.iter();
            Val::Map(Arc::new(
                members
                    .map(|(name, value)| (name.as_str().into(), Val::json(value)))
                    .collect(),
            ))
        }
    }
}

fn folded_exists<'e>(collection: &Arc<Collection>, filter: Filter) -> Outcome<'e> {
    if filter == Filter::FALSE {
        return Outcome::Known(Val::Bool(false));
    }
    Outcome::Condition(anywhere(collection, filter))
}

/// Whether what comes in decides: a condition about it, or one that only a whole document could be asked for.
fn is_open(expr: &Expr, outcome: &Outcome<'_>) -> bool {
    let joins = matches!(
        &expr.node,
        Node::And(_) | Node::Or(_) | Node::Not(_) | Node::If(_)
    );
    let of_incoming = |node: &Node| matches!(node, Node::Data(_) | Node::DataHas(_));
    let of_document = |node: &Node| matches!(node, Node::Stored(_));
    let fault = matches!(outcome, Outcome::Fault);
    !joins && (expr.any(&of_incoming) || fault && expr.any(&of_document))
}

/// What is certain is known.
fn folded<'e>(condition: Condition) -> Outcome<'e> {
    if condition.yes.is_true() {
        Outcome::Known(Val::Bool(true))
    } else if condition.no.is_true() {
        Outcome::Known(Val::Bool(false))
    } else {
        Outcome::Condition(condition)
    }
}

fn known_or_fault<'e>(value: Option<Val>) -> Outcome<'e> {
    value.map_or(Outcome::Fault, Outcome::Known)
}

fn order_of(operator: Operator) -> Option<CompareOp> {
    Some(match operator {
        Operator::Less => CompareOp::Lt,
        Operator::LessOrEqual => CompareOp::Lte,
        Operator::Greater => CompareOp::Gt,
        Operator::GreaterOrEqual => CompareOp::Gte,
        Operator::Equal
        | Operator::NotEqual
        | Operator::In
        | Operator::Add
        | Operator::Subtract
        | Operator::Multiply
        | Operator::Divide
        | Operator::Remainder => return None,
    })
}

/// The operator with its sides exchanged.
fn mirrored(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Eq | CompareOp::Ne => op,
        CompareOp::Gt => CompareOp::Lt,
        CompareOp::Gte => CompareOp::Lte,
        CompareOp::Lt => CompareOp::Gt,
        CompareOp::Lte => CompareOp::Gte,
    }
}

fn holds(op: CompareOp, order: Ordering) -> bool {
    match op {
        CompareOp::Eq => order.is_eq(),
        CompareOp::Ne => order.is_ne(),
        CompareOp::Gt => order.is_gt(),
        CompareOp::Gte => order.is_ge(),
        CompareOp::Lt => order.is_lt(),
        CompareOp::Lte => order.is_le(),
    }
}
