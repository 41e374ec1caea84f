//! Why a rule says what it says: every part of it with what it comes to for one caller and one document.
//!
//! A rule is drawn first ([`Rule::draw`]): what is known is worked out, what is stored becomes statements that whoever
//! has the database answers, and with their answers the drawing becomes an [`Explained`]. **Invariant:** whether the
//! rule allows is decided by the filter that decides everywhere else; the parts tell why, and never decide.

use std::sync::Arc;

use alyx_core::{Statement, Value};
use alyx_query::{Filter, Way, holds, passes, value_at};
use alyx_schema::Collection;

use crate::eval::{Evaluator, Outcome};
use crate::expr::{Expr, Kind, Node};
use crate::rule::{Decision, Facts, Rule};
use crate::seen::{Came, Explained, Joins, Seen, truth};
use crate::stored::{Origin, Reference, storage};
use crate::value::Val;

/// A rule for one caller, and what has to be asked of the database about one document.
#[derive(Debug)]
pub struct Drawing {
    decision: Decision,
    root: Drawn,
    statements: Vec<Statement>,
}

/// What to make of the answers.
#[derive(Debug)]
struct Drawn {
    text: String,
    joins: Joins,
    draft: Draft,
    parts: Vec<Drawn>,
}

#[derive(Debug)]
enum Draft {
    Known(Val),
    Fault,
    /// The numbers of the statements that tell whether it is true, and false.
    Test(usize, usize),
    /// The number of the statement that tells the value of a field, and the steps inside of it.
    Stored {
        number: usize,
        collection: Arc<Collection>,
        field: usize,
        steps: Vec<Val>,
    },
    /// What its parts make of it.
    Parts,
}

impl Rule {
    /// Draws the rule about the document with that key, in the collection that it was compiled for. Where
    /// `facts.document` says what the document is, that counts in place of what is stored under the key.
    pub fn draw(&self, collection: &Arc<Collection>, facts: &Facts<'_>, key: &Value) -> Drawing {
        let mut draughtsman = Draughtsman {
            rule: self.text(),
            collection,
            facts,
            key,
            statements: Vec::new(),
        };
        let decision = self.decide(collection, facts);
        if let Decision::Filter(filter) = &decision {
            draughtsman.ask(filter);
        }
        let root = draughtsman.draw(self.expr());
        Drawing {
            decision,
            root,
            statements: draughtsman.statements,
        }
    }
}

impl Drawing {
    /// What to ask of the database, all of one state of it.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// What comes of it. `answers`: for each statement the first value of its first row, where there is one.
    pub fn answered(self, answers: &[Option<Value>]) -> Explained {
        let allowed = match self.decision {
            Decision::Allow => true,
            Decision::Deny => false,
            Decision::Filter(_) => answers.first().is_some_and(Option::is_some),
        };
        Explained {
            allowed,
            always: !matches!(self.decision, Decision::Filter(_)),
            root: self.root.answered(answers),
        }
    }
}

impl Drawn {
    fn answered(self, answers: &[Option<Value>]) -> Seen {
        let parts: Vec<Seen> = self
            .parts
            .into_iter()
            .map(|part| part.answered(answers))
            .collect();
        let answer = |number: usize| answers.get(number).and_then(Option::as_ref);
        let came = match self.draft {
            Draft::Known(value) => Came::of(&value),
            Draft::Fault => Came::Error,
            Draft::Test(yes, no) => match (answer(yes), answer(no)) {
                (Some(_), _) => Came::True,
                (None, Some(_)) => Came::False,
                (None, None) => Came::Error,
            },
            Draft::Stored {
                number,
                collection,
                field,
                steps,
            } => {
                let stored = answer(number).unwrap_or(&Value::Null);
                let whole = Val::stored(&collection.fields[field], stored);
                Came::of(&steps.iter().fold(whole, |inner, step| inner.at(step)))
            }
            Draft::Parts => truth(self.joins, &parts),
        };
        Seen {
            text: self.text,
            came,
            parts,
            joins: self.joins,
        }
    }
}

struct Draughtsman<'d> {
    rule: &'d str,
    collection: &'d Arc<Collection>,
    facts: &'d Facts<'d>,
    key: &'d Value,
    statements: Vec<Statement>,
}

impl Draughtsman<'_> {
    fn add(&mut self, statement: Statement) -> usize {
        self.statements.push(statement);
        self.statements.len() - 1
    }

    /// Asks whether the document passes; a document that is not stored is not in the filter any more.
    fn ask(&mut self, filter: &Filter) -> usize {
        let statement = match self.facts.document {
            Some(_) => holds(self.collection, filter),
            None => passes(self.collection, self.key.clone(), filter),
        };
        self.add(statement)
    }

    fn draw(&mut self, expr: &Expr) -> Drawn {
        let joins = match &expr.node {
            Node::And(_) => Joins::All,
            Node::Or(_) => Joins::Any,
            Node::Not(_) => Joins::Not,
            Node::If(_) => Joins::If,
            _ => Joins::Nothing,
        };
        // Each part is looked at by itself: what decides before it plays no part.
        let outcome = Evaluator::new(self.collection, self.facts).eval(expr);
        let draft = match outcome {
            Outcome::Known(value) => Draft::Known(value),
            Outcome::Fault => Draft::Fault,
            Outcome::Stored(stored) => self.place(&stored),
            Outcome::Condition(_) if joins != Joins::Nothing => Draft::Parts,
            Outcome::Condition(condition) => Draft::Test(self.ask(&condition.yes), self.ask(&condition.no)),
        };
        Drawn {
            text: expr.span.of(self.rule).to_owned(),
            joins,
            draft,
            parts: self.parts(expr),
        }
    }

    /// The parts that are worth a look. What a macro says of each element is not among them.
    fn parts(&mut self, expr: &Expr) -> Vec<Drawn> {
        let parts: Vec<&Expr> = match &expr.node {
            Node::And(parts) | Node::Or(parts) | Node::Call(_, parts) => parts.iter().collect(),
            Node::If(parts) => parts.iter().collect(),
            Node::Equal { sides: parts, .. } | Node::Binary(_, parts) => parts.iter().collect(),
            Node::Not(inner) | Node::Has(inner) | Node::Negative(inner) | Node::Matches(inner, _) => {
                vec![inner]
            }
            Node::Got { key, .. } => vec![key],
            Node::Macro(_, parts) => vec![&parts[0]],
            Node::Exists(exists) => {
                let linked = exists.link.as_ref().map(|link| Expr {
                    node: Node::Stored(link.stored.clone()),
                    span: link.span,
                });
                let mut drawn: Vec<Drawn> = linked.iter().map(|linked| self.draw(linked)).collect();
                let known = exists.known.iter().map(|(_, part)| part);
                drawn.extend(known.filter(|part| is_telling(part)).map(|part| self.draw(part)));
                return drawn;
            }
            Node::Value(_)
            | Node::Auth
            | Node::AuthPart(_)
            | Node::Now
            | Node::Data(_)
            | Node::DataHas(_)
            | Node::Stored(_)
            | Node::OfCall(_)
            | Node::Element(_)
            | Node::Select(..)
            | Node::Index(..)
            | Node::List(_)
            | Node::Map(_) => Vec::new(),
        };
        let joined = matches!(
            &expr.node,
            Node::And(_) | Node::Or(_) | Node::Not(_) | Node::If(_)
        );
        let telling = parts.into_iter().filter(|part| joined || is_telling(part));
        telling.map(|part| self.draw(part)).collect()
    }

    /// Asks for what is stored.
    fn place(&mut self, stored: &Reference<'_>) -> Draft {
        let hops = stored.hops;
        let (start, target, key) = match &stored.origin {
            Origin::Row => (self.collection, self.collection.primary(), Some(self.key.clone())),
            Origin::At {
                collection,
                target,
                key,
            } => {
                let kind = Kind::of(&collection.fields[*target]);
                (collection, *target, storage(kind, key))
            }
        };
        // No document has such a key.
        let Some(key) = key else {
            return Draft::Known(Val::Null);
        };
        let last = hops.last().map_or(start, |hop| &hop.collection);
        let way: Vec<_> = hops
            .iter()
            .map(|hop| (hop.field, &*hop.collection, hop.target))
            .collect();
        let statement = value_at(&Way {
            collection: start,
            target,
            key,
            hops: &way,
            field: stored.leaf.field,
        });
        Draft::Stored {
            collection: Arc::clone(last),
            field: stored.leaf.field,
            steps: stored.leaf.steps.clone(),
            number: self.add(statement),
        }
    }
}

/// A constant that something is compared with tells nothing that is not written there already.
fn is_telling(expr: &Expr) -> bool {
    !matches!(&expr.node, Node::Value(_) | Node::Element(_))
}
