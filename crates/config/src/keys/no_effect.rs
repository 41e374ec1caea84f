//! The keys that are read and checked but do nothing in this version, each with the reason.

use std::time::Duration;

use super::{Key, Status};
use crate::value::Kind;

const fn no_effect(path: &'static str, kind: Kind, why: &'static str) -> Key {
    Key {
        path,
        aliases: &[],
        kind,
        default: None,
        doc: "",
        status: Status::NoEffect(why),
    }
}

const BOOL: Kind = Kind::Bool(|_, _, _| ());
const NUMBER: Kind = Kind::Number(|_, _, _| ());
const DURATION: Kind = Kind::Duration {
    min: Duration::ZERO,
    or_zero: false,
    set: |_, _, _| (),
};
const TEXT: Kind = Kind::AnyText(|_, _, _| ());
const MOUNT: Kind = Kind::Mount(|_, _, _| ());
const SECRET: Kind = Kind::Secret(|_, _, _| ());
const LIST: Kind = Kind::List(|_, _, _| ());

const NO_S3: &str = "this version keeps files in folders only";
const NO_ADMIN_UI: &str = "this version has no admin UI; `admin_ui` is checked and has no effect";
const NO_TLS: &str = "this version does not speak TLS itself; put a proxy that does in front of it";
const NO_CLIENTS: &str = "this version generates no clients";
const NO_IMAGE: &str = "functions run in the process driver, which needs no image";
const NO_CPU_LIMIT: &str = "this version does not limit a function's share of the CPU";
const PUSHED: &str = "no longer used: changes are pushed as they are committed, nothing polls for them";
const CLEANUP: &str = "no longer used: the change log is cut by `database.log_retention` and `log_max_rows`";
const LOG_LINES: &str = "no longer used: log lines go to standard error with a timestamp, without the caller";

/// In the order of the documentation.
pub(super) static KEYS: &[Key] = &[
    no_effect("server.tls.enabled", BOOL, NO_TLS),
    no_effect("server.tls.cert_file", TEXT, NO_TLS),
    no_effect("server.tls.key_file", TEXT, NO_TLS),
    no_effect("server.tls.auto_tls", BOOL, NO_TLS),
    no_effect("server.tls.domain", TEXT, NO_TLS),
    no_effect("storage.backends.{name}.s3.endpoint", TEXT, NO_S3).or(&["storage.backends.{name}.endpoint"]),
    no_effect("storage.backends.{name}.s3.region", TEXT, NO_S3).or(&["storage.backends.{name}.region"]),
    no_effect("storage.backends.{name}.s3.access_key_id", SECRET, NO_S3)
        .or(&["storage.backends.{name}.access_key_id"]),
    no_effect("storage.backends.{name}.s3.secret_access_key", SECRET, NO_S3)
        .or(&["storage.backends.{name}.secret_access_key"]),
    no_effect("storage.backends.{name}.s3.bucket_prefix", TEXT, NO_S3)
        .or(&["storage.backends.{name}.bucket_prefix"]),
    no_effect("storage.backends.{name}.s3.force_path_style", BOOL, NO_S3)
        .or(&["storage.backends.{name}.force_path_style"]),
    no_effect("admin_ui.enabled", BOOL, NO_ADMIN_UI),
    no_effect("admin_ui.path", MOUNT, NO_ADMIN_UI),
    no_effect("functions.cpu_limit", NUMBER, NO_CPU_LIMIT).or(&["functions.pool.cpu_limit"]),
    no_effect("functions.pools.{runtime}.image", TEXT, NO_IMAGE),
    no_effect("functions.runtimes.{runtime}.image", TEXT, NO_IMAGE),
    no_effect("functions.runtimes.{runtime}.enabled", BOOL, NO_IMAGE),
    no_effect("logging.caller", BOOL, LOG_LINES),
    no_effect("logging.timestamp", BOOL, LOG_LINES),
    no_effect("logging.output", TEXT, LOG_LINES),
    no_effect(
        "dev.auto_migrate",
        BOOL,
        "no longer used: safe changes of the schema are always applied, unsafe ones never",
    ),
    no_effect("dev.auto_generate", BOOL, NO_CLIENTS),
    no_effect("dev.generate_languages", LIST, NO_CLIENTS),
    no_effect("dev.generate_output", TEXT, NO_CLIENTS),
    no_effect("realtime.poll_interval", DURATION, PUSHED),
    no_effect("realtime.cleanup_interval", DURATION, CLEANUP),
    no_effect("realtime.cleanup_age", DURATION, CLEANUP),
];
