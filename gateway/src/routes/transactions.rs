//! `/api/transactions`: begin, commit, roll back.

use alyx_core::{Error, ErrorKind, Result, format_timestamp};
use http::StatusCode;
use http::request::Parts;
use serde::Serialize;

use super::transactional::{TX_ID, take_transaction};
use super::{Context, not_found};
use crate::envelope::{self, Reply};
use crate::transactions::TransactionId;

#[derive(Serialize)]
struct Begun<'a> {
    transaction_id: &'a str,
    expires_at: String,
}

#[derive(Serialize)]
struct Ended {
    status: &'static str,
}

pub(super) async fn act(context: Context<'_>, parts: &Parts, action: &str) -> Result<Reply> {
    match action {
        "" | "begin" => begin(context, parts),
        "commit" => commit(context, parts).await,
        "rollback" => rollback(context, parts).await,
        _ => Err(not_found(parts.uri.path())),
    }
}

fn begin(context: Context<'_>, parts: &Parts) -> Result<Reply> {
    let app = context.app;
    let transaction = app.engine.begin(app.desired().schema_revision);
    let id = app
        .transactions
        .begin(context.owner(&parts.headers), transaction)?;
    let begun = Begun {
        transaction_id: id.as_str(),
        expires_at: format_timestamp(app.clock.now() + app.transactions.timeout()),
    };
    Ok(envelope::json_of(StatusCode::OK, &begun))
}

async fn commit(context: Context<'_>, parts: &Parts) -> Result<Reply> {
    let (app, deadline) = (context.app, context.deadline());
    let id = named(parts)?;
    let until = (app.desired().schema_revision, deadline);
    let transaction = app
        .transactions
        .end(&id, context.owner(&parts.headers), until)
        .await?;
    transaction.commit(&app.engine, Vec::new(), deadline).await?;
    Ok(envelope::json_of(StatusCode::OK, &Ended { status: "committed" }))
}

async fn rollback(context: Context<'_>, parts: &Parts) -> Result<Reply> {
    let (app, deadline) = (context.app, context.deadline());
    let id = named(parts)?;
    let until = (app.desired().schema_revision, deadline);
    let ended = app
        .transactions
        .end(&id, context.owner(&parts.headers), until)
        .await;
    match ended {
        // Its schema is gone, and so is it.
        Err(error) if error.code() != "TRANSACTION_CONFLICT" => Err(error),
        Ok(_) | Err(_) => Ok(envelope::json_of(
            StatusCode::OK,
            &Ended {
                status: "rolled_back",
            },
        )),
    }
}

fn named(parts: &Parts) -> Result<TransactionId> {
    let (id, _) = take_transaction(parts.uri.query().unwrap_or_default())?;
    id.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            "MISSING_TX_ID",
            format!("name the transaction: ?{TX_ID}=…, with the `transaction_id` that begin returned"),
        )
        .with_field(TX_ID)
    })
}
