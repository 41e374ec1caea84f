//! What an operation did, and how replies tell it.

use std::sync::Arc;

use alyx_core::Row;
use alyx_schema::{Collection, write_json};
use bytes::Bytes;
use http::StatusCode;

use super::etag::tag_of;

/// What an operation did.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) status: StatusCode,
    pub(crate) document: Option<Document>,
}

/// A document as its caller may see it.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) collection: Arc<Collection>,
    pub(crate) row: Row,
    /// Whether the caller sees nothing but its key: who may not read learns from a write only that it was done.
    key_only: bool,
}

impl Outcome {
    pub(super) fn created(collection: &Arc<Collection>, row: Row) -> Self {
        Self::of(StatusCode::CREATED, collection, row, false)
    }

    pub(super) fn found(collection: &Arc<Collection>, row: Row) -> Self {
        Self::of(StatusCode::OK, collection, row, false)
    }

    /// `readable`: whether the caller may read the document.
    pub(super) fn changed(collection: &Arc<Collection>, row: Row, readable: bool) -> Self {
        Self::of(StatusCode::OK, collection, row, !readable)
    }

    /// An upsert does not tell whether the document was there.
    pub(super) fn upserted(mut self, readable: bool) -> Self {
        self.status = StatusCode::OK;
        if let Some(document) = &mut self.document {
            document.key_only = !readable;
        }
        self
    }

    pub(super) fn deleted() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            document: None,
        }
    }

    fn of(status: StatusCode, collection: &Arc<Collection>, row: Row, key_only: bool) -> Self {
        Self {
            status,
            document: Some(Document {
                collection: Arc::clone(collection),
                row,
                key_only,
            }),
        }
    }
}

impl Document {
    /// The document as JSON.
    pub(crate) fn json(&self) -> Bytes {
        let mut out = Vec::with_capacity(256);
        self.write(&mut out);
        out.into()
    }

    fn write(&self, out: &mut Vec<u8>) {
        let key = [self.collection.primary()];
        let fields = self.key_only.then_some(key.as_slice());
        write_json(&self.collection, &self.row, fields, out);
    }
}

/// The tag of a document.
pub(super) fn document_tag(collection: &Collection, row: &Row) -> String {
    let mut json = Vec::with_capacity(256);
    write_json(collection, row, None, &mut json);
    tag_of(&json)
}

/// A reply before it is one: kept for repeated requests as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shaped {
    pub(crate) status: StatusCode,
    pub(crate) etag: Option<String>,
    /// Empty where there is none.
    pub(crate) body: Bytes,
}

impl Shaped {
    /// The reply to a request about one document.
    pub(crate) fn single(outcomes: &[Outcome]) -> Self {
        let Some(outcome) = outcomes.first() else {
            return Self::nothing(StatusCode::NO_CONTENT);
        };
        match &outcome.document {
            None => Self::nothing(outcome.status),
            Some(document) => {
                let body = document.json();
                Self {
                    status: outcome.status,
                    etag: (!document.key_only).then(|| tag_of(&body)),
                    body,
                }
            }
        }
    }

    /// The reply to a batch: `{"results": [{status, doc?, etag?}]}`.
    pub(crate) fn batch(outcomes: &[Outcome]) -> Self {
        let mut out = Vec::with_capacity(32 + outcomes.len() * 320);
        out.extend_from_slice(b"{\"results\":[");
        for (number, outcome) in outcomes.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"status\":");
            out.extend_from_slice(outcome.status.as_str().as_bytes());
            if let Some(document) = &outcome.document {
                out.extend_from_slice(b",\"doc\":");
                let start = out.len();
                document.write(&mut out);
                if !document.key_only {
                    // A tag is base64 between its own quotes.
                    let tag = tag_of(&out[start..]);
                    out.extend_from_slice(b",\"etag\":\"\\\"");
                    out.extend_from_slice(tag.trim_matches('"').as_bytes());
                    out.extend_from_slice(b"\\\"\"");
                }
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
        Self {
            status: StatusCode::OK,
            etag: None,
            body: out.into(),
        }
    }

    fn nothing(status: StatusCode) -> Self {
        Self {
            status,
            etag: None,
            body: Bytes::new(),
        }
    }
}
