//! The command line.

use std::path::PathBuf;

use alyx_config::Override;
use clap::{Args, Parser, Subcommand};

/// A backend from one YAML file: REST, live queries and functions in one binary.
#[derive(Debug, Parser)]
#[command(name = "alyx", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve this folder and follow its edits
    Dev(ServeArgs),
    /// Serve this folder in production: everything in this process, edits are not followed
    Serve(ServeArgs),
}

/// Flags of the commands that serve.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file [default: alyx.yaml in this folder, then ~/.config/alyx, then /etc/alyx]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Schema file [default: schema.yaml, then schema.yml]
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: Option<PathBuf>,
    /// Name or address to listen on (server.host)
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Port to listen on, 0 takes a free one (server.port)
    #[arg(short, long, value_name = "PORT")]
    port: Option<String>,
    /// Do not follow edits of the schema and the functions (dev.watch)
    #[arg(long)]
    no_watch: bool,
    /// Write debug logs (logging.level)
    #[arg(short, long)]
    verbose: bool,
}

impl ServeArgs {
    /// The flags as overrides of configuration keys.
    pub(crate) fn overrides(&self) -> Vec<Override> {
        let flag = |key: &str, flag: &str, value: &str| Override {
            key: key.to_owned(),
            value: value.to_owned(),
            flag: flag.to_owned(),
        };
        let mut overrides = Vec::new();
        overrides.extend(
            self.host
                .as_deref()
                .map(|host| flag("server.host", "--host", host)),
        );
        overrides.extend(
            self.port
                .as_deref()
                .map(|port| flag("server.port", "--port", port)),
        );
        overrides.extend(self.no_watch.then(|| flag("dev.watch", "--no-watch", "false")));
        overrides.extend(self.verbose.then(|| flag("logging.level", "--verbose", "debug")));
        overrides
    }
}
