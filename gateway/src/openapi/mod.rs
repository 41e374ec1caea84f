//! What the API looks like, for machines and for people: the OpenAPI 3.1 document at `/api/openapi.json`, made
//! from the schema and the functions that are served at this moment, and a page at `/docs` that shows it.
//!
//! **Invariants:** the document lists only what can succeed: a route that is switched off or an operation that the
//! schema closes is not in it; it is made once per revision of the desired state; the page loads nothing from
//! elsewhere.

mod access;
mod admin;
mod auth;
mod collections;
mod document;
mod files;
mod functions;
mod names;
mod oauth;
mod operation;
mod page;
mod schemas;
mod second_factor;
mod system;
#[cfg(test)]
mod tests;
mod transactions;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use http::{Response, StatusCode};
use parking_lot::Mutex;
use sha1::{Digest, Sha1};

use crate::app::AppState;
use document::{Subject, document};

/// The routes of this module.
pub(crate) fn router() -> Router<AppState> {
    let cache = Arc::new(Cache::default());
    let spec = move |State(app): State<AppState>, headers: HeaderMap| {
        let cache = Arc::clone(&cache);
        async move { serve_document(&app, &cache, &headers) }
    };
    Router::new()
        .route("/api/openapi.json", get(spec))
        .merge(page::router("/docs"))
        .merge(page::router("/api/docs"))
}

/// The document of the last revision that was asked for.
#[derive(Debug, Default)]
struct Cache {
    made: Mutex<Option<(u64, Bytes)>>,
}

impl Cache {
    /// The document of `revision`. Made under the lock: those who ask meanwhile wait for it instead of making it
    /// as well.
    fn get(&self, revision: u64, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut made = self.made.lock();
        match &*made {
            Some((known, document)) if *known == revision => document.clone(),
            Some(_) | None => {
                let document = make();
                *made = Some((revision, document.clone()));
                document
            }
        }
    }
}

fn serve_document(app: &AppState, cache: &Cache, headers: &HeaderMap) -> Response<Body> {
    let state = app.desired();
    let body = cache.get(state.revision, || {
        let subject = Subject {
            state: &state,
            docs: &app.config.docs,
            functions: app.functions.is_some(),
            realtime: app.hub.is_some(),
            accounts: app.auth.is_on(),
            development: app.config.dev.enabled,
        };
        let text = serde_json::to_vec_pretty(&document(&subject));
        text.expect("a tree of JSON values serialises").into()
    });
    fresh_or_not(headers, &tag_of(&body), "application/json", "no-cache", body)
}

/// A validator made from the content itself, so that it survives restarts and means the same on every gateway.
fn tag_of(body: &[u8]) -> String {
    let digest = Sha1::digest(body);
    let digits = digest.iter().take(10).map(|byte| format!("{byte:02x}"));
    format!("\"{}\"", digits.collect::<String>())
}

/// A reply with a validator; 304 without a body where the caller has it already.
fn fresh_or_not(
    headers: &HeaderMap,
    tag: &str,
    kind: &'static str,
    caching: &'static str,
    body: Bytes,
) -> Response<Body> {
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|candidate| candidate.trim().trim_start_matches("W/") == tag || candidate.trim() == "*");
    let mut reply = if known {
        let mut reply = Response::new(Body::empty());
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        reply
    } else {
        let mut reply = Response::new(Body::from(body));
        reply
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        reply
    };
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    reply
}
