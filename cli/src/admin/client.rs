//! The way to a running server, and what goes wrong on it in words.

use std::path::Path;
use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, Result};
use alyx_proto::admin::admin_client::AdminClient;
use alyx_rpc::{Call, Channel, MAX_MESSAGE_BYTES, connect_operator, from_status};
use tonic::{Code, Request, Response, Status};

use super::args::RemoteArgs;

/// Where the admin API is by default.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8192";
/// How long control planes may take to find out which of them leads; a lease lasts 5 s.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(300);
/// Longest time for a call.
const CALL_WITHIN: Duration = Duration::from_secs(30);
/// Longest time for a schema to be applied.
const APPLY_WITHIN: Duration = Duration::from_secs(600);

pub(crate) type Client = AdminClient<Channel>;

/// A server as an operator reaches it.
pub(crate) struct Server {
    client: Client,
    address: String,
}

impl Server {
    /// # Errors
    /// `ADMIN_TOKEN_MISSING`, `ADMIN_TOKEN_INVALID`, `ADMIN_ADDRESS_INVALID`, `ADMIN_TLS_INVALID`.
    pub(crate) fn of(args: &RemoteArgs) -> Result<Self> {
        let address = args.server.as_deref().unwrap_or(DEFAULT_SERVER);
        let token = args.token.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                "ADMIN_TOKEN_MISSING",
                "an operator needs a token: set ALYX_ADMIN_TOKEN to what `admin.token` of the server says, or pass \
                 `--token`",
            )
        })?;
        Self::at(address, token.expose(), args.ca.as_deref())
    }

    /// # Errors
    /// `ADMIN_TOKEN_INVALID`, `ADMIN_ADDRESS_INVALID`, `ADMIN_TLS_INVALID`.
    pub(crate) fn at(address: &str, token: &str, ca: Option<&Path>) -> Result<Self> {
        let channel = connect_operator(address, token, ca)?;
        Ok(Self {
            client: AdminClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            address: address.to_owned(),
        })
    }

    /// Makes a call, again and again for some seconds while control planes find out which of them leads: until then
    /// none has done anything.
    pub(crate) async fn call<T>(
        &self,
        call: impl AsyncFn(Client) -> Result<Response<T>, Status>,
    ) -> Result<T> {
        const NOBODY_LEADS: [&str; 3] = ["NOT_LEADER", "CONTROL_PLANE_STARTING", "CONTROL_PLANE_STOPPING"];
        let until = Instant::now() + SETTLE_WITHIN;
        loop {
            let error = match call(self.client.clone()).await {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status) => self.failure(status),
            };
            if !NOBODY_LEADS.contains(&error.code()) || Instant::now() >= until {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Why a call failed.
    fn failure(&self, status: Status) -> Error {
        let address = &self.address;
        if std::error::Error::source(&status).is_some() {
            return unreachable(address, &status);
        }
        let error = |kind, code, message: String| Error::new(kind, code, message);
        match status.code() {
            // What an Alyx server says as such has details.
            Code::Unauthenticated if status.details().is_empty() => error(
                ErrorKind::Unauthenticated,
                "ADMIN_UNAUTHENTICATED",
                format!(
                    "{address} is no listener for operators; use the address of `admin.listen` (port 8192)"
                ),
            ),
            Code::Unimplemented | Code::Unknown | Code::Internal if status.details().is_empty() => error(
                ErrorKind::BadGateway,
                "NO_ADMIN_API",
                format!(
                    "{address} answers, and has no admin API of this version; use the address of `admin.listen` \
                     (port 8192)"
                ),
            ),
            _ => from_status(status),
        }
    }
}

/// A request with its deadline.
pub(crate) fn ask<T>(message: T) -> Request<T> {
    Call::within(CALL_WITHIN).request(message)
}

/// The same for what may take long.
pub(super) fn ask_patiently<T>(message: T) -> Request<T> {
    Call::within(APPLY_WITHIN).request(message)
}

fn unreachable(address: &str, status: &Status) -> Error {
    let causes = causes(status);
    let hint = if causes.contains("invalid peer certificate") || causes.contains("CertificateRequired") {
        "; its certificate must carry this host name, and `--ca` name the authority that signed it"
    } else if causes.contains("InvalidContentType") || causes.contains("corrupt message") {
        "; it does not speak TLS: write http:// in place of https://"
    } else if causes.contains("refused") {
        "; nothing listens there: is `admin.token` set for the server, and is this the address of `admin.listen`?"
    } else if address.starts_with("http://") && !causes.contains("timed out") && !causes.contains("lookup") {
        "; does it speak TLS? Then write https:// in place of http://"
    } else {
        ""
    };
    Error::new(
        ErrorKind::Unavailable,
        "SERVER_UNREACHABLE",
        format!("the admin API at {address} cannot be reached ({causes}){hint}"),
    )
}

/// The causes of a failure, each once.
fn causes(status: &Status) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !told.iter().any(|known| known.contains(&text)) {
            told.push(text);
        }
        source = cause.source();
    }
    told.join(": ")
}
