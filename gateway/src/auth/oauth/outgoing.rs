//! Requests to other providers, bounded in number, time and size. Redirects are not followed.

use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result, with_causes};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;

/// Longest time for one answer.
const WITHIN: Duration = Duration::from_secs(10);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 256 << 10;
/// Requests at the same time.
const AT_ONCE: usize = 32;
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// The way to other providers.
pub(super) struct Outgoing {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    permits: Semaphore,
}

/// What a provider answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Outgoing {
    /// `encrypted` where one of the providers is not on this machine: then the system's certificates are read.
    ///
    /// Errors: `OAUTH_INVALID` where there are none.
    pub(super) fn new(encrypted: bool) -> Result<Self> {
        let provider = rustls::crypto::ring::default_provider();
        let builder = HttpsConnectorBuilder::new();
        let schemes = if encrypted {
            builder.with_provider_and_native_roots(provider).map_err(|error| {
                let message = "providers in `auth.oauth` cannot be reached: this machine has no certificates of authorities \
                               (install `ca-certificates`)";
                Error::new(ErrorKind::InvalidInput, "OAUTH_INVALID", message).with_source(error)
            })?
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
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        let connector = schemes.https_or_http().enable_http1().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .build(connector);
        Ok(Self {
            client,
            permits: Semaphore::new(AT_ONCE),
        })
    }

    /// `GET`, with a bearer where there is one.
    pub(super) async fn get(
        &self,
        url: &str,
        bearer: Option<&str>,
        deadline: Instant,
    ) -> Result<Answer, String> {
        let authorization = bearer.map(|token| format!("Bearer {token}"));
        self.send(Method::GET, url, authorization, Bytes::new(), deadline)
            .await
    }

    /// `POST` of a form.
    pub(super) async fn post(
        &self,
        url: &str,
        authorization: Option<String>,
        form: String,
        deadline: Instant,
    ) -> Result<Answer, String> {
        self.send(Method::POST, url, authorization, form.into(), deadline)
            .await
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        authorization: Option<String>,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Answer, String> {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(url)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "alyx");
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        if let Some(text) = authorization {
            let value = HeaderValue::try_from(text);
            let mut value = value.map_err(|_| "a token has characters that no header has".to_owned())?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let exchange = async {
            let _permit = self.permits.acquire().await.map_err(|error| error.to_string())?;
            let reply = self
                .client
                .request(request)
                .await
                .map_err(|error| with_causes(&error))?;
            let status = reply.status();
            let body = Limited::new(reply.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer { status, body })
        };
        let until = deadline.min(Instant::now() + WITHIN);
        let answered = tokio::time::timeout_at(until.into(), exchange).await;
        answered.unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
    }
}
