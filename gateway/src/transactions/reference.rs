//! `{"$ref": "0.id"}`: what an earlier operation of the same batch made, in the place of a value.

use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result, Row};
use alyx_schema::{Collection, write_json};
use bytes::Bytes;
use memchr::memmem;
use serde_json::{Map, Value as Json};

use super::operation::{Id, Kind, Operation};

const MEMBER: &str = "$ref";

/// A field of an earlier operation's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) operation: usize,
    pub(crate) field: String,
}

impl Reference {
    /// The reference that a value is; `None` where it is an ordinary value.
    ///
    /// Errors: `INVALID_REFERENCE` where it is neither.
    pub(crate) fn of(json: &Json) -> Result<Option<Self>> {
        let Json::Object(members) = json else {
            return Ok(None);
        };
        let (1, Some(target)) = (members.len(), members.get(MEMBER)) else {
            return Ok(None);
        };
        let parsed = target.as_str().and_then(|text| text.split_once('.'));
        parsed
            .and_then(|(number, field)| {
                Some(Self {
                    operation: number.parse().ok()?,
                    field: field.to_owned(),
                })
            })
            .map(Some)
            .ok_or_else(|| {
                invalid(format!(
                    "a reference is written {{\"$ref\": \"0.id\"}}, not {json}"
                ))
            })
    }
}

/// What the operations up to now have made, by their number.
#[derive(Debug, Default)]
pub(crate) struct Made {
    rows: Vec<Option<(Arc<Collection>, Row)>>,
}

impl Made {
    /// Notes what the next operation made: the row of a create, nothing else.
    pub(crate) fn push(&mut self, operation: &Operation, row: Option<&Row>) {
        let creates = operation.kind == Kind::Create;
        let row = row.filter(|_| creates);
        self.rows
            .push(row.map(|row| (Arc::clone(&operation.collection), row.clone())));
    }

    fn resolve(&self, reference: &Reference) -> Result<Json> {
        let Reference { operation, field } = reference;
        let made = self.rows.get(*operation).ok_or_else(|| {
            invalid(format!(
                "`{operation}.{field}`: only an operation before this one can be referred to"
            ))
        })?;
        let (collection, row) = made.as_ref().ok_or_else(|| {
            invalid(format!(
                "`{operation}.{field}`: operation {operation} creates nothing that could be referred to"
            ))
        })?;
        let (position, _) = collection.visible_field(field).ok_or_else(|| {
            invalid(format!(
                "`{operation}.{field}`: `{}` has no field `{field}`",
                collection.name
            ))
        })?;
        let mut text = Vec::new();
        write_json(collection, row, Some(&[position]), &mut text);
        let document: Map<String, Json> = serde_json::from_slice(&text).map_err(Error::internal)?;
        Ok(document.get(field).cloned().unwrap_or_default())
    }

    /// The operation's key as a path would have it.
    pub(crate) fn id<'a>(&self, operation: &'a Operation) -> Result<Option<std::borrow::Cow<'a, str>>> {
        Ok(match &operation.id {
            Id::InData => None,
            Id::Given(id) => Some(id.into()),
            Id::Ref(reference) => Some(match self.resolve(reference)? {
                Json::String(text) => text.into(),
                other => other.to_string().into(),
            }),
        })
    }

    /// The operation's data with the values in the place of references.
    pub(crate) fn data(&self, operation: &Operation) -> Result<Bytes> {
        if !mentions(&operation.data) {
            return Ok(operation.data.clone());
        }
        let Ok(Json::Object(mut members)) = serde_json::from_slice(&operation.data) else {
            // Whoever reads it as a document says what is wrong with it.
            return Ok(operation.data.clone());
        };
        for value in members.values_mut() {
            if let Some(reference) = Reference::of(value)? {
                *value = self.resolve(&reference)?;
            }
        }
        serde_json::to_vec(&members)
            .map(Bytes::from)
            .map_err(Error::internal)
    }
}

/// Numbers of the operations to whose keys others refer: these keys must be known before anything is written.
pub(crate) fn referred(operations: &[Operation]) -> Vec<usize> {
    let mut numbers = Vec::new();
    for operation in operations {
        if let Id::Ref(reference) = &operation.id {
            numbers.push(reference.operation);
        }
        if mentions(&operation.data)
            && let Ok(Json::Object(members)) = serde_json::from_slice(&operation.data)
        {
            let references = members.values().filter_map(|value| Reference::of(value).ok()?);
            numbers.extend(references.map(|reference| reference.operation));
        }
    }
    numbers
}

fn mentions(data: &[u8]) -> bool {
    memmem::find(data, MEMBER.as_bytes()).is_some()
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, "INVALID_REFERENCE", message)
}
