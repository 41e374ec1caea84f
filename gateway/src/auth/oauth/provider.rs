//! Other providers: what is special about each, where people are sent, and who they are when they come back.

use std::time::Instant;

use alyx_auth::{
    ClientKey, Expected, IdTokenError, Profile, is_safe_endpoint, normalize_email, verify_id_token,
};
use alyx_config::OAuthProvider;
use alyx_core::{Error, ErrorKind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use form_urlencoded::{Serializer, byte_serialize};
use serde::Deserialize;
use serde_json::Value as Json;

use super::discovery::Discovery;
use super::outgoing::{Answer, Outgoing};

/// Longest code of a provider's error that is logged.
const MAX_ERROR: usize = 64;
/// Longest name of somebody at a provider.
const MAX_SUBJECT: usize = 255;

/// How a provider differs from the standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Says nothing about addresses but at an endpoint of their own.
    GitHub,
    /// `email` is whatever somebody wrote there, unless the domain's owner vouches for it.
    Microsoft,
    /// Answers by a form from its own page.
    Apple,
}

enum Endpoints {
    OpenId(Discovery),
    OAuth {
        auth: String,
        token: String,
        user_info: String,
    },
}

enum Proof {
    Secret(alyx_config::Secret),
    Key(Box<ClientKey>),
}

/// A provider, ready to be used.
pub(super) struct Provider {
    pub(super) name: String,
    kind: Kind,
    client_id: String,
    proof: Proof,
    scopes: String,
    endpoints: Endpoints,
}

/// What a login at a provider is known by, on our side.
pub(super) struct Attempt<'a> {
    /// Where the provider sends people back to.
    pub(super) redirect_uri: &'a str,
    pub(super) state: &'a str,
    pub(super) nonce: &'a str,
    /// Of PKCE (RFC 7636).
    pub(super) verifier: &'a str,
    /// Seconds of Unix time.
    pub(super) now: u64,
}

/// Somebody, as a provider knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct External {
    pub(crate) provider: String,
    /// Who it is there, for good.
    pub(crate) subject: String,
    /// The address, only where the provider says that it is theirs.
    pub(crate) email: Option<String>,
}

#[derive(Deserialize)]
struct TokenReply {
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    id_token: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct GitHubEmail {
    email: String,
    #[serde(default)]
    primary: bool,
    #[serde(default)]
    verified: bool,
}

impl Provider {
    /// Puts configuration and preset together; the configuration is checked.
    ///
    /// Errors: `OAUTH_INVALID` where a key cannot be read.
    pub(super) fn new(name: &str, given: &OAuthProvider) -> Result<Self> {
        let open_id = |issuer: &str| Endpoints::OpenId(Discovery::new(issuer));
        let oauth = |[auth, token, user_info]: [&str; 3]| Endpoints::OAuth {
            auth: auth.to_owned(),
            token: token.to_owned(),
            user_info: user_info.to_owned(),
        };
        let given_urls = given.auth_url.as_deref().zip(given.token_url.as_deref());
        let given_urls = given_urls.zip(given.user_info_url.as_deref());
        let (kind, scopes) = match name {
            "github" => (Kind::GitHub, "read:user user:email"),
            "discord" => (Kind::Plain, "identify email"),
            "microsoft" => (Kind::Microsoft, "openid email profile"),
            "apple" => (Kind::Apple, "openid email name"),
            _ => (Kind::Plain, "openid email profile"),
        };
        let endpoints = match (&given.issuer, given_urls, name) {
            (Some(issuer), ..) => open_id(issuer),
            (None, Some(((auth, token), user_info)), _) => oauth([auth, token, user_info]),
            (None, None, "google") => open_id("https://accounts.google.com"),
            (None, None, "gitlab") => open_id("https://gitlab.com"),
            (None, None, "microsoft") => open_id("https://login.microsoftonline.com/common/v2.0"),
            (None, None, "apple") => open_id("https://appleid.apple.com"),
            (None, None, "github") => oauth([
                "https://github.com/login/oauth/authorize",
                "https://github.com/login/oauth/access_token",
                "https://api.github.com/user",
            ]),
            (None, None, "discord") => oauth([
                "https://discord.com/oauth2/authorize",
                "https://discord.com/api/oauth2/token",
                "https://discord.com/api/users/@me",
            ]),
            (None, None, _) => return Err(invalid(name, "it is not known where it is")),
        };
        Ok(Self {
            name: name.to_owned(),
            kind,
            client_id: given.client_id.clone(),
            proof: proof(name, given)?,
            scopes: if given.scopes.is_empty() {
                scopes.to_owned()
            } else {
                given.scopes.join(" ")
            },
            endpoints,
        })
    }

    /// Whether it is somewhere else than on this machine.
    pub(super) fn is_away(given: &OAuthProvider) -> bool {
        let urls = [
            &given.issuer,
            &given.auth_url,
            &given.token_url,
            &given.user_info_url,
        ];
        let mut urls = urls.into_iter().flatten().peekable();
        urls.peek().is_none() || urls.any(|url| url.starts_with("https://") && is_safe_endpoint(url))
    }

    /// Whether it answers by a form that its own page sends, to which browsers add no cookies but those of every site.
    pub(super) fn answers_by_form(&self) -> bool {
        self.kind == Kind::Apple
    }

    /// Where to send somebody who wants to sign in by it.
    pub(super) async fn authorization_url(
        &self,
        http: &Outgoing,
        attempt: &Attempt<'_>,
        deadline: Instant,
    ) -> Result<String> {
        let (base, nonce) = match &self.endpoints {
            Endpoints::OpenId(discovery) => {
                let metadata = discovery.metadata(http, deadline).await;
                let metadata = metadata.map_err(|why| self.failed(&why))?;
                (metadata.authorization_endpoint.clone(), Some(attempt.nonce))
            }
            Endpoints::OAuth { auth, .. } => (auth.clone(), None),
        };
        let challenge = URL_SAFE_NO_PAD.encode(alyx_auth::token_digest(attempt.verifier));
        let mut query = Serializer::new(String::new());
        query
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", attempt.redirect_uri)
            .append_pair("response_type", "code")
            .append_pair("scope", &self.scopes)
            .append_pair("state", attempt.state)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        if let Some(nonce) = nonce {
            query.append_pair("nonce", nonce);
        }
        if self.answers_by_form() {
            query.append_pair("response_mode", "form_post");
        }
        let separator = if base.contains('?') { '&' } else { '?' };
        Ok(format!("{base}{separator}{}", query.finish()))
    }

    /// Who has come back with that code.
    ///
    /// Errors: `OAUTH_PROVIDER_FAILED`.
    pub(super) async fn identify(
        &self,
        http: &Outgoing,
        code: &str,
        attempt: &Attempt<'_>,
        deadline: Instant,
    ) -> Result<External> {
        let external = match &self.endpoints {
            Endpoints::OpenId(discovery) => self.by_id_token(http, discovery, code, attempt, deadline).await,
            Endpoints::OAuth { token, user_info, .. } => {
                let reply = self.turn_in(http, (token, false), code, attempt, deadline).await;
                match reply {
                    Ok(reply) => self.by_user_info(http, user_info, &reply, deadline).await,
                    Err(why) => Err(why),
                }
            }
        };
        external.map_err(|why| self.failed(&why))
    }

    async fn by_id_token(
        &self,
        http: &Outgoing,
        discovery: &Discovery,
        code: &str,
        attempt: &Attempt<'_>,
        deadline: Instant,
    ) -> Result<External, String> {
        let metadata = discovery.metadata(http, deadline).await?;
        let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
        // `client_secret_basic` is what holds where nothing is said (OpenID Connect Discovery 1.0, section 3).
        let basic = methods.is_none_or(|methods| {
            let has = |name: &str| methods.iter().any(|method| method == name);
            has("client_secret_basic") && !has("client_secret_post")
        });
        let endpoint = (metadata.token_endpoint.as_str(), basic);
        let reply = self.turn_in(http, endpoint, code, attempt, deadline).await?;
        let token = reply.id_token.as_deref().ok_or("it gave no ID token")?;
        let expected = Expected {
            issuer: &metadata.issuer,
            audience: &self.client_id,
            nonce: attempt.nonce,
            now: attempt.now,
        };
        let keys = discovery.keys(http, false, deadline).await?;
        let mut verified = verify_id_token(token, &keys, &expected);
        if verified == Err(IdTokenError::UnknownKey) {
            let keys = discovery.keys(http, true, deadline).await?;
            verified = verify_id_token(token, &keys, &expected);
        }
        let mut profile = verified.map_err(|error| format!("its ID token is refused: {error}"))?;
        if profile.email.is_none()
            && let (Some(url), Some(access)) = (&metadata.userinfo_endpoint, &reply.access_token)
        {
            let more: Profile = parse(&http.get(url, Some(access), deadline).await?)?;
            // Otherwise another account's address could be put under this one (section 5.3.2).
            if more.sub != profile.sub {
                return Err("it speaks of somebody else than its ID token".to_owned());
            }
            profile = more;
        }
        let vouched = match self.kind {
            Kind::Microsoft => profile.domain_verified(),
            Kind::Plain | Kind::GitHub | Kind::Apple => profile.email_verified(),
        };
        self.external(profile.sub, profile.email.filter(|_| vouched))
    }

    async fn by_user_info(
        &self,
        http: &Outgoing,
        url: &str,
        reply: &TokenReply,
        deadline: Instant,
    ) -> Result<External, String> {
        let access = reply.access_token.as_deref().ok_or("it gave no access token")?;
        let user: Json = parse(&http.get(url, Some(access), deadline).await?)?;
        let subject = match user.get("sub").or_else(|| user.get("id")) {
            Some(Json::String(text)) => text.clone(),
            Some(Json::Number(number)) => number.to_string(),
            _ => return Err("it does not say who it is".to_owned()),
        };
        let email = if self.kind == Kind::GitHub {
            let url = format!("{url}/emails");
            let emails: Vec<GitHubEmail> = parse(&http.get(&url, Some(access), deadline).await?)?;
            let mut emails = emails.into_iter().filter(|email| email.primary && email.verified);
            emails.next().map(|email| email.email)
        } else {
            let vouched = user.get("email_verified").or_else(|| user.get("verified"));
            let vouched = vouched == Some(&Json::Bool(true));
            let email = user.get("email").and_then(Json::as_str).map(str::to_owned);
            email.filter(|_| vouched)
        };
        self.external(subject, email)
    }

    fn external(&self, subject: String, email: Option<String>) -> Result<External, String> {
        if subject.is_empty() || subject.len() > MAX_SUBJECT {
            return Err("it does not say who it is".to_owned());
        }
        Ok(External {
            provider: self.name.clone(),
            subject,
            email: email.and_then(|email| normalize_email(&email).ok()),
        })
    }

    /// Exchanges a code for tokens; `basic` sends our proof in a header.
    async fn turn_in(
        &self,
        http: &Outgoing,
        (url, basic): (&str, bool),
        code: &str,
        attempt: &Attempt<'_>,
        deadline: Instant,
    ) -> Result<TokenReply, String> {
        let proof = match &self.proof {
            Proof::Secret(secret) => secret.expose().to_owned(),
            Proof::Key(key) => key.proof(&self.client_id, "https://appleid.apple.com", attempt.now),
        };
        let (authorization, form) = self.token_request(&proof, basic, code, attempt);
        let answer = http.post(url, authorization, form, deadline).await?;
        let reply: TokenReply = serde_json::from_slice(&answer.body)
            .map_err(|_| format!("it answers {} for a code, without JSON", answer.status))?;
        if !answer.status.is_success() || reply.error.is_some() {
            let code: String = reply.error.unwrap_or_default().chars().take(MAX_ERROR).collect();
            return Err(format!("it refuses the code with {} {code:?}", answer.status));
        }
        Ok(reply)
    }

    /// The `Authorization` header, where the proof is in it, and the form.
    fn token_request(
        &self,
        proof: &str,
        basic: bool,
        code: &str,
        attempt: &Attempt<'_>,
    ) -> (Option<String>, String) {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", attempt.redirect_uri)
            .append_pair("code_verifier", attempt.verifier);
        if basic {
            // RFC 6749, section 2.3.1.
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encoded(&self.client_id), encoded(proof));
            return (Some(format!("Basic {}", STANDARD.encode(pair))), form.finish());
        }
        form.append_pair("client_id", &self.client_id)
            .append_pair("client_secret", proof);
        (None, form.finish())
    }

    /// The cause is for the log; callers learn that it was the provider.
    fn failed(&self, why: &str) -> Error {
        tracing::warn!(provider = %self.name, "a login by another provider failed: {why}");
        let message = format!("`{}` did not say who you are; try again", self.name);
        Error::new(ErrorKind::BadGateway, "OAUTH_PROVIDER_FAILED", message)
    }
}

fn parse<T: for<'de> Deserialize<'de>>(answer: &Answer) -> Result<T, String> {
    if !answer.status.is_success() {
        return Err(format!(
            "it answers {} where it says who somebody is",
            answer.status
        ));
    }
    serde_json::from_slice(&answer.body).map_err(|_| "what it says about somebody cannot be read".to_owned())
}

fn proof(name: &str, given: &OAuthProvider) -> Result<Proof> {
    if let Some(secret) = &given.client_secret {
        return Ok(Proof::Secret(secret.clone()));
    }
    let (Some(path), Some(id), Some(team)) = (&given.key_file, &given.key_id, &given.team_id) else {
        return Err(invalid(name, "it has neither `client_secret` nor `key_file`"));
    };
    let shown = path.display();
    let pem = std::fs::read_to_string(path)
        .map_err(|error| invalid(name, &format!("`key_file` {shown} cannot be read: {error}")))?;
    ClientKey::from_pem(&pem, id, team)
        .map(|key| Proof::Key(Box::new(key)))
        .map_err(|error| invalid(name, &format!("`key_file` {shown}: {error}")))
}

fn invalid(name: &str, why: &str) -> Error {
    let message = format!("`auth.oauth.{name}` cannot be used: {why}");
    Error::new(ErrorKind::InvalidInput, "OAUTH_INVALID", message)
}
