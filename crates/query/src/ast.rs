//! The checked query. Field names are gone: only positions of the collection's fields remain, so nothing a
//! caller wrote can become SQL text.

use std::sync::Arc;

use alyx_core::Value;
use alyx_schema::Collection;

use crate::json_path::JsonPath;

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
    /// The text ends with that part (case-sensitive). Text types only.
    EndsWith { field: usize, needle: Arc<str> },
    /// What a json field holds at a path, compared with a value of one type. Where there is nothing, null, or a
    /// value of another type, the result is unknown.
    Path {
        field: usize,
        path: Arc<JsonPath>,
        test: PathTest,
    },
    /// One of the fields has that part, ASCII letters in either case; other values than text as SQLite writes them.
    /// Never unknown.
    Mentions { fields: Vec<usize>, text: Arc<str> },
    /// The collection's full-text index has the row for this FTS5 expression. Only the database can tell.
    Found { expression: Arc<str> },
    /// A filter over the document that the field refers to; where there is none, over a row of nulls.
    Through(Box<Through>),
    /// Another collection has such a document. Never unknown.
    Exists(Box<Exists>),
    /// The filter within is false or unknown. Never unknown.
    Untrue(Box<Filter>),
    /// `field IS NULL`.
    IsNull { field: usize },
}

/// See [`Filter::Exists`].
#[derive(Debug, Clone)]
pub struct Exists {
    /// The field of the row whose value the document has in `target`; false where that is null. `None`: any document
    /// that passes the filter will do, whatever the row is.
    pub field: Option<usize>,
    /// Where the document is looked for.
    pub collection: Arc<Collection>,
    /// See `field`.
    pub target: usize,
    /// What the document passes.
    pub filter: Filter,
}

/// As for [`Through`].
impl PartialEq for Exists {
    fn eq(&self, other: &Self) -> bool {
        self.field == other.field
            && self.target == other.target
            && self.collection.name == other.collection.name
            && self.filter == other.filter
    }
}

/// See [`Filter::Through`].
#[derive(Debug, Clone)]
pub struct Through {
    /// The field that refers.
    pub field: usize,
    /// Whose documents it refers to.
    pub collection: Arc<Collection>,
    /// The field that it refers to: the primary one or a unique one.
    pub target: usize,
    /// What must hold for the document that is referred to.
    pub filter: Filter,
}

/// Collections are the same where their names are: filters are compared within one revision of the schema only.
impl PartialEq for Through {
    fn eq(&self, other: &Self) -> bool {
        self.field == other.field
            && self.target == other.target
            && self.collection.name == other.collection.name
            && self.filter == other.filter
    }
}

/// What [`Filter::Path`] asks about the value at a path.
#[derive(Debug, Clone, PartialEq)]
pub enum PathTest {
    /// There is a value, and it is not null. Never unknown.
    Exists,
    /// It is that truth value; unknown unless it is one.
    Bool(bool),
    /// It is a number that stands so to that one, which is in its shortest JSON spelling.
    Number { op: CompareOp, number: Arc<str> },
    /// It is a string that stands so to that one, by bytes.
    Text { op: CompareOp, text: Arc<str> },
    /// It is one of the strings, which are sorted and without duplicates.
    TextIn(Vec<Arc<str>>),
    /// It is a string that matches the pattern, as in [`Filter::Like`].
    Like(Arc<str>),
    /// It is a string with that end.
    EndsWith(Arc<str>),
    /// As [`Filter::JsonContains`], about the value at the path.
    Contains(JsonNeedle),
    /// It is an array with that element or an object with that key; unknown unless it is one of the two.
    Holds(JsonNeedle),
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

    /// Whether a row alone decides. Otherwise [`Filter::eval`] says nothing about it: only the database can.
    pub fn is_local(&self) -> bool {
        !self.any(&|part| matches!(part, Self::Through(_) | Self::Exists(_) | Self::Found { .. }))
    }

    /// Whether it follows a reference to such a collection.
    pub fn reaches(&self, wanted: &impl Fn(&Collection) -> bool) -> bool {
        self.any(&|part| matches!(part, Self::Through(through) if wanted(&through.collection)))
    }

    /// Whether a part of it, itself included, is such a one; also within what references lead to.
    fn any(&self, wanted: &impl Fn(&Self) -> bool) -> bool {
        if wanted(self) {
            return true;
        }
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().any(|part| part.any(wanted)),
            Self::Not(inner) | Self::Untrue(inner) => inner.any(wanted),
            Self::Through(through) => through.filter.any(wanted),
            Self::Exists(exists) => exists.filter.any(wanted),
            Self::Compare { .. }
            | Self::In { .. }
            | Self::Like { .. }
            | Self::Contains { .. }
            | Self::JsonContains { .. }
            | Self::EndsWith { .. }
            | Self::Path { .. }
            | Self::Mentions { .. }
            | Self::Found { .. }
            | Self::IsNull { .. } => false,
        }
    }

    /// Positions of the row's own fields that the filter looks at, each once.
    pub fn fields(&self) -> Vec<usize> {
        let mut fields = Vec::new();
        self.note_fields(&mut fields);
        fields
    }

    fn note_fields(&self, fields: &mut Vec<usize>) {
        let named = match self {
            Self::And(parts) | Self::Or(parts) => {
                return parts.iter().for_each(|part| part.note_fields(fields));
            }
            Self::Not(inner) | Self::Untrue(inner) => return inner.note_fields(fields),
            Self::Exists(exists) => exists.field.as_slice(),
            Self::Mentions { fields, .. } => fields,
            Self::Found { .. } => return,
            Self::Through(through) => std::slice::from_ref(&through.field),
            Self::Compare { field, .. }
            | Self::In { field, .. }
            | Self::Like { field, .. }
            | Self::Contains { field, .. }
            | Self::JsonContains { field, .. }
            | Self::EndsWith { field, .. }
            | Self::Path { field, .. }
            | Self::IsNull { field } => std::slice::from_ref(field),
        };
        for field in named {
            if !fields.contains(field) {
                fields.push(*field);
            }
        }
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
