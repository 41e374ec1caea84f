//! Cross-origin requests (<https://fetch.spec.whatwg.org/#http-cors-protocol>), with every header that can be
//! made in advance made in advance.

use alyx_config::Cors as CorsConfig;
use axum::body::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use http::{Method, Request, StatusCode};

use crate::envelope::{self, Reply};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-ID",
);
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
const ANY: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// The policy in the form that requests need.
#[derive(Debug)]
pub(crate) struct Cors {
    enabled: bool,
    any_origin: bool,
    origins: Vec<HeaderValue>,
    exposed: Option<HeaderValue>,
    credentials: bool,
    max_age: Option<HeaderValue>,
}

impl Cors {
    /// Origins and headers that can be no header value match nothing and are left out.
    pub(crate) fn new(config: &CorsConfig) -> Self {
        let origin = |text: &String| HeaderValue::try_from(text.trim_end_matches('/')).ok();
        let max_age = config.max_age.as_secs();
        Self {
            enabled: config.enabled,
            any_origin: config.allowed_origins.iter().any(|origin| origin == "*"),
            origins: config.allowed_origins.iter().filter_map(origin).collect(),
            exposed: (!config.exposed_headers.is_empty())
                .then(|| HeaderValue::try_from(config.exposed_headers.join(", ")).ok())
                .flatten(),
            credentials: config.allow_credentials,
            max_age: (max_age > 0).then(|| HeaderValue::from(max_age)),
        }
    }

    /// The reply to a preflight request; `None` where the request is none.
    pub(crate) fn preflight(&self, request: &Request<Body>) -> Option<Reply> {
        let headers = request.headers();
        let is_preflight = self.enabled
            && request.method() == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight {
            return None;
        }
        let mut reply = envelope::empty(StatusCode::NO_CONTENT);
        let out = reply.headers_mut();
        out.insert(VARY, VARY_PREFLIGHT);
        out.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        out.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        if let Some(max_age) = &self.max_age {
            out.insert(ACCESS_CONTROL_MAX_AGE, max_age.clone());
        }
        Some(reply)
    }

    /// The caller's origin, taken out of the request before a handler consumes it.
    pub(crate) fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.enabled {
            headers.get(ORIGIN).cloned()
        } else {
            None
        }
    }

    /// Adds what a reply to a caller of that origin needs. Caches learn that replies differ by origin even
    /// where this request had none.
    pub(crate) fn decorate(&self, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
        if !self.enabled {
            return;
        }
        if !headers.contains_key(VARY) {
            headers.insert(VARY, VARY_ORIGIN);
        }
        let Some(origin) = origin else { return };
        if self.any_origin && !self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        } else if self.any_origin || self.origins.contains(&origin) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        } else {
            return;
        }
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(exposed) = &self.exposed {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        Cors::new(&CorsConfig {
            enabled: true,
            allowed_origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            exposed_headers: vec!["X-Request-ID".to_owned()],
            allow_credentials: credentials,
            max_age: Duration::from_secs(60),
        })
    }

    fn allowed(cors: &Cors, origin: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        cors.decorate(Some(HeaderValue::from_static(origin)), &mut headers);
        assert_eq!(headers[VARY], "Origin");
        let allowed = headers.get(ACCESS_CONTROL_ALLOW_ORIGIN)?;
        Some(allowed.to_str().expect("ASCII").to_owned())
    }

    #[test]
    fn only_listed_origins_are_allowed() {
        let listed = cors(&["https://a.example", "https://b.example/"], true);
        assert_eq!(
            allowed(&listed, "https://a.example").as_deref(),
            Some("https://a.example")
        );
        assert_eq!(
            allowed(&listed, "https://b.example").as_deref(),
            Some("https://b.example")
        );
        assert_eq!(allowed(&listed, "https://a.example.evil"), None);
        assert_eq!(allowed(&listed, "null"), None);
        assert_eq!(
            allowed(&cors(&["*"], false), "https://x.example").as_deref(),
            Some("*")
        );
    }

    #[test]
    fn a_preflight_is_options_with_both_headers() {
        let cors = cors(&["*"], false);
        let request = |method: &str, asked: bool| {
            let mut request = Request::builder()
                .method(method)
                .header(ORIGIN, "https://a.example");
            if asked {
                request = request.header(ACCESS_CONTROL_REQUEST_METHOD, "PATCH");
            }
            request.body(Body::empty()).expect("a request")
        };
        let reply = cors.preflight(&request("OPTIONS", true)).expect("a preflight");
        assert_eq!(reply.status(), StatusCode::NO_CONTENT);
        assert_eq!(reply.headers()[ACCESS_CONTROL_MAX_AGE], "60");
        assert!(cors.preflight(&request("OPTIONS", false)).is_none());
        assert!(cors.preflight(&request("GET", true)).is_none());
    }

    #[test]
    fn switched_off_it_adds_nothing() {
        let mut off = cors(&["*"], false);
        off.enabled = false;
        let mut headers = HeaderMap::new();
        off.decorate(Some(HeaderValue::from_static("https://a.example")), &mut headers);
        assert!(headers.is_empty());
    }
}
