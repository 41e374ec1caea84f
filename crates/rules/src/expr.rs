//! A rule that fits its schema: names are gone, what is stored is positions of fields.

use std::sync::Arc;

use alyx_query::JsonPath;
use alyx_schema::{Collection, Field, FieldType};
use regex::Regex;

use crate::syntax::{Operator, Span};
use crate::value::{Val, is_choice};

/// One part of a rule.
#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub(crate) node: Node,
    pub(crate) span: Span,
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Value(Val),
    /// The caller's account as a whole.
    Auth,
    AuthPart(AuthPart),
    Now,
    /// The incoming value of a field.
    Data(usize),
    /// Whether a value comes in for the field.
    DataHas(usize),
    /// What is stored in this document or in one that it refers to.
    Stored(Stored),
    /// The same in the document of another collection with that key.
    Got {
        collection: Arc<Collection>,
        key: Box<Expr>,
        stored: Stored,
    },
    Exists(Box<ExistsExpr>),
    /// What the call of a function brings.
    OfCall(CallPart),
    /// An element of a list, numbered from the outermost macro on.
    Element(usize),
    Select(Box<Expr>, Arc<str>),
    Index(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    If(Box<[Expr; 3]>),
    /// `strict`: null does not equal null, since one side tells of the caller.
    Equal {
        sides: Box<[Expr; 2]>,
        negated: bool,
        strict: bool,
    },
    Binary(Operator, Box<[Expr; 2]>),
    Has(Box<Expr>),
    Call(Function, Vec<Expr>),
    Matches(Box<Expr>, Arc<Regex>),
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    Macro(Macro, Box<[Expr; 2]>),
}

impl Expr {
    /// Whether it or one of its parts is such a node.
    pub(crate) fn any(&self, test: &impl Fn(&Node) -> bool) -> bool {
        let each = |parts: &[Self]| parts.iter().any(|part| part.any(test));
        test(&self.node)
            || match &self.node {
                Node::Value(_)
                | Node::Auth
                | Node::AuthPart(_)
                | Node::Now
                | Node::Data(_)
                | Node::DataHas(_)
                | Node::Stored(_)
                | Node::OfCall(_)
                | Node::Element(_) => false,
                Node::Got { key: inner, .. }
                | Node::Select(inner, _)
                | Node::Not(inner)
                | Node::Negative(inner)
                | Node::Has(inner)
                | Node::Matches(inner, _) => inner.any(test),
                Node::Exists(exists) => exists.known.iter().any(|(_, part)| part.any(test)),
                Node::Index(inner, index) => inner.any(test) || index.any(test),
                Node::And(parts) | Node::Or(parts) | Node::List(parts) | Node::Call(_, parts) => each(parts),
                Node::If(parts) => each(parts.as_slice()),
                Node::Equal { sides: parts, .. } | Node::Binary(_, parts) | Node::Macro(_, parts) => {
                    each(parts.as_slice())
                }
                Node::Map(entries) => entries
                    .iter()
                    .any(|(key, value)| key.any(test) || value.any(test)),
            }
    }
}

/// What rules see of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthPart {
    Id,
    Email,
    Verified,
    Role,
    Metadata,
}

impl AuthPart {
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("id", Self::Id),
        ("email", Self::Email),
        ("verified", Self::Verified),
        ("role", Self::Role),
        ("metadata", Self::Metadata),
    ];
}

/// What rules see of the call of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallPart {
    Input,
    Method,
}

/// Functions of values that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Size,
    StartsWith,
    EndsWith,
    Contains,
    LowerAscii,
    UpperAscii,
    Int,
    Double,
    Text,
    Timestamp,
    Duration,
}

impl Function {
    /// Name, function, whether it is called on its first argument, and the number of arguments.
    pub(crate) const ALL: [(&'static str, Self, Style, usize); 11] = [
        ("size", Self::Size, Style::Either, 1),
        ("startsWith", Self::StartsWith, Style::Method, 2),
        ("endsWith", Self::EndsWith, Style::Method, 2),
        ("contains", Self::Contains, Style::Method, 2),
        ("lowerAscii", Self::LowerAscii, Style::Method, 1),
        ("upperAscii", Self::UpperAscii, Style::Method, 1),
        ("int", Self::Int, Style::Global, 1),
        ("double", Self::Double, Style::Global, 1),
        ("string", Self::Text, Style::Global, 1),
        ("timestamp", Self::Timestamp, Style::Global, 1),
        ("duration", Self::Duration, Style::Global, 1),
    ];
}

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `f(x)`
    Global,
    /// `x.f()`
    Method,
    Either,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Macro {
    Exists,
    All,
    ExistsOne,
    Filter,
    Map,
}

impl Macro {
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("exists", Self::Exists),
        ("all", Self::All),
        ("exists_one", Self::ExistsOne),
        ("filter", Self::Filter),
        ("map", Self::Map),
    ];
}

/// `exists('members', {'team_id': doc.team_id, 'user_id': auth.id})`.
#[derive(Debug, Clone)]
pub(crate) struct ExistsExpr {
    pub(crate) collection: Arc<Collection>,
    /// The stored value that a field must equal.
    pub(crate) link: Option<Link>,
    /// The known values that fields must equal.
    pub(crate) known: Vec<(usize, Expr)>,
}

/// The stored value that a field of `exists()` must equal.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) stored: Stored,
    /// The field of the other collection.
    pub(crate) field: usize,
    /// Where the value stands in the rule.
    pub(crate) span: Span,
}

/// The way to a stored value.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// References to follow first.
    pub(crate) hops: Vec<Hop>,
    pub(crate) leaf: Leaf,
}

/// From a document to the one that it refers to.
#[derive(Debug, Clone)]
pub(crate) struct Hop {
    pub(crate) field: usize,
    pub(crate) collection: Arc<Collection>,
    pub(crate) target: usize,
}

/// A field of the last document on the way, or a place inside it.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) field: usize,
    pub(crate) kind: Kind,
    /// Inside a json field; the root of one that is meant as a whole.
    pub(crate) path: Arc<JsonPath>,
    /// Steps of the path, for values that are known.
    pub(crate) steps: Vec<Val>,
    /// Whether null can be stored.
    pub(crate) nullable: bool,
}

/// What a stored value can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Truth,
    Time,
    Json,
    /// Several of some texts.
    Choice,
    Blob,
}

impl Kind {
    pub(crate) fn of(field: &Field) -> Self {
        match field.kind {
            FieldType::Select if is_choice(field) => Self::Choice,
            FieldType::Uuid
            | FieldType::String
            | FieldType::Text
            | FieldType::Email
            | FieldType::Url
            | FieldType::Date
            | FieldType::Select
            | FieldType::RichText
            | FieldType::File
            | FieldType::Id => Self::Text,
            FieldType::Int | FieldType::Float => Self::Number,
            FieldType::Bool => Self::Truth,
            FieldType::Timestamp => Self::Time,
            FieldType::Json => Self::Json,
            FieldType::Blob => Self::Blob,
        }
    }

    /// In the words of an error.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "a number",
            Self::Truth => "true or false",
            Self::Time => "a time",
            Self::Json => "json",
            Self::Choice => "a list of choices",
            Self::Blob => "bytes",
        }
    }
}

/// What a part of a rule is once the caller is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A value; a time for certain where `time`.
    Known { time: bool },
    /// Something stored.
    Stored(Kind),
    /// A condition on what is stored.
    Condition,
}

impl Shape {
    pub(crate) const KNOWN: Self = Self::Known { time: false };
    pub(crate) const TIME: Self = Self::Known { time: true };

    pub(crate) fn is_known(self) -> bool {
        matches!(self, Self::Known { .. })
    }
}
