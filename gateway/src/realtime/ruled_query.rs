//! What a subscription asks for: its query, read with the schema of the moment, and what the access rules add to it for
//! who asks.
//!
//! Rules that look at the time of day say something else later, without anybody's doing. Such a subscription is shared by
//! nobody but its caller's own, and the rules are asked again for it every [`RULES_EVERY`] seconds.

use std::sync::Arc;
use std::time::SystemTime;

use alyx_core::{Caller, Error, ErrorKind};
use alyx_query::{Filter, Query, Reach, Scope, parse_query_json};
use alyx_rules::{Action, Rule, RuleSet};
use alyx_schema::Collection;
use alyx_service::state::DesiredState;

use super::group::{GroupKey, State};
use crate::authority::Authority;

/// Seconds from one look at rules that look at the time to the next.
pub(super) const RULES_EVERY: u32 = 10;

/// A subscription's query and what rules make of it.
#[derive(Debug)]
pub(crate) struct RuledQuery {
    /// As it was asked for.
    query: Query,
    /// See [`Ruled`].
    pub(super) ruled: Ruled,
}

/// What rules add to a query.
#[derive(Debug, Clone, Default)]
pub(super) struct Ruled {
    /// The query's filter together with the rules', in terms of the schema that it was first read with; none where they
    /// add nothing.
    pub(super) filter: Option<Filter>,
    /// Whom the rules are to be asked for again as time passes, where they look at it.
    pub(super) caller: Option<Caller>,
}

impl RuledQuery {
    /// Reads a subscription.
    ///
    /// Errors: `COLLECTION_NOT_FOUND`, `FORBIDDEN`, those of reading the query.
    pub(crate) fn read(
        rules: &Arc<RuleSet>,
        desired: &DesiredState,
        caller: &Caller,
        (collection, asked): (&str, &serde_json::Value),
    ) -> Result<Self, Error> {
        let known = find(desired, collection)?;
        let authority = Authority::of(Arc::clone(rules), caller, SystemTime::now());
        authority.permit(known, Action::Read)?;
        let rule = authority.read(known)?;
        let query = parse_query_json(scope(desired, known), asked)?;
        let plain = query.filter.clone().normalize();
        let limited = authority.limited(&rule, query.filter.clone()).normalize();
        // What holds now, and nothing of it is left, may not hold in an hour.
        let by_time = |collection: &Collection| {
            let rule = rules.rule(collection, Action::Read);
            rule.is_some_and(Rule::uses_time)
        };
        let timed = caller.is_bound_by_rules() && (by_time(known) || query.filter.reaches(&by_time));
        Ok(Self {
            query,
            ruled: Ruled {
                filter: (limited != plain).then_some(limited),
                caller: timed.then(|| caller.clone()),
            },
        })
    }

    /// Reads a group's query once more. Under another schema its subscribers may no longer be allowed the same, or all
    /// of them what one is; who they are is known to their sockets, so they have to subscribe again.
    ///
    /// Errors: as [`RuledQuery::read`], and `SCHEMA_CHANGED`.
    pub(super) fn again(
        desired: &DesiredState,
        state: &State,
        asked: &serde_json::Value,
    ) -> Result<Self, Error> {
        let name = &state.collection.name;
        let known = find(desired, name)?;
        if !known.access.read {
            let message = format!("documents of {name} may not be read");
            return Err(Error::new(ErrorKind::Forbidden, "FORBIDDEN", message));
        }
        let query = parse_query_json(scope(desired, known), asked)?;
        let moved = desired.schema_revision != state.key.schema;
        let ruled = |collection: &Collection| collection.rules.read.is_some();
        if moved && (state.ruled.filter.is_some() || ruled(known) || query.filter.reaches(&ruled)) {
            let message = format!(
                "the schema has changed, and documents of `{name}` are under a rule: subscribe again"
            );
            return Err(Error::new(ErrorKind::Conflict, "SCHEMA_CHANGED", message));
        }
        let ruled = state.ruled.clone();
        Ok(Self { query, ruled })
    }

    /// Which subscriptions share its group: those that mean the same, for now and later.
    pub(super) fn key(&self, schema: u64) -> GroupKey {
        let account = |caller: &Caller| caller.account().map(|account| account.to_json().to_string());
        match &self.ruled.caller {
            None => GroupKey {
                schema,
                query: self.query().canonical(),
                caller: None,
            },
            Some(caller) => GroupKey {
                schema,
                query: self.query.canonical(),
                caller: Some(account(caller).unwrap_or_default()),
            },
        }
    }

    /// The query under its rules.
    pub(crate) fn query(&self) -> Query {
        let filter = self.ruled.filter.as_ref().unwrap_or(&self.query.filter);
        Query {
            filter: filter.clone(),
            ..self.query.clone()
        }
    }

    /// Whose documents are asked for.
    pub(super) fn collection(&self) -> Arc<Collection> {
        Arc::clone(&self.query.collection)
    }
}

fn scope<'d>(desired: &'d DesiredState, collection: &'d Arc<Collection>) -> Scope<'d> {
    Scope::new(&desired.schema, collection, Reach::Caller)
}

fn find<'d>(desired: &'d DesiredState, collection: &str) -> Result<&'d Arc<Collection>, Error> {
    desired.schema.collection(collection).ok_or_else(|| {
        let shown: String = collection.chars().take(64).collect();
        let message = format!("there is no collection {shown:?}");
        Error::new(ErrorKind::NotFound, "COLLECTION_NOT_FOUND", message)
    })
}
