//! Configuration: defaults < `alyx.yaml` < `ALYX_…` environment < flags.
//!
//! **Invariant:** a [`Config`] exists only if every problem of every source has been looked for and none was found.
//!
//! One registry of keys is the source of parsing, environment names, defaults and the reference. This crate is
//! also the only one that reads the environment; it reads no file but the configuration.

mod expand;
mod keys;
mod load;
mod lookup;
mod model;
mod problem;
mod reference;
mod role;
mod rules;
mod value;

use std::collections::BTreeMap;

pub use expand::expand;
pub use load::{LoadOptions, Loaded, Override};
pub use model::{
    Admin, AdminTls, Auth, Cluster, ClusterTls, Config, Cors, Database, Dev, Docs, DocsUi, Frontend,
    FunctionRuntime, FunctionSandbox, Functions, Jwt, LogFormat, LogLevel, Logging, Mail, MailLinks, Metrics,
    OAuthProvider, PasswordPolicy, Pool, RateLimit, Realtime, Secret, Server, Smtp, SmtpTls, Storage,
    StorageBackend, StorageKind, Turso,
};
pub use problem::{ConfigErrors, Origin, Problem};
pub use reference::reference_markdown;
pub use role::RoleNeeds;
pub use value::read_memory;

/// The environment of this process; variables that are not UTF-8 are left out.
pub fn process_env() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
