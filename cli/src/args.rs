//! The command line.

use std::path::PathBuf;

use alyx_config::Override;
use clap::{Args, Parser, Subcommand};

use crate::access::AccessCommand;
use crate::admin::{AdminCommand, RemoteArgs};
use crate::migrate::MigrateCommand;
use crate::rules::RulesCommand;

/// A backend from one YAML file: REST, live queries and functions in one binary.
#[derive(Debug, Parser)]
#[command(name = "alyx", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve this folder and follow its edits
    Dev(ServeArgs),
    /// Serve this folder in production: everything in this process, edits are not followed
    Serve(ServeArgs),
    /// Run the control plane of a cluster: schema, functions, the directory of nodes
    ControlPlane(RoleArgs),
    /// Run a gateway of a cluster: the public edge
    Gateway(RoleArgs),
    /// Run a realtime node of a cluster: live queries
    RealtimeNode(RoleArgs),
    /// Run a function worker of a cluster
    FunctionWorker(RoleArgs),
    /// Access rules: of this folder's schema, and what they decide about a document
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Migrations of this folder's project, on its database while no server is running on it
    #[command(subcommand)]
    Migrate(MigrateCommand),
    /// Operators and API tokens: of a running server, or in this folder's database
    #[command(name = "admin", subcommand)]
    Access(AccessCommand),
    #[command(flatten)]
    Admin(AdminCommand),
}

/// Flags of the commands that run one role of a cluster.
#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// Configuration file [env: ALYX_CONFIG; default: alyx.yaml in this folder, then ~/.config/alyx, then /etc/alyx]
    #[arg(short, long, value_name = "FILE", env = "ALYX_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
    /// Schema file, read by the control plane alone [env: ALYX_SCHEMA; default: schema.yaml, then schema.yml]
    #[arg(long, value_name = "FILE", env = "ALYX_SCHEMA", hide_env = true)]
    pub(crate) schema: Option<PathBuf>,
    /// `host:port` to listen on for the other roles, port 0 takes a free one (cluster.listen)
    #[arg(short, long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// `host:port` of the listener for health and metrics (metrics.listen)
    #[arg(short, long, value_name = "ADDRESS")]
    metrics: Option<String>,
    /// Write debug logs (logging.level)
    #[arg(short, long)]
    verbose: bool,
}

impl RoleArgs {
    /// The flags as overrides of configuration keys.
    pub(crate) fn overrides(&self) -> Vec<Override> {
        let flag = |key: &str, flag: &str, value: &str| Override {
            key: key.to_owned(),
            value: value.to_owned(),
            flag: flag.to_owned(),
        };
        let mut overrides = Vec::new();
        overrides.extend(
            self.listen
                .as_deref()
                .map(|listen| flag("cluster.listen", "--listen", listen)),
        );
        overrides.extend(
            self.metrics
                .as_deref()
                .map(|listen| flag("metrics.listen", "--metrics", listen)),
        );
        overrides.extend(self.verbose.then(|| flag("logging.level", "--verbose", "debug")));
        overrides
    }
}

/// Flags of the commands that serve.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file [env: ALYX_CONFIG; default: alyx.yaml in this folder, then ~/.config/alyx, then /etc/alyx]
    #[arg(short, long, value_name = "FILE", env = "ALYX_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
    /// Schema file [env: ALYX_SCHEMA; default: schema.yaml, then schema.yml]
    #[arg(long, value_name = "FILE", env = "ALYX_SCHEMA", hide_env = true)]
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use clap::{Command, CommandFactory};

    use super::Cli;

    /// The reference as Markdown: every command with every flag.
    fn reference() -> String {
        let mut page = String::from(
            "# Command line\n\nSettings have three sources: `alyx.yaml`, `ALYX_…` variables, and these flags, which win. \
             Exit codes: 0 after an ordinary stop, 64 for an unusable configuration or schema (all problems are printed, no \
             port was bound), 1 for any other failure, 130 when a second signal cut the stop short.\n\n\
             The commands `cluster`, `nodes`, `schema` and `functions` ask a running server over its admin API, see \
             [Operators](deploy.md#operators). They end with 0 where the server did what was asked, 64 for unusable flags \
             and for a schema that is broken or would lose data, 69 where the server cannot be reached or cannot answer \
             now, 77 where the token is not its operators', 1 for any other failure.\n\n\
             The commands `migrate` work on the database of this folder's project itself, see \
             [Migrations](migrations.md#commands). They end with 0 where what was asked is done, 64 for unusable files and \
             for what is refused, 69 where the database cannot be reached or a server uses it, 1 for any other failure. \
             `--json` prints their answers as JSON.\n\n\
             The commands `admin` do the same for [operators and API tokens](operators.md), with the same exit codes. With \
             `--server` or `--token` they ask that server; otherwise the server that runs in this folder, or its database \
             where none does. So does `rules explain`.\n",
        );
        for command in Cli::command().get_subcommands() {
            describe("alyx", command, &mut page);
        }
        page.push_str(
            "\n## Asking a running server\n\nThese flags may stand before the command and after it.\n",
        );
        describe_flags(&Cli::command(), &mut page);
        page
    }

    fn describe(parent: &str, command: &Command, page: &mut String) {
        let name = format!("{parent} {}", command.get_name());
        if command.has_subcommands() {
            for command in command.get_subcommands() {
                describe(&name, command, page);
            }
            return;
        }
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let places: String = command
            .get_positionals()
            .map(|place| format!(" <{}>", place.get_id().as_str().to_uppercase()))
            .collect();
        let _ = write!(page, "\n## {name}{places}\n\n{about}.\n");
        for place in command.get_positionals() {
            let help = place.get_help().map(ToString::to_string).unwrap_or_default();
            let _ = write!(
                page,
                "\n`<{}>`: {help}.\n",
                place.get_id().as_str().to_uppercase()
            );
        }
        describe_flags(command, page);
    }

    fn describe_flags(command: &Command, page: &mut String) {
        if command.get_opts().next().is_none() {
            return;
        }
        page.push_str("\n| Flag | Meaning |\n|---|---|\n");
        for argument in command.get_arguments() {
            let Some(long) = argument.get_long() else { continue };
            let short = argument
                .get_short()
                .map(|short| format!("`-{short}`, "))
                .unwrap_or_default();
            let value = argument
                .get_value_names()
                .filter(|_| argument.get_action().takes_values())
                .map(|names| format!(" <{}>", names.join(" ")))
                .unwrap_or_default();
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(page, "| {short}`--{long}{value}` | {help} |");
        }
    }

    #[test]
    fn the_reference_page_says_what_the_code_does() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
        #[expect(
            clippy::disallowed_methods,
            reason = "a switch of this test, not a setting of the product"
        )]
        let update = std::env::var("ALYX_UPDATE_DOCS").is_ok();
        if update {
            std::fs::write(&path, reference()).expect("the page can be written");
        }
        let page = std::fs::read_to_string(&path).expect("docs/cli.md is there");
        assert_eq!(
            page,
            reference(),
            "run with ALYX_UPDATE_DOCS=1 to write docs/cli.md anew"
        );
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
