//! What is in a file, on its way out: whole, or the range that a caller asks for (RFC 9110, section 14).

use std::time::Instant;

use alyx_core::{Error, Result, Row, Value};
use alyx_query::Filter;
use alyx_rules::FileAction;
use alyx_schema::{Bucket, file_field};
use alyx_storage::FileId;
use axum::body::Body;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::{Files, not_found, text};
use crate::authority::Authority;
use crate::envelope::{self, Reply};
use crate::transactions::Preconditions;

/// Bytes that are read at a time.
const CHUNK: usize = 64 * 1024;
/// Asked for again every time, which costs a 304: who may read it may change.
const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");
/// What a page or a drawing from an unknown hand may do: look as it does. No script, no form, nothing from anywhere, and an
/// origin of its own.
const HARMLESS: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; media-src data:; form-action 'none'; \
     frame-ancestors 'self'; sandbox",
);
/// Characters of a parameter's value that are left as they are (RFC 8187).
const ATTRIBUTE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// What a browser is to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Save it.
    Attachment,
    /// Show it.
    Inline,
}

/// A request for what is in a file.
pub(crate) struct Content<'a> {
    pub(crate) authority: &'a Authority,
    pub(crate) bucket: &'a Bucket,
    pub(crate) id: &'a str,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) disposition: Disposition,
    /// Whether a link says that it may be read, whoever asks.
    pub(crate) granted: bool,
}

impl Files {
    /// The content of a file that the caller may download.
    ///
    /// Errors: `FORBIDDEN` where there is none, or the caller may know of this one; `FILE_NOT_FOUND`,
    /// `INVALID_PRECONDITION`, `STORAGE_UNAVAILABLE`, `STORAGE_UNKNOWN`, and what the store says.
    pub(crate) async fn content(&self, asked: &Content<'_>, deadline: Instant) -> Result<Reply> {
        let (bucket, id) = (asked.bucket, asked.id);
        let rule = if asked.granted {
            Filter::TRUE
        } else {
            asked.authority.files(bucket, FileAction::Download)?
        };
        let Some(row) = self.row((bucket, id), rule, deadline).await? else {
            let action = FileAction::Download;
            return Err(self
                .refused(asked.authority, (bucket, id), action, deadline)
                .await);
        };
        let tag = format!("\"{}\"", text(&row, file_field::CHECKSUM));
        let conditions = Preconditions::of(asked.headers)?;
        if conditions.is_known(&tag) {
            let mut reply = envelope::empty(StatusCode::NOT_MODIFIED);
            put_validators(reply.headers_mut(), &tag)?;
            return Ok(reply);
        }
        conditions.check(&tag)?;
        let size = row.get(file_field::SIZE).and_then(Value::as_int);
        let size = size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        let mut reply = match range_of(asked.headers, &tag, size) {
            Range::All => {
                let mut reply = self.bytes(&row, asked, (0, size)).await?;
                reply
                    .headers_mut()
                    .insert(CONTENT_LENGTH, HeaderValue::from(size));
                reply
            }
            Range::Part(first, last) => {
                let length = last - first + 1;
                let mut reply = self.bytes(&row, asked, (first, length)).await?;
                *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
                let headers = reply.headers_mut();
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
                headers.insert(CONTENT_RANGE, header(&format!("bytes {first}-{last}/{size}"))?);
                reply
            }
            Range::Beyond => {
                let mut reply = envelope::empty(StatusCode::RANGE_NOT_SATISFIABLE);
                let headers = reply.headers_mut();
                headers.insert(CONTENT_RANGE, header(&format!("bytes */{size}"))?);
                headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
                return Ok(reply);
            }
        };
        put_validators(reply.headers_mut(), &tag)?;
        put_description(reply.headers_mut(), &row, asked.disposition)?;
        Ok(reply)
    }

    async fn bytes(&self, row: &Row, asked: &Content<'_>, (first, length): (u64, u64)) -> Result<Reply> {
        let missing = || not_found(asked.bucket, asked.id);
        let id = FileId::parse(text(row, file_field::ID)).ok_or_else(missing)?;
        let folder = self.folder(text(row, file_field::BACKEND))?;
        // It may have been deleted since its row was read.
        let file = folder.open(&asked.bucket.name, id).await?;
        let file = match file {
            Some(file) => file,
            None if self.is_gone(asked).await? => return Err(missing()),
            None => return Err(Error::internal(format!("the bytes of the file {id} are missing"))),
        };
        if *asked.method == Method::HEAD {
            return Ok(envelope::empty(StatusCode::OK));
        }
        let file = from(file, first).await.map_err(Error::internal)?;
        let stream = ReaderStream::with_capacity(file.take(length), CHUNK);
        Ok(Reply::new(Body::from_stream(stream)))
    }

    async fn is_gone(&self, asked: &Content<'_>) -> Result<bool> {
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        let everything = Filter::TRUE;
        let row = self.row((asked.bucket, asked.id), everything, deadline).await?;
        Ok(row.is_none())
    }
}

async fn from(mut file: File, first: u64) -> std::io::Result<File> {
    if first > 0 {
        file.seek(std::io::SeekFrom::Start(first)).await?;
    }
    Ok(file)
}

fn put_validators(headers: &mut HeaderMap, tag: &str) -> Result<()> {
    headers.insert(ETAG, header(tag)?);
    headers.insert(CACHE_CONTROL, REVALIDATE);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Ok(())
}

fn put_description(headers: &mut HeaderMap, row: &Row, disposition: Disposition) -> Result<()> {
    let kind = text(row, file_field::MIME_TYPE);
    headers.insert(CONTENT_TYPE, header(kind)?);
    headers.insert(
        CONTENT_DISPOSITION,
        header(&named(text(row, file_field::NAME), disposition))?,
    );
    if disposition == Disposition::Inline && is_active(kind) {
        headers.insert(CONTENT_SECURITY_POLICY, HARMLESS);
    }
    Ok(())
}

/// Whether a browser takes it for more than something to look at.
fn is_active(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let sort = essence.split('/').nth(1).unwrap_or_default();
    sort.contains("html")
        || sort.contains("xml")
        || sort.contains("svg")
        || sort.contains("script")
        || sort == "xsl"
}

/// `Content-Disposition` (RFC 6266), with the name in both spellings.
fn named(name: &str, disposition: Disposition) -> String {
    let word = match disposition {
        Disposition::Attachment => "attachment",
        Disposition::Inline => "inline",
    };
    let plain = |c: char| {
        if c.is_ascii() && !c.is_ascii_control() && !matches!(c, '"' | '\\' | '%') {
            c
        } else {
            '_'
        }
    };
    let ascii: String = name.chars().map(plain).collect();
    let exact = utf8_percent_encode(name, ATTRIBUTE);
    format!("{word}; filename=\"{ascii}\"; filename*=UTF-8''{exact}")
}

fn header(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(Error::internal)
}

/// What part of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    All,
    /// First and last byte.
    Part(u64, u64),
    /// Nothing that is there.
    Beyond,
}

/// The range of a request. One that is not understood, and several at once, are as if they were not there.
fn range_of(headers: &HeaderMap, tag: &str, size: u64) -> Range {
    let of = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    // A date, or the tag of what it was: then all of what it is now.
    if of(IF_RANGE).is_some_and(|known| known.trim() != tag) {
        return Range::All;
    }
    let wanted = of(RANGE).and_then(|range| range.trim().strip_prefix("bytes="));
    wanted
        .and_then(|wanted| read_range(wanted.trim(), size))
        .unwrap_or(Range::All)
}

fn read_range(wanted: &str, size: u64) -> Option<Range> {
    let (first, last) = wanted.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let (first, last) = match (first.trim(), last.trim()) {
        ("", last) => {
            let length = number(last)?;
            if length == 0 {
                return Some(Range::Beyond);
            }
            (size.saturating_sub(length), u64::MAX)
        }
        (first, "") => (number(first)?, u64::MAX),
        (first, last) => (number(first)?, number(last)?),
    };
    if last < first {
        return None;
    }
    if first >= size {
        return Some(Range::Beyond);
    }
    Some(Range::Part(first, last.min(size - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let check = |range: &str, size: u64, expected: Range| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, range.parse().expect("a header"));
            assert_eq!(range_of(&headers, "\"t\"", size), expected, "{range} of {size}");
        };
        check("bytes=0-4", 10, Range::Part(0, 4));
        check("bytes=5-", 10, Range::Part(5, 9));
        check("bytes=-3", 10, Range::Part(7, 9));
        check("bytes=-30", 10, Range::Part(0, 9));
        check("bytes=9-9", 10, Range::Part(9, 9));
        check("bytes=8-99999999999999999999999", 10, Range::Part(8, 9));
        check("bytes=10-", 10, Range::Beyond);
        check("bytes=-0", 10, Range::Beyond);
        check("bytes=0-0", 0, Range::Beyond);
        check("bytes=-5", 0, Range::Beyond);
        for ignored in [
            "bytes=5-4",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "bytes=--1",
            "bytes=-",
            "items=0-1",
            "bytes=+1-2",
        ] {
            check(ignored, 10, Range::All);
        }
    }

    #[test]
    fn a_range_of_something_else_is_all_of_it() {
        let with = |known: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, "bytes=1-2".parse().expect("a header"));
            headers.insert(IF_RANGE, known.parse().expect("a header"));
            range_of(&headers, "\"t\"", 10)
        };
        assert_eq!(with("\"t\""), Range::Part(1, 2));
        for other in ["\"u\"", "W/\"t\"", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(with(other), Range::All, "{other}");
        }
    }

    #[test]
    fn names_are_told_in_both_spellings() {
        assert_eq!(
            named("ä \"b\"%\r.txt", Disposition::Attachment),
            "attachment; filename=\"_ _b___.txt\"; filename*=UTF-8''%C3%A4%20%22b%22%25%0D.txt"
        );
        assert_eq!(
            named("photo.png", Disposition::Inline),
            "inline; filename=\"photo.png\"; filename*=UTF-8''photo.png"
        );
    }

    #[test]
    fn what_can_act_is_told_from_what_cannot() {
        for kind in [
            "text/html; charset=utf-8",
            "image/svg+xml",
            "application/xhtml+xml",
            "text/xml",
            "text/javascript",
        ] {
            assert!(is_active(kind), "{kind}");
        }
        for kind in [
            "image/png",
            "text/plain; charset=utf-8",
            "application/pdf",
            "video/mp4",
            "application/json",
        ] {
            assert!(!is_active(kind), "{kind}");
        }
    }
}
