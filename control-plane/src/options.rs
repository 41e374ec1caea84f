//! What a control plane is started with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::functions::{Defaults, Source};

/// What a control plane is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The schema; where `x.yaml` is missing, `x.yml` is taken, and the other way round.
    pub schema_path: PathBuf,
    /// Functions, or `None` to serve none. Its `enabled` is heeded too.
    pub functions: Option<alyx_config::Functions>,
    /// Folder for what the control plane keeps beside the database (function bundles); made where it is missing.
    pub state_dir: PathBuf,
    /// Follow changes of the schema and the functions folder.
    pub watch: bool,
    /// The environment, for `${VAR}` in manifests.
    pub env: BTreeMap<String, String>,
}

impl Options {
    /// Where functions come from, if any are to be served.
    pub(crate) fn function_source(&self) -> Option<Source> {
        let functions = self.functions.as_ref().filter(|functions| functions.enabled)?;
        let env = functions
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect();
        Some(Source {
            folder: functions.path.clone(),
            bundles: self.state_dir.join("bundles"),
            defaults: Defaults {
                timeout: functions.timeout,
                memory_mib: functions.memory_limit,
                env,
            },
            environment: Arc::new(self.env.clone()),
        })
    }
}
