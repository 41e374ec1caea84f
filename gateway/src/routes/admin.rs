//! `/api/admin`: operators and API tokens.

use alyx_core::{Error, ErrorKind, Result};
use alyx_operators::Revoked;
use axum::body::Body;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::json;

use super::Context;
use super::auth::{device, private};
use crate::auth::{Credentials, read};
use crate::envelope::{self, Reply};
use crate::route::decode;

pub(super) async fn login(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let body = context.small_body(&parts.headers, body).await?;
    let (credentials, device) = (Credentials::read(&body)?, device(context, parts));
    let app = context.app;
    let signed_in = app
        .auth
        .sign_in_operator(&app.tokens, credentials, &device, context.deadline());
    Ok(private(StatusCode::OK, &signed_in.await?))
}

pub(super) async fn logout(context: Context<'_>) -> Result<Reply> {
    let identity = context.identity;
    let (Some(_), Some(token)) = (&identity.operator, &identity.token) else {
        let message = "this is an API token, which ends by being revoked: DELETE /api/admin/tokens/{name}";
        return Err(Error::new(ErrorKind::Forbidden, "FORBIDDEN", message));
    };
    context.app.tokens.sign_out(&token.id, context.deadline()).await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn operators(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let (app, deadline) = (context.app, context.deadline());
    if parts.method != Method::POST {
        let operators = app.tokens.list(deadline).await?.operators;
        let total = operators.len();
        let listed = json!({"operators": operators, "total": total});
        return Ok(private(StatusCode::OK, &listed));
    }
    let body = context.small_body(&parts.headers, body).await?;
    let new = app.auth.new_operator(Credentials::read(&body)?).await?;
    let operator = app.tokens.create_operator(new, deadline).await?;
    let made = json!({"id": operator.id, "email": operator.email});
    Ok(private(StatusCode::CREATED, &made))
}

pub(super) async fn tokens(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let (app, deadline) = (context.app, context.deadline());
    if parts.method != Method::POST {
        let tokens = app.tokens.list(deadline).await?.tokens;
        let total = tokens.len();
        return Ok(private(
            StatusCode::OK,
            &json!({"tokens": tokens, "total": total}),
        ));
    }
    let body = context.small_body(&parts.headers, body).await?;
    let made = app.tokens.create_token(read(&body)?, deadline).await?;
    Ok(private(StatusCode::CREATED, &made))
}

pub(super) async fn revoke(context: Context<'_>, who: &str) -> Result<Reply> {
    let revoked = context
        .app
        .tokens
        .revoke(&decode(who)?, context.deadline())
        .await?;
    match revoked {
        Revoked::Operator | Revoked::Token => Ok(envelope::empty(StatusCode::NO_CONTENT)),
    }
}
