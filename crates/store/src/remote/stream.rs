//! A stream: one connection of the server to its database, used by one call at a time.

use std::time::Instant;

use super::hrana::{Answer, Batch, BatchReply, ServerError, When};
use super::http::{CallError, Http};
use crate::failure::Failure;

/// Why a batch has no result.
#[derive(Debug)]
pub(super) enum BatchError {
    /// Nothing has happened on the server.
    NotRun(Failure),
    /// The server refused or gave up the batch as a whole, and nothing is left open.
    Refused(Failure),
    /// Nobody knows what has happened.
    Unknown(Failure),
}

impl BatchError {
    /// Why, where it does not matter what happened on the server.
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::NotRun(failure) | Self::Refused(failure) | Self::Unknown(failure) => failure,
        }
    }
}

/// A stream that is opened when it is first used, and again after it was lost.
#[derive(Debug)]
pub(super) struct Stream {
    http: Http,
    baton: Option<String>,
    base: Option<String>,
}

impl Stream {
    pub(super) fn new(http: Http) -> Self {
        Self {
            http,
            baton: None,
            base: None,
        }
    }

    /// Whether the server knows the stream, as far as we know.
    pub(super) fn is_open(&self) -> bool {
        self.baton.is_some()
    }

    /// Gives the stream up. The server rolls back what is open on it once it has been quiet for a while.
    pub(super) fn forget(&mut self) {
        self.baton = None;
        self.base = None;
    }

    /// Runs a batch. A stream that the server has closed meanwhile is opened again, once, where `reopen`.
    pub(super) async fn run(
        &mut self,
        batch: &Batch,
        deadline: Instant,
        reopen: bool,
    ) -> Result<BatchReply, BatchError> {
        let used = self.is_open();
        match self.attempt(batch, deadline).await {
            Err(BatchError::NotRun(Failure::StreamGone)) if used && reopen => {
                self.attempt(batch, deadline).await
            }
            other => other,
        }
    }

    async fn attempt(&mut self, batch: &Batch, deadline: Instant) -> Result<BatchReply, BatchError> {
        let baton = self.baton.take();
        let base = self.base.take();
        let used = baton.is_some();
        let body = batch.body(baton.as_deref());
        let bytes = self
            .http
            .call(base.as_deref(), body, deadline)
            .await
            .map_err(|error| from_call(error, used))?;
        // Dropping the answer undecoded leaves the stream behind, so it is given up.
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| {
            BatchError::Unknown(Failure::Driver(format!(
                "an answer that is not the protocol's: {error}"
            )))
        })?;
        let outcome =
            answer.results.into_iter().next().ok_or_else(|| {
                BatchError::Unknown(Failure::Driver("an answer without a result".to_owned()))
            })?;
        self.baton = answer.baton;
        self.base = answer.base_url;
        if let Some(error) = outcome.error {
            self.roll_back(deadline).await;
            return Err(BatchError::Refused(from_server(&error)));
        }
        outcome
            .response
            .and_then(|response| response.result)
            .ok_or_else(|| BatchError::Unknown(Failure::Driver("an answer without a batch".to_owned())))
    }
}

impl Stream {
    /// A batch that the server gave up leaves its transaction open, and with it the lock.
    async fn roll_back(&mut self, deadline: Instant) {
        let mut batch = Batch::new();
        if batch.run(When::Open, "ROLLBACK", &[]).is_err() {
            return;
        }
        let Some(baton) = self.baton.take() else { return };
        let body = batch.body(Some(&baton));
        let answer = self.http.call(self.base.as_deref(), body, deadline).await;
        match answer.map(|bytes| serde_json::from_slice::<Answer>(&bytes)) {
            Ok(Ok(answer)) => (self.baton, self.base) = (answer.baton, answer.base_url),
            Ok(Err(_)) | Err(_) => self.forget(),
        }
    }
}

fn from_call(error: CallError, used: bool) -> BatchError {
    match error {
        CallError::NotSent(why) => BatchError::NotRun(Failure::Away(why)),
        CallError::Lost(why) => BatchError::Unknown(Failure::Away(why)),
        CallError::Deadline => BatchError::Unknown(Failure::Away("no answer in time".to_owned())),
        CallError::Status(status, text) => from_status(status, text, used),
    }
}

fn from_status(status: u16, text: String, used: bool) -> BatchError {
    let gone =
        text.contains("STREAM_EXPIRED") || text.contains("stream has expired") || text.contains("baton");
    match status {
        400 | 404 | 500 if used && gone => BatchError::NotRun(Failure::StreamGone),
        401 | 403 => BatchError::NotRun(Failure::Unauthorized),
        404 => BatchError::NotRun(Failure::Away(format!(
            "there is no database at this address: {text}"
        ))),
        429 => BatchError::NotRun(Failure::Away(format!("the server is overloaded: {text}"))),
        502..=504 => BatchError::Unknown(Failure::Away(format!(
            "the server cannot be reached ({status}): {text}"
        ))),
        _ if text.contains("utf-8") => BatchError::Refused(Failure::NotUtf8),
        _ => BatchError::Refused(Failure::Driver(format!("the server answers {status}: {text}"))),
    }
}

/// Result codes of SQLite as the server names them, with the message that tells which one it is.
pub(super) fn from_server(error: &ServerError) -> Failure {
    const PREFIXES: [&str; 3] = ["SQLite error: ", "SQL input error: ", "SQLite input error: "];
    let code = error.code.as_deref().unwrap_or_default();
    let message = PREFIXES
        .iter()
        .find_map(|prefix| error.message.strip_prefix(prefix))
        .unwrap_or(&error.message);
    let sqlite = |code: i32| Failure::Sqlite {
        code,
        message: message.to_owned(),
    };
    match code {
        code if code.starts_with("SQLITE_CONSTRAINT") => sqlite(constraint(message)),
        "SQLITE_BUSY" | "SQLITE_LOCKED" | "TRANSACTION_TIMEOUT" | "TRANSACTION_BUSY" => sqlite(5),
        "SQLITE_READONLY" => sqlite(8),
        "SQLITE_INTERRUPT" => sqlite(9),
        "SQLITE_IOERR" => sqlite(10),
        "SQLITE_CORRUPT" => sqlite(11),
        "SQLITE_FULL" => sqlite(13),
        "SQLITE_TOOBIG" => sqlite(18),
        "SQLITE_MISMATCH" => sqlite(20),
        "SQLITE_AUTH" => sqlite(23),
        "SQLITE_ERROR"
        | "SQLITE_UNKNOWN"
        | "SQL_INPUT_ERROR"
        | "ARGS_INVALID"
        | "SQL_NO_STATEMENT"
        | "SQL_MANY_STATEMENTS" => sqlite(1),
        "SQL_PARSE_ERROR" if message.contains("unsupported statement") => {
            Failure::Refused(crate::statement_text::Refusal::NotOnServer)
        }
        "SQL_PARSE_ERROR" => sqlite(1),
        "RESPONSE_TOO_LARGE" => Failure::ResultTooLarge,
        "BLOCKED" => Failure::Away(message.to_owned()),
        _ => Failure::Driver(format!("{code}: {message}")),
    }
}

/// The extended result code of a violated constraint.
fn constraint(message: &str) -> i32 {
    let kinds = [
        ("UNIQUE", 2067),
        ("NOT NULL", 1299),
        ("CHECK", 275),
        ("FOREIGN KEY", 787),
        ("cannot store", 3091),
    ];
    kinds
        .iter()
        .find(|(prefix, _)| message.starts_with(prefix))
        .map_or(1811, |(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_become_the_stores_codes() {
        let check = |code: &str, message: &str, expected: &str| {
            let error = ServerError {
                message: message.to_owned(),
                code: Some(code.to_owned()),
            };
            assert_eq!(
                from_server(&error).into_error().code(),
                expected,
                "{code} {message}"
            );
        };
        let constraint = "SQLITE_CONSTRAINT";
        check(
            constraint,
            "SQLite error: UNIQUE constraint failed: t.a",
            "UNIQUE_VIOLATION",
        );
        check(
            "SQLITE_CONSTRAINT_UNIQUE",
            "UNIQUE constraint failed: t.a",
            "UNIQUE_VIOLATION",
        );
        check(
            constraint,
            "SQLite error: NOT NULL constraint failed: t.a",
            "REQUIRED_FIELD_MISSING",
        );
        check(
            constraint,
            "SQLite error: CHECK constraint failed: a > 0",
            "CHECK_CONSTRAINT_FAILED",
        );
        check(
            constraint,
            "SQLite error: FOREIGN KEY constraint failed",
            "FOREIGN_KEY_VIOLATION",
        );
        check(
            constraint,
            "SQLite error: cannot store TEXT value in INTEGER column t.a",
            "INVALID_TYPE",
        );
        check(constraint, "SQLite error: negative", "CONSTRAINT_VIOLATION");
        check(
            "SQLITE_MISMATCH",
            "SQLite error: datatype mismatch",
            "INVALID_TYPE",
        );
        check(
            "SQLITE_FULL",
            "SQLite error: database or disk is full",
            "STORAGE_FULL",
        );
        check("SQLITE_BUSY", "SQLite error: database is locked", "DATABASE_BUSY");
        check("TRANSACTION_TIMEOUT", "Transaction timed out", "DATABASE_BUSY");
        check("RESPONSE_TOO_LARGE", "Response is too large", "RESULT_TOO_LARGE");
        check(
            "SQL_INPUT_ERROR",
            "SQL input error: no such table: t",
            "INTERNAL_ERROR",
        );
        let unsupported = "SQL string could not be parsed: unsupported statement: VACUUM";
        check("SQL_PARSE_ERROR", unsupported, "STATEMENT_NOT_ALLOWED");
        check("BLOCKED", "Operation was blocked", "DATABASE_UNAVAILABLE");
        check("WHATEVER", "no", "INTERNAL_ERROR");
    }

    #[test]
    fn only_a_stream_that_was_used_can_be_gone() {
        let gone = "The stream has expired due to inactivity";
        let text = r#"{"message":"The stream has expired due to inactivity","code":"STREAM_EXPIRED"}"#;
        assert!(matches!(
            from_status(500, text.to_owned(), true),
            BatchError::NotRun(Failure::StreamGone)
        ));
        assert!(matches!(
            from_status(400, "Received an invalid baton".to_owned(), true),
            BatchError::NotRun(Failure::StreamGone)
        ));
        assert!(!matches!(
            from_status(500, gone.to_owned(), false),
            BatchError::NotRun(Failure::StreamGone)
        ));
        assert!(matches!(
            from_status(500, "?".to_owned(), true),
            BatchError::Refused(_)
        ));
    }
}
