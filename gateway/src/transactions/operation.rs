//! Operations on documents as data: what one request asks of one document, and how a batch writes it in JSON.

use std::borrow::Cow;
use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result, Value};
use alyx_query::{CompareOp, Filter, parse_filter_json};
use alyx_schema::{Collection, FieldType};
use alyx_service::state::DesiredState;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::etag::Preconditions;
use super::reference::Reference;
use alyx_rules::Action;

use crate::authority::Authority;
use crate::documents::find;

/// Operations of one batch at most.
pub(crate) const MAX_OPERATIONS: usize = 1_000;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Create,
    Update,
    Upsert,
    Delete,
}

impl Kind {
    /// The word in a batch.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Create => "create",
            Self::Update => "update",
            Self::Upsert => "upsert",
            Self::Delete => "delete",
        }
    }

    fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "get" => Self::Get,
            "create" => Self::Create,
            "update" => Self::Update,
            "upsert" => Self::Upsert,
            "delete" => Self::Delete,
            _ => return Err(invalid("`op` must be create, update, upsert, delete or get")),
        })
    }

    /// What the schema must allow.
    const fn actions(self) -> &'static [Action] {
        match self {
            Self::Get => &[Action::Read],
            Self::Create => &[Action::Create],
            Self::Update => &[Action::Update],
            Self::Upsert => &[Action::Create, Action::Update],
            Self::Delete => &[Action::Delete],
        }
    }
}

/// The document that an operation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Id {
    /// Its key is in the data, or is made.
    InData,
    /// As a path would have it.
    Given(String),
    /// What an earlier operation made.
    Ref(Reference),
}

/// One operation.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    pub(crate) collection: Arc<Collection>,
    pub(crate) id: Id,
    /// The fields as JSON; `{}` where there are none.
    pub(crate) data: Bytes,
    /// Numbers to add, by position.
    pub(crate) increments: Vec<(usize, Value)>,
    /// What the document must be before.
    pub(crate) condition: Option<Filter>,
    /// Which version of it is meant.
    pub(crate) preconditions: Preconditions,
    /// What its caller may do.
    pub(crate) authority: Authority,
}

impl Operation {
    /// An operation without conditions.
    pub(crate) fn new(
        kind: Kind,
        collection: &Arc<Collection>,
        (id, data): (Id, Bytes),
        authority: Authority,
    ) -> Self {
        Self {
            kind,
            collection: Arc::clone(collection),
            id,
            data,
            increments: Vec::new(),
            condition: None,
            preconditions: Preconditions::default(),
            authority,
        }
    }

    /// Whether it can only be carried out by who has read its document.
    pub(crate) fn depends_on_what_is_there(&self) -> bool {
        let upsert = self.kind == Kind::Upsert && self.authority.must_look_before_upsert(&self.collection);
        upsert || !self.preconditions.is_empty()
    }

    /// Whether it says what the document must be before.
    pub(crate) fn is_conditional(&self) -> bool {
        self.condition.is_some() || !self.preconditions.is_empty()
    }

    /// What the rules call it.
    pub(crate) const fn action(&self) -> Action {
        match self.kind {
            Kind::Get => Action::Read,
            Kind::Create | Kind::Upsert => Action::Create,
            Kind::Update => Action::Update,
            Kind::Delete => Action::Delete,
        }
    }

    /// What the sums of its increments must be within, by the rules of their fields.
    pub(crate) fn bounds(&self) -> Option<(Filter, &str)> {
        let mut parts = Vec::new();
        let mut name = "";
        for &(position, _) in &self.increments {
            let field = &self.collection.fields[position];
            let limits = [
                (CompareOp::Gte, field.validation.min),
                (CompareOp::Lte, field.validation.max),
            ];
            for (op, limit) in limits {
                let Some(limit) = limit else { continue };
                name = &field.name;
                parts.push(Filter::Compare {
                    field: position,
                    op,
                    value: Value::Float(limit),
                });
            }
        }
        (!parts.is_empty()).then_some((Filter::And(parts), name))
    }
}

/// A sum that its field's rules do not allow.
pub(crate) fn out_of_bounds(field: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "VALIDATION_ERROR",
        format!("`{field}` would leave the range that the schema sets for it"),
    )
    .with_field(field)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchBody<'a> {
    #[serde(borrow)]
    operations: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(borrow)]
    collection: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    increment: Option<serde_json::Map<String, Json>>,
    #[serde(rename = "if")]
    condition: Option<Json>,
    #[serde(borrow, rename = "ifMatch")]
    if_match: Option<Cow<'a, str>>,
}

/// Reads the body of a batch and checks that callers may do what it says.
///
/// Errors: `INVALID_JSON`, `INVALID_BATCH`, and those of single operations with the operation's number as step.
pub(crate) fn read_batch(
    state: &DesiredState,
    authority: &Authority,
    body: &Bytes,
) -> Result<Vec<Operation>> {
    let batch: BatchBody<'_> = serde_json::from_slice(body).map_err(|error| {
        Error::new(
            ErrorKind::InvalidInput,
            "INVALID_JSON",
            format!("the body must be {{\"operations\": […]}}: {error}"),
        )
    })?;
    let count = batch.operations.len();
    if count == 0 || count > MAX_OPERATIONS {
        return Err(invalid(format!(
            "a batch has 1 to {MAX_OPERATIONS} operations, not {count}"
        )));
    }
    let read = |(number, raw): (usize, &&RawValue)| {
        read_operation(state, authority, (body, raw)).map_err(|error| error.with_step(number))
    };
    batch.operations.iter().enumerate().map(read).collect()
}

fn read_operation(
    state: &DesiredState,
    authority: &Authority,
    (body, raw): (&Bytes, &RawValue),
) -> Result<Operation> {
    let written: Written<'_> = serde_json::from_str(raw.get()).map_err(|error| {
        invalid(format!(
            "an operation has `op`, `collection`, and what goes with it: {error}"
        ))
    })?;
    let kind = Kind::parse(&written.op)?;
    let collection = find(state, &written.collection)?;
    for action in kind.actions() {
        authority.permit(collection, *action)?;
    }
    let data = match written.data {
        Some(data) => body.slice_ref(data.get().as_bytes()),
        None => Bytes::from_static(b"{}"),
    };
    let id = read_id(written.id)?;
    check_members(kind, &id, &written)?;
    let mut operation = Operation::new(kind, collection, (id, data), authority.clone());
    if let Some(numbers) = &written.increment {
        operation.increments = read_increments(collection, numbers)?;
    }
    if let Some(condition) = &written.condition {
        operation.condition = Some(parse_filter_json(collection, condition)?);
    }
    if let Some(tags) = &written.if_match {
        operation.preconditions = Preconditions::if_match(tags)?;
    }
    if operation.condition.is_some() || !operation.preconditions.is_empty() {
        // Whether a condition holds tells something about the document.
        authority.permit(collection, Action::Read)?;
    }
    Ok(operation)
}

/// Whether an operation of that kind has these members.
fn check_members(kind: Kind, id: &Id, written: &Written<'_>) -> Result<()> {
    let word = kind.word();
    let has_id = *id != Id::InData;
    let conditional = written.condition.is_some() || written.if_match.is_some();
    let problem = match kind {
        Kind::Get | Kind::Update | Kind::Delete if !has_id => "needs `id`",
        Kind::Create if has_id => "takes the key in `data`, not as `id`",
        Kind::Upsert if has_id => "takes the key in `data`, not as `id`",
        Kind::Create | Kind::Upsert if written.data.is_none() => "needs `data`",
        Kind::Get | Kind::Delete if written.data.is_some() => "takes no `data`",
        Kind::Update if written.data.is_none() && written.increment.is_none() => {
            "needs `data` or `increment`"
        }
        Kind::Get | Kind::Create | Kind::Upsert | Kind::Delete if written.increment.is_some() => {
            "takes no `increment`"
        }
        Kind::Create | Kind::Upsert if conditional => "takes no `if` and no `ifMatch`",
        Kind::Get | Kind::Create | Kind::Update | Kind::Upsert | Kind::Delete => return Ok(()),
    };
    Err(invalid(format!("`{word}` {problem}")))
}

/// A key: text, a whole number, or a reference.
fn read_id(raw: Option<&RawValue>) -> Result<Id> {
    let Some(raw) = raw.map(RawValue::get) else {
        return Ok(Id::InData);
    };
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw)
            .map(Id::Given)
            .map_err(|error| invalid(format!("`id`: {error}"))),
        Some(b'-' | b'0'..=b'9') => Ok(Id::Given(raw.to_owned())),
        Some(b'{') => serde_json::from_str::<Json>(raw)
            .ok()
            .and_then(|json| Reference::of(&json).transpose())
            .ok_or_else(|| invalid("`id` must be a key or {\"$ref\": \"0.id\"}"))?
            .map(Id::Ref),
        _ => Err(invalid(format!(
            "`id` must be a text, a number or a reference, not {raw}"
        ))),
    }
}

/// Numbers to add, by the fields that they are for.
pub(crate) fn read_increments(
    collection: &Collection,
    numbers: &serde_json::Map<String, Json>,
) -> Result<Vec<(usize, Value)>> {
    let read = |(name, number): (&String, &Json)| {
        let refuse = |problem: &str| {
            Error::new(
                ErrorKind::InvalidInput,
                "VALIDATION_ERROR",
                format!("`increment`: `{name}` {problem}"),
            )
            .with_field(name.as_str())
        };
        let (position, field) = collection
            .visible_field(name)
            .ok_or_else(|| refuse("is not a field of the collection"))?;
        if field.primary || field.on_update_now {
            return Err(refuse("cannot be changed"));
        }
        let value = match field.kind {
            FieldType::Int => number.as_i64().map(Value::Int),
            FieldType::Float => number.as_f64().map(Value::Float),
            _ => return Err(refuse("holds no number")),
        };
        value
            .map(|value| (position, value))
            .ok_or_else(|| refuse("takes a number of its own type"))
    };
    numbers.iter().map(read).collect()
}

/// A batch that is none.
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, "INVALID_BATCH", message)
}
