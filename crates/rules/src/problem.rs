//! What is wrong with a rule.

use std::fmt;

use crate::syntax::Span;

/// One thing that is wrong with a rule, and where in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The part that it is about.
    pub span: Span,
    /// What is wrong, as a sentence.
    pub message: String,
    /// How to put it right.
    pub hint: String,
}

impl Problem {
    pub(crate) fn new(span: Span, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.hint)
    }
}

impl std::error::Error for Problem {}
