//! `/api/files/{bucket}` and what is below it.

use alyx_core::Result;
use axum::body::Body;
use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;

use super::Context;
use crate::envelope::{self, Reply};
use crate::files::{Content, Disposition, Terms, Upload, find, verify};
use crate::route::{Matched, Route, decode};

/// Calls the handler of a route of files.
pub(super) async fn answer(
    context: Context<'_>,
    matched: &Matched<'_>,
    parts: &Parts,
    body: Body,
) -> Result<Reply> {
    let file = (matched.first, matched.second);
    match (matched.route, &parts.method) {
        (Route::FileDownload, _) => content(context, file, parts, Disposition::Attachment).await,
        (Route::FileView, _) => content(context, file, parts, Disposition::Inline).await,
        (Route::FileSign, _) => sign(context, file, parts).await,
        (Route::FileBatch, _) => delete_all(context, matched.first, parts, body).await,
        (Route::File, &Method::DELETE) => delete(context, file).await,
        (Route::File, _) => get(context, file).await,
        (_, &Method::POST) => upload(context, matched.first, parts, body).await,
        _ => list(context, matched.first, parts).await,
    }
}

async fn upload(context: Context<'_>, bucket: &str, parts: &Parts, body: Body) -> Result<Reply> {
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

async fn list(context: Context<'_>, bucket: &str, parts: &Parts) -> Result<Reply> {
    let state = context.app.desired();
    let bucket = find(&state, &decode(bucket)?)?;
    let asked = (bucket.as_ref(), parts.uri.query().unwrap_or_default());
    let files = &context.app.files;
    let page = files
        .list(&context.authority(&state), asked, context.deadline())
        .await?;
    Ok(envelope::json(StatusCode::OK, page))
}

async fn get(context: Context<'_>, (bucket, id): (&str, &str)) -> Result<Reply> {
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

async fn delete(context: Context<'_>, (bucket, id): (&str, &str)) -> Result<Reply> {
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

async fn delete_all(context: Context<'_>, bucket: &str, parts: &Parts, body: Body) -> Result<Reply> {
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

async fn content(
    context: Context<'_>,
    (bucket, id): (&str, &str),
    parts: &Parts,
    disposition: Disposition,
) -> Result<Reply> {
    let state = context.app.desired();
    let (bucket, id) = (find(&state, &decode(bucket)?)?, decode(id)?);
    let token = token_of(parts.uri.query().unwrap_or_default());
    if let Some(token) = &token {
        let app = context.app;
        verify(app.auth.sealer()?, token, (bucket, &id, disposition), &*app.clock)?;
    }
    let asked = Content {
        authority: &context.authority(&state),
        bucket,
        id: &id,
        method: &parts.method,
        headers: &parts.headers,
        disposition,
        granted: token.is_some(),
    };
    context.app.files.content(&asked, context.deadline()).await
}

/// A link to the file: `{url, token, expires_at}`.
async fn sign(context: Context<'_>, (bucket, id): (&str, &str), parts: &Parts) -> Result<Reply> {
    let state = context.app.desired();
    let (bucket, id) = (find(&state, &decode(bucket)?)?, decode(id)?);
    let terms = Terms::parse(parts.uri.query().unwrap_or_default())?;
    let (app, authority) = (context.app, context.authority(&state));
    app.files
        .may_download(&authority, (bucket, &id), context.deadline())
        .await?;
    let signed = terms.sign(app.auth.sealer()?, (bucket, &id), &*app.clock);
    let operation = match terms.disposition {
        Disposition::Attachment => "download",
        Disposition::Inline => "view",
    };
    let base = base_of(context, &parts.headers);
    let url = format!(
        "{base}/api/files/{}/{id}/{operation}?token={}",
        bucket.name, signed.token
    );
    let link = json!({"url": url, "token": signed.token, "expires_at": signed.expires_at});
    Ok(envelope::json_of(StatusCode::OK, &link))
}

/// Where the caller reaches this server.
fn base_of(context: Context<'_>, headers: &HeaderMap) -> String {
    if let Some(public) = &context.app.config.server.public_url {
        return public.clone();
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    format!("http://{}", host.unwrap_or("localhost"))
}

fn token_of(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs
        .find(|(name, _)| name == "token")
        .map(|(_, token)| token.into_owned())
}
