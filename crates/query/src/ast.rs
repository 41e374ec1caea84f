//! The checked query. Field names are gone: only positions of the collection's fields remain, so nothing a
//! caller wrote can become SQL text.

use std::sync::Arc;

use alyx_core::Value;
use alyx_schema::Collection;

/// A filter with SQL's three-valued logic: a row is in the result only where the filter is true.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Every one is true. Empty: true.
    And(Vec<Filter>),
    /// At least one is true. Empty: false.
    Or(Vec<Filter>),
    /// The opposite; unknown stays unknown.
    Not(Box<Filter>),
    /// `field op value`. The value has the field's storage type and is never null.
    Compare {
        field: usize,
        op: CompareOp,
        value: Value,
    },
    /// `field IN (values)`. Values have the field's storage type, are sorted, without duplicates or nulls.
    In { field: usize, values: Vec<Value> },
    /// SQL `LIKE`: `%` any run, `_` one character, ASCII letters match in either case, no escape character.
    Like { field: usize, pattern: Arc<str> },
    /// The text has that part (case-sensitive). Text types only.
    Contains { field: usize, needle: Arc<str> },
    /// A json array with that element, a json object with that key, or a json string with that part.
    JsonContains { field: usize, needle: JsonNeedle },
    /// `field IS NULL`.
    IsNull { field: usize },
}

impl Filter {
    /// The filter that every row passes.
    pub const TRUE: Self = Self::And(Vec::new());

    /// The filter that no row passes.
    pub const FALSE: Self = Self::Or(Vec::new());

    /// Whether every row passes.
    pub fn is_true(&self) -> bool {
        matches!(self, Self::And(parts) if parts.is_empty())
    }
}

/// What [`Filter::JsonContains`] looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonNeedle {
    /// A string: an array's element, an object's key, or a part of a string.
    Text(Arc<str>),
    /// A number in its shortest JSON spelling: an array's element.
    Number(Arc<str>),
    /// An array's element.
    Bool(bool),
}

/// Comparison operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `=`
    Eq,
    /// `<>`
    Ne,
    /// `>`
    Gt,
    /// `>=`
    Gte,
    /// `<`
    Lt,
    /// `<=`
    Lte,
}

/// One key of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SortKey {
    /// Position of the field.
    pub field: usize,
    /// Greatest first.
    pub descending: bool,
}

/// A checked query over one collection.
#[derive(Debug, Clone)]
pub struct Query {
    /// The collection.
    pub collection: Arc<Collection>,
    /// Which rows.
    pub filter: Filter,
    /// In which order. Always total: the primary field is the last key, in the direction of the key before it
    /// (ascending where there is none).
    pub sort: Vec<SortKey>,
    /// At most this many rows (0 to 1000).
    pub limit: u32,
    /// Rows to leave out first.
    pub offset: u64,
    /// Positions of the fields to return, in order of declaration; `None`: all that are not internal.
    pub fields: Option<Vec<usize>>,
}
