//! Calls to the server: where it is, who we are, how long to wait, and how a call ends.

use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result, with_causes};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::options::RemoteOptions;

/// Longest answer that is read, in bytes; the server itself stops at 10 MB of values.
const MAX_ANSWER: usize = 96 << 20;
/// Longest error text that is kept.
const MAX_ERROR: usize = 512;
/// How long an unused connection is kept.
const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// The server as configured.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    base: Uri,
    authorization: Option<HeaderValue>,
    connect_timeout: Duration,
}

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum CallError {
    /// It never left: nothing has happened on the server.
    NotSent(String),
    /// It left, and the connection broke before the answer.
    Lost(String),
    /// It left, and the answer did not come in time.
    Deadline,
    /// The server answered with a status.
    Status(u16, String),
}

impl Endpoint {
    /// Reads the options. Errors: `DATABASE_URL_INVALID`, `DATABASE_TOKEN_INVALID`.
    pub(super) fn new(options: &RemoteOptions) -> Result<Self> {
        let invalid = |why: &str| {
            Error::new(
                ErrorKind::InvalidInput,
                "DATABASE_URL_INVALID",
                format!(
                    "the database URL `{}` cannot be used: {why}; it looks like http://HOST:8080 or libsql://HOST",
                    options.url
                ),
            )
        };
        let url = options.url.trim_end_matches('/');
        let url = match url.strip_prefix("libsql://") {
            Some(rest) => format!("https://{rest}"),
            None => url.to_owned(),
        };
        let base: Uri = url.parse().map_err(|_| invalid("it is not a URL"))?;
        if !matches!(base.scheme_str(), Some("http" | "https")) {
            return Err(invalid("it must begin with http://, https:// or libsql://"));
        }
        if base
            .authority()
            .is_none_or(|authority| authority.as_str().contains('@'))
        {
            return Err(invalid("it must name a host and hold no credentials"));
        }
        if base.query().is_some() || base.path() != "/" && !base.path().is_empty() {
            return Err(invalid("it must have no path and no query"));
        }
        let authorization = match &options.auth_token {
            Some(token) if !token.is_empty() => {
                let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
                    Error::new(
                        ErrorKind::InvalidInput,
                        "DATABASE_TOKEN_INVALID",
                        "the database token holds characters that no token has: check for line breaks",
                    )
                })?;
                value.set_sensitive(true);
                Some(value)
            }
            _ => None,
        };
        Ok(Self {
            base,
            authorization,
            connect_timeout: options.connect_timeout,
        })
    }

    fn is_https(&self) -> bool {
        self.base.scheme_str() == Some("https")
    }

    /// The address of calls. A server may ask for another base for the rest of a stream; one that would have our
    /// token sent in clear text is not followed.
    fn pipeline(&self, base: Option<&str>) -> Uri {
        let given = base
            .and_then(|base| base.trim_end_matches('/').parse::<Uri>().ok())
            .filter(|base| base.authority().is_some())
            .filter(|base| base.scheme_str() == Some("https") || !self.is_https());
        let parts = given.as_ref().unwrap_or(&self.base);
        let mut uri = parts.clone().into_parts();
        uri.path_and_query = Some(http::uri::PathAndQuery::from_static("/v3/pipeline"));
        Uri::from_parts(uri).expect("scheme, authority and path are there")
    }
}

/// A client of the server. Its connections belong to the runtime that it is used on.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Endpoint,
}

impl Http {
    pub(super) fn new(endpoint: Endpoint) -> Result<Self> {
        let provider = rustls::crypto::ring::default_provider();
        let builder = HttpsConnectorBuilder::new();
        let schemes = if endpoint.is_https() {
            builder
                .with_provider_and_native_roots(provider)
                .map_err(Error::internal)?
        } else {
            let config = rustls::ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()
                .map_err(Error::internal)?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            builder.with_tls_config(config)
        };
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(endpoint.connect_timeout));
        let connector = schemes.https_or_http().enable_http1().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .http1_max_buf_size(1 << 20)
            .build(connector);
        Ok(Self { client, endpoint })
    }

    /// Sends a body and returns the answer's.
    pub(super) async fn call(
        &self,
        base: Option<&str>,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.endpoint.pipeline(base))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.endpoint.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| CallError::NotSent(error.to_string()))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                if error.is_connect() {
                    CallError::NotSent(with_causes(&error))
                } else {
                    CallError::Lost(with_causes(&error))
                }
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await
                .map_err(|error| CallError::Lost(error.to_string()))?
                .to_bytes();
            if status.is_success() {
                return Ok(body);
            }
            let text: String = String::from_utf8_lossy(&body).chars().take(MAX_ERROR).collect();
            Err(CallError::Status(status.as_u16(), text))
        };
        tokio::time::timeout_at(deadline.into(), exchange)
            .await
            .unwrap_or(Err(CallError::Deadline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Result<Endpoint> {
        Endpoint::new(&RemoteOptions::new(url))
    }

    #[test]
    fn urls_name_the_server() {
        for (url, expected) in [
            ("http://localhost:8080", "http://localhost:8080/v3/pipeline"),
            ("http://localhost:8080/", "http://localhost:8080/v3/pipeline"),
            ("https://db.example.org", "https://db.example.org/v3/pipeline"),
            ("libsql://db.example.org", "https://db.example.org/v3/pipeline"),
        ] {
            let found = endpoint(url).expect("a URL").pipeline(None).to_string();
            assert_eq!(found, expected, "{url}");
        }
        for url in [
            "",
            "localhost:8080",
            "ftp://host",
            "http://",
            "http://user:secret@host",
            "http://host/path",
            "http://host?x=1",
        ] {
            assert_eq!(
                endpoint(url).expect_err(url).code(),
                "DATABASE_URL_INVALID",
                "{url}"
            );
        }
    }

    #[test]
    fn a_stream_moves_only_where_the_token_stays_secret() {
        let secret = endpoint("libsql://a.example.org").expect("a URL");
        assert_eq!(
            secret.pipeline(Some("https://b.example.org")).to_string(),
            "https://b.example.org/v3/pipeline"
        );
        for base in ["http://b.example.org", "nonsense", ""] {
            assert_eq!(
                secret.pipeline(Some(base)).to_string(),
                "https://a.example.org/v3/pipeline"
            );
        }
    }

    #[test]
    fn the_token_is_never_shown() {
        let options = RemoteOptions {
            auth_token: Some("very-secret".to_owned()),
            ..RemoteOptions::new("http://host")
        };
        let endpoint = Endpoint::new(&options).expect("an endpoint");
        assert!(!format!("{options:?} {endpoint:?}").contains("very-secret"));
        let broken = RemoteOptions {
            auth_token: Some("very\nsecret".to_owned()),
            ..options
        };
        let error = Endpoint::new(&broken).expect_err("no token");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}
