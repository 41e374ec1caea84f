//! The database's health, for `/health`: the store knows nothing of health reports.

use alyx_service::health::{HealthCheck, Report, Status};
use alyx_store::Store;
use async_trait::async_trait;

/// Asks the database for nothing and sees whether it answers.
#[derive(Debug)]
pub(crate) struct Database(pub(crate) Store);

#[async_trait]
impl HealthCheck for Database {
    fn name(&self) -> &'static str {
        "database"
    }

    async fn check(&self) -> Report {
        match self.0.ping().await {
            Ok(_) => Report::HEALTHY,
            Err(error) => Report::new(Status::Unhealthy, error.message()),
        }
    }
}
