//! The database that the configuration names.

use std::time::Duration;

use alyx_config::Config;
use alyx_core::{Error, Result};
use alyx_store::{Commit, EmbeddedOptions, RemoteOptions, Store};

/// Opens it for this process alone: the embedded file, or a libSQL server.
pub(crate) async fn open(
    config: &Config,
    on_commit: impl Fn(Commit) + Send + Sync + 'static,
) -> Result<Store> {
    if config.database.turso.enabled {
        Store::open_remote(remote_options(config), on_commit).await
    } else {
        Store::open_embedded(embedded_options(config), on_commit)
    }
}

/// How the libSQL server is reached.
pub(crate) fn remote_options(config: &Config) -> RemoteOptions {
    let turso = &config.database.turso;
    let url = turso.url.as_ref().map_or("", |url| url.expose());
    RemoteOptions {
        auth_token: turso.auth_token.as_ref().map(|token| token.expose().to_owned()),
        log_retention: config.database.log_retention,
        log_max_rows: config.database.log_max_rows,
        ..RemoteOptions::new(url)
    }
}

/// Opens a database on a server, for as long as that is away.
///
/// # Errors
/// All that waiting does not mend: a wrong address or token, a database of a newer version.
pub(crate) async fn patiently(mut open: impl AsyncFnMut() -> Result<Store>) -> Result<Store> {
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        match open().await {
            Err(error) if waiting_helps(&error) => {
                tracing::warn!(
                    code = error.code(),
                    "the database cannot be reached, trying again: {error}"
                );
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

fn waiting_helps(error: &Error) -> bool {
    error.code() == "DATABASE_UNAVAILABLE"
}

fn embedded_options(config: &Config) -> EmbeddedOptions {
    EmbeddedOptions {
        log_retention: config.database.log_retention,
        log_max_rows: config.database.log_max_rows,
        ..EmbeddedOptions::new(&config.database.path)
    }
}
