//! `/api/files/{bucket}` and what is below it.

use alyx_core::Result;
use axum::body::Body;
use http::StatusCode;
use http::request::Parts;

use super::Context;
use crate::envelope::{self, Reply};
use crate::files::{Content, Disposition, Upload, find};
use crate::route::decode;

pub(super) async fn upload(context: Context<'_>, bucket: &str, parts: &Parts, body: Body) -> Result<Reply> {
    let state = context.app.desired();
    let server = &context.app.config.server;
    let upload = Upload {
        authority: &context.authority(&state),
        caller: &context.identity.caller,
        bucket: find(&state, &decode(bucket)?)?,
        headers: &parts.headers,
        pause: server.read_timeout,
        write_within: server.write_timeout,
    };
    let file = context.app.files.upload(&upload, body).await?;
    Ok(envelope::json(StatusCode::CREATED, file))
}

pub(super) async fn list(context: Context<'_>, bucket: &str, parts: &Parts) -> Result<Reply> {
    let state = context.app.desired();
    let bucket = find(&state, &decode(bucket)?)?;
    let asked = (bucket.as_ref(), parts.uri.query().unwrap_or_default());
    let files = &context.app.files;
    let page = files
        .list(&context.authority(&state), asked, context.deadline())
        .await?;
    Ok(envelope::json(StatusCode::OK, page))
}

pub(super) async fn get(context: Context<'_>, (bucket, id): (&str, &str)) -> Result<Reply> {
    let state = context.app.desired();
    let bucket = find(&state, &decode(bucket)?)?;
    let (authority, id) = (context.authority(&state), decode(id)?);
    let asked = (bucket.as_ref(), id.as_ref());
    let file = context
        .app
        .files
        .get(&authority, asked, context.deadline())
        .await?;
    Ok(envelope::json(StatusCode::OK, file))
}

pub(super) async fn delete(context: Context<'_>, (bucket, id): (&str, &str)) -> Result<Reply> {
    let state = context.app.desired();
    let bucket = find(&state, &decode(bucket)?)?;
    let (authority, id) = (context.authority(&state), decode(id)?);
    let asked = (bucket.as_ref(), id.as_ref());
    context
        .app
        .files
        .delete(&authority, asked, context.deadline())
        .await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn delete_all(
    context: Context<'_>,
    bucket: &str,
    parts: &Parts,
    body: Body,
) -> Result<Reply> {
    let state = context.app.desired();
    let bucket = find(&state, &decode(bucket)?)?;
    let authority = context.authority(&state);
    authority.files(bucket, alyx_rules::FileAction::Delete)?;
    let body = context.body(&parts.headers, body).await?;
    let files = &context.app.files;
    let done = files
        .delete_all(&authority, (bucket, &body), context.deadline())
        .await?;
    Ok(envelope::json(StatusCode::OK, done))
}

pub(super) async fn content(
    context: Context<'_>,
    (bucket, id): (&str, &str),
    parts: &Parts,
    disposition: Disposition,
) -> Result<Reply> {
    let state = context.app.desired();
    let asked = Content {
        authority: &context.authority(&state),
        bucket: find(&state, &decode(bucket)?)?,
        id: &decode(id)?,
        method: &parts.method,
        headers: &parts.headers,
        disposition,
    };
    context.app.files.content(&asked, context.deadline()).await
}
