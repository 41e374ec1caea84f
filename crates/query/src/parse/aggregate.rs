//! Questions about figures, as query strings and as JSON.

use std::sync::Arc;

use alyx_core::Result;
use alyx_schema::{Collection, FieldType};
use serde_json::Value as Json;

use super::filter::{FilterReader, parse_filter_json};
use super::params::{natural, once, pairs};
use super::query::{capped, json_count, position, texts};
use super::search::search;
use super::subject::Scope;
use super::suggest::{did_you_mean, shown};
use super::{DEFAULT_LIMIT, invalid_query};
use crate::aggregate::{Aggregate, AggregateSort, Bucket, Function, Group, Measure, SortBy};
use crate::ast::Filter;

/// Values that make a group at most.
const MAX_GROUPS: usize = 4;
/// Figures at most.
const MAX_MEASURES: usize = 16;

const PARAMETERS: [&str; 7] = ["select", "groupBy", "filter", "search", "sort", "limit", "offset"];

impl Aggregate {
    /// Reads the part of the URL after the `?`.
    ///
    /// # Errors
    /// `INVALID_FILTER` about a condition, `INVALID_QUERY` about anything else, naming what is wrong.
    pub fn parse(scope: Scope<'_>, query_string: &str) -> Result<Self> {
        let mut filters = FilterReader::new(scope);
        let mut reader = Reader::new(scope);
        let (mut limit, mut offset) = (None, None);
        pairs(query_string, |name, value| match name {
            "select" => reader.select(value),
            "groupBy" => reader.group_by(value),
            "sort" => {
                reader.sort.push(value.to_owned());
                Ok(())
            }
            "search" => reader.search(value),
            "limit" => once(&mut limit, name, natural(name, value)?),
            "offset" => once(&mut offset, name, natural(name, value)?),
            "filter" if value.trim().is_empty() => Ok(()),
            "filter" => {
                reader.conditions.push(filters.parameter(value)?);
                Ok(())
            }
            _ => {
                if !scope.names(name) {
                    return Err(unknown(scope.collection, name));
                }
                reader.conditions.push(filters.equality(name, value)?);
                Ok(())
            }
        })?;
        reader.finish(limit, offset)
    }

    /// Reads the same as a JSON object: `select`, `groupBy` and `sort` are texts or lists of texts, `filter` is an
    /// object.
    ///
    /// # Errors
    /// As [`Aggregate::parse`].
    pub fn from_json(scope: Scope<'_>, json: &Json) -> Result<Self> {
        let Json::Object(members) = json else {
            return Err(invalid_query("a question about figures is a JSON object"));
        };
        let mut reader = Reader::new(scope);
        let (mut limit, mut offset) = (None, None);
        for (key, value) in members {
            let problem = format!("`{key}` is a text or a list of texts");
            match (key.as_str(), value) {
                (known, Json::Null) if PARAMETERS.contains(&known) => {}
                ("select", value) => texts(value, &problem, |text| reader.select(text))?,
                ("groupBy", value) => texts(value, &problem, |text| reader.group_by(text))?,
                ("sort", value) => texts(value, &problem, |text| {
                    reader.sort.push(text.to_owned());
                    Ok(())
                })?,
                ("search", Json::String(text)) => reader.search(text)?,
                ("search", _) => return Err(invalid_query("`search` is a text").with_field("search")),
                ("filter", filter) => reader.conditions.push(parse_filter_json(scope, filter)?),
                ("limit", number) => limit = Some(json_count("limit", number)?),
                ("offset", number) => offset = Some(json_count("offset", number)?),
                (other, _) => return Err(unknown(scope.collection, other)),
            }
        }
        reader.finish(limit, offset)
    }
}

fn unknown(collection: &Collection, name: &str) -> alyx_core::Error {
    let hint = did_you_mean(name, PARAMETERS.into_iter())
        .unwrap_or_else(|| format!("there are {}, and the names of fields", PARAMETERS.join(", ")));
    let name = shown(name);
    invalid_query(format_args!(
        "`{name}` is neither a parameter nor a field of `{}`: {hint}",
        collection.name
    ))
    .with_field(name.clone())
}

struct Reader<'c> {
    collection: &'c Arc<Collection>,
    conditions: Vec<Filter>,
    groups: Vec<Group>,
    measures: Vec<Measure>,
    sort: Vec<String>,
}

impl<'c> Reader<'c> {
    fn new(scope: Scope<'c>) -> Self {
        Self {
            collection: scope.collection,
            conditions: Vec::new(),
            groups: Vec::new(),
            measures: Vec::new(),
            sort: Vec::new(),
        }
    }

    fn search(&mut self, text: &str) -> Result<()> {
        self.conditions.extend(search(self.collection, text)?);
        Ok(())
    }

    /// `count,sum:amount`.
    fn select(&mut self, text: &str) -> Result<()> {
        for part in parts(text) {
            let measure = self.measure(part)?;
            if !self.measures.contains(&measure) {
                self.measures.push(measure);
            }
        }
        let problem = format_args!("`select` has more than {MAX_MEASURES} figures");
        bounded(self.measures.len(), MAX_MEASURES, problem, "select")
    }

    /// `status,created_at:month`.
    fn group_by(&mut self, text: &str) -> Result<()> {
        for part in parts(text) {
            let group = self.group(part)?;
            if !self.groups.contains(&group) {
                self.groups.push(group);
            }
        }
        let problem = format_args!("`groupBy` has more than {MAX_GROUPS} fields");
        bounded(self.groups.len(), MAX_GROUPS, problem, "groupBy")
    }

    fn measure(&self, text: &str) -> Result<Measure> {
        let (word, field) = match text.split_once(':') {
            None => (text, None),
            Some((word, field)) => (word.trim(), Some(field.trim())),
        };
        let Some(function) = Function::ALL.into_iter().find(|function| function.name() == word) else {
            let names = || Function::ALL.into_iter().map(Function::name);
            let hint = did_you_mean(word, names())
                .unwrap_or_else(|| format!("there are {}", names().collect::<Vec<_>>().join(", ")));
            let problem = format_args!("`{}` is no figure: {hint}", shown(word));
            return Err(invalid_query(problem).with_field("select"));
        };
        let Some(name) = field.filter(|field| *field != "*") else {
            if function == Function::Count {
                return Ok(Measure {
                    function,
                    field: None,
                });
            }
            let problem = format_args!("`{word}` needs a field: write `{word}:field`");
            return Err(invalid_query(problem).with_field("select"));
        };
        let position = position(self.collection, name)?;
        let kind = self.collection.fields[position].kind;
        let fits = match function {
            Function::Count => true,
            Function::Sum | Function::Avg => matches!(kind, FieldType::Int | FieldType::Float),
            Function::Min | Function::Max => {
                !matches!(kind, FieldType::Json | FieldType::Blob | FieldType::Bool)
            }
        };
        if !fits {
            let problem = format_args!("`{name}` is {}, of which there is no {word}", kind.name());
            return Err(invalid_query(problem).with_field(shown(name)));
        }
        Ok(Measure {
            function,
            field: Some(position),
        })
    }

    fn group(&self, text: &str) -> Result<Group> {
        let (name, bucket) = match text.split_once(':') {
            None => (text, None),
            Some((name, bucket)) => (name.trim(), Some(bucket.trim())),
        };
        let field = position(self.collection, name)?;
        let kind = self.collection.fields[field].kind;
        let refused = |problem: String| Err(invalid_query(problem).with_field(shown(name)));
        if matches!(kind, FieldType::Json | FieldType::Blob) {
            return refused(format!("`{name}` is {}, which makes no groups", kind.name()));
        }
        let Some(word) = bucket else {
            return Ok(Group { field, bucket: None });
        };
        let found = Bucket::ALL.into_iter().find(|bucket| bucket.name() == word);
        if found.is_none() {
            let names = Bucket::ALL.map(Bucket::name).join(", ");
            return refused(format!(
                "`{}` is no stretch of time: there are {names}",
                shown(word)
            ));
        }
        let fits = match kind {
            FieldType::Timestamp => true,
            FieldType::Date => found != Some(Bucket::Hour),
            _ => false,
        };
        if !fits {
            let wanted = if found == Some(Bucket::Hour) {
                "times fall into an"
            } else {
                "times and dates fall into a"
            };
            return refused(format!("`{name}` is {}: only {wanted} {word}", kind.name()));
        }
        Ok(Group { field, bucket: found })
    }

    /// A group or a figure as it was asked for.
    fn sort_key(&self, text: &str) -> Result<AggregateSort> {
        let (name, descending) = match text.strip_prefix('-') {
            Some(name) => (name.trim(), true),
            None => (text.strip_prefix('+').unwrap_or(text).trim(), false),
        };
        let group = self.group(name).ok();
        let group = group.and_then(|group| self.groups.iter().position(|known| *known == group));
        let measure = self.measure(name).ok();
        let measure = measure.and_then(|measure| self.measures.iter().position(|known| *known == measure));
        let by = group.map(SortBy::Group).or(measure.map(SortBy::Measure));
        by.map(|by| AggregateSort { by, descending }).ok_or_else(|| {
            let problem = format_args!(
                "`{}` is neither in `groupBy` nor in `select`: groups are ordered by what they have",
                shown(name)
            );
            invalid_query(problem).with_field("sort")
        })
    }

    fn finish(mut self, limit: Option<u64>, offset: Option<u64>) -> Result<Aggregate> {
        if self.measures.is_empty() {
            self.measures.push(Measure {
                function: Function::Count,
                field: None,
            });
        }
        let mut sort = Vec::new();
        for text in &self.sort {
            for part in parts(text) {
                let key = self.sort_key(part)?;
                if !sort.iter().any(|known: &AggregateSort| known.by == key.by) {
                    sort.push(key);
                }
            }
        }
        Ok(Aggregate {
            collection: Arc::clone(self.collection),
            filter: Filter::And(self.conditions).normalize(),
            groups: self.groups,
            measures: self.measures,
            sort,
            limit: capped(limit.unwrap_or(u64::from(DEFAULT_LIMIT))),
            offset: offset.unwrap_or(0),
        })
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn bounded(count: usize, most: usize, problem: std::fmt::Arguments<'_>, field: &str) -> Result<()> {
    if count > most {
        return Err(invalid_query(problem).with_field(field));
    }
    Ok(())
}
