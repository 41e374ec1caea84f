//! Document requests that ask for more than one plain read or write: conditions on a document's tag, an idempotency
//! key, a transaction.

use std::borrow::Cow;
use std::time::Instant;

use alyx_core::{Error, ErrorKind, Result};
use alyx_query::ListParams;
use alyx_service::state::DesiredState;
use axum::body::Body;
use http::header::{ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::Context;
use crate::envelope::{self, Reply};
use crate::transactions::{
    IdempotencyKey, Job, Kept, Operation, Outcome, Preconditions, Shaped, TransactionId,
};

/// Names a transaction in a query string.
pub(super) const TX_ID: &str = "tx_id";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Whether a request asks for any of it.
pub(super) fn is_asked_for(parts: &Parts) -> bool {
    let headers = &parts.headers;
    headers.contains_key(IDEMPOTENCY_KEY)
        || headers.contains_key(IF_MATCH)
        || headers.contains_key(IF_NONE_MATCH)
        || parts.uri.query().is_some_and(names_a_transaction)
}

/// Whether a query string names a transaction.
pub(super) fn names_a_transaction(query: &str) -> bool {
    query.split('&').any(|pair| is_tx_id(pair).is_some())
}

fn is_tx_id(pair: &str) -> Option<&str> {
    pair.strip_prefix(TX_ID)?.strip_prefix('=')
}

/// The transaction that a query string names, and the rest of it.
///
/// Errors: `INVALID_QUERY` where it names two.
pub(super) fn take_transaction(query: &str) -> Result<(Option<TransactionId>, Cow<'_, str>)> {
    if !names_a_transaction(query) {
        return Ok((None, query.into()));
    }
    let mut ids = query.split('&').filter_map(is_tx_id);
    let id = ids.next().unwrap_or_default();
    if ids.next().is_some() {
        let message = format!("`{TX_ID}` is given twice");
        return Err(Error::new(ErrorKind::InvalidInput, "INVALID_QUERY", message).with_field(TX_ID));
    }
    let id = crate::route::decode(id)?;
    let rest: Vec<&str> = query.split('&').filter(|pair| is_tx_id(pair).is_none()).collect();
    Ok((Some(TransactionId::new(id)), rest.join("&").into()))
}

/// What became of a request that names a transaction.
pub(super) enum Handed {
    /// The gateway that has the transaction has answered.
    Answered(Reply),
    /// It is ours, with its body.
    Here(Body),
}

/// Hands a request over to the gateway that has its transaction, where that is another one.
///
/// Errors: `INVALID_TRANSACTION` where that gateway is gone, and its transactions with it.
pub(super) async fn hand_over(context: Context<'_>, parts: &Parts, body: Body) -> Result<Handed> {
    let Some(peers) = context.app.peers.as_ref().filter(|_| !context.forwarded) else {
        return Ok(Handed::Here(body));
    };
    let (id, _) = take_transaction(parts.uri.query().unwrap_or_default())?;
    let node = id.as_ref().and_then(TransactionId::node);
    let Some(node) = node.filter(|node| *node != peers.node_id()) else {
        return Ok(Handed::Here(body));
    };
    let body = context.body(&parts.headers, body).await?;
    let until = (context.tag, context.deadline());
    let answer = peers.forward(node, (parts, body), until).await?;
    answer
        .map(Handed::Answered)
        .ok_or_else(crate::transactions::unknown)
}

/// Carries out one operation on behalf of such a request. `body` is what the caller sent.
pub(super) async fn single(
    context: Context<'_>,
    parts: &Parts,
    state: &DesiredState,
    mut operation: Operation,
) -> Result<Reply> {
    operation.preconditions = Preconditions::of(&parts.headers)?;
    let body = operation.data.clone();
    let operations = [operation];
    several(context, parts, state, (&operations, &body), Shaped::single)
        .await
        .map_err(Error::without_step)
}

/// Carries out operations in one transaction: that of the request, or one of their own.
pub(super) async fn several(
    context: Context<'_>,
    parts: &Parts,
    state: &DesiredState,
    (operations, body): (&[Operation], &[u8]),
    shape: fn(&[Outcome]) -> Shaped,
) -> Result<Reply> {
    let (transaction, _) = take_transaction(parts.uri.query().unwrap_or_default())?;
    let retention = context.app.config.transactions.idempotency_retention;
    let target = (&parts.method, &parts.uri);
    let owner = context.owner(&parts.headers);
    let key = IdempotencyKey::of((owner, &parts.headers), target, body, retention)?;
    let (app, deadline) = (context.app, context.deadline());
    let Some(id) = transaction else {
        let job = Job {
            operations,
            key,
            shape,
            schema_revision: state.schema_revision,
            deadline,
        };
        return Ok(reply(app.engine.run(&job).await?));
    };
    if key.is_some() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "INVALID_IDEMPOTENCY_KEY",
            "a request within a transaction takes no `Idempotency-Key`: nothing is written before the commit",
        )
        .with_field("Idempotency-Key"));
    }
    let until = (state.schema_revision, deadline);
    let mut in_use = app.transactions.enter(&id, owner, until).await?;
    let before = (operations.len() > 1).then(|| in_use.clone());
    match in_use.apply_all(&app.engine, operations, deadline).await {
        Ok((outcomes, _)) => Ok(reply(Kept {
            shaped: shape(&outcomes),
            replayed: false,
        })),
        Err(error) => {
            // Of several operations, those before the one that failed are undone.
            if let Some(before) = before {
                *in_use = before;
            }
            Err(error)
        }
    }
}

/// A page within a transaction.
pub(super) async fn list(
    context: Context<'_>,
    headers: &HeaderMap,
    id: &TransactionId,
    (schema_revision, params): (u64, &ListParams),
) -> Result<Reply> {
    let (app, deadline) = (context.app, context.deadline());
    let until: (u64, Instant) = (schema_revision, deadline);
    let mut in_use = app.transactions.enter(id, context.owner(headers), until).await?;
    let page = in_use.list(&app.engine, params, deadline).await?;
    Ok(envelope::json(StatusCode::OK, page))
}

/// The document with its tag; 304 without it where the caller has it already.
pub(super) fn tagged(headers: &HeaderMap, document: bytes::Bytes) -> Result<Reply> {
    let tag = crate::transactions::tag_of(&document);
    let conditions = Preconditions::of(headers)?;
    if conditions.is_known(&tag) {
        let mut reply = envelope::empty(StatusCode::NOT_MODIFIED);
        put_tag(&mut reply, &tag);
        return Ok(reply);
    }
    conditions.check(&tag)?;
    let mut reply = envelope::json(StatusCode::OK, document);
    put_tag(&mut reply, &tag);
    Ok(reply)
}

fn reply(kept: Kept) -> Reply {
    let Shaped { status, etag, body } = kept.shaped;
    let mut reply = if body.is_empty() {
        envelope::empty(status)
    } else {
        envelope::json(status, body)
    };
    if let Some(tag) = etag {
        put_tag(&mut reply, &tag);
    }
    if kept.replayed {
        reply
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    reply
}

fn put_tag(reply: &mut Reply, tag: &str) {
    if let Ok(tag) = HeaderValue::from_str(tag) {
        reply.headers_mut().insert(ETAG, tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transaction_is_taken_out_of_the_query() {
        let check = |query: &str, id: Option<&str>, rest: &str| {
            let (found, left) = take_transaction(query).expect(query);
            assert_eq!(found.as_ref().map(TransactionId::as_str), id, "{query}");
            assert_eq!(left, rest, "{query}");
        };
        check("", None, "");
        check("a=1&tx_idx=2", None, "a=1&tx_idx=2");
        check("tx_id=tx_1", Some("tx_1"), "");
        check("limit=2&tx_id=tx%5F1.n&sort=a", Some("tx_1.n"), "limit=2&sort=a");
        check("tx_id=", Some(""), "");
        let twice = take_transaction("tx_id=a&tx_id=b").expect_err("two");
        assert_eq!(twice.code(), "INVALID_QUERY");
    }
}
