//! The problems of one body, up to a bound, and the error they become.

use alyx_core::{Detail, Error, ErrorKind};

/// More than this many are not reported: the reply to a hostile body stays small.
const MOST: usize = 100;

/// Problems of one document, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Detail>);

impl Problems {
    pub(super) fn add(&mut self, field: &str, code: &str, message: String) {
        if self.0.len() < MOST {
            self.0.push(Detail {
                field: field.to_owned(),
                code: code.to_owned(),
                message,
            });
        }
    }

    /// `Ok` without problems, else the error that reports them all and leads with the first.
    pub(super) fn into_result(self) -> Result<(), Error> {
        match self.0.first() {
            None => Ok(()),
            Some(first) => {
                Err(
                    Error::new(ErrorKind::InvalidInput, "VALIDATION_ERROR", first.message.clone())
                        .with_field(first.field.clone())
                        .with_details(self.0),
                )
            }
        }
    }
}

/// Text of the caller's, short enough to quote in a message.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        None => format!("`{text}`"),
        Some((end, _)) => format!("`{}…`", &text[..end]),
    }
}
