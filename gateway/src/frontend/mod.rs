//! What is served beside the API: a folder of built files, a development server behind a proxy, or nothing.
//! API paths never come here.

mod files;
mod proxy;

use std::path::Path;

use alyx_config::Config;
use alyx_core::{Error, ErrorKind, Result};
use alyx_service::tasks::Tasks;
use axum::body::Body;
use http::Request;

use crate::envelope::Reply;
use crate::request_id::RequestTag;
use crate::routes::not_found;

use files::Files;
use proxy::Proxy;

/// Where everything that is not the API comes from.
pub(crate) enum Frontend {
    /// Nowhere: every path is 404.
    None,
    /// A folder of built files.
    Files(Files),
    /// A development server.
    Proxy(Box<Proxy>),
}

impl Frontend {
    /// As `frontend.dist` and `frontend.dev_proxy` say; the proxy is for development mode and wins there.
    ///
    /// Errors: `FRONTEND_INVALID`.
    pub(crate) fn new(config: &Config, tasks: &Tasks) -> Result<Self> {
        let frontend = &config.frontend;
        if let Some(url) = &frontend.dev_proxy {
            if config.dev.enabled {
                return Ok(Self::Proxy(Box::new(Proxy::new(url, tasks.clone())?)));
            }
            tracing::warn!("frontend.dev_proxy has no effect outside development mode");
        }
        let Some(dist) = &frontend.dist else {
            return Ok(Self::None);
        };
        refuse_to_publish(&config.database.path, dist)?;
        if !dist.is_dir() {
            tracing::warn!(dist = %dist.display(), "frontend.dist is not a folder (yet); its paths are 404");
        }
        Ok(Self::Files(Files::new(dist)))
    }

    /// Answers a request for anything that is not the API.
    pub(crate) async fn answer(&self, request: Request<Body>, tag: &RequestTag) -> Result<Reply> {
        match self {
            Self::None => Err(not_found(request.uri().path())),
            Self::Files(files) => files.answer(request, tag).await,
            Self::Proxy(proxy) => proxy.answer(request, tag).await,
        }
    }
}

/// A folder that holds the database must not be served: anyone could download everything.
fn refuse_to_publish(database: &Path, dist: &Path) -> Result<()> {
    let folder = database
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let (Ok(folder), Ok(root)) = (folder.canonicalize(), dist.canonicalize()) else {
        return Ok(());
    };
    if !folder.starts_with(&root) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        "FRONTEND_INVALID",
        format!(
            "frontend.dist ({}) holds the database ({}), which everyone could download; \
             put the built files in a folder of their own",
            dist.display(),
            database.display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_the_database_in_it_is_refused() {
        let root = tempfile::tempdir().expect("a folder");
        let site = root.path().join("site");
        std::fs::create_dir_all(site.join("data")).expect("folders");
        let check = |database: &Path, allowed: bool| {
            assert_eq!(
                refuse_to_publish(database, &site).is_ok(),
                allowed,
                "{database:?}"
            );
        };
        check(&root.path().join("alyx.db"), true);
        check(&site.join("alyx.db"), false);
        check(&site.join("data/alyx.db"), false);
    }
}
