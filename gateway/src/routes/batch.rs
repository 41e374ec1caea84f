//! `POST /api/batch`: several operations, all of them or none.

use alyx_core::{Error, Result};
use axum::body::Body;
use http::request::Parts;

use super::{Context, transactional};
use crate::envelope::{self, Reply};
use crate::transactions::{Operation, Shaped, read_batch};

pub(super) async fn run(context: Context<'_>, parts: &Parts, body: Body) -> Result<Reply> {
    let body = context.body(&parts.headers, body).await?;
    let state = context.app.desired();
    let operations = read_batch(&state, &context.authority(&state), &body).map_err(located)?;
    let depends = Operation::depends_on_what_is_there;
    if transactional::is_asked_for(parts) || operations.iter().any(depends) {
        let asked = (operations.as_slice(), &body[..]);
        let reply = transactional::several(context, parts, &state, asked, Shaped::batch).await;
        return reply.map_err(|error| located_in(error, &operations));
    }
    let outcomes = context.app.engine.batch(&operations, context.deadline()).await;
    let shaped = Shaped::batch(&outcomes.map_err(|error| located_in(error, &operations))?);
    Ok(envelope::json(shaped.status, shaped.body))
}

/// Says which operation an error is about.
fn located(error: Error) -> Error {
    match error.step() {
        Some(number) => {
            let message = format!("operation {number}: {}", error.message());
            error.with_message(message)
        }
        None => error,
    }
}

fn located_in(error: Error, operations: &[Operation]) -> Error {
    match error
        .step()
        .and_then(|number| Some((number, operations.get(number)?)))
    {
        Some((number, operation)) => {
            let message = format!(
                "operation {number} ({} `{}`): {}",
                operation.kind.word(),
                operation.collection.name,
                error.message()
            );
            error.with_message(message)
        }
        None => error,
    }
}
