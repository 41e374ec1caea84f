//! The commands that ask a running server, and how it is reached.

use std::path::PathBuf;

use alyx_config::Secret;
use clap::{Args, Subcommand};

/// How the server is reached. Accepted before and after the command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Asking a running server")]
pub(crate) struct RemoteArgs {
    /// Address of the admin API, `http://host:port` or `https://host:port` [env: ALYX_SERVER; default: http://127.0.0.1:8192]
    #[arg(long, global = true, value_name = "URL", env = "ALYX_SERVER", hide_env = true)]
    pub(crate) server: Option<String>,
    /// The operators' token, `admin.token` of the server, or an API token; a variable is not seen by others on this machine [env: ALYX_ADMIN_TOKEN]
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "ALYX_ADMIN_TOKEN",
        hide_env = true,
        hide_env_values = true,
        value_parser = secret
    )]
    pub(crate) token: Option<Secret>,
    /// Certificates of the authority that signed the server's (PEM), where this machine does not trust it anyway [env: ALYX_SERVER_CA]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "ALYX_SERVER_CA",
        hide_env = true
    )]
    pub(crate) ca: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "what clap calls may fail")]
pub(crate) fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

/// A command for a running server.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Ask a running cluster about itself
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// See and drain the nodes of a running cluster
    #[command(subcommand)]
    Nodes(NodesCommand),
    /// See and change the schema of a running server
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// See the functions of a running server
    #[command(subcommand)]
    Functions(FunctionsCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Who leads, what is served, and what is wrong with it
    Status,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodesCommand {
    /// The live nodes
    List,
    /// Have a node take no new work and finish what it has, until it is undrained; over restarts too
    Drain(NodeArgs),
    /// Let a drained node work again
    Undrain(NodeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Name or id, as `alyx nodes list` shows them
    pub(super) node: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// Print the schema in force
    Get(GetArgs),
    /// What a schema would change, and what of it is refused; nothing is changed
    Plan(FileArgs),
    /// Apply a schema where it loses nothing, live
    Apply(FileArgs),
    /// The revisions that were applied
    History,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// An earlier revision, as `alyx schema history` shows them
    #[arg(long, value_name = "NUMBER")]
    pub(super) revision: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The schema; `-` reads it from standard input
    pub(super) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FunctionsCommand {
    /// The functions that are served
    List,
}
