//! How the link to NATS is.

use alyx_service::health::{HealthCheck, Report, Status as Health};
use async_trait::async_trait;
use tokio::sync::watch;

pub(super) type StatusWatch = watch::Receiver<Status>;

/// The link as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// NATS answers.
    pub(super) connected: bool,
    /// Connections made since the start.
    pub(super) connects: u64,
    /// What NATS or the network said last, where something is wrong.
    pub(super) trouble: Option<String>,
}

pub(super) fn channel() -> (watch::Sender<Status>, StatusWatch) {
    watch::channel(Status::default())
}

/// Reports the link.
pub(super) struct NatsCheck {
    status: StatusWatch,
}

impl NatsCheck {
    pub(super) fn new(status: StatusWatch) -> Self {
        Self { status }
    }
}

#[async_trait]
impl HealthCheck for NatsCheck {
    fn name(&self) -> &'static str {
        "nats"
    }

    async fn check(&self) -> Report {
        let status = self.status.borrow().clone();
        if status.connected {
            return Report::HEALTHY;
        }
        let mut message = "reconnecting; live queries follow the change log meanwhile".to_owned();
        if let Some(trouble) = status.trouble {
            message.push_str(&format!(" ({trouble})"));
        }
        Report::new(Health::Degraded, message)
    }
}
