//! Who may talk to whom: a shared token, certificates of one authority on both sides, or both.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alyx_core::{Error, ErrorKind, Result};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

use crate::token::{MIN_TOKEN_BYTES, Token};

/// Largest PEM file in bytes.
const MAX_PEM: u64 = 1 << 20;
/// Longest time for a TLS handshake.
pub(crate) const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// How roles prove who they are. Cheap to clone; `Debug` shows no secret.
#[derive(Clone)]
pub struct Security {
    token: Option<Token>,
    tls: Option<Arc<Tls>>,
}

/// Where the PEM files of mutual TLS lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authority that signed every role's certificate.
    pub ca: PathBuf,
    /// This role's certificate, with the chain to the authority. It must be good for both ends of a connection.
    pub cert: PathBuf,
    /// The key of `cert`.
    pub key: PathBuf,
    /// Name that every role's certificate carries; `None` where each carries the host name it is reached by.
    pub server_name: Option<String>,
}

struct Tls {
    ca: Certificate,
    identity: Identity,
    server_name: Option<String>,
}

impl Security {
    /// Security by a token, by certificates, or by both at once.
    ///
    /// # Errors
    /// `CLUSTER_INSECURE` where neither is given, `CLUSTER_TOKEN_INVALID`, `CLUSTER_TLS_INVALID` with the file that is
    /// at fault.
    pub fn new(token: Option<&str>, tls: Option<&TlsFiles>) -> Result<Self> {
        if token.is_none() && tls.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "CLUSTER_INSECURE",
                format!(
                    "roles may not talk to each other unprotected: set `cluster.token` ({MIN_TOKEN_BYTES} characters \
                     or more, the same for every role), or `cluster.tls.ca`, `.cert` and `.key`"
                ),
            ));
        }
        let security = Self {
            token: token
                .map(|token| Token::new(token, "cluster.token", "CLUSTER_TOKEN_INVALID"))
                .transpose()?,
            tls: tls.map(Tls::read).transpose()?.map(Arc::new),
        };
        security.try_out()?;
        Ok(security)
    }

    /// The security that the configuration asks for.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn from_config(config: &alyx_config::Cluster) -> Result<Self> {
        let tls = config.tls.as_ref().map(|tls| TlsFiles {
            ca: tls.ca.clone(),
            cert: tls.cert.clone(),
            key: tls.key.clone(),
            server_name: tls.server_name.clone(),
        });
        Self::new(
            config.token.as_ref().map(alyx_config::Secret::expose),
            tls.as_ref(),
        )
    }

    /// `http` or `https`, as the peers speak it.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether `authorization` is what this cluster's roles send. Where no token is set, the certificate has decided.
    pub(crate) fn admits(&self, authorization: Option<&[u8]>) -> bool {
        self.token
            .as_ref()
            .is_none_or(|token| token.admits(authorization))
    }

    /// What this role sends to prove itself.
    pub(crate) fn authorization(&self) -> Option<MetadataValue<Ascii>> {
        self.token.as_ref().map(Token::header)
    }

    pub(crate) fn secure_endpoint(&self, endpoint: Endpoint) -> Result<Endpoint, tonic::transport::Error> {
        let Some(tls) = &self.tls else { return Ok(endpoint) };
        let mut config = ClientTlsConfig::new()
            .ca_certificate(tls.ca.clone())
            .identity(tls.identity.clone())
            .timeout(HANDSHAKE_WITHIN);
        if let Some(name) = &tls.server_name {
            config = config.domain_name(name);
        }
        endpoint.tls_config(config)
    }

    pub(crate) fn secure_server(&self, server: Server) -> Result<Server, tonic::transport::Error> {
        let Some(tls) = &self.tls else { return Ok(server) };
        let config = ServerTlsConfig::new()
            .client_ca_root(tls.ca.clone())
            .identity(tls.identity.clone())
            .timeout(HANDSHAKE_WITHIN);
        server.tls_config(config)
    }

    /// Certificates that do not work are found at start, not at the first connection.
    fn try_out(&self) -> Result<()> {
        let unusable = |error: tonic::transport::Error| {
            let cause =
                std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            tls_invalid(format!(
                "`cluster.tls` does not work{cause}; `ca` and `cert` must be PEM certificates and `key` the PEM key of \
                 `cert`"
            ))
        };
        self.secure_server(Server::builder()).map_err(unusable)?;
        self.secure_endpoint(Endpoint::from_static("https://localhost"))
            .map_err(unusable)?;
        Ok(())
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("token", &self.token.is_some())
            .field("mutual_tls", &self.tls.is_some())
            .finish()
    }
}

impl Tls {
    fn read(files: &TlsFiles) -> Result<Self> {
        let read = |key: &str, path: &Path| {
            read_pem(path).map_err(|reason| tls_invalid(format!("`cluster.tls.{key}`: {reason}")))
        };
        let ca = read("ca", &files.ca)?;
        let cert = read("cert", &files.cert)?;
        let key = read("key", &files.key)?;
        Ok(Self {
            ca: Certificate::from_pem(ca),
            identity: Identity::from_pem(cert, key),
            server_name: files.server_name.clone(),
        })
    }
}

/// The content of a PEM file, or what is wrong with it.
pub(crate) fn read_pem(path: &Path) -> Result<Vec<u8>, String> {
    let refuse = |reason: String| format!("{}: {reason}", path.display());
    let length = fs::metadata(path)
        .map_err(|error| refuse(error.to_string()))?
        .len();
    if length > MAX_PEM {
        return Err(refuse(format!(
            "larger than {} KiB, so no PEM file",
            MAX_PEM >> 10
        )));
    }
    fs::read(path).map_err(|error| refuse(error.to_string()))
}

fn tls_invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, "CLUSTER_TLS_INVALID", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn nothing_is_open_by_default() {
        let check = |token: Option<&str>, code: &str| {
            let error = Security::new(token, None).expect_err("refused");
            assert_eq!(error.code(), code, "{token:?}");
            assert!(!error.message().contains("s3cret"), "{error}");
        };
        check(None, "CLUSTER_INSECURE");
        check(Some("s3cret"), "CLUSTER_TOKEN_INVALID");
        check(
            Some("s3cret\n0123456789abcdef0123456789abcdef"),
            "CLUSTER_TOKEN_INVALID",
        );
    }

    #[test]
    fn only_the_whole_token_is_admitted() {
        let security = Security::new(Some(TOKEN), None).expect("a token");
        let check = |header: Option<&str>, expected: bool| {
            assert_eq!(security.admits(header.map(str::as_bytes)), expected, "{header:?}");
        };
        check(Some(&format!("Bearer {TOKEN}")), true);
        check(Some(&format!("Bearer {TOKEN}x")), false);
        check(Some(&format!("Bearer {}", &TOKEN[..31])), false);
        check(Some(TOKEN), false);
        check(Some("Bearer "), false);
        check(Some(""), false);
        check(None, false);
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let security = Security::new(Some(TOKEN), None).expect("a token");
        let shown = format!("{security:?} {:?}", security.authorization());
        assert!(!shown.contains(TOKEN), "{shown}");
    }

    #[test]
    fn missing_certificates_are_named() {
        let files = TlsFiles {
            ca: PathBuf::from("/nowhere/ca.pem"),
            cert: PathBuf::from("/nowhere/cert.pem"),
            key: PathBuf::from("/nowhere/key.pem"),
            server_name: None,
        };
        let error = Security::new(None, Some(&files)).expect_err("no such file");
        assert_eq!(error.code(), "CLUSTER_TLS_INVALID");
        assert!(error.message().contains("cluster.tls.ca"), "{error}");
        assert!(error.message().contains("/nowhere/ca.pem"), "{error}");
    }
}
