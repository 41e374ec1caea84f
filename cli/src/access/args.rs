//! The commands for operators and API tokens, and their flags.

use std::path::PathBuf;

use alyx_config::Secret;
use clap::{Args, Subcommand};

use crate::admin::secret;

/// A command about operators and API tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// Make an operator, who may do everything
    Create(CreateArgs),
    /// Give an operator another password, which ends all its sign-ins within a second
    Passwd(PasswdArgs),
    /// Make an API token for a program; it is shown once
    CreateToken(CreateTokenArgs),
    /// Show operators and API tokens
    List(FolderArgs),
    /// End an operator with all sign-ins, or an API token; within a second everywhere
    Revoke(RevokeArgs),
}

impl AccessCommand {
    pub(super) fn folder(&self) -> &FolderArgs {
        match self {
            Self::Create(args) => &args.folder,
            Self::Passwd(args) => &args.folder,
            Self::CreateToken(args) => &args.folder,
            Self::List(folder) => folder,
            Self::Revoke(args) => &args.folder,
        }
    }
}

/// Where the project is.
#[derive(Debug, Args)]
pub(crate) struct FolderArgs {
    /// Configuration file [env: ALYX_CONFIG; default: alyx.yaml in this folder, then ~/.config/alyx, then /etc/alyx]
    #[arg(short, long, value_name = "FILE", env = "ALYX_CONFIG", hide_env = true)]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(super) folder: FolderArgs,
    /// Address to sign in with
    #[arg(long, value_name = "ADDRESS")]
    pub(super) email: String,
    /// Password of 10 characters or more; `-` reads it from standard input, which others on this machine do not see [env: ALYX_ADMIN_PASSWORD]
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "ALYX_ADMIN_PASSWORD",
        hide_env = true,
        hide_env_values = true,
        value_parser = secret
    )]
    pub(super) password: Secret,
}

#[derive(Debug, Args)]
pub(crate) struct PasswdArgs {
    #[command(flatten)]
    pub(super) folder: FolderArgs,
    /// Address or id of the operator
    pub(super) who: String,
    /// Password of 10 characters or more; `-` reads it from standard input, which others on this machine do not see [env: ALYX_ADMIN_PASSWORD]
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "ALYX_ADMIN_PASSWORD",
        hide_env = true,
        hide_env_values = true,
        value_parser = secret
    )]
    pub(super) password: Secret,
}

#[derive(Debug, Args)]
pub(crate) struct CreateTokenArgs {
    #[command(flatten)]
    pub(super) folder: FolderArgs,
    /// What it is called: letters, digits, `_`, `-` and `.`
    pub(super) name: String,
    /// What it may do, such as `read:posts`, `write:*`, `functions:report`, `deploy` or `admin`; several with commas between them
    #[arg(
        long = "scopes",
        value_name = "SCOPES",
        value_delimiter = ',',
        required = true
    )]
    pub(super) scopes: Vec<String>,
    /// How long it is good, such as `90d`; for ever without
    #[arg(long, value_name = "TIME")]
    pub(super) expires: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    pub(super) folder: FolderArgs,
    /// Address or id of an operator, name or id of an API token
    pub(super) who: String,
}
