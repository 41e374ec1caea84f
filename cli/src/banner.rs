//! What is served where, in under a screen.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use alyx_config::Config;
use alyx_schema::{Bucket, Collection};
use alyx_service::state::DesiredState;

use crate::process::Mode;

/// Printed when everything listens.
pub(crate) struct Banner<'a> {
    pub(crate) config: &'a Config,
    pub(crate) state: &'a DesiredState,
    pub(crate) address: SocketAddr,
    pub(crate) mode: Mode,
    /// From the process' start until it served.
    pub(crate) ready_after: Duration,
    pub(crate) troubles: &'a [String],
    /// Where operators reach it, if they do.
    pub(crate) admin: Option<&'a str>,
    /// Whether somebody can sign in as an operator.
    pub(crate) has_operators: bool,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base();
        let version = env!("CARGO_PKG_VERSION");
        let mode = match self.mode {
            Mode::Dev => "dev",
            Mode::Serve => "serve",
        };
        writeln!(f, "\n  Alyx {version} · {mode}\n")?;
        if self.config.frontend.dist.is_some() || self.config.frontend.dev_proxy.is_some() {
            writeln!(f, "  Frontend    {base}/")?;
        }
        writeln!(f, "  API         {base}/api")?;
        if self.config.docs.enabled {
            writeln!(f, "  Docs        {base}/docs   (spec: /api/openapi.json)")?;
        }
        if self.config.realtime.enabled {
            writeln!(f, "  Realtime    {}/api/realtime", base.replacen("http", "ws", 1))?;
        }
        writeln!(f, "  Functions   {}", self.functions())?;
        writeln!(
            f,
            "  Database    {}",
            if self.config.database.turso.enabled {
                "a libSQL server (database.turso.url)".to_owned()
            } else {
                format!("{} (embedded libSQL)", self.config.database.path.display())
            }
        )?;
        let collections: Vec<&str> = self.state.schema.collections.keys().map(String::as_str).collect();
        if let Some(metrics) = &self.config.metrics.listen {
            writeln!(f, "  Metrics     http://{metrics}/metrics")?;
        }
        if let Some(admin) = self.admin {
            writeln!(f, "  Admin       {admin}")?;
        }
        writeln!(f, "  Collections {}", shorten(&collections))?;
        self.open_to_the_world(f)?;
        if self.mode == Mode::Dev && !self.has_operators {
            writeln!(
                f,
                "\n  There is no operator yet: alyx admin create --email you@example.com --password -"
            )?;
        }
        for trouble in self.troubles {
            // The first line is enough here; the log and /health have the rest.
            writeln!(f, "\n  ! {}", trouble.lines().next().unwrap_or_default())?;
        }
        writeln!(
            f,
            "\n  Ready in {} ms. Stop with Ctrl-C.\n",
            self.ready_after.as_millis()
        )
    }
}

/// The address of a public listener as a browser takes it.
pub(crate) fn base_url(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("http://[{host}]:{port}")
    } else {
        format!("http://{host}:{port}")
    }
}

impl Banner<'_> {
    fn base(&self) -> String {
        base_url(&self.config.server.host, self.address.port())
    }

    fn functions(&self) -> String {
        if !self.config.functions.enabled {
            return "off (functions.enabled)".to_owned();
        }
        let names: Vec<&str> = self.state.functions.keys().map(String::as_str).collect();
        match names.as_slice() {
            [] => format!("none in {}", self.config.functions.path.display()),
            names => format!("{} (driver: process)", shorten(names)),
        }
    }

    /// Every operation that anyone may call: collections and buckets by their operations, and the functions.
    fn open_to_the_world(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = open_to_the_world(self.state, self.config);
        if open.is_empty() {
            return Ok(());
        }
        let open: Vec<&str> = open.iter().map(String::as_str).collect();
        writeln!(f, "\n  ! open to the world: {}", shorten_by(&open, " · ", 6))?;
        writeln!(
            f,
            "    Close with `default_access: deny` and `rules` in the schema, functions with `rules` in their manifests."
        )
    }
}

/// Every operation that anyone may call: collections and buckets by their operations, and the functions.
fn open_to_the_world(state: &DesiredState, config: &Config) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    for (name, collection) in &state.schema.collections {
        let operations = operations(collection);
        if !operations.is_empty() {
            open.push(format!("{name}: {}", operations.join(" ")));
        }
    }
    for (name, bucket) in &state.schema.buckets {
        let operations = file_operations(bucket);
        if !operations.is_empty() {
            open.push(format!("bucket {name}: {}", operations.join(" ")));
        }
    }
    if config.functions.enabled {
        open.extend(open_functions(state));
    }
    open
}

/// The functions that no rule of their manifest closes, by name where others have one.
fn open_functions(state: &DesiredState) -> Option<String> {
    let functions = state.functions.values();
    let open: Vec<&str> = functions
        .filter(|function| function.invoke_rule.is_none())
        .map(|function| function.name.as_str())
        .collect();
    match open.len() {
        0 => None,
        all if all == state.functions.len() => Some("functions: invoke".to_owned()),
        _ => Some(format!("functions {}: invoke", shorten(&open))),
    }
}

/// Logs all of it, where something is open.
pub(crate) fn warn_of_open(state: &DesiredState, config: &Config) {
    let open = open_to_the_world(state, config);
    if !open.is_empty() {
        tracing::warn!(
            "open to the world: {}; close with `default_access: deny` and `rules` in the schema, functions with `rules` in \
             their manifests",
            open.join(" · ")
        );
    }
}

/// What no rule has to agree to.
fn operations(collection: &Collection) -> Vec<&'static str> {
    let (access, rules) = (&collection.access, &collection.rules);
    open_of([
        (access.create && rules.create.is_none(), "create"),
        (access.read && rules.read.is_none(), "read"),
        (access.update && rules.update.is_none(), "update"),
        (access.delete && rules.delete.is_none(), "delete"),
    ])
}

/// The same of files. They do not change, so nobody may update them.
fn file_operations(bucket: &Bucket) -> Vec<&'static str> {
    let (access, rules) = (&bucket.access, &bucket.rules);
    open_of([
        (access.create && rules.create.is_none(), "create"),
        (access.read && rules.read.is_none(), "read"),
        (access.delete && rules.delete.is_none(), "delete"),
        (bucket.download && rules.download.is_none(), "download"),
    ])
}

/// The names of those that are open.
fn open_of<const N: usize>(operations: [(bool, &'static str); N]) -> Vec<&'static str> {
    let open = operations.into_iter().filter(|(open, _)| *open);
    open.map(|(_, name)| name).collect()
}

fn shorten(names: &[&str]) -> String {
    shorten_by(names, ", ", 8)
}

fn shorten_by(names: &[&str], separator: &str, most: usize) -> String {
    let shown = names[..names.len().min(most)].join(separator);
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown}{separator}and {more} more"),
    }
}
