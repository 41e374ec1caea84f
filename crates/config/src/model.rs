//! The checked configuration as the roles read it. Every value here has passed the rules of the key registry.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration. [`Config::default`] holds the defaults of the key registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The public listener.
    pub server: Server,
    /// The database.
    pub database: Database,
    /// Functions and where they run.
    pub functions: Functions,
    /// Where files are kept.
    pub storage: Storage,
    /// Log output.
    pub logging: Logging,
    /// Development mode.
    pub dev: Dev,
    /// The documentation page and the OpenAPI head.
    pub docs: Docs,
    /// Live queries.
    pub realtime: Realtime,
    /// Transactions over several requests, and requests that must not be carried out twice.
    pub transactions: Transactions,
    /// A built frontend, served beside the API.
    pub frontend: Frontend,
    /// How the roles find and trust each other where each is a process of its own.
    pub cluster: Cluster,
    /// A listener of its own for health and metrics.
    pub metrics: Metrics,
    /// A listener of its own for operators.
    pub admin: Admin,
    /// Accounts of end users.
    pub auth: Auth,
    /// Mails to their owners.
    pub mail: Mail,
}

/// Where files are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Storage {
    /// The folder of the storage `local`, where [`Self::backends`] has none of that name.
    pub path: PathBuf,
    /// Largest file in bytes, at least 1.
    pub max_file_size: u64,
    /// Time between two searches for what broken uploads left behind, at least a second.
    pub sweep_interval: Duration,
    /// How long that must have lain untouched, at least a minute.
    pub orphan_age: Duration,
    /// Storages by name; each is a folder.
    pub backends: BTreeMap<String, StorageBackend>,
}

/// One storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageBackend {
    /// What it is; a checked configuration has folders only.
    pub kind: StorageKind,
    /// Its folder; a checked configuration has one.
    pub path: Option<PathBuf>,
    /// What the names of the buckets' folders begin with.
    pub base_path: String,
}

/// What a storage is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StorageKind {
    /// A folder.
    #[default]
    Filesystem,
    /// An S3 service, which this version cannot use.
    S3,
}

/// The public listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Name or address to listen on.
    pub host: String,
    /// Port; `0` takes a free one.
    pub port: u16,
    /// Longest time for a request's head and body to arrive; zero means no limit.
    pub read_timeout: Duration,
    /// Longest time from the end of the request to the end of the reply; zero means no limit.
    pub write_timeout: Duration,
    /// How long an idle keep-alive connection stays open; zero means no limit.
    pub idle_timeout: Duration,
    /// Largest request body in bytes, at least 1.
    pub max_body_size: u64,
    /// Addresses and ranges (`10.0.0.0/8`) of proxies whose `X-Forwarded-For` is believed; each is well-formed.
    pub trusted_proxies: Vec<String>,
    /// Where clients reach the server, without a slash at the end. What is sent outside names no other address.
    pub public_url: Option<String>,
    /// Cross-origin requests.
    pub cors: Cors,
}

/// Cross-origin requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Cors {
    /// Answer cross-origin requests at all.
    pub enabled: bool,
    /// Origins that may call, or `*` for all (never together with credentials).
    pub allowed_origins: Vec<String>,
    /// Reply headers that scripts may read.
    pub exposed_headers: Vec<String>,
    /// May the browser send cookies and credentials?
    pub allow_credentials: bool,
    /// How long a browser may keep a preflight reply; zero sends no such header.
    pub max_age: Duration,
}

/// The database.
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    /// The file of the embedded database.
    pub path: PathBuf,
    /// How long changes stay in the change log, at least a second.
    pub log_retention: Duration,
    /// Most changes kept in the change log, at least 100.
    pub log_max_rows: u64,
    /// A libSQL server in place of the embedded database.
    pub turso: Turso,
}

/// A libSQL server.
#[derive(Debug, Clone, PartialEq)]
pub struct Turso {
    /// Use it. Without a word about it, it is used where there is a `url`.
    pub enabled: bool,
    /// Where it is (`http`, `https`, `ws`, `wss` or `libsql`); present where it is enabled. Secret, since it may hold
    /// a token.
    pub url: Option<Secret>,
    /// What it wants as a proof.
    pub auth_token: Option<Secret>,
}

/// Functions and where they run.
#[derive(Debug, Clone, PartialEq)]
pub struct Functions {
    /// Serve functions at all.
    pub enabled: bool,
    /// Folder that holds them.
    pub path: PathBuf,
    /// Longest run of a function whose manifest says nothing.
    pub timeout: Duration,
    /// Memory limit in MiB of a function whose manifest says nothing.
    pub memory_limit: u64,
    /// `ctx.env` of every function; a manifest's own `env` wins.
    pub env: BTreeMap<String, Secret>,
    /// The driver that was asked for.
    pub runtime: FunctionRuntime,
    /// How much of a sandbox functions must have.
    pub sandbox: FunctionSandbox,
    /// Pools by runtime name (`node`, `python`, `go`); every runtime is present.
    pub pools: BTreeMap<String, Pool>,
}

impl Functions {
    /// The pool of that runtime; the defaults where there is no such runtime.
    pub fn pool(&self, runtime: &str) -> Pool {
        self.pools.get(runtime).cloned().unwrap_or_default()
    }
}

/// Drivers that run functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionRuntime {
    /// Whatever works here.
    Auto,
    /// Child processes.
    Process,
    /// Docker containers.
    Docker,
    /// Podman containers.
    Podman,
}

/// How much of a sandbox functions must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionSandbox {
    /// What the machine grants.
    Auto,
    /// All that code nobody trusts must be kept from; the server does not start with less.
    Strict,
    /// None.
    Off,
}

/// How many instances of one runtime there are.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Instances kept ready.
    pub min_warm: u32,
    /// Most instances, at least 1 and at least `min_warm`.
    pub max_instances: u32,
    /// How long an instance above `min_warm` may idle.
    pub idle_timeout: Duration,
    /// Most calls that one instance runs at the same time, at least 1.
    pub concurrency: u32,
}

impl Default for Pool {
    fn default() -> Self {
        Config::default()
            .functions
            .pools
            .remove("node")
            .expect("the registry has a default pool for node")
    }
}

/// Log output.
#[derive(Debug, Clone, PartialEq)]
pub struct Logging {
    /// Least severe level that is written.
    pub level: LogLevel,
    /// Shape of a line.
    pub format: LogFormat,
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For finding defects.
    Debug,
    /// What happens.
    Info,
    /// Degraded but going on.
    Warn,
    /// Someone must look.
    Error,
}

impl LogLevel {
    /// The word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Console,
    /// One JSON object per line.
    Json,
}

/// Development mode.
#[derive(Debug, Clone, PartialEq)]
pub struct Dev {
    /// Development mode; `alyx dev` turns it on.
    pub enabled: bool,
    /// Watch the schema and the functions folder.
    pub watch: bool,
}

/// The documentation page and the OpenAPI head.
#[derive(Debug, Clone, PartialEq)]
pub struct Docs {
    /// Serve the page and the OpenAPI document.
    pub enabled: bool,
    /// Title of the API.
    pub title: String,
    /// What the API is for.
    pub description: String,
    /// Version of the API.
    pub version: String,
    /// The page that was asked for.
    pub ui: DocsUi,
}

/// Documentation pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocsUi {
    /// Swagger UI.
    Swagger,
    /// Scalar.
    Scalar,
    /// Redoc.
    Redoc,
    /// Stoplight Elements.
    Stoplight,
}

/// Live queries.
#[derive(Debug, Clone, PartialEq)]
pub struct Realtime {
    /// Serve the realtime endpoint.
    pub enabled: bool,
    /// Most open WebSocket connections.
    pub max_connections: u32,
    /// Most subscriptions of one connection.
    pub max_subscriptions_per_client: u32,
    /// Largest frame that a client may send, in bytes.
    pub max_frame_size: u64,
    /// Commits kept for a follower that lags; one that lags further reads the change log.
    pub change_buffer_size: u32,
}

/// Transactions over several requests, and requests that must not be carried out twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Transactions {
    /// How long a transaction may be open, at least 100 ms.
    pub timeout: Duration,
    /// Most open transactions of one gateway.
    pub max_open: u32,
    /// How long the reply to a request with an idempotency key is kept, at least a second.
    pub idempotency_retention: Duration,
}

/// A built frontend, served beside the API.
#[derive(Debug, Clone, PartialEq)]
pub struct Frontend {
    /// Folder of built files; unknown paths get its `index.html`.
    pub dist: Option<PathBuf>,
    /// Base URL of a development server that gets what the API does not serve.
    pub dev_proxy: Option<String>,
}

/// How the roles find and trust each other where each is a process of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Name of the cluster, part of NATS subjects: letters, digits, `-` and `_`.
    pub name: String,
    /// Shared proof, at least [`Cluster::MIN_TOKEN`] characters.
    pub token: Option<Secret>,
    /// Mutual TLS, beside the token or in its place.
    pub tls: Option<ClusterTls>,
    /// `host:port` for other roles; port 0 takes a free one.
    pub listen: String,
    /// `host:port` at which the others reach this role; `None` means the real listen address.
    pub advertise: Option<String>,
    /// `host:port` of each control plane.
    pub control_plane: Vec<String>,
    /// URL of the NATS server. Secret, since it may hold a password.
    pub nats: Option<Secret>,
    /// This process's name in the directory; `None` means one that is made up at start.
    pub node_id: Option<String>,
}

impl Cluster {
    /// Shortest token in characters.
    pub const MIN_TOKEN: usize = 32;
}

/// PEM files of mutual TLS.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterTls {
    /// Certificates of the authority.
    pub ca: PathBuf,
    /// This role's certificate.
    pub cert: PathBuf,
    /// The key of `cert`.
    pub key: PathBuf,
    /// Name that every role's certificate carries; `None` where each carries the host name it is reached by.
    pub server_name: Option<String>,
}

/// A listener of its own for health and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// `host:port` to listen on. `None` means none where all roles are one process, and a free port of this machine
    /// alone for a role of its own.
    pub listen: Option<String>,
}

/// The admin API: who may use it, and where it listens.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Proof of operators, at least [`Admin::MIN_TOKEN`] characters. `None` means that nothing listens.
    pub token: Option<Secret>,
    /// `host:port` to listen on; port 0 takes a free one.
    pub listen: String,
    /// TLS; `None` means plain HTTP/2, for this machine or a network that is trusted.
    pub tls: Option<AdminTls>,
}

impl Admin {
    /// Shortest token in characters.
    pub const MIN_TOKEN: usize = 32;
}

/// PEM files of the admin API's TLS.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminTls {
    /// The listener's certificate and its chain.
    pub cert: PathBuf,
    /// The key of `cert`.
    pub key: PathBuf,
}

/// Accounts of end users.
#[derive(Debug, Clone, PartialEq)]
pub struct Auth {
    /// How sessions are shown.
    pub jwt: Jwt,
    /// What a new password must be.
    pub password: PasswordPolicy,
    /// Tries to sign in that fail, by address.
    pub login_limit: RateLimit,
    /// Registrations, by address.
    pub register_limit: RateLimit,
    /// Mails of one kind to one account; ten times as many from one address.
    pub mail_limit: RateLimit,
    /// Whether anybody may register.
    pub allow_registration: bool,
    /// Whether anybody may have an account without saying who they are.
    pub allow_anonymous: bool,
    /// How long such an account lasts without being used.
    pub anonymous_ttl: Duration,
    /// Whether only verified addresses may sign in.
    pub require_verification: bool,
    /// What authenticator apps call this server.
    pub second_factor_issuer: String,
    /// Other providers that people sign in with, by name.
    pub oauth: BTreeMap<String, OAuthProvider>,
    /// Origins beside that of `server.public_url` that a login may lead back to.
    pub redirect_origins: Vec<String>,
}

/// Another provider: OAuth 2, or OpenID Connect where there is an issuer. What is not said comes from the preset of
/// its name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OAuthProvider {
    /// Who we are there.
    pub client_id: String,
    /// Shows that we are.
    pub client_secret: Option<Secret>,
    /// In place of the secret: a private key that makes one, as Apple wants it.
    pub key_file: Option<PathBuf>,
    /// The name of that key.
    pub key_id: Option<String>,
    /// Whom that key belongs to.
    pub team_id: Option<String>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Where OpenID Connect's discovery begins.
    pub issuer: Option<String>,
    /// Where people are sent.
    pub auth_url: Option<String>,
    /// Where their codes are turned in.
    pub token_url: Option<String>,
    /// Where it says who they are.
    pub user_info_url: Option<String>,
}

impl OAuthProvider {
    /// Names that need nothing but a client id and a proof.
    pub const PRESETS: [&str; 6] = ["google", "github", "gitlab", "microsoft", "apple", "discord"];
}

/// Mails to owners of accounts.
#[derive(Debug, Clone, PartialEq)]
pub struct Mail {
    /// Who sends them; present where `smtp` is.
    pub from: Option<String>,
    /// The server that takes them. `None` means that none are sent; development shows them in the log.
    pub smtp: Option<Smtp>,
    /// Where their links lead.
    pub links: MailLinks,
}

/// A mail server.
#[derive(Debug, Clone, PartialEq)]
pub struct Smtp {
    /// Name or address; not empty.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who to sign in as; together with `password` or not at all.
    pub username: Option<String>,
    /// Proof of `username`.
    pub password: Option<Secret>,
    /// How the connection is protected.
    pub tls: SmtpTls,
}

impl Default for Smtp {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 587,
            username: None,
            password: None,
            tls: SmtpTls::StartTls,
        }
    }
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// It begins in the clear and must be encrypted before anything is said.
    StartTls,
    /// It is encrypted from the start.
    Tls,
    /// Not at all: for a server on this machine.
    None,
}

/// Paths under `server.public_url`, each with a slash at its start; links add `?token=…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailLinks {
    /// Shows that an address is its owner's.
    pub verify: String,
    /// Sets another password.
    pub reset: String,
    /// Signs in.
    pub login: String,
}

/// How sessions are shown: by signed tokens. Without `secret` and `key_file` nobody can sign in.
#[derive(Debug, Clone, PartialEq)]
pub struct Jwt {
    /// Signs with HS256; at least [`Jwt::MIN_SECRET`] bytes, and not together with `key_file`.
    pub secret: Option<Secret>,
    /// PEM file of an Ed25519 or RSA key that signs with EdDSA or RS256.
    pub key_file: Option<PathBuf>,
    /// How long an access token is good, at least a second.
    pub access_ttl: Duration,
    /// How long a session lasts without being used, at least `access_ttl`.
    pub refresh_ttl: Duration,
    /// `iss` of tokens.
    pub issuer: String,
    /// `aud` of tokens; may be empty.
    pub audience: Vec<String>,
}

impl Jwt {
    /// Shortest secret in bytes.
    pub const MIN_SECRET: usize = 32;
}

/// What a new password must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// Fewest characters, at least 8.
    pub min_length: u32,
    /// An upper-case letter.
    pub require_uppercase: bool,
    /// A lower-case letter.
    pub require_lowercase: bool,
    /// A digit.
    pub require_number: bool,
    /// Something else.
    pub require_special: bool,
}

/// So many tries in a window that begins with the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// At least 1.
    pub max: u32,
    /// At least a second.
    pub window: Duration,
}

/// A value that must not be printed: `Debug` and `Display` show `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
