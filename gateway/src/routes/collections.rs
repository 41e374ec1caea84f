//! `/api/collections/{collection}`, `/api/collections/{collection}/{id}` and `/api/aggregate/{collection}`.

use alyx_core::Result;
use alyx_query::{Aggregate, ListParams, OneParams, Reach, Scope};
use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http::header::ETAG;
use http::request::Parts;

use super::{Context, transactional};
use crate::documents::{Action, find, permit};
use crate::envelope::{self, Reply};
use crate::route::decode;
use crate::transactions::{Id, Kind, Operation, header_of};

pub(super) async fn list(context: Context<'_>, name: &str, parts: &Parts) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    permit(collection, Action::Read)?;
    let query = parts.uri.query().unwrap_or_default();
    let (transaction, query) = transactional::take_transaction(query)?;
    if let Some(id) = transaction {
        let params = ListParams::parse(collection, &query)?;
        let asked = (state.schema_revision, &params);
        return transactional::list(context, &parts.headers, &id, asked).await;
    }
    let scope = Scope::new(&state.schema, collection, Reach::Caller);
    let params = ListParams::parse(scope, &query)?;
    let documents = &context.app.documents;
    let page = documents
        .list(state.schema_revision, &params, context.deadline())
        .await?;
    Ok(envelope::json(StatusCode::OK, page))
}

/// Figures about documents are as open as the documents.
pub(super) async fn aggregate(context: Context<'_>, name: &str, query: Option<&str>) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    permit(collection, Action::Read)?;
    let scope = Scope::new(&state.schema, collection, Reach::Caller);
    let asked = Aggregate::parse(scope, query.unwrap_or_default())?;
    let documents = &context.app.documents;
    let figures = documents.aggregate(&asked, context.deadline()).await?;
    Ok(envelope::json(StatusCode::OK, figures))
}

pub(super) async fn create(context: Context<'_>, name: &str, parts: &Parts, body: Body) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    permit(collection, Action::Create)?;
    let body = context.body(&parts.headers, body).await?;
    if transactional::is_asked_for(parts) {
        let create = Operation::new(Kind::Create, collection, Id::InData, body);
        return transactional::single(context, parts, &state, create).await;
    }
    let document = context
        .app
        .documents
        .create(collection, &body, context.deadline())
        .await?;
    Ok(whole(StatusCode::CREATED, document))
}

pub(super) async fn get(context: Context<'_>, (name, id): (&str, &str), parts: &Parts) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    permit(collection, Action::Read)?;
    let id = decode(id)?;
    let (transaction, query) = transactional::take_transaction(parts.uri.query().unwrap_or_default())?;
    if transaction.is_some() {
        let get = Operation::new(Kind::Get, collection, Id::Given(id.into_owned()), Bytes::new());
        return transactional::single(context, parts, &state, get).await;
    }
    let scope = Scope::new(&state.schema, collection, Reach::Caller);
    let params = OneParams::parse(scope, &query)?;
    let document = context
        .app
        .documents
        .get(collection, &id, &params, context.deadline())
        .await?;
    // A tag stands for the whole document, which this is not.
    if params.fields.is_some() || !params.expand.is_empty() {
        return Ok(envelope::json(StatusCode::OK, document));
    }
    if transactional::is_asked_for(parts) {
        return transactional::tagged(&parts.headers, document);
    }
    Ok(whole(StatusCode::OK, document))
}

pub(super) async fn update(
    context: Context<'_>,
    (name, id): (&str, &str),
    parts: &Parts,
    body: Body,
) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    permit(collection, Action::Update)?;
    let body = context.body(&parts.headers, body).await?;
    let id = decode(id)?;
    if transactional::is_asked_for(parts) {
        let update = Operation::new(Kind::Update, collection, Id::Given(id.into_owned()), body);
        return transactional::single(context, parts, &state, update).await;
    }
    // Who may not read learns nothing from a write but that it was done.
    let key_only = [collection.primary()];
    let fields = (!collection.access.read).then_some(key_only.as_slice());
    let documents = &context.app.documents;
    let document = documents
        .update(collection, (&id, &body), fields, context.deadline())
        .await?;
    if fields.is_some() {
        return Ok(envelope::json(StatusCode::OK, document));
    }
    Ok(whole(StatusCode::OK, document))
}

pub(super) async fn delete(context: Context<'_>, (name, id): (&str, &str), parts: &Parts) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    permit(collection, Action::Delete)?;
    let id = decode(id)?;
    if transactional::is_asked_for(parts) {
        let delete = Operation::new(Kind::Delete, collection, Id::Given(id.into_owned()), Bytes::new());
        return transactional::single(context, parts, &state, delete).await;
    }
    context
        .app
        .documents
        .delete(collection, &id, context.deadline())
        .await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

/// A whole document with its tag.
fn whole(status: StatusCode, document: Bytes) -> Reply {
    let tag = header_of(&document);
    let mut reply = envelope::json(status, document);
    reply.headers_mut().insert(ETAG, tag);
    reply
}
