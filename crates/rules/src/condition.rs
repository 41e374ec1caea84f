//! Conditions on what is stored: a filter for where one is true and a filter for where it is false.
//!
//! Two filters, because three things can come of a condition: true, false, and an error, which is neither. Each
//! filter holds exactly where its own outcome is meant, so no filter is ever negated as a whole, and what is unknown
//! to SQL is what is an error to a rule.

use alyx_query::Filter;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    pub(crate) yes: Filter,
    pub(crate) no: Filter,
}

impl Condition {
    pub(crate) fn constant(truth: bool) -> Self {
        let (yes, no) = if truth {
            (Filter::TRUE, Filter::FALSE)
        } else {
            (Filter::FALSE, Filter::TRUE)
        };
        Self { yes, no }
    }

    /// An error whatever is stored.
    pub(crate) fn fault() -> Self {
        Self {
            yes: Filter::FALSE,
            no: Filter::FALSE,
        }
    }

    /// True of some documents and false of others, of which is not known.
    pub(crate) fn open() -> Self {
        let some = || Filter::Found {
            expression: "".into(),
        };
        Self {
            yes: some(),
            no: some(),
        }
    }

    pub(crate) fn negated(self) -> Self {
        Self {
            yes: self.no,
            no: self.yes,
        }
    }

    /// True where all are, false where one is.
    pub(crate) fn all(parts: Vec<Self>) -> Self {
        let (yes, no) = parts.into_iter().map(|part| (part.yes, part.no)).unzip();
        Self {
            yes: and(yes),
            no: or(no),
        }
    }

    /// True where one is, false where all are.
    pub(crate) fn any(parts: Vec<Self>) -> Self {
        let (yes, no) = parts.into_iter().map(|part| (part.yes, part.no)).unzip();
        Self {
            yes: or(yes),
            no: and(no),
        }
    }

    /// `condition ? yes : no`.
    pub(crate) fn choice(condition: Self, yes: Self, no: Self) -> Self {
        Self {
            yes: or(vec![
                and(vec![condition.yes.clone(), yes.yes]),
                and(vec![condition.no.clone(), no.yes]),
            ]),
            no: or(vec![
                and(vec![condition.yes, yes.no]),
                and(vec![condition.no, no.no]),
            ]),
        }
    }
}

pub(crate) fn is_false(filter: &Filter) -> bool {
    matches!(filter, Filter::Or(parts) if parts.is_empty())
}

pub(crate) fn and(parts: Vec<Filter>) -> Filter {
    if parts.iter().any(is_false) {
        return Filter::FALSE;
    }
    let mut parts: Vec<Filter> = parts.into_iter().filter(|part| !part.is_true()).collect();
    match parts.len() {
        1 => parts.remove(0),
        _ => Filter::And(parts),
    }
}

pub(crate) fn or(parts: Vec<Filter>) -> Filter {
    if parts.iter().any(Filter::is_true) {
        return Filter::TRUE;
    }
    let mut parts: Vec<Filter> = parts.into_iter().filter(|part| !is_false(part)).collect();
    match parts.len() {
        1 => parts.remove(0),
        _ => Filter::Or(parts),
    }
}
