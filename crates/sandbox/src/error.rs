//! What goes wrong while a sandbox is made.

use std::io;

use serde::{Deserialize, Serialize};

use crate::grants::Wall;

/// Why there is no sandbox; says which step failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step that the kernel refused.
    #[error("{step}: {source}")]
    Step {
        /// The wall that cannot be built without it.
        wall: Option<Wall>,
        /// What was tried.
        step: String,
        /// Why it failed.
        source: io::Error,
    },
    /// What was asked for is wrong.
    #[error("{0}")]
    Wrong(String),
}

/// A wall that a machine does not grant, and why: what one process of a trial tells the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) wall: Option<Wall>,
    pub(crate) reason: String,
}

impl Error {
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal {
            wall: match self {
                Self::Step { wall, .. } => *wall,
                Self::Wrong(_) => None,
            },
            reason: self.to_string(),
        }
    }
}

/// Names the step that failed.
pub(crate) trait During<T> {
    /// `step` says what was tried.
    fn during(self, step: impl FnOnce() -> String) -> Result<T, Error>;

    /// The same, where a machine may refuse that wall.
    fn building(self, wall: Wall, step: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, step: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::Step {
            wall: None,
            step: step(),
            source: error.into(),
        })
    }

    fn building(self, wall: Wall, step: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::Step {
            wall: Some(wall),
            step: step(),
            source: error.into(),
        })
    }
}
