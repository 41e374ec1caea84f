//! `/api/collections/{collection}` and `/api/collections/{collection}/{id}`.

use alyx_core::Result;
use alyx_query::ListParams;
use axum::body::Body;
use http::{HeaderMap, StatusCode};

use super::Context;
use crate::documents::{Action, find, permit};
use crate::envelope::{self, Reply};
use crate::route::decode;

pub(super) async fn list(context: Context<'_>, name: &str, query: Option<&str>) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    permit(collection, Action::Read)?;
    let params = ListParams::parse(collection, query.unwrap_or_default())?;
    let documents = &context.app.documents;
    let page = documents
        .list(state.schema_revision, &params, context.deadline())
        .await?;
    Ok(envelope::json(StatusCode::OK, page))
}

pub(super) async fn create(
    context: Context<'_>,
    name: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    permit(collection, Action::Create)?;
    let body = context.body(headers, body).await?;
    let document = context
        .app
        .documents
        .create(collection, &body, context.deadline())
        .await?;
    Ok(envelope::json(StatusCode::CREATED, document))
}

pub(super) async fn get(context: Context<'_>, name: &str, id: &str) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    permit(collection, Action::Read)?;
    let document = context
        .app
        .documents
        .get(collection, &decode(id)?, context.deadline())
        .await?;
    Ok(envelope::json(StatusCode::OK, document))
}

pub(super) async fn update(
    context: Context<'_>,
    (name, id): (&str, &str),
    headers: &HeaderMap,
    body: Body,
) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    permit(collection, Action::Update)?;
    let body = context.body(headers, body).await?;
    // Who may not read learns nothing from a write but that it was done.
    let key_only = [collection.primary()];
    let fields = (!collection.access.read).then_some(key_only.as_slice());
    let id = decode(id)?;
    let documents = &context.app.documents;
    let document = documents
        .update(collection, (&id, &body), fields, context.deadline())
        .await?;
    Ok(envelope::json(StatusCode::OK, document))
}

pub(super) async fn delete(context: Context<'_>, name: &str, id: &str) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    permit(collection, Action::Delete)?;
    context
        .app
        .documents
        .delete(collection, &decode(id)?, context.deadline())
        .await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}
