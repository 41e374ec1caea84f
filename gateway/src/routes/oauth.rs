//! `/api/auth/oauth` and `/api/auth/identities`: signing in by other providers.

use alyx_core::{Error, ErrorKind, Result};
use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, SET_COOKIE};
use http::request::Parts;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

use super::Context;
use super::auth::{admitted, device, private};
use crate::auth::{Begin, Landing, Onward, Return, read};
use crate::envelope::{self, Reply};
use crate::route::decode;

pub(super) fn providers(context: Context<'_>) -> Result<Reply> {
    let providers = context.app.auth.providers();
    Ok(envelope::json_of(
        StatusCode::OK,
        &json!({ "providers": providers }),
    ))
}

pub(super) async fn begin(context: Context<'_>, parts: &Parts, provider: &str) -> Result<Reply> {
    let begin: Begin = read_pairs(parts.uri.query().unwrap_or_default().as_bytes())?;
    let auth = &context.app.auth;
    let onward = auth
        .begin_oauth(&decode(provider)?, begin, context.deadline())
        .await?;
    send_on(StatusCode::TEMPORARY_REDIRECT, &onward)
}

/// By `GET`, or by a form that the provider's page sends.
pub(super) async fn finish(context: Context<'_>, parts: &Parts, body: Body, provider: &str) -> Result<Reply> {
    let returned: Return = if parts.method == Method::POST {
        read_pairs(&context.small_body(&parts.headers, body).await?)?
    } else {
        read_pairs(parts.uri.query().unwrap_or_default().as_bytes())?
    };
    let (auth, device) = (&context.app.auth, device(context, parts));
    let landing = auth
        .finish_oauth(
            &decode(provider)?,
            returned,
            &parts.headers,
            &device,
            context.deadline(),
        )
        .await?;
    match landing {
        Landing::Onward(onward) => send_on(StatusCode::SEE_OTHER, &onward),
        Landing::Here { admission, cookie } => {
            let mut reply = admitted(&admission);
            reply.headers_mut().insert(SET_COOKIE, header(&cookie)?);
            Ok(reply)
        }
    }
}

pub(super) async fn login(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let body = context.small_body(&parts.headers, body).await?;
    let (exchange, device) = (read(&body)?, device(context, parts));
    let auth = &context.app.auth;
    let admission = auth
        .login_by_oauth(&exchange, &device, context.deadline())
        .await?;
    Ok(admitted(&admission))
}

pub(super) async fn identities(context: Context<'_>) -> Result<Reply> {
    let (account, _) = context.identity.account()?;
    let auth = &context.app.auth;
    let identities = auth.identities(&account.id, context.deadline()).await?;
    Ok(private(StatusCode::OK, &json!({ "identities": identities })))
}

pub(super) async fn link(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let (account, _) = context.identity.account()?;
    let body = context.small_body(&parts.headers, body).await?;
    let auth = &context.app.auth;
    auth.link_by_oauth(&account.id, &read(&body)?, context.deadline())
        .await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn unlink(context: Context<'_>, provider: &str) -> Result<Reply> {
    let (account, _) = context.identity.account()?;
    let auth = &context.app.auth;
    auth.unlink(&account.id, &decode(provider)?, context.deadline())
        .await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

/// Reads parameters of an address or fields of a form; others are passed over, as providers add some.
///
/// Errors: `INVALID_QUERY` where one is given twice, because others may read the other one.
fn read_pairs<T: DeserializeOwned>(pairs: &[u8]) -> Result<T> {
    let mut object = Map::new();
    for (name, value) in form_urlencoded::parse(pairs) {
        if object
            .insert(name.into_owned(), Json::String(value.into_owned()))
            .is_some()
        {
            let message = "a parameter is given twice";
            return Err(Error::new(ErrorKind::InvalidInput, "INVALID_QUERY", message));
        }
    }
    serde_json::from_value(Json::Object(object)).map_err(Error::internal)
}

fn send_on(status: StatusCode, onward: &Onward) -> Result<Reply> {
    let mut reply = envelope::empty(status);
    let headers = reply.headers_mut();
    headers.insert(LOCATION, header(&onward.url)?);
    headers.insert(SET_COOKIE, header(&onward.cookie)?);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    // The address that is left holds a state and a code.
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    Ok(reply)
}

fn header(text: &str) -> Result<HeaderValue> {
    HeaderValue::try_from(text).map_err(Error::internal)
}
