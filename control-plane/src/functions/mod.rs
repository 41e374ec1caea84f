//! Functions: reading their folder into a bundle, and the bundle into [`Function`]s.

mod bundle;
mod discover;
mod manifest;
mod rule;
mod typescript;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alyx_service::state::Function;

pub(crate) use bundle::{BundleError, is_code};
use rule::Written;

/// What a scan of the functions folder needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The functions folder.
    pub(crate) folder: PathBuf,
    /// Where bundles are kept.
    pub(crate) bundles: PathBuf,
    /// What a function gets whose manifest says nothing.
    pub(crate) defaults: Defaults,
    /// For `${VAR}` in manifests.
    pub(crate) environment: Arc<BTreeMap<String, String>>,
}

/// What a function gets whose manifest says nothing.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    pub(crate) timeout: Duration,
    pub(crate) memory_mib: u64,
    pub(crate) env: BTreeMap<String, String>,
}

/// What a scan found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scan {
    /// The functions that can run.
    pub(crate) functions: BTreeMap<String, Arc<Function>>,
    /// The rules of those that have one, by the function's name.
    pub(crate) rules: BTreeMap<String, Written>,
    /// What is wrong, by file.
    pub(crate) notices: Vec<Notice>,
}

/// Something that the author of a function must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Whether a function is missing because of it.
    pub(crate) severity: Severity,
    /// File, line and column as far as they are known.
    pub(crate) place: String,
    /// What is wrong and how to fix it.
    pub(crate) message: String,
}

/// How bad a [`Notice`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The function goes on.
    Warning,
    /// The function is not served.
    Error,
    /// Functions that load the file answer that they are not available.
    Broken,
}

impl Notice {
    pub(crate) fn error(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place: place.into(),
            message: message.into(),
        }
    }

    fn broken(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Broken,
            ..Self::error(place, message)
        }
    }

    fn warning(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(place, message)
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl Source {
    /// Copies the folder into its bundle and reads the functions there, so that what was hashed is what will run.
    /// A folder that does not exist holds no functions.
    ///
    /// # Errors
    /// The folder cannot be read, is too large, or the bundle cannot be written.
    pub(crate) fn scan(&self) -> Result<Scan, BundleError> {
        if !self.folder.is_dir() {
            return Ok(Scan {
                notices: vec![Notice::warning(
                    self.folder.display().to_string(),
                    "there is no such folder, so there are no functions",
                )],
                ..Scan::default()
            });
        }
        let bundle = bundle::make(&self.folder, &self.bundles)?;
        Ok(discover::discover(self, &bundle))
    }
}

/// A path inside the functions folder as the author knows it.
fn shown(folder: &Path, relative: &str) -> String {
    folder.join(relative).display().to_string()
}

#[cfg(test)]
mod tests;
