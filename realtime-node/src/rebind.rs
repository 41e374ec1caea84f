//! Carries a query from one revision of its collection to another.

use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result};
use alyx_query::{Filter, Query, SortKey};
use alyx_schema::{Collection, Field};

/// Whether rows, images and JSON of both revisions are the same, so that a window needs no fresh start.
pub(crate) fn same_rows(a: &Collection, b: &Collection) -> bool {
    let same = |a: &Field, b: &Field| {
        a.name == b.name && a.kind == b.kind && a.internal == b.internal && a.default == b.default
    };
    a.name == b.name
        && a.primary() == b.primary()
        && a.fields.len() == b.fields.len()
        && a.fields.iter().zip(&b.fields).all(|(a, b)| same(a, b))
}

/// The same query over another revision of its collection.
///
/// # Errors
/// `SCHEMA_CHANGED` where a field that the query names is gone, internal now, or of another type.
pub(crate) fn rebind(query: &Query, collection: &Arc<Collection>) -> Result<Query> {
    let rebind = Rebind {
        old: &query.collection,
        new: collection,
    };
    let sort = query.sort.iter().map(|key| {
        Ok(SortKey {
            field: rebind.field(key.field)?,
            ..*key
        })
    });
    let sort = sort.collect::<Result<Vec<_>>>()?;
    if sort.last().is_none_or(|key| key.field != collection.primary()) {
        return Err(changed(collection, "has another primary field"));
    }
    let fields = query.fields.as_ref().map(|fields| {
        let fields = fields.iter().map(|&field| rebind.field(field));
        fields.collect::<Result<Vec<_>>>().map(|mut fields| {
            fields.sort_unstable();
            fields
        })
    });
    Ok(Query {
        collection: collection.clone(),
        filter: rebind.filter(&query.filter)?,
        sort,
        limit: query.limit,
        offset: query.offset,
        fields: fields.transpose()?,
    })
}

struct Rebind<'c> {
    old: &'c Collection,
    new: &'c Collection,
}

impl Rebind<'_> {
    fn field(&self, position: usize) -> Result<usize> {
        let old = self
            .old
            .fields
            .get(position)
            .ok_or_else(|| changed(self.new, "has fewer fields"))?;
        let name = &old.name;
        match self.new.field(name) {
            Some((_, new)) if new.internal && !old.internal => {
                Err(changed(self.new, &format!("has no field `{name}` any more")))
            }
            Some((_, new)) if new.kind != old.kind => Err(changed(
                self.new,
                &format!(
                    "has field `{name}` as {} instead of {}",
                    new.kind.name(),
                    old.kind.name()
                ),
            )),
            Some((position, _)) => Ok(position),
            None => Err(changed(self.new, &format!("has no field `{name}` any more"))),
        }
    }

    fn filter(&self, filter: &Filter) -> Result<Filter> {
        let all = |parts: &[Filter]| {
            parts
                .iter()
                .map(|part| self.filter(part))
                .collect::<Result<Vec<_>>>()
        };
        Ok(match filter {
            Filter::And(parts) => Filter::And(all(parts)?),
            Filter::Or(parts) => Filter::Or(all(parts)?),
            Filter::Not(inner) => Filter::Not(Box::new(self.filter(inner)?)),
            Filter::Compare { field, op, value } => Filter::Compare {
                field: self.field(*field)?,
                op: *op,
                value: value.clone(),
            },
            Filter::In { field, values } => Filter::In {
                field: self.field(*field)?,
                values: values.clone(),
            },
            Filter::Like { field, pattern } => Filter::Like {
                field: self.field(*field)?,
                pattern: pattern.clone(),
            },
            Filter::Contains { field, needle } => Filter::Contains {
                field: self.field(*field)?,
                needle: needle.clone(),
            },
            Filter::JsonContains { field, needle } => Filter::JsonContains {
                field: self.field(*field)?,
                needle: needle.clone(),
            },
            Filter::EndsWith { field, needle } => Filter::EndsWith {
                field: self.field(*field)?,
                needle: needle.clone(),
            },
            Filter::Path { field, path, test } => Filter::Path {
                field: self.field(*field)?,
                path: path.clone(),
                test: test.clone(),
            },
            // No live query has one: `parse_query_json` reads none of them.
            Filter::Through(_) | Filter::Mentions { .. } | Filter::Found { .. } => {
                return Err(changed(self.new, "has lost what the query asked"));
            }
            Filter::IsNull { field } => Filter::IsNull {
                field: self.field(*field)?,
            },
        })
    }
}

fn changed(collection: &Collection, what: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        "SCHEMA_CHANGED",
        format!(
            "the schema has changed: collection `{}` {what}; subscribe again with a query that fits it",
            collection.name
        ),
    )
}
