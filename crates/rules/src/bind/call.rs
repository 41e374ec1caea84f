//! Functions and macros.

use std::sync::Arc;

use regex::RegexBuilder;

use super::access::{INPUT, NAMES};
use super::{Binder, Binding, Part, Subject, meant, part, problem};
use crate::expr::{ExistsExpr, Function, Kind, Link, Macro, Node, Shape, Style};
use crate::problem::Problem;
use crate::syntax::{Ast, AstKind, Span};
use crate::value::Val;

/// Macros within macros.
const MAX_MACROS: usize = 2;
/// Memory of a compiled pattern, in bytes.
const MAX_PATTERN: usize = 1 << 18;

impl Binder<'_> {
    pub(super) fn call(&mut self, ast: &Ast, target: Option<&Ast>, name: &str, args: &[Ast]) -> Binding {
        let span = ast.span;
        if let Some(target) = target
            && let Some((_, kind)) = Macro::ALL.into_iter().find(|(known, _)| *known == name)
        {
            return self.comprehension(kind, name, (target, args), span);
        }
        match (target, name) {
            (None, "has") => self.has(args, span),
            (None, "get") => self.got_alone(ast, args),
            (None, "exists") => self.exists(args, span),
            (Some(target), "matches") => self.matches(target, args, span),
            _ => self.function(target, name, args, span),
        }
    }

    fn function(&mut self, target: Option<&Ast>, name: &str, args: &[Ast], span: Span) -> Binding {
        let found = Function::ALL.into_iter().find(|(known, ..)| *known == name);
        let Some((_, function, style, count)) = found else {
            let special = ["has", "get", "exists", "matches"];
            let known = Function::ALL.iter().map(|(name, ..)| *name).chain(special);
            let known = known.chain(Macro::ALL.iter().map(|(name, _)| *name));
            return Err(problem(
                span,
                format!("there is no function `{name}`"),
                meant(name, known),
            ));
        };
        let fits = match style {
            Style::Either => true,
            Style::Global => target.is_none(),
            Style::Method => target.is_some(),
        };
        let all: Vec<&Ast> = target.into_iter().chain(args).collect();
        if !fits || all.len() != count {
            let hint = match (style, count) {
                (Style::Global | Style::Either, _) => format!("write {name}(value)"),
                (Style::Method, 1) => format!("write value.{name}()"),
                (Style::Method, _) => format!("write value.{name}('text')"),
            };
            return Err(problem(span, format!("`{name}` is not called like this"), hint));
        }
        let of_stored = matches!(
            function,
            Function::StartsWith | Function::EndsWith | Function::Contains
        );
        let first = self.bind(all[0])?;
        let shape = match first.shape {
            Shape::Stored(Kind::Text | Kind::Json) if of_stored => Shape::Condition,
            Shape::Known { .. } if matches!(function, Function::Timestamp) => Shape::TIME,
            Shape::Known { .. } => Shape::KNOWN,
            Shape::Stored(_) | Shape::Condition => {
                self.known(all[0], &format!("what {name}() is called on"))?;
                Shape::KNOWN
            }
        };
        let mut of_caller = first.of_caller;
        let mut values = vec![first.expr];
        for ast in &all[1..] {
            let part = self.known(ast, &format!("what {name}() looks for"))?;
            of_caller |= part.of_caller;
            values.push(part.expr);
        }
        Ok(Part {
            of_caller,
            ..part(Node::Call(function, values), span, shape)
        })
    }

    fn matches(&mut self, target: &Ast, args: &[Ast], span: Span) -> Binding {
        let [
            Ast {
                kind: AstKind::Literal(Val::Text(pattern)),
                span: at,
                ..
            },
        ] = args
        else {
            let hint = "write value.matches('pattern')";
            return Err(problem(
                span,
                "matches() takes one pattern, which must be constant",
                hint,
            ));
        };
        let regex = RegexBuilder::new(pattern).size_limit(MAX_PATTERN).build();
        let regex = regex.map_err(|error| {
            let first = error
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .trim()
                .to_owned();
            problem(
                *at,
                format!("the pattern cannot be used: {first}"),
                "patterns are written as in RE2",
            )
        })?;
        let target = self.known(target, "what matches() is called on")?;
        let node = Node::Matches(Box::new(target.expr), Arc::new(regex));
        Ok(Part {
            of_caller: target.of_caller,
            ..part(node, span, Shape::KNOWN)
        })
    }

    fn has(&mut self, args: &[Ast], span: Span) -> Binding {
        let [ast] = args else {
            return Err(problem(span, "has() takes one field", "write has(doc.field)"));
        };
        if !matches!(ast.kind, AstKind::Select(..) | AstKind::Index(..)) {
            return Err(problem(
                ast.span,
                "has() takes a member of something",
                "write has(doc.field)",
            ));
        }
        if let Some(found) = self.data_has(ast) {
            return found.map(|found| Part {
                expr: crate::expr::Expr { span, ..found.expr },
                ..found
            });
        }
        let inner = self.bind(ast)?;
        let shape = if inner.shape.is_known() {
            Shape::KNOWN
        } else {
            Shape::Condition
        };
        Ok(Part {
            of_caller: inner.of_caller,
            ..part(Node::Has(Box::new(inner.expr)), span, shape)
        })
    }

    fn exists(&mut self, args: &[Ast], span: Span) -> Binding {
        let [
            name,
            Ast {
                kind: AstKind::Map(members),
                ..
            },
        ] = args
        else {
            let hint = "write exists('members', {'team_id': doc.team_id, 'user_id': auth.id})";
            return Err(problem(
                span,
                "exists() takes a collection and the values of its fields",
                hint,
            ));
        };
        let collection = self.collection_of(name)?;
        let mut found = ExistsExpr {
            link: None,
            known: Vec::new(),
            collection: Arc::clone(&collection),
        };
        if members.is_empty() {
            return Err(problem(
                span,
                "exists() needs a field at least",
                "say which document is meant",
            ));
        }
        for (key, value) in members {
            let AstKind::Literal(Val::Text(field)) = &key.kind else {
                return Err(problem(
                    key.span,
                    "a field is named by a constant text",
                    "write its name in quotes",
                ));
            };
            let (position, field) = self.field(&collection, field, key.span)?;
            self.add_condition(&mut found, (position, Kind::of(field)), value)?;
        }
        Ok(part(Node::Exists(Box::new(found)), span, Shape::Condition))
    }

    fn add_condition(
        &mut self,
        found: &mut ExistsExpr,
        (position, kind): (usize, Kind),
        value: &Ast,
    ) -> Result<(), Problem> {
        if !matches!(kind, Kind::Text | Kind::Number | Kind::Truth | Kind::Time) {
            let message = format!(
                "a field of exists() is compared as a whole, and this one is {}",
                kind.word()
            );
            return Err(problem(
                value.span,
                message,
                "name fields of text, numbers, times or truth values",
            ));
        }
        let part = self.bind(value)?;
        match (part.shape, part.expr.node) {
            (Shape::Known { .. }, node) => {
                let expr = crate::expr::Expr {
                    node,
                    span: value.span,
                };
                found.known.push((position, expr));
                Ok(())
            }
            (Shape::Stored(Kind::Text | Kind::Number), Node::Stored(stored)) if found.link.is_none() => {
                found.link = Some(Link {
                    stored,
                    field: position,
                    span: value.span,
                });
                Ok(())
            }
            (Shape::Stored(_), Node::Stored(_)) if found.link.is_some() => {
                let hint = "one of them can be stored, the others must be known: `auth`, `data` or constants";
                Err(problem(value.span, "exists() compares two stored values", hint))
            }
            _ => {
                let hint = "use a field that holds text or a number, `auth`, `data` or a constant";
                Err(problem(value.span, "exists() cannot compare with this", hint))
            }
        }
    }

    fn comprehension(
        &mut self,
        kind: Macro,
        name: &str,
        (target, args): (&Ast, &[Ast]),
        span: Span,
    ) -> Binding {
        let [
            Ast {
                kind: AstKind::Name(variable),
                ..
            },
            body,
        ] = args
        else {
            let hint = format!("write list.{name}(x, condition about x)");
            return Err(problem(
                span,
                format!("{name}() takes a name and what is said about it"),
                hint,
            ));
        };
        if self.elements.len() == MAX_MACROS {
            let message = format!("more than {MAX_MACROS} macros are nested");
            return Err(problem(
                span,
                message,
                "each one multiplies the work: flatten the data",
            ));
        }
        let of_call = self.subject == Subject::Call && variable == INPUT;
        if of_call || NAMES.contains(&variable.as_str()) {
            let message = format!("`{variable}` has a meaning of its own");
            return Err(problem(
                args[0].span,
                message,
                "give the element of the list another name",
            ));
        }
        let range = self.known(target, &format!("the list of {name}()"))?;
        self.elements.push(variable.clone());
        let body = match kind {
            Macro::Exists | Macro::All => self.condition(body),
            Macro::ExistsOne | Macro::Filter | Macro::Map => self.known(body, &format!("what {name}() says")),
        };
        self.elements.pop();
        let body = body?;
        let shape = if body.shape.is_known() {
            Shape::KNOWN
        } else {
            Shape::Condition
        };
        let of_caller = range.of_caller || body.of_caller;
        Ok(Part {
            of_caller,
            ..part(Node::Macro(kind, Box::new([range.expr, body.expr])), span, shape)
        })
    }
}
