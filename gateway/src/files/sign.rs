//! Links that open one file for whoever has them, for a while.
//!
//! A token is sealed for one file and one way to read it, so it needs no row, is good at every gateway, and opens nothing
//! else. It is as good as the right of who made it was then: it cannot be taken back, but ends with the file.

use std::time::{Duration, UNIX_EPOCH};

use alyx_auth::Sealer;
use alyx_core::{Clock, Error, ErrorKind, Result, format_timestamp, parse_duration};
use alyx_schema::Bucket;

use super::Disposition;

/// How long a token is good where nothing is said, and at most.
const USUAL: Duration = Duration::from_secs(15 * 60);
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a link is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// How the file may be read.
    pub(crate) disposition: Disposition,
    lasts: Duration,
}

/// A token and its end.
pub(crate) struct Signed {
    pub(crate) token: String,
    pub(crate) expires_at: String,
}

impl Terms {
    /// Reads `expiry` and `operation` of a query string.
    ///
    /// Errors: `INVALID_EXPIRY`, `INVALID_OPERATION`, `INVALID_QUERY`.
    pub(crate) fn parse(query: &str) -> Result<Self> {
        let mut terms = Self {
            disposition: Disposition::Attachment,
            lasts: USUAL,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "expiry" => terms.lasts = read_expiry(&value)?,
                "operation" => {
                    terms.disposition = match value.as_ref() {
                        "download" => Disposition::Attachment,
                        "view" => Disposition::Inline,
                        _ => {
                            let message = "`operation` is `download` or `view`".to_owned();
                            return Err(invalid("INVALID_OPERATION", "operation", message));
                        }
                    };
                }
                other => {
                    let shown: String = other.chars().take(64).collect();
                    let message = format!("`{shown}` is no parameter of a link; there are expiry, operation");
                    return Err(invalid("INVALID_QUERY", &shown, message));
                }
            }
        }
        Ok(terms)
    }

    /// A token for that file.
    pub(crate) fn sign(&self, sealer: &Sealer, (bucket, id): (&Bucket, &str), clock: &dyn Clock) -> Signed {
        let ends = clock.now() + self.lasts;
        let seconds = ends.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let purpose = purpose(bucket, id, self.disposition);
        Signed {
            token: sealer.seal(&purpose, seconds.to_string().as_bytes()),
            expires_at: format_timestamp(ends),
        }
    }
}

/// Whether a token opens that file so.
///
/// Errors: `INVALID_TOKEN`, `TOKEN_EXPIRED`.
pub(crate) fn verify(
    sealer: &Sealer,
    token: &str,
    (bucket, id, disposition): (&Bucket, &str, Disposition),
    clock: &dyn Clock,
) -> Result<()> {
    let refused =
        |code: &'static str, message: &'static str| Error::new(ErrorKind::Unauthenticated, code, message);
    let opened = sealer.open(&purpose(bucket, id, disposition), token);
    let ends = opened.and_then(|text| String::from_utf8(text).ok()?.parse::<u64>().ok());
    let Some(ends) = ends else {
        return Err(refused(
            "INVALID_TOKEN",
            "the token does not open this file, or not in this way",
        ));
    };
    let now = clock
        .now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    if now >= ends {
        return Err(refused(
            "TOKEN_EXPIRED",
            "the token of this link has expired: ask for another link",
        ));
    }
    Ok(())
}

/// What a token is sealed for. Neither names nor ids hold a `/`.
fn purpose(bucket: &Bucket, id: &str, disposition: Disposition) -> String {
    let operation = match disposition {
        Disposition::Attachment => "download",
        Disposition::Inline => "view",
    };
    format!("file/{}/{id}/{operation}", bucket.name)
}

fn read_expiry(text: &str) -> Result<Duration> {
    let lasts = parse_duration(text).ok();
    let lasts = lasts.filter(|lasts| *lasts >= Duration::from_secs(1) && *lasts <= LONGEST);
    lasts.ok_or_else(|| {
        let message = "`expiry` is a duration from `1s` to `7d`, such as `15m`".to_owned();
        invalid("INVALID_EXPIRY", "expiry", message)
    })
}

fn invalid(code: &'static str, field: &str, message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, code, message).with_field(field.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_within_their_bounds() {
        let terms = |query: &str| Terms::parse(query).map(|terms| (terms.disposition, terms.lasts.as_secs()));
        assert_eq!(terms("").expect("usual"), (Disposition::Attachment, 900));
        assert_eq!(
            terms("expiry=7d&operation=view").expect("read"),
            (Disposition::Inline, 604_800)
        );
        for (query, code) in [
            ("expiry=-5m", "INVALID_EXPIRY"),
            ("expiry=0", "INVALID_EXPIRY"),
            ("expiry=8d", "INVALID_EXPIRY"),
            ("expiry=soon", "INVALID_EXPIRY"),
            ("operation=delete", "INVALID_OPERATION"),
            ("ttl=5", "INVALID_QUERY"),
        ] {
            assert_eq!(terms(query).expect_err(query).code(), code);
        }
    }
}
