//! A form that uploads a file (`multipart/form-data`, RFC 7578), read as it arrives.
//!
//! Holds what has come of one frame of the body and the few bytes that may be the beginning of a boundary, whatever the size
//! of the file.

use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use memchr::memmem::Finder;
use percent_encoding::percent_decode_str;

/// Longest boundary (RFC 2046, 5.1.1).
const MAX_BOUNDARY: usize = 70;
/// Largest head of a part in bytes.
const MAX_HEAD: usize = 8 * 1024;
/// Most headers of a part.
const MAX_HEADERS: usize = 16;
/// Most bytes before the first boundary.
const MAX_PREAMBLE: usize = 1024;
/// Most parts of a form.
const MAX_PARTS: usize = 64;

/// A form that is being read.
pub(super) struct Form {
    body: Body,
    buffer: BytesMut,
    /// `\r\n--boundary`.
    delimiter: Finder<'static>,
    patience: Patience,
    parts: usize,
    /// Whether the last part has been read to its end.
    at_boundary: bool,
}

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Between two frames.
    pub(super) pause: Duration,
    /// All of it.
    pub(super) until: Instant,
}

/// The head of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The name of the form's field.
    pub(super) name: String,
    /// The name of the file, where it is one.
    pub(super) filename: Option<String>,
    /// The media type that the caller says it has.
    pub(super) kind: Option<String>,
}

impl Form {
    /// A form in a body.
    ///
    /// Errors: `INVALID_FORM` where the body says to be something else.
    pub(super) fn new(headers: &HeaderMap, body: Body, patience: Patience) -> Result<Self> {
        let boundary = boundary(headers)?;
        // The first boundary has no line before it.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        Ok(Self {
            body,
            buffer,
            delimiter: Finder::new(&format!("\r\n--{boundary}")).into_owned(),
            patience,
            parts: 0,
            at_boundary: false,
        })
    }

    /// Back to the body, with what is left of it.
    pub(super) fn into_body(self) -> Body {
        self.body
    }

    /// The next part; nothing after the last one. What is left of the part before is left out.
    ///
    /// Errors: `INVALID_FORM`, `BODY_INCOMPLETE`, `BODY_TIMEOUT`.
    pub(super) async fn part(&mut self) -> Result<Option<Part>> {
        let mut skipped = 0;
        while !self.at_boundary {
            let chunk = self.chunk().await?;
            skipped += chunk.map_or(0, |chunk| chunk.len());
            if self.parts == 0 && skipped > MAX_PREAMBLE {
                return Err(invalid(
                    "the body does not begin with the boundary of its Content-Type",
                ));
            }
        }
        self.at_boundary = false;
        self.fill(2).await?;
        if self.buffer.starts_with(b"--") {
            return Ok(None);
        }
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(invalid(format!("a form has at most {MAX_PARTS} parts")));
        }
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(invalid(format!(
                    "the head of a part has more than {MAX_HEAD} bytes"
                )));
            }
            self.more().await?;
        };
        let head = self.buffer.split_to(end);
        // Blanks may stand between the boundary and the end of its line.
        let line = memchr::memmem::find(&head, b"\r\n").map_or(0, |at| at + 2);
        // A part without headers begins right after its empty line, whose first half ended the boundary's.
        read_head(&head[line..]).map(Some)
    }

    /// The next bytes of the part; nothing at its end.
    ///
    /// Errors: `BODY_INCOMPLETE`, `BODY_TIMEOUT`.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        if self.at_boundary {
            return Ok(None);
        }
        loop {
            if let Some(at) = self.delimiter.find(&self.buffer) {
                if at > 0 {
                    return Ok(Some(self.buffer.split_to(at).freeze()));
                }
                let _ = self.buffer.split_to(self.delimiter.needle().len());
                self.at_boundary = true;
                return Ok(None);
            }
            // The rest may be the beginning of a boundary.
            let certain = (self.buffer.len() + 1).saturating_sub(self.delimiter.needle().len());
            if certain > 0 {
                return Ok(Some(self.buffer.split_to(certain).freeze()));
            }
            self.more().await?;
        }
    }

    async fn fill(&mut self, length: usize) -> Result<()> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        Ok(())
    }

    /// Waits for one more frame.
    async fn more(&mut self) -> Result<()> {
        let incomplete = || {
            let message = "the request's body broke off before the end of its form";
            Error::new(ErrorKind::InvalidInput, "BODY_INCOMPLETE", message)
        };
        let until = (Instant::now() + self.patience.pause).min(self.patience.until);
        match tokio::time::timeout_at(until.into(), self.body.frame()).await {
            Err(_) => Err(Error::new(
                ErrorKind::InvalidInput,
                "BODY_TIMEOUT",
                "the request's body did not arrive in time",
            )),
            Ok(None) => Err(incomplete()),
            Ok(Some(Err(error))) => Err(incomplete().with_source(error)),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
                Ok(())
            }
        }
    }
}

/// The boundary that the body's type names.
fn boundary(headers: &HeaderMap) -> Result<String> {
    const HOW: &str = "upload a file as a form: Content-Type: multipart/form-data with a part named `file`";
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let (essence, parameters) = kind
        .unwrap_or_default()
        .split_once(';')
        .ok_or_else(|| invalid(HOW))?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err(invalid(HOW));
    }
    let boundary = parameter(parameters, "boundary").unwrap_or_default();
    let fits = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY || !boundary.bytes().all(fits) {
        return Err(invalid("the Content-Type names no boundary that a form can have"));
    }
    Ok(boundary)
}

fn read_head(head: &[u8]) -> Result<Part> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let parsed = httparse::parse_headers(head, &mut headers);
    let Ok(httparse::Status::Complete((_, headers))) = parsed else {
        return Err(invalid("a part of the form has no head that can be read"));
    };
    let of = |name: &str| {
        let header = headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let disposition = of("content-disposition").unwrap_or_default();
    let (_, parameters) = disposition.split_once(';').unwrap_or_default();
    let Some(name) = parameter(parameters, "name") else {
        return Err(invalid(
            "a part of the form has no name in its Content-Disposition",
        ));
    };
    let extended = parameter(parameters, "filename*").and_then(|text| {
        let (_, encoded) = text.split_once("''")?;
        percent_decode_str(encoded).decode_utf8().ok().map(String::from)
    });
    Ok(Part {
        name,
        filename: extended.or_else(|| parameter(parameters, "filename")),
        kind: of("content-type").map(|kind| kind.trim().to_ascii_lowercase()),
    })
}

/// The value of a parameter in `a=b; c="d; \"e\""`.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, after) = rest.split_once('=')?;
        let (value, left) = value(after);
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = left;
    }
}

/// A value, in quotes or not, and what follows it. Browsers write a quote in a name as `%22`; others put `\\` in front.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value.replace("%22", "\""), &quoted[at + 1..]),
            '\\' if quoted[at + 1..].starts_with(['"', '\\']) => {
                value.extend(characters.next().map(|(_, escaped)| escaped));
            }
            other => value.push(other),
        }
    }
    (value, "")
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, "INVALID_FORM", message.into())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// The same bytes in frames of each size.
    fn form(kind: &str, bytes: &[u8], frame: usize) -> Result<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, kind.parse().expect("a header"));
        let frames: Vec<Result<Bytes, std::io::Error>> = bytes
            .chunks(frame)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        let patience = Patience {
            pause: Duration::from_secs(60),
            until: Instant::now() + Duration::from_secs(60),
        };
        Form::new(&headers, Body::from_stream(stream::iter(frames)), patience)
    }

    /// Names, file names, and what is in them.
    async fn read(bytes: &[u8], frame: usize) -> Result<Vec<(String, Option<String>, Vec<u8>)>> {
        let mut form = form("multipart/form-data; charset=x; boundary=\"b b\"", bytes, frame)?;
        let mut parts = Vec::new();
        while let Some(part) = form.part().await? {
            let mut content = Vec::new();
            while let Some(chunk) = form.chunk().await? {
                content.extend_from_slice(&chunk);
            }
            parts.push((part.name, part.filename, content));
        }
        Ok(parts)
    }

    #[tokio::test]
    async fn parts_are_the_same_however_they_arrive() {
        let bytes = b"preamble\r\n--b b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b \r\n--b b  \r\n\
            content-type: Text/Plain\r\ncontent-disposition: form-data; filename=\"x; \\\"y%22.txt\"; name=file\r\n\r\n\
            \r\n--b\r\n\r\n--b b--\r\nepilogue";
        for frame in 1..bytes.len() + 1 {
            let parts = read(bytes, frame).await.expect("a form");
            assert_eq!(
                parts,
                [
                    ("a".to_owned(), None, b"1\r\n--b ".to_vec()),
                    (
                        "file".to_owned(),
                        Some("x; \"y\".txt".to_owned()),
                        b"\r\n--b\r\n".to_vec()
                    ),
                ],
                "in frames of {frame}"
            );
        }
    }

    #[tokio::test]
    async fn nothing_is_held_but_a_frame_and_the_beginning_of_a_boundary() {
        let mut bytes = b"--b b\r\nContent-Disposition: form-data; name=file\r\n\r\n".to_vec();
        bytes.extend(std::iter::repeat_n(b'\r', 1 << 20));
        bytes.extend(b"\r\n--b b--");
        let mut form = form("multipart/form-data; boundary=\"b b\"", &bytes, 4096).expect("a form");
        form.part().await.expect("read").expect("a part");
        let mut length = 0;
        while let Some(chunk) = form.chunk().await.expect("read") {
            length += chunk.len();
            assert!(form.buffer.len() < 8192);
        }
        assert_eq!(length, 1 << 20);
        assert_eq!(form.part().await.expect("read"), None);
    }

    #[tokio::test]
    async fn what_is_no_form_is_told_apart() {
        for (kind, expected) in [
            ("application/json", "INVALID_FORM"),
            ("multipart/form-data", "INVALID_FORM"),
            ("multipart/form-data; boundary=", "INVALID_FORM"),
            ("multipart/mixed; boundary=b", "INVALID_FORM"),
        ] {
            assert_eq!(
                form(kind, b"", 1)
                    .err()
                    .map(|error| error.code().to_owned())
                    .as_deref(),
                Some(expected)
            );
        }
        for (bytes, expected) in [
            (&b""[..], "BODY_INCOMPLETE"),
            (
                b"--b b\r\nContent-Disposition: form-data; name=file\r\n\r\nabc",
                "BODY_INCOMPLETE",
            ),
            (
                b"--b b\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--b b--",
                "INVALID_FORM",
            ),
            (b"--b b\r\nno head at all\r\n\r\nabc\r\n--b b--", "INVALID_FORM"),
        ] {
            let refused = read(bytes, 7).await.expect_err("refused");
            assert_eq!(refused.code(), expected, "{}", String::from_utf8_lossy(bytes));
        }
        let endless = [b'x'; 4096];
        assert_eq!(
            read(&endless, 16).await.expect_err("refused").code(),
            "INVALID_FORM"
        );
    }

    #[test]
    fn names_of_files_are_read_in_both_spellings() {
        let head = |text: &str| read_head(format!("Content-Disposition: {text}\r\n\r\n").as_bytes());
        let name = |text: &str| head(text).expect("a head").filename;
        assert_eq!(
            name("form-data; name=f; filename=a.txt").as_deref(),
            Some("a.txt")
        );
        assert_eq!(
            name("form-data; name=f; filename=\"a.txt\"; filename*=UTF-8''%C3%A4.txt").as_deref(),
            Some("ä.txt")
        );
        assert_eq!(
            name("form-data; name=f; filename=\"C:\\x\\y.txt\"").as_deref(),
            Some("C:\\x\\y.txt")
        );
        assert_eq!(name("form-data; name=f"), None);
    }
}
