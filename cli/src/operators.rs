//! The listener for operators: the admin API, where `admin.token` is set.

use std::sync::Arc;
use std::time::Duration;

use alyx_config::Config;
use alyx_control_plane::AdminApi;
use alyx_core::{Error, Result};
use alyx_rpc::{Listener, OperatorSecurity, Server};
use alyx_service::tasks::Tasks;
use parking_lot::Mutex;

/// A bound listener; nothing is served on it before [`Self::serve`].
pub(crate) struct Operators {
    security: OperatorSecurity,
    url: String,
    listener: Mutex<Option<Listener>>,
    server: Mutex<Option<Arc<Server>>>,
}

impl Operators {
    /// Binds `admin.listen`; `None` where no operator could prove itself.
    ///
    /// # Errors
    /// `LISTEN_FAILED`, `ADMIN_TOKEN_INVALID`, `ADMIN_TLS_INVALID`.
    pub(crate) async fn bind(config: &Config) -> Result<Option<Self>> {
        let Some(security) = OperatorSecurity::from_config(&config.admin)? else {
            return Ok(None);
        };
        let listener = alyx_rpc::bind_as("admin.listen", &config.admin.listen).await?;
        let address = listener.local_addr();
        if !security.has_tls() && !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "the admin API is reached from other machines without TLS; set `admin.tls` unless the network is trusted"
            );
        }
        let scheme = if security.has_tls() { "https" } else { "http" };
        Ok(Some(Self {
            security,
            url: format!("{scheme}://{address}"),
            listener: Mutex::new(Some(listener)),
            server: Mutex::new(None),
        }))
    }

    /// `http://…` or `https://…` with the real port.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn security(&self) -> &OperatorSecurity {
        &self.security
    }

    /// Answers from now on. To be called once.
    pub(crate) async fn serve(&self, api: &AdminApi, tasks: &Tasks) -> Result<()> {
        let listener = self.listener.lock().take();
        let listener = listener.ok_or_else(|| Error::internal("the listener is served already"))?;
        let server = alyx_rpc::serve(listener, &self.security, api.routes(), tasks).await?;
        server.set_ready(true).await;
        *self.server.lock() = Some(Arc::new(server));
        Ok(())
    }

    /// Ends the calls of operators; `false` where some were cut off.
    pub(crate) async fn stop(&self, within: Duration) -> bool {
        let server = self.server.lock().take();
        match server.and_then(Arc::into_inner) {
            Some(server) => server.stop(within).await,
            None => true,
        }
    }
}
