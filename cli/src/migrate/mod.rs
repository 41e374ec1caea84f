//! `alyx migrate`: migrations of this folder's project, on its database itself.

mod answers;
mod args;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alyx_config::Config;
use alyx_control_plane::Migrator;
use alyx_core::{Error, ErrorKind, Result, SystemClock};

use self::answers::{Applied, Created, Plan, RolledBack, Status};
pub(crate) use self::args::MigrateCommand;
use self::args::{ProjectArgs, RollbackArgs};
use crate::admin::{RemoteArgs, print};
use crate::database;
use crate::failure::Failure;
use crate::{process, telemetry};

/// Looks at the database or changes it, and prints what it found or did.
pub(crate) fn run(remote: &RemoteArgs, command: &MigrateCommand) -> Result<(), Failure> {
    let project = command.project();
    let loaded = process::load(project.config.clone(), Vec::new())?;
    telemetry::start(&loaded.config.logging);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(Error::internal(error)))?;
    match runtime.block_on(carry_out(&loaded.config, remote, command)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::Told),
        // What is refused, in words that are complete already.
        Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::InvalidInput) => {
            Err(Failure::Project(error))
        }
        Err(error) => Err(Failure::Admin(error)),
    }
}

/// `false` where the answer, which is printed, is a refusal.
async fn carry_out(config: &Config, remote: &RemoteArgs, command: &MigrateCommand) -> Result<bool> {
    let schema = schema(command.project());
    let store = match database::open(config, |_| {}).await {
        Ok(store) => store,
        Err(error) => return without_database(error, &schema, remote, command),
    };
    let migrator = Migrator::new(store.clone(), Arc::new(SystemClock), schema);
    let outcome = ask(&migrator, remote, command).await;
    store.close().await;
    outcome
}

async fn ask(migrator: &Migrator, remote: &RemoteArgs, command: &MigrateCommand) -> Result<bool> {
    match command {
        MigrateCommand::Status(_) => {
            let status = Status::from(migrator.status().await?);
            print(remote, &status)?;
            Ok(status.in_order())
        }
        MigrateCommand::Plan(args) => {
            let plan = Plan::new(migrator.plan().await?, args.sql);
            print(remote, &plan)?;
            Ok(!plan.is_refused())
        }
        MigrateCommand::Apply(_) => {
            print(remote, &Applied::from(migrator.apply().await?))?;
            Ok(true)
        }
        MigrateCommand::Rollback(RollbackArgs { count, .. }) => {
            let (done, outcome) = migrator.roll_back(usize::from(*count)).await;
            print(remote, &RolledBack::from(done))?;
            outcome.map(|()| true)
        }
        MigrateCommand::Create(args) => {
            print(remote, &Created::new(migrator.create(&args.name).await?, None))?;
            Ok(true)
        }
    }
}

/// What a running server holds can only be asked of it; a file to be filled in can be written all the same.
fn without_database(
    error: Error,
    schema: &Path,
    remote: &RemoteArgs,
    command: &MigrateCommand,
) -> Result<bool> {
    if error.code() != "DATABASE_IN_USE" {
        return Err(error);
    }
    if let MigrateCommand::Create(args) = command {
        let created = alyx_control_plane::create_empty_migration(schema, &args.name)?;
        let note = "a server uses the database, so the file could not be filled in: what the schema would lose, and what to \
                    write instead, is in the server's log";
        print(remote, &Created::new(created, Some(note.to_owned())))?;
        return Ok(true);
    }
    let message = format!(
        "{}. A running `alyx dev` applies the files when they are saved, a running `alyx serve` when it is started again; \
         both can be asked with `alyx schema plan` and `alyx schema apply`",
        error.message()
    );
    Err(Error::new(error.kind(), "DATABASE_IN_USE", message))
}

fn schema(project: &ProjectArgs) -> PathBuf {
    let named = project.schema.clone();
    named.unwrap_or_else(|| PathBuf::from("schema.yaml"))
}
