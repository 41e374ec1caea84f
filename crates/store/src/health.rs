//! The database as a part of a role's health.

use alyx_service::health::{HealthCheck, Report, Status};
use async_trait::async_trait;

use crate::Store;

#[async_trait]
impl HealthCheck for Store {
    fn name(&self) -> &'static str {
        "database"
    }

    /// Healthy where a reader answers and the last write could be stored.
    async fn check(&self) -> Report {
        match self.ping().await {
            Err(error) => Report::new(Status::Unhealthy, error.message()),
            Ok(_) if self.storage_failing() => Report::new(
                Status::Degraded,
                "the last write could not be stored; reading goes on, the log tells why",
            ),
            Ok(_) => Report::HEALTHY,
        }
    }
}
