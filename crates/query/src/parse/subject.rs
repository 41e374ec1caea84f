//! What a condition is about: a field, a place inside a json field, or either of them in a document that is
//! referred to.

use std::sync::Arc;

use alyx_core::{Error, Result};
use alyx_schema::{Collection, Field, FieldType, Schema};

use super::suggest::shown;
use super::{invalid_filter, unknown_field};
use crate::ast::{Filter, Through};
use crate::json_path::JsonPath;

/// References that one path may follow.
const MAX_HOPS: usize = 4;
/// What the names of fields with a key end with.
const KEY_SUFFIX: &str = "_id";

/// Whose authority a query has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Somebody from outside: what is referred to must be open to read.
    Caller,
    /// A function: every collection is open to it.
    Function,
}

/// A collection to ask, and what can be reached from it. Without a schema, references cannot be followed.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'c> {
    pub(super) collection: &'c Arc<Collection>,
    pub(super) around: Option<(&'c Schema, Reach)>,
}

impl<'c> Scope<'c> {
    /// A collection of that schema.
    pub fn new(schema: &'c Schema, collection: &'c Arc<Collection>, reach: Reach) -> Self {
        Self {
            collection,
            around: Some((schema, reach)),
        }
    }

    /// The field of that name, or with that name and `_id`: what holds a key may be named by what it refers to.
    pub(super) fn referring(self, name: &str) -> Option<(usize, &'c Field)> {
        let collection: &'c Collection = self.collection;
        collection
            .visible_field(name)
            .or_else(|| collection.visible_field(&format!("{name}{KEY_SUFFIX}")))
    }

    /// Whether a name, dotted or not, begins with one of the collection's fields.
    pub(super) fn names(self, name: &str) -> bool {
        match name.split_once('.') {
            None => self.collection.visible_field(name).is_some(),
            Some((first, _)) => self.referring(first).is_some(),
        }
    }

    /// The collection that the field refers to, and the position of the field that it refers to.
    ///
    /// The error is the end of a sentence that names the field.
    pub(super) fn referred(self, field: &Field) -> Result<(Scope<'c>, usize), String> {
        let Some(reference) = &field.references else {
            let kind = field.kind.name();
            return Err(format!("is {kind} and refers to nothing"));
        };
        let Some((schema, reach)) = self.around else {
            return Err(
                "cannot be followed here: only documents of this collection are looked at".to_owned(),
            );
        };
        let name = &reference.collection;
        let found = schema
            .collection(name)
            .and_then(|target| Some((target, target.field(&reference.field)?.0)));
        let (target, position) = found.ok_or_else(|| format!("refers to `{name}`, which is not there"))?;
        if reach == Reach::Caller && !target.access.read {
            return Err(format!("refers to `{name}`, whose documents may not be read"));
        }
        let scope = Scope {
            collection: target,
            around: self.around,
        };
        Ok((scope, position))
    }
}

impl<'c> From<&'c Arc<Collection>> for Scope<'c> {
    fn from(collection: &'c Arc<Collection>) -> Self {
        Self {
            collection,
            around: None,
        }
    }
}

/// A field or a place in a json field, and the way there.
#[derive(Debug, Clone)]
pub(super) struct Subject<'c> {
    pub(super) position: usize,
    pub(super) field: &'c Field,
    pub(super) path: Option<Arc<JsonPath>>,
    /// As the caller wrote it.
    pub(super) name: String,
    hops: Vec<(usize, Arc<Collection>, usize)>,
}

impl<'c> Subject<'c> {
    /// What `name` names in the collection.
    ///
    /// Errors: `INVALID_FILTER`.
    pub(super) fn find(scope: Scope<'c>, name: &str) -> Result<Self> {
        let mut here = scope;
        let mut hops = Vec::new();
        let mut rest = name;
        loop {
            let (first, behind) = match rest.split_once('.') {
                None => (rest, None),
                Some((first, behind)) => (first, Some(behind)),
            };
            let found = here.collection.visible_field(first);
            let referring = || here.referring(first).filter(|_| behind.is_some());
            let (position, field) = found.or_else(referring).ok_or_else(|| {
                invalid_filter(unknown_field(here.collection, first)).with_field(shown(name))
            })?;
            let mut subject = Self {
                position,
                field,
                path: None,
                name: shown(name),
                hops: Vec::new(),
            };
            match behind {
                None => {}
                Some(path) if field.kind == FieldType::Json => {
                    let path = JsonPath::parse(path).map_err(|problem| subject.about(problem))?;
                    subject.path = Some(Arc::new(path));
                }
                Some(behind) => {
                    if hops.len() == MAX_HOPS {
                        let problem = format_args!("follows more than {MAX_HOPS} references");
                        return Err(subject.about(problem));
                    }
                    let (next, target) = here.referred(field).map_err(|problem| {
                        invalid_filter(format_args!("`{}` is no field: `{first}` {problem}", shown(name)))
                            .with_field(shown(name))
                    })?;
                    hops.push((position, Arc::clone(next.collection), target));
                    (here, rest) = (next, behind);
                    continue;
                }
            }
            subject.hops = hops;
            return Ok(subject);
        }
    }

    /// An error about a condition on this.
    pub(super) fn about(&self, problem: impl std::fmt::Display) -> Error {
        invalid_filter(format_args!("`{}` {problem}", self.name)).with_field(self.name.clone())
    }

    /// A filter about the last collection on the way, as one about the first.
    pub(super) fn wrapped(&self, filter: Filter) -> Filter {
        self.hops
            .iter()
            .rev()
            .fold(filter, |filter, (field, collection, target)| {
                Filter::Through(Box::new(Through {
                    field: *field,
                    collection: Arc::clone(collection),
                    target: *target,
                    filter,
                }))
            })
    }
}
