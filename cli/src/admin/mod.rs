//! The commands that ask a running server over its admin API.

mod answers;
mod args;
mod client;
mod schema;
mod table;

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::admin as wire;

pub(crate) use self::args::{AdminCommand, RemoteArgs, secret};
pub(crate) use self::client::{Client, Server, ask};
pub(crate) use self::table::Table;

use self::answers::{Answer, Drained, Functions, Nodes, Status};
use self::args::{
    ClusterCommand, FileArgs, FunctionsCommand, GetArgs, NodeArgs, NodesCommand, SchemaCommand,
};
use self::client::ask_patiently;
use self::schema::{History, Plan, Revision};
use crate::failure::Failure;

/// Asks, and prints the answer.
pub(crate) fn run(remote: &RemoteArgs, command: AdminCommand) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(Error::internal(error)))?;
    let asked = runtime.block_on(async {
        let server = Server::of(remote)?;
        ask_server(server, remote, command).await
    });
    match asked {
        Ok(Outcome::Done) => Ok(()),
        Ok(Outcome::Refused) => Err(Failure::Told),
        Err(error) => Err(Failure::Admin(error)),
    }
}

enum Outcome {
    Done,
    /// The answer is that the schema is refused.
    Refused,
}

async fn ask_server(server: Server, remote: &RemoteArgs, command: AdminCommand) -> Result<Outcome> {
    match command {
        AdminCommand::Cluster(ClusterCommand::Status) => {
            let call = async |mut client: Client| client.get_status(ask(wire::GetStatusRequest {})).await;
            print(remote, &Status::from(server.call(call).await?))?;
        }
        AdminCommand::Nodes(command) => nodes(server, remote, command).await?,
        AdminCommand::Schema(command) => return schema(server, remote, command).await,
        AdminCommand::Functions(FunctionsCommand::List) => {
            let call =
                async |mut client: Client| client.list_functions(ask(wire::ListFunctionsRequest {})).await;
            print(remote, &Functions::from(server.call(call).await?))?;
        }
    }
    Ok(Outcome::Done)
}

async fn nodes(server: Server, remote: &RemoteArgs, command: NodesCommand) -> Result<()> {
    match command {
        NodesCommand::List => {
            let call = async |mut client: Client| client.list_nodes(ask(wire::ListNodesRequest {})).await;
            print(remote, &Nodes::from(server.call(call).await?))
        }
        NodesCommand::Drain(NodeArgs { node }) => {
            let call = async |mut client: Client| {
                let node = node.clone();
                client.drain_node(ask(wire::DrainNodeRequest { node })).await
            };
            print(remote, &Drained::new(server.call(call).await?, true))
        }
        NodesCommand::Undrain(NodeArgs { node }) => {
            let call = async |mut client: Client| {
                let node = node.clone();
                client.undrain_node(ask(wire::UndrainNodeRequest { node })).await
            };
            print(remote, &Drained::new(server.call(call).await?, false))
        }
    }
}

async fn schema(server: Server, remote: &RemoteArgs, command: SchemaCommand) -> Result<Outcome> {
    let plan = match command {
        SchemaCommand::Get(GetArgs { revision }) => {
            let call =
                async |mut client: Client| client.get_schema(ask(wire::GetSchemaRequest { revision })).await;
            print(remote, &Revision::from(server.call(call).await?))?;
            return Ok(Outcome::Done);
        }
        SchemaCommand::History => {
            let call = async |mut client: Client| {
                client
                    .list_schema_revisions(ask(wire::ListSchemaRevisionsRequest {}))
                    .await
            };
            print(remote, &History::from(server.call(call).await?))?;
            return Ok(Outcome::Done);
        }
        SchemaCommand::Plan(FileArgs { file }) => {
            let text = schema::read(&file)?;
            let call = async |mut client: Client| {
                let source = text.clone();
                client.plan_schema(ask(wire::PlanSchemaRequest { source })).await
            };
            Plan::new(server.call(call).await?, false)
        }
        SchemaCommand::Apply(FileArgs { file }) => {
            let text = schema::read(&file)?;
            let call = async |mut client: Client| {
                let source = text.clone();
                client
                    .apply_schema(ask_patiently(wire::ApplySchemaRequest { source }))
                    .await
            };
            Plan::new(server.call(call).await?, true)
        }
    };
    print(remote, &plan)?;
    Ok(if plan.is_refused() {
        Outcome::Refused
    } else {
        Outcome::Done
    })
}

/// Prints to standard output; a reader that has had enough is no failure.
pub(crate) fn print(remote: &RemoteArgs, answer: &impl Answer) -> Result<()> {
    use std::io::Write as _;
    let text = if remote.json {
        serde_json::to_string_pretty(answer).map_err(Error::internal)? + "\n"
    } else {
        answer.to_string()
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::internal(error)),
        _ => Ok(()),
    }
}

/// The exit code for what went wrong.
pub(crate) fn exit_code(error: &Error) -> u8 {
    const EX_USAGE: u8 = 64;
    const EX_UNAVAILABLE: u8 = 69;
    const EX_NOPERM: u8 = 77;
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::PayloadTooLarge => EX_USAGE,
        ErrorKind::Unauthenticated | ErrorKind::Forbidden => EX_NOPERM,
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded | ErrorKind::BadGateway => EX_UNAVAILABLE,
        ErrorKind::NotFound
        | ErrorKind::MethodNotAllowed
        | ErrorKind::Conflict
        | ErrorKind::PreconditionFailed
        | ErrorKind::UnsupportedMediaType
        | ErrorKind::TooManyRequests
        | ErrorKind::Internal => 1,
    }
}
