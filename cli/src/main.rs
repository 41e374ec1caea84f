//! The `alyx` binary: reads the command line and the configuration, composes the roles, and stops them in phases.

mod access;
mod admin;
mod args;
mod banner;
mod cluster;
mod database;
mod failure;
mod migrate;
mod operations;
mod operators;
mod process;
mod roles;
mod rules;
mod secret;
mod telemetry;
mod way;

use std::process::ExitCode;

use alyx_service::cluster::Role;
use clap::Parser;

use crate::args::{Cli, Command};

/// Rows are made on reader threads and freed on others, which costs the system's allocator a lock each.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(code) = alyx_sandbox::entered() {
        return code;
    }
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Dev(serve) => process::run(&serve, process::Mode::Dev),
        Command::Serve(serve) => process::run(&serve, process::Mode::Serve),
        Command::ControlPlane(role) => cluster::run(&role, Role::ControlPlane),
        Command::Gateway(role) => cluster::run(&role, Role::Gateway),
        Command::RealtimeNode(role) => cluster::run(&role, Role::RealtimeNode),
        Command::FunctionWorker(role) => cluster::run(&role, Role::FunctionWorker),
        Command::Rules(command) => rules::run(&cli.remote, &command),
        Command::Migrate(command) => migrate::run(&cli.remote, &command),
        Command::Access(command) => access::run(&cli.remote, command),
        Command::Admin(command) => admin::run(&cli.remote, command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
