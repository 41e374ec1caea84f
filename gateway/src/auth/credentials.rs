//! What callers send about themselves, read and checked.

use alyx_auth::normalize_email;
use alyx_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

/// Longest metadata of an account, as JSON text in bytes.
const MAX_METADATA: usize = 16 * 1024;

/// An address and a password.
#[derive(Deserialize)]
pub(crate) struct Credentials {
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    metadata: Option<Map<String, Json>>,
}

/// The same, checked for their form.
pub(super) struct Checked {
    pub(super) email: String,
    pub(super) password: String,
    /// JSON text.
    pub(super) metadata: String,
}

impl Credentials {
    /// Reads a body.
    ///
    /// Errors: `INVALID_JSON`.
    pub(crate) fn read(body: &[u8]) -> Result<Self> {
        read(body)
    }

    /// Errors: `EMAIL_REQUIRED`, `INVALID_EMAIL`, `PASSWORD_REQUIRED`, `INVALID_METADATA`.
    pub(super) fn check(self) -> Result<Checked> {
        let email = normalize_email(&self.email)?;
        if self.password.is_empty() {
            let message = "`password` is required";
            let error = Error::new(ErrorKind::InvalidInput, "PASSWORD_REQUIRED", message);
            return Err(error.with_field("password"));
        }
        Ok(Checked {
            email,
            password: self.password,
            metadata: metadata_text(self.metadata)?,
        })
    }
}

/// Metadata of an account as JSON text.
///
/// Errors: `INVALID_METADATA`.
pub(super) fn metadata_text(metadata: Option<Map<String, Json>>) -> Result<String> {
    let metadata = Json::Object(metadata.unwrap_or_default()).to_string();
    if metadata.len() > MAX_METADATA {
        let message = format!("`metadata` is larger than {} KiB", MAX_METADATA >> 10);
        let error = Error::new(ErrorKind::InvalidInput, "INVALID_METADATA", message);
        return Err(error.with_field("metadata"));
    }
    Ok(metadata)
}

/// A body of `/api/auth`. Unknown members are ignored, as older and newer clients send them.
///
/// Errors: `INVALID_JSON`; says where, and never what, because it may be a password.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!(
            "the body is not the JSON object that this route takes (line {}, column {})",
            error.line(),
            error.column()
        );
        Error::new(ErrorKind::InvalidInput, "INVALID_JSON", message)
    })
}
