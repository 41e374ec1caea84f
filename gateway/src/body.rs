//! Reading request bodies within their bounds.
//!
//! A body over the bound is refused before it is read where its length is declared, and at the first byte too
//! many where it is not. What the caller still sends is then read and thrown away for a while: closing a socket
//! with unread bytes resets it, and the caller would see the reset instead of the refusal.

use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{EXPECT, HeaderMap};
use http_body_util::BodyExt;
use hyper::body::Body as _;

/// Most bytes of a refused body that are read and thrown away.
const MAX_DRAINED: u64 = 64 << 20;
/// Longest time for which that is done.
const MAX_DRAIN_TIME: Duration = Duration::from_secs(5);

/// The whole body, at most `limit` bytes of it, by `deadline`.
///
/// Errors: `PAYLOAD_TOO_LARGE`, `BODY_TIMEOUT`, `BODY_INCOMPLETE`.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: u64, deadline: Instant) -> Result<Bytes> {
    if body.size_hint().lower() > limit {
        if !headers.contains_key(EXPECT) {
            drain(body).await;
        }
        return Err(too_large(limit));
    }
    match tokio::time::timeout_at(deadline.into(), collect(body, limit)).await {
        Ok(Collected::Whole(bytes)) => Ok(bytes),
        Ok(Collected::Broken(error)) => Err(Error::new(
            ErrorKind::InvalidInput,
            "BODY_INCOMPLETE",
            "the request's body broke off before its end",
        )
        .with_source(error)),
        Ok(Collected::TooLarge(rest)) => {
            drain(rest).await;
            Err(too_large(limit))
        }
        Err(_) => Err(Error::new(
            ErrorKind::InvalidInput,
            "BODY_TIMEOUT",
            "the request's body did not arrive in time",
        )),
    }
}

enum Collected {
    Whole(Bytes),
    TooLarge(Body),
    Broken(axum::Error),
}

async fn collect(mut body: Body, limit: u64) -> Collected {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length = 0_u64;
    loop {
        let data = match body.frame().await {
            None => break,
            Some(Err(error)) => return Collected::Broken(error),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        length += data.len() as u64;
        if length > limit {
            return Collected::TooLarge(body);
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
        if body.is_end_stream() {
            break;
        }
    }
    Collected::Whole(if rest.is_empty() { first } else { rest.freeze() })
}

/// Reads and throws away for a while what the caller still sends of a body that is refused.
pub(crate) async fn discard(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(EXPECT) {
        drain(body).await;
    }
}

async fn drain(mut body: Body) {
    let discard = async {
        let mut length = 0_u64;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, |data| data.len() as u64);
            if length > MAX_DRAINED {
                break;
            }
        }
    };
    // Either way the refusal is sent next; the time-out only ends the courtesy.
    let _ = tokio::time::timeout(MAX_DRAIN_TIME, discard).await;
}

fn too_large(limit: u64) -> Error {
    Error::new(
        ErrorKind::PayloadTooLarge,
        "PAYLOAD_TOO_LARGE",
        format!("the request's body is larger than {limit} bytes, the value of server.max_body_size"),
    )
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn streamed(parts: &[&'static str]) -> Body {
        let parts: Vec<Result<Bytes, std::io::Error>> = parts
            .iter()
            .map(|part| Ok(Bytes::from_static(part.as_bytes())))
            .collect();
        Body::from_stream(stream::iter(parts))
    }

    #[tokio::test]
    async fn bodies_up_to_the_limit_are_read_whole() {
        let headers = HeaderMap::new();
        let read = |body: Body| read(&headers, body, 6, soon());
        assert_eq!(read(Body::empty()).await.expect("empty"), "");
        assert_eq!(read(Body::from("abcdef")).await.expect("declared"), "abcdef");
        assert_eq!(
            read(streamed(&["ab", "", "cd", "ef"])).await.expect("streamed"),
            "abcdef"
        );
    }

    #[tokio::test]
    async fn bodies_over_the_limit_are_refused_declared_or_not() {
        let headers = HeaderMap::new();
        for body in [
            Body::from("abcdefg"),
            streamed(&["abc", "defg"]),
            streamed(&["abcdefg"]),
        ] {
            let error = read(&headers, body, 6, soon()).await.expect_err("too large");
            assert_eq!(error.code(), "PAYLOAD_TOO_LARGE");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_taken_for_a_short_one() {
        let parts: Vec<Result<Bytes, std::io::Error>> = vec![
            Ok(Bytes::from_static(b"{}")),
            Err(std::io::ErrorKind::ConnectionReset.into()),
        ];
        let body = Body::from_stream(stream::iter(parts));
        let error = read(&HeaderMap::new(), body, 6, soon())
            .await
            .expect_err("broken");
        assert_eq!(error.code(), "BODY_INCOMPLETE");
    }

    #[tokio::test]
    async fn a_body_that_never_comes_ends_at_the_deadline() {
        let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let error = read(&HeaderMap::new(), body, 6, Instant::now())
            .await
            .expect_err("late");
        assert_eq!(error.code(), "BODY_TIMEOUT");
    }
}
