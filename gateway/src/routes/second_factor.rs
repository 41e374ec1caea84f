//! `/api/auth/second-factor`: codes of an app, asked for at each sign-in.

use alyx_core::Result;
use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde::Deserialize;

use super::Context;
use super::auth::{device, private};
use crate::auth::{Own, Shown, read};
use crate::envelope::{self, Reply};
use crate::route::decode;

#[derive(Deserialize)]
struct CodeRequest {
    #[serde(default)]
    code: String,
}

pub(super) async fn status(context: Context<'_>) -> Result<Reply> {
    let (account, _) = context.identity.account()?;
    let auth = &context.app.auth;
    let status = auth.factor_status(&account.id, context.deadline()).await?;
    Ok(private(StatusCode::OK, &status))
}

pub(super) async fn enrol(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let (user, session) = context.identity.account()?;
    let shown = shown(&context.small_body(&parts.headers, body).await?)?;
    let device = device(context, parts);
    let own = own((&user.id, session), &device);
    let enrolment = context.app.auth.enrol(own, shown, context.deadline()).await?;
    Ok(private(StatusCode::OK, &enrolment))
}

pub(super) async fn confirm(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let (user, _) = context.identity.account()?;
    let body = context.small_body(&parts.headers, body).await?;
    let (CodeRequest { code }, device) = (read(&body)?, device(context, parts));
    let auth = &context.app.auth;
    let codes = auth.confirm(&user.id, &code, &device, context.deadline()).await?;
    Ok(private(StatusCode::OK, &codes))
}

pub(super) async fn renew_recovery_codes(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let (user, session) = context.identity.account()?;
    let shown = shown(&context.small_body(&parts.headers, body).await?)?;
    let device = device(context, parts);
    let own = own((&user.id, session), &device);
    let auth = &context.app.auth;
    let codes = auth.renew_recovery_codes(own, shown, context.deadline()).await?;
    Ok(private(StatusCode::OK, &codes))
}

pub(super) async fn disable(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let (user, session) = context.identity.account()?;
    let shown = shown(&context.small_body(&parts.headers, body).await?)?;
    let device = device(context, parts);
    let own = own((&user.id, session), &device);
    context.app.auth.disable(own, shown, context.deadline()).await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn answer(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let body = context.small_body(&parts.headers, body).await?;
    let (answer, device) = (read(&body)?, device(context, parts));
    let auth = &context.app.auth;
    let signed_in = auth.answer(&answer, &device, context.deadline()).await?;
    Ok(private(StatusCode::OK, &signed_in))
}

pub(super) async fn disable_by_operator(context: Context<'_>, who: &str) -> Result<Reply> {
    let auth = &context.app.auth;
    auth.disable_by_operator(&decode(who)?, context.deadline())
        .await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

/// Nothing need be shown where there is no password.
pub(super) fn shown(body: &Bytes) -> Result<Shown> {
    if body.is_empty() {
        return Ok(Shown::default());
    }
    read(body)
}

pub(super) fn own<'a>((user, session): (&'a str, &'a str), device: &'a crate::auth::Device) -> Own<'a> {
    Own {
        user,
        session,
        device,
    }
}
