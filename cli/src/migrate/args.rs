//! The commands for migrations, and their flags.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// A command about migrations.
#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Which migrations are applied and which are pending, and how far the schema file is from the schema in force
    Status(ProjectArgs),
    /// What `alyx migrate apply` would do, with what each step may do to data; nothing is changed
    Plan(PlanArgs),
    /// Run the pending migrations and what else leads to the schema file, whole or not at all
    Apply(ProjectArgs),
    /// Undo the last migrations with their `down`, the last one first, each in a transaction of its own
    Rollback(RollbackArgs),
    /// Write the next migration, which carries out what the schema file would lose
    Create(CreateArgs),
}

impl MigrateCommand {
    pub(super) fn project(&self) -> &ProjectArgs {
        match self {
            Self::Status(project) | Self::Apply(project) => project,
            Self::Plan(args) => &args.project,
            Self::Rollback(args) => &args.project,
            Self::Create(args) => &args.project,
        }
    }
}

/// Where the project is.
#[derive(Debug, Args)]
pub(crate) struct ProjectArgs {
    /// Configuration file [env: ALYX_CONFIG; default: alyx.yaml in this folder, then ~/.config/alyx, then /etc/alyx]
    #[arg(short, long, value_name = "FILE", env = "ALYX_CONFIG", hide_env = true)]
    pub(super) config: Option<PathBuf>,
    /// Schema file; its migrations are beside it [env: ALYX_SCHEMA; default: schema.yaml, then schema.yml]
    #[arg(long, value_name = "FILE", env = "ALYX_SCHEMA", hide_env = true)]
    pub(super) schema: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(super) project: ProjectArgs,
    /// Print the SQL too
    #[arg(long)]
    pub(super) sql: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    pub(super) project: ProjectArgs,
    /// How many
    #[arg(default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) count: u16,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(super) project: ProjectArgs,
    /// What it does, such as `drop_notes_text`
    pub(super) name: String,
}
