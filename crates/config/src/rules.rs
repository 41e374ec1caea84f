//! Rules between keys, and what is said about keys that are accepted without effect.

mod oauth;
mod storage;

use std::collections::BTreeMap;

use alyx_auth::Network;

use crate::keys::Status;
use crate::load::Setting;
use crate::model::{Admin, Auth, Cluster, Config, DocsUi, FunctionRuntime, Jwt, Secret};
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
    check_turso(config, &mut problem);
    check_cluster(config, &mut problem);
    check_admin(config, &mut problem);
    check_auth(config, &mut problem);
    check_mail(config, &mut problem);
    oauth::check(config, &mut problem);
    storage::check(config, &mut problem);
}

/// Fills in what follows from other keys.
pub(crate) fn settle(config: &mut Config, settings: &[Setting]) {
    let turso = &mut config.database.turso;
    turso.enabled = is_on(settings, "database.turso.enabled").unwrap_or(turso.url.is_some());
}

fn check_turso(config: &Config, problem: &mut impl FnMut(&str, &str)) {
    const SCHEMES: [&str; 5] = ["http://", "https://", "ws://", "wss://", "libsql://"];
    let turso = &config.database.turso;
    if !turso.enabled {
        return;
    }
    match turso.url.as_ref().map(Secret::expose) {
        None => problem(
            "database.turso.enabled",
            "there is no `database.turso.url`; name the libSQL server there, or set this to false",
        ),
        Some(url) if !has_scheme(url, &SCHEMES) => problem(
            "database.turso.url",
            "this is not the URL of a libSQL server; write one such as http://host:8080 or libsql://name.turso.io",
        ),
        Some(_) => {}
    }
}

fn check_cluster(config: &Config, problem: &mut impl FnMut(&str, &str)) {
    let cluster = &config.cluster;
    let plain = |name: &str| {
        name.chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    if !plain(&cluster.name) || cluster.name.len() > 64 {
        problem(
            "cluster.name",
            "only letters, digits, `-` and `_`, at most 64, can be part of a NATS subject; choose another name",
        );
    }
    if cluster
        .token
        .as_ref()
        .is_some_and(|token| token.expose().len() < Cluster::MIN_TOKEN)
    {
        problem(
            "cluster.token",
            &format!(
                "this is too short; write {} characters or more, such as `openssl rand -hex 32` prints",
                Cluster::MIN_TOKEN
            ),
        );
    }
    if let Some(tls) = &cluster.tls {
        for (key, path) in [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)] {
            if path.as_os_str().is_empty() {
                problem(
                    &format!("cluster.tls.{key}"),
                    "mutual TLS needs `ca`, `cert` and `key`; set this one too, or remove `cluster.tls`",
                );
            }
        }
    }
    let mut address = |key: &str, address: &str, free: bool| {
        if !is_address(address, free) {
            problem(key, &format!("`{address}` is no address; write `host:port`"));
        }
    };
    address("cluster.listen", &cluster.listen, true);
    if let Some(advertise) = &cluster.advertise {
        address("cluster.advertise", advertise, false);
    }
    for endpoint in &cluster.control_plane {
        address("cluster.control_plane", endpoint, false);
    }
    if let Some(listen) = &config.metrics.listen {
        address("metrics.listen", listen, true);
    }
    if cluster
        .nats
        .as_ref()
        .is_some_and(|url| !has_scheme(url.expose(), &["nats://", "tls://"]))
    {
        problem(
            "cluster.nats",
            "this is not the URL of a NATS server; write one such as nats://host:4222",
        );
    }
}

fn check_anonymous(auth: &Auth, problem: &mut impl FnMut(&str, &str)) {
    if auth.allow_anonymous && auth.require_verification {
        problem(
            "auth.allow_anonymous",
            "an anonymous account has no address, and `auth.require_verification` lets only verified ones in; turn one of \
             them off",
        );
    }
    if auth.anonymous_ttl < auth.jwt.access_ttl {
        problem(
            "auth.anonymous_ttl",
            "accounts in use would be removed as unused; write at least `auth.jwt.access_ttl`",
        );
    }
}

fn check_auth(config: &Config, problem: &mut impl FnMut(&str, &str)) {
    let jwt = &config.auth.jwt;
    if let Some(secret) = &jwt.secret {
        if secret.expose().len() < Jwt::MIN_SECRET {
            problem(
                "auth.jwt.secret",
                &format!(
                    "this is too short; write {} bytes or more, such as `openssl rand -hex 32` prints",
                    Jwt::MIN_SECRET
                ),
            );
        }
        if jwt.key_file.is_some() {
            problem(
                "auth.jwt.key_file",
                "`auth.jwt.secret` is set too, and only one of them can sign; remove one",
            );
        }
        // Who holds one of these must not be able to sign in as anybody.
        let others = [&config.cluster.token, &config.admin.token];
        if others.into_iter().flatten().any(|other| other == secret) {
            problem(
                "auth.jwt.secret",
                "this is also `cluster.token` or `admin.token`; write another one",
            );
        }
    }
    if jwt.refresh_ttl < jwt.access_ttl {
        problem(
            "auth.jwt.refresh_ttl",
            "a session would end before its access token does; write at least `auth.jwt.access_ttl`",
        );
    }
    check_anonymous(&config.auth, problem);
    let trusted = &config.server.trusted_proxies;
    if let Some(wrong) = trusted.iter().find(|text| Network::parse(text).is_none()) {
        problem(
            "server.trusted_proxies",
            &format!("`{wrong}` is no address; write one such as 10.0.0.7, or a range such as 10.0.0.0/8"),
        );
    }
}

fn check_mail(config: &Config, problem: &mut impl FnMut(&str, &str)) {
    let links = &config.mail.links;
    for (key, path) in [
        ("verify", &links.verify),
        ("reset", &links.reset),
        ("login", &links.login),
    ] {
        if !path.starts_with('/') || path.starts_with("//") || path.contains(['?', '#', ' ']) {
            problem(
                &format!("mail.links.{key}"),
                &format!("`{path}` is no path; write one such as /auth/{key}"),
            );
        }
    }
    let Some(smtp) = &config.mail.smtp else {
        return;
    };
    if smtp.host.is_empty() {
        problem(
            "mail.smtp.host",
            "mails need a server to be sent by; name it, or remove `mail.smtp`",
        );
    }
    if config.mail.from.is_none() {
        problem(
            "mail.from",
            "mails need somebody who sends them; write one such as `Alyx <no-reply@example.com>`",
        );
    }
    if config.server.public_url.is_none() {
        problem(
            "server.public_url",
            "links in mails begin with it; write where clients reach the server, such as https://app.example.com",
        );
    }
    if smtp.username.is_some() != smtp.password.is_some() {
        problem(
            "mail.smtp.username",
            "the mail server wants a name and a password; set both `username` and `password`, or neither",
        );
    }
}

fn check_admin(config: &Config, problem: &mut impl FnMut(&str, &str)) {
    let admin = &config.admin;
    if let Some(token) = &admin.token {
        if token.expose().len() < Admin::MIN_TOKEN {
            problem(
                "admin.token",
                &format!(
                    "this is too short; write {} characters or more, such as `openssl rand -hex 32` prints",
                    Admin::MIN_TOKEN
                ),
            );
        }
        // Otherwise every role, and the code that runs beside a worker, could act as an operator.
        if config.cluster.token.as_ref() == Some(token) {
            problem(
                "admin.token",
                "this is the same as `cluster.token`, which every role holds; write another secret",
            );
        }
    }
    if !is_address(&admin.listen, true) {
        problem(
            "admin.listen",
            &format!("`{}` is no address; write `host:port`", admin.listen),
        );
    }
    if let Some(tls) = &admin.tls {
        for (key, path) in [("cert", &tls.cert), ("key", &tls.key)] {
            if path.as_os_str().is_empty() {
                problem(
                    &format!("admin.tls.{key}"),
                    "TLS needs `cert` and `key`; set this one too, or remove `admin.tls`",
                );
            }
        }
    }
}

fn has_scheme(url: &str, schemes: &[&str]) -> bool {
    schemes
        .iter()
        .any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
        && !url.contains(char::is_whitespace)
}

/// `host:port`, with brackets around an IPv6 address; `free` also takes port 0.
fn is_address(text: &str, free: bool) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let host_fits = !host.is_empty()
        && (bracketed || !host.contains(':'))
        && !host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@'));
    host_fits && port.parse::<u16>().is_ok_and(|port| free || port > 0)
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
    if let Some(setting) = last(settings, "functions.pools.go.min_warm") {
        note(
            &setting.path(),
            "functions in Go are programs of their own, none of which can be kept ready without its function"
                .to_owned(),
        );
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
