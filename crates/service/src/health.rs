//! Health of a role's parts.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

/// How well something works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should.
    Healthy,
    /// Going on, with something missing.
    Degraded,
    /// Not serving.
    Unhealthy,
}

/// One part's report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How well it works.
    pub status: Status,
    /// Why, where it is not healthy, or a figure worth seeing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Report {
    /// All is well.
    pub const HEALTHY: Self = Self {
        status: Status::Healthy,
        message: None,
    };

    /// Not well, and why.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: Some(message.into()),
        }
    }
}

/// A part that can say how it is. Must answer within 2 s; the caller gives up then.
#[async_trait]
pub trait HealthCheck: Send + Sync {
    /// Name in `components` of `/health`.
    fn name(&self) -> &'static str;

    /// Looks and reports.
    async fn check(&self) -> Report;
}

/// A shared [`HealthCheck`].
pub type SharedCheck = Arc<dyn HealthCheck>;
