//! Tokens to a tree, by recursive descent.

use crate::problem::Problem;

use super::lexer::{Token, tokens};
use super::{Ast, AstKind, MAX_DEPTH, MAX_LENGTH, MAX_NODES, Operator, Span};

/// Reads a rule.
///
/// Errors: the first thing that is wrong, with its place.
pub(crate) fn parse(text: &str) -> Result<Ast, Problem> {
    if text.len() > MAX_LENGTH {
        let message = format!("the rule is longer than {MAX_LENGTH} bytes");
        return Err(Problem::new(
            Span::default(),
            message,
            "split it, or move it into the data",
        ));
    }
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        nodes: 0,
        open: 0,
    };
    let ast = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(ast),
        _ => Err(parser.unexpected("an operator, or the end")),
    }
}

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    nodes: usize,
    /// Expressions within expressions that are being read.
    open: usize,
}

type Parsed = Result<Ast, Problem>;

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn span(&self) -> Span {
        self.tokens[self.at].1
    }

    /// The last token is the end, and stays.
    fn advance(&mut self) -> (Token, Span) {
        let token = self.tokens[self.at].clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<Span, Problem> {
        let span = self.span();
        if self.take(sign) {
            return Ok(span);
        }
        Err(self.unexpected(&format!("`{sign}`")))
    }

    fn unexpected(&self, wanted: &str) -> Problem {
        let found = match self.peek() {
            Token::End => "the rule ends".to_owned(),
            Token::Name(name) => format!("`{name}` stands"),
            Token::Literal(_) => "a value stands".to_owned(),
            Token::Sign(sign) => format!("`{sign}` stands"),
        };
        let message = format!("{found} where {wanted} should come");
        Problem::new(
            self.span(),
            message,
            "check the parentheses and operators before it",
        )
    }

    fn node(&mut self, kind: AstKind, span: Span) -> Parsed {
        self.nodes += 1;
        let deepest = match &kind {
            AstKind::Literal(_) | AstKind::Name(_) => 0,
            AstKind::Select(inner, _) | AstKind::Not(inner) | AstKind::Negative(inner) => inner.depth,
            AstKind::Index(inner, index) => inner.depth.max(index.depth),
            AstKind::Call { target, args, .. } => {
                let target = target.as_ref().map_or(0, |target| target.depth);
                target.max(deepest(args))
            }
            AstKind::List(parts) | AstKind::And(parts) | AstKind::Or(parts) => deepest(parts),
            AstKind::Map(entries) => {
                let depths = entries.iter().map(|(key, value)| key.depth.max(value.depth));
                depths.max().unwrap_or(0)
            }
            AstKind::If(parts) => deepest(parts.as_slice()),
            AstKind::Binary(_, parts) => deepest(parts.as_slice()),
        };
        let depth = deepest + 1;
        if depth > MAX_DEPTH {
            return Err(too_deep(span));
        }
        if self.nodes > MAX_NODES {
            let message = format!("the rule has more than {MAX_NODES} parts");
            return Err(Problem::new(span, message, "split it, or move it into the data"));
        }
        Ok(Ast { kind, span, depth })
    }

    fn expression(&mut self) -> Parsed {
        self.open += 1;
        if self.open > MAX_DEPTH {
            return Err(too_deep(self.span()));
        }
        let condition = self.either()?;
        let ast = if self.take("?") {
            let yes = self.either()?;
            self.expect(":")?;
            let no = self.expression()?;
            let span = between(&condition, &no);
            self.node(AstKind::If(Box::new([condition, yes, no])), span)?
        } else {
            condition
        };
        self.open -= 1;
        Ok(ast)
    }

    fn either(&mut self) -> Parsed {
        self.joined("||", Self::both, AstKind::Or)
    }

    fn both(&mut self) -> Parsed {
        self.joined("&&", Self::relation, AstKind::And)
    }

    fn joined(&mut self, sign: &str, part: fn(&mut Self) -> Parsed, join: fn(Vec<Ast>) -> AstKind) -> Parsed {
        let first = part(self)?;
        let mut parts = vec![first];
        while self.take(sign) {
            parts.push(part(self)?);
        }
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let span = between(&parts[0], &parts[parts.len() - 1]);
        self.node(join(parts), span)
    }

    fn relation(&mut self) -> Parsed {
        const RELATIONS: [(&str, Operator); 7] = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
            ("in", Operator::In),
        ];
        self.binary(&RELATIONS, Self::sum)
    }

    fn sum(&mut self) -> Parsed {
        self.binary(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::product)
    }

    fn product(&mut self) -> Parsed {
        const PRODUCTS: [(&str, Operator); 3] = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("%", Operator::Remainder),
        ];
        self.binary(&PRODUCTS, Self::unary)
    }

    fn binary(&mut self, operators: &[(&str, Operator)], part: fn(&mut Self) -> Parsed) -> Parsed {
        let mut left = part(self)?;
        loop {
            let found = operators.iter().find(|(sign, _)| self.take(sign));
            let Some((_, operator)) = found else {
                return Ok(left);
            };
            let right = part(self)?;
            let span = between(&left, &right);
            left = self.node(AstKind::Binary(*operator, Box::new([left, right])), span)?;
        }
    }

    fn unary(&mut self) -> Parsed {
        let mut signs = Vec::new();
        loop {
            let span = self.span();
            let negates = self.take("!");
            if !negates && !self.take("-") {
                break;
            }
            signs.push((negates, span));
            if signs.len() > MAX_DEPTH {
                return Err(too_deep(span));
            }
        }
        let mut ast = self.member()?;
        for (negates, span) in signs.into_iter().rev() {
            let span = Span {
                end: ast.span.end,
                ..span
            };
            let inner = Box::new(ast);
            let kind = if negates {
                AstKind::Not(inner)
            } else {
                AstKind::Negative(inner)
            };
            ast = self.node(kind, span)?;
        }
        Ok(ast)
    }

    fn member(&mut self) -> Parsed {
        let mut ast = self.primary()?;
        loop {
            if self.take(".") {
                let span = self.span();
                let Token::Name(name) = self.peek().clone() else {
                    return Err(self.unexpected("a name"));
                };
                self.advance();
                let whole = Span {
                    start: ast.span.start,
                    end: span.end,
                };
                ast = if self.take("(") {
                    let (args, end) = self.list(")")?;
                    let target = Some(Box::new(ast));
                    self.node(AstKind::Call { target, name, args }, Span { end, ..whole })?
                } else {
                    self.node(AstKind::Select(Box::new(ast), name), whole)?
                };
            } else if self.take("[") {
                let index = self.expression()?;
                let end = self.expect("]")?.end;
                let span = Span {
                    start: ast.span.start,
                    end,
                };
                ast = self.node(AstKind::Index(Box::new(ast), Box::new(index)), span)?;
            } else {
                return Ok(ast);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let span = self.span();
        match self.peek().clone() {
            Token::Literal(value) => {
                self.advance();
                self.node(AstKind::Literal(value), span)
            }
            Token::Name(name) => {
                self.advance();
                if !self.take("(") {
                    return self.node(AstKind::Name(name), span);
                }
                let (args, end) = self.list(")")?;
                let target = None;
                self.node(AstKind::Call { target, name, args }, Span { end, ..span })
            }
            Token::Sign("(") => {
                self.advance();
                let mut ast = self.expression()?;
                let end = self.expect(")")?.end;
                ast.span = Span { end, ..span };
                Ok(ast)
            }
            Token::Sign("[") => {
                self.advance();
                let (parts, end) = self.list("]")?;
                self.node(AstKind::List(parts), Span { end, ..span })
            }
            Token::Sign("{") => {
                self.advance();
                self.map(span)
            }
            Token::Sign(_) | Token::End => Err(self.unexpected("a value")),
        }
    }

    fn list(&mut self, close: &'static str) -> Result<(Vec<Ast>, usize), Problem> {
        let mut parts = Vec::new();
        loop {
            let end = self.span().end;
            if self.take(close) {
                return Ok((parts, end));
            }
            parts.push(self.expression()?);
            if !self.take(",") {
                let end = self.expect(close)?.end;
                return Ok((parts, end));
            }
        }
    }

    fn map(&mut self, span: Span) -> Parsed {
        let mut entries = Vec::new();
        loop {
            let mut end = self.span().end;
            if !self.take("}") {
                let key = self.expression()?;
                self.expect(":")?;
                entries.push((key, self.expression()?));
                if self.take(",") {
                    continue;
                }
                end = self.expect("}")?.end;
            }
            return self.node(AstKind::Map(entries), Span { end, ..span });
        }
    }
}

fn deepest(parts: &[Ast]) -> usize {
    parts.iter().map(|part| part.depth).max().unwrap_or(0)
}

fn between(first: &Ast, last: &Ast) -> Span {
    Span {
        start: first.span.start,
        end: last.span.end,
    }
}

fn too_deep(span: Span) -> Problem {
    let message = format!("the rule is nested deeper than {MAX_DEPTH} levels");
    Problem::new(
        span,
        message,
        "write it flatter: `a && b && c` needs no parentheses",
    )
}
