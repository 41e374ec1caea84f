//! The text of a rule as a tree: the grammar of CEL (<https://github.com/google/cel-spec/blob/master/doc/langdef.md>)
//! without what rules have no use for (bytes, messages, optional values).
//!
//! **Invariant:** a tree is never deeper than [`MAX_DEPTH`], so whoever walks it may recurse; reading it recurses no
//! deeper than twice that, whatever the text is.

mod lexer;
mod parser;

use crate::value::Val;

pub(crate) use parser::parse;

/// Longest text of a rule, in bytes.
pub(crate) const MAX_LENGTH: usize = 2048;
/// Parts of a rule at most.
pub(crate) const MAX_NODES: usize = 400;
/// Parts within parts.
pub(crate) const MAX_DEPTH: usize = 32;

/// A stretch of a rule's text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Where it begins.
    pub start: usize,
    /// Where what comes after it begins.
    pub end: usize,
}

impl Span {
    /// The stretch of `text`.
    pub fn of(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// One part of a rule.
#[derive(Debug, Clone)]
pub(crate) struct Ast {
    pub(crate) kind: AstKind,
    pub(crate) span: Span,
    pub(crate) depth: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum AstKind {
    Literal(Val),
    Name(String),
    Select(Box<Ast>, String),
    Index(Box<Ast>, Box<Ast>),
    Call {
        target: Option<Box<Ast>>,
        name: String,
        args: Vec<Ast>,
    },
    List(Vec<Ast>),
    Map(Vec<(Ast, Ast)>),
    Not(Box<Ast>),
    Negative(Box<Ast>),
    /// Two at least, none of them an `And`.
    And(Vec<Ast>),
    /// Two at least, none of them an `Or`.
    Or(Vec<Ast>),
    If(Box<[Ast; 3]>),
    Binary(Operator, Box<[Ast; 2]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}
