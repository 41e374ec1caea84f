//! `/api/auth`: accounts and sessions.

use std::net::IpAddr;

use alyx_core::{Error, ErrorKind, Result};
use axum::body::Body;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Context;
use super::second_factor::{own, shown};
use crate::app::AppState;
use crate::auth::{
    Admission, Beginning, Credentials, Device, MailProof, Purpose, Registration, bearer, no_such_session,
    read,
};
use crate::envelope::{self, Reply};
use crate::route::decode;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[derive(Deserialize)]
struct RefreshRequest {
    #[serde(default)]
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct PasswordRequest {
    #[serde(default)]
    current_password: String,
    #[serde(default)]
    new_password: String,
}

#[derive(Deserialize)]
struct AddressRequest {
    #[serde(default)]
    email: String,
}

#[derive(Deserialize)]
struct TokenRequest {
    #[serde(default)]
    token: String,
    #[serde(default)]
    password: String,
}

pub(super) async fn status(context: Context<'_>) -> Result<Reply> {
    let status = context.app.auth.status(context.deadline()).await?;
    Ok(private(StatusCode::OK, &status))
}

pub(super) fn keys(context: Context<'_>) -> Result<Reply> {
    Ok(envelope::json_of(StatusCode::OK, &context.app.auth.jwks()?))
}

pub(super) async fn register(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let body = context.small_body(&parts.headers, body).await?;
    let (credentials, device) = (Credentials::read(&body)?, device(context, parts));
    let auth = &context.app.auth;
    let registration = auth.register(credentials, &device, context.deadline()).await?;
    let status = match registration {
        Registration::Admitted(_) => StatusCode::CREATED,
        Registration::Unverified { .. } => StatusCode::ACCEPTED,
    };
    Ok(private(status, &registration))
}

pub(super) async fn register_anonymously(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let body = context.small_body(&parts.headers, body).await?;
    let beginning = if body.is_empty() {
        Beginning::default()
    } else {
        read(&body)?
    };
    let (auth, device) = (&context.app.auth, device(context, parts));
    let admission = auth
        .register_anonymously(beginning, &device, context.deadline())
        .await?;
    Ok(private(StatusCode::CREATED, &admission))
}

pub(super) async fn upgrade(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let (account, session) = context.identity.account()?;
    let body = context.small_body(&parts.headers, body).await?;
    let (credentials, device) = (Credentials::read(&body)?, device(context, parts));
    let own = own((&account.id, session), &device);
    let user = context
        .app
        .auth
        .upgrade(own, credentials, context.deadline())
        .await?;
    Ok(private(StatusCode::OK, &user))
}

pub(super) async fn login(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let body = context.small_body(&parts.headers, body).await?;
    let (credentials, device) = (Credentials::read(&body)?, device(context, parts));
    let admission = context
        .app
        .auth
        .login(credentials, &device, context.deadline())
        .await?;
    Ok(admitted(&admission))
}

pub(super) async fn refresh(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let body = context.small_body(&parts.headers, body).await?;
    let request: RefreshRequest = read(&body)?;
    let token = request.refresh_token.ok_or_else(no_refresh_token)?;
    let device = device(context, parts);
    let signed_in = context
        .app
        .auth
        .refresh(&token, &device, context.deadline())
        .await?;
    Ok(private(StatusCode::OK, &signed_in))
}

/// Ends the session of the refresh token, or of the bearer's, or of both. One that has ended already is no error.
pub(super) async fn logout(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let body = context.small_body(&parts.headers, body).await?;
    let request = if body.is_empty() {
        RefreshRequest { refresh_token: None }
    } else {
        read(&body)?
    };
    let (auth, deadline) = (&context.app.auth, context.deadline());
    let bearer = bearer(&parts.headers)?;
    if bearer.is_none() && request.refresh_token.is_none() {
        return Err(no_refresh_token());
    }
    if let Some(token) = &request.refresh_token {
        auth.end_by_refresh_token(token, deadline).await?;
    }
    if let Some(token) = bearer {
        auth.end_by_access_token(token, deadline).await?;
    }
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

/// Says the same whether there is such an account or not.
pub(super) async fn ask_for_mail(
    context: Context<'_>,
    parts: &Parts,
    body: Body,
    purpose: Purpose,
) -> Result<Reply> {
    let body = context.small_body(&parts.headers, body).await?;
    let request: AddressRequest = read(&body)?;
    let device = device(context, parts);
    context.app.auth.ask_for_mail(&request.email, purpose, &device)?;
    let message = "a mail is on its way, where there is an account with this address that needs it";
    Ok(private(StatusCode::ACCEPTED, &json!({ "message": message })))
}

pub(super) async fn verify(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let body = context.small_body(&parts.headers, body).await?;
    let request: TokenRequest = read(&body)?;
    let auth = &context.app.auth;
    auth.verify_email(&request.token, context.deadline()).await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn reset_password(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let body = context.small_body(&parts.headers, body).await?;
    let TokenRequest { token, password } = read(&body)?;
    let auth = &context.app.auth;
    auth.reset_password(&token, password, context.deadline()).await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn login_by_mail(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let body = context.small_body(&parts.headers, body).await?;
    let (proof, device): (MailProof, _) = (read(&body)?, device(context, parts));
    let auth = &context.app.auth;
    let admission = auth.login_by_mail(proof, &device, context.deadline()).await?;
    Ok(admitted(&admission))
}

pub(super) async fn me(context: Context<'_>) -> Result<Reply> {
    let (account, _) = context.identity.account()?;
    let user = context.app.auth.user(&account.id, context.deadline()).await?;
    Ok(private(StatusCode::OK, &user))
}

pub(super) async fn change_password(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let (account, session) = context.identity.account()?;
    let body = context.small_body(&parts.headers, body).await?;
    let request: PasswordRequest = read(&body)?;
    let change = (request.current_password, request.new_password);
    let device = device(context, parts);
    let auth = &context.app.auth;
    auth.change_password((&account.id, session), change, &device, context.deadline())
        .await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn delete_account(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let (account, session) = context.identity.account()?;
    let shown = shown(&context.small_body(&parts.headers, body).await?)?;
    let device = device(context, parts);
    let own = own((&account.id, session), &device);
    context
        .app
        .auth
        .delete_account(own, shown, context.deadline())
        .await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn sessions(context: Context<'_>) -> Result<Reply> {
    let (account, session) = context.identity.account()?;
    let auth = &context.app.auth;
    let sessions = auth.sessions(&account.id, session, context.deadline()).await?;
    Ok(private(StatusCode::OK, &json!({ "sessions": sessions })))
}

pub(super) async fn end_session(context: Context<'_>, id: &str) -> Result<Reply> {
    let (account, _) = context.identity.account()?;
    let auth = &context.app.auth;
    if auth
        .end_session(&account.id, &decode(id)?, context.deadline())
        .await?
    {
        Ok(envelope::empty(StatusCode::NO_CONTENT))
    } else {
        Err(no_such_session())
    }
}

pub(super) async fn end_other_sessions(context: Context<'_>) -> Result<Reply> {
    let (account, session) = context.identity.account()?;
    let auth = &context.app.auth;
    auth.end_other_sessions(&account.id, session, context.deadline())
        .await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

pub(super) fn device(context: Context<'_>, parts: &Parts) -> Device {
    let agent = parts
        .headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok());
    // Routes of accounts are never handed over between gateways; were one, all of them would count as one address.
    let peer = context.peer.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into());
    Device::new(agent, client_of(context.app, &parts.headers, peer))
}

/// The address of the client behind `peer`, as far as proxies are trusted.
pub(crate) fn client_of(app: &AppState, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    let forwarded = headers.get_all(FORWARDED_FOR).iter();
    let forwarded: Vec<&str> = forwarded.filter_map(|value| value.to_str().ok()).collect();
    alyx_auth::client_address(peer, forwarded.into_iter(), app.auth.trusted_proxies())
}

fn no_refresh_token() -> Error {
    let message = "send `{\"refresh_token\": …}` as it came with the last tokens";
    let error = Error::new(ErrorKind::InvalidInput, "REFRESH_TOKEN_REQUIRED", message);
    error.with_field("refresh_token")
}

/// Tokens, or with 202 the challenge to show a second factor.
pub(super) fn admitted(admission: &Admission) -> Reply {
    let status = match admission {
        Admission::SignedIn(_) => StatusCode::OK,
        Admission::Challenged(_) => StatusCode::ACCEPTED,
    };
    private(status, admission)
}

/// A reply that no cache may keep: it holds tokens, or what one account alone may see.
pub(super) fn private(status: StatusCode, value: &impl Serialize) -> Reply {
    let mut reply = envelope::json_of(status, value);
    reply
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
