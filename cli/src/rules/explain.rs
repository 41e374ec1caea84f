//! `alyx rules explain`: asked of a server, or of the database of this folder's project.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use alyx_config::Config;
use alyx_control_plane::explain_rules;
use alyx_core::{Error, ErrorKind, Result, SystemClock};
use alyx_proto::admin as wire;
use clap::Args;

use super::explanation::Explanation;
use crate::access::{in_use, is_away};
use crate::admin::{Client, RemoteArgs, Server, ask, print};
use crate::failure::Failure;
use crate::way::Way;
use crate::{database, process, telemetry};

/// Largest values that are read, in bytes.
const MAX_DATA: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Configuration file [env: ALYX_CONFIG; default: alyx.yaml in this folder, then ~/.config/alyx, then /etc/alyx]
    #[arg(short, long, value_name = "FILE", env = "ALYX_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
    /// Collection of the document
    collection: String,
    /// Key of the document
    id: String,
    /// Who acts: id or e-mail address of an account, `anonymous` or `operator`
    #[arg(long = "as", value_name = "USER")]
    caller: String,
    /// Values that come in with a create and an update, as a JSON object; `-` reads them from standard input. Without it the document itself is created anew, and an update changes nothing
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
}

/// Prints what is allowed and why not. It is no failure where nothing is.
pub(super) fn run(remote: &RemoteArgs, args: &ExplainArgs) -> std::result::Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(Error::internal(error)))?;
    let request = request(args).map_err(Failure::Admin)?;
    let explained = if remote.server.is_some() || remote.token.is_some() {
        runtime.block_on(async { ask_server(&Server::of(remote)?, &request).await })
    } else {
        let loaded = process::load(args.config.clone(), Vec::new())?;
        telemetry::start(&loaded.config.logging);
        runtime.block_on(ask_here(&loaded.config, request))
    };
    let explanation = explained.map(Explanation::from).map_err(Failure::Admin)?;
    print(remote, &explanation).map_err(Failure::Admin)
}

fn request(args: &ExplainArgs) -> Result<wire::ExplainRulesRequest> {
    Ok(wire::ExplainRulesRequest {
        collection: args.collection.clone(),
        id: args.id.clone(),
        caller: args.caller.clone(),
        data: args.data.as_deref().map(read).transpose()?.map(Into::into),
    })
}

async fn ask_server(server: &Server, request: &wire::ExplainRulesRequest) -> Result<wire::RulesExplanation> {
    let call = async |mut client: Client| client.explain_rules(ask(request.clone())).await;
    server.call(call).await
}

/// The server that runs in this folder; else its database.
async fn ask_here(config: &Config, request: wire::ExplainRulesRequest) -> Result<wire::RulesExplanation> {
    if !config.database.turso.enabled
        && let Some((url, token)) = Way::beside(&config.database.path)?.read()
    {
        match ask_server(&Server::at(&url, &token, None)?, &request).await {
            // It has crashed, and left the file behind.
            Err(error) if is_away(&error) => {}
            answer => return answer,
        }
    }
    match database::open(config, |_| {}).await {
        Ok(store) => {
            let explained = explain_rules(&store, &SystemClock, request).await;
            store.close().await;
            explained
        }
        Err(error) if error.code() == "DATABASE_IN_USE" => {
            ask_server(&in_use(config, &error)?, &request).await
        }
        Err(error) => Err(error),
    }
}

/// The bytes of a file, or of standard input for `-`.
fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_DATA + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_DATA + 1).read_to_end(&mut bytes))
    };
    let refuse = |reason: String| {
        let message = format!("the values in {} cannot be read: {reason}", path.display());
        Error::new(ErrorKind::InvalidInput, "INVALID_JSON", message)
    };
    let length = read.map_err(|error| refuse(error.to_string()))?;
    if length as u64 > MAX_DATA {
        return Err(refuse(format!("they are larger than {} MiB", MAX_DATA >> 20)));
    }
    Ok(bytes)
}
