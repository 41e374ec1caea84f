//! Where an OpenID provider is and what it signs with (OpenID Connect Discovery 1.0), kept for a while.
//!
//! **Invariants:** a provider is asked by one request at a time and not more often than the bounds below, whatever
//! callers send; endpoints that it names get secrets only encrypted; what was good is kept while it does not answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_auth::{KeySet, is_safe_endpoint};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::outgoing::Outgoing;

/// How long what was read is taken as it is.
const FRESH: Duration = Duration::from_secs(3600);
/// How long it is taken where nothing newer can be read.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Pause after something could not be read.
const PAUSE: Duration = Duration::from_secs(5);
/// Shortest time between two looks for a key that is not known.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Where Microsoft's document has the tenant.
const TENANT: &str = "{tenantid}";

/// What a provider says about itself.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    pub(super) userinfo_endpoint: Option<String>,
    #[serde(default)]
    pub(super) token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// One provider, as far as it is known.
pub(super) struct Discovery {
    issuer: String,
    metadata: Mutex<Slot<Metadata>>,
    keys: Mutex<Slot<KeySet>>,
}

struct Slot<T> {
    good: Option<(Arc<T>, Instant)>,
    /// The last look, and what was wrong.
    failed: Option<(Instant, String)>,
}

impl<T> Slot<T> {
    const EMPTY: Self = Self {
        good: None,
        failed: None,
    };

    /// What is kept, where it is younger than that.
    fn younger(&self, age: Duration) -> Option<Arc<T>> {
        let (good, at) = self.good.as_ref()?;
        (at.elapsed() < age).then(|| Arc::clone(good))
    }

    /// What is wrong, where the last look is too recent for another.
    fn pause(&self) -> Option<String> {
        let (at, why) = self.failed.as_ref()?;
        (at.elapsed() < PAUSE).then(|| why.clone())
    }

    fn put(&mut self, read: Result<T, String>) -> Result<Arc<T>, String> {
        match read {
            Ok(good) => {
                let good = Arc::new(good);
                self.good = Some((Arc::clone(&good), Instant::now()));
                self.failed = None;
                Ok(good)
            }
            Err(why) => {
                self.failed = Some((Instant::now(), why.clone()));
                self.younger(KEPT).ok_or(why)
            }
        }
    }
}

impl Discovery {
    pub(super) fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            metadata: Mutex::new(Slot::EMPTY),
            keys: Mutex::new(Slot::EMPTY),
        }
    }

    pub(super) async fn metadata(&self, http: &Outgoing, deadline: Instant) -> Result<Arc<Metadata>, String> {
        let mut slot = self.metadata.lock().await;
        if let Some(known) = slot.younger(FRESH) {
            return Ok(known);
        }
        if let Some(why) = slot.pause() {
            return slot.younger(KEPT).ok_or(why);
        }
        let read = self.read_metadata(http, deadline).await;
        slot.put(read)
    }

    async fn read_metadata(&self, http: &Outgoing, deadline: Instant) -> Result<Metadata, String> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer);
        let metadata: Metadata = serde_json::from_slice(&fetch(http, &url, deadline).await?)
            .map_err(|error| format!("what it says about itself is incomplete: {error}"))?;
        let same = metadata.issuer.trim_end_matches('/') == self.issuer;
        // `common` and its like stand for every tenant.
        let tenants =
            self.issuer.starts_with("https://login.microsoftonline.com/") && metadata.issuer.contains(TENANT);
        if !same && !tenants {
            return Err("it says that it is another issuer".to_owned());
        }
        let endpoints = [
            Some(&metadata.authorization_endpoint),
            Some(&metadata.token_endpoint),
            Some(&metadata.jwks_uri),
            metadata.userinfo_endpoint.as_ref(),
        ];
        if endpoints.into_iter().flatten().any(|url| !is_safe_endpoint(url)) {
            return Err("one of its endpoints is neither https nor on this machine".to_owned());
        }
        Ok(metadata)
    }

    /// Its keys; `look_again` where one is missing among those that are known.
    pub(super) async fn keys(
        &self,
        http: &Outgoing,
        look_again: bool,
        deadline: Instant,
    ) -> Result<Arc<KeySet>, String> {
        let metadata = self.metadata(http, deadline).await?;
        let mut slot = self.keys.lock().await;
        let enough = if look_again { LOOK_AGAIN } else { FRESH };
        if let Some(known) = slot.younger(enough) {
            return Ok(known);
        }
        if let Some(why) = slot.pause() {
            return slot.younger(KEPT).ok_or(why);
        }
        let read = fetch(http, &metadata.jwks_uri, deadline).await;
        let read =
            read.and_then(|text| KeySet::parse(&text).ok_or_else(|| "its keys are no key set".to_owned()));
        slot.put(read)
    }
}

async fn fetch(http: &Outgoing, url: &str, deadline: Instant) -> Result<bytes::Bytes, String> {
    let answer = http.get(url, None, deadline).await?;
    if answer.status.is_success() {
        return Ok(answer.body);
    }
    Err(format!("it answers {} at {url}", answer.status))
}
