//! `/api/functions`: what there is, and calling it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alyx_core::{Error, ErrorKind, InvocationId, Permission, Result};
use alyx_service::function::{Invocation, SharedFunctions};
use alyx_service::state::{DesiredState, Function};
use alyx_service::trace;
use axum::body::Body;
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::Context;
use super::function_figures::Figures;
use crate::auth::scope_missing;
use crate::authority::Asked;
use crate::documents::FunctionData;
use crate::envelope::{self, Reply};
use crate::invocation::{self, read_input};
use crate::route::decode;

/// Longest wait for an instance on top of the function's own time-out.
const QUEUE_TIME: Duration = Duration::from_secs(10);
/// By this header a caller says that a second run does no harm.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

#[derive(Serialize)]
struct Listing<'a> {
    functions: Vec<Entry<'a>>,
    count: usize,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    runtime: &'static str,
}

impl<'a> Entry<'a> {
    fn of(function: &'a Function) -> Self {
        Self {
            name: &function.name,
            runtime: function.runtime.name(),
        }
    }
}

/// What callers may know about a function: neither its environment nor where it lies.
#[derive(Serialize)]
struct Description<'a> {
    name: &'a str,
    runtime: &'static str,
    description: &'a str,
    sample_input: Option<&'a serde_json::Value>,
    enabled: bool,
    /// Seconds.
    timeout: serde_json::Number,
    /// MiB.
    memory: u64,
}

#[derive(Serialize)]
struct Reloaded {
    success: bool,
    count: usize,
    message: String,
}

pub(super) fn list(context: Context<'_>) -> Result<Reply> {
    served(context)?;
    let state = context.app.desired();
    let all = state.functions.values();
    let functions: Vec<_> = all.map(|function| Entry::of(function)).collect();
    let count = functions.len();
    Ok(envelope::json_of(StatusCode::OK, &Listing { functions, count }))
}

pub(super) fn stats(context: Context<'_>) -> Result<Reply> {
    let figures = Figures::of(served(context)?, &context.app.desired());
    Ok(envelope::json_of(StatusCode::OK, &figures))
}

pub(super) fn describe(context: Context<'_>, name: &str) -> Result<Reply> {
    served(context)?;
    let name = decode(name)?;
    permit(context, &name)?;
    let state = context.app.desired();
    let function = find(&state, &name)?;
    let whole = function.timeout.subsec_millis() == 0;
    let seconds = serde_json::Number::from_f64(function.timeout.as_secs_f64()).filter(|_| !whole);
    let description = Description {
        name: &function.name,
        runtime: function.runtime.name(),
        description: &function.description,
        sample_input: function.sample_input.as_ref(),
        enabled: true,
        timeout: seconds.unwrap_or_else(|| function.timeout.as_secs().into()),
        memory: function.memory_mib,
    };
    Ok(envelope::json_of(StatusCode::OK, &description))
}

pub(super) async fn reload(context: Context<'_>) -> Result<Reply> {
    served(context)?;
    let count = context.app.control.reload_functions().await?;
    let reloaded = Reloaded {
        success: true,
        count,
        message: format!("{count} functions are served"),
    };
    Ok(envelope::json_of(StatusCode::OK, &reloaded))
}

pub(super) async fn invoke(
    context: Context<'_>,
    name: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Reply> {
    let service = served(context)?;
    let name = decode(name)?;
    permit(context, &name)?;
    let body = context.body(headers, body).await?;
    let (shape, input) = read_input(&body)?;
    let began = Instant::now();
    let completed = match invocation_of(context, &name, headers, input).await {
        Ok(invocation) => service.invoke(invocation).await,
        Err(error) => Err(error),
    };
    Ok(match completed {
        Ok(completion) => {
            let with_logs = context.app.config.dev.enabled;
            invocation::finished(shape, completion, with_logs, context.tag)
        }
        Err(error) => invocation::failed(shape, &error, began.elapsed(), context.tag),
    })
}

/// The call, if the caller may make it.
async fn invocation_of(
    context: Context<'_>,
    name: &str,
    headers: &HeaderMap,
    input: bytes::Bytes,
) -> Result<Invocation> {
    let state = context.app.desired();
    let function = find(&state, name)?;
    let deadline = Instant::now() + function.timeout + QUEUE_TIME;
    if function.invoke_rule.is_some() {
        let asked = Asked {
            function,
            method: "POST",
            input: &input,
            deadline: context.deadline(),
        };
        let rules = (&context.app.invoke_rules, &context.app.store);
        context
            .authority(&state)
            .permit_call(rules, &state, &asked)
            .await?;
    }
    Ok(Invocation {
        id: InvocationId::new(),
        request_id: context.tag.to_id(),
        function: function.name.clone(),
        input,
        auth: context
            .identity
            .caller
            .account()
            .map(|account| account.to_json().to_string().into()),
        deadline,
        trace: trace::current(),
        idempotent: headers.contains_key(IDEMPOTENCY_KEY),
        data: Arc::new(FunctionData::new(context.app.clone(), deadline)),
    })
}

/// Whether the caller may have to do with that function, whether there is one or not.
///
/// Errors: `SCOPE_MISSING`.
fn permit(context: Context<'_>, name: &str) -> Result<()> {
    let permission = Permission::Invoke(name);
    if context.identity.caller.may(permission) {
        return Ok(());
    }
    Err(scope_missing(permission))
}

fn served(context: Context<'_>) -> Result<&SharedFunctions> {
    context.app.functions.as_ref().ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "FUNCTIONS_DISABLED",
            "functions are switched off (functions.enabled)",
        )
    })
}

fn find<'s>(state: &'s DesiredState, name: &str) -> Result<&'s Arc<Function>> {
    state.functions.get(name).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        Error::new(
            ErrorKind::NotFound,
            "FUNCTION_NOT_FOUND",
            format!("there is no function `{shown}`"),
        )
    })
}
