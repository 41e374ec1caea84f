//! What callers of every kind write the same way: order, fields, and whole queries as JSON.

use std::sync::Arc;

use alyx_core::Result;
use alyx_schema::Collection;
use serde_json::Value as Json;

use super::filter::parse_filter_json;
use super::suggest::{did_you_mean, shown};
use super::{DEFAULT_LIMIT, MAX_LIMIT, MAX_SORT, invalid_query, unknown_field};
use crate::ast::{Filter, Query, SortKey};

const KEYS: [&str; 5] = ["filter", "sort", "limit", "offset", "fields"];

/// Reads a query of `ctx.db` or of a live query: an object with any of `filter`, `sort` (text or list of texts),
/// `limit`, `offset` and `fields` (list of names; the primary field is always added, as whoever follows documents
/// must know which is which).
///
/// # Errors
/// `INVALID_FILTER` about the filter, `INVALID_QUERY` about anything else, naming what is wrong.
pub fn parse_query_json(collection: &Arc<Collection>, json: &Json) -> Result<Query> {
    let Json::Object(members) = json else {
        return Err(invalid_query("a query is a JSON object"));
    };
    let mut filter = Filter::TRUE;
    let mut sort = SortReader::new(collection);
    let mut fields = None;
    let mut limit = DEFAULT_LIMIT;
    let mut offset = 0;
    for (key, value) in members {
        match (key.as_str(), value) {
            ("filter" | "sort" | "limit" | "offset" | "fields", Json::Null) => {}
            ("filter", filter_json) => filter = parse_filter_json(collection, filter_json)?,
            ("sort", Json::String(text)) => sort.read(text)?,
            ("sort", Json::Array(parts)) => {
                for part in parts {
                    let text = part.as_str().ok_or_else(|| {
                        invalid_query("`sort` is a text such as \"-created_at\", or a list of such texts")
                    })?;
                    sort.read(text)?;
                }
            }
            ("limit", number) => limit = capped(json_count("limit", number)?),
            ("offset", number) => offset = json_count("offset", number)?,
            ("fields", Json::Array(names)) => fields = Some(json_fields(collection, names)?),
            ("sort", _) => {
                return Err(invalid_query(
                    "`sort` is a text such as \"-created_at\", or a list of such texts",
                ));
            }
            ("fields", _) => return Err(invalid_query("`fields` is a list of field names")),
            (other, _) => {
                let hint = did_you_mean(other, KEYS.into_iter())
                    .unwrap_or_else(|| format!("there are {}", KEYS.join(", ")));
                return Err(
                    invalid_query(format_args!("`{}` is not part of a query: {hint}", shown(other)))
                        .with_field(shown(other)),
                );
            }
        }
    }
    Ok(Query {
        collection: Arc::clone(collection),
        filter,
        sort: sort.finish(),
        limit,
        offset,
        fields,
    })
}

fn json_fields(collection: &Collection, names: &[Json]) -> Result<Vec<usize>> {
    let mut positions = vec![collection.primary()];
    for name in names {
        let name = name
            .as_str()
            .ok_or_else(|| invalid_query("`fields` is a list of field names"))?;
        positions.push(position(collection, name)?);
    }
    Ok(in_order(positions))
}

fn json_count(name: &str, json: &Json) -> Result<u64> {
    json.as_u64()
        .filter(|count| i64::try_from(*count).is_ok())
        .ok_or_else(|| {
            let given = shown(&json.to_string());
            invalid_query(format_args!(
                "`{name}` must be a whole number from 0 up, not {given}"
            ))
            .with_field(name)
        })
}

/// A limit within its bound.
pub(super) fn capped(limit: u64) -> u32 {
    u32::try_from(limit).map_or(MAX_LIMIT, |limit| limit.min(MAX_LIMIT))
}

/// Position of the field that a caller names outside a filter.
pub(super) fn position(collection: &Collection, name: &str) -> Result<usize> {
    collection
        .visible_field(name)
        .map(|(position, _)| position)
        .ok_or_else(|| invalid_query(unknown_field(collection, name)).with_field(shown(name)))
}

/// Positions in order of declaration, each once.
pub(super) fn in_order(mut positions: Vec<usize>) -> Vec<usize> {
    positions.sort_unstable();
    positions.dedup();
    positions
}

/// Reads sort orders and makes them total.
pub(super) struct SortReader<'c> {
    collection: &'c Collection,
    keys: Vec<SortKey>,
}

impl<'c> SortReader<'c> {
    pub(super) fn new(collection: &'c Collection) -> Self {
        Self {
            collection,
            keys: Vec::new(),
        }
    }

    /// Adds `a,-b`. A field that was named before adds nothing: rows that reach it are equal in it.
    pub(super) fn read(&mut self, text: &str) -> Result<()> {
        for part in text.split(',') {
            let part = part.trim();
            let (name, descending) = match part.strip_prefix('-') {
                Some(name) => (name, true),
                None => (part.strip_prefix('+').unwrap_or(part), false),
            };
            if part.is_empty() && text.trim().is_empty() {
                return Ok(());
            }
            let field = position(self.collection, name)?;
            if !self.keys.iter().any(|key| key.field == field) {
                self.keys.push(SortKey { field, descending });
            }
            if self.keys.len() > MAX_SORT {
                return Err(
                    invalid_query(format_args!("`sort` has more than {MAX_SORT} fields")).with_field("sort"),
                );
            }
        }
        Ok(())
    }

    /// The order, with the primary field as its last key.
    pub(super) fn finish(mut self) -> Vec<SortKey> {
        let primary = self.collection.primary();
        if let Some(at) = self.keys.iter().position(|key| key.field == primary) {
            self.keys.truncate(at + 1);
        } else {
            let descending = self.keys.last().is_some_and(|key| key.descending);
            self.keys.push(SortKey {
                field: primary,
                descending,
            });
        }
        self.keys
    }
}
