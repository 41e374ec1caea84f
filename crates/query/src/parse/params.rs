//! The query string of a list request.

use std::borrow::Cow;
use std::sync::Arc;

use alyx_core::{Result, Statement, Value};
use alyx_schema::Collection;
use percent_encoding::percent_decode;

use super::expand::ExpandReader;
use super::filter::FilterReader;
use super::query::{SortReader, capped, in_order, position};
use super::search::search;
use super::subject::Scope;
use super::suggest::{did_you_mean, shown};
use super::{DEFAULT_LIMIT, MAX_QUERY_STRING, invalid_query};
use crate::ast::{Filter, Query};
use crate::expand::Expand;

const RESERVED: [&str; 11] = [
    "filter", "sort", "limit", "offset", "page", "perPage", "after", "fields", "expand", "search", "count",
];
const LATER: [&str; 1] = ["tx_id"];

/// What a list request asks for.
#[derive(Debug, Clone)]
pub struct ListParams {
    /// The rows.
    pub query: Query,
    /// Whether the total is wanted too.
    pub count: bool,
    /// Only rows after the one with these sort keys.
    pub after: Option<Vec<Value>>,
    /// What is read along with the rows.
    pub expand: Vec<Expand>,
}

impl ListParams {
    /// The page of rows, as [`Query::select`] gives them.
    pub fn select(&self) -> Statement {
        self.query.select_from(self.after.as_deref())
    }

    /// The page without the nulls at its end, as [`Query::select_before_nulls`] gives it.
    pub fn select_before_nulls(&self) -> Option<Statement> {
        self.query.select_before_nulls(self.after.as_deref()?)
    }

    /// Reads the part of the URL after the `?`.
    ///
    /// # Errors
    /// `INVALID_FILTER` about a condition, `INVALID_QUERY` about anything else, naming what is wrong.
    pub fn parse<'c>(scope: impl Into<Scope<'c>>, query_string: &str) -> Result<Self> {
        let mut reader = ParamsReader::new(scope.into());
        pairs(query_string, |name, value| reader.parameter(name, value))?;
        reader.finish()
    }
}

/// What a request for one document asks for.
#[derive(Debug, Clone, Default)]
pub struct OneParams {
    /// Positions of the fields to return, in order of declaration; `None`: all that are not internal.
    pub fields: Option<Vec<usize>>,
    /// What is read along with the document.
    pub expand: Vec<Expand>,
}

impl OneParams {
    /// Reads the part of the URL after the `?`: `fields` and `expand`.
    ///
    /// # Errors
    /// `INVALID_QUERY`, naming what is wrong; `FORBIDDEN` where what is to be expanded may not be read.
    pub fn parse<'c>(scope: impl Into<Scope<'c>>, query_string: &str) -> Result<Self> {
        if query_string.is_empty() {
            return Ok(Self::default());
        }
        let scope = scope.into();
        let mut expand = ExpandReader::new(scope);
        let mut fields = Vec::new();
        pairs(query_string, |name, value| match name {
            "expand" => expand.read(value),
            "fields" => read_fields(scope.collection, value, &mut fields),
            _ => {
                let hint = did_you_mean(name, ["expand", "fields"].into_iter())
                    .unwrap_or_else(|| "there are expand, fields".to_owned());
                let problem = format_args!("`{}` is no parameter of one document: {hint}", shown(name));
                Err(invalid_query(problem).with_field(shown(name)))
            }
        })?;
        let expand = expand.finish();
        if !fields.is_empty() {
            fields.extend(expand.iter().map(|expand| expand.field));
        }
        Ok(Self {
            fields: Some(in_order(fields)).filter(|fields| !fields.is_empty()),
            expand,
        })
    }
}

/// Calls `each` with every name and value of a query string, decoded.
pub(super) fn pairs(query_string: &str, mut each: impl FnMut(&str, &str) -> Result<()>) -> Result<()> {
    if query_string.len() > MAX_QUERY_STRING {
        return Err(invalid_query(format_args!(
            "the query string is longer than {MAX_QUERY_STRING} bytes"
        )));
    }
    for pair in query_string.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        each(&decoded(name)?, &decoded(value)?)?;
    }
    Ok(())
}

fn read_fields(collection: &Collection, names: &str, fields: &mut Vec<usize>) -> Result<()> {
    if names.trim().is_empty() {
        return Ok(());
    }
    for name in names.split(',') {
        fields.push(position(collection, name.trim())?);
    }
    Ok(())
}

/// Strict where browsers are lenient: what is not UTF-8 would silently become another text.
fn decoded(text: &str) -> Result<Cow<'_, str>> {
    let text: Cow<'_, str> = if text.contains('+') {
        text.replace('+', " ").into()
    } else {
        text.into()
    };
    if !text.contains('%') {
        return Ok(text);
    }
    let utf8 = percent_decode(text.as_bytes()).decode_utf8().map(Cow::into_owned);
    utf8.map(Cow::Owned).map_err(|_| {
        invalid_query(format_args!(
            "`{}` is not UTF-8 when decoded: write a literal % as %25",
            shown(&text)
        ))
    })
}

struct ParamsReader<'c> {
    scope: Scope<'c>,
    filter: FilterReader<'c>,
    conditions: Vec<Filter>,
    sort: SortReader<'c>,
    fields: Vec<usize>,
    limit: Option<u64>,
    offset: Option<u64>,
    page: Option<u64>,
    per_page: Option<u64>,
    count: Option<bool>,
    after: Option<String>,
    search: Option<String>,
    expand: ExpandReader<'c>,
}

impl<'c> ParamsReader<'c> {
    fn new(scope: Scope<'c>) -> Self {
        let collection = scope.collection;
        Self {
            scope,
            filter: FilterReader::new(scope),
            conditions: Vec::new(),
            sort: SortReader::new(collection),
            fields: Vec::new(),
            limit: None,
            offset: None,
            page: None,
            per_page: None,
            count: None,
            after: None,
            search: None,
            expand: ExpandReader::new(scope),
        }
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "filter" if value.trim().is_empty() => {}
            "filter" => self.conditions.push(self.filter.parameter(value)?),
            "sort" => self.sort.read(value)?,
            "fields" => read_fields(self.scope.collection, value, &mut self.fields)?,
            "limit" => once(&mut self.limit, name, natural(name, value)?)?,
            "offset" => once(&mut self.offset, name, natural(name, value)?)?,
            "page" => once(&mut self.page, name, natural(name, value)?)?,
            "perPage" => once(&mut self.per_page, name, natural(name, value)?)?,
            "count" => once(&mut self.count, name, truth(name, value)?)?,
            "after" if value.trim().is_empty() => {}
            "after" => once(&mut self.after, name, value.trim().to_owned())?,
            "search" => once(&mut self.search, name, value.to_owned())?,
            "expand" => self.expand.read(value)?,
            _ if LATER.contains(&name) => {
                let problem = format_args!("`{name}` is not supported in this version");
                return Err(invalid_query(problem).with_field(name));
            }
            _ => {
                if !self.scope.names(name) {
                    return Err(self.unknown(name));
                }
                self.conditions.push(self.filter.equality(name, value)?);
            }
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> alyx_core::Error {
        let visible = self
            .scope
            .collection
            .fields
            .iter()
            .filter(|field| !field.internal);
        let names = RESERVED
            .into_iter()
            .chain(visible.map(|field| field.name.as_str()));
        let hint = did_you_mean(name, names)
            .unwrap_or_else(|| format!("there are {}, and the names of fields", RESERVED.join(", ")));
        invalid_query(format_args!(
            "`{}` is neither a parameter nor a field of `{}`: {hint}",
            shown(name),
            self.scope.collection.name
        ))
        .with_field(shown(name))
    }

    fn finish(mut self) -> Result<ListParams> {
        let limit = capped(self.per_page.or(self.limit).unwrap_or(u64::from(DEFAULT_LIMIT)));
        let offset = match self.page {
            None => self.offset.unwrap_or(0),
            Some(0) => return Err(invalid_query("`page` counts from 1").with_field("page")),
            Some(page) => (page - 1).saturating_mul(u64::from(limit)),
        };
        if let Some(text) = &self.search {
            self.conditions.extend(search(self.scope.collection, text)?);
        }
        Unfinished {
            query: Query {
                collection: Arc::clone(self.scope.collection),
                filter: Filter::And(self.conditions).normalize(),
                sort: self.sort.finish(),
                limit,
                offset,
                fields: Some(in_order(self.fields)).filter(|fields| !fields.is_empty()),
            },
            count: self.count.unwrap_or(true),
            after: self.after,
            expand: self.expand.finish(),
        }
        .finish()
    }
}

/// A list request whose parts must still be fitted to each other.
pub(super) struct Unfinished {
    pub(super) query: Query,
    pub(super) count: bool,
    pub(super) after: Option<String>,
    pub(super) expand: Vec<Expand>,
}

impl Unfinished {
    pub(super) fn finish(mut self) -> Result<ListParams> {
        let after = match &self.after {
            None => None,
            Some(_) if self.query.offset > 0 => {
                let problem = "`after` says where the page begins: leave out `offset` and `page`";
                return Err(invalid_query(problem).with_field("after"));
            }
            Some(cursor) => Some(self.query.read_cursor(cursor)?),
        };
        if let Some(fields) = self.query.fields.take() {
            let expanded = self.expand.iter().map(|expand| expand.field);
            self.query.fields = Some(in_order(fields.into_iter().chain(expanded).collect()));
        }
        Ok(ListParams {
            query: self.query,
            count: self.count,
            after,
            expand: self.expand,
        })
    }
}

pub(super) fn once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(invalid_query(format_args!("`{name}` is given twice")).with_field(name)),
    }
}

/// Too large a number is as good as the largest: both are beyond every row.
pub(super) fn natural(name: &str, text: &str) -> Result<u64> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid_query(format_args!(
            "`{name}` must be a whole number from 0 up, not `{}`",
            shown(text)
        ))
        .with_field(name));
    }
    Ok(text.parse().unwrap_or(u64::MAX))
}

fn truth(name: &str, text: &str) -> Result<bool> {
    match text.trim() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(invalid_query(format_args!(
            "`{name}` must be true or false, not `{}`",
            shown(other)
        ))
        .with_field(name)),
    }
}
