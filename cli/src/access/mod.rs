//! `alyx admin`: operators and API tokens, of a running server or in the database of this folder's project.

mod answers;
mod args;
mod desk;

use alyx_config::{Config, Secret};
use alyx_core::{Error, ErrorKind, Result, parse_duration};
use alyx_operators::Revoked;

use self::answers::{Listed, Over};
pub(crate) use self::args::AccessCommand;
use self::args::{CreateArgs, CreateTokenArgs, PasswdArgs, RevokeArgs};
pub(crate) use self::desk::is_away;
use self::desk::{Desk, Wanted};
use crate::admin::{RemoteArgs, Server, print};
use crate::failure::Failure;
use crate::way::Way;
use crate::{database, process, telemetry};

/// Does what is asked and prints the answer.
pub(crate) fn run(remote: &RemoteArgs, command: AccessCommand) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(Error::internal(error)))?;
    if remote.server.is_some() || remote.token.is_some() {
        let asked = runtime.block_on(async {
            let desk = Desk::Server(Server::of(remote)?);
            carry_out(&desk, remote, &command).await
        });
        return asked.map_err(Failure::Admin);
    }
    let loaded = process::load(command.folder().config.clone(), Vec::new())?;
    telemetry::start(&loaded.config.logging);
    let done = runtime.block_on(async {
        let desk = find(&loaded.config).await?;
        let outcome = carry_out(&desk, remote, &command).await;
        desk.close().await;
        outcome
    });
    done.map_err(Failure::Admin)
}

/// The server that runs in this folder; else the database.
async fn find(config: &Config) -> Result<Desk> {
    let embedded = !config.database.turso.enabled;
    if embedded && let Some((url, token)) = Way::beside(&config.database.path)?.read() {
        let desk = Desk::Server(Server::at(&url, &token, None)?);
        match desk.list().await {
            Ok(_) => return Ok(desk),
            // It has crashed, and left the file behind.
            Err(error) if is_away(&error) => {}
            Err(error) => return Err(error),
        }
    }
    match database::open(config, |_| {}).await {
        Ok(store) => Ok(Desk::of(store)),
        Err(error) if error.code() == "DATABASE_IN_USE" => in_use(config, &error).map(Desk::Server),
        Err(error) => Err(error),
    }
}

/// The server that uses the database, where the configuration says how it is reached.
///
/// # Errors
/// `DATABASE_IN_USE` where it does not.
pub(crate) fn in_use(config: &Config, error: &Error) -> Result<Server> {
    let admin = &config.admin;
    let Some(token) = &admin.token else {
        let message = format!(
            "{}, and has not said how it is reached. Ask it with `--server` and `--token`, or stop it first",
            error.message()
        );
        return Err(Error::new(error.kind(), "DATABASE_IN_USE", message));
    };
    let scheme = if admin.tls.is_some() { "https" } else { "http" };
    Server::at(&format!("{scheme}://{}", admin.listen), token.expose(), None)
}

async fn carry_out(desk: &Desk, remote: &RemoteArgs, command: &AccessCommand) -> Result<()> {
    match command {
        AccessCommand::Create(CreateArgs { email, password, .. }) => {
            let password = typed(password)?;
            print(remote, &desk.create_operator(email, &password).await?)
        }
        AccessCommand::Passwd(PasswdArgs { who, password, .. }) => {
            let password = typed(password)?;
            print(remote, &desk.set_password(who, &password).await?)
        }
        AccessCommand::CreateToken(CreateTokenArgs {
            name,
            scopes,
            expires,
            ..
        }) => {
            let wanted = Wanted {
                name: name.clone(),
                scopes: scopes.clone(),
                expires_in: expires.as_deref().map(duration).transpose()?,
            };
            print(remote, &desk.create_token(wanted).await?)
        }
        AccessCommand::List(_) => print(remote, &Listed(desk.list().await?)),
        AccessCommand::Revoke(RevokeArgs { who, .. }) => {
            let revoked = match desk.revoke(who).await? {
                Revoked::Operator => "operator",
                Revoked::Token => "token",
            };
            let who = who.clone();
            print(remote, &Over { revoked, who })
        }
    }
}

fn duration(text: &str) -> Result<std::time::Duration> {
    parse_duration(text).map_err(|error| {
        let message = format!("`--expires {text}` is no duration ({error}); write `90d` or `12h`");
        Error::new(ErrorKind::InvalidInput, "INVALID_EXPIRY", message)
    })
}

/// A password of a flag, or of standard input.
fn typed(password: &Secret) -> Result<String> {
    match password.expose() {
        "-" => read_line(),
        password => Ok(password.to_owned()),
    }
}

/// The first line of standard input, without its end.
fn read_line() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(Error::internal)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
