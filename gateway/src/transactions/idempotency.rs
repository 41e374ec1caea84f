//! `Idempotency-Key`: the same request sent again gets the reply of the first time, and is not carried out again.
//!
//! The reply is kept in the database, in the transaction of its effects: whichever gateway is asked, whenever, and
//! whatever crashed in between, a reply is there exactly where its effects are. Failed requests leave nothing behind,
//! so they may be sent again under the same key.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alyx_core::{Error, ErrorKind, Result};
use alyx_store::{KeptReply, Read, ReadCost, WriteStep};
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, Method, StatusCode, Uri};

use super::Engine;
use super::digest;
use super::outcome::Shaped;
use super::owner::Owner;

/// Longest key.
const MAX_KEY: usize = 255;
/// Largest reply that is kept.
const MAX_REPLY: usize = 1 << 20;

/// The key of one request: of one caller, for one method and path.
#[derive(Debug, Clone)]
pub(crate) struct IdempotencyKey {
    key: [u8; 32],
    request: [u8; 32],
    retention: Duration,
}

/// What a request with a key gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) shaped: Shaped,
    /// Whether it is the reply of an earlier request.
    pub(crate) replayed: bool,
}

impl IdempotencyKey {
    /// The key in the headers, where there is one.
    ///
    /// Errors: `INVALID_IDEMPOTENCY_KEY`.
    pub(crate) fn of(
        (owner, headers): (Owner, &HeaderMap),
        (method, uri): (&Method, &Uri),
        body: &[u8],
        retention: Duration,
    ) -> Result<Option<Self>> {
        let mut values = headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let text = value.to_str().unwrap_or_default();
        if values.next().is_some() || text.is_empty() || text.len() > MAX_KEY {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "INVALID_IDEMPOTENCY_KEY",
                format!(
                    "`Idempotency-Key` must be given once, with 1 to {MAX_KEY} printable ASCII characters"
                ),
            )
            .with_field("Idempotency-Key"));
        }
        let header = |name| headers.get(name).map_or(&b""[..], http::HeaderValue::as_bytes);
        let method = method.as_str().as_bytes();
        let path = uri.path().trim_end_matches('/').as_bytes();
        Ok(Some(Self {
            key: digest(&[method, path, owner.as_bytes(), text.as_bytes()]),
            request: digest(&[
                uri.query().unwrap_or_default().as_bytes(),
                header(IF_MATCH),
                header(IF_NONE_MATCH),
                body,
            ]),
            retention,
        }))
    }

    fn since(&self) -> i64 {
        seconds(SystemTime::now()).saturating_sub(i64::try_from(self.retention.as_secs()).unwrap_or(i64::MAX))
    }

    /// The reply to this request, where it was carried out before.
    ///
    /// Errors: `IDEMPOTENCY_KEY_REUSED` where the key was another request's.
    pub(super) async fn find(&self, engine: &Engine, deadline: Instant) -> Result<Option<Kept>> {
        let read = Read {
            statements: vec![KeptReply::find(self.key, self.since())],
            cost: ReadCost::Point,
            deadline,
        };
        let reply = engine.store.read(read).await?;
        let kept = reply.results.first().and_then(|rows| rows.rows.first());
        let Some(kept) = kept.and_then(KeptReply::from_row) else {
            return Ok(None);
        };
        if kept.request != self.request {
            return Err(Error::new(
                ErrorKind::Conflict,
                "IDEMPOTENCY_KEY_REUSED",
                "this idempotency key belongs to another request: make a new one for each request",
            )
            .with_field("Idempotency-Key"));
        }
        let status = StatusCode::from_u16(kept.status).map_err(Error::internal)?;
        Ok(Some(Kept {
            shaped: Shaped {
                status,
                etag: kept.etag,
                body: kept.body.into(),
            },
            replayed: true,
        }))
    }

    /// Steps that keep the reply, for the write that it tells about.
    ///
    /// Errors: `IDEMPOTENT_REPLY_TOO_LARGE`.
    pub(super) fn keep(&self, shaped: &Shaped) -> Result<Vec<WriteStep>> {
        if shaped.body.len() > MAX_REPLY {
            return Err(Error::new(
                ErrorKind::PayloadTooLarge,
                "IDEMPOTENT_REPLY_TOO_LARGE",
                format!(
                    "a reply of more than {} MiB cannot be kept: send less in one request with an idempotency key",
                    MAX_REPLY >> 20
                ),
            ));
        }
        let kept = KeptReply {
            request: self.request,
            status: shaped.status.as_u16(),
            etag: shaped.etag.clone(),
            body: shaped.body.to_vec(),
        };
        let now = seconds(SystemTime::now());
        Ok(kept.keep(self.key, now, self.since()).into())
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
