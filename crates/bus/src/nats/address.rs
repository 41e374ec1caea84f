//! Addresses of NATS servers with the credentials in them.

use alyx_core::{Error, ErrorKind, Result};
use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

/// Servers of one NATS, and who we are there. Its credentials are never printed.
pub(super) struct Address {
    pub(super) servers: Vec<ServerAddr>,
    login: Login,
}

#[derive(Clone, PartialEq, Eq)]
enum Login {
    None,
    Token(String),
    Password { user: String, password: String },
}

impl Address {
    /// Reads `scheme://[credentials@]host[:port]`, several separated by commas. Credentials of the first that has
    /// some are used for all of them.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let mut login = Login::None;
        let mut servers = Vec::new();
        for single in url.split(',').map(str::trim) {
            let (scheme, rest) = single.split_once("://").unwrap_or(("nats", single));
            if !matches!(scheme, "nats" | "tls") {
                return Err(invalid("begins with nats:// or tls://"));
            }
            let (credentials, host) = rest
                .rsplit_once('@')
                .map_or((None, rest), |(credentials, host)| (Some(credentials), host));
            if host.is_empty() {
                return Err(invalid("names a host"));
            }
            if let Some(credentials) = credentials.filter(|_| login == Login::None) {
                login = Login::parse(credentials)?;
            }
            let server = format!("{scheme}://{host}");
            servers.push(
                server
                    .parse()
                    .map_err(|_| invalid("is host:port after the scheme"))?,
            );
        }
        Ok(Self { servers, login })
    }

    /// Adds the credentials.
    pub(super) fn log_in(&self, options: ConnectOptions) -> ConnectOptions {
        match &self.login {
            Login::None => options,
            Login::Token(token) => options.token(token.clone()),
            Login::Password { user, password } => options.user_and_password(user.clone(), password.clone()),
        }
    }
}

impl Login {
    fn parse(credentials: &str) -> Result<Self> {
        let decode = |text: &str| {
            percent_decode_str(text)
                .decode_utf8()
                .map(|text| text.into_owned())
                .map_err(|_| invalid("has credentials in percent-encoded UTF-8"))
        };
        Ok(match credentials.split_once(':') {
            Some((user, password)) => Self::Password {
                user: decode(user)?,
                password: decode(password)?,
            },
            None => Self::Token(decode(credentials)?),
        })
    }
}

fn invalid(would_be_right: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "NATS_ADDRESS_INVALID",
        format!(
            "cluster.nats is not an address of NATS; one {would_be_right}, such as nats://127.0.0.1:4222"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_of_the_address() {
        let none = Login::None;
        let token = |token: &str| Login::Token(token.to_owned());
        let password = |user: &str, password: &str| Login::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        for (url, hosts, login) in [
            ("nats://a:4222", &["a:4222"][..], none.clone()),
            ("a", &["a:4222"], none.clone()),
            ("tls://a, nats://b:1", &["a:4222", "b:1"], none),
            ("nats://t0ken@a", &["a:4222"], token("t0ken")),
            (
                "nats://me:p%40ss@a:1,nats://b:1",
                &["a:1", "b:1"],
                password("me", "p@ss"),
            ),
            ("nats://[::1]:4222", &["::1:4222"], Login::None),
        ] {
            let address = Address::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            let found: Vec<String> = address
                .servers
                .iter()
                .map(|server| format!("{}:{}", server.host(), server.port()))
                .collect();
            assert_eq!(found, hosts, "{url}");
            assert!(address.login == login, "{url}");
            let printed = format!("{:?}", address.servers);
            assert!(
                !printed.contains("t0ken") && !printed.contains("p%40ss"),
                "{printed}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for url in [
            "",
            "http://a",
            "nats://",
            "nats://secret@",
            "nats://a:port",
            "nats://%ff@a",
        ] {
            let error = Address::parse(url)
                .err()
                .unwrap_or_else(|| panic!("{url} is refused"));
            assert_eq!(error.code(), "NATS_ADDRESS_INVALID", "{url}");
            assert!(!error.message().contains("secret"), "{error}");
        }
    }
}
