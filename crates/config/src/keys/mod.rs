//! Every key of the configuration: the one source of parsing, environment names, defaults and documentation.

mod auth;
mod cluster;
mod live;
mod no_effect;
mod oauth;
mod storage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::{
    Admin, Auth, Cluster, Config, Cors, Database, Dev, Docs, DocsUi, Frontend, FunctionRuntime,
    FunctionSandbox, Functions, Jwt, LogFormat, LogLevel, Logging, Mail, MailLinks, Metrics, PasswordPolicy,
    RateLimit, Realtime, Server, Storage, Transactions, Turso,
};
use crate::value::{Input, Kind};

/// Language runtimes that a pool may be set for.
pub(crate) const RUNTIMES: [&str; 3] = ["node", "python", "go"];

/// One key.
pub(crate) struct Key {
    /// Dotted path; `{runtime}` stands for a language runtime, `{name}` for any name.
    pub(crate) path: &'static str,
    /// Other paths that mean the same.
    pub(crate) aliases: &'static [&'static str],
    /// What it holds.
    pub(crate) kind: Kind,
    /// Its default as it would be written; `None` where it is absent.
    pub(crate) default: Option<&'static str>,
    /// What it is for.
    pub(crate) doc: &'static str,
    /// Whether it does anything.
    pub(crate) status: Status,
}

/// Whether a key does anything in this version.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It does.
    Live,
    /// It is accepted, with this warning.
    NoEffect(&'static str),
}

impl Key {
    /// The same key under further paths.
    const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

/// Every key, in the order of the documentation.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    let accounts = auth::KEYS.iter().chain(oauth::KEYS).chain(auth::MAIL);
    let live = live::KEYS
        .iter()
        .chain(accounts)
        .chain(storage::KEYS)
        .chain(cluster::KEYS);
    live.chain(no_effect::KEYS)
}

impl Config {
    /// The defaults, with relative paths joined to `base`.
    pub(crate) fn defaults_in(base: &Path) -> Self {
        let mut config = blank();
        for key in all() {
            let Some(default) = key.default else { continue };
            let words: &[&str] = if key.path.contains("{runtime}") {
                &RUNTIMES
            } else {
                &[""]
            };
            for word in words {
                key.kind
                    .apply(Input::One(default.to_owned()), base, word, &mut config)
                    .expect("a test reads every default");
            }
        }
        config
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::defaults_in(Path::new("."))
    }
}

fn blank_storage() -> Storage {
    Storage {
        path: PathBuf::new(),
        max_file_size: 0,
        sweep_interval: Duration::ZERO,
        orphan_age: Duration::ZERO,
        backends: BTreeMap::new(),
    }
}

fn blank() -> Config {
    Config {
        server: Server {
            host: String::new(),
            port: 0,
            read_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            max_body_size: 0,
            trusted_proxies: Vec::new(),
            public_url: None,
            cors: Cors {
                enabled: false,
                allowed_origins: Vec::new(),
                exposed_headers: Vec::new(),
                allow_credentials: false,
                max_age: Duration::ZERO,
            },
        },
        database: Database {
            path: PathBuf::new(),
            log_retention: Duration::ZERO,
            log_max_rows: 0,
            turso: Turso {
                enabled: false,
                url: None,
                auth_token: None,
            },
        },
        functions: Functions {
            enabled: false,
            path: PathBuf::new(),
            timeout: Duration::ZERO,
            memory_limit: 0,
            env: BTreeMap::new(),
            runtime: FunctionRuntime::Auto,
            sandbox: FunctionSandbox::Auto,
            pools: BTreeMap::new(),
        },
        storage: blank_storage(),
        logging: Logging {
            level: LogLevel::Info,
            format: LogFormat::Console,
        },
        dev: Dev {
            enabled: false,
            watch: false,
        },
        docs: Docs {
            enabled: false,
            title: String::new(),
            description: String::new(),
            version: String::new(),
            ui: DocsUi::Swagger,
        },
        realtime: blank_realtime(),
        transactions: blank_transactions(),
        frontend: Frontend {
            dist: None,
            dev_proxy: None,
        },
        cluster: Cluster {
            name: String::new(),
            token: None,
            tls: None,
            listen: String::new(),
            advertise: None,
            control_plane: Vec::new(),
            nats: None,
            node_id: None,
        },
        metrics: Metrics { listen: None },
        admin: Admin {
            token: None,
            listen: String::new(),
            tls: None,
        },
        auth: blank_auth(),
        mail: blank_mail(),
    }
}

fn blank_mail() -> Mail {
    Mail {
        from: None,
        smtp: None,
        links: MailLinks {
            verify: String::new(),
            reset: String::new(),
            login: String::new(),
        },
    }
}

fn blank_auth() -> Auth {
    let never = RateLimit {
        max: 0,
        window: Duration::ZERO,
    };
    Auth {
        jwt: Jwt {
            secret: None,
            key_file: None,
            access_ttl: Duration::ZERO,
            refresh_ttl: Duration::ZERO,
            issuer: String::new(),
            audience: Vec::new(),
        },
        password: PasswordPolicy {
            min_length: 0,
            require_uppercase: false,
            require_lowercase: false,
            require_number: false,
            require_special: false,
        },
        login_limit: never,
        register_limit: never,
        mail_limit: never,
        allow_registration: false,
        allow_anonymous: false,
        anonymous_ttl: Duration::ZERO,
        require_verification: false,
        second_factor_issuer: String::new(),
        oauth: BTreeMap::new(),
        redirect_origins: Vec::new(),
    }
}

fn blank_realtime() -> Realtime {
    Realtime {
        enabled: false,
        max_connections: 0,
        max_subscriptions_per_client: 0,
        max_frame_size: 0,
        change_buffer_size: 0,
    }
}

fn blank_transactions() -> Transactions {
    Transactions {
        timeout: Duration::ZERO,
        max_open: 0,
        idempotency_retention: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pool;

    #[test]
    fn every_default_is_read_and_lands_where_it_belongs() {
        let config = Config::default();
        assert_eq!(config.server.port, 8090);
        assert_eq!(config.server.max_body_size, 10_485_760);
        assert_eq!(config.server.cors.allowed_origins, ["*"]);
        assert_eq!(config.database.path, Path::new("alyx.db"));
        assert_eq!(config.database.log_retention, Duration::from_secs(86_400));
        assert_eq!(config.functions.memory_limit, 256);
        assert_eq!(config.realtime.max_subscriptions_per_client, 100);
        assert_eq!(config.functions.pool("node"), Pool::default());
        assert_eq!(config.functions.pools.len(), RUNTIMES.len());
    }

    #[test]
    fn no_path_is_claimed_twice() {
        let mut paths: Vec<_> = all()
            .flat_map(|key| key.aliases.iter().chain([&key.path]))
            .collect();
        let all = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), all);
    }
}
