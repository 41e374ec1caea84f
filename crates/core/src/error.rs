//! The one error type that crosses seams between crates and roles.
//!
//! A crate keeps its own `thiserror` enum inside and converts it into [`Error`] where its public
//! interface meets another role. The kind decides the transport status, the code is what clients
//! program against, the message is for people.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Result of everything that can fail across a seam.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the closed set that transports know how to express.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller sent something that can never succeed as it is.
    InvalidInput,
    /// No or unusable credentials.
    Unauthenticated,
    /// The caller is known and may not do this.
    Forbidden,
    /// There is no such thing, or the caller may not know that there is.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The state of the data forbids it.
    Conflict,
    /// A condition that the caller set does not hold.
    PreconditionFailed,
    /// The body or frame is over its bound.
    PayloadTooLarge,
    /// The content type is not one the route reads.
    UnsupportedMediaType,
    /// A limit of the caller is used up.
    TooManyRequests,
    /// A defect or a broken dependency; details go to the log only.
    Internal,
    /// Something behind us (a function's process) broke while it worked for the caller.
    BadGateway,
    /// Not now; the caller may try again.
    Unavailable,
    /// The deadline passed first.
    DeadlineExceeded,
}

impl ErrorKind {
    /// The HTTP status of this kind. Total: every kind has exactly one.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidInput => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::PreconditionFailed => 412,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::TooManyRequests => 429,
            Self::Internal => 500,
            Self::BadGateway => 502,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }
}

/// One problem among several, for `error.details[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// Field or dotted path that the problem is about.
    pub field: String,
    /// Stable lower-case code, such as `required` or `invalid_type`.
    pub code: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// An error with a stable code. `Display` prints the message alone; the cause is its `source`.
#[derive(Debug)]
pub struct Error {
    // Boxed, so that results that carry it stay small.
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    code: Cow<'static, str>,
    message: String,
    field: Option<String>,
    details: Vec<Detail>,
    retry_after: Option<Duration>,
    step: Option<usize>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with a stable `code` (`SCREAMING_SNAKE_CASE`) and a message for people.
    pub fn new(kind: ErrorKind, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                code: code.into(),
                message: message.into(),
                field: None,
                details: Vec::new(),
                retry_after: None,
                step: None,
                source: None,
            }),
        }
    }

    /// A defect or broken dependency. The message is generic on purpose: the cause is for the log.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(
            ErrorKind::Internal,
            "INTERNAL_ERROR",
            "something went wrong on the server",
        )
        .with_source(source)
    }

    /// Names the field that the error is about.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.inner.field = Some(field.into());
        self
    }

    /// Adds the single problems behind a collective error.
    #[must_use]
    pub fn with_details(mut self, details: Vec<Detail>) -> Self {
        self.inner.details = details;
        self
    }

    /// Tells the caller when to try again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.inner.retry_after = Some(after);
        self
    }

    /// Names the part of a request of several that failed, counted from 0.
    #[must_use]
    pub fn with_step(mut self, step: usize) -> Self {
        self.inner.step = Some(step);
        self
    }

    /// The same, said of the request as a whole.
    #[must_use]
    pub fn without_step(mut self) -> Self {
        self.inner.step = None;
        self
    }

    /// The same in other words.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.inner.message = message.into();
        self
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// The closed kind, which decides the transport status.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The stable code clients program against.
    pub fn code(&self) -> &str {
        &self.inner.code
    }

    /// The message for people.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The field the error is about, where there is one.
    pub fn field(&self) -> Option<&str> {
        self.inner.field.as_deref()
    }

    /// The single problems behind a collective error.
    pub fn details(&self) -> &[Detail] {
        &self.inner.details
    }

    /// The part of a request of several that failed, counted from 0.
    pub fn step(&self) -> Option<usize> {
        self.inner.step
    }

    /// When to try again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

/// An error with its causes, in one line, for logs and for operators: `the file cannot be read: permission denied`.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
