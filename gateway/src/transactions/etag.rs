//! Validators of documents and the conditions that requests set with them (RFC 9110, sections 8.8.3 and 13).
//!
//! A document's tag is a digest of its JSON as a reply holds it, so it is the same on every gateway and needs no
//! column; it is strong, since other bytes have another tag.

use alyx_core::{Error, ErrorKind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};

/// Tags in one condition at most.
const MAX_TAGS: usize = 64;
/// Bytes of the digest in a tag.
const DIGEST: usize = 16;

/// The tag of a document, in its quotes.
pub(crate) fn tag_of(document: &[u8]) -> String {
    let digest = blake3::hash(document);
    let mut tag = String::with_capacity(24);
    tag.push('"');
    URL_SAFE_NO_PAD.encode_string(&digest.as_bytes()[..DIGEST], &mut tag);
    tag.push('"');
    tag
}

/// The same as a header.
pub(crate) fn header_of(document: &[u8]) -> HeaderValue {
    HeaderValue::try_from(tag_of(document)).expect("base64 in quotes is a header value")
}

/// What `If-Match` and `If-None-Match` demand of a document that is there. Of one that is not, a request tells 404 in
/// any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Preconditions {
    matches: Option<Tags>,
    none_matches: Option<Tags>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    /// `*`
    Any,
    Listed(Vec<Tag>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    weak: bool,
    /// With its quotes.
    opaque: String,
}

impl Preconditions {
    /// Reads both headers.
    ///
    /// Errors: `INVALID_PRECONDITION`.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self> {
        Ok(Self {
            matches: tags(headers, &IF_MATCH)?,
            none_matches: tags(headers, &IF_NONE_MATCH)?,
        })
    }

    /// The condition in an operation of a batch.
    ///
    /// Errors: `INVALID_PRECONDITION`.
    pub(crate) fn if_match(text: &str) -> Result<Self> {
        Ok(Self {
            matches: Some(parse("ifMatch", text)?),
            none_matches: None,
        })
    }

    /// Whether nothing is demanded.
    pub(crate) fn is_empty(&self) -> bool {
        self.matches.is_none() && self.none_matches.is_none()
    }

    /// Whether a write may change a document with that tag.
    ///
    /// Errors: `PRECONDITION_FAILED`.
    pub(crate) fn check(&self, tag: &str) -> Result<()> {
        let header = match (&self.matches, &self.none_matches) {
            (Some(wanted), _) if !wanted.has(tag, Comparison::Strong) => "If-Match",
            (_, Some(unwanted)) if unwanted.has(tag, Comparison::Weak) => "If-None-Match",
            _ => return Ok(()),
        };
        Err(Error::new(
            ErrorKind::PreconditionFailed,
            "PRECONDITION_FAILED",
            format!("the document's tag is {tag}, which is not what {header} demands: read it again"),
        ))
    }

    /// Whether who reads a document with that tag has it already.
    pub(crate) fn is_known(&self, tag: &str) -> bool {
        self.none_matches
            .as_ref()
            .is_some_and(|known| known.has(tag, Comparison::Weak))
    }
}

#[derive(Debug, Clone, Copy)]
enum Comparison {
    /// Weak tags equal nothing.
    Strong,
    /// The letter does not matter.
    Weak,
}

impl Tags {
    fn has(&self, tag: &str, comparison: Comparison) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|listed| {
                let comparable = match comparison {
                    Comparison::Strong => !listed.weak,
                    Comparison::Weak => true,
                };
                comparable && listed.opaque == tag
            }),
        }
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>> {
    let mut values = headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        return Ok(None);
    }
    let mut list = String::new();
    for value in values {
        let text = value
            .to_str()
            .map_err(|_| malformed(name.as_str(), "holds bytes that are not ASCII"))?;
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(text);
    }
    parse(name.as_str(), &list).map(Some)
}

fn parse(name: &str, list: &str) -> Result<Tags> {
    let mut rest = list.trim();
    if rest == "*" {
        return Ok(Tags::Any);
    }
    let mut tags = Vec::new();
    while !rest.is_empty() {
        let (weak, opened) = match rest.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let end = opened
            .strip_prefix('"')
            .and_then(|inside| inside.find('"'))
            .ok_or_else(|| malformed(name, "must be * or a list of tags in double quotes"))?;
        let (opaque, after) = opened.split_at(end + 2);
        tags.push(Tag {
            weak,
            opaque: opaque.to_owned(),
        });
        if tags.len() > MAX_TAGS {
            return Err(malformed(name, "has too many tags; 64 are allowed"));
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start_matches([' ', '\t', ',']),
            None if after.is_empty() => after,
            None => return Err(malformed(name, "must have a comma between two tags")),
        };
    }
    if tags.is_empty() {
        return Err(malformed(name, "is empty: name a tag, or *"));
    }
    Ok(Tags::Listed(tags))
}

fn malformed(name: &str, problem: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "INVALID_PRECONDITION",
        format!("`{name}` {problem}"),
    )
    .with_field(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> Result<Preconditions> {
        let mut headers = HeaderMap::new();
        for &(name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        Preconditions::of(&headers)
    }

    #[test]
    fn if_match_is_strong_and_if_none_match_weak() {
        let check = |pairs: &[(&'static str, &'static str)], passes: bool, known: bool| {
            let conditions = of(pairs).expect("well formed");
            assert_eq!(conditions.check("\"a\"").is_ok(), passes, "{pairs:?}");
            assert_eq!(conditions.is_known("\"a\""), known, "{pairs:?}");
        };
        check(&[], true, false);
        check(&[("if-match", "*")], true, false);
        check(&[("if-match", "\"b\" , \"a\"")], true, false);
        check(&[("if-match", "\"b\""), ("if-match", "\"a\"")], true, false);
        check(&[("if-match", "\"b\"")], false, false);
        check(&[("if-match", "W/\"a\"")], false, false);
        check(&[("if-none-match", "*")], false, true);
        check(&[("if-none-match", "\"a\"")], false, true);
        check(&[("if-none-match", "W/\"a\"")], false, true);
        check(&[("if-none-match", "\"b\",\"c,d\"")], true, false);
        check(&[("if-match", "\"a\""), ("if-none-match", "\"a\"")], false, true);
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        for list in ["", " ", "a", "\"a", "\"a\" \"b\"", "*,\"a\"", "w/\"a\"", "\"a\";"] {
            let error = of(&[("if-match", list)]).expect_err(list);
            assert_eq!(error.code(), "INVALID_PRECONDITION", "{list}");
        }
    }

    #[test]
    fn other_bytes_have_another_tag() {
        let tag = tag_of(b"{}");
        assert_eq!((tag.len(), tag.as_bytes()[0]), (24, b'"'));
        assert_ne!(tag, tag_of(b"{ }"));
        assert_eq!(header_of(b"{}"), tag.as_str());
    }
}
