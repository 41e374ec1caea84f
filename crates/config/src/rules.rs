//! Rules between keys, and what is said about keys that are accepted without effect.

use std::collections::BTreeMap;

use crate::keys::Status;
use crate::load::Setting;
use crate::model::{Config, DocsUi, FunctionRuntime};
use crate::problem::{Origin, Problem};

/// Finds what no single key shows.
pub(crate) fn check(config: &Config, settings: &[Setting], problems: &mut Vec<Problem>) {
    let mut problem = |key: &str, message: &str| {
        problems.push(Problem {
            origin: origin(settings, key),
            key: key.to_owned(),
            message: message.to_owned(),
        });
    };
    let cors = &config.server.cors;
    if cors.enabled && cors.allow_credentials && cors.allowed_origins.iter().any(|origin| origin == "*") {
        problem(
            "server.cors.allow_credentials",
            "credentials cannot be allowed for every origin; name the origins in `server.cors.allowed_origins`",
        );
    }
    for (runtime, pool) in &config.functions.pools {
        if pool.min_warm > pool.max_instances {
            problem(
                &format!("functions.pools.{runtime}.min_warm"),
                &format!(
                    "{} instances cannot be kept ready where `max_instances` is {}; lower the one or raise the other",
                    pool.min_warm, pool.max_instances
                ),
            );
        }
    }
    // Serving plain text where encryption was asked for would expose what the user meant to protect.
    if is_on(settings, "server.tls.enabled") == Some(true) {
        problem(
            "server.tls.enabled",
            "this version does not speak TLS itself; put a proxy that does in front of it and set this to false",
        );
    }
    // Writing to a local file where a shared database was asked for would send the data to the wrong place.
    let turso = is_on(settings, "database.turso.enabled");
    let turso_key = if turso.is_some() {
        "database.turso.enabled"
    } else {
        "database.turso.url"
    };
    if turso == Some(true) || (turso.is_none() && last(settings, "database.turso.url").is_some()) {
        problem(
            turso_key,
            "this version keeps its data in the embedded database only; remove `database.turso` or set its \
             `enabled` to false",
        );
    }
}

/// Says what was accepted without effect.
pub(crate) fn warn(config: &Config, settings: &[Setting], warnings: &mut Vec<String>) {
    let mut notes: BTreeMap<&str, Vec<&Setting>> = BTreeMap::new();
    for setting in settings {
        if let Status::NoEffect(why) = setting.key.status {
            notes.entry(why).or_default().push(setting);
        }
    }
    for (why, settings) in notes {
        let mut keys: Vec<String> = settings.iter().map(|setting| setting.path()).collect();
        keys.dedup();
        warnings.push(format!("{}: {}: {why}", settings[0].origin, keys.join(", ")));
    }
    let mut note = |key: &str, message: String| {
        warnings.push(format!("{}: {key}: {message}", origin(settings, key)));
    };
    let driver = match config.functions.runtime {
        FunctionRuntime::Docker => Some("docker"),
        FunctionRuntime::Podman => Some("podman"),
        FunctionRuntime::Auto | FunctionRuntime::Process => None,
    };
    if let Some(driver) = driver {
        note(
            "functions.runtime",
            format!("this version has no `{driver}` driver; functions run in the process driver"),
        );
    }
    if config.docs.ui != DocsUi::Swagger {
        note(
            "docs.ui",
            "this version serves Swagger UI in its place".to_owned(),
        );
    }
    for runtime in ["python", "go"] {
        let path = format!("functions.pools.{runtime}");
        let set = settings.iter().find(|setting| {
            setting.path().starts_with(&format!("{path}.")) && setting.key.status == Status::Live
        });
        if let Some(setting) = set {
            let key = setting.path();
            note(
                &key,
                format!("this version runs Node functions only; `{path}` has no effect"),
            );
        }
    }
}

fn last<'a>(settings: &'a [Setting], key: &str) -> Option<&'a Setting> {
    settings.iter().rev().find(|setting| setting.path() == key)
}

fn is_on(settings: &[Setting], key: &str) -> Option<bool> {
    last(settings, key).map(|setting| matches!(setting.text.to_ascii_lowercase().as_str(), "true" | "1"))
}

fn origin(settings: &[Setting], key: &str) -> Origin {
    last(settings, key).map_or(Origin::Default, |setting| setting.origin.clone())
}
