//! Health of what the control plane looks after.

use std::sync::Arc;

use alyx_service::health::{HealthCheck, Report, Status};
use async_trait::async_trait;

use crate::functions::Severity;
use crate::plane::ControlPlane;

/// Whether the schema file is what is served.
pub(crate) struct SchemaCheck(pub(crate) Arc<ControlPlane>);

#[async_trait]
impl HealthCheck for SchemaCheck {
    fn name(&self) -> &'static str {
        "schema"
    }

    async fn check(&self) -> Report {
        match self.0.trouble().schema {
            None => Report::HEALTHY,
            Some(refusal) => Report::new(Status::Degraded, refusal),
        }
    }
}

/// Whether every function file is served.
pub(crate) struct FunctionCheck(pub(crate) Arc<ControlPlane>);

#[async_trait]
impl HealthCheck for FunctionCheck {
    fn name(&self) -> &'static str {
        "function_sources"
    }

    async fn check(&self) -> Report {
        const SHOWN: usize = 10;
        let errors: Vec<String> = self
            .0
            .trouble()
            .functions
            .iter()
            .filter(|notice| notice.severity != Severity::Warning)
            .take(SHOWN)
            .map(ToString::to_string)
            .collect();
        if errors.is_empty() {
            Report::HEALTHY
        } else {
            Report::new(Status::Degraded, errors.join("\n"))
        }
    }
}
