//! Desired state: what the control plane wants served. Data-plane roles hold the last good snapshot and go on
//! with it when the control plane is away.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alyx_core::Result;
use alyx_schema::Schema;
use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::watch;

/// One consistent snapshot of everything that is to be served.
#[derive(Debug, Clone)]
pub struct DesiredState {
    /// Counts every change of this process's lifetime; only for comparing.
    pub revision: u64,
    /// Id of the schema revision in the store's history.
    pub schema_revision: u64,
    /// The schema whose tables exist.
    pub schema: Arc<Schema>,
    /// Functions by name.
    pub functions: Arc<BTreeMap<String, Arc<Function>>>,
}

/// The snapshot as it changes. Never empty; the receiver keeps the last value when the sender is gone.
pub type StateWatch = watch::Receiver<Arc<DesiredState>>;

/// The control plane as the other roles see it.
#[async_trait]
pub trait ControlPlane: Send + Sync {
    /// Follows the desired state.
    fn watch(&self) -> StateWatch;

    /// Reads functions from their folder again.
    async fn reload_functions(&self) -> Result<usize>;
}

/// A function and how it is to be run.
#[derive(Debug, Clone)]
pub struct Function {
    /// Name, also the last part of its path.
    pub name: String,
    /// Language runtime.
    pub runtime: Runtime,
    /// Content hash of everything that its code may load; another one is other code.
    pub version: String,
    /// Read-only folder that holds the code of this version.
    pub root: PathBuf,
    /// The handler's file, relative to `root`.
    pub entrypoint: PathBuf,
    /// What it is for, from its manifest.
    pub description: String,
    /// An example input, from its manifest.
    pub sample_input: Option<serde_json::Value>,
    /// Longest run.
    pub timeout: Duration,
    /// Memory limit in MiB.
    pub memory_mib: u64,
    /// `ctx.env`: settings, the only environment that the function sees. Never logged.
    pub env: Arc<BTreeMap<String, String>>,
    /// Who may call it: a rule over the schema that is served; `None` where everybody may.
    pub invoke_rule: Option<Arc<str>>,
}

/// Language runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Node.js 20 or newer.
    Node,
    /// Python 3.9 or newer.
    Python,
    /// Go 1.21 or newer, which compiles the function.
    Go,
}

impl Runtime {
    /// Every runtime.
    pub const ALL: [Self; 3] = [Self::Node, Self::Python, Self::Go];

    /// The word in manifests and replies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Python => "python",
            Self::Go => "go",
        }
    }
}
