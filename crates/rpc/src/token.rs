//! A shared secret as a header, compared in constant time.

use std::fmt;
use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result};
use subtle::ConstantTimeEq;
use tonic::metadata::{Ascii, MetadataValue};

/// Shortest token in bytes.
pub const MIN_TOKEN_BYTES: usize = 32;

/// A secret that a caller proves itself with. `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct Token {
    secret: Arc<str>,
    header: MetadataValue<Ascii>,
}

impl Token {
    /// The secret that `key` of the configuration holds; `code` is that of the error where it is none.
    pub(crate) fn new(secret: &str, key: &str, code: &'static str) -> Result<Self> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidInput, code, message);
        if secret.len() < MIN_TOKEN_BYTES {
            return Err(invalid(format!(
                "`{key}` is too short; {MIN_TOKEN_BYTES} characters or more are needed"
            )));
        }
        let mut header: MetadataValue<Ascii> = format!("Bearer {secret}")
            .parse()
            .map_err(|_| invalid(format!("`{key}` may hold visible ASCII characters only")))?;
        header.set_sensitive(true);
        Ok(Self {
            secret: secret.into(),
            header,
        })
    }

    /// Whether `authorization` is `Bearer` and this secret.
    pub(crate) fn admits(&self, authorization: Option<&[u8]>) -> bool {
        authorization
            .and_then(|header| header.strip_prefix(b"Bearer "))
            .is_some_and(|sent| sent.ct_eq(self.secret.as_bytes()).into())
    }

    /// What is sent.
    pub(crate) fn header(&self) -> MetadataValue<Ascii> {
        self.header.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}
