//! The keys that do something.

use std::time::Duration;

use super::cluster::secret;
use super::{Key, Status};
use crate::model::{Config, DocsUi, FunctionRuntime, FunctionSandbox, LogFormat, LogLevel, Pool, Secret};
use crate::value::{Kind, Set};

pub(super) const fn live(path: &'static str, default: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        path,
        aliases: &[],
        kind,
        default: Some(default),
        doc,
        status: Status::Live,
    }
}

pub(super) const fn optional(path: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        path,
        aliases: &[],
        kind,
        default: None,
        doc,
        status: Status::Live,
    }
}

const fn port(set: Set<u64>) -> Kind {
    Kind::Int {
        min: 0,
        max: 65_535,
        set,
    }
}

pub(super) const fn count(min: u64, set: Set<u64>) -> Kind {
    Kind::Int {
        min,
        max: u32::MAX as u64,
        set,
    }
}

pub(super) const fn duration(min: Duration, set: Set<Duration>) -> Kind {
    Kind::Duration {
        min,
        or_zero: false,
        set,
    }
}

const fn limit(set: Set<Duration>) -> Kind {
    Kind::Duration {
        min: SECOND,
        or_zero: true,
        set,
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn pool<'a>(config: &'a mut Config, runtime: &str) -> &'a mut Pool {
    config.functions.pools.entry(runtime.to_owned()).or_insert(Pool {
        min_warm: 0,
        max_instances: 1,
        idle_timeout: MINUTE,
        concurrency: 1,
    })
}

fn each_pool(config: &mut Config, change: impl Fn(&mut Pool)) {
    config.functions.pools.values_mut().for_each(change);
}

/// In the order of the documentation.
pub(super) static KEYS: &[Key] = &[
    live(
        "server.host",
        "localhost",
        Kind::Text(|c, _, v| c.server.host = v),
        "Name or address to listen on; `0.0.0.0` for every interface.",
    ),
    live(
        "server.port",
        "8090",
        port(|c, _, v| c.server.port = v as u16),
        "Port to listen on; `0` takes a free one and says which.",
    ),
    live(
        "server.read_timeout",
        "30s",
        limit(|c, _, v| c.server.read_timeout = v),
        "Longest time for a request to arrive.",
    ),
    live(
        "server.write_timeout",
        "30s",
        limit(|c, _, v| c.server.write_timeout = v),
        "Longest time for a reply, from the end of the request on.",
    ),
    live(
        "server.idle_timeout",
        "120s",
        limit(|c, _, v| c.server.idle_timeout = v),
        "How long an idle connection stays open.",
    ),
    live(
        "server.max_body_size",
        "10mb",
        Kind::Size {
            min: 1,
            set: |c, _, v| c.server.max_body_size = v,
        },
        "Largest request body; a larger one is refused with 413.",
    ),
    optional(
        "server.public_url",
        Kind::Url(|c, _, v| c.server.public_url = Some(v)),
        "Where clients reach the server, such as `https://app.example.com`. Links in mails begin with it.",
    ),
    optional(
        "server.trusted_proxies",
        Kind::List(|c, _, v| c.server.trusted_proxies = v),
        "Addresses and ranges such as `10.0.0.0/8` of the proxies in front of the server. Only their `X-Forwarded-For` says \
         who a client is; limits that count by address count the proxy otherwise.",
    ),
    live(
        "server.cors.enabled",
        "true",
        Kind::Bool(|c, _, v| c.server.cors.enabled = v),
        "Answer cross-origin requests.",
    )
    .or(&["cors.enabled"]),
    live(
        "server.cors.allowed_origins",
        "*",
        Kind::List(|c, _, v| c.server.cors.allowed_origins = v),
        "Origins that may call; `*` for all, but not together with credentials.",
    )
    .or(&["server.cors.origins", "cors.origins", "cors.allowed_origins"]),
    live(
        "server.cors.exposed_headers",
        "X-Request-ID,ETag,Idempotency-Replayed",
        Kind::List(|c, _, v| c.server.cors.exposed_headers = v),
        "Reply headers that scripts may read.",
    )
    .or(&["cors.exposed_headers"]),
    live(
        "server.cors.allow_credentials",
        "false",
        Kind::Bool(|c, _, v| c.server.cors.allow_credentials = v),
        "Let browsers send credentials.",
    )
    .or(&["cors.allow_credentials"]),
    live(
        "server.cors.max_age",
        "12h",
        duration(Duration::ZERO, |c, _, v| c.server.cors.max_age = v),
        "How long a browser may keep a preflight reply; `0` sends no such header.",
    )
    .or(&["cors.max_age"]),
    live(
        "database.path",
        "alyx.db",
        Kind::Path(|c, _, v| c.database.path = v),
        "The database file. Its folder is made where it is missing.",
    ),
    live(
        "database.log_retention",
        "24h",
        duration(SECOND, |c, _, v| c.database.log_retention = v),
        "How long changes stay in the change log. A follower that was away for longer starts afresh.",
    ),
    live(
        "database.log_max_rows",
        "1000000",
        count(100, |c, _, v| c.database.log_max_rows = v),
        "Most changes kept in the change log, however young.",
    ),
    live(
        "database.turso.enabled",
        "false",
        Kind::Bool(|c, _, v| c.database.turso.enabled = v),
        "Keep the data in a libSQL server; without a word about it, one is used where `url` is set.",
    ),
    optional(
        "database.turso.url",
        Kind::Secret(|c, _, v| c.database.turso.url = secret(v)),
        "The libSQL server: `http://`, `https://`, `ws://`, `wss://` or `libsql://`.",
    ),
    optional(
        "database.turso.auth_token",
        Kind::Secret(|c, _, v| c.database.turso.auth_token = secret(v)),
        "What the libSQL server wants as a proof.",
    )
    .or(&["database.turso.token"]),
    live(
        "functions.enabled",
        "true",
        Kind::Bool(|c, _, v| c.functions.enabled = v),
        "Serve functions.",
    ),
    live(
        "functions.path",
        "functions",
        Kind::Path(|c, _, v| c.functions.path = v),
        "Folder that holds the functions.",
    )
    .or(&["functions.dir"]),
    live(
        "functions.runtime",
        "auto",
        Kind::Choice {
            words: &["auto", "process", "docker", "podman"],
            set: |c, _, v| {
                c.functions.runtime = match v {
                    "process" => FunctionRuntime::Process,
                    "docker" => FunctionRuntime::Docker,
                    "podman" => FunctionRuntime::Podman,
                    _ => FunctionRuntime::Auto,
                }
            },
        },
        "Driver that runs functions. This version has the process driver; `docker` and `podman` are accepted \
         with a warning.",
    ),
    live(
        "functions.sandbox",
        "auto",
        Kind::Choice {
            words: &["auto", "strict", "off"],
            set: |c, _, v| {
                c.functions.sandbox = match v {
                    "strict" => FunctionSandbox::Strict,
                    "off" => FunctionSandbox::Off,
                    _ => FunctionSandbox::Auto,
                }
            },
        },
        "What functions are kept from: `auto` what the machine grants, `strict` all that code nobody trusts must be \
         kept from, the network included, or the server does not start, `off` nothing. See \
         [Functions](functions.md#the-sandbox).",
    ),
    live(
        "functions.timeout",
        "30s",
        duration(SECOND, |c, _, v| c.functions.timeout = v),
        "Longest run of a function whose manifest says nothing.",
    ),
    live(
        "functions.memory_limit",
        "256mb",
        Kind::Memory {
            min_mib: 16,
            set: |c, _, v| c.functions.memory_limit = v,
        },
        "Memory limit of a function whose manifest says nothing; a bare number is MiB.",
    )
    .or(&["functions.pool.memory_limit"]),
    optional(
        "functions.env.{name}",
        Kind::Secret(|c, name, v| {
            c.functions.env.insert(name.to_owned(), Secret::new(v));
        }),
        "A setting that every function sees in `ctx.env`. A manifest's own `env` wins.",
    ),
    optional(
        "functions.pool.min_warm",
        count(0, |c, _, v| each_pool(c, |pool| pool.min_warm = v as u32)),
        "`min_warm` of every runtime.",
    ),
    optional(
        "functions.pool.max_instances",
        count(1, |c, _, v| each_pool(c, |pool| pool.max_instances = v as u32)),
        "`max_instances` of every runtime.",
    ),
    optional(
        "functions.pool.idle_timeout",
        duration(SECOND, |c, _, v| each_pool(c, |pool| pool.idle_timeout = v)),
        "`idle_timeout` of every runtime.",
    ),
    optional(
        "functions.pool.concurrency",
        count(1, |c, _, v| each_pool(c, |pool| pool.concurrency = v as u32)),
        "`concurrency` of every runtime.",
    ),
    live(
        "functions.pools.{runtime}.min_warm",
        "1",
        count(0, |c, runtime, v| pool(c, runtime).min_warm = v as u32),
        "Instances of a runtime that are kept ready.",
    ),
    live(
        "functions.pools.{runtime}.max_instances",
        "10",
        count(1, |c, runtime, v| pool(c, runtime).max_instances = v as u32),
        "Most instances of a runtime.",
    ),
    live(
        "functions.pools.{runtime}.idle_timeout",
        "60s",
        duration(SECOND, |c, runtime, v| pool(c, runtime).idle_timeout = v),
        "How long an instance above `min_warm` may idle.",
    ),
    live(
        "functions.pools.{runtime}.concurrency",
        "16",
        count(1, |c, runtime, v| pool(c, runtime).concurrency = v as u32),
        "Most calls that one instance runs at the same time.",
    ),
    live(
        "logging.level",
        "info",
        Kind::Choice {
            words: &["trace", "debug", "info", "warn", "error", "fatal", "panic"],
            set: |c, _, v| {
                c.logging.level = match v {
                    "trace" => LogLevel::Trace,
                    "debug" => LogLevel::Debug,
                    "warn" => LogLevel::Warn,
                    "error" | "fatal" | "panic" => LogLevel::Error,
                    _ => LogLevel::Info,
                }
            },
        },
        "Least severe level that is written; `fatal` and `panic` mean `error`.",
    ),
    live(
        "logging.format",
        "console",
        Kind::Choice {
            words: &["console", "json"],
            set: |c, _, v| {
                c.logging.format = match v {
                    "json" => LogFormat::Json,
                    _ => LogFormat::Console,
                }
            },
        },
        "Lines for people, or one JSON object per line.",
    ),
    live(
        "dev.enabled",
        "false",
        Kind::Bool(|c, _, v| c.dev.enabled = v),
        "Development mode; `alyx dev` turns it on.",
    ),
    live(
        "dev.watch",
        "true",
        Kind::Bool(|c, _, v| c.dev.watch = v),
        "In development mode, apply changes of the schema and the functions as they are saved.",
    ),
    live(
        "docs.enabled",
        "true",
        Kind::Bool(|c, _, v| c.docs.enabled = v),
        "Serve the documentation page and the OpenAPI document.",
    ),
    live(
        "docs.title",
        "Alyx API",
        Kind::Text(|c, _, v| c.docs.title = v),
        "Title of the API.",
    ),
    live(
        "docs.description",
        "Auto-generated API documentation",
        Kind::AnyText(|c, _, v| c.docs.description = v),
        "What the API is for.",
    ),
    live(
        "docs.version",
        "1.0.0",
        Kind::Text(|c, _, v| c.docs.version = v),
        "Version of the API.",
    ),
    live(
        "docs.ui",
        "swagger",
        Kind::Choice {
            words: &["swagger", "scalar", "redoc", "stoplight"],
            set: |c, _, v| {
                c.docs.ui = match v {
                    "scalar" => DocsUi::Scalar,
                    "redoc" => DocsUi::Redoc,
                    "stoplight" => DocsUi::Stoplight,
                    _ => DocsUi::Swagger,
                }
            },
        },
        "Documentation page. This version has Swagger UI; the others are accepted with a warning.",
    ),
    live(
        "realtime.enabled",
        "true",
        Kind::Bool(|c, _, v| c.realtime.enabled = v),
        "Serve live queries over WebSocket.",
    ),
    live(
        "realtime.max_connections",
        "1000",
        count(1, |c, _, v| c.realtime.max_connections = v as u32),
        "Most open connections; one more is refused with 503.",
    ),
    live(
        "realtime.max_subscriptions_per_client",
        "100",
        count(1, |c, _, v| c.realtime.max_subscriptions_per_client = v as u32),
        "Most subscriptions of one connection.",
    ),
    live(
        "realtime.max_frame_size",
        "512kb",
        Kind::Size {
            min: 1024,
            set: |c, _, v| c.realtime.max_frame_size = v,
        },
        "Largest frame that a client may send; a larger one closes its connection with 1009.",
    ),
    live(
        "realtime.change_buffer_size",
        "1000",
        count(1, |c, _, v| c.realtime.change_buffer_size = v as u32),
        "Commits kept in memory for a follower that lags; past that it reads the change log.",
    ),
    live(
        "transactions.timeout",
        "5m",
        duration(Duration::from_millis(100), |c, _, v| c.transactions.timeout = v),
        "How long a transaction may be open; then it is rolled back.",
    )
    .or(&["transaction.timeout"]),
    live(
        "transactions.max_open",
        "1000",
        count(1, |c, _, v| c.transactions.max_open = v as u32),
        "Most open transactions of one gateway; one more is refused with 429.",
    ),
    live(
        "transactions.idempotency_retention",
        "24h",
        duration(SECOND, |c, _, v| c.transactions.idempotency_retention = v),
        "How long the reply to a request with an `Idempotency-Key` is kept.",
    ),
    optional(
        "frontend.dist",
        Kind::Path(|c, _, v| c.frontend.dist = Some(v)),
        "Folder of a built frontend, served at `/`; unknown paths get its `index.html`.",
    ),
    optional(
        "frontend.dev_proxy",
        Kind::Url(|c, _, v| c.frontend.dev_proxy = Some(v)),
        "A frontend's development server: gets every request that the API does not serve.",
    ),
];
