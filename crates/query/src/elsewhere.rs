//! The parts of a filter that ask about other documents than the row.

use alyx_schema::Collection;

use crate::ast::{Exists, Filter, Through};

/// One such part. What it says of a row depends on the row by one value at most, that of [`Elsewhere::field`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Elsewhere<'f> {
    /// A filter over the document that a field refers to.
    Referred(&'f Through),
    /// Whether another collection has such a document.
    Exists(&'f Exists),
}

impl<'f> Elsewhere<'f> {
    /// The filter as such a part.
    pub fn of(filter: &'f Filter) -> Option<Self> {
        match filter {
            Filter::Through(through) => Some(Self::Referred(through)),
            Filter::Exists(exists) => Some(Self::Exists(exists)),
            Filter::And(_)
            | Filter::Or(_)
            | Filter::Not(_)
            | Filter::Untrue(_)
            | Filter::Compare { .. }
            | Filter::In { .. }
            | Filter::Like { .. }
            | Filter::Contains { .. }
            | Filter::JsonContains { .. }
            | Filter::EndsWith { .. }
            | Filter::Path { .. }
            | Filter::Mentions { .. }
            | Filter::Found { .. }
            | Filter::IsNull { .. } => None,
        }
    }

    /// The field of the row whose value the document has; none where the row plays no part.
    pub fn field(self) -> Option<usize> {
        match self {
            Self::Referred(through) => Some(through.field),
            Self::Exists(exists) => exists.field,
        }
    }

    /// Whose documents it is about.
    pub fn collection(self) -> &'f Collection {
        match self {
            Self::Referred(through) => &through.collection,
            Self::Exists(exists) => &exists.collection,
        }
    }

    /// The field of those documents that has the value.
    pub fn target(self) -> usize {
        match self {
            Self::Referred(through) => through.target,
            Self::Exists(exists) => exists.target,
        }
    }

    /// What a document passes.
    pub fn filter(self) -> &'f Filter {
        match self {
            Self::Referred(through) => &through.filter,
            Self::Exists(exists) => &exists.filter,
        }
    }

    /// What it says where no document has the value.
    pub fn of_nothing(self) -> bool {
        match self {
            Self::Referred(through) => through.filter.matches(&[]),
            Self::Exists(_) => false,
        }
    }

    /// As a filter of its own.
    pub fn to_filter(self) -> Filter {
        match self {
            Self::Referred(through) => Filter::Through(Box::new(through.clone())),
            Self::Exists(exists) => Filter::Exists(Box::new(exists.clone())),
        }
    }
}

impl Filter {
    /// The parts about other documents, though not those within them.
    pub fn elsewhere(&self) -> Vec<Elsewhere<'_>> {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::elsewhere).collect(),
            Self::Not(inner) | Self::Untrue(inner) => inner.elsewhere(),
            other => Elsewhere::of(other).into_iter().collect(),
        }
    }
}
