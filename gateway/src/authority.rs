//! Who a request acts for, and what the access rules let them do.
//!
//! **Invariant:** whatever shows, counts or changes documents on behalf of somebody from outside goes through an
//! [`Authority`]: reads are under its filter in the database itself, writes carry the filter of their rule or a step
//! that checks it, in the same write. For an API token the same is asked of its scopes, collection by collection.

mod calls;
mod files;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use alyx_core::{ApiToken, Caller, Error, ErrorKind, Permission, Result, Value};
use alyx_query::{Exists, Expand, Filter, Reach, Through};
use alyx_rules::{Action, Decision, Facts, Incoming, RuleSet};
use alyx_schema::{Collection, Schema};
use parking_lot::Mutex;

pub(crate) use calls::{Asked, InvokeRules};

use crate::auth::scope_missing;

/// The rules of the schema that was last asked about.
#[derive(Debug, Default)]
pub(crate) struct RuleCache {
    last: Mutex<Option<(Arc<Schema>, Arc<RuleSet>)>>,
}

impl RuleCache {
    /// The compiled rules of a schema. The control plane lets none into force that does not compile; of one that does
    /// not all the same, everything is denied.
    pub(crate) fn of(&self, schema: &Arc<Schema>) -> Arc<RuleSet> {
        let mut last = self.last.lock();
        if let Some((known, rules)) = &*last
            && Arc::ptr_eq(known, schema)
        {
            return Arc::clone(rules);
        }
        let rules = RuleSet::compile(schema).unwrap_or_else(|broken| {
            let first = broken
                .first()
                .map(|broken| format!("{}: {}", broken.rule.path, broken.problem));
            tracing::error!(first, "the schema's rules do not compile: everything is denied");
            RuleSet::default()
        });
        let rules = Arc::new(rules);
        *last = Some((Arc::clone(schema), Arc::clone(&rules)));
        rules
    }
}

/// What one caller may do, at one time, under the rules of one schema. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    /// None for whom rules do not bind.
    bound: Option<Arc<Bound>>,
    /// Where scopes bind.
    token: Option<Arc<ApiToken>>,
}

#[derive(Debug)]
struct Bound {
    rules: Arc<RuleSet>,
    caller: Caller,
    now: SystemTime,
}

impl Authority {
    pub(crate) fn of(rules: Arc<RuleSet>, caller: &Caller, now: SystemTime) -> Self {
        let token = match caller {
            Caller::Token(token) if !token.scopes.is_unlimited() => Some(Arc::clone(token)),
            Caller::Token(_) | Caller::Anonymous | Caller::Account(_) | Caller::Operator | Caller::System => {
                None
            }
        };
        let caller = Some(caller).filter(|caller| caller.is_bound_by_rules());
        let bound = caller.map(|caller| {
            Arc::new(Bound {
                rules,
                caller: caller.clone(),
                now,
            })
        });
        Self { bound, token }
    }

    /// The authority of a function, which rules do not bind.
    pub(crate) const fn system() -> Self {
        Self {
            bound: None,
            token: None,
        }
    }

    /// Whether everything may be done.
    fn is_unlimited(&self) -> bool {
        self.bound.is_none() && self.token.is_none()
    }

    /// Whether the scopes of a token let it do that, whatever the documents are.
    ///
    /// Errors: `SCOPE_MISSING`.
    fn scoped(&self, collection: &Collection, action: Action) -> Result<()> {
        let name = collection.name.as_str();
        let permission = match action {
            Action::Read => Permission::Read(name),
            Action::Create | Action::Update | Action::Delete => Permission::Write(name),
        };
        match &self.token {
            Some(token) if !token.scopes.allow(permission) => Err(scope_missing(permission)),
            Some(_) | None => Ok(()),
        }
    }

    /// How far queries reach.
    pub(crate) fn reach(&self) -> Reach {
        match self.bound {
            Some(_) => Reach::Caller,
            None => Reach::Function,
        }
    }

    /// Whether the collection is not closed to everybody from outside.
    ///
    /// Errors: `FORBIDDEN`, `SCOPE_MISSING`. Said before anything is looked up, so it tells nothing about single
    /// documents.
    pub(crate) fn permit(&self, collection: &Collection, action: Action) -> Result<()> {
        self.scoped(collection, action)?;
        let access = collection.access;
        let open = match action {
            Action::Create => access.create,
            Action::Read => access.read,
            Action::Update => access.update,
            Action::Delete => access.delete,
        };
        if open || self.bound.is_none() {
            return Ok(());
        }
        let message = format!(
            "the schema does not let callers {} documents of `{}`",
            action.word(),
            collection.name
        );
        Err(Error::new(ErrorKind::Forbidden, "FORBIDDEN", message))
    }

    fn decide(
        &self,
        collection: &Collection,
        action: Action,
        facts: impl FnOnce(Facts<'_>) -> Decision,
    ) -> Result<Filter> {
        self.scoped(collection, action)?;
        let Some(bound) = &self.bound else {
            return Ok(Filter::TRUE);
        };
        match facts(Facts::of(&bound.caller, bound.now)) {
            Decision::Allow => Ok(Filter::TRUE),
            Decision::Deny => Err(refused(collection, action)),
            Decision::Filter(filter) => Ok(filter),
        }
    }

    fn rules(&self) -> &RuleSet {
        static NONE: std::sync::LazyLock<RuleSet> = std::sync::LazyLock::new(RuleSet::default);
        self.bound.as_ref().map_or(&NONE, |bound| &bound.rules)
    }

    /// What documents the caller may read.
    ///
    /// Errors: `FORBIDDEN` where there are none, whatever is stored.
    pub(crate) fn read(&self, collection: &Collection) -> Result<Filter> {
        self.decide(collection, Action::Read, |facts| {
            self.rules().decide(collection, Action::Read, &facts)
        })
    }

    /// The same; false of every document where there are none.
    pub(crate) fn visible(&self, collection: &Collection) -> Filter {
        self.read(collection).unwrap_or(Filter::FALSE)
    }

    /// What must hold for the caller to store the document: something about other collections.
    ///
    /// Errors: `FORBIDDEN`.
    pub(crate) fn create(&self, collection: &Collection, row: &[Value]) -> Result<Filter> {
        self.decide(collection, Action::Create, |facts| {
            let facts = Facts {
                document: Some(row),
                incoming: Incoming::Row(row),
                ..facts
            };
            self.rules().decide(collection, Action::Create, &facts)
        })
    }

    /// What documents the caller may change so. `sums` are numbers to add.
    ///
    /// Errors: `FORBIDDEN` where there are none, whatever is stored.
    pub(crate) fn update(
        &self,
        collection: &Collection,
        changes: &[(usize, Value)],
        sums: &[(usize, Value)],
    ) -> Result<Filter> {
        self.decide(collection, Action::Update, |facts| {
            let facts = Facts {
                incoming: Incoming::Changes { changes, sums },
                ..facts
            };
            self.rules().decide(collection, Action::Update, &facts)
        })
    }

    /// What documents the caller may delete.
    ///
    /// Errors: `FORBIDDEN` where there are none, whatever is stored.
    pub(crate) fn delete(&self, collection: &Collection) -> Result<Filter> {
        self.decide(collection, Action::Delete, |facts| {
            self.rules().decide(collection, Action::Delete, &facts)
        })
    }

    /// Whether writing a document whose like may or may not be there needs to know which.
    pub(crate) fn must_look_before_upsert(&self, collection: &Collection) -> bool {
        let rules = &collection.rules;
        self.bound.is_some() && (rules.create.is_some() || rules.update.is_some() || rules.read.is_some())
    }

    /// A filter of the caller's over what the caller may read, `rule`; also of the documents that it refers to.
    pub(crate) fn limited(&self, rule: &Filter, filter: Filter) -> Filter {
        if self.is_unlimited() {
            return filter;
        }
        let filter = if filter.is_local() {
            filter
        } else {
            self.guarded(filter.normalize())
        };
        if rule.is_true() {
            return filter;
        }
        Filter::And(vec![rule.clone(), filter]).normalize()
    }

    /// References lead to what the caller may read only: all else is as if it were not there. Negation is at the leaves.
    fn guarded(&self, filter: Filter) -> Filter {
        match filter {
            Filter::And(parts) => Filter::And(parts.into_iter().map(|part| self.guarded(part)).collect()),
            Filter::Or(parts) => Filter::Or(parts.into_iter().map(|part| self.guarded(part)).collect()),
            Filter::Through(through) => self.guarded_reference(*through),
            other => other,
        }
    }

    fn guarded_reference(&self, through: Through) -> Filter {
        let rule = self.visible(&through.collection);
        let inner = self.guarded(through.filter);
        if rule.is_true() {
            return Filter::Through(Box::new(Through {
                filter: inner,
                ..through
            }));
        }
        let found = |filter: Filter| {
            Filter::Exists(Box::new(Exists {
                field: Some(through.field),
                collection: Arc::clone(&through.collection),
                target: through.target,
                filter,
            }))
        };
        let of_nothing = inner.eval(&[]) == Some(true);
        let passes = found(Filter::And(vec![rule.clone(), inner]));
        if of_nothing {
            Filter::Or(vec![passes, Filter::Not(Box::new(found(rule)))])
        } else {
            passes
        }
    }

    /// What is read along with documents is under its own rules.
    pub(crate) fn limit_expanded(&self, expand: &mut [Expand]) {
        if self.is_unlimited() {
            return;
        }
        for expand in expand {
            expand.filter = match &expand.bucket {
                Some(bucket) => self.visible_files(bucket),
                None => self.visible(&expand.collection),
            };
            self.limit_expanded(&mut expand.inner);
        }
    }
}

/// The rule says no, whatever the document is.
fn refused(collection: &Collection, action: Action) -> Error {
    let message = format!(
        "the rules of `{}` do not let you {} {}",
        collection.name,
        action.word(),
        match action {
            Action::Create => "such a document",
            Action::Read | Action::Delete => "its documents",
            Action::Update => "its documents so",
        }
    );
    Error::new(ErrorKind::Forbidden, "FORBIDDEN", message)
}

/// The rule says no of this document, which the caller may know to be there.
pub(crate) fn forbidden(collection: &Collection, action: Action) -> Error {
    let message = match action {
        Action::Create => return refused(collection, action),
        Action::Read | Action::Update | Action::Delete => format!(
            "the rules of `{}` do not let you {} this document{}",
            collection.name,
            action.word(),
            if action == Action::Update { " so" } else { "" }
        ),
    };
    Error::new(ErrorKind::Forbidden, "FORBIDDEN", message)
}
