//! Why a call ended without the handler's word, in this crate's terms and in the seam's.

use std::sync::Arc;
use std::time::Duration;

use alyx_core::{Error, ErrorKind};
use thiserror::Error as ThisError;

/// Why a process with a function could not be had.
#[derive(Debug, Clone, ThisError)]
pub(crate) enum StartError {
    /// The function's own code does not load.
    #[error("its code does not load: {0}")]
    Code(Arc<str>),
    /// The function's own code does not compile.
    #[error("its code does not compile: {0}")]
    Build(Arc<str>),
    /// There is no usable interpreter.
    #[error("{0}")]
    Runtime(Arc<str>),
    /// The machine refused.
    #[error("its process could not be started: {0}")]
    Process(Arc<str>),
}

impl StartError {
    pub(crate) fn process(cause: impl std::fmt::Display) -> Self {
        Self::Process(cause.to_string().into())
    }
}

pub(crate) fn not_found(function: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "FUNCTION_NOT_FOUND",
        format!("there is no function `{function}`"),
    )
}

pub(crate) fn unavailable(function: &str, cause: &StartError, retry_after: Duration) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "FUNCTION_UNAVAILABLE",
        format!("function `{function}` cannot run: {cause}"),
    )
    .with_retry_after(retry_after)
}

pub(crate) fn stopping(function: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "FUNCTION_UNAVAILABLE",
        format!("function `{function}` cannot run: the server is stopping"),
    )
    .with_retry_after(Duration::from_secs(1))
}

pub(crate) fn overloaded(function: &str, waiting: usize) -> Error {
    Error::new(
        ErrorKind::TooManyRequests,
        "FUNCTION_OVERLOADED",
        format!("function `{function}` has {waiting} calls waiting already; try again shortly"),
    )
    .with_retry_after(Duration::from_secs(1))
}

pub(crate) fn timed_out(function: &str, after: Duration) -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "FUNCTION_TIMEOUT",
        format!(
            "function `{function}` did not finish within {}",
            alyx_core::format_duration(Duration::from_millis(
                u64::try_from(after.as_millis()).unwrap_or(u64::MAX)
            ))
        ),
    )
}

pub(crate) fn compiling(function: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "FUNCTION_UNAVAILABLE",
        format!("function `{function}` cannot run yet: it is still being compiled"),
    )
    .with_retry_after(Duration::from_secs(5))
}

pub(crate) fn waited_too_long(function: &str) -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "FUNCTION_TIMEOUT",
        format!("function `{function}` was not started: no process was free before the deadline"),
    )
}

pub(crate) fn crashed(function: &str, reason: &str) -> Error {
    Error::new(
        ErrorKind::BadGateway,
        "FUNCTION_CRASHED",
        format!("function `{function}` stopped while it worked: {reason}"),
    )
}
