//! Carries a query from one revision of its collection to another.

use std::sync::Arc;

use alyx_core::{Error, ErrorKind, Result};
use alyx_query::{Elsewhere, Exists, Filter, Query, SortKey, Through};
use alyx_schema::{Collection, Field, Reference, Schema};

/// Whether the query means the same in that revision of the schema, and rows, images and JSON of all collections that
/// it looks at are the same too, so that its window needs no fresh start.
pub(crate) fn same_in(query: &Query, schema: &Schema) -> bool {
    let same = |known: &Collection| {
        schema
            .collection(&known.name)
            .is_some_and(|collection| same_rows(collection, known))
    };
    same(&query.collection) && same_elsewhere(&query.filter, &query.collection, schema, &same)
}

/// Whether what the filter asks about is the same, and still referred to where it was.
fn same_elsewhere(
    filter: &Filter,
    collection: &Collection,
    schema: &Schema,
    same: &impl Fn(&Collection) -> bool,
) -> bool {
    filter.elsewhere().into_iter().all(|part| {
        let leads = match part {
            Elsewhere::Exists(_) => true,
            Elsewhere::Referred(through) => {
                let field = |collection: &Collection| collection.fields.get(through.field).cloned();
                let now = schema.collection(&collection.name).and_then(|now| field(now));
                field(collection)
                    .zip(now)
                    .is_some_and(|(old, now)| leads(&old, &now, through, schema))
            }
        };
        leads && same(part.collection()) && same_elsewhere(part.filter(), part.collection(), schema, same)
    })
}

/// Whether `now` leads to one document where `old` did: by the same declared reference, or, where a rule looks it up, by a
/// field without equals.
fn leads(old: &Field, now: &Field, through: &Through, schema: &Schema) -> bool {
    if refers(old, through) {
        return refers(now, through);
    }
    let target = through.collection.fields.get(through.target);
    let there = schema
        .collection(&through.collection.name)
        .zip(target)
        .and_then(|(there, target)| there.field(&target.name));
    there.is_some_and(|(_, field)| field.primary || field.unique)
}

/// Whether the field refers to what the filter looks into.
fn refers(field: &Field, through: &Through) -> bool {
    let target = through.collection.fields.get(through.target);
    let is = |reference: &Reference| {
        reference.collection == through.collection.name
            && target.is_some_and(|target| target.name == reference.field)
    };
    field.references.as_ref().is_some_and(is)
}

fn same_rows(a: &Collection, b: &Collection) -> bool {
    let same = |a: &Field, b: &Field| {
        a.name == b.name && a.kind == b.kind && a.internal == b.internal && a.default == b.default
    };
    a.name == b.name
        && a.primary() == b.primary()
        && a.fields.len() == b.fields.len()
        && a.fields.iter().zip(&b.fields).all(|(a, b)| same(a, b))
}

/// The same query over another revision of the schema, in which its collection is `collection`.
///
/// # Errors
/// `SCHEMA_CHANGED` where a field that the query names is gone, internal now, of another type, or refers elsewhere.
pub(crate) fn rebind(query: &Query, collection: &Arc<Collection>, schema: &Schema) -> Result<Query> {
    let rebind = Rebind {
        old: &query.collection,
        new: collection,
        schema,
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
    schema: &'c Schema,
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
            Filter::Untrue(inner) => Filter::Untrue(Box::new(self.filter(inner)?)),
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
            Filter::Through(through) => Filter::Through(Box::new(self.through(through)?)),
            Filter::Exists(exists) => Filter::Exists(Box::new(self.exists(exists)?)),
            // No live query has one: `parse_query_json` reads none of them, and rules do not become them.
            Filter::Mentions { .. } | Filter::Found { .. } => {
                return Err(changed(self.new, "has lost what the query asked"));
            }
            Filter::IsNull { field } => Filter::IsNull {
                field: self.field(*field)?,
            },
        })
    }
}

impl Rebind<'_> {
    fn through(&self, through: &Through) -> Result<Through> {
        let field = self.field(through.field)?;
        let referring = &self.new.fields[field];
        let name = &through.collection.name;
        let found = self.schema.collection(name);
        let old = &self.old.fields[through.field];
        let (Some(collection), true) = (found, leads(old, referring, through, self.schema)) else {
            let what = format!(
                "has field `{}`, which no longer refers to `{name}` so",
                referring.name
            );
            return Err(changed(self.new, &what));
        };
        let inside = Rebind {
            old: &through.collection,
            new: collection,
            schema: self.schema,
        };
        Ok(Through {
            field,
            target: inside.field(through.target)?,
            filter: inside.filter(&through.filter)?,
            collection: collection.clone(),
        })
    }
}

impl Rebind<'_> {
    fn exists(&self, exists: &Exists) -> Result<Exists> {
        let name = &exists.collection.name;
        let collection = self
            .schema
            .collection(name)
            .ok_or_else(|| changed(self.new, &format!("asks about `{name}`, which is gone")))?;
        let inside = Rebind {
            old: &exists.collection,
            new: collection,
            schema: self.schema,
        };
        Ok(Exists {
            field: exists.field.map(|field| self.field(field)).transpose()?,
            target: inside.field(exists.target)?,
            filter: inside.filter(&exists.filter)?,
            collection: collection.clone(),
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
