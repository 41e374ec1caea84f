//! How operators prove themselves: the token of the configuration or an API token, and TLS where the network is not
//! trusted. A role's token opens
//! nothing here, and an operator's opens nothing between roles.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use alyx_core::{Error, ErrorKind, Permission, Result, Scopes};
use async_trait::async_trait;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

use crate::channel::{Channel, Credentials, patient};
use crate::security::{HANDSHAKE_WITHIN, read_pem};
use crate::token::Token;

/// Carries an operator's proof from one control plane to the one that leads, beside the role's own.
const FORWARDED: &str = "alyx-operator";

/// Where API tokens are looked up.
#[async_trait]
pub trait ApiTokens: Send + Sync {
    /// The scopes of a token; `None` where it is not good.
    ///
    /// # Errors
    /// That it cannot be looked up.
    async fn scopes(&self, token: &str) -> Result<Option<Scopes>>;
}

/// What a call needs yet.
pub(crate) enum Judgement {
    /// Nothing.
    Admitted,
    /// It has no proof.
    Refused,
    /// That this token may do it.
    Ask(Arc<dyn ApiTokens>, String, Permission<'static>),
}

/// What a listener for operators asks of them. Cheap to clone; `Debug` shows no secret.
#[derive(Clone)]
pub struct OperatorSecurity {
    token: Token,
    /// Known once the database is.
    tokens: Arc<OnceLock<Arc<dyn ApiTokens>>>,
    tls: Option<Arc<Identity>>,
}

/// Where the PEM files of the listener's TLS lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorTls {
    /// The listener's certificate, with its chain.
    pub cert: PathBuf,
    /// The key of `cert`.
    pub key: PathBuf,
}

impl OperatorSecurity {
    /// Security by a token, over TLS where that is given.
    ///
    /// # Errors
    /// `ADMIN_TOKEN_INVALID`, `ADMIN_TLS_INVALID` with the file that is at fault.
    pub fn new(token: &str, tls: Option<&OperatorTls>) -> Result<Self> {
        let token = Token::new(token, "admin.token", "ADMIN_TOKEN_INVALID")?;
        let tls = match tls {
            None => None,
            Some(files) => {
                let read = |key: &str, path: &Path| {
                    read_pem(path).map_err(|reason| tls_invalid(&format!("`admin.tls.{key}`: {reason}")))
                };
                let identity = Identity::from_pem(read("cert", &files.cert)?, read("key", &files.key)?);
                Some(Arc::new(identity))
            }
        };
        let security = Self {
            token,
            tokens: Arc::default(),
            tls,
        };
        // Certificates that do not work are found at start, not at the first connection.
        security.secure_server(Server::builder()).map_err(|error| {
            let cause =
                std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            tls_invalid(&format!(
                "`admin.tls` does not work{cause}; `cert` must be PEM certificates and `key` the PEM key of `cert`"
            ))
        })?;
        Ok(security)
    }

    /// The security that the configuration asks for; `None` where operators have no token, and so no listener.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn from_config(admin: &alyx_config::Admin) -> Result<Option<Self>> {
        let tls = admin.tls.as_ref().map(|tls| OperatorTls {
            cert: tls.cert.clone(),
            key: tls.key.clone(),
        });
        admin
            .token
            .as_ref()
            .map(|token| Self::new(token.expose(), tls.as_ref()))
            .transpose()
    }

    /// Whether operators must speak TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Accepts API tokens too from now on, wherever this security is in use. To be called once.
    pub fn accept(&self, tokens: Arc<dyn ApiTokens>) {
        // A second call changes nothing.
        let _ = self.tokens.set(tokens);
    }

    /// Whether the proof that `headers` carry opens what `permission` names; `forwarded` where a role has passed it on.
    pub(crate) fn judge(
        &self,
        headers: &http::HeaderMap,
        forwarded: bool,
        permission: Permission<'static>,
    ) -> Judgement {
        let name = if forwarded { FORWARDED } else { "authorization" };
        let proof = headers.get(name).map(http::HeaderValue::as_bytes);
        if self.token.admits(proof) {
            return Judgement::Admitted;
        }
        let sent = proof.and_then(|proof| std::str::from_utf8(proof).ok()?.strip_prefix("Bearer "));
        match (sent, self.tokens.get()) {
            (Some(sent), Some(tokens)) => Judgement::Ask(Arc::clone(tokens), sent.to_owned(), permission),
            (Some(_) | None, _) => Judgement::Refused,
        }
    }

    pub(crate) fn secure_server(&self, server: Server) -> Result<Server, tonic::transport::Error> {
        match &self.tls {
            None => Ok(server),
            Some(identity) => server.tls_config(
                ServerTlsConfig::new()
                    .identity(identity.as_ref().clone())
                    .timeout(HANDSHAKE_WITHIN),
            ),
        }
    }
}

impl std::fmt::Debug for OperatorSecurity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorSecurity")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// The proof of the operator who made a call, to be passed on with [`pass_on`]; `None` where the call has been passed
/// on already.
pub fn operator_proof(metadata: &MetadataMap) -> Option<MetadataValue<Ascii>> {
    if metadata.contains_key(FORWARDED) {
        return None;
    }
    let mut proof = metadata.get("authorization")?.clone();
    proof.set_sensitive(true);
    Some(proof)
}

/// Puts an operator's proof beside the role's own.
pub fn pass_on(metadata: &mut MetadataMap, proof: MetadataValue<Ascii>) {
    metadata.insert(FORWARDED, proof);
}

/// A channel from an operator to the admin API at `server` (`http://host:port` or `https://host:port`). With `https` the
/// server's certificate must be signed by an authority in `ca` (PEM), or by one that this machine trusts. Nothing is
/// connected yet. Must be called inside a tokio runtime.
///
/// # Errors
/// `ADMIN_ADDRESS_INVALID`, `ADMIN_TOKEN_INVALID`, `ADMIN_TLS_INVALID`.
pub fn connect_operator(server: &str, token: &str, ca: Option<&Path>) -> Result<Channel> {
    let token = Token::new(token, "the operator's token", "ADMIN_TOKEN_INVALID")?;
    let refuse = |cause: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::InvalidInput,
            "ADMIN_ADDRESS_INVALID",
            format!(
                "`{server}` is no address of an admin API ({cause}); write http://host:port or https://host:port"
            ),
        )
    };
    let encrypted = server.starts_with("https://");
    if !encrypted && !server.starts_with("http://") {
        return Err(refuse(&"it begins with neither http:// nor https://"));
    }
    let mut endpoint = Endpoint::from_shared(server.to_owned()).map_err(|error| refuse(&error))?;
    if endpoint.uri().port().is_none() {
        return Err(refuse(&"it has no port"));
    }
    if encrypted {
        let tls = ClientTlsConfig::new().timeout(HANDSHAKE_WITHIN);
        let tls = match ca {
            Some(path) => {
                let pem = read_pem(path).map_err(|reason| tls_invalid(&format!("`--ca`: {reason}")))?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
            None => tls.with_native_roots(),
        };
        endpoint = endpoint.tls_config(tls).map_err(|error| {
            let cause =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            tls_invalid(&format!("the certificates to trust cannot be used: {cause}"))
        })?;
    }
    Ok(InterceptedService::new(
        patient(endpoint).connect_lazy(),
        Credentials::of(Some(token.header())),
    ))
}

fn tls_invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "ADMIN_TLS_INVALID", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_short_token_is_refused_and_not_shown() {
        let error = OperatorSecurity::new("s3cret", None).expect_err("too short");
        assert_eq!(error.code(), "ADMIN_TOKEN_INVALID");
        assert!(!error.message().contains("s3cret"), "{error}");
        let shown = format!("{:?}", OperatorSecurity::new(TOKEN, None).expect("a token"));
        assert!(!shown.contains(TOKEN), "{shown}");
    }

    #[test]
    fn missing_files_are_named() {
        let files = OperatorTls {
            cert: PathBuf::from("/nowhere/cert.pem"),
            key: PathBuf::from("/nowhere/key.pem"),
        };
        let error = OperatorSecurity::new(TOKEN, Some(&files)).expect_err("no such file");
        assert_eq!(error.code(), "ADMIN_TLS_INVALID");
        assert!(error.message().contains("admin.tls.cert"), "{error}");
        assert!(error.message().contains("/nowhere/cert.pem"), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused() {
        let check = |server: &str| {
            let error = connect_operator(server, TOKEN, None).err();
            assert_eq!(
                error.map(|error| error.code().to_owned()).as_deref(),
                Some("ADMIN_ADDRESS_INVALID"),
                "{server}"
            );
        };
        check("");
        check("localhost:8192");
        check("ftp://localhost:8192");
        check("http://localhost");
        check("http://:8192:1/");
        assert!(connect_operator("http://localhost:8192", TOKEN, None).is_ok());
    }

    #[test]
    fn a_call_is_passed_on_once() {
        let mut metadata = MetadataMap::new();
        assert!(operator_proof(&metadata).is_none());
        metadata.insert("authorization", "Bearer x".parse().expect("a value"));
        let proof = operator_proof(&metadata).expect("not yet passed on");
        let mut next = MetadataMap::new();
        pass_on(&mut next, proof);
        assert!(operator_proof(&next).is_none());
    }
}
