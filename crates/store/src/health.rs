//! The database as a part of a role's health.

use alyx_service::health::{HealthCheck, Report, Status};
use async_trait::async_trait;

use crate::{Store, WriterStatus};

#[async_trait]
impl HealthCheck for Store {
    fn name(&self) -> &'static str {
        "database"
    }

    /// Healthy where a reader answers, the last write could be stored, and somebody writes.
    async fn check(&self) -> Report {
        match self.ping().await {
            Err(error) => Report::new(Status::Unhealthy, error.message()),
            Ok(_) if self.storage_failing() => Report::new(
                Status::Degraded,
                "the last write could not be stored; reading goes on, the log tells why",
            ),
            Ok(_) if self.writer() == Some(WriterStatus::Nobody) => Report::new(
                Status::Degraded,
                "no server of the cluster is the writer at the moment; writes wait, reading goes on",
            ),
            Ok(_) => Report::HEALTHY,
        }
    }
}
