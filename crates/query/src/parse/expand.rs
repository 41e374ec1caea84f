//! What is to be read along: dotted names of fields that refer.

use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result, Value};
use alyx_schema::{Bucket, file_field, files};

use super::subject::{Reach, Scope};
use super::suggest::{did_you_mean, shown};
use super::{invalid_query, unknown_field};
use crate::ast::{CompareOp, Filter};
use crate::expand::Expand;

/// References that one name follows at most.
const MAX_DEPTH: usize = 4;
/// References of all names together at most; each is one query.
const MAX_EXPANDED: usize = 16;
/// Reads `author,author.team`. A name implies those before its dots.
pub(super) struct ExpandReader<'c> {
    scope: Scope<'c>,
    found: Vec<Expand>,
    count: usize,
}

impl<'c> ExpandReader<'c> {
    pub(super) fn new(scope: Scope<'c>) -> Self {
        Self {
            scope,
            found: Vec::new(),
            count: 0,
        }
    }

    pub(super) fn read(&mut self, text: &str) -> Result<()> {
        if text.trim().is_empty() {
            return Ok(());
        }
        text.split(',').try_for_each(|name| self.name(name.trim()))
    }

    fn name(&mut self, name: &str) -> Result<()> {
        let mut scope = self.scope;
        let mut level = &mut self.found;
        for (depth, step) in name.split('.').enumerate() {
            if depth == MAX_DEPTH {
                let problem = format_args!("`{}` follows more than {MAX_DEPTH} references", shown(name));
                return Err(invalid_query(problem).with_field("expand"));
            }
            let (field, _) = scope
                .referring(step)
                .ok_or_else(|| invalid_query(unknown_field(scope.collection, step)).with_field("expand"))?;
            let Referred { next, target, bucket } = referred(scope, field)?;
            let place = level.iter().position(|expand| expand.field == field);
            let place = if let Some(place) = place {
                place
            } else {
                self.count += 1;
                if self.count > MAX_EXPANDED {
                    let problem = format_args!("`expand` has more than {MAX_EXPANDED} references");
                    return Err(invalid_query(problem).with_field("expand"));
                }
                level.push(Expand {
                    field,
                    collection: Arc::clone(next.collection),
                    target,
                    filter: bucket.map_or(Filter::TRUE, |bucket| of_bucket(bucket)),
                    bucket: bucket.cloned(),
                    inner: Vec::new(),
                });
                level.len() - 1
            };
            level = &mut level[place].inner;
            scope = next;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<Expand> {
        self.found
    }
}

/// What a field refers to.
struct Referred<'c> {
    next: Scope<'c>,
    target: usize,
    bucket: Option<&'c Arc<Bucket>>,
}

/// The files of a bucket.
fn of_bucket(bucket: &Bucket) -> Filter {
    Filter::Compare {
        field: file_field::BUCKET,
        op: CompareOp::Eq,
        value: Value::text(bucket.name.as_str()),
    }
}

fn referred(scope: Scope<'_>, position: usize) -> Result<Referred<'_>> {
    let field = &scope.collection.fields[position];
    if let (Some(rule), Some((schema, reach))) = (&field.file, scope.around)
        && let Some(bucket) = schema.buckets.get(&rule.bucket)
    {
        if reach == Reach::Caller && !bucket.access.read {
            let message = format!(
                "`{}` cannot be expanded: the schema does not let callers read files of the bucket `{}`",
                field.name, bucket.name
            );
            return Err(Error::new(ErrorKind::Forbidden, "FORBIDDEN", message).with_field("expand"));
        }
        return Ok(Referred {
            next: Scope::from(files()),
            target: file_field::ID,
            bucket: Some(bucket),
        });
    }
    if let (Some(reference), Some((schema, Reach::Caller))) = (&field.references, scope.around)
        && let Some(target) = schema.collection(&reference.collection)
        && !target.access.read
    {
        return Err(Error::new(
            ErrorKind::Forbidden,
            "FORBIDDEN",
            format!(
                "`{}` cannot be expanded: the schema does not let callers read documents of `{}`",
                field.name, target.name
            ),
        )
        .with_field("expand"));
    }
    let found = scope.referred(field).map_err(|problem| {
        let fields = scope.collection.fields.iter().filter(|field| !field.internal);
        let expandable = fields.filter(|field| field.references.is_some() || field.file.is_some());
        let names: Vec<&str> = expandable.map(|field| field.name.as_str()).collect();
        let hint = did_you_mean(&field.name, names.iter().copied()).unwrap_or_else(|| {
            format!(
                "what can be expanded: {}",
                if names.is_empty() {
                    "nothing".to_owned()
                } else {
                    names.join(", ")
                }
            )
        });
        invalid_query(format_args!("`{}` {problem}: {hint}", field.name)).with_field("expand")
    });
    found.map(|(next, target)| Referred {
        next,
        target,
        bucket: None,
    })
}
