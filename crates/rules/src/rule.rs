//! The rules of a schema, and what they decide.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use alyx_core::{Caller, Value};
use alyx_query::Filter;
use alyx_schema::{Collection, Schema, files};

use crate::bind::{Bound, Subject, bind};
use crate::call::Call;
use crate::eval::Evaluator;
use crate::expr::{CallPart, Expr, Node};
use crate::problem::Problem;

/// What is done to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A new one is stored.
    Create,
    /// It is shown, counted, or looked at in any other way.
    Read,
    /// Some of its fields are changed.
    Update,
    /// It is removed.
    Delete,
}

impl Action {
    /// Every action, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Create, Self::Read, Self::Update, Self::Delete];

    /// The word in `schema.yaml`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// `request.method` in a rule: that of the plain request, whatever the request really is, so that a batch or a
    /// live query is under the same rule.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Create => "POST",
            Self::Read => "GET",
            Self::Update => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// What is done to a file in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileAction {
    /// A new one is uploaded.
    Create,
    /// What is known of it is shown.
    Read,
    /// What is known of it is changed.
    Update,
    /// It is removed.
    Delete,
    /// What is in it is read.
    Download,
}

impl FileAction {
    /// Every action, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::Create,
        Self::Read,
        Self::Update,
        Self::Delete,
        Self::Download,
    ];

    /// The word in `schema.yaml`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Download => "download",
        }
    }

    /// `request.method` in a rule; see [`Action::method`].
    pub const fn method(self) -> &'static str {
        match self {
            Self::Create => "POST",
            Self::Read | Self::Download => "GET",
            Self::Update => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// What a rule is decided by.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// Who acts.
    pub caller: &'f Caller,
    /// `now`, and `request.time`.
    pub now: SystemTime,
    /// `doc`, where it is known: the document of a create. Where it is not, what is decided is a filter over it.
    pub document: Option<&'f [Value]>,
    /// `data`.
    pub incoming: Incoming<'f>,
}

impl<'f> Facts<'f> {
    /// Nothing comes in.
    pub fn of(caller: &'f Caller, now: SystemTime) -> Self {
        Self {
            caller,
            now,
            document: None,
            incoming: Incoming::Nothing,
        }
    }
}

/// The values that come in.
#[derive(Debug, Clone, Copy)]
pub enum Incoming<'f> {
    /// None.
    Nothing,
    /// Any: what asks about them is taken to hold for some and not for others. For [`crate::review`].
    Unknown,
    /// A new document.
    Row(&'f [Value]),
    /// The call of a function.
    Call(&'f Call),
    /// Some fields of a document.
    Changes {
        /// New values by position.
        changes: &'f [(usize, Value)],
        /// Numbers that are added, by position.
        sums: &'f [(usize, Value)],
    },
}

/// What a rule says for one caller.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Yes, whatever the document is.
    Allow,
    /// No, whatever the document is.
    Deny,
    /// For the documents that pass the filter, in normal form. Of a create: where the filter holds, which then asks
    /// about other collections only.
    Filter(Filter),
}

impl Decision {
    /// As a filter.
    pub fn into_filter(self) -> Filter {
        match self {
            Self::Allow => Filter::TRUE,
            Self::Deny => Filter::FALSE,
            Self::Filter(filter) => filter,
        }
    }
}

/// One rule, checked against its schema.
#[derive(Clone)]
pub struct Rule {
    text: Arc<str>,
    bound: Arc<Bound>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rule").field(&self.text).finish()
    }
}

impl Rule {
    /// Checks a rule about documents of the collection.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn compile(
        schema: &Schema,
        collection: &Arc<Collection>,
        action: Action,
        text: &str,
    ) -> Result<Self, Problem> {
        Ok(Self {
            bound: Arc::new(bind(schema, collection, Subject::Document(action), text)?),
            text: text.into(),
        })
    }

    /// Checks a rule about the files of a bucket.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn compile_of_files(schema: &Schema, action: FileAction, text: &str) -> Result<Self, Problem> {
        Ok(Self {
            bound: Arc::new(bind(schema, files(), Subject::File(action), text)?),
            text: text.into(),
        })
    }

    /// Checks a rule about calls of a function.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn compile_of_calls(schema: &Schema, text: &str) -> Result<Self, Problem> {
        // A call looks at nothing stored but what it names, so any collection will do.
        Ok(Self {
            bound: Arc::new(bind(schema, files(), Subject::Call, text)?),
            text: text.into(),
        })
    }

    /// Whether it looks at what a function is called with.
    pub fn uses_input(&self) -> bool {
        let of_input = |node: &Node| matches!(node, Node::OfCall(CallPart::Input));
        self.bound.expr.any(&of_input)
    }

    /// Decides of the call in `facts`. A filter is about other collections alone. An error in the rule denies.
    pub fn decide_of_call(&self, facts: &Facts<'_>) -> Decision {
        self.decide(files(), facts)
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn expr(&self) -> &Expr {
        &self.bound.expr
    }

    /// Whether it looks at the time of day: what it decides may change without anybody's doing.
    pub fn uses_time(&self) -> bool {
        self.bound.uses_time
    }

    /// Decides. An error in the rule denies.
    pub fn decide(&self, collection: &Collection, facts: &Facts<'_>) -> Decision {
        let mut evaluator = Evaluator::new(collection, facts);
        let condition = evaluator.condition(&self.bound.expr);
        if evaluator.is_spent() {
            return Decision::Deny;
        }
        let yes = condition.yes.normalize();
        if yes.is_true() {
            Decision::Allow
        } else if yes == Filter::FALSE {
            Decision::Deny
        } else {
            Decision::Filter(yes)
        }
    }
}
