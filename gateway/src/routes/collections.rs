//! `/api/collections/{collection}`, `/api/collections/{collection}/{id}` and `/api/aggregate/{collection}`.

use alyx_core::{Error, ErrorKind, Result};
use alyx_query::{Aggregate, Filter, ListParams, OneParams, Scope};
use alyx_rules::Action;
use alyx_schema::Collection;
use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http::header::ETAG;
use http::request::Parts;

use super::{Context, transactional};
use crate::authority::Authority;
use crate::documents::find;
use crate::envelope::{self, Reply};
use crate::route::decode;
use crate::transactions::{Id, Kind, Operation, header_of};

pub(super) async fn list(context: Context<'_>, name: &str, parts: &Parts) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    let authority = context.authority(&state);
    let rule = readable(&authority, collection)?;
    let query = parts.uri.query().unwrap_or_default();
    let (transaction, query) = transactional::take_transaction(query)?;
    if let Some(id) = transaction {
        let mut params = ListParams::parse(collection, &query)?;
        if !rule.is_local() {
            return Err(asks_elsewhere(collection));
        }
        params.query.filter = authority.limited(&rule, params.query.filter);
        let asked = (state.schema_revision, &params);
        return transactional::list(context, &parts.headers, &id, asked).await;
    }
    let scope = Scope::new(&state.schema, collection, authority.reach());
    let mut params = ListParams::parse(scope, &query)?;
    params.query.filter = authority.limited(&rule, params.query.filter);
    authority.limit_expanded(&mut params.expand);
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
    let authority = context.authority(&state);
    let rule = readable(&authority, collection)?;
    let scope = Scope::new(&state.schema, collection, authority.reach());
    let mut asked = Aggregate::parse(scope, query.unwrap_or_default())?;
    asked.filter = authority.limited(&rule, asked.filter);
    let documents = &context.app.documents;
    let figures = documents.aggregate(&asked, context.deadline()).await?;
    Ok(envelope::json(StatusCode::OK, figures))
}

pub(super) async fn create(context: Context<'_>, name: &str, parts: &Parts, body: Body) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    let authority = context.authority(&state);
    authority.permit(collection, Action::Create)?;
    let body = context.body(&parts.headers, body).await?;
    if transactional::is_asked_for(parts) {
        let create = Operation::new(Kind::Create, collection, (Id::InData, body), authority);
        return transactional::single(context, parts, &state, create).await;
    }
    let document = context
        .app
        .documents
        .create(&authority, collection, &body, context.deadline())
        .await?;
    Ok(whole(StatusCode::CREATED, document))
}

pub(super) async fn get(context: Context<'_>, (name, id): (&str, &str), parts: &Parts) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    let authority = context.authority(&state);
    authority.permit(collection, Action::Read)?;
    let id = decode(id)?;
    let (transaction, query) = transactional::take_transaction(parts.uri.query().unwrap_or_default())?;
    if transaction.is_some() {
        let meant = (Id::Given(id.into_owned()), Bytes::new());
        let get = Operation::new(Kind::Get, collection, meant, authority);
        return transactional::single(context, parts, &state, get).await;
    }
    let scope = Scope::new(&state.schema, collection, authority.reach());
    let mut params = OneParams::parse(scope, &query)?;
    authority.limit_expanded(&mut params.expand);
    let document = context
        .app
        .documents
        .get(&authority, (collection, &id), &params, context.deadline())
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
    let authority = context.authority(&state);
    authority.permit(collection, Action::Update)?;
    let body = context.body(&parts.headers, body).await?;
    let id = decode(id)?;
    if transactional::is_asked_for(parts) {
        let meant = (Id::Given(id.into_owned()), body);
        let update = Operation::new(Kind::Update, collection, meant, authority);
        return transactional::single(context, parts, &state, update).await;
    }
    let documents = &context.app.documents;
    let changed = documents
        .update(&authority, (collection, &id), &body, context.deadline())
        .await?;
    if !changed.whole {
        return Ok(envelope::json(StatusCode::OK, changed.json));
    }
    Ok(whole(StatusCode::OK, changed.json))
}

pub(super) async fn delete(context: Context<'_>, (name, id): (&str, &str), parts: &Parts) -> Result<Reply> {
    let state = context.app.desired();
    let collection = find(&state, &decode(name)?)?;
    let authority = context.authority(&state);
    authority.permit(collection, Action::Delete)?;
    let id = decode(id)?;
    if transactional::is_asked_for(parts) {
        let meant = (Id::Given(id.into_owned()), Bytes::new());
        let delete = Operation::new(Kind::Delete, collection, meant, authority);
        return transactional::single(context, parts, &state, delete).await;
    }
    context
        .app
        .documents
        .delete(&authority, (collection, &id), context.deadline())
        .await?;
    Ok(envelope::empty(StatusCode::NO_CONTENT))
}

/// What the caller may read of the collection.
fn readable(authority: &Authority, collection: &Collection) -> Result<Filter> {
    authority.permit(collection, Action::Read)?;
    authority.read(collection)
}

/// What a list within a transaction saw is checked against single documents when it commits.
fn asks_elsewhere(collection: &Collection) -> Error {
    let message = format!(
        "the read rule of `{}` asks about other documents, so it cannot be listed within a transaction: list it \
         before, or get documents one by one",
        collection.name
    );
    Error::new(ErrorKind::InvalidInput, "INVALID_QUERY", message)
}

/// A whole document with its tag.
fn whole(status: StatusCode, document: Bytes) -> Reply {
    let tag = header_of(&document);
    let mut reply = envelope::json(status, document);
    reply.headers_mut().insert(ETAG, tag);
    reply
}
