//! What the rules of functions let somebody call.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use alyx_core::{Error, ErrorKind, Result};
use alyx_rules::{Call, Decision, Facts, Incoming, Rule};
use alyx_schema::{Schema, files};
use alyx_service::state::{DesiredState, Function};
use alyx_store::{Read, ReadCost, Store};
use parking_lot::Mutex;
use serde_json::Value as Json;

use super::Authority;

type Functions = Arc<BTreeMap<String, Arc<Function>>>;
/// By the function's name; none of a rule that does not compile.
type Compiled = HashMap<String, Option<Rule>>;

/// The rules of the functions that were last asked about.
#[derive(Debug, Default)]
pub(crate) struct InvokeRules {
    last: Mutex<Option<Last>>,
}

#[derive(Debug)]
struct Last {
    schema: Arc<Schema>,
    functions: Functions,
    rules: Compiled,
}

impl InvokeRules {
    /// The rule of a function that has one. The control plane serves none whose rule does not compile; of one that does
    /// not all the same, nothing is allowed.
    fn of(&self, state: &DesiredState, name: &str) -> Option<Rule> {
        let mut last = self.last.lock();
        if let Some(last) = &*last
            && Arc::ptr_eq(&last.schema, &state.schema)
            && Arc::ptr_eq(&last.functions, &state.functions)
        {
            return last.rules.get(name).cloned().flatten();
        }
        let compiled: Compiled = state
            .functions
            .values()
            .filter_map(|function| {
                let rule = compile(&state.schema, function, function.invoke_rule.as_deref()?);
                Some((function.name.clone(), rule))
            })
            .collect();
        let rule = compiled.get(name).cloned().flatten();
        *last = Some(Last {
            schema: Arc::clone(&state.schema),
            functions: Arc::clone(&state.functions),
            rules: compiled,
        });
        rule
    }
}

fn compile(schema: &Schema, function: &Function, text: &str) -> Option<Rule> {
    Rule::compile_of_calls(schema, text)
        .inspect_err(|problem| {
            tracing::error!(
                function = function.name,
                %problem,
                "the function's rule does not compile: nobody bound by rules may call it"
            );
        })
        .ok()
}

/// A call of a function that somebody asks for.
pub(crate) struct Asked<'a> {
    pub(crate) function: &'a Function,
    pub(crate) method: &'a str,
    /// JSON text.
    pub(crate) input: &'a [u8],
    pub(crate) deadline: Instant,
}

impl Authority {
    /// Whether the caller may make that call.
    ///
    /// Errors: `FORBIDDEN`, and those of the store where the rule asks about documents.
    pub(crate) async fn permit_call(
        &self,
        (rules, store): (&InvokeRules, &Store),
        state: &DesiredState,
        asked: &Asked<'_>,
    ) -> Result<()> {
        let (Some(bound), Some(_)) = (&self.bound, &asked.function.invoke_rule) else {
            return Ok(());
        };
        let refused = || {
            let message = format!(
                "the rules of the function `{}` do not let you call it",
                asked.function.name
            );
            Error::new(ErrorKind::Forbidden, "FORBIDDEN", message)
        };
        let rule = rules.of(state, &asked.function.name).ok_or_else(refused)?;
        let decision = {
            let input = if rule.uses_input() {
                serde_json::from_slice(asked.input).map_err(|_| refused())?
            } else {
                Json::Null
            };
            let call = Call::new(asked.method, &input);
            rule.decide_of_call(&Facts {
                incoming: Incoming::Call(&call),
                ..Facts::of(&bound.caller, bound.now)
            })
        };
        let filter = match decision {
            Decision::Allow => return Ok(()),
            Decision::Deny => return Err(refused()),
            Decision::Filter(filter) => filter,
        };
        let read = Read {
            statements: vec![alyx_query::holds(files(), &filter)],
            cost: ReadCost::Scan,
            deadline: asked.deadline,
        };
        let reply = store.read(read).await?;
        match reply.results.first() {
            Some(rows) if !rows.rows.is_empty() => Ok(()),
            Some(_) | None => Err(refused()),
        }
    }
}
