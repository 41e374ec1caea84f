//! Steps of writes whose conditions stand in their own SQL.

use alyx_core::{Error, Statement};

use crate::{Expect, WriteStep};

/// A step that may do anything.
pub fn step(statement: Statement) -> WriteStep {
    WriteStep {
        statement,
        expect: Expect::Any,
    }
}

/// A step that must do something; see [`unchanged`].
pub fn must(statement: Statement) -> WriteStep {
    WriteStep {
        statement,
        expect: Expect::Row,
    }
}

/// Whether a write failed because a step that [`must`] do something found nothing to do.
pub fn unchanged(error: &Error) -> bool {
    error.code() == "DOCUMENT_NOT_FOUND"
}
