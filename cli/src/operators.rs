//! The listener for operators: the admin API, where `admin.token` is set, and for `alyx admin` in the project's folder
//! where it is not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alyx_config::Config;
use alyx_control_plane::AdminApi;
use alyx_core::{Error, Result, new_secret_id};
use alyx_rpc::{Listener, OperatorSecurity, Server};
use alyx_service::tasks::Tasks;
use parking_lot::Mutex;

use crate::way::Way;

/// A bound listener; nothing is served on it before [`Self::serve`].
pub(crate) struct Operators {
    security: OperatorSecurity,
    url: String,
    listener: Mutex<Option<Listener>>,
    server: Mutex<Option<Arc<Server>>>,
    /// Where it is told how to reach it, and the token.
    way: Option<(Way, String)>,
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
            way: None,
        }))
    }

    /// Binds a free port of this machine's own, for whoever may read the file that says where and with what token.
    ///
    /// # Errors
    /// `LISTEN_FAILED`.
    pub(crate) async fn bind_local(database: &Path) -> Result<Self> {
        let way = Way::beside(database)?;
        let token = new_secret_id() + &new_secret_id();
        let listener = alyx_rpc::bind_as("admin.listen", "127.0.0.1:0").await?;
        Ok(Self {
            security: OperatorSecurity::new(&token, None)?,
            url: format!("http://{}", listener.local_addr()),
            listener: Mutex::new(Some(listener)),
            server: Mutex::new(None),
            way: Some((way, token)),
        })
    }

    /// Whether it is for others than who may read the project's folder.
    pub(crate) fn is_public(&self) -> bool {
        self.way.is_none()
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
        self.security.accept(api.tokens());
        let server = alyx_rpc::serve(listener, &self.security, api.routes(), tasks).await?;
        server.set_ready(true).await;
        *self.server.lock() = Some(Arc::new(server));
        if let Some((way, token)) = &self.way
            && let Err(error) = way.tell(&self.url, token)
        {
            tracing::warn!(%error, "`alyx admin` cannot be told how to reach this server");
        }
        Ok(())
    }

    /// Ends the calls of operators; `false` where some were cut off.
    pub(crate) async fn stop(&self, within: Duration) -> bool {
        if let Some((way, _)) = &self.way {
            way.forget();
        }
        let server = self.server.lock().take();
        match server.and_then(Arc::into_inner) {
            Some(server) => server.stop(within).await,
            None => true,
        }
    }
}
