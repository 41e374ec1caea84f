//! The query string of a list request.

use std::borrow::Cow;
use std::sync::Arc;

use alyx_core::Result;
use alyx_schema::Collection;
use percent_encoding::percent_decode;

use super::filter::FilterReader;
use super::query::{SortReader, capped, in_order, position};
use super::suggest::{did_you_mean, shown};
use super::{DEFAULT_LIMIT, MAX_QUERY_STRING, invalid_query};
use crate::ast::{Filter, Query};

const RESERVED: [&str; 8] = [
    "filter", "sort", "limit", "offset", "page", "perPage", "fields", "count",
];
const LATER: [&str; 4] = ["expand", "search", "after", "tx_id"];

/// What a list request asks for.
#[derive(Debug, Clone)]
pub struct ListParams {
    /// The rows.
    pub query: Query,
    /// Whether the total is wanted too.
    pub count: bool,
}

impl ListParams {
    /// Reads the part of the URL after the `?`.
    ///
    /// # Errors
    /// `INVALID_FILTER` about a condition, `INVALID_QUERY` about anything else, naming what is wrong.
    pub fn parse(collection: &Arc<Collection>, query_string: &str) -> Result<Self> {
        if query_string.len() > MAX_QUERY_STRING {
            return Err(invalid_query(format_args!(
                "the query string is longer than {MAX_QUERY_STRING} bytes"
            )));
        }
        let mut reader = ParamsReader::new(collection);
        for pair in query_string.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            reader.parameter(&decoded(name)?, &decoded(value)?)?;
        }
        reader.finish()
    }
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
    collection: &'c Arc<Collection>,
    filter: FilterReader<'c>,
    conditions: Vec<Filter>,
    sort: SortReader<'c>,
    fields: Vec<usize>,
    limit: Option<u64>,
    offset: Option<u64>,
    page: Option<u64>,
    per_page: Option<u64>,
    count: Option<bool>,
}

impl<'c> ParamsReader<'c> {
    fn new(collection: &'c Arc<Collection>) -> Self {
        Self {
            collection,
            filter: FilterReader::new(collection),
            conditions: Vec::new(),
            sort: SortReader::new(collection),
            fields: Vec::new(),
            limit: None,
            offset: None,
            page: None,
            per_page: None,
            count: None,
        }
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "filter" if value.trim().is_empty() => {}
            "filter" => self.conditions.push(self.filter.parameter(value)?),
            "sort" => self.sort.read(value)?,
            "fields" if value.trim().is_empty() => {}
            "fields" => {
                for field in value.split(',') {
                    self.fields.push(position(self.collection, field.trim())?);
                }
            }
            "limit" => once(&mut self.limit, name, natural(name, value)?)?,
            "offset" => once(&mut self.offset, name, natural(name, value)?)?,
            "page" => once(&mut self.page, name, natural(name, value)?)?,
            "perPage" => once(&mut self.per_page, name, natural(name, value)?)?,
            "count" => once(&mut self.count, name, truth(name, value)?)?,
            _ if LATER.contains(&name) => {
                let problem = format_args!("`{name}` is not supported in this version");
                return Err(invalid_query(problem).with_field(name));
            }
            _ => {
                let Some(field) = self.collection.visible_field(name) else {
                    return Err(self.unknown(name));
                };
                self.conditions.push(self.filter.equality(field, value)?);
            }
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> alyx_core::Error {
        let visible = self.collection.fields.iter().filter(|field| !field.internal);
        let names = RESERVED
            .into_iter()
            .chain(visible.map(|field| field.name.as_str()));
        let hint = did_you_mean(name, names)
            .unwrap_or_else(|| format!("there are {}, and the names of fields", RESERVED.join(", ")));
        invalid_query(format_args!(
            "`{}` is neither a parameter nor a field of `{}`: {hint}",
            shown(name),
            self.collection.name
        ))
        .with_field(shown(name))
    }

    fn finish(self) -> Result<ListParams> {
        let limit = capped(self.per_page.or(self.limit).unwrap_or(u64::from(DEFAULT_LIMIT)));
        let offset = match self.page {
            None => self.offset.unwrap_or(0),
            Some(0) => return Err(invalid_query("`page` counts from 1").with_field("page")),
            Some(page) => (page - 1).saturating_mul(u64::from(limit)),
        };
        Ok(ListParams {
            query: Query {
                collection: Arc::clone(self.collection),
                filter: Filter::And(self.conditions).normalize(),
                sort: self.sort.finish(),
                limit,
                offset,
                fields: Some(in_order(self.fields)).filter(|fields| !fields.is_empty()),
            },
            count: self.count.unwrap_or(true),
        })
    }
}

fn once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(invalid_query(format_args!("`{name}` is given twice")).with_field(name)),
    }
}

/// Too large a number is as good as the largest: both are beyond every row.
fn natural(name: &str, text: &str) -> Result<u64> {
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
