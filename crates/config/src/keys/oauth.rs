//! The keys of signing in by other providers.

use super::Key;
use super::cluster::secret;
use super::live::optional;
use crate::model::{Config, OAuthProvider};
use crate::value::Kind;

fn provider<'a>(config: &'a mut Config, name: &str) -> &'a mut OAuthProvider {
    config.auth.oauth.entry(name.to_owned()).or_default()
}

/// In the order of the documentation.
pub(super) static KEYS: &[Key] = &[
    optional(
        "auth.redirect_origins",
        Kind::List(|c, _, v| c.auth.redirect_origins = v),
        "Origins beside that of `server.public_url`, such as `https://admin.example.com`, that a login by another provider \
         may lead back to.",
    ),
    optional(
        "auth.oauth.{name}.client_id",
        Kind::Text(|c, name, v| provider(c, name).client_id = v),
        "Lets people sign in by another provider, and says who this server is there. `google`, `github`, `gitlab`, \
         `microsoft`, `apple` and `discord` need only this and a secret; any other name also needs `issuer`, or \
         `auth_url`, `token_url` and `user_info_url`.",
    ),
    optional(
        "auth.oauth.{name}.client_secret",
        Kind::Secret(|c, name, v| provider(c, name).client_secret = secret(v)),
        "Proof of `client_id`.",
    ),
    optional(
        "auth.oauth.{name}.key_file",
        Kind::Path(|c, name, v| provider(c, name).key_file = Some(v)),
        "In place of `client_secret`: the private key (`.p8`) that Apple gives.",
    ),
    optional(
        "auth.oauth.{name}.key_id",
        Kind::Text(|c, name, v| provider(c, name).key_id = Some(v)),
        "The key id of `key_file`.",
    ),
    optional(
        "auth.oauth.{name}.team_id",
        Kind::Text(|c, name, v| provider(c, name).team_id = Some(v)),
        "The team id of `key_file`.",
    ),
    optional(
        "auth.oauth.{name}.scopes",
        Kind::List(|c, name, v| provider(c, name).scopes = v),
        "What to ask the provider for, where that is not `openid email profile` or the preset's.",
    ),
    optional(
        "auth.oauth.{name}.issuer",
        Kind::Url(|c, name, v| provider(c, name).issuer = Some(v)),
        "The issuer of OpenID Connect; everything else is found out from there. For `gitlab` a server of one's own, for \
         `microsoft` one tenant (`https://login.microsoftonline.com/TENANT/v2.0`).",
    ),
    optional(
        "auth.oauth.{name}.auth_url",
        Kind::Url(|c, name, v| provider(c, name).auth_url = Some(v)),
        "Of a provider without OpenID Connect: where people are sent.",
    ),
    optional(
        "auth.oauth.{name}.token_url",
        Kind::Url(|c, name, v| provider(c, name).token_url = Some(v)),
        "The same: where codes are exchanged.",
    ),
    optional(
        "auth.oauth.{name}.user_info_url",
        Kind::Url(|c, name, v| provider(c, name).user_info_url = Some(v)),
        "The same: where it says who somebody is, as JSON with `sub` or `id`, `email`, and `email_verified` or `verified`.",
    ),
];
