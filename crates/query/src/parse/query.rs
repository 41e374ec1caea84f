//! What callers of every kind write the same way: order, fields, and whole queries as JSON.

use std::sync::Arc;

use alyx_core::{Error, Result};
use alyx_schema::Collection;
use serde_json::Value as Json;

use super::expand::ExpandReader;
use super::filter::parse_filter_json;
use super::params::{ListParams, Unfinished};
use super::search::search;
use super::subject::Scope;
use super::suggest::{did_you_mean, shown};
use super::{DEFAULT_LIMIT, MAX_LIMIT, MAX_SORT, invalid_query, unknown_field};
use crate::ast::{Filter, Query, SortKey};

const KEYS: [&str; 5] = ["filter", "sort", "limit", "offset", "fields"];
const LIST_KEYS: [&str; 4] = ["after", "expand", "search", "count"];

/// Reads a live query: an object with any of `filter`, `sort` (text or list of texts), `limit`, `offset` and `fields`
/// (list of names; the primary field is always added, as whoever follows documents must know which is which).
///
/// # Errors
/// `INVALID_FILTER` about the filter, `INVALID_QUERY` about anything else, naming what is wrong.
pub fn parse_query_json<'c>(scope: impl Into<Scope<'c>>, json: &Json) -> Result<Query> {
    read(scope.into(), json, false).map(|params| params.query)
}

impl ListParams {
    /// Reads a query of `ctx.db`: what [`parse_query_json`] reads, and `after`, `expand` (text or list of texts),
    /// `search` and `count`.
    ///
    /// # Errors
    /// As [`parse_query_json`], and `FORBIDDEN` where what is to be expanded may not be read.
    pub fn from_json(scope: Scope<'_>, json: &Json) -> Result<Self> {
        read(scope, json, true)
    }
}

fn read(scope: Scope<'_>, json: &Json, list: bool) -> Result<ListParams> {
    let Json::Object(members) = json else {
        return Err(invalid_query("a query is a JSON object"));
    };
    let mut reader = JsonReader {
        scope,
        filter: Filter::TRUE,
        sort: SortReader::new(scope.collection),
        expand: ExpandReader::new(scope),
        limit: DEFAULT_LIMIT,
        offset: 0,
        fields: None,
        after: None,
        search: None,
        count: true,
    };
    for (key, value) in members {
        let known = KEYS.contains(&key.as_str());
        let only_lists = LIST_KEYS.contains(&key.as_str());
        let taken = known || (list && only_lists);
        if !taken {
            return Err(unknown_key(key, list, only_lists));
        }
        if !value.is_null() {
            reader.member(key, value)?;
        }
    }
    reader.finish()
}

fn unknown_key(key: &str, list: bool, only_lists: bool) -> Error {
    let keys = || KEYS.into_iter().chain(LIST_KEYS.into_iter().filter(|_| list));
    let hint = if only_lists {
        "lists take it, live queries do not".to_owned()
    } else {
        did_you_mean(key, keys())
            .unwrap_or_else(|| format!("there are {}", keys().collect::<Vec<_>>().join(", ")))
    };
    let key = shown(key);
    invalid_query(format_args!("`{key}` is not part of a query: {hint}")).with_field(key.clone())
}

struct JsonReader<'c> {
    scope: Scope<'c>,
    filter: Filter,
    sort: SortReader<'c>,
    expand: ExpandReader<'c>,
    limit: u32,
    offset: u64,
    fields: Option<Vec<usize>>,
    after: Option<String>,
    search: Option<String>,
    count: bool,
}

impl JsonReader<'_> {
    /// A member that is known and not null.
    fn member(&mut self, key: &str, value: &Json) -> Result<()> {
        match (key, value) {
            ("filter", filter) => self.filter = parse_filter_json(self.scope, filter)?,
            ("sort", value) => {
                let problem = "`sort` is a text such as \"-created_at\", or a list of such texts";
                texts(value, problem, |text| self.sort.read(text))?;
            }
            ("expand", value) => {
                let problem = "`expand` is a text such as \"author,author.team\", or a list of such texts";
                texts(value, problem, |text| self.expand.read(text))?;
            }
            ("limit", number) => self.limit = capped(json_count("limit", number)?),
            ("offset", number) => self.offset = json_count("offset", number)?,
            ("fields", Json::Array(names)) => self.fields = Some(json_fields(self.scope.collection, names)?),
            ("fields", _) => return Err(invalid_query("`fields` is a list of field names")),
            ("after", Json::String(cursor)) => self.after = Some(cursor.clone()),
            ("search", Json::String(text)) => self.search = Some(text.clone()),
            ("count", Json::Bool(count)) => self.count = *count,
            ("count", _) => return Err(invalid_query("`count` is true or false").with_field("count")),
            (other, _) => return Err(invalid_query(format_args!("`{other}` is a text")).with_field(other)),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ListParams> {
        if let Some(text) = &self.search {
            let condition = search(self.scope.collection, text)?;
            self.filter = Filter::And(std::iter::once(self.filter).chain(condition).collect()).normalize();
        }
        Unfinished {
            query: Query {
                collection: Arc::clone(self.scope.collection),
                filter: self.filter,
                sort: self.sort.finish(),
                limit: self.limit,
                offset: self.offset,
                fields: self.fields,
            },
            count: self.count,
            after: self.after,
            expand: self.expand.finish(),
        }
        .finish()
    }
}

/// One text, or each of a list.
pub(super) fn texts(value: &Json, problem: &str, mut read: impl FnMut(&str) -> Result<()>) -> Result<()> {
    match value {
        Json::String(text) => read(text),
        Json::Array(parts) => parts
            .iter()
            .try_for_each(|part| read(part.as_str().ok_or_else(|| invalid_query(problem))?)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => Err(invalid_query(problem)),
    }
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

pub(super) fn json_count(name: &str, json: &Json) -> Result<u64> {
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
