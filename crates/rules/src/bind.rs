//! Fits a rule to its schema: every name is looked up, and everything that cannot become a filter is refused here,
//! with its place, so that deciding never meets it.

mod access;
mod call;

use std::sync::Arc;

use alyx_core::nearest;
use alyx_schema::{Collection, Schema};

use crate::expr::{CallPart, Expr, Kind, Node, Shape};
use crate::problem::Problem;
use crate::rule::{Action, FileAction};
use crate::stored::storage;
use crate::syntax::{Ast, AstKind, Operator, Span, parse};
use crate::value::{Val, parse_time};

/// A rule that fits, and what it looks at.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) expr: Expr,
    pub(crate) uses_time: bool,
}

/// What a rule decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `doc`: a document.
    Document(Action),
    /// `file`: a row of the table of files. Even of a new one nothing is known when its rule is decided, so that who may
    /// upload nothing is refused before anything is uploaded.
    File(FileAction),
    /// Nothing stored: a function that is to be called.
    Call,
}

impl Subject {
    /// `request.method`.
    fn method(self) -> Node {
        match self {
            Self::Document(action) => Node::Value(Val::Text(action.method().into())),
            Self::File(action) => Node::Value(Val::Text(action.method().into())),
            Self::Call => Node::OfCall(CallPart::Method),
        }
    }

    /// The name of what is decided about, where it is something stored.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Document(_) => Some("doc"),
            Self::File(_) => Some("file"),
            Self::Call => None,
        }
    }
}

/// Reads a rule about documents of the collection, about files, or about calls, which look at no collection of their own.
///
/// Errors: the first thing that is wrong.
pub(crate) fn bind(
    schema: &Schema,
    collection: &Arc<Collection>,
    subject: Subject,
    text: &str,
) -> Result<Bound, Problem> {
    let ast = parse(text)?;
    let mut binder = Binder {
        schema,
        collection,
        subject,
        elements: Vec::new(),
        uses_time: false,
    };
    let part = binder.condition(&ast)?;
    Ok(Bound {
        expr: part.expr,
        uses_time: binder.uses_time,
    })
}

struct Binder<'s> {
    schema: &'s Schema,
    collection: &'s Arc<Collection>,
    subject: Subject,
    /// Variables of the macros around.
    elements: Vec<String>,
    uses_time: bool,
}

/// A part with what is known about it.
struct Part {
    expr: Expr,
    shape: Shape,
    /// Whether it tells of the caller.
    of_caller: bool,
}

type Binding = Result<Part, Problem>;

fn part(node: Node, span: Span, shape: Shape) -> Part {
    Part {
        expr: Expr { node, span },
        shape,
        of_caller: false,
    }
}

fn problem(span: Span, message: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem::new(span, message, hint)
}

/// `did you mean x?`, or what there is.
fn meant<'n>(name: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

impl Binder<'_> {
    fn bind(&mut self, ast: &Ast) -> Binding {
        let span = ast.span;
        match &ast.kind {
            AstKind::Literal(value) => Ok(part(Node::Value(value.clone()), span, Shape::KNOWN)),
            AstKind::Name(name) => self.name(name, span),
            AstKind::Select(..) | AstKind::Index(..) => self.access(ast),
            AstKind::Call { target, name, args } => self.call(ast, target.as_deref(), name, args),
            AstKind::List(parts) => {
                let parts = parts.iter().map(|part| self.known(part, "an element of a list"));
                let parts = parts.collect::<Result<Vec<_>, _>>()?;
                let of_caller = parts.iter().any(|part| part.of_caller);
                let list = Node::List(parts.into_iter().map(|part| part.expr).collect());
                Ok(Part {
                    of_caller,
                    ..part(list, span, Shape::KNOWN)
                })
            }
            AstKind::Map(entries) => {
                let mut members = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let key = self.known(key, "a key")?.expr;
                    members.push((key, self.known(value, "a member")?.expr));
                }
                Ok(part(Node::Map(members), span, Shape::KNOWN))
            }
            AstKind::Not(inner) => {
                let inner = self.condition(inner)?;
                Ok(Part {
                    of_caller: inner.of_caller,
                    ..part(Node::Not(Box::new(inner.expr)), span, truth(inner.shape))
                })
            }
            AstKind::Negative(inner) => {
                let inner = self.known(inner, "what `-` negates")?;
                Ok(part(Node::Negative(Box::new(inner.expr)), span, Shape::KNOWN))
            }
            AstKind::And(parts) => self.joined(parts, span, Node::And),
            AstKind::Or(parts) => self.joined(parts, span, Node::Or),
            AstKind::If(parts) => self.choice(parts, span),
            AstKind::Binary(operator, sides) => self.binary(*operator, sides, span),
        }
    }

    /// A part that must be true or false.
    fn condition(&mut self, ast: &Ast) -> Binding {
        let part = self.bind(ast)?;
        let fits = match (&part.shape, &part.expr.node) {
            (Shape::Stored(kind), _) => matches!(kind, Kind::Truth | Kind::Json),
            (Shape::Known { time }, Node::Value(value)) => !time && matches!(value, Val::Bool(_)),
            (Shape::Known { .. }, Node::List(_) | Node::Map(_)) => false,
            (Shape::Known { time }, _) => !time,
            (Shape::Condition, _) => true,
        };
        if fits {
            return Ok(part);
        }
        Err(problem(
            ast.span,
            "this is neither true nor false",
            "compare it with something, as in `… == 'value'`",
        ))
    }

    /// A part that must be known before anything is looked up.
    fn known(&mut self, ast: &Ast, what: &str) -> Binding {
        let part = self.bind(ast)?;
        if part.shape.is_known() {
            return Ok(part);
        }
        let message = format!("{what} is something stored, which cannot become a filter");
        let hint = "compare stored values as they are with `auth`, `data` and constants; keep what must be computed \
                    in a field of its own";
        Err(problem(ast.span, message, hint))
    }

    fn joined(&mut self, parts: &[Ast], span: Span, join: fn(Vec<Expr>) -> Node) -> Binding {
        let parts = parts
            .iter()
            .map(|part| self.condition(part))
            .collect::<Result<Vec<_>, _>>()?;
        let known = parts.iter().all(|part| part.shape.is_known());
        let of_caller = parts.iter().any(|part| part.of_caller);
        let parts = parts.into_iter().map(|part| part.expr).collect();
        let shape = if known { Shape::KNOWN } else { Shape::Condition };
        Ok(Part {
            of_caller,
            ..part(join(parts), span, shape)
        })
    }

    fn choice(&mut self, parts: &[Ast; 3], span: Span) -> Binding {
        let [condition, yes, no] = parts;
        let condition = self.condition(condition)?;
        let (first, second) = (self.bind(yes)?, self.bind(no)?);
        let shape = match (condition.shape.is_known(), first.shape, second.shape) {
            (true, Shape::Known { time: a }, Shape::Known { time: b }) => Shape::Known { time: a && b },
            (true, Shape::Stored(a), Shape::Stored(b)) if a == b => Shape::Stored(a),
            _ => {
                self.condition(yes)?;
                self.condition(no)?;
                Shape::Condition
            }
        };
        let of_caller = condition.of_caller || first.of_caller || second.of_caller;
        let node = Node::If(Box::new([condition.expr, first.expr, second.expr]));
        Ok(Part {
            of_caller,
            ..part(node, span, shape)
        })
    }

    fn binary(&mut self, operator: Operator, sides: &[Ast; 2], span: Span) -> Binding {
        let [left, right] = sides;
        match operator {
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Remainder => {
                let left = self.known(left, "what is computed with")?;
                let right = self.known(right, "what is computed with")?;
                let time = is_time(&left) != is_time(&right) || (operator == Operator::Add && is_time(&left));
                let of_caller = left.of_caller || right.of_caller;
                let shape = Shape::Known { time };
                Ok(Part {
                    of_caller,
                    ..part(
                        Node::Binary(operator, Box::new([left.expr, right.expr])),
                        span,
                        shape,
                    )
                })
            }
            Operator::In => self.membership(left, right, span),
            Operator::Equal | Operator::NotEqual => self.comparison(operator, (left, right), span),
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                self.comparison(operator, (left, right), span)
            }
        }
    }

    fn comparison(&mut self, operator: Operator, (left, right): (&Ast, &Ast), span: Span) -> Binding {
        let equality = matches!(operator, Operator::Equal | Operator::NotEqual);
        let (mut a, mut b) = (self.bind(left)?, self.bind(right)?);
        self.literal_time(&a.shape.clone(), &mut b, right)?;
        self.literal_time(&b.shape.clone(), &mut a, left)?;
        let shape = match (a.shape, b.shape) {
            (Shape::Known { .. }, Shape::Known { .. }) => Shape::KNOWN,
            (Shape::Stored(kind), Shape::Known { .. }) => {
                self.comparable(kind, equality, (left, &b, right))?
            }
            (Shape::Known { .. }, Shape::Stored(kind)) => {
                self.comparable(kind, equality, (right, &a, left))?
            }
            (Shape::Condition, Shape::Known { .. }) | (Shape::Known { .. }, Shape::Condition) if equality => {
                Shape::Condition
            }
            _ => {
                let hint = "a stored value can be compared with `auth`, `data` and constants; for what must equal \
                            another document's field, follow the reference or use exists('collection', {…})";
                return Err(problem(
                    span,
                    "two stored values are compared, which cannot become a filter",
                    hint,
                ));
            }
        };
        let of_caller = a.of_caller || b.of_caller;
        let is_null = |part: &Part| matches!(&part.expr.node, Node::Value(Val::Null));
        let strict = of_caller && !is_null(&a) && !is_null(&b);
        let sides = Box::new([a.expr, b.expr]);
        let node = if equality {
            let negated = operator == Operator::NotEqual;
            Node::Equal {
                sides,
                negated,
                strict,
            }
        } else {
            Node::Binary(operator, sides)
        };
        Ok(Part {
            of_caller,
            ..part(node, span, shape)
        })
    }

    /// A text that is written where a time belongs is read as one.
    fn literal_time(&self, other: &Shape, part: &mut Part, ast: &Ast) -> Result<(), Problem> {
        let wanted = matches!(other, Shape::Stored(Kind::Time) | Shape::Known { time: true });
        if let (true, Node::Value(Val::Text(text))) = (wanted, &part.expr.node) {
            let hint = "write it as in '2026-01-31T12:00:00Z'";
            let time = parse_time(text).ok_or_else(|| problem(ast.span, "this text is no time", hint))?;
            part.expr.node = Node::Value(Val::Time(time));
        }
        Ok(())
    }

    /// Whether something stored of that kind can be compared with that part.
    fn comparable(
        &self,
        kind: Kind,
        equality: bool,
        (stored, other, at): (&Ast, &Part, &Ast),
    ) -> Result<Shape, Problem> {
        let literal = match &other.expr.node {
            Node::Value(value) => Some(value),
            _ => None,
        };
        let refuse = |span: Span, message: String, hint: &str| Err(problem(span, message, hint));
        if literal.is_some_and(Val::is_null) && equality {
            return Ok(Shape::Condition);
        }
        match kind {
            Kind::Blob => refuse(
                stored.span,
                "bytes can be compared with null only".to_owned(),
                "test `!= null`",
            ),
            Kind::Choice => {
                let hint = "test `'value' in …`";
                refuse(
                    stored.span,
                    "a list of choices is not compared as a whole".to_owned(),
                    hint,
                )
            }
            Kind::Truth if !equality => refuse(
                stored.span,
                "true and false have no order".to_owned(),
                "use == or !=",
            ),
            Kind::Json | Kind::Text | Kind::Number | Kind::Truth | Kind::Time => {
                if let Some(value) = literal
                    && kind != Kind::Json
                    && storage(kind, value).is_none()
                {
                    let message = format!("this never fits: what is stored is {}", kind.word());
                    return refuse(at.span, message, "compare with a value of its type");
                }
                Ok(Shape::Condition)
            }
        }
    }

    fn membership(&mut self, left: &Ast, right: &Ast, span: Span) -> Binding {
        let (a, b) = (self.bind(left)?, self.bind(right)?);
        let shape = match (a.shape, b.shape) {
            (Shape::Known { .. }, Shape::Known { .. }) => Shape::KNOWN,
            (
                Shape::Stored(Kind::Text | Kind::Number | Kind::Truth | Kind::Time | Kind::Json),
                Shape::Known { .. },
            )
            | (Shape::Known { .. }, Shape::Stored(Kind::Json | Kind::Choice)) => Shape::Condition,
            (Shape::Known { .. }, Shape::Stored(kind)) => {
                let message = format!("`in` needs a list, and what is stored is {}", kind.word());
                return Err(problem(right.span, message, "use == or contains()"));
            }
            _ => {
                let hint = "one side of `in` must be known: `auth`, `data` or a constant";
                return Err(problem(
                    span,
                    "both sides are stored, which cannot become a filter",
                    hint,
                ));
            }
        };
        let of_caller = a.of_caller || b.of_caller;
        let node = Node::Binary(Operator::In, Box::new([a.expr, b.expr]));
        Ok(Part {
            of_caller,
            ..part(node, span, shape)
        })
    }
}

fn truth(shape: Shape) -> Shape {
    if shape.is_known() {
        Shape::KNOWN
    } else {
        Shape::Condition
    }
}

fn is_time(part: &Part) -> bool {
    part.shape == Shape::TIME
}
