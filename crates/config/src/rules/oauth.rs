//! Rules between the keys of signing in by other providers.

use alyx_auth::{is_safe_endpoint, url_origin};

use crate::model::{Config, OAuthProvider};

/// Longest name of a provider.
const MAX_NAME: usize = 32;
/// Names that are routes.
const TAKEN: [&str; 1] = ["login"];

pub(super) fn check(config: &Config, problem: &mut impl FnMut(&str, &str)) {
    for origin in &config.auth.redirect_origins {
        if url_origin(origin).as_deref() != Some(origin.trim_end_matches('/')) {
            problem(
                "auth.redirect_origins",
                &format!("`{origin}` is no origin; write one such as https://admin.example.com"),
            );
        }
    }
    for (name, provider) in &config.auth.oauth {
        check_provider(name, provider, problem);
    }
    if !config.auth.oauth.is_empty() && config.server.public_url.is_none() && !config.dev.enabled {
        problem(
            "server.public_url",
            "providers send people back to it; write where clients reach the server, such as https://app.example.com",
        );
    }
}

fn check_provider(name: &str, provider: &OAuthProvider, problem: &mut impl FnMut(&str, &str)) {
    let mut problem = |key: &str, message: &str| problem(&format!("auth.oauth.{name}.{key}"), message);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if !name.chars().all(plain) || name.len() > MAX_NAME || TAKEN.contains(&name) {
        problem(
            "client_id",
            &format!(
                "`{name}` cannot be part of a path; write lower-case letters, digits, `-` and `_`, at most {MAX_NAME}, and not \
                 `login`"
            ),
        );
    }
    if provider.client_id.is_empty() {
        problem(
            "client_id",
            "the provider must know who asks; write the client id that it gave",
        );
    }
    match (&provider.client_secret, &provider.key_file) {
        (None, None) => problem(
            "client_secret",
            "the provider wants proof of `client_id`; write the secret that it gave",
        ),
        (Some(_), Some(_)) => problem(
            "key_file",
            "`client_secret` is set too, and only one of them can be the proof; remove one",
        ),
        (None, Some(_)) if provider.key_id.is_none() || provider.team_id.is_none() => {
            problem("key_file", "a key needs its `key_id` and `team_id`; set both")
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    let urls = [
        ("issuer", &provider.issuer),
        ("auth_url", &provider.auth_url),
        ("token_url", &provider.token_url),
        ("user_info_url", &provider.user_info_url),
    ];
    for (key, url) in urls {
        if url.as_deref().is_some_and(|url| !is_safe_endpoint(url)) {
            problem(
                key,
                "secrets are sent there; write an https:// URL, or one of this machine",
            );
        }
    }
    let endpoints = urls[1..].iter().filter(|(_, url)| url.is_some()).count();
    let preset = OAuthProvider::PRESETS.contains(&name);
    if provider.issuer.is_none() && endpoints < 3 && (!preset || endpoints > 0) {
        problem(
            "issuer",
            "it is not known where this provider is; write its `issuer`, or all of `auth_url`, `token_url` and \
             `user_info_url`",
        );
    }
    if provider.issuer.is_some() && endpoints > 0 {
        problem(
            "issuer",
            "the issuer says where everything is; remove `auth_url`, `token_url` and `user_info_url`, or remove it",
        );
    }
}
